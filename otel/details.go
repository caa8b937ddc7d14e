package otel

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/strictjson"
)

// kept are the names that a further report keeps at the top of its metadata, so that a run finds it and what is below
// it. The rest stands below "record", where no statistics count it.
var kept = []string{"trace_id", "span_id", "parent_span_id", "gen_ai.conversation.id"}

// Details returns the event of a report of a call that is on the trail as another event.
func Details(e audit.Event, of uuid.UUID) audit.Event {
	action := e.Action
	e.Action = ActionDetails
	var sent map[string]json.RawMessage
	if json.Unmarshal(e.Metadata, &sent) != nil {
		sent = nil // unreachable: the mapping made it
	}
	top := map[string]any{"konstruct.completes": of, "reported_action": action}
	for _, name := range kept {
		if v, there := sent[name]; there {
			top[name] = v
			delete(sent, name)
		}
	}
	top["record"] = sent
	raw := marshal(top)
	if len(raw) > audit.MaxDerived {
		top["record"], top["konstruct.altered"] = nil, []string{"record"}
		raw = marshal(top)
	}
	e.Metadata = raw
	return e.OfService().Derived()
}

// marshal returns what was decoded from JSON as JSON.
func marshal(v any) json.RawMessage {
	raw, err := strictjson.Marshal(v)
	if err != nil {
		return json.RawMessage("{}") // unreachable: it was decoded from JSON
	}
	return raw
}

// Further decides what is logged of an event whose id is taken by another one: nothing if the stored one has all that
// it says, otherwise its details, under an id that follows from the content, so that a retry logs them once.
func Further(stored audit.StoredEvent, e audit.Event) (audit.Event, bool) {
	if stored.Action == ActionDetails && e.Action != ActionDetails { // it was recognized before as a further report
		of, is := completes(stored)
		if same := Details(e, of); is && sameRecord(same.Metadata, stored.Metadata) {
			return e, false
		}
	}
	if stored.Action == e.Action && within(e, stored) {
		return e, false
	}
	if other := another(e, stored); other != "" {
		return ownEvent(e, stored.ID, other)
	}
	if e.Action != ActionDetails {
		e = Details(e, stored.ID)
	}
	e.ID = derived([]byte("konstruct otel details"), stored.ID[:], []byte(e.Input), []byte(e.Output), e.Metadata)
	return e, true
}

// another returns what tells an event from the stored one of the same trace and span: log records of several calls, or
// of calls beside the agent's own span, may have one span's id. "" means that they report one thing.
func another(e audit.Event, stored audit.StoredEvent) string {
	if e.Action == ActionDetails || stored.Action == ActionDetails {
		return ""
	}
	if e.Action != stored.Action {
		return e.Action
	}
	var now, before struct {
		Response string `json:"gen_ai.response.id"`
	}
	if json.Unmarshal(e.Metadata, &now) != nil || json.Unmarshal(stored.Metadata, &before) != nil ||
		now.Response == before.Response || now.Response == "" || before.Response == "" {
		return ""
	}
	return now.Response
}

// ownEvent returns an event under an id of its own. It is below the span whose id it had, and so is no parent itself,
// unless it is that span.
func ownEvent(e audit.Event, taken uuid.UUID, other string) (audit.Event, bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal(e.Metadata, &m) == nil && m["log.event.name"] != nil && m["span_id"] != nil {
		m["parent_span_id"] = m["span_id"]
		delete(m, "span_id")
		e.Metadata = marshal(m)
	}
	e.ID = derived([]byte("konstruct otel beside"), taken[:], []byte(other))
	return e.OfService().Derived(), true
}

// completes returns the event that a further report is of.
func completes(stored audit.StoredEvent) (uuid.UUID, bool) {
	var m struct {
		Of uuid.UUID `json:"konstruct.completes"`
	}
	return m.Of, json.Unmarshal(stored.Metadata, &m) == nil && m.Of != uuid.Nil
}

func sameRecord(a, b json.RawMessage) bool {
	var x, y map[string]any
	return decodeNumbers(a, &x) && decodeNumbers(b, &y) && equal(x, y)
}

func decodeNumbers(raw []byte, to *map[string]any) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(to) == nil
}

// ofTheRecord are names that say how a report came, not what it reports.
var ofTheRecord = []string{"log.event.name", "log.severity", "time_unix_nano", "observed_time_unix_nano", "event.name",
	"otel.scope.name", "otel.scope.version", "otel.scope.attributes", "otel.resource", "otel.span.name",
	"otel.span.kind", "start_time_unix_nano", "end_time_unix_nano", "parent_span_id", "trace_state",
	"konstruct.altered",
	"konstruct.redactions"}

// within reports whether a stored event has all that a new one of the same id says.
func within(e audit.Event, stored audit.StoredEvent) bool {
	for _, text := range []struct {
		now    string
		before *string
	}{{e.Input, stored.Input}, {e.Output, stored.Output}, {e.UserID, stored.UserID}} {
		if text.now != "" && (text.before == nil || *text.before != text.now) {
			return false
		}
	}
	if e.Latency.Milliseconds() > 0 && stored.LatencyMS == nil {
		return false
	}
	var now, before map[string]any
	if !decodeNumbers(e.Metadata, &now) || !decodeNumbers(stored.Metadata, &before) {
		return false
	}
	if _, has := now["parent_span_id"]; has && before["parent_span_id"] == nil {
		return false
	}
	maps.DeleteFunc(now, func(name string, _ any) bool { return slices.Contains(ofTheRecord, name) })
	for name, v := range now {
		if other, there := before[name]; !there || !equal(v, other) {
			return false
		}
	}
	return true
}

// equal compares decoded JSON; numbers that PostgreSQL writes otherwise are equal.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, is := b.(map[string]any)
		return is && maps.EqualFunc(a, b, equal)
	case []any:
		b, is := b.([]any)
		return is && slices.EqualFunc(a, b, equal)
	case json.Number:
		b, is := b.(json.Number)
		return is && (a == b || sameNumber(a, b))
	}
	return a == b
}

func sameNumber(a, b json.Number) bool {
	x, errX := a.Float64()
	y, errY := b.Float64()
	return errX == nil && errY == nil && x == y && !strings.ContainsAny(string(a)+string(b), "eE")
}
