package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
)

// short are times that a test can wait for.
func short(c *gateway.Config) {
	c.FirstByteTimeout, c.IdleTimeout = gateway.Duration(300*time.Millisecond), gateway.Duration(300*time.Millisecond)
}

// TestFailuresAreRecordedAsWhatTheyWere: what the client gets, and what the trail says, of each way to fail.
func TestFailuresAreRecordedAsWhatTheyWere(t *testing.T) {
	w := start(t, settings{change: short})
	n := 0
	for _, o := range operations() {
		for _, c := range []struct {
			how, errorType string
			status         int
			streams        bool // only of streams
			broken         bool // the client's connection breaks, too
		}{
			{how: "429", status: 429, errorType: "rate_limit_exceeded"},
			{how: "500", status: 500, errorType: "server_error"},
			{how: "529", status: 529, errorType: "overloaded_error"}, {how: "html", status: 502, errorType: "502"},
			{how: "html200", status: 200, errorType: "invalid_response"},
			{how: "redirect", status: 502, errorType: "upstream_redirect"},
			{how: "silent", status: 504, errorType: "first_byte_timeout"},
			{how: "break", status: 200, errorType: "upstream_closed", streams: true, broken: true},
			{how: "break-utf8", status: 200, errorType: "upstream_closed", streams: true, broken: true},
			{how: "stall", status: 200, errorType: "idle_timeout", streams: true, broken: true},
			{how: "end-early", status: 200, errorType: "incomplete_stream", streams: true},
			{how: "error-event", status: 200, streams: true},
		} {
			if c.streams && !o.streams() {
				continue
			}
			r := w.post(o.path, o.body+"}", "X-Fake", c.how)
			n++
			e := w.call(n)
			if c.how == "error-event" {
				c.errorType = "server_error"
				if o.path == messagesPath {
					c.errorType = "overloaded_error"
				}
			}
			if r.StatusCode != c.status || (r.err != nil) != c.broken {
				t.Errorf("%s %s: %d %s %v", o.name, c.how, r.StatusCode, r.body, r.err)
			}
			e.has(t, map[string]any{"error.type": c.errorType, "gen_ai.request.model": o.model()})
			if c.streams {
				if out := text(e.Output); out == "" || !strings.HasPrefix(llmfake.Text, out) {
					t.Errorf("%s %s: %q is recorded", o.name, c.how, out)
				}
				if o.path != messagesPath || c.how == "error-event" {
					continue
				}
				// Its input is told when a stream begins, its output at its end.
				e.has(t, map[string]any{"gen_ai.usage.input_tokens": llmfake.Input, "gen_ai.usage.output_tokens": nil,
					"konstruct.gateway.usage": "partial", "gen_ai.response.finish_reasons": []string{"error"}})
			}
		}
	}
}

// TestBrokenBodiesAreRefused: half of a response that is no stream is no response.
func TestBrokenBodiesAreRefused(t *testing.T) {
	w := start(t, settings{})
	r := w.post(chatPath, operations()[0].body+"}", "X-Fake", "break")
	if r.StatusCode != 502 || !strings.Contains(r.body, `"code":"upstream_error"`) {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	w.call(1).has(t, map[string]any{"error.type": "upstream_closed"})
}

// TestUnreachableUpstreamsAreNamed: nobody listens.
func TestUnreachableUpstreamsAreNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	w := start(t, settings{change: func(c *gateway.Config) {
		for i := range c.Upstreams {
			c.Upstreams[i].BaseURL = "http://" + l.Addr().String()
		}
	}})
	for i, o := range operations()[3:5] {
		r := w.post(o.path, o.body+"}")
		want := `{"error":{"type":"server_error","message":"Upstream openai: it can't be connected to.",` +
			`"code":"upstream_error"}}`
		if o.path == messagesPath {
			want = `{"type":"error","error":{"type":"api_error",` +
				`"message":"Upstream anthropic: it can't be connected to."}}`
		}
		if r.StatusCode != 502 || strings.TrimSpace(r.body) != want {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
		w.call(i+1).has(t, map[string]any{"error.type": "connect_failed", "http.response.status_code": nil})
	}
}

// TestClientsThatLeaveAreRecorded: their upstream call ends, and what they had is on the trail.
func TestClientsThatLeaveAreRecorded(t *testing.T) {
	w := start(t, settings{})
	for i, o := range []operation{operations()[1], operations()[3], operations()[5]} {
		ctx, leave := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+o.path, strings.NewReader(o.body+"}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Fake", "stall")
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		leave()
		res.Body.Close()
		e := w.call(i + 1)
		e.has(t, map[string]any{"error.type": "client_closed", "http.response.status_code": 200})
	}
}

// TestStreamsWithoutUsageHaveNoTokens: what the vendor does not tell is not invented, and is marked.
func TestStreamsWithoutUsageHaveNoTokens(t *testing.T) {
	w := start(t, settings{})
	o := operations()[0]
	w.post(o.path, o.body+`,"stream":true}`)
	e := w.call(1)
	e.has(t, map[string]any{"gen_ai.usage.input_tokens": nil, "gen_ai.usage.output_tokens": nil,
		"konstruct.gateway.usage": "none", "error.type": nil})
	if text(e.Output) != llmfake.Text {
		t.Errorf("%q", text(e.Output))
	}
	if n, _ := e.meta["konstruct.gateway.tokens"].(float64); n < 20 || n > 100 {
		t.Errorf("%g tokens count for a budget", n)
	}
}

// TestCompressedResponsesPassAndAreRead: the bytes stay compressed, and the event has their text.
func TestCompressedResponsesPassAndAreRead(t *testing.T) {
	w := start(t, settings{})
	o := operations()[0]
	r := w.post(o.path, o.body+"}", "X-Fake", "gzip", "Accept-Encoding", "gzip, snappy;q=0.1")
	d := w.direct(o.path, o.body+"}", "X-Fake", "gzip", "Accept-Encoding", "gzip")
	if r.Header.Get("Content-Encoding") != "gzip" || r.body != d.body || !strings.HasPrefix(r.body, "\x1f\x8b") {
		t.Errorf("%q %q", r.Header.Get("Content-Encoding"), r.body)
	}
	if got := w.up.Requests()[0].Header.Get("Accept-Encoding"); got != "gzip" {
		t.Errorf("the upstream may answer in %q", got)
	}
	if e := w.call(1); text(e.Output) != llmfake.Text {
		t.Errorf("%q", text(e.Output))
	}
}

// TestLargeResponsesPassInBoundedMemory: 64 MiB of embeddings, whose tokens stand at the end.
func TestLargeResponsesPassInBoundedMemory(t *testing.T) {
	const size = 64 << 20
	up := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprint(rw, `{"object":"list","data":[`)
		line := strings.Repeat("0.0123456789,", 1<<13)
		for n := 0; n < size; n += len(line) {
			fmt.Fprint(rw, line)
		}
		fmt.Fprint(rw, `0],"model":"embed-fake","usage":{"prompt_tokens":17,"total_tokens":17}}`)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: up}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	w := start(t, settings{change: func(c *gateway.Config) { c.Upstreams[0].BaseURL = "http://" + l.Addr().String() }})
	most := heap(t, func() {
		res, err := http.Post(w.url+"/openai/v1/embeddings", "application/json",
			strings.NewReader(`{"model":"embed-fake","input":["a","b"]}`))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if n, err := io.Copy(io.Discard, res.Body); err != nil || n < size {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	if most > 16<<20 {
		t.Errorf("it took %d MiB more", most>>20)
	}
	e := w.call(1)
	e.has(t, map[string]any{"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 17,
		"gen_ai.usage.output_tokens": nil, "error.type": nil, "konstruct.gateway.usage": nil})
	if text(e.Input) != "a\nb" {
		t.Errorf("%q", text(e.Input))
	}
}

// heap returns how many bytes the heap grew by at most while something ran, garbage left out.
func heap(t *testing.T, run func()) (most int64) {
	t.Helper()
	used := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, done := used(), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				most = max(most, used()-before)
			}
		}
	})
	run()
	close(done)
	wait.Wait()
	return most
}

// TestLargeEventsPassInBoundedMemory: one event of 48 MiB, as a picture within a response; its tokens stand at its end.
func TestLargeEventsPassInBoundedMemory(t *testing.T) {
	const size = 48 << 20
	first := `event: response.output_text.delta` + "\n" +
		`data: {"type":"response.output_text.delta","output_index":0,"delta":"A picture."}` + "\n\n"
	up := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(rw, first, "event: response.completed\n", `data: {"type":"response.completed","response":{"id":"r",`+
			`"status":"completed","output":[{"type":"image_generation_call","result":"`)
		line := strings.Repeat("iVBORw0KGgo", 1<<12)
		for n := 0; n < size; n += len(line) {
			fmt.Fprint(rw, line)
		}
		fmt.Fprint(rw, `"}],"usage":{"input_tokens":7,"output_tokens":9}}}`, "\n\n")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: up}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	w := start(t, settings{change: func(c *gateway.Config) { c.Upstreams[0].BaseURL = "http://" + l.Addr().String() }})
	most := heap(t, func() {
		res, err := http.Post(w.url+responsesPath, "application/json",
			strings.NewReader(`{"model":"gpt-fake-5","input":"Draw.","stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if n, err := io.Copy(io.Discard, res.Body); err != nil || n < size {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	if most > 16<<20 {
		t.Errorf("it took %d MiB more", most>>20)
	}
	e := w.call(1)
	e.has(t, map[string]any{"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 9, "error.type": nil,
		"gen_ai.response.finish_reasons": []string{"completed"}})
}

// TestUnwritableTrails: without the trail a response is withheld, or the call goes on and leaves a gap.
func TestUnwritableTrails(t *testing.T) {
	d := testkit.Own(t)
	w := startOn(t, testkit.DoorOf(t, d), settings{spool: true, policy: `{"default":{"wait":"1s"},"tenants":{"` +
		globex.String() + `":{"when_unwritable":"go_on","wait":"500ms"}}}`})
	testkit.Super(t, d, "ALTER ROLE konstruct_app IN DATABASE "+d.Name+" SET default_transaction_read_only = on")
	testkit.Super(t, d, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'konstruct_app'")
	for _, o := range operations() {
		r := w.post(o.path, o.body+"}")
		if o.streams() {
			if r.err != nil || !strings.Contains(r.body, "could not be logged") || strings.Contains(r.body, "[DONE]") ||
				strings.Contains(r.body, "message_stop") || strings.Contains(r.body, "response.completed") {
				t.Errorf("%s: %v %s", o.name, r.err, r.body)
			}
		} else if r.StatusCode != 503 || !strings.Contains(r.body, "could not be logged") {
			t.Errorf("%s: %d %s", o.name, r.StatusCode, r.body)
		}
		want := w.direct(o.path, o.body+"}")
		if r := w.post(o.path, o.body+"}", "Tenant", "globex"); r.StatusCode != 200 || r.body != want.body {
			t.Errorf("%s: %d %s", o.name, r.StatusCode, r.body)
		}
	}
	testkit.Super(t, d, "ALTER ROLE konstruct_app IN DATABASE "+d.Name+" RESET default_transaction_read_only")
	testkit.Super(t, d, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'konstruct_app'")
	testkit.Until(t, "the gap is recorded", func() bool {
		all, err := audit.List(t.Context(), w.door, globex, audit.Filter{Action: audit.ActionGap})
		return err == nil && len(all) > 0
	})
	if n := len(w.events(acme, "")); n != 0 {
		t.Errorf("%d events of calls whose responses were withheld", n)
	}
}
