// Package llmfake is an upstream for tests of the gateway: it speaks OpenAI's and Anthropic's APIs as they are on the
// wire, and fails as they fail where a request's header X-Fake says so.
package llmfake

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Key is the key that the upstream accepts.
const Key = "sk-fake-0123456789abcdef0123456789abcdef"

// Usage of every call, as the gateway must record it: the total of input with what is read from and written to the
// cache, and the total of output with reasoning.
const (
	Input     = 2006
	CacheRead = 1920
	Written   = 16
	Output    = 300
	Reasoning = 128
)

// Text is what the model answers; its characters are of one to four bytes.
const Text = "A pump — für 30 days 🚰 may be returned."

// Upstream is a running upstream.
type Upstream struct {
	URL string

	mu       sync.Mutex
	requests []Request
	Stall    time.Duration // how long "stall" is silent
}

// Request is what the upstream was sent.
type Request struct {
	Path   string
	Header http.Header
	Body   []byte
}

// Start starts an upstream on this machine, and returns it with what ends it.
func Start() (u *Upstream, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("llmfake: %w", err)
	}
	u = &Upstream{Stall: time.Minute, URL: "http://" + l.Addr().String()}
	s := &http.Server{Handler: u, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(l) }() // until it is closed
	return u, s.Close, nil
}

// Requests returns what the upstream was sent until now.
func (u *Upstream) Requests() []Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]Request(nil), u.requests...)
}

// Last returns the last request.
func (u *Upstream) Last() Request {
	all := u.Requests()
	if len(all) == 0 {
		return Request{}
	}
	return all[len(all)-1]
}

// asked is what the upstream reads of a request.
type asked struct {
	Model         string            `json:"model"`
	Stream        bool              `json:"stream"`
	Messages      []json.RawMessage `json:"messages"`
	Input         json.RawMessage   `json:"input"`
	Tools         []json.RawMessage `json:"tools"`
	ToolChoice    json.RawMessage   `json:"tool_choice"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// callsTool reports whether the model answers by a tool call: it has tools, and was not given a result yet.
func (q *asked) callsTool() bool {
	if len(q.Tools) == 0 {
		return false
	}
	said := string(q.Input)
	for _, m := range q.Messages {
		said += string(m)
	}
	return !strings.Contains(said, "tool_call_id") && !strings.Contains(said, "tool_use_id") &&
		!strings.Contains(said, "function_call_output")
}

// ServeHTTP implements http.Handler.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	u.mu.Lock()
	if u.requests = append(u.requests, Request{r.URL.Path, r.Header.Clone(), body}); len(u.requests) > 10_000 {
		u.requests = u.requests[5000:]
	}
	u.mu.Unlock()
	anthropic := strings.HasPrefix(r.URL.Path, "/anthropic/")
	w.Header().Set("X-Request-Id", "req_fake")
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if anthropic && key == "" {
		key = r.Header.Get("X-Api-Key")
	}
	if key != Key {
		u.fail(w, anthropic, 401, "invalid_api_key", "Incorrect API key provided.")
		return
	}
	if r.Method == http.MethodGet {
		u.models(w, anthropic)
		return
	}
	var q asked
	if err := json.Unmarshal(body, &q); err != nil {
		u.fail(w, anthropic, 400, "invalid_request_error", "We could not parse the JSON body of your request.")
		return
	}
	how := r.Header.Get("X-Fake")
	if rest, later := strings.CutPrefix(how, "then-"); later { // once the model has what it searched for
		if how = ""; q.searchTool() != "" {
			if _, answered := q.results(); answered {
				how = rest
			}
		}
	}
	if u.broken(w, r, anthropic, how) {
		return
	}
	s := &script{u: u, w: w, r: r, how: how, q: &q}
	switch strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/anthropic"), "/openai") {
	case "/v1/chat/completions":
		s.chat()
	case "/v1/responses":
		s.responses()
	case "/v1/embeddings":
		s.embeddings()
	case "/v1/messages":
		s.messages()
	case "/v1/messages/count_tokens":
		s.whole(`{"input_tokens":14}`)
	default:
		u.fail(w, anthropic, 404, "not_found_error", "Unknown request URL.")
	}
}

// broken answers as an upstream that does not work.
func (u *Upstream) broken(w http.ResponseWriter, r *http.Request, anthropic bool, how string) bool {
	switch how {
	case "429":
		w.Header().Set("Retry-After", "7")
		u.fail(w, anthropic, 429, "rate_limit_exceeded", "Rate limit reached.")
	case "500":
		u.fail(w, anthropic, 500, "server_error", "The server had an error.")
	case "529":
		u.fail(w, anthropic, 529, "overloaded_error", "Overloaded")
	case "html":
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.WriteHeader(502)
		fmt.Fprint(w, "<html><head><title>502 Bad Gateway</title></head></html>\n")
	case "html200":
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		fmt.Fprint(w, "<html><body>Sign in to the wireless network</body></html>\n")
	case "redirect":
		w.Header().Set("Location", "https://attacker.example/steal")
		w.WriteHeader(307)
	case "silent":
		u.stall(r)
	default:
		return false
	}
	return true
}

// stall is silent until the caller leaves.
func (u *Upstream) stall(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-time.After(u.Stall):
	}
}

func (u *Upstream) fail(w http.ResponseWriter, anthropic bool, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if anthropic {
		fmt.Fprintf(w, `{"type":"error","error":{"type":%q,"message":%q},"request_id":"req_fake"}`, code, text)
		return
	}
	fmt.Fprintf(w, "{\n  \"error\": {\n    \"message\": %q,\n    \"type\": \"requests\",\n    \"param\": null,\n"+
		"    \"code\": %q\n  }\n}\n", text, code)
}

func (u *Upstream) models(w http.ResponseWriter, anthropic bool) {
	w.Header().Set("Content-Type", "application/json")
	if anthropic {
		fmt.Fprint(w, `{"data":[{"type":"model","id":"claude-fake-5","display_name":"Claude Fake 5",`+
			`"created_at":"2026-01-01T00:00:00Z"}],"has_more":false,"first_id":"claude-fake-5","last_id":"claude-fake-5"}`)
		return
	}
	fmt.Fprint(w, `{"object":"list","data":[{"id":"gpt-fake-5","object":"model","created":1767225600,`+
		`"owned_by":"fake"},{"id":"embed-fake","object":"model","created":1767225600,"owned_by":"fake"}]}`)
}
