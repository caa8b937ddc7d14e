package otel_test

import (
	"encoding/json"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/otel"
)

// TestAnMCPSpanIsNamedByItsTool: the conventions have an attribute for the tool; SDKs have its name in the span's.
func TestAnMCPSpanIsNamedByItsTool(t *testing.T) {
	for _, c := range []struct{ span, method, attribute, tool string }{
		{"tools/call refund_order", "tools/call", "", "refund_order"},
		{"MCP send tools/call refund_order", "tools/call", "", "refund_order"}, // mcp 2.3.0 for Python
		{"MCP send tools/call tools/call x", "tools/call", "", "tools/call x"},
		{"tools/call refund_order", "tools/call", "refund", "refund"},
		{"refund_order", "tools/call", "", "refund_order"},
	} {
		traces := ptrace.NewTraces()
		span := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.SetName(c.span)
		span.Attributes().PutStr("mcp.method.name", c.method)
		if c.attribute != "" {
			span.Attributes().PutStr("gen_ai.tool.name", c.attribute)
		}
		n := 0
		for m := range otel.Spans(traces, otel.Options{}) {
			n++
			var stored struct {
				Tool string `json:"gen_ai.tool.name"`
			}
			if err := json.Unmarshal(m.Event.Metadata, &stored); err != nil || stored.Tool != c.tool ||
				m.Call.Tool != c.tool || m.Event.Action != audit.ActionToolCall {
				t.Errorf("%q is a %s of %q: %s", c.span, m.Event.Action, m.Call.Tool, m.Event.Metadata)
			}
		}
		if n != 1 {
			t.Errorf("%q is %d events", c.span, n)
		}
	}
}
