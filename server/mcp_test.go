package server_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/tenantdb"
)

// servedRevisions are those of /mcp.
var servedRevisions = []string{"2026-07-28", "2025-11-25", "2025-06-18"}

// ingest puts a document into a tenant's knowledge base, and returns its id.
func (w *world) ingest(tenant uuid.UUID, filename, text string, labels ...string) uuid.UUID {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), filename)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	var done konstruct.IngestResult
	ctx := konstruct.WithLabels(w.t.Context(), tenantdb.AllLabelsName)
	if err := w.k.Tenant(tenant).Agent(bot).Ingest(ctx, []string{path}, konstruct.DocumentOptions{Labels: labels},
		func(r konstruct.IngestResult) { done = r }, nil); err != nil || done.Err != nil {
		w.t.Fatal(err, done.Err)
	}
	return done.DocumentID
}

// useTool calls a tool, and returns its result's fields.
func useTool(t testing.TB, s *mcp.ClientSession, name string, arguments any) (*mcp.CallToolResult, map[string]any) {
	t.Helper()
	r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s %v: %v", name, arguments, err)
	}
	fields, _ := r.StructuredContent.(map[string]any)
	return r, fields
}

// worked is useTool for a call that must work.
func worked(t testing.TB, s *mcp.ClientSession, name string, arguments any) map[string]any {
	t.Helper()
	r, fields := useTool(t, s, name, arguments)
	if r.IsError {
		t.Fatalf("%s %v: %s", name, arguments, said(r))
	}
	return fields
}

// said is the text of a result.
func said(r *mcp.CallToolResult) string { return r.Content[0].(*mcp.TextContent).Text }

// at reads a value in JSON by its path; a number is an index.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// frame posts a frame to /mcp, and returns the response with its body.
func (w *world) frame(key, frame string, headers ...string) reply {
	w.t.Helper()
	return postFrame(w.t, w.url, key, frame, headers...)
}

func postFrame(t testing.TB, url, key, frame string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", url+"/mcp", strings.NewReader(frame))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res, string(raw)}
}

// TestMCPToolsReadAndWrite uses every tool in each revision, and finds one event for each call.
func TestMCPToolsReadAndWrite(t *testing.T) {
	w := serve(t)
	document := w.ingest(acme, "handbook.md", handbook)
	signed, err := w.k.Tenant(acme).Agent(bot).Log(t.Context(), konstruct.Event{Action: "x"})
	if err != nil {
		t.Fatal(err)
	}
	w.sign(filepath.Join(t.TempDir(), "key"))
	for _, revision := range servedRevisions {
		t.Run(revision, func(t *testing.T) {
			key := w.key(acme)
			s := connectMCP(t, w.url+"/mcp", key, revision, nil)
			if got := s.InitializeResult(); revision < "2026" && (got == nil || got.ProtocolVersion != revision) {
				t.Errorf("%+v", got)
			}
			before := w.count(acme, audit.Filter{})
			found := worked(t, s, "search", map[string]any{"query": "How long may I send a pump back?", "limit": 2,
				"conversation_id": "run-" + revision, "filter": []string{"filename=handbook.md"}})
			if at(found, "results", 0, "id") != document.String() || at(found, "results", 0, "title") == "" ||
				!strings.HasPrefix(at(found, "results", 0, "url").(string), "konstruct://documents/") {
				t.Errorf("%v", found)
			}
			passage := at(found, "results", 0, "passages", 0, "id")
			if got := worked(t, s, "fetch", map[string]any{"id": document}); !strings.Contains(got["text"].(string),
				"thirty days") || got["id"] != document.String() {
				t.Errorf("%v", got)
			}
			if got := worked(t, s, "fetch", map[string]any{"id": passage}); !strings.Contains(got["text"].(string),
				"thirty days") || at(got, "metadata", "document_id") != document.String() {
				t.Errorf("%v", got)
			}
			cited := worked(t, s, "cite", map[string]any{"passage_id": passage, "event_id": found["event_id"]})
			if at(cited, "retrieval", "state") != "unchanged" || len(cited["sha256"].(string)) != 64 {
				t.Errorf("%v", cited)
			}
			if got := worked(t, s, "list_documents", nil); at(got, "documents", 0, "id") != document.String() {
				t.Errorf("%v", got)
			}
			logged := worked(t, s, "log_event", map[string]any{"action_type": "llm_call", "input_summary": "hi",
				"metadata": map[string]any{"gen_ai.request.model": "m"}, "conversation_id": "run-" + revision})
			escalated := worked(t, s, "escalate", map[string]any{"reason": "refund", "to": "ops",
				"conversation_id": "run-" + revision})
			if got := worked(t, s, "check_escalation", map[string]any{"id": escalated["id"]}); got["state"] != "open" {
				t.Errorf("%v", got)
			}
			run := worked(t, s, "timeline", map[string]any{"run": "run-" + revision})
			if run["total"] != 3.0 || at(run, "events", 0, "input_summary") != "How long may I send a pump back?" {
				t.Errorf("%v", run)
			}
			if got := worked(t, s, "verify_event", map[string]any{"id": logged["id"]}); got["waiting"] != true {
				t.Errorf("%v", got)
			}
			verified := worked(t, s, "verify_event", map[string]any{"id": signed, "whole_log": true})
			if verified["verified"] != true || at(verified, "log", "verified") != true {
				t.Errorf("%v", verified)
			}
			events, err := w.k.Tenant(acme).Events().List(t.Context(), audit.Filter{Limit: 12})
			if err != nil {
				t.Fatal(err)
			}
			if n := w.count(acme, audit.Filter{}) - before; n != 11 {
				t.Errorf("%d events of eleven calls", n)
			}
			for _, e := range events[:11] {
				m := metadataOf(t, e)
				if m["mcp.client.name"] != "tester" || m["mcp.client.version"] != "9" ||
					m["mcp.method.name"] != "tools/call" || m["mcp.protocol.version"] != revision {
					t.Errorf("%s: %v", e.Action, m)
				}
				if e.Action == audit.ActionToolCall && e.Output != nil && strings.Contains(*e.Output, "thirty") {
					t.Errorf("the trail has the document's text: %s", *e.Output)
				}
			}
		})
	}
}
