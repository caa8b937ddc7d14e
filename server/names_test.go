package server_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestProblemsNameTheFieldThatWasSent and say nothing in the words of Go's parsers.
func TestProblemsNameTheFieldThatWasSent(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	for _, c := range []struct{ method, path, body, at string }{
		{"POST", "/v1/events", `{"action_type":"x","metadata":[]}`, "body.metadata"},
		{"POST", "/v1/events", `{"action_type":"x","latency_ms":1e3}`, "body.latency_ms"},
		{"POST", "/v1/events", `{"action_type":"x","agent_id":"1"}`, "body.agent_id"},
		{"POST", "/v1/events/batch", `{"events":[{"action_type":"x","metadata":[]}]}`, "body.events[0].metadata"},
		{"POST", "/v1/events/batch", `{"events":[{"action_type":"x","latency_ms":1e3}]}`, "body.events[0].latency_ms"},
		{"POST", "/v1/events/batch", `{"events":[{"action_type":"x","agent_id":"1"}]}`, "body.events[0].agent_id"},
		{"POST", "/v1/events/batch", `{"events":[{"action_type":"x","agent_id":1}]}`, "body.events[0].agent_id"},
		{"POST", "/v1/events/batch", `{"events":[{"action_type":"x","created_at":"now"}]}`,
			"body.events[0].created_at"},
		{"POST", "/v1/events/batch", `{"events":[{"action_type":1}]}`, "body.events[0].action_type"},
		{"POST", "/v1/search", `{"text":"x","where":["label=a","nonsense"]}`, "body.where[1]"},
		{"POST", "/v1/search", `{"text":"x","where":["label=a","ingested>=soon"]}`, "body.where[1]"},
		{"POST", "/v1/search", `{"text":"x","where":["document=17"]}`, "body.where[0]"},
		{"POST", "/v1/search/batch", `{"questions":[{"text":"x"},{"text":"x","where":["a=b"]}]}`,
			"body.questions[1].where[0]"},
		{"POST", "/v1/search", `{"text":"x","rerank":true}`, "body.rerank"},
		{"POST", "/v1/jobs/cancel", `{"ids":["x"]}`, "body.ids[0]"},
		{"POST", "/v1/documents/from-url", `{"url":"http://a\u0001b/"}`, "body.url"},
		{"GET", "/v1/events/x", "", "path.id"}, {"GET", "/v1/events?agent_id=x", "", "query.agent_id"},
		{"GET", "/v1/documents/x", "", "path.id"},
	} {
		r := w.ask(c.method, c.path, key, c.body)
		if !r.named(c.at) {
			t.Errorf("%s %s: %d %s, want %s", c.path, c.body, r.StatusCode, r.body, c.at)
		}
		for _, word := range []string{"json:", "Go ", "uuid:", "invalid UUID", "net/url", "parsing time", "Time.",
			"search: search", "Config.", "EXTRA", "where: "} {
			if strings.Contains(r.body, word) {
				t.Errorf("%s %s: %s has %q", c.path, c.body, r.body, word)
			}
		}
	}
	for path, body := range map[string]string{"/v1/events": `{"action_type":"x","metadata":null,"user_id":null}`,
		"/v1/events/batch": `{"events":[{"action_type":"x","metadata":null}]}`} { // null counts as missing
		w.want(201, "POST", path, key, body)
	}
}

// TestEveryErrorIsAProblem: a path that net/http would redirect is not found.
func TestEveryErrorIsAProblem(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	for _, path := range []string{"/v1/documents/..", "//v1/me", "/v1//me", "/v1/./me", "/v1/events/../me", "/v1/me/",
		"/v1/log/tile/0", "/v1/log/tile/0/", "/v1/me/..", "/v1/documents/%2e%2e", "/x/.."} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			r, err := http.NewRequestWithContext(t.Context(), method, w.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.URL.Opaque = strings.TrimPrefix(w.url, "http:") + path
			r.Header.Set("Authorization", "Bearer "+key)
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			}}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode < 400 || res.StatusCode >= 500 ||
				res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s: %d %s", method, path, res.StatusCode, res.Header)
			}
		}
	}
	w.want(200, "GET", "/v1/me", key, "")
	w.want(200, "GET", "/", "", "")
}
