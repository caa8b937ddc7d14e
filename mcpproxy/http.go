package mcpproxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Limits on sessions with HTTP servers.
const (
	maxSessions       = 10_000 // of all callers
	maxCallerSessions = 1000
	maxSessionID      = 1 << 10
	sessionIdle       = time.Hour
	// lostGrace is how long the response to a call may still arrive on a resumed stream. Then the call is recorded
	// without.
	lostGrace   = 10 * time.Minute
	dialTime    = 10 * time.Second
	writeTime   = 30 * time.Second // for a client to read a piece of a response
	waitComment = 15 * time.Second // between comments that keep a waiting call's connection open
	maxFailure  = 1 << 20          // bytes of a response with an error status
)

// Handler passes requests of clients to streamable HTTP servers. NewHandler makes one; Close ends its sessions.
type Handler struct {
	// Servers are the configured servers by name.
	Servers map[string]*Upstream
	// Secret binds session ids to who began the session; processes that share sessions share it.
	Secret []byte
	Logger *slog.Logger
	// Client sends the requests. It must follow no redirects.
	Client *http.Client

	stopping  context.Context // of long streams
	stop      context.CancelFunc
	approvals *Approvals
	mu        sync.Mutex
	sessions  map[sessionKey]*httpSession
}

// Caller is who sends a request: one principal of one tenant.
type Caller struct {
	ID     string // sessions are bound to it
	Config        // of sessions: Server and Transport are set by the handler
	// Admit is called with the number of calls that a request makes. An error refuses the request.
	Admit func(ctx context.Context, calls int) error
	// Refuse writes Admit's error.
	Refuse func(error)
}

type sessionKey struct{ server, caller, id string }

type httpSession struct {
	*Session
	used time.Time
}

// NewHandler returns a handler for servers.
func NewHandler(servers map[string]*Upstream, secret []byte, logger *slog.Logger) *Handler {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableCompression: true, ForceAttemptHTTP2: true,
		DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, TLSHandshakeTimeout: dialTime,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second}
	stopping, stop := context.WithCancel(context.Background())
	return &Handler{
		stopping:  stopping,
		stop:      stop,
		Servers:   servers,
		Secret:    secret,
		Logger:    logger,
		sessions:  map[sessionKey]*httpSession{},
		approvals: NewApprovals(),
		Client: &http.Client{Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// Stop ends the streams that would stay open otherwise. Calls in progress go on.
func (h *Handler) Stop() { h.stop() }

// Close records the calls in progress of all sessions and ends them.
func (h *Handler) Close() {
	h.stop()
	h.mu.Lock()
	all := h.sessions
	h.sessions = map[sessionKey]*httpSession{}
	h.mu.Unlock()
	for _, s := range all {
		s.End(errSessionEnd)
	}
	h.Client.CloseIdleConnections()
}

// Serve serves one request of a caller to a server.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, up *Upstream, c Caller) {
	c.Server, c.Transport, c.caller, c.Approvals = up.Name, "tcp", c.ID, h.approvals
	x := &exchange{h: h, up: up, caller: c, w: w, r: r, control: http.NewResponseController(w)}
	x.unlimit()
	if bound := r.Header.Get("Mcp-Session-Id"); bound != "" {
		id, ok := h.unbind(up.Name, c.ID, bound)
		if !ok { // as for a session that has ended: the client begins another
			x.refuse(
				http.StatusNotFound,
				nil,
				codeInvalid,
				"Mcp-Session-Id: there is no such session: initialize again",
			)
			return
		}
		x.upstreamID = id
		x.session = h.session(sessionKey{up.Name, c.ID, id}, c.Config)
	} else {
		x.session = NewSession(c.Config, "")
	}
	x.session.speak(r.Header.Get("Mcp-Protocol-Version"))
	switch r.Method {
	case http.MethodPost:
		x.post()
	case http.MethodGet:
		defer x.endWhenStopped()()
		x.pass(nil, nil)
	case http.MethodDelete:
		x.pass(nil, nil)
	default:
		w.Header().Set("Allow", "POST, GET, DELETE")
		x.refuse(http.StatusMethodNotAllowed, nil, codeInvalid, "the method is not supported: use POST, GET or DELETE")
	}
}

// exchange is one request and its response.
type exchange struct {
	h          *Handler
	up         *Upstream
	caller     Caller
	session    *Session
	upstreamID string // the server's session id
	w          http.ResponseWriter
	r          *http.Request
	control    *http.ResponseController
	events     bool // a stream of events has begun
	sending    sync.Mutex
}

// endWhenStopped ends the request when the handler stops, until done is called.
func (x *exchange) endWhenStopped() (done func()) {
	ctx, cancel := context.WithCancel(x.r.Context())
	forget := context.AfterFunc(x.h.stopping, cancel)
	x.r = x.r.WithContext(ctx)
	return func() {
		forget()
		cancel()
	}
}

// refuse answers with an error of the proxy's own.
func (x *exchange) refuse(status int, id []byte, code int, reason string) {
	x.answer(status, errorFrame(id, code, reason))
}

// answer sends a frame of the proxy's own.
func (x *exchange) answer(status int, frame []byte) {
	if x.events {
		_ = x.send(dataEvent(frame))
		return
	}
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(status)
	_ = x.send(frame)
}

// send writes to the client at once.
func (x *exchange) send(p []byte) error {
	x.sending.Lock()
	defer x.sending.Unlock()
	if err := x.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil &&
		!errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := x.w.Write(p); err != nil {
		return err
	}
	defer x.unlimit()
	return x.control.Flush()
}

// unlimit ends the deadline of writing: a stream may be silent for long.
func (x *exchange) unlimit() {
	_ = x.control.SetWriteDeadline(time.Time{}) // ignore the error: the next write has it
}

// beginEvents begins a stream of events of the proxy's own.
func (x *exchange) beginEvents() {
	x.events = true
	x.w.Header().Set("Content-Type", "text/event-stream")
	x.w.Header().Set("X-Accel-Buffering", "no")
	x.w.WriteHeader(http.StatusOK)
	_ = x.send([]byte(": waiting\n\n"))
}

func (x *exchange) post() {
	size := min(max(x.r.ContentLength, 0), MaxFrame)
	body := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	if _, err := body.ReadFrom(x.r.Body); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			x.refuse(http.StatusRequestEntityTooLarge, nil, codeInvalid,
				fmt.Sprintf("the frame has more than %d bytes", large.Limit-1))
			return
		}
		x.refuse(http.StatusBadRequest, nil, codeParse, "the frame ended early")
		return
	}
	_ = x.control.SetReadDeadline(time.Time{}) // ignore the error: the connection is gone
	frame := body.Bytes()
	v := x.session.FromClient(frame)
	if err := checkHeaders(x.r.Header, v.first); err != nil && v.Answer == nil {
		x.session.forget(v.calls...)
		x.refuse(http.StatusBadRequest, v.first.id, codeHeader, err.Error())
		return
	}
	if v.first.method == "subscriptions/listen" {
		defer x.endWhenStopped()()
	}
	if n := len(v.calls); n > 0 && x.caller.Admit != nil {
		if err := x.caller.Admit(x.r.Context(), n); err != nil {
			x.session.forget(v.calls...)
			x.caller.Refuse(err)
			return
		}
	}
	x.act(frame, v)
}

// act does what a verdict says about a frame.
func (x *exchange) act(frame []byte, v Verdict) {
	switch {
	case v.Pass:
		x.pass(frame, v.calls)
	case v.Decide != nil:
		done := func() {}
		if v.waits && strings.Contains(x.r.Header.Get("Accept"), "text/event-stream") {
			x.beginEvents()
			done = x.keepOpen()
		}
		next := v.Decide(x.r.Context(), func(frame []byte) {
			if x.events {
				_ = x.send(dataEvent(frame))
			}
		})
		done()
		next.calls = v.calls
		x.act(frame, next)
	case v.Answer != nil:
		status := http.StatusOK
		if v.refused && v.first.id == nil {
			status = http.StatusBadRequest
		}
		x.answer(status, v.Answer)
	default:
		if !x.events {
			x.w.WriteHeader(http.StatusAccepted)
		}
	}
}

// keepOpen sends comments while a call waits, and returns the function that stops them.
func (x *exchange) keepOpen() (stop func()) {
	ctx, cancel := context.WithCancel(x.r.Context())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(waitComment)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = x.send([]byte(": waiting\n\n"))
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// checkHeaders checks that the headers that mirror the body say the same (2026-07-28, Server Validation).
func checkHeaders(h http.Header, m message) error {
	for _, mirror := range []struct{ name, want string }{{"Mcp-Method", m.method}, {"Mcp-Name", m.target()}} {
		values := h.Values(mirror.name)
		if len(values) == 0 {
			continue
		}
		got := values[0]
		if inner, ok := strings.CutPrefix(got, "=?base64?"); ok && strings.HasSuffix(inner, "?=") {
			raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(inner, "?="))
			if err != nil {
				return fmt.Errorf("header mismatch: %s is not base64", mirror.name)
			}
			got = string(raw)
		}
		if len(values) > 1 || got != mirror.want {
			return fmt.Errorf("header mismatch: %s does not match the body", mirror.name)
		}
	}
	return nil
}

// target is what Mcp-Name mirrors.
func (m *message) target() string {
	field := methods[m.method].field
	if field == "" || m.method == "tasks/result" {
		field = "name"
	}
	s, _ := text(member(m.params, field))
	return s
}

// passedHeaders go from the client to the server. Authorization and cookies do not: they are the service's.
var passedHeaders = []string{
	"Accept",
	"Content-Type",
	"Mcp-Protocol-Version",
	"Mcp-Method",
	"Mcp-Name",
	"Last-Event-Id",
	"Traceparent",
	"Tracestate",
	"Baggage",
	"User-Agent",
	"Accept-Language",
}

// returnedHeaders go from the server to the client.
var returnedHeaders = []string{"Content-Type", "Mcp-Protocol-Version", "Retry-After", "Allow", "X-Accel-Buffering"}

// pass sends the request to the server and its response to the client.
func (x *exchange) pass(frame []byte, calls []*call) {
	resp, err := x.request(frame)
	if err != nil {
		why, status := "server_unreachable", http.StatusBadGateway
		if x.r.Context().Err() != nil {
			why = errCancelled
		}
		x.h.Logger.Warn("an MCP server can't be reached", "server", x.up.Name, "error", err)
		x.fail(calls, outcome{err: why})
		x.failed(status, calls, "the MCP server can't be reached")
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		x.h.Logger.Error(
			"an MCP server refuses the configured credentials",
			"server",
			x.up.Name,
			"status",
			resp.StatusCode,
		)
		x.fail(calls, outcome{err: fmt.Sprint(resp.StatusCode)})
		x.failed(
			http.StatusBadGateway,
			calls,
			fmt.Sprintf("the MCP server answered %d: the operator's credentials for it "+
				"are refused", resp.StatusCode),
		)
		return
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		x.fail(calls, outcome{err: fmt.Sprint(resp.StatusCode)})
		x.failed(
			http.StatusBadGateway,
			calls,
			fmt.Sprintf("the MCP server answered %d: its address in the configuration is "+
				"not its endpoint", resp.StatusCode),
		)
		return
	}
	x.relay(resp, calls)
	if key := (sessionKey{x.up.Name, x.caller.ID, x.upstreamID}); x.upstreamID != "" &&
		(resp.StatusCode == http.StatusNotFound && !modernError(frame) || x.r.Method == http.MethodDelete &&
			resp.StatusCode < 300) {
		x.h.end(key)
	}
}

// modernError reports whether a 404 may mean an unknown method (2026-07-28): such requests are of no session.
func modernError(frame []byte) bool {
	return bytes.Contains(frame, []byte("io.modelcontextprotocol/protocolVersion"))
}

// request sends the request.
func (x *exchange) request(frame []byte) (*http.Response, error) {
	own, err := x.up.header()
	if err != nil {
		return nil, fmt.Errorf("read the headers of the MCP server %q: %w", x.up.Name, err)
	}
	var body io.Reader
	if frame != nil {
		body = bytes.NewReader(frame)
	}
	req, err := http.NewRequestWithContext(x.r.Context(), x.r.Method, x.up.URL.String(), body)
	if err != nil {
		return nil, err
	}
	for _, name := range passedHeaders {
		if values := x.r.Header.Values(name); len(values) > 0 {
			req.Header[name] = values
		}
	}
	for name, values := range x.r.Header {
		if strings.HasPrefix(name, "Mcp-Param-") {
			req.Header[name] = values
		}
	}
	if x.upstreamID != "" {
		req.Header.Set("Mcp-Session-Id", x.upstreamID)
	}
	for name, values := range own {
		req.Header[name] = values
	}
	return x.h.Client.Do(req)
}

// fail records calls that the server has not answered.
func (x *exchange) fail(calls []*call, o outcome) {
	for _, c := range calls {
		x.session.mu.Lock()
		was := x.session.remove(c)
		x.session.mu.Unlock()
		if was {
			if err := x.session.record(x.r.Context(), c, o); err != nil {
				x.h.Logger.Error("a failed call could not be recorded", "tool", c.name, "error", err)
			}
		}
	}
}

// failed answers a request that the server has not answered.
func (x *exchange) failed(status int, calls []*call, reason string) {
	var id []byte
	if len(calls) == 1 {
		id = calls[0].id
	}
	x.refuse(status, id, codeInternal, reason)
}
