package otel

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// MCPCall returns a call of a tool that the MCP proxy recorded, for Recent.Add, so that its client's span of it is
// recognized as a further report. It returns false for events of other kinds. The event must have its id.
func MCPCall(e audit.Event) (c Call, is bool) {
	var m struct {
		Method   string `json:"mcp.method.name"`
		Trace    string `json:"trace_id"`
		Span     string `json:"span_id"`
		Parent   string `json:"parent_span_id"`
		Tool     string `json:"gen_ai.tool.name"`
		ToolCall string `json:"gen_ai.tool.call.id"`
	}
	if e.Action != audit.ActionToolCall || e.ID == uuid.Nil || !bytes.Contains(e.Metadata, []byte("mcp.method.name")) {
		return Call{}, false
	}
	if json.Unmarshal(e.Metadata, &m) != nil || m.Method == "" { // names of another type, or no MCP
		return Call{}, false
	}
	begin := e.At
	if begin.IsZero() {
		begin = time.Now().Add(-e.Latency)
	}
	return Call{Event: e.ID, Trace: m.Trace, Span: m.Span, Parent: m.Parent, Scope: "konstruct mcp-proxy", Tool: m.Tool,
		ToolCall: m.ToolCall, MCP: true, Begin: begin, End: begin.Add(e.Latency), Reportable: true}, true
}
