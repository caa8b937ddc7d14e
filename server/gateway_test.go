package server_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
)

const chatBody = `{"model":"gpt-fake-5","messages":[{"role":"user","content":"Hello"}]}`

// withGateway serves the vendors' APIs before a fake upstream.
func withGateway(t testing.TB, up *llmfake.Upstream) func(*server.Config) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(llmfake.Key), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *server.Config) {
		g, err := gateway.New(gateway.Config{Upstreams: []gateway.Upstream{
			{Name: "openai", API: gateway.OpenAI, BaseURL: up.URL + "/openai/v1", KeyFile: key,
				Models: []string{"gpt-*", "embed-*"}},
			{Name: "own", API: gateway.OpenAI, BaseURL: up.URL + "/openai/v1", Models: []string{"own-*"}},
			{Name: "anthropic", API: gateway.Anthropic, BaseURL: up.URL + "/anthropic", KeyFile: key},
		}}, c.Konstruct.Trail(), c.Logger)
		if err != nil {
			t.Fatal(err)
		}
		c.Gateway = g
	}
}

// TestGatewayAuthenticates: the key where vendors' clients send theirs, or beside it; refusals in the vendor's form.
func TestGatewayAuthenticates(t *testing.T) {
	up := testkit.LLM(t)
	w := serve(t, withGateway(t, up))
	key, logs := w.key(acme, access.GatewayUse), w.key(acme, access.EventsWrite)
	bound := w.keyOf(acme, access.KeyRequest{Permissions: []access.Permission{access.GatewayUse}, Agent: bot})
	const chat, messages = "/openai/v1/chat/completions", "/anthropic/v1/messages"
	for i, c := range []struct {
		path, body string
		headers    []string
		status     int
		says       string
	}{
		{chat, chatBody, []string{"Authorization", "Bearer " + key}, 200, "chatcmpl-fake"},
		{messages, `{"model":"claude-fake-5"}`, []string{"X-Api-Key", key}, 200, "msg_fake"},
		{messages, `{"model":"claude-fake-5"}`, []string{"Authorization", "Bearer " + key}, 200, "msg_fake"},
		{chat, `{"model":"own-a"}`, []string{"Authorization", "Bearer " + llmfake.Key, "X-Konstruct-Key", key}, 200,
			"chatcmpl-fake"},
		{chat, chatBody, []string{"Authorization", "Bearer " + bound}, 200, "chatcmpl-fake"},
		{chat, chatBody, nil, 401, `{"error":{"type":"invalid_request_error","message":"header.Authorization: there`},
		{chat, chatBody, []string{"Authorization", "Bearer sk-other"}, 401, `"code":"invalid_api_key"`},
		{chat, chatBody, []string{"Authorization", "Bearer kst_other"}, 401, `"code":"invalid_api_key"`},
		{messages, `{}`, nil, 401, `{"type":"error","error":{"type":"authentication_error"`},
		{chat, chatBody, []string{"Authorization", "Bearer " + logs}, 403, `the permission gateway:use`},
		{chat, chatBody, []string{"Authorization", "Bearer " + bound, "X-Konstruct-Agent", acme.String()}, 403,
			"acts as agent"},
		{chat, chatBody, []string{"Authorization", "Bearer " + key, "X-Konstruct-Agent", "nobody"}, 422,
			"X-Konstruct-Agent"},
		{"/openai/v1/assistants", `{}`, []string{"Authorization", "Bearer " + key}, 404, `"code":"not_found"`},
		{"/anthropic/v1/batches", `{}`, []string{"X-Api-Key", key}, 404, `"type":"not_found_error"`},
	} {
		r := w.ask("POST", c.path, "", c.body, c.headers...)
		if r.StatusCode != c.status || !strings.Contains(r.body, c.says) ||
			r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%d: %d %s %s", i, r.StatusCode, r.Header.Get("Content-Type"), r.body)
		}
	}
	r := w.ask("GET", "/openai/v1/chat/completions", key, "")
	if r.StatusCode != 405 || r.Header.Get("Allow") != "POST" {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := w.ask("GET", "/openai/v1/models", logs, ""); r.StatusCode != 403 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if log := w.log.String(); strings.Contains(log, key) || strings.Contains(log, llmfake.Key) {
		t.Error("the log has a key")
	}
	agents := 0
	for e, err := range w.k.Tenant(acme).Events().All(t.Context(), audit.Filter{Action: audit.ActionLLMCall}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.AgentID != nil && *e.AgentID == bot {
			agents++
		}
	}
	if agents != 1 || w.count(acme, audit.Filter{Action: audit.ActionLLMCall}) != 5 ||
		w.count(globex, audit.Filter{}) != 0 {
		t.Errorf("%d events, %d of the agent", w.count(acme, audit.Filter{Action: audit.ActionLLMCall}), agents)
	}
}

// TestGatewayPassesThroughTheService: bytes stay as they are, compressed by nobody, and a retry's key is not ours.
func TestGatewayPassesThroughTheService(t *testing.T) {
	up := testkit.LLM(t)
	w := serve(t, withGateway(t, up))
	key := w.key(acme, access.GatewayUse)
	body := strings.Replace(chatBody, "Hello", strings.Repeat("Hello ", 1000), 1)
	for range 2 {
		r := w.ask("POST", "/openai/v1/chat/completions", key, body, "Idempotency-Key", "again", "Accept-Encoding",
			"gzip, br")
		if r.StatusCode != 200 || r.Header.Get("Content-Encoding") != "" || r.Header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%d %v", r.StatusCode, r.Header)
		}
	}
	if n := len(up.Requests()); n != 2 || up.Last().Header.Get("Idempotency-Key") != "again" {
		t.Errorf("%d requests, %v", n, up.Last().Header)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/anthropic/v1/messages", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", key)
	r.Host = "konstruct.internal" // not listed, and no page of another site can send a key
	if got := w.do(r); got.StatusCode != 400 || !strings.Contains(got.body, "names a model") {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
}

// TestPromptsHaveALimit: a larger one is refused in the vendor's form, and 32 MiB pass.
func TestPromptsHaveALimit(t *testing.T) {
	up := testkit.LLM(t)
	w := serve(t, withGateway(t, up))
	key := w.key(acme, access.GatewayUse)
	for size, status := range map[int]int{20 << 20: 200, 33 << 20: 413} {
		body := strings.Replace(chatBody, "Hello", strings.Repeat("x", size), 1)
		r := w.ask("POST", "/openai/v1/chat/completions", key, body)
		if r.StatusCode != status || status == 413 && !strings.Contains(r.body, `"code":"request_too_large"`) {
			t.Errorf("%d bytes: %d %.300s", size, r.StatusCode, r.body)
		}
	}
	for e, err := range w.k.Tenant(acme).Events().All(t.Context(), audit.Filter{Action: audit.ActionLLMCall}) {
		if err != nil || e.Input == nil || len(*e.Input) > audit.MaxSummary || len(e.Metadata) > audit.MaxMetadata {
			t.Errorf("%v", err)
		}
	}
}

// TestGatewayStreamsOverHTTP2: the same bytes, as they arrive.
func TestGatewayStreamsOverHTTP2(t *testing.T) {
	up := testkit.LLM(t)
	w := serve(t, withGateway(t, up))
	addr := w.listen(server.Listening{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	var got [2]string
	for i, url := range []string{"http://" + addr, up.URL} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/openai/v1/chat/completions",
			strings.NewReader(strings.Replace(chatBody, "{", `{"stream":true,`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		use := http.DefaultTransport
		if r.Header.Set("Authorization", "Bearer "+llmfake.Key); i == 0 {
			r.Header.Set("Authorization", "Bearer "+w.key(acme, access.GatewayUse))
			use = transport
		}
		r.Header.Set("X-Fake", "slow")
		res, err := use.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 10)
		if _, err := io.ReadFull(res.Body, first); err != nil || i == 0 && w.count(acme, audit.Filter{}) != 1 {
			t.Errorf("%v: %d events when the first bytes are here", err, w.count(acme, audit.Filter{}))
		}
		rest, err := io.ReadAll(res.Body)
		if err != nil || i == 0 && res.ProtoMajor != 2 {
			t.Errorf("%v %s", err, res.Proto)
		}
		res.Body.Close()
		got[i] = string(first) + string(rest)
	}
	if got[0] != got[1] {
		t.Errorf("%q, want %q", got[0], got[1])
	}
}
