package server_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/konstruct/konstruct/server"
)

// figures are what is at /metrics for whoever asks by a name.
func (w *world) figures(host string) string {
	r := httptest.NewRequest("GET", "http://"+host+"/metrics", nil)
	answer := httptest.NewRecorder()
	w.s.Metrics().ServeHTTP(answer, r)
	return answer.Body.String()
}

// TestAPageWhoseNameLeadsHereReadsNothing (DNS rebinding): without a key a request must come under a name of the
// service, and so must one that a browser sends from a page of that very name.
func TestAPageWhoseNameLeadsHereReadsNothing(t *testing.T) {
	w := serve(t, func(c *server.Config) {
		c.Hosts = server.Hosts{"audit.example"}
		c.Origins = []string{"https://console.example"}
	})
	key := w.key(acme)
	ask := func(host, method, path, key string, headers ...string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return w.do(r).StatusCode
	}
	for _, host := range []string{"evil.example", "evil.example:7117", "audit.example.evil.example",
		"localhost.evil.example", "127.0.0.1.evil.example", "xaudit.example", "evil.example.", "0x7f000001.example"} {
		for _, path := range []string{"/", "/reference", "/openapi.json", "/v1/me", "/nowhere"} {
			if got := ask(host, "GET", path, ""); got != 421 {
				t.Errorf("%s of %s: %d", path, host, got)
			}
		}
		if got := ask(host, "GET", "/v1/me", key, "Origin", "http://"+host); got != 421 {
			t.Errorf("a page of %s: %d", host, got)
		}
		if got := ask(host, "GET", "/v1/me", key, "Cookie", "a=b"); got != 421 {
			t.Errorf("a browser at %s: %d", host, got)
		}
		if got := ask(host, "GET", "/v1/me", key); got != 200 { // a key is known to whoever holds it alone
			t.Errorf("a key at %s: %d", host, got)
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if got := ask(host, "GET", path, ""); got != 200 {
				t.Errorf("%s of %s: %d", path, host, got)
			}
		}
	}
	for _, host := range []string{"audit.example", "AUDIT.example:443", "audit.example.", "localhost",
		"localhost:7117", "127.0.0.1", "127.0.0.1:7117", "[::1]:7117", "10.1.2.3"} {
		if got := ask(host, "GET", "/reference", ""); got != 200 {
			t.Errorf("/reference of %s: %d", host, got)
		}
		if got := ask(host, "GET", "/v1/me", key, "Origin", "http://"+host); got != 200 {
			t.Errorf("a page of %s: %d", host, got)
		}
	}
	if got := ask("api.example", "OPTIONS", "/v1/me", "", "Origin", "https://console.example",
		"Access-Control-Request-Method", "GET"); got != 204 {
		t.Errorf("a preflight of a site that is named: %d", got)
	}
}

func TestNamesOfTheServiceAreRead(t *testing.T) {
	if h, err := server.ParseHosts(" audit.example, API.example,, "); err != nil || len(h) != 2 ||
		!h.Known("api.example:1") {
		t.Errorf("%v, %v", h, err)
	}
	for _, bad := range []string{"https://audit.example", "audit.example:443", "audit example", "*.example", "a..b"} {
		if h, err := server.ParseHosts(bad); err == nil {
			t.Errorf("%q: %v", bad, h)
		}
	}
}
