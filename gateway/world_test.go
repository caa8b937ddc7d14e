package gateway_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	acme   = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	globex = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	bot    = uuid.MustParse("aaaaaaaa-0000-4000-8000-00000000000a")
)

// world is a gateway before a fake upstream, on a trail.
type world struct {
	t    testing.TB
	up   *llmfake.Upstream
	door *tenantdb.Door
	g    *gateway.Gateway
	url  string
}

// settings of a world.
type settings struct {
	policy string
	spool  bool
	change func(*gateway.Config)
}

func keyFile(t testing.TB, key string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// config sends gpt-* and claude-* to a fake upstream.
func config(t testing.TB, up *llmfake.Upstream) gateway.Config {
	key := keyFile(t, llmfake.Key)
	return gateway.Config{Upstreams: []gateway.Upstream{
		{Name: "openai", API: gateway.OpenAI, BaseURL: up.URL + "/openai/v1", KeyFile: key,
			Models: []string{"gpt-*", "embed-*"}},
		{Name: "anthropic", API: gateway.Anthropic, BaseURL: up.URL + "/anthropic", KeyFile: key},
	}, Prices: map[string]gateway.Price{"gpt-*": {Input: 1000, Output: 10_000}}}
}

func start(t testing.TB, s settings) *world {
	t.Helper()
	return startOn(t, testkit.DoorOf(t, testkit.Database(t)), s)
}

func startOn(t testing.TB, door *tenantdb.Door, s settings) *world {
	t.Helper()
	w := &world{t: t, up: testkit.LLM(t), door: door}
	tc := audit.TrailConfig{Logger: slog.New(slog.DiscardHandler)}
	if s.policy != "" {
		p, err := audit.ParsePolicy([]byte(s.policy), []byte(strings.Repeat("k", 32)))
		if err != nil {
			t.Fatal(err)
		}
		tc.Policy = p
	}
	if s.spool {
		tc.SpoolDir = t.TempDir()
	}
	trail, err := audit.OpenTrail(door, tc)
	if err != nil {
		t.Fatal(err)
	}
	c := config(t, w.up)
	if s.change != nil {
		s.change(&c)
	}
	if w.g, err = gateway.New(c, trail, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	w.serve()
	t.Cleanup(func() {
		w.g.Close()
		if err := trail.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// serve serves the gateway as agent bot; the header Tenant says of which tenant.
func (w *world) serve() {
	h := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c := gateway.Call{Caller: gateway.Caller{Tenant: acme, Agent: bot}}
		if r.Header.Get("Tenant") == "globex" {
			c.Caller.Tenant = globex
		}
		r.Header.Del("Tenant")
		api, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/v1/")
		if c.Operation = gateway.Operation(path); c.Operation == gateway.Models {
			w.g.ServeModels(rw, r, gateway.API(api))
			return
		}
		var err error
		if c.Body, err = io.ReadAll(r.Body); err != nil {
			return
		}
		w.g.Serve(rw, r, c)
	}))
	w.url = h.URL
	w.t.Cleanup(h.Close)
}

// reply is what a client got.
type reply struct {
	*http.Response
	body string
	err  error // of reading the body
}

// post sends a body; header values follow in pairs.
func (w *world) post(path, body string, headers ...string) reply {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return reply{res, string(raw), err}
}

// direct sends the same to the upstream itself.
func (w *world) direct(path, body string, headers ...string) reply {
	w.t.Helper()
	url := w.url
	defer func() { w.url = url }()
	w.url = w.up.URL
	return w.post(path, body, append(headers, "Authorization", "Bearer "+llmfake.Key)...)
}

// event is an event of the gateway's.
type event struct {
	*audit.StoredEvent
	meta map[string]any
}

// events returns a tenant's events of a type, oldest first.
func (w *world) events(tenant uuid.UUID, action string) (all []event) {
	w.t.Helper()
	for e, err := range audit.All(w.t.Context(), w.door, tenant, audit.Filter{Action: action}) {
		if err != nil {
			w.t.Fatal(err)
		}
		one := event{StoredEvent: e}
		if err := json.Unmarshal(e.Metadata, &one.meta); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// last waits for the nth call, and returns it.
func (w *world) call(n int) event {
	w.t.Helper()
	var all []event
	testkit.Until(w.t, "the call is on the trail", func() bool {
		all = w.events(acme, audit.ActionLLMCall)
		return len(all) >= n
	})
	if len(all) != n {
		w.t.Fatalf("%d calls are on the trail, want %d", len(all), n)
	}
	return all[n-1]
}

// has compares metadata.
func (e event) has(t testing.TB, want map[string]any) {
	t.Helper()
	for name, v := range want {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(e.meta[name])
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(raw) {
			t.Errorf("%s is %s, want %s", name, got, raw)
		}
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
