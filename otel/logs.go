package otel

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/konstruct/konstruct/audit"
)

// detailsEvent is the log record that reports a whole call: it stands beside the call's span, or without one.
const detailsEvent = "gen_ai.client.inference.operation.details"

// log maps one log record. seen counts the events of the export whose id follows from their content.
func (r *record) log(l plog.LogRecord, from *origin, o Options, seen map[uuid.UUID]int) Mapped {
	name := eventName(l)
	m := bounded(func(b bound) (Mapped, bool) {
		r.begin(from, name, b)
		return r.mapLog(l, o)
	})
	if m.Dropped {
		return m
	}
	if name == detailsEvent {
		m.Waits = m.Event.Action == audit.ActionLLMCall && !l.TraceID().IsEmpty() && !l.SpanID().IsEmpty()
		return m
	}
	n := seen[m.Event.ID]
	seen[m.Event.ID]++
	if n > 0 { // equal in all, and sent as two: the second stands for itself
		m.Event.ID = derived([]byte("konstruct otel repeated"), m.Event.ID[:], []byte{byte(n), byte(n >> 8)})
	}
	return m
}

func (r *record) mapLog(l plog.LogRecord, o Options) (m Mapped, fits bool) {
	from, name := r.from, r.name
	e := audit.Event{At: at(l.Timestamp(), l.ObservedTimestamp())}
	call := Call{Trace: hexOf(l.TraceID()), Span: hexOf(l.SpanID())}
	r.addText("trace_id", call.Trace)
	r.addText("log.event.name", name)
	switch {
	case name == detailsEvent:
		if l.Body().Type() == pcommon.ValueTypeMap {
			r.read(l.Body().Map())
		}
		r.read(l.Attributes())
		if !r.answered() {
			return Mapped{Dropped: true}, true // the request of a call that is reported when it ends
		}
		if from.scopeName == geminiScope {
			e.Action = ActionDetails
			r.addText("parent_span_id", call.Span)
			break
		}
		e.Action = audit.ActionLLMCall
		r.addText("span_id", call.Span)
		if !l.TraceID().IsEmpty() && !l.SpanID().IsEmpty() {
			e.ID = SpanEventID(l.TraceID(), l.SpanID(), o.Agent)
		}
	case name == "gen_ai.evaluation.result":
		e.Action = ActionEvaluation
		r.addText("parent_span_id", call.Span)
		r.readLog(l)
	default:
		r.addText("parent_span_id", call.Span)
		m, isOutput := messageEvent(name, l.Attributes(), l.Body())
		if agent := codingEvents[name]; agent != nil {
			agent.read(r, &e, l)
			break
		}
		r.readLog(l)
		switch {
		case m != nil && isOutput:
			e.Action = ActionMessage
			r.addList("gen_ai.output.messages", m)
		case m != nil:
			e.Action = ActionMessage
			r.addList("gen_ai.input.messages", m)
		case o.KeepOther:
			e.Action = ActionLog
		default:
			return Mapped{Dropped: true}, true
		}
	}
	if e.Action == "" {
		return Mapped{Dropped: true}, true
	}
	r.addTime("time_unix_nano", l.Timestamp())
	r.addTime("observed_time_unix_nano", l.ObservedTimestamp())
	if l.SeverityText() != "" {
		r.addText("log.severity", l.SeverityText())
	} else if l.SeverityNumber() != 0 {
		r.addText("log.severity", strings.ToUpper(l.SeverityNumber().String()))
	}
	r.addDropped("otel.dropped_attributes_count", l.DroppedAttributesCount())
	return r.finish(e, call, o)
}

// answered reports whether a call has an answer or an error.
func (r *record) answered() bool {
	for _, f := range []field{outputMessages, outputTokens, inputTokens, responseID, responseModel, finishReasons,
		errorType} {
		if r.has(f) {
			return true
		}
	}
	return false
}

// eventName returns what a log record's event is called. Claude Code has the whole name as the body, and Codex has the
// place in its source as the record's event name.
func eventName(l plog.LogRecord) string {
	if body := l.Body(); body.Type() == pcommon.ValueTypeStr && codingEvents[body.Str()] != nil {
		return body.Str()
	}
	attribute := ""
	if v, ok := l.Attributes().Get("event.name"); ok {
		attribute = v.AsString()
	}
	if l.EventName() == "" || codingEvents[attribute] != nil {
		return attribute
	}
	return l.EventName()
}

// readLog reads a log record's attributes, and adds its body.
func (r *record) readLog(l plog.LogRecord) {
	r.read(l.Attributes())
	if body := l.Body(); body.Type() != pcommon.ValueTypeEmpty && !(body.Type() == pcommon.ValueTypeStr &&
		body.Str() == r.name) {
		r.add("log.body", func(e *encoder) { e.value(body, 0) })
	}
}

// messageRoles are the per-message events of GenAI v1.36 and before, and the roles of their messages.
var messageRoles = map[string]string{"gen_ai.system.message": "system", "gen_ai.user.message": "user",
	"gen_ai.assistant.message": "assistant", "gen_ai.tool.message": "tool"}

// messageEvent returns the messages of a per-message event, and whether the model wrote them. It returns nil for other
// events.
func messageEvent(name string, attributes pcommon.Map, body pcommon.Value) (all []any, output bool) {
	content := map[string]any{}
	for _, m := range []any{body.AsRaw(), attributes.AsRaw()} {
		if m, is := m.(map[string]any); is {
			for name, v := range m {
				if s, is := v.(string); is {
					v = decodedText(s)
				}
				if _, taken := content[name]; !taken {
					content[name] = v
				}
			}
		}
	}
	switch role, known := messageRoles[name]; {
	case known:
		if _, has := content["role"].(string); !has {
			content["role"] = role
		}
		if id, has := content["id"]; has && role == "tool" {
			content["tool_call_id"] = id
		}
		return messages(content), false
	case name == "gen_ai.choice":
		if m, is := content["message"].(map[string]any); is {
			if _, has := m["role"]; !has {
				m["role"] = "assistant"
			}
			for _, moved := range []string{"finish_reason", "index", "tool_calls"} {
				if v, has := content[moved]; has && m[moved] == nil {
					m[moved] = v
				}
			}
			return messages(m), true
		}
		if _, has := content["role"]; !has {
			content["role"] = "assistant"
		}
		if text, has := content["message"]; has {
			content["content"] = text
			delete(content, "message")
		}
		return messages(content), true
	case name == "gen_ai.content.prompt":
		return messages(content["gen_ai.prompt"]), false
	case name == "gen_ai.content.completion":
		return messages(content["gen_ai.completion"]), true
	}
	return nil, false
}

// milliseconds returns an attribute in ms as a duration.
func (r *record) milliseconds(name string) time.Duration {
	i := slices.IndexFunc(r.rest, func(a attribute) bool { return a.name == name })
	if i < 0 {
		return 0
	}
	v := r.rest[i].value
	n := count(v)
	if n <= 0 || n > 1<<31-1 {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}
