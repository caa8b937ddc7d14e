package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/server"
)

// raw speaks to the service without a client's help, and returns what it says until it closes or nothing comes.
func (w *world) raw(request string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		w.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "closed"
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return fmt.Sprintf("%d %s", res.StatusCode, body)
}

func TestEveryAnswerHasTheHeadersOfASafeOne(t *testing.T) {
	w := serve(t)
	for _, path := range []string{"/v1/me", "/healthz", "/reference", "/nowhere"} {
		r := w.ask("GET", path, "", "")
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer"} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if r.Header.Get("Content-Security-Policy") == "" || r.Header.Get("X-Request-ID") == "" ||
			r.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, r.Header)
		}
	}
}

// TestOtherSitesPagesMayNotAsk: no CORS and no cross-site requests but from those that are named.
func TestOtherSitesPagesMayNotAsk(t *testing.T) {
	w := serve(t, func(c *server.Config) { c.Origins = []string{"https://console.example"} })
	key := w.key(acme)
	for _, origin := range []string{"https://evil.example", "null", "https://console.example.evil.example",
		"http://console.example"} {
		w.want(403, "POST", "/v1/events", key, `{"action_type":"x"}`, "Origin", origin)
		w.want(403, "OPTIONS", "/v1/events", "", "", "Origin", origin, "Access-Control-Request-Method", "POST")
	}
	r := w.want(201, "POST", "/v1/events", key, `{"action_type":"x"}`, "Origin", "https://console.example")
	if r.Header.Get("Access-Control-Allow-Origin") != "https://console.example" ||
		r.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v", r.Header)
	}
	if r := w.ask("OPTIONS", "/v1/events", "", "", "Origin", "https://console.example", "Access-Control-Request-Method",
		"POST"); r.StatusCode != 204 {
		t.Errorf("preflight: %d", r.StatusCode)
	}
	w.want(201, "POST", "/v1/events", key, `{"action_type":"x"}`, "Origin", w.url)
}

// TestWhatIsSentCanForgeNoLineOfTheLog, nor a header of an answer.
func TestWhatIsSentCanForgeNoLineOfTheLog(t *testing.T) {
	w := serve(t)
	evil := "x\tlevel=ERROR msg=forged"
	for _, r := range []reply{w.ask("GET", "/v1/me", w.key(acme), "", "X-Request-ID", evil),
		w.ask("GET", "/nowhere%0d%0alevel=ERROR%20msg=forged", "", "")} {
		if id := r.Header.Get("X-Request-ID"); strings.Contains(id, "forged") || r.Header.Get("Level") != "" {
			t.Errorf("%v", r.Header)
		}
	}
	if !strings.Contains(w.log.String(), "msg=answered") || strings.Contains(w.log.String(), "\nlevel=ERROR") ||
		strings.Contains(w.log.String(), "msg=forged") {
		t.Errorf("the log: %s", w.log)
	}
	if r := w.ask("GET", "/v1/me", w.key(acme), "", "X-Request-ID",
		"trace-1.2:3"); r.Header.Get("X-Request-ID") != "trace-1.2:3" {
		t.Errorf("a good id is %q", r.Header.Get("X-Request-ID"))
	}
}

func TestWhatIsTooMuchIsRefused(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	w.want(414, "GET", "/v1/events?user_id="+strings.Repeat("x", 9000), key, "")
	if r := w.ask("GET", "/v1/me", strings.Repeat("x", 30_000), ""); r.StatusCode != 401 {
		t.Errorf("a long credential: %d", r.StatusCode)
	}
	w.want(413, "POST", "/v1/events/batch", key, `{"events":[{"action_type":"x","input_summary":"`+
		strings.Repeat("x", 33<<20)+`"}]}`)
	var b bytes.Buffer
	b.WriteString(`{"events":[{"action_type":"x"}`)
	for range 10_000 {
		b.WriteString(`,{"action_type":"x"}`)
	}
	b.WriteString("]}")
	w.want(422, "POST", "/v1/events/batch", key, b.String())
	if r := w.upload(key, "large.bin", strings.Repeat("x", 65<<20)); r.StatusCode != 413 {
		t.Errorf("a large file: %d %.200s", r.StatusCode, r.body)
	}
	w.want(415, "POST", "/v1/events", key, `{"action_type":"x"}`, "Content-Encoding", "gzip")
	for name, request := range map[string]string{
		"two credentials": "GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key +
			"\r\nAuthorization: Bearer " + key + "\r\nConnection: close\r\n\r\n",
		"two lengths": "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: " +
			"6\r\n\r\nhello!",
		"length and chunked": "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: " +
			"chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
		"no host":           "GET /v1/me HTTP/1.1\r\n\r\n",
		"a space in a name": "GET /v1/me HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
	} {
		if got := w.raw(request); !strings.HasPrefix(got, "4") && got != "closed" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestASlowClientIsLeft: one that sends its request's head or body a byte at a time holds nothing for long.
func TestASlowClientIsLeft(t *testing.T) {
	w := serve(t)
	ctx := t.Context()
	addr := make(chan net.Addr, 1)
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		done <- w.s.Run(untilClosed(ctx, stop), server.Listening{Address: "127.0.0.1:0", Ready: func(a net.Addr) {
			addr <- a
		}, HeaderTime: 500 * time.Millisecond})
	}()
	c, err := net.Dial("tcp", (<-addr).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begin := time.Now()
	for i := 0; ; i++ {
		if _, err := c.Write([]byte("GET /v1/me HTTP/1.1\r\nX: "[i%20 : i%20+1])); err != nil {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal("a slow client is still there after ten seconds")
		}
		time.Sleep(50 * time.Millisecond)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestProxiesAreBelievedWhenTheyAreNamed, and nobody else is.
func TestProxiesAreBelievedWhenTheyAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		proxies []netip.Prefix
		secure  bool
		client  string
	}{
		"a stranger's": {nil, false, "client=127.0.0.1 "},
		"a proxy's": {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
			true, "client=192.0.2.7 "},
	} {
		w := serve(t, func(s *server.Config) { s.Proxies = c.proxies })
		r := w.ask("GET", "/healthz", "", "", "X-Forwarded-Proto", "https", "X-Forwarded-For",
			"198.51.100.1, 192.0.2.7, 10.1.1.1")
		if got := r.Header.Get("Strict-Transport-Security") != ""; got != c.secure {
			t.Errorf("%s X-Forwarded-Proto: %t", name, got)
		}
		w.soon(name+" X-Forwarded-For: "+c.client, func() bool { return strings.Contains(w.log.String(), c.client) })
	}
}

// TestFiguresNameNoSecretsAndFewTenants.
func TestFiguresNameNoSecretsAndFewTenants(t *testing.T) {
	w := serve(t)
	for i := range 105 {
		key := w.keyOf(tenantOf(i), access.KeyRequest{Permissions: []access.Permission{access.EventsRead}})
		w.want(200, "GET", "/v1/me", key, "")
	}
	w.want(401, "GET", "/v1/me", "kst_nonsense", "")
	w.want(404, "GET", "/metrics", "", "") // they are not for whoever reaches the service
	m := w.figures("localhost")
	if w.figures("evil.example") == m {
		t.Error("a page whose name leads here reads them")
	}
	if n := strings.Count(m, "konstruct_http_tenant_requests_total{"); n != 101 ||
		!strings.Contains(m, `tenant="other"} 5`) {
		t.Errorf("%d lines of tenants", n)
	}
	for _, want := range []string{`konstruct_http_request_duration_seconds_bucket{method="GET",route="/v1/me",` +
		`status="200"`, "konstruct_http_requests_in_flight", "konstruct_audit_", "go_goroutines"} {
		if !strings.Contains(m, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(m, "kst_") {
		t.Error("a key is among the figures")
	}
}

func TestTheServiceSaysHowItIs(t *testing.T) {
	w := serve(t)
	if r := w.ask("GET", "/readyz", "", ""); r.StatusCode != 200 || r.field("ready") != true {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	for _, path := range []string{"/openapi.json", "/openapi.yaml", "/reference"} {
		if r := w.ask("GET", path, "", ""); r.StatusCode != 200 || !strings.Contains(r.body, "/v1/events/batch") ||
			strings.Contains(r.body, "cdn") || strings.Contains(r.body, "<script") {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	w.want(404, "GET", "/v1/nowhere", w.key(acme), "")
}

func TestAMethodThatIsNotServedIsToldApart(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	if r := w.want(405, "PUT", "/v1/events", key, ""); r.Header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("allowed: %s", r.Header.Get("Allow"))
	}
	w.want(405, "DELETE", "/v1/events/"+bot.String(), key, "")
	for range 2 {
		w.want(405, "PUT", "/v1/holds", key, "{}", "Idempotency-Key", "k")
	}
	w.want(405, "PUT", "/v1/jobs/delete", key, "[]", "Idempotency-Key", "k")
	w.want(405, "TRACE", "/v1/me", key, "")
	w.want(405, "GET", "/v1/jobs/cancel", key, "")
	w.want(405, "DELETE", "/v1/models/serving", key, "")
	w.want(404, "POST", "/v1/nowhere", key, "{}")
}
