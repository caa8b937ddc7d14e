package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/mcpproxy"
	"github.com/konstruct/konstruct/server"
)

// upstreamMCP is an MCP server of the official SDK that notes the headers it got.
type upstreamMCP struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header
}

func newUpstreamMCP(t *testing.T, o *mcp.StreamableHTTPOptions) *upstreamMCP {
	t.Helper()
	up := &upstreamMCP{}
	s := mcptest.New()
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, o)
	up.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up.mu.Lock()
		up.headers = append(up.headers, r.Header.Clone())
		up.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(up.CloseClientConnections)
	t.Cleanup(up.Close)
	return up
}

// withMCP configures servers by name and URL, with a secret header each.
func withMCP(t testing.TB, servers map[string]string) func(*server.Config) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("upstream-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var list []any
	for name, url := range servers {
		list = append(list, map[string]any{"name": name, "url": url,
			"headers": map[string]any{"Authorization": map[string]string{"file": "token", "prefix": "Bearer "}}})
	}
	raw, err := json.Marshal(map[string]any{"servers": list})
	if err != nil {
		t.Fatal(err)
	}
	all, err := mcpproxy.ParseServers(raw, dir)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *server.Config) { c.MCPServers, c.MCPSessionSecret = all, pepper }
}

// bearer adds a key to each request.
type bearer struct{ key string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.key)
	return http.DefaultTransport.RoundTrip(r)
}

func connectMCP(t testing.TB, url, key, revision string, o *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "tester", Version: "9"}, o)
	s, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url,
		HTTPClient: &http.Client{Transport: bearer{key}}}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func callMCP(t *testing.T, s *mcp.ClientSession, name string, arguments map[string]any) string {
	t.Helper()
	r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	return r.Content[0].(*mcp.TextContent).Text
}

// postMCP sends a frame, and returns the status and the body.
func (w *world) postMCP(name, key, frame string, headers ...string) (int, string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "POST", w.url+"/mcp/proxy/"+name, strings.NewReader(frame))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // a broken stream is what some tests want
	return resp.StatusCode, string(body)
}

// mcpEvents returns a tenant's events about MCP, the oldest first.
func (w *world) mcpEvents(tenant uuid.UUID) (all []audit.StoredEvent) {
	w.t.Helper()
	for e, err := range w.k.Tenant(tenant).Events().All(w.t.Context(), audit.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.Contains(string(e.Metadata), "mcp.method.name") {
			all = append(all, *e)
		}
	}
	return all
}

func metadataOf(t *testing.T, e audit.StoredEvent) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(e.Metadata, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// mcpRevisions are how the two revisions are served.
var mcpRevisions = map[string]*mcp.StreamableHTTPOptions{
	"2026-07-28": {Stateless: true},
	"2025-11-25": {EventStore: mcp.NewMemoryEventStore(nil)},
	"2025-06-18": {JSONResponse: true},
}

func TestMCPCallsOverHTTPAreOnTheTrail(t *testing.T) {
	d := testkit.Database(t)
	for revision, o := range mcpRevisions {
		t.Run(revision, func(t *testing.T) {
			up := newUpstreamMCP(t, o)
			w := serveOn(t, d, withMCP(t, map[string]string{"tools": up.URL}))
			key := w.keyOf(
				acme,
				access.KeyRequest{Agent: uuid.New(), Permissions: []access.Permission{access.GatewayUse}},
			)
			s := connectMCP(t, w.url+"/mcp/proxy/tools", key, revision, &mcp.ClientOptions{
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "accept"}, nil
				}})
			if revision >= "2025-11-25" { // a plain JSON response can't ask the client
				if got := callMCP(t, s, "confirm", map[string]any{"text": "c"}); got != "confirmed" {
					t.Errorf("the tool said %q", got)
				}
			}
			before := len(w.mcpEvents(acme))
			if got := callMCP(t, s, "echo", map[string]any{"text": "grüß dich"}); got != "grüß dich" {
				t.Errorf("the tool said %q", got)
			}
			if _, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "test://motd"}); err != nil {
				t.Fatal(err)
			}
			if got := callMCP(t, s, "fail", nil); got != "the tool failed" {
				t.Errorf("the tool said %q", got)
			}
			if got := callMCP(t, s, "big", map[string]any{"count": 3 << 20}); len(got) != 3<<20 {
				t.Errorf("the tool said %d bytes", len(got))
			}
			all := w.mcpEvents(acme)[before:]
			if len(all) != 4 {
				t.Fatalf("%d events", len(all))
			}
			m := metadataOf(t, all[0])
			if all[0].Action != audit.ActionToolCall || !strings.Contains(*all[0].Output, "grüß dich") ||
				all[0].AgentID == nil || m["mcp.client.name"] != "tester" ||
				m["mcp.server.name"] != mcptest.Name || m["tool_server"] != "tools" ||
				m["network.transport"] != "tcp" ||
				m["mcp.protocol.version"] != revision ||
				(m["mcp.session.id"] != nil) != (revision != "2026-07-28") {
				t.Errorf("%s %s", *all[0].Output, all[0].Metadata)
			}
			if m["mcp.session.id"] != nil && m["gen_ai.conversation.id"] != m["mcp.session.id"] {
				t.Errorf("%v", m)
			}
			if m := metadataOf(t, all[2]); m["error.type"] != "tool_error" {
				t.Errorf("%v", m)
			}
			up.mu.Lock()
			defer up.mu.Unlock()
			for _, h := range up.headers {
				if h.Get("Authorization") != "Bearer upstream-secret" || strings.Contains(fmt.Sprint(h), "kst_") {
					t.Errorf("the server got %v", h)
				}
			}
		})
	}
}

func TestAnotherTenantCannotUseASession(t *testing.T) {
	up := newUpstreamMCP(t, nil)
	w := serve(t, withMCP(t, map[string]string{"tools": up.URL, "others": up.URL}))
	key, other, colleague := w.key(acme), w.key(globex), w.key(acme)
	s := connectMCP(t, w.url+"/mcp/proxy/tools", key, "2025-11-25", nil)
	bound := s.ID()
	own := bound[:strings.LastIndexByte(bound, '.')] // as the server gave it
	for _, c := range []struct {
		key, server, session string
		want                 int
	}{{key, "tools", bound, 200}, {other, "tools", bound, 404}, {colleague, "tools", bound, 404},
		{key, "others", bound, 404},
		{key, "tools", own, 404}, {key, "tools", own + ".AAAA", 404}, {"kst_forged", "tools", bound, 401},
		{key, "none", bound, 404}, {w.key(acme, access.EventsRead, access.EventsWrite), "tools", bound, 403}} {
		got, body := w.postMCP(c.server, c.key, `{"jsonrpc":"2.0","id":7,"method":"tools/call",`+
			`"params":{"name":"echo","arguments":{}}}`, "Mcp-Session-Id", c.session,
			"Mcp-Protocol-Version", "2025-11-25")
		if got != c.want || got >= 400 && !strings.Contains(body, `"error":{"code":`) {
			t.Errorf("%+v: %d %s", c, got, body)
		}
	}
	if n := len(w.mcpEvents(acme)); n != 1 {
		t.Errorf("%d events", n)
	}
	if n := len(w.mcpEvents(globex)); n != 0 {
		t.Errorf("another tenant has %d events", n)
	}
}

func TestAServerIsForItsTenantsOnly(t *testing.T) {
	up := newUpstreamMCP(t, &mcp.StreamableHTTPOptions{Stateless: true})
	all, err := mcpproxy.ParseServers(
		[]byte(`{"servers":[{"name":"tools","url":"`+up.URL+`","tenants":["`+acme.String()+
			`"]}]}`),
		"",
	)
	if err != nil {
		t.Fatal(err)
	}
	w := serve(t, func(c *server.Config) { c.MCPServers = all })
	if got := callMCP(t, connectMCP(t, w.url+"/mcp/proxy/tools", w.key(acme), "", nil), "echo",
		map[string]any{"text": "a"}); got != "a" {
		t.Errorf("the tool said %q", got)
	}
	status, body := w.postMCP("tools", w.key(globex), `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	if status != 404 || !strings.Contains(body, "there is no MCP server") {
		t.Errorf("%d %s", status, body)
	}
}

func TestACallOverHTTPWaitsForAPerson(t *testing.T) {
	d := testkit.Database(t)
	for revision, o := range mcpRevisions {
		t.Run(revision, func(t *testing.T) {
			up := newUpstreamMCP(t, o)
			w := serveOn(t, d, withPolicy(t, d, `{"default":{"tools":[{"server":"tools","tool":"remove","action":"ask",
				"to":"ops","within":"20s"},{"tool":"big","action":"deny","reason":"too big"}]}}`),
				withMCP(t, map[string]string{"tools": up.URL}))
			progress := make(chan string, 10)
			s := connectMCP(t, w.url+"/mcp/proxy/tools", w.key(acme), revision, &mcp.ClientOptions{
				ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
					progress <- r.Params.Message
				}})
			if got := callMCP(t, s, "big", map[string]any{"count": 1}); !strings.Contains(got, "too big") {
				t.Errorf("the tool said %q", got)
			}
			for answer, want := range map[string]string{"approved": "removed x", "deny: not today": "not today"} {
				go func() {
					for range 100 {
						open, err := w.k.Tenant(
							acme,
						).Escalations().List(
							context.Background(),
							audit.EscalationFilter{State: "open"},
						)
						if err == nil && len(open) > 0 {
							if answer == "approved" {
								<-progress // it keeps the client from giving up
							}
							_, err = w.k.Tenant(
								acme,
							).Escalations().Resolve(
								context.Background(),
								open[0].ID,
								"ada",
								answer,
							)
							if err != nil {
								t.Error(err)
							}
							return
						}
						time.Sleep(50 * time.Millisecond)
					}
				}()
				params := &mcp.CallToolParams{Name: "remove", Arguments: map[string]any{"text": "x"}}
				params.SetProgressToken("p")
				r, err := s.CallTool(t.Context(), params)
				if err != nil {
					t.Fatal(err)
				}
				if got := r.Content[0].(*mcp.TextContent).Text; !strings.Contains(got, want) {
					t.Errorf("%s: the tool said %q", answer, got)
				}
				all := w.mcpEvents(acme)
				if m := metadataOf(t, all[len(all)-1]); m["tool_approval.by"] != "ada" ||
					m["tool_approval.words"] != answer {
					t.Errorf("%v", m)
				}
			}
		})
	}
}

func TestRedactionIsOfTheRecordAlone(t *testing.T) {
	d := testkit.Database(t)
	up := newUpstreamMCP(t, &mcp.StreamableHTTPOptions{Stateless: true})
	w := serveOn(t, d, withPolicy(t, d, `{"default":{"tools":[{"server":"tools","tool":"echo","action":"redact",
		"redact":[{"detect":"email"}]}]}}`), withMCP(t, map[string]string{"tools": up.URL, "plain": up.URL}))
	for name, redacted := range map[string]bool{"tools": true, "plain": false} {
		s := connectMCP(t, w.url+"/mcp/proxy/"+name, w.key(acme), "", nil)
		if got := callMCP(t, s, "echo", map[string]any{"text": "ada@example.com"}); got != "ada@example.com" {
			t.Errorf("the tool said %q", got)
		}
		for _, e := range w.mcpEvents(acme) {
			if metadataOf(t, e)["tool_server"] == name && (strings.Contains(*e.Input+*e.Output, "ada@") == redacted ||
				strings.Contains(*e.Input, "[redacted:email:") != redacted) {
				t.Errorf("%s: %s %s", name, *e.Input, *e.Output)
			}
		}
	}
}

// TestAPersonIsAskedOnceAboutACallOfSeveralRounds: the rounds are requests of their own, without a session.
func TestAPersonIsAskedOnceAboutACallOfSeveralRounds(t *testing.T) {
	d := testkit.Database(t)
	up := newUpstreamMCP(t, &mcp.StreamableHTTPOptions{Stateless: true})
	w := serveOn(t, d, withPolicy(t, d, `{"default":{"tools":[{"tool":"confirm","action":"ask","within":"20s"}]}}`),
		withMCP(t, map[string]string{"tools": up.URL}))
	s := connectMCP(t, w.url+"/mcp/proxy/tools", w.key(acme), "2026-07-28", &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept"}, nil
		}})
	escalations := w.k.Tenant(acme).Escalations()
	go func() {
		for range 100 {
			open, err := escalations.List(context.Background(), audit.EscalationFilter{State: "open"})
			if err == nil && len(open) > 0 {
				if _, err := escalations.Resolve(context.Background(), open[0].ID, "ada", "yes"); err != nil {
					t.Error(err)
				}
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	if got := callMCP(t, s, "confirm", map[string]any{"text": "a"}); got != "confirmed" {
		t.Errorf("the tool said %q", got)
	}
	all, err := escalations.List(t.Context(), audit.EscalationFilter{})
	if err != nil || len(all) != 1 {
		t.Errorf("%d escalations, %v", len(all), err)
	}
}
