package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/mcpproxy"
)

const callEcho = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"echo","arguments":{"a":1}}}`

// rawMCP starts an upstream that answers as a handler says, and a service in front of it.
func rawMCP(t *testing.T, h http.HandlerFunc) (w *world, key string) {
	t.Helper()
	up := httptest.NewServer(h)
	t.Cleanup(up.CloseClientConnections)
	t.Cleanup(up.Close)
	w = serve(t, withMCP(t, map[string]string{"raw": up.URL}))
	return w, w.key(acme)
}

// waitMCP waits for a number of events about MCP.
func (w *world) waitMCP(n int) []audit.StoredEvent {
	w.t.Helper()
	for range 200 {
		if all := w.mcpEvents(acme); len(all) >= n {
			return all
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("%d events, want %d", len(w.mcpEvents(acme)), n)
	return nil
}

func TestWhatAnMCPServerAnswersPassesAndIsRecordedAsWhatItWas(t *testing.T) {
	const result = `{"jsonrpc":"2.0","id":5,"result":{"content":[{"type":"text","text":"ünïcode"}]}}`
	long := `{"jsonrpc":"2.0","id":5,"result":{"isError":true,"content":[{"type":"text","text":"` +
		strings.Repeat("l", 300<<10) + `"}]}}`
	for name, c := range map[string]struct {
		kind, body string
		status     int
		err        string // error.type
		output     string // of the event
	}{
		"JSON": {"application/json; charset=utf-8", result, 200, "", "ünïcode"},
		"pretty JSON": {"application/json", "{\n \"jsonrpc\": \"2.0\",\r\n \"id\": 5, \"result\": {}}\n", 200, "",
			"{}"},
		"long JSON": {"application/json", long, 200, "tool_error", "lll"},
		"an event":  {"text/event-stream", "data: " + result + "\n\n", 200, "", "ünïcode"},
		"a bare event": {"text/event-stream", ": hi\nretry: 5\n\nid: 1\nevent:message\ndata:" + result +
			"\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"late\"}\n\n", 200, "", "ünïcode"},
		"CRLF": {"text/event-stream", ":\r\n\r\nid: 7\r\ndata: " + result + "\r\n\r\n", 200, "", "ünïcode"},
		"CR":   {"text/event-stream", "id: 7\rdata: " + result + "\r\r", 200, "", "ünïcode"},
		"data in lines": {"text/event-stream", "data: {\"jsonrpc\":\"2.0\",\ndata: \"id\":5,\ndata\n" +
			"data: \"result\":{}}\n\n", 200, "", "{}"},
		"a BOM":            {"text/event-stream", "\ufeffdata: " + result + "\n\n", 200, "", "ünïcode"},
		"no last line":     {"text/event-stream", "data: " + result, 200, "", "ünïcode"},
		"a long event":     {"text/event-stream", "id: 1\ndata: " + long + "\n\n: end\n\n", 200, "tool_error", "lll"},
		"long, no space":   {"text/event-stream", "data:" + long + "\n\n", 200, "tool_error", "lll"},
		"nothing":          {"text/event-stream", "", 200, "no_response", ""},
		"another's answer": {"application/json", `{"jsonrpc":"2.0","id":6,"result":{}}`, 200, "no_response", ""},
		"no JSON":          {"application/json", "oops", 200, "no_response", ""},
		"HTML":             {"text/html", "<h1>busy</h1>", 200, "no_response", ""},
		"an error": {"application/json", `{"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"?"}}`, 404,
			"-32601", "?"},
		"HTML with a 503":   {"text/html", "<h1>busy</h1>", 503, "503", "<h1>busy</h1>"},
		"a 500 and no body": {"text/plain", "", 500, "500", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, key := rawMCP(t, func(rw http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				rw.Header().Set("Content-Type", c.kind)
				rw.WriteHeader(c.status)
				for i := 0; i < len(c.body); i += 7001 { // in pieces that end anywhere
					_, _ = io.WriteString(rw, c.body[i:min(i+7001, len(c.body))])
					_ = http.NewResponseController(rw).Flush()
				}
			})
			status, body := w.postMCP("raw", key, callEcho)
			if status != c.status || body != c.body {
				t.Errorf("%d %.200q, want %d %.200q", status, body, c.status, c.body)
			}
			all := w.waitMCP(1)
			m := metadataOf(t, all[0])
			failed, _ := m["error.type"].(string)
			output := ""
			if all[0].Output != nil {
				output = *all[0].Output
			}
			if len(all) != 1 || failed != c.err || !strings.Contains(output, c.output) || *all[0].Input != `{"a":1}` {
				t.Errorf("%d events: %.300s %s", len(all), output, all[0].Metadata)
			}
		})
	}
}

// TestEventsPassByteForByteHoweverTheyArrive: one byte at a time.
func TestEventsPassByteForByteHoweverTheyArrive(t *testing.T) {
	stream := "\ufeff:\n\nevent: message\r\nid: 1\r\ndata: {\"a\":1}\r\n\r\ndata: x\rdata: y\r\r\ndatab: 3\ndata\n\n" +
		"data: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}\n\n:\n"
	w, key := rawMCP(t, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("Content-Type", "text/event-stream")
		for i := range len(stream) {
			_, _ = rw.Write([]byte{stream[i]})
			_ = http.NewResponseController(rw).Flush()
		}
	})
	if _, body := w.postMCP("raw", key, callEcho); body != stream {
		t.Errorf("%q came as %q", stream, body)
	}
	if all := w.waitMCP(1); metadataOf(t, all[0])["error.type"] != nil {
		t.Errorf("%s", all[0].Metadata)
	}
}

func TestAnUnreachableMCPServerIsAnErrorOfTheProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		err  string
		says string
	}{
		"refuses the key": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(401)
		}, "401", "credentials"},
		"is elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, "307",
			"not its endpoint"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "server_unreachable",
			"can't be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			w, key := rawMCP(t, c.h)
			status, body := w.postMCP("raw", key, callEcho)
			if status != 502 || !strings.HasPrefix(body, `{"jsonrpc":"2.0","id":5,"error":{"code":-32603`) ||
				!strings.Contains(body, c.says) {
				t.Errorf("%d %s", status, body)
			}
			if all := w.waitMCP(1); metadataOf(t, all[0])["error.type"] != c.err {
				t.Errorf("%s", all[0].Metadata)
			}
		})
	}
}

func TestAStreamThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	w, key := rawMCP(t, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(
			rw,
			"data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":5,\"resul",
		)
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/mcp/proxy/raw", strings.NewReader(callEcho))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the stream ends as if it were whole: %q", body)
	}
	if all := w.waitMCP(1); metadataOf(t, all[0])["error.type"] != "no_response" {
		t.Errorf("%s", all[0].Metadata)
	}
}

func TestBadFramesOverHTTPGetErrorsOfTheProtocol(t *testing.T) {
	w, key := rawMCP(t, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(202) })
	for _, c := range []struct {
		frame   string
		status  int
		says    string
		headers []string
	}{
		{"no JSON", 400, `"code":-32700`, nil},
		{"", 400, `"code":-32700`, nil},
		{`[]`, 400, `"code":-32600`, nil},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping"}`, 200, `"id":1,"error":{"code":-32600`, nil},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, 200, `"id":1,"error":{"code":-32602`, nil},
		{callEcho, 400, `"id":5,"error":{"code":-32020`, []string{"Mcp-Method", "tools/list"}},
		{callEcho, 400, `"id":5,"error":{"code":-32020`, []string{"Mcp-Name", "other"}},
		{callEcho, 400, `"id":5,"error":{"code":-32020`, []string{"Mcp-Name", "=?base64?!?="}},
		{callEcho, 202, ``, []string{"Mcp-Name", "=?base64?ZWNobw==?="}},
		{`{"jsonrpc":"2.0","method":"notifications/x"}`, 202, ``, nil},
		{`{"jsonrpc":"2.0","method":"x","params":"` + strings.Repeat("y", mcpproxy.MaxFrame) + `"}`, 413, `"error":{`,
			nil},
	} {
		status, body := w.postMCP("raw", key, c.frame, c.headers...)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%.80s: %d %.300s", c.frame, status, body)
		}
	}
	// 50 MB pass.
	status, _ := w.postMCP(
		"raw",
		key,
		`{"jsonrpc":"2.0","method":"x","params":{"y":"`+strings.Repeat("y", 50<<20)+`"}}`,
	)
	if status != 202 {
		t.Errorf("%d", status)
	}
	r, err := http.NewRequestWithContext(t.Context(), "PUT", w.url+"/mcp/proxy/raw", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST, GET, DELETE" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestAClientThatLeavesEndsItsCall(t *testing.T) {
	ended := make(chan struct{})
	w, key := rawMCP(t, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, ": begun\n\n")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", w.url+"/mcp/proxy/raw", strings.NewReader(callEcho))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != ": begun\n" {
		t.Errorf("%q %v", line, err)
	}
	cancel()
	resp.Body.Close()
	<-ended
	if all := w.waitMCP(1); metadataOf(t, all[0])["error.type"] != "cancelled" {
		t.Errorf("%s", all[0].Metadata)
	}
}

// TestAResumedStreamsResultIsRecordedOnce: the stream of the call breaks, and its response comes with Last-Event-ID.
func TestAResumedStreamsResultIsRecordedOnce(t *testing.T) {
	const response = "id: 2\ndata: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"content\":[]}}\n\n"
	w, key := rawMCP(t, func(rw http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(raw), "initialize"):
			rw.Header().Set("Mcp-Session-Id", "s1")
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(
				rw,
				`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},`+
					`"serverInfo":{"name":"raw","version":"3"}}}`,
			)
		case r.Method == "DELETE":
			rw.WriteHeader(204)
		case r.Header.Get("Mcp-Session-Id") != "s1":
			rw.WriteHeader(404)
		case r.Method == "POST":
			rw.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(rw, "id: 1\ndata:\n\nretry: 10\n\n") // and the connection is closed
		case r.Header.Get("Last-Event-Id") == "1":
			rw.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(rw, response)
		}
	})
	do := func(method, body, session, last string) (http.Header, int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, w.url+"/mcp/proxy/raw", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		if session != "" {
			r.Header.Set("Mcp-Session-Id", session)
		}
		if last != "" {
			r.Header.Set("Last-Event-Id", last)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header, resp.StatusCode, string(raw)
	}
	h, _, _ := do(
		"POST",
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"c","version":"2"}}}`,
		"",
		"",
	)
	session := h.Get("Mcp-Session-Id")
	if !strings.HasPrefix(session, "s1.") {
		t.Fatalf("%q", session)
	}
	if _, status, body := do("POST", callEcho, session, ""); status != 200 || body != "id: 1\ndata:\n\nretry: 10\n\n" {
		t.Errorf("%d %q", status, body)
	}
	if n := len(w.mcpEvents(acme)); n != 0 {
		t.Errorf("%d events before the response", n)
	}
	for range 2 { // a client may resume again
		if _, _, body := do("GET", "", session, "1"); body != response {
			t.Errorf("%q", body)
		}
	}
	all := w.waitMCP(1)
	if m := metadataOf(t, all[0]); len(all) != 1 || m["mcp.client.name"] != "c" || m["mcp.server.version"] != "3" ||
		m["mcp.session.id"] != "s1" || m["error.type"] != nil {
		t.Errorf("%d events: %v", len(all), m)
	}
	// A call without a response is recorded when the session ends.
	do("POST", strings.Replace(callEcho, `"id":5`, `"id":6`, 1), session, "")
	if _, status, _ := do("DELETE", "", session, ""); status != 204 {
		t.Errorf("%d", status)
	}
	if m := metadataOf(t, w.waitMCP(2)[1]); m["error.type"] != "session_ended" {
		t.Errorf("%v", m)
	}
}

func TestARevokedKeyEndsItsMCPStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for five seconds")
	}
	w, key := rawMCP(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	})
	r, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/mcp/proxy/raw", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	me := w.want(200, "GET", "/v1/me", key, "")
	w.want(204, "DELETE", "/v1/keys/"+me.text("id"), w.key(acme), "")
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, resp.Body)
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		t.Error("the stream goes on")
	}
}

func TestSubscriptionsPassUntilTheClientEndsThem(t *testing.T) {
	changed := make(chan struct{}, 1)
	s := mcptest.New()
	up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true}))
	t.Cleanup(up.Close)
	w := serve(t, withMCP(t, map[string]string{"changing": up.URL}))
	c := connectMCP(t, w.url+"/mcp/proxy/changing", w.key(acme), "2026-07-28", &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {
			select {
			case changed <- struct{}{}:
			default:
			}
		}})
	for i := 0; ; i++ {
		mcp.AddTool(s, &mcp.Tool{Name: fmt.Sprintf("t%d", i)}, func(context.Context, *mcp.CallToolRequest, struct{}) (
			*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{}, nil, nil
		})
		select {
		case <-changed:
			c.Close()
			return
		case <-time.After(200 * time.Millisecond):
		}
		if i == 50 {
			t.Fatal("no change is told")
		}
	}
}
