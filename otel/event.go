package otel

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/pgtext"
)

// span maps one span.
func (r *record) span(s ptrace.Span, from *origin, o Options) Mapped {
	return bounded(func(b bound) (Mapped, bool) {
		r.begin(from, s.Name(), b)
		return r.mapSpan(s, o)
	})
}

func (r *record) mapSpan(s ptrace.Span, o Options) (m Mapped, fits bool) {
	r.read(s.Attributes())
	if r.text("logfire.span_type") == "pending_span" { // announces a span that comes when it ends
		return Mapped{Dropped: true}, true
	}
	action := r.kind()
	if action == "" {
		if !o.KeepOther {
			return Mapped{Dropped: true}, true
		}
		action = ActionSpan
	}
	e := audit.Event{Action: action, At: at(s.StartTimestamp(), s.EndTimestamp()), Latency: latency(s)}
	r.addText("trace_id", hexOf(s.TraceID()))
	r.addText("span_id", hexOf(s.SpanID()))
	r.addText("parent_span_id", hexOf(s.ParentSpanID()))
	r.addText("trace_state", s.TraceState().AsRaw())
	r.addText("otel.span.name", s.Name())
	if kind := s.Kind(); kind != ptrace.SpanKindUnspecified && kind != ptrace.SpanKindInternal {
		r.addText("otel.span.kind", strings.ToUpper(kind.String()))
	}
	r.addTime("start_time_unix_nano", s.StartTimestamp())
	r.addTime("end_time_unix_nano", s.EndTimestamp())
	events := r.spanMessages(s.Events())
	r.readLogfireEvents()
	r.readClaudeTool(events)
	if action == audit.ActionToolCall && r.from.scopeName == "logfire.openai_agents" {
		for name, f := range map[string]field{"input": toolArguments, "output": toolResult} {
			if v := r.take(name); v != "" {
				r.set(f, name, pcommon.NewValueStr(v), len(r.named))
			}
		}
	}
	r.status(s, events)
	r.addSpanEvents(events)
	r.addLinks(s.Links())
	r.addDropped("otel.dropped_attributes_count", s.DroppedAttributesCount())
	r.addDropped("otel.dropped_events_count", s.DroppedEventsCount())
	r.addDropped("otel.dropped_links_count", s.DroppedLinksCount())
	call := Call{Trace: hexOf(s.TraceID()), Span: hexOf(s.SpanID()), Parent: hexOf(s.ParentSpanID())}
	if !s.TraceID().IsEmpty() && !s.SpanID().IsEmpty() {
		e.ID = SpanEventID(s.TraceID(), s.SpanID(), o.Agent)
	}
	return r.finish(e, call, o)
}

// finish makes the event of what the record says. An event without an id gets one from its content. It reports false if
// the metadata does not fit the record's bound.
func (r *record) finish(e audit.Event, call Call, o Options) (m Mapped, fits bool) {
	used := r.tokens()
	isCall := e.Action == audit.ActionLLMCall
	r.readClaudeSession()
	r.readWithin(isCall)
	r.readName(e.Action)
	r.summaries(&e)
	r.addFields(&e, o)
	switch {
	case isCall:
		r.addUsage(used)
		call.InputTokens, call.OutputTokens, call.Response = used.input, used.output, r.fieldText(responseID)
		call.Embedding = r.embeds()
	case e.Action == audit.ActionToolCall:
		call.Tool, call.ToolCall = r.fieldText(toolName), r.fieldText(toolCallID)
		call.MCP = r.text("mcp.method.name") != ""
		fallthrough
	default:
		r.addAggregate(used)
	}
	call.Reportable = isCall || e.Action == audit.ActionToolCall
	r.addOrigin()
	r.addRest()
	if e.Metadata, fits = r.metadata(); !fits {
		return Mapped{}, false
	}
	if e.ID == uuid.Nil {
		e.ID = derived([]byte("konstruct otel content"), o.Agent[:], []byte(e.Action), []byte(e.Input),
			[]byte(e.Output),
			[]byte(e.At.String()), e.Metadata)
	}
	call.Conversation = r.fieldText(conversation)
	call.Scope, call.CallID = r.from.scopeName, r.text("litellm.call_id")
	call.Event, call.Begin, call.End = e.ID, e.At, e.At.Add(e.Latency)
	return Mapped{Event: e.OfService().Encoded(), Call: call}, true
}

// at returns when a record happened: its start, or its end if it has none. Times that no calendar of ours has are left
// to the metadata.
func at(times ...pcommon.Timestamp) time.Time {
	for _, t := range times {
		if t > 0 && t <= math.MaxInt64 {
			return t.AsTime()
		}
	}
	return time.Time{}
}

func latency(s ptrace.Span) time.Duration {
	begin, end := s.StartTimestamp(), s.EndTimestamp()
	if begin == 0 || end <= begin || end > math.MaxInt64 {
		return 0
	}
	took := end.AsTime().Sub(begin.AsTime())
	if took.Milliseconds() > math.MaxInt32 {
		return 0
	}
	return took
}

// addDropped adds how many of something the SDK left out, if any.
func (r *record) addDropped(name string, n uint32) {
	if n > 0 {
		r.addCount(name, int64(n))
	}
}

func (r *record) addTime(name string, t pcommon.Timestamp) {
	if t > 0 {
		r.add(name, func(e *encoder) { e.unsigned(uint64(t)) })
	}
}

// status adds a span's status and the type of its error.
func (r *record) status(s ptrace.Span, events []ptrace.SpanEvent) {
	code := s.Status().Code()
	if code == ptrace.StatusCodeUnset {
		if r.text("langfuse.observation.level") == "ERROR" && !r.has(errorType) { // its JavaScript SDK sets no status
			r.set(errorType, "", pcommon.NewValueStr("_OTHER"), len(r.named))
		}
		return
	}
	r.addText("otel.status_code", strings.ToUpper(code.String()))
	r.addText("otel.status_description", s.Status().Message())
	if code != ptrace.StatusCodeError || r.has(errorType) {
		return
	}
	v := pcommon.NewValueStr("_OTHER") // as the conventions call an error of unknown type
	for _, event := range events {
		if kind, ok := event.Attributes().Get("exception.type"); ok && kind.AsString() != "" {
			v = kind
		}
	}
	r.set(errorType, "error.type", v, 1)
}

// spanMessages returns a span's events without those that are messages of a call, which it adds to the record's.
func (r *record) spanMessages(all ptrace.SpanEventSlice) (others []ptrace.SpanEvent) {
	var in, out []any
	for _, event := range all.All() {
		m, isOutput := messageEvent(event.Name(), event.Attributes(), pcommon.NewValueEmpty())
		switch {
		case event.Name() == detailsEvent:
			r.read(event.Attributes())
		case m == nil:
			others = append(others, event)
		case isOutput:
			out = append(out, m...)
		default:
			in = append(in, m...)
		}
	}
	if len(in) > 0 {
		r.addList("gen_ai.input.messages", in)
	}
	if len(out) > 0 {
		r.addList("gen_ai.output.messages", out)
	}
	return others
}

func (r *record) addList(name string, all []any) {
	if r.lists == nil {
		r.lists = map[string]any{}
	}
	r.lists[name] = all
}

func (r *record) addSpanEvents(events []ptrace.SpanEvent) {
	if len(events) == 0 {
		return
	}
	r.add("otel.span.events", func(e *encoder) {
		e.buf = append(e.buf, '[')
		for i, event := range events[:min(len(events), maxItems)] {
			if i > 0 {
				e.next()
			}
			e.buf = append(e.buf, `{"name": `...)
			e.text(event.Name())
			if event.Attributes().Len() > 0 {
				e.buf = append(e.buf, `, "attributes": `...)
				e.attributes(event.Attributes(), maxAttributes)
			}
			e.buf = append(e.buf, `, "time_unix_nano": `...)
			e.unsigned(uint64(event.Timestamp()))
			e.buf = append(e.buf, '}')
		}
		e.altered = e.altered || len(events) > maxItems
		e.buf = append(e.buf, ']')
	})
}

func (r *record) addLinks(links ptrace.SpanLinkSlice) {
	if links.Len() == 0 {
		return
	}
	r.add("otel.span.links", func(e *encoder) {
		e.buf = append(e.buf, '[')
		for i := range min(links.Len(), maxItems) {
			link := links.At(i)
			if i > 0 {
				e.next()
			}
			e.buf = append(e.buf, `{"span_id": `...)
			e.text(hexOf(link.SpanID()))
			e.buf = append(e.buf, `, "trace_id": `...)
			e.text(hexOf(link.TraceID()))
			if link.Attributes().Len() > 0 {
				e.buf = append(e.buf, `, "attributes": `...)
				e.attributes(link.Attributes(), maxAttributes)
			}
			e.buf = append(e.buf, '}')
		}
		e.altered = e.altered || links.Len() > maxItems
		e.buf = append(e.buf, ']')
	})
}

// hexOf returns an id in hex, and "" for the zero id.
func hexOf[T interface {
	IsEmpty() bool
	String() string
}](id T) string {
	if id.IsEmpty() {
		return ""
	}
	return id.String()
}

// addFields adds the fields that have a name of their own.
func (r *record) addFields(e *audit.Event, o Options) {
	r.finishReasons()
	if e.UserID = r.fieldText(user); len(e.UserID) > audit.MaxName || !pgtext.Holds(e.UserID) {
		if e.UserID = pgtext.Clean(e.UserID); len(e.UserID) > audit.MaxName {
			e.UserID = pgtext.Head(e.UserID, audit.MaxName-150) + pgtext.Mark(e.UserID)
		}
		r.note("user_id")
	}
	e.AgentID = o.Agent
	if e.AgentID == uuid.Nil {
		e.AgentID = AgentID(firstOf(r.fieldText(agentID), r.fieldText(agentName), r.serviceName()))
	}
	for f := field(1); f < fields; f++ {
		if !r.has(f) || slices.Contains(usageFields, f) {
			continue
		}
		switch f {
		case user, toolArguments, toolResult, input, output, inputMessages, outputMessages, finishReasons:
			continue // written elsewhere
		}
		v := r.slots[f]
		r.add(canonical[f], func(e *encoder) { e.value(v, 0) })
	}
}

// addRest adds the attributes of no field, after all names that the mapping writes itself.
func (r *record) addRest() {
	var taken map[string]struct{}
	if len(r.rest) > 16 {
		taken = make(map[string]struct{}, len(r.members)+len(r.rest))
		for _, m := range r.members {
			taken[m.name] = struct{}{}
		}
	}
	isTaken := func(name string) bool {
		if taken == nil {
			return slices.ContainsFunc(r.members, func(m member) bool { return m.name == name })
		}
		_, is := taken[name]
		return is
	}
	for _, a := range r.rest {
		name, altered := cleanName(a.name)
		if ours(name) {
			name = "_" + name
			altered = true
		}
		for isTaken(name) && len(name) < 2*maxKey {
			name = "_" + name
		}
		if isTaken(name) {
			r.note(name)
			continue
		}
		if !r.add(name, func(e *encoder) { e.value(a.value, 0) }) {
			r.skipped++
			continue
		}
		if altered {
			r.note(name)
		}
		if taken != nil {
			taken[name] = struct{}{}
		}
	}
	for prefix, v := range r.lists { // lists that no message was made of
		r.add(prefix, func(e *encoder) { e.any(lined(v), 0) })
	}
	if r.skipped > 0 {
		r.note("")
	}
}

// ours reports whether a name is one that the mapping alone writes: an attribute can't pretend to be a span's parent.
func ours(name string) bool {
	switch name {
	case "trace_id", "span_id", "parent_span_id", "trace_state", "start_time_unix_nano", "end_time_unix_nano",
		"time_unix_nano", "observed_time_unix_nano", "aggregate_usage", "record", "reported_action":
		return true
	}
	return strings.HasPrefix(name, "otel.") || strings.HasPrefix(name, "log.") || strings.HasPrefix(name, "reported.")
}

// usageFields are written by addUsage or addAggregate.
var usageFields = []field{inputTokens, outputTokens, totalTokens, cacheRead, cacheWrite, reasoning, cost}

func (u usage) each(f func(field, int64)) {
	for _, c := range []struct {
		field field
		n     int64
	}{{inputTokens, u.input}, {outputTokens, u.output}, {totalTokens, u.total}, {cacheRead, u.cacheRead},
		{cacheWrite, u.cacheWrite}, {reasoning, u.reasoning}} {
		if c.n >= 0 {
			f(c.field, c.n)
		}
	}
}

// addUsage adds what a call used. A number that is not what was sent stays beside it under its own name.
func (r *record) addUsage(u usage) {
	u.each(func(f field, n int64) {
		r.addCount(canonical[f], n)
		if sent := r.number(f); sent != n && sent >= 0 {
			r.addCount("reported."+r.named[f], sent)
		}
	})
	if r.has(cost) {
		v := r.slots[cost]
		r.add(canonical[cost], func(e *encoder) { e.value(v, 0) })
	}
	for _, f := range usageFields {
		if f != cost && r.has(f) && r.number(f) < 0 { // no count: kept as it came
			v := r.slots[f]
			r.add("reported."+r.named[f], func(e *encoder) { e.value(v, 0) })
		}
	}
}

// addAggregate adds usage that a span repeats of the calls below it. It has a name that no statistics count.
func (r *record) addAggregate(u usage) {
	said := r.has(cost)
	u.each(func(field, int64) { said = true })
	if !said {
		return
	}
	all := map[string]any{}
	u.each(func(f field, n int64) { all[canonical[f]] = n })
	if r.has(cost) {
		all[canonical[cost]] = r.slots[cost].AsRaw()
	}
	r.add("aggregate_usage", func(e *encoder) { e.any(all, 0) })
}

// serviceName returns the resource's service, unless an SDK made it up.
func (r *record) serviceName() string {
	if strings.HasPrefix(r.from.service, "unknown_service") {
		return ""
	}
	return r.from.service
}

func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// addOrigin adds the resource and the instrumentation scope.
func (r *record) addOrigin() {
	r.addText("service.name", r.from.service)
	r.addText("otel.scope.name", r.from.scopeName)
	r.addText("otel.scope.version", r.from.scopeVersion)
	if r.from.attributes.Len() > 0 {
		r.add("otel.scope.attributes", func(e *encoder) { e.attributes(r.from.attributes, maxResource) })
	}
	if r.from.altered {
		r.note("otel.resource")
	}
	if len(r.from.resourceJSON) > 2 {
		r.add("otel.resource", func(e *encoder) { e.buf = append(e.buf, r.from.resourceJSON...) })
	}
}
