package otel

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/konstruct/konstruct/audit"
)

// Join returns one event of a call's span and its log record, which have one id. It returns false if they contradict
// each other, or are too large together: then the log record is logged as a further report.
func Join(span, record audit.Event) (audit.Event, bool) {
	if span.ID != record.ID || span.Action != record.Action {
		return span, false
	}
	for _, text := range []struct {
		to   *string
		from string
	}{{&span.Input, record.Input}, {&span.Output, record.Output}, {&span.UserID, record.UserID}} {
		switch {
		case *text.to == "":
			*text.to = text.from
		case text.from != "" && text.from != *text.to:
			return span, false
		}
	}
	var all, more map[string]json.RawMessage
	if json.Unmarshal(span.Metadata, &all) != nil || json.Unmarshal(record.Metadata, &more) != nil {
		return span, false // unreachable: the mapping made them
	}
	added := maps.Clone(all)
	for name, v := range more {
		before, there := all[name]
		switch {
		case !there:
			added[name] = v
		case name == "konstruct.altered" || name == "konstruct.redactions":
			added[name] = union(before, v)
		case slices.Contains(ofTheRecord, name), sameValue(before, v):
		default:
			return span, false
		}
	}
	raw := marshal(added)
	if len(raw) > audit.MaxDerived {
		return span, false
	}
	span.Metadata = raw
	return span.Derived(), true
}

// sameValue reports whether two values in JSON are equal.
func sameValue(a, b json.RawMessage) bool {
	return string(a) == string(b) || sameRecord(wrapped(a), wrapped(b))
}

func wrapped(v json.RawMessage) json.RawMessage { return slices.Concat([]byte(`{"":`), v, []byte("}")) }

// union returns the items of two lists in JSON, each once.
func union(a, b json.RawMessage) json.RawMessage {
	var all, more []json.RawMessage
	if json.Unmarshal(a, &all) != nil || json.Unmarshal(b, &more) != nil {
		return a // unreachable: they are lists
	}
	for _, item := range more {
		if !slices.ContainsFunc(all, func(other json.RawMessage) bool { return sameValue(other, item) }) {
			all = append(all, item)
		}
	}
	return marshal(all)
}
