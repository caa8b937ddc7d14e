package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

// belongings are what a tenant has, by ids.
type belongings struct {
	document, passage, event, retrieval, escalation uuid.UUID
	run                                             string
}

// fill gives a tenant one of each, all with a word of its own, which is also its documents' label.
func (w *world) fill(tenant uuid.UUID, secret string, labels ...string) (b belongings) {
	w.t.Helper()
	b.run, b.document = "run "+secret, w.ingest(tenant, secret+".txt", "The "+secret+" pump draws water.", labels...)
	ctx, agent := konstruct.WithLabels(w.t.Context(), "*"), w.k.Tenant(tenant).Agent(bot)
	found, err := agent.SearchWith(ctx, konstruct.SearchRequest{Text: "pump " + secret, TopK: 1, ConversationID: b.run})
	if err != nil || len(found.Hits) != 1 {
		w.t.Fatal(err, found)
	}
	b.passage, b.retrieval = found.Hits[0].ChunkID, found.EventID
	if b.event, err = agent.Log(ctx, konstruct.Event{Action: "x", Input: secret}); err == nil {
		b.escalation, err = agent.LogEscalation(ctx, konstruct.Escalation{Reason: secret, ConversationID: b.run})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// asksOf are calls of every tool and readings of every resource and prompt that name something, by its owner's ids.
func (b belongings) asksOf() (tools map[string]map[string]any, resources []string,
	prompts map[string]map[string]string) {
	tools = map[string]map[string]any{
		"fetch":            {"id": b.document},
		"fetch a passage":  {"id": "konstruct://passages/" + b.passage.String()},
		"cite":             {"passage_id": b.passage},
		"check_escalation": {"id": b.escalation},
		"timeline":         {"run": b.run},
		"verify_event":     {"id": b.event},
	}
	resources = []string{"documents/" + b.document.String(), "documents/" + b.document.String() + "?offset=1",
		"passages/" + b.passage.String(), "events/" + b.event.String(),
		"runs/" + strings.ReplaceAll(b.run, " ", "%20")}
	return tools, resources, map[string]map[string]string{"explain_run": {"run": b.run}}
}

// TestMCPShowsNothingOfAnotherTenant asks for each thing of another tenant by its id: it is as if it were not there, in
// the same words as what never was.
func TestMCPShowsNothingOfAnotherTenant(t *testing.T) {
	w := serve(t)
	mine, theirs := w.fill(acme, "own"), w.fill(globex, "zebra")
	w.sign(filepath.Join(t.TempDir(), "key"))
	never := belongings{uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New(), "run never"}
	s := connectMCP(t, w.url+"/mcp", w.key(acme), "", nil)
	ask := func(b belongings) map[string]string {
		answers := map[string]string{}
		tools, resources, prompts := b.asksOf()
		for name, arguments := range tools {
			r, _ := useTool(t, s, strings.Fields(name)[0], arguments)
			answers[name] = fmt.Sprint(r.IsError, " ", said(r))
		}
		for _, uri := range resources {
			kind, rest, _ := strings.Cut(uri, "/")
			r, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "konstruct://" + uri})
			if _, query, paged := strings.Cut(rest, "?"); paged {
				kind += query
			}
			if answers[kind] = fmt.Sprint(err); err == nil {
				answers[kind] = "false " + r.Contents[0].Text
			}
		}
		for name, arguments := range prompts {
			r, err := s.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: name, Arguments: arguments})
			if answers[name] = fmt.Sprint(err); err == nil {
				answers[name] = "false " + r.Messages[1].Content.(*mcp.EmbeddedResource).Resource.Text
			}
		}
		return answers
	}
	own, other, none := ask(mine), ask(theirs), ask(never)
	if len(own) != 12 {
		t.Errorf("%d things were asked for", len(own))
	}
	for what := range own {
		if !strings.HasPrefix(own[what], "false ") {
			t.Errorf("%s: the tenant's own is refused: %s", what, own[what])
		}
		if strings.HasPrefix(other[what], "false ") || other[what] != none[what] ||
			strings.Contains(other[what], "zebra") {
			t.Errorf("%s of another tenant: %s, and of none: %s", what, other[what], none[what])
		}
	}
	if got := worked(t, s, "search", map[string]any{"query": "zebra pump", "limit": 50}); strings.Contains(
		fmt.Sprint(got), "zebra") {
		t.Errorf("%v", got)
	}
	if got := worked(t, s, "list_documents", nil); len(got["documents"].([]any)) != 1 {
		t.Errorf("%v", got)
	}
	listed, err := s.ListResources(t.Context(), nil)
	if err != nil || len(listed.Resources) != 1 || !strings.HasSuffix(listed.Resources[0].URI, mine.document.String()) {
		t.Errorf("%+v, %v", listed, err)
	}
	cite := map[string]any{"passage_id": mine.passage, "event_id": theirs.retrieval}
	if r, _ := useTool(t, s, "cite", cite); !r.IsError {
		t.Errorf("cited by another tenant's search: %s", said(r))
	}
	cursor := "ZA" + strings.Repeat("A", 20)
	if r, _ := useTool(t, s, "list_documents", map[string]any{"cursor": cursor}); !r.IsError {
		t.Errorf("a forged cursor: %s", said(r))
	}
	// What is written is the tenant's own, whatever ids it names.
	if r, _ := useTool(t, s, "log_event", map[string]any{"action_type": "y", "id": theirs.event}); r.IsError {
		t.Errorf("another tenant's id is not free: %s", said(r))
	}
	if e, err := w.k.Tenant(globex).Events().Get(t.Context(), theirs.event); err != nil || e.Action != "x" {
		t.Errorf("%+v, %v", e, err)
	}
	if n := w.count(globex, audit.Filter{Action: "resource_read"}); n != 0 {
		t.Errorf("%d events on another tenant's trail", n)
	}
}

// TestMCPHidesDocumentsByTheirLabels: each tool, resource and list sees what the key was granted.
func TestMCPHidesDocumentsByTheirLabels(t *testing.T) {
	w := serve(t)
	b := w.fill(acme, "okapi", "legal")
	for label, sees := range map[string]bool{"legal": true, "sales": false} {
		s := connectMCP(t, w.url+"/mcp", w.keyOf(acme, access.KeyRequest{Labels: []string{label}}), "", nil)
		for name, arguments := range map[string]map[string]any{"fetch": {"id": b.document},
			"cite":   {"passage_id": b.passage},
			"search": {"query": "okapi pump"}, "list_documents": nil} {
			r, _ := useTool(t, s, name, arguments)
			if got := !r.IsError && strings.Contains(said(r), "okapi.txt"); got != sees {
				t.Errorf("%s with %s: %s", name, label, said(r))
			}
		}
		for _, uri := range []string{"documents/" + b.document.String(), "passages/" + b.passage.String()} {
			if _, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "konstruct://" +
				uri}); (err == nil) != sees {
				t.Errorf("%s with %s: %v", uri, label, err)
			}
		}
		if listed, err := s.ListResources(t.Context(), nil); err != nil || len(listed.Resources) == 1 != sees {
			t.Errorf("%+v, %v", listed, err)
		}
	}
}

// TestMCPToolsAreThoseThatThePrincipalMayUse: what it lacks the permission for is not listed, and refused with the
// scopes that would do; the trail has the refusal.
func TestMCPToolsAreThoseThatThePrincipalMayUse(t *testing.T) {
	w := serve(t)
	b := w.fill(acme, "own")
	w.sign(filepath.Join(t.TempDir(), "key"))
	tools, resources, prompts := b.asksOf()
	tools["search"], tools["list_documents"] = map[string]any{"query": "pump"}, map[string]any{}
	tools["log_event"], tools["escalate"] = map[string]any{"action_type": "y"}, map[string]any{"reason": "r"}
	needs := map[string]string{"search": "kb:read", "fetch": "kb:read", "cite": "kb:read", "list_documents": "kb:read",
		"log_event": "events:write", "escalate": "events:write", "check_escalation": "events:read events:write",
		"timeline": "events:read", "verify_event": "evidence:read", "documents": "kb:read", "passages": "kb:read",
		"events": "events:read", "runs": "events:read", "explain_run": "events:read",
		"answer_with_citations": "kb:read"}
	prompts["answer_with_citations"] = map[string]string{"question": "q"}
	for _, may := range []access.Permission{access.KBRead, access.EventsRead, access.EventsWrite, access.EvidenceRead,
		access.AccessRead} {
		key := w.key(acme, may)
		s := connectMCP(t, w.url+"/mcp", key, "", nil)
		allowed := func(name string) bool { return strings.Contains(needs[name], string(may)) }
		want := 0
		for name := range needs {
			if _, is := tools[name]; is && allowed(name) {
				want++
			}
		}
		listed, err := s.ListTools(t.Context(), nil)
		if err != nil || len(listed.Tools) != want {
			t.Errorf("%s: %d tools, want %d, %v", may, len(listed.Tools), want, err)
		}
		refused, before := 0, w.count(acme, audit.Filter{Metadata: audit.Metadata{"error.type": "denied"}})
		check := func(name, method, target string, params any) {
			raw, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
			if err != nil {
				t.Fatal(err)
			}
			r := w.frame(key, string(raw), "Mcp-Protocol-Version", "2025-11-25")
			if !allowed(name) {
				refused++
				if h := r.Header.Get("WWW-Authenticate"); r.StatusCode != http.StatusForbidden ||
					!strings.Contains(h,
						`error="insufficient_scope", scope="`+needs[name]+`", resource_metadata="`+w.url) ||
					r.field("id") != 1.0 {
					t.Errorf("%s %s: %d %s %s", may, target, r.StatusCode, h, r.body)
				}
				return
			}
			if r.StatusCode != 200 || r.field("error") != nil || r.field("result", "isError") == true {
				t.Errorf("%s %s: %d %s", may, target, r.StatusCode, r.body)
			}
		}
		for name, arguments := range tools {
			tool := strings.Fields(name)[0]
			check(tool, "tools/call", name, map[string]any{"name": tool, "arguments": arguments})
		}
		for _, uri := range resources {
			kind, _, _ := strings.Cut(uri, "/")
			check(kind, "resources/read", uri, map[string]any{"uri": "konstruct://" + uri})
		}
		for name, arguments := range prompts {
			check(name, "prompts/get", name, map[string]any{"name": name, "arguments": arguments})
		}
		if n := w.count(acme, audit.Filter{Metadata: audit.Metadata{"error.type": "denied"}}) - before; n != refused {
			t.Errorf("%s: %d of %d refusals are on the trail", may, n, refused)
		}
	}
}

// TestMCPOfOneAgentSeesOneAgent: a key of one agent acts as that agent, and sees nothing of others.
func TestMCPOfOneAgentSeesOneAgent(t *testing.T) {
	w := serve(t)
	b := w.fill(acme, "own")
	other := uuid.New()
	s := connectMCP(t, w.url+"/mcp", w.keyOf(acme, access.KeyRequest{Agent: other, Labels: []string{"*"}}), "", nil)
	for name, arguments := range map[string]map[string]any{"check_escalation": {"id": b.escalation},
		"timeline": {"run": b.run}, "verify_event": {"id": b.event},
		"cite": {"passage_id": b.passage, "event_id": b.retrieval}} {
		if r, _ := useTool(t, s, name, arguments); !r.IsError {
			t.Errorf("%s: %s", name, said(r))
		}
	}
	for _, uri := range []string{"events/" + b.event.String(), "runs/run%20own"} {
		if _, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "konstruct://" + uri}); err == nil {
			t.Errorf("%s is read", uri)
		}
	}
	logged := worked(t, s, "log_event", map[string]any{"action_type": "y"})
	e, err := w.k.Tenant(acme).Events().Get(t.Context(), uuid.MustParse(logged["id"].(string)))
	if err != nil || e.AgentID == nil || *e.AgentID != other {
		t.Errorf("%+v, %v", e, err)
	}
	if r := w.frame(w.keyOf(acme, access.KeyRequest{Agent: other}), `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		"X-Konstruct-Agent", bot.String()); r.StatusCode != http.StatusForbidden {
		t.Errorf("another agent's name: %d %s", r.StatusCode, r.body)
	}
}
