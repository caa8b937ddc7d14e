package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/konstruct/konstruct/ledger"
)

// Filter selects events. Since and Until apply to recorded_at, the database's own time. Zero fields don't filter.
type Filter struct {
	Since  time.Time `json:"since,omitzero"` // inclusive
	Until  time.Time `json:"until,omitzero"` // exclusive
	Agent  string    `json:"agent_id,omitempty"`
	User   *string   `json:"user_id,omitempty"`
	Action *string   `json:"action_type,omitempty"`
	// Metadata is an object that the event's metadata must contain, by PostgreSQL's @>; at most MaxMetadata bytes.
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// String describes the filter in words.
func (f Filter) String() string {
	var b bytes.Buffer
	say := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, format, args...)
	}
	if f.Agent != "" {
		say("agent_id = %s", f.Agent)
	}
	if f.User != nil {
		say("user_id = %q", *f.User)
	}
	if f.Action != nil {
		say("action_type = %q", *f.Action)
	}
	if len(f.Metadata) > 0 {
		var compact bytes.Buffer
		if json.Compact(&compact, f.Metadata) != nil {
			compact.WriteString("what is no JSON")
		}
		say("metadata contains %s", &compact)
	}
	if !f.Since.IsZero() {
		say("recorded from %s", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		say("recorded before %s", f.Until.UTC().Format(time.RFC3339Nano))
	}
	if b.Len() == 0 {
		return "every event"
	}
	return b.String()
}

// condition is a condition on one field's value. NULL never meets it.
type condition struct {
	field ledger.Field
	holds func(value []byte) bool
}

func equals(field ledger.Field, want []byte) condition {
	return condition{field, func(value []byte) bool { return bytes.Equal(value, want) }}
}

// conditions returns the filter's conditions. The field that reveals least when it is opened comes first.
func (f Filter) conditions() (all []condition, err error) {
	if f.Action != nil {
		all = append(all, equals(ledger.ActionType, []byte(*f.Action)))
	}
	if f.Agent != "" {
		id, err := ledger.ParseID(f.Agent)
		if err != nil {
			return nil, fmt.Errorf("agent_id: %w", err)
		}
		all = append(all, equals(ledger.AgentID, id[:]))
	}
	if f.User != nil {
		all = append(all, equals(ledger.UserID, []byte(*f.User)))
	}
	if len(f.Metadata) > 0 {
		c, err := f.metadata()
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// inTime reports whether an event was recorded within the filter's time range.
func (f Filter) inTime(recorded ledger.Micros) bool {
	return (f.Since.IsZero() || recorded >= ledger.MicrosOf(f.Since)) &&
		(f.Until.IsZero() || recorded < ledger.MicrosOf(f.Until))
}

// filterRule is a manifest's filter and withheld fields, prepared for many events.
type filterRule struct {
	filter     Filter
	conditions []condition
	withheld   map[ledger.Field]bool // none of them is a field of a condition
}

func (m *Manifest) rule() (r filterRule, err error) {
	r = filterRule{filter: m.Filter, withheld: map[ledger.Field]bool{}}
	if r.conditions, err = m.Filter.conditions(); err != nil {
		return r, fmt.Errorf("filter: %w", err)
	}
	for _, name := range m.Withheld {
		f, err := ledger.FieldNamed(name)
		if err != nil {
			return r, fmt.Errorf("withheld: %w", err)
		}
		r.withheld[f] = true
	}
	for _, c := range r.conditions {
		if r.withheld[c.field] {
			return r,
				fmt.Errorf(
					"%s can't be withheld, because the filter needs it: a match reveals its value",
					c.field)
		}
	}
	return r, nil
}

// verdict says whether a filter matches an event.
type verdict int

const (
	excluded verdict = iota
	matches
	undecided // a field that the filter needs was erased
)

// disclose decides which fields of an event its record opens. A matching event opens all fields but the withheld ones.
// An event that does not match opens only the one field that shows it. An event outside the time range or one that
// can't be decided opens none.
func (r *filterRule) disclose(recorded ledger.Micros, values *ledger.Values,
	erased ledger.FieldSet) (open func(ledger.Field) bool, is verdict) {
	nothing := func(ledger.Field) bool { return false }
	if !r.filter.inTime(recorded) {
		return nothing, excluded
	}
	is = matches
	for _, c := range r.conditions {
		if erased.Has(c.field) {
			is = undecided
		} else if value := values[c.field-1]; value == nil || !c.holds(value) {
			return func(f ledger.Field) bool { return f == c.field }, excluded
		}
	}
	if is == undecided {
		return nothing, is
	}
	return func(f ledger.Field) bool { return !r.withheld[f] }, is
}
