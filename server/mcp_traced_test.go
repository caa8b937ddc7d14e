package server_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/otel"
)

// TestAToolCallThatItsClientTracesIsCountedOnce sends what the MCP proxy records of a call and an escalation, and then
// the client's spans around them: the call is one, and its escalation is below the client's report of it.
func TestAToolCallThatItsClientTracesIsCountedOnce(t *testing.T) {
	w := serve(t)
	tenant := uuid.New()
	key := w.key(tenant, access.EventsWrite)
	begin := time.Now().Add(-time.Minute)
	trace, agent, client, other := pcommon.TraceID{1}, pcommon.SpanID{1}, pcommon.SpanID{2}, pcommon.SpanID{3}
	w.want(201, "POST", "/v1/events/batch", key, fmt.Sprintf(`{"events": [
		{"action_type": "escalation", "created_at": %q, "metadata": {"trace_id": "%x", "parent_span_id": "%x"}},
		{"action_type": "tool_invocation", "created_at": %[4]q, "latency_ms": 2, "input_summary": "{}", "metadata": {
			"mcp.method.name": "tools/call", "gen_ai.tool.name": "refund", "tool_server": "shop", "trace_id": "%[2]x",
			"parent_span_id": "%[3]x", "span_id": "00000000000000aa"}}]}`,
		begin.Format(time.RFC3339Nano), trace[:], client[:], begin.Add(9*time.Second).Format(time.RFC3339Nano)))

	traces := ptrace.NewTraces()
	all := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for _, s := range []struct {
		name     string
		id, over pcommon.SpanID
		method   string
	}{{"MCP send tools/call refund", client, agent, "tools/call"}, {"MCP send tools/call look_up", other, agent,
		"tools/call"}, {"invoke_agent support", agent, pcommon.SpanID{}, ""}} {
		span := all.AppendEmpty()
		span.SetName(s.name)
		span.SetTraceID(trace)
		span.SetSpanID(s.id)
		span.SetParentSpanID(s.over)
		span.SetStartTimestamp(pcommon.NewTimestampFromTime(begin))
		span.SetEndTimestamp(pcommon.NewTimestampFromTime(begin.Add(10 * time.Second)))
		if s.method == "" {
			span.Attributes().PutStr("gen_ai.operation.name", "invoke_agent")
		} else {
			span.Attributes().PutStr("mcp.method.name", s.method)
		}
	}
	if got, raw := w.export(key, "/v1/traces", body(t, traces)); got != 200 {
		t.Fatalf("%d %q", got, raw)
	}
	run, err := w.k.Tenant(tenant).Events().Run(t.Context(), fmt.Sprintf("%x", trace[:]))
	if err != nil || run.Events != 5 || len(run.Steps) != 1 || run.Steps[0].Action != otel.ActionAgentRun {
		t.Fatalf("%+v, %v", run, err)
	}
	calls := map[string]int{}
	for _, s := range run.Steps[0].Steps {
		calls[s.Action]++
		if s.Input == nil { // the other call, which no proxy saw
			continue
		}
		if s.Action != audit.ActionToolCall || len(s.Steps) != 1 || s.Steps[0].Action != otel.ActionDetails ||
			len(s.Steps[0].Steps) != 1 || s.Steps[0].Steps[0].Action != audit.ActionEscalation {
			t.Errorf("below the proxy's %s is %+v", s.Action, s.Steps)
		}
	}
	if len(calls) != 1 || calls[audit.ActionToolCall] != 2 {
		t.Errorf("below the agent's run are %v, want two calls of tools", calls)
	}
}
