// Package otel maps what OpenTelemetry SDKs and agents export (OTLP 1.x: spans and log records) to events of the trail.
// It knows the conventions of the field by tables: OpenTelemetry GenAI as they are now and as they were in v1.36,
// OpenInference, OpenLLMetry, Langfuse, the Vercel AI SDK, Pydantic AI, Google ADK, Strands and coding agents. The
// result depends on the record alone, so that a retried export makes the same events. It knows no database and no
// network.
package otel

import (
	"iter"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/audit"
)

// Action types beside audit's that a span or log record becomes.
const (
	ActionAgentRun = "agent_run" // an agent, a workflow or a plan
	// a chain, a task, a node: what a framework puts between an agent and its calls
	ActionStep         = "workflow_step"
	ActionGuardrail    = "guardrail"
	ActionHandoff      = "handoff"
	ActionHumanInput   = "human_input"
	ActionEvaluation   = "evaluation"
	ActionRerank       = "rerank"
	ActionMemory       = "memory"
	ActionResourceRead = "resource_read" // MCP resources/read
	ActionPromptGet    = "prompt_get"    // MCP prompts/get
	ActionPrompt       = "user_prompt"   // what a person told a coding agent
	ActionToolDecision = "tool_decision" // a coding agent may call a tool, or not, and who said so
	ActionMessage      = "llm_message"   // one message of a call, where each is a log record (GenAI v1.36)
	ActionDetails      = "call_details"  // a further report of an event that is on the trail already
	ActionSpan         = "span"          // any other span, where the tenant's policy keeps them
	ActionLog          = "log_record"    // any other log record, where the tenant's policy keeps them
)

// Options say how a tenant's records are mapped.
type Options struct {
	KeepOther bool      // map spans and log records that no rule knows, as ActionSpan and ActionLog
	Agent     uuid.UUID // the agent that the credential is bound to; zero: the record names it
}

// Mapped is one span or log record after the mapping.
type Mapped struct {
	Event   audit.Event
	Dropped bool // no rule knows the record, or it only announces another
	Waits   bool // it is a call's log record, and the call's span has the same id: see Join
	Call    Call // what further reports of the same call are recognized by
}

// Call identifies a call of a model or a tool within a trace.
type Call struct {
	Event               uuid.UUID
	Trace, Span, Parent string // in hex; empty: none
	Response            string // a model's: the provider's id of the response or request
	Scope               string // of the instrumentation
	CallID              string // LiteLLM's own id of a call
	Embedding           bool   // a model's: it made vectors
	InputTokens         int64  // a model's; negative: not reported
	OutputTokens        int64
	Tool, ToolCall      string    // a tool's name and the id of its call
	MCP                 bool      // a tool's call that an instrumentation of MCP reports
	Begin, End          time.Time // End is Begin where only one time is known
	Conversation        string
	Reportable          bool   // it is a call of a model or a tool
	repeats             string // the span of the call that a span around it repeats
}

// Spans maps every span of an export.
func Spans(traces ptrace.Traces, o Options) iter.Seq[Mapped] {
	return func(yield func(Mapped) bool) {
		var r record
		for _, of := range traces.ResourceSpans().All() {
			from := newOrigin(of.Resource())
			for _, scoped := range of.ScopeSpans().All() {
				from.scope(scoped.Scope())
				for _, span := range scoped.Spans().All() {
					if !yield(r.span(span, from, o)) {
						return
					}
				}
			}
		}
	}
}

// Logs maps every log record of an export.
func Logs(logs plog.Logs, o Options) iter.Seq[Mapped] {
	return func(yield func(Mapped) bool) {
		var r record
		seen := map[uuid.UUID]int{} // records without any id: how often equal ones stand in this export
		for _, of := range logs.ResourceLogs().All() {
			from := newOrigin(of.Resource())
			for _, scoped := range of.ScopeLogs().All() {
				from.scope(scoped.Scope())
				for _, record := range scoped.LogRecords().All() {
					if !yield(r.log(record, from, o, seen)) {
						return
					}
				}
			}
		}
	}
}

// origin is where records come from: their resource and instrumentation scope.
type origin struct {
	resource                pcommon.Resource
	service                 string
	altered                 bool   // the resource is not wholly as it was sent
	resourceJSON            []byte // encoded once for all records
	scopeName, scopeVersion string
	attributes              pcommon.Map // of the scope
}

func newOrigin(r pcommon.Resource) *origin {
	o := &origin{resource: r}
	if v, ok := r.Attributes().Get("service.name"); ok {
		o.service = v.AsString()
	}
	e := encoder{maxText: 4 << 10}
	e.attributes(r.Attributes(), maxResource)
	o.resourceJSON, o.altered = e.buf, e.altered
	return o
}

// scope sets the scope of the records that follow.
func (o *origin) scope(s pcommon.InstrumentationScope) {
	o.scopeName, o.scopeVersion, o.attributes = s.Name(), s.Version(), s.Attributes()
}
