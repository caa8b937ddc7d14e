package mcpproxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/mcpproxy"
)

// revisions are those that clients speak.
var revisions = []string{"2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

func call(t *testing.T, s *mcp.ClientSession, name string, arguments map[string]any) *mcp.CallToolResult {
	t.Helper()
	r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func textOf(r *mcp.CallToolResult) string {
	for _, c := range r.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			return text.Text
		}
	}
	return ""
}

func TestEachCallIsRecordedInEveryRevision(t *testing.T) {
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			p := startProxy(t, "server", func(c *mcpproxy.Stdio) { c.Conversation = "desk" })
			s := p.connect(t, revision, nil)
			if got := textOf(call(t, s, "echo", map[string]any{"text": "hi"})); got != "hi" {
				t.Fatalf("the tool said %q", got)
			}
			if r := call(t, s, "fail", nil); !r.IsError {
				t.Error("a failure is passed as success")
			}
			if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "none"}); err == nil {
				t.Error("an unknown tool has a result")
			}
			if _, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "test://motd"}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "greet",
				Arguments: map[string]string{"who": "Ada"}}); err != nil {
				t.Fatal(err)
			}
			traced := &mcp.CallToolParams{Name: "echo", Meta: mcp.Meta{"claudecode/toolUseId": "toolu_1",
				"traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"}}
			if _, err := s.CallTool(t.Context(), traced); err != nil {
				t.Fatal(err)
			}
			all := p.trail.recorded()
			if len(all) != 6 {
				t.Fatalf("%d events", len(all))
			}
			for i, want := range []struct{ action, input, output, err string }{
				{audit.ActionToolCall, `{"text":"hi"}`, `"text":"hi"`, ""},
				{audit.ActionToolCall, "null", "the tool failed", "tool_error"}, // as it was sent
				{audit.ActionToolCall, `{}`, "none", "-32602"},
				{mcpproxy.ActionResourceRead, "test://motd", "hello", ""},
				{mcpproxy.ActionPromptGet, `{"who":"Ada"}`, "Greet Ada", ""},
				{audit.ActionToolCall, `{}`, `"content"`, ""},
			} {
				e, m := all[i], metadata(t, all[i])
				if failed, _ := m["error.type"].(string); e.Action != want.action || e.Input != want.input ||
					!strings.Contains(e.Output, want.output) || failed != want.err {
					t.Errorf("event %d: %s %s %s %s", i, e.Action, e.Input, e.Output, e.Metadata)
				}
				for name, value := range map[string]string{"mcp.client.name": "tester", "mcp.client.version": "9",
					"mcp.server.name": mcptest.Name, "mcp.server.version": mcptest.Version,
					"mcp.protocol.version": revision, "tool_server": "test", "network.transport": "pipe"} {
					if m[name] != value {
						t.Errorf("event %d: %s is %v, want %s", i, name, m[name], value)
					}
				}
				if m["jsonrpc.request.id"] == "" || len(m["span_id"].(string)) != 16 {
					t.Errorf("event %d: %s", i, e.Metadata)
				}
			}
			if m := metadata(t, all[0]); m["gen_ai.conversation.id"] != "desk" || m["gen_ai.tool.name"] != "echo" ||
				m["mcp.method.name"] != "tools/call" || m["gen_ai.operation.name"] != "execute_tool" {
				t.Errorf("%v", m)
			}
			if m := metadata(t, all[5]); m["trace_id"] != "0af7651916cd43dd8448eb211c80319c" ||
				m["parent_span_id"] != "00f067aa0ba902b7" || m["gen_ai.tool.call.id"] != "toolu_1" ||
				m["gen_ai.conversation.id"] != nil {
				t.Errorf("%v", m)
			}
			s.Close()
			if code := p.exit(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestProgressAndInputPassInBothRevisions(t *testing.T) {
	for _, revision := range revisions[:2] {
		t.Run(revision, func(t *testing.T) {
			notes := make(chan bool, 5)
			p := startProxy(t, "server")
			s := p.connect(t, revision, &mcp.ClientOptions{
				ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) {
					notes <- true
				},
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "accept"}, nil
				}})
			params := &mcp.CallToolParams{Name: "note", Arguments: map[string]any{"count": 5}}
			params.SetProgressToken("p1")
			if _, err := s.CallTool(t.Context(), params); err != nil {
				t.Error(err)
			}
			for range 5 {
				<-notes
			}
			if got := textOf(call(t, s, "confirm", map[string]any{"text": "a"})); got != "confirmed" {
				t.Errorf("the tool said %q", got)
			}
			all := p.trail.recorded()
			last := metadata(t, all[len(all)-1])
			if revision == "2026-07-28" { // each round is a request, and an event
				first := metadata(t, all[1])
				if len(all) != 3 || first["mcp.result.type"] != "input_required" ||
					!strings.Contains(last["mcp.input_responses"].(string), "accept") {
					t.Errorf("%d events: %v, %v", len(all), first, last)
				}
			} else if len(all) != 2 {
				t.Errorf("%d events: %v", len(all), last)
			}
		})
	}
}

func TestCallsAtTheSameTimeGetTheirOwnResultsAndEvents(t *testing.T) {
	p := startProxy(t, "server")
	s := p.connect(t, "", nil)
	var calls sync.WaitGroup
	const n = 100
	for i := range n {
		calls.Go(func() {
			want := fmt.Sprint("call ", i)
			r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo",
				Arguments: map[string]any{"text": want}})
			if err != nil || textOf(r) != want {
				t.Errorf("%q: %v %v", want, r, err)
			}
		})
	}
	calls.Wait()
	seen := map[string]bool{}
	for _, e := range p.trail.recorded() {
		var a struct{ Text string }
		if err := json.Unmarshal([]byte(e.Input), &a); err != nil || !strings.Contains(e.Output, `"`+a.Text+`"`) {
			t.Errorf("%s is recorded with %s", e.Input, e.Output)
		}
		seen[a.Text] = true
	}
	if len(seen) != n {
		t.Errorf("%d calls are recorded", len(seen))
	}
}
