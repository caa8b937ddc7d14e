package mcpproxy

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
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

// bind returns the session id that a client gets for a server's: a client can't use another one's.
func (h *Handler) bind(server, caller, id string) string {
	return id + "." + h.mark(server, caller, id)
}

func (h *Handler) mark(server, caller, id string) string {
	m := hmac.New(sha256.New, h.Secret)
	for _, part := range []string{server, caller, id} {
		fmt.Fprintf(m, "%d:%s", len(part), part)
	}
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:18])
}

func (h *Handler) unbind(server, caller, bound string) (id string, ok bool) {
	end := strings.LastIndexByte(bound, '.')
	if end < 1 || len(bound) > maxSessionID {
		return "", false
	}
	id = bound[:end]
	return id, hmac.Equal([]byte(bound[end+1:]), []byte(h.mark(server, caller, id)))
}

// session returns what is known of a session, and makes it where this process has not seen it yet.
func (h *Handler) session(key sessionKey, c Config) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[key]; s != nil {
		s.used = time.Now()
		return s.Session
	}
	h.makeRoom(key.caller)
	s := &httpSession{NewSession(c, key.id), time.Now()}
	h.sessions[key] = s
	return s.Session
}

// makeRoom forgets sessions that are idle, and the one that was idle longest if there are too many. The caller holds
// mu.
func (h *Handler) makeRoom(caller string) {
	var oldest, own sessionKey
	mine := 0
	for key, s := range h.sessions {
		switch {
		case time.Since(s.used) > sessionIdle && s.Pending() == 0:
			delete(h.sessions, key)
			continue
		case h.sessions[oldest] == nil || s.used.Before(h.sessions[oldest].used):
			oldest = key
		}
		if key.caller == caller {
			if mine++; h.sessions[own] == nil || s.used.Before(h.sessions[own].used) {
				own = key
			}
		}
	}
	drop := own
	if mine < maxCallerSessions {
		if drop = oldest; len(h.sessions) < maxSessions {
			return
		}
	}
	if s := h.sessions[drop]; s != nil {
		delete(h.sessions, drop)
		go s.End(errNoResponse)
	}
}

// adopt keeps a session that a server has begun, and returns the id that the client gets.
func (h *Handler) adopt(server string, c Caller, id string, s *Session) (bound string, ok bool) {
	bound = h.bind(server, c.ID, id)
	if len(bound) > maxSessionID {
		return "", false
	}
	s.mu.Lock()
	s.id = id
	if s.conversation == "" {
		s.conversation = plain(id, maxName)
	}
	s.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	key := sessionKey{server, c.ID, id}
	if h.sessions[key] == nil {
		h.makeRoom(c.ID)
		h.sessions[key] = &httpSession{s, time.Now()}
	}
	return bound, true
}

// end forgets a session that the client or the server has ended.
func (h *Handler) end(key sessionKey) {
	h.mu.Lock()
	s := h.sessions[key]
	delete(h.sessions, key)
	h.mu.Unlock()
	if s != nil {
		s.End(errSessionEnd)
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

// relay passes the response.
func (x *exchange) relay(resp *http.Response, calls []*call) {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	h := x.w.Header()
	for _, name := range returnedHeaders {
		if values := resp.Header.Values(name); len(values) > 0 && !x.events {
			h[name] = values
		}
	}
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" && !x.events {
		if id == x.upstreamID {
			h.Set("Mcp-Session-Id", x.h.bind(x.up.Name, x.caller.ID, id))
		} else if bound, ok := x.h.adopt(x.up.Name, x.caller, id, x.session); ok {
			h.Set("Mcp-Session-Id", bound)
		}
	}
	stream := kind == "text/event-stream" && resp.StatusCode == http.StatusOK
	if !x.events && stream {
		x.w.WriteHeader(resp.StatusCode)
		_ = x.control.Flush()
	}
	var err error
	switch {
	case stream:
		err = x.relayEvents(resp.Body)
	case kind == "application/json" && resp.StatusCode == http.StatusOK:
		err = x.relayJSON(resp.Body)
	default:
		err = x.relayStatus(resp, calls)
	}
	if err != nil && x.r.Context().Err() == nil {
		x.h.Logger.Warn("the response of an MCP server broke off", "server", x.up.Name, "error", err)
	}
	x.unanswered(calls)
	if err != nil { // the connection breaks off, so that the client does not take a part for the whole
		_ = x.control.SetWriteDeadline(time.Now().Add(-time.Second))
	}
}

// unanswered decides about the calls whose response did not come with the response to their request.
func (x *exchange) unanswered(calls []*call) {
	x.session.mu.Lock()
	resumable := x.session.id != ""
	x.session.mu.Unlock()
	if resumable { // it may come on a resumed stream
		x.session.expect(calls, lostGrace)
		return
	}
	why := errNoResponse
	if x.r.Context().Err() != nil {
		why = errCancelled // closing the stream is the cancellation
	}
	x.fail(calls, outcome{err: why})
}

func (x *exchange) relayEvents(body io.Reader) error {
	relay := &eventRelay{session: x.session, send: x.send}
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := relay.write(x.r.Context(), buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return relay.close(x.r.Context())
		case err != nil:
			_ = relay.flush()
			return err
		}
	}
}

// relayJSON passes one frame. The last piece of a long one waits until it is recorded.
func (x *exchange) relayJSON(body io.Reader) error {
	var frame bytes.Buffer
	_, err := io.CopyN(&frame, body, maxEvent+1)
	switch {
	case errors.Is(err, io.EOF):
		out := frame.Bytes()
		if record := x.session.FromServer(out); record != nil {
			if instead := record(x.r.Context()); instead != nil {
				out = instead
			}
		}
		if x.events {
			out = dataEvent(out)
		}
		return x.send(out)
	case err != nil:
		return err
	}
	if x.events {
		return x.relayLongEvent(&frame, body)
	}
	long := newLongFrame()
	held := frame.Bytes()
	_, _ = long.Write(held)
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := x.send(held); err != nil {
				return err
			}
			held = append(held[:0:0], buf[:n]...)
			_, _ = long.Write(held)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if record := x.session.longFromServer(long); record != nil {
		if err := record(x.r.Context()); err != nil {
			return fmt.Errorf("a result could not be recorded, and is withheld: %w", err)
		}
	}
	return x.send(held)
}

// relayLongEvent passes a long frame as an event in a stream that has begun. Line breaks in it are white space of JSON.
func (x *exchange) relayLongEvent(begin io.Reader, body io.Reader) error {
	relay := &eventRelay{session: x.session, send: x.send}
	if err := relay.write(x.r.Context(), []byte("event: message\ndata: ")); err != nil {
		return err
	}
	all, buf := io.MultiReader(begin, body), make([]byte, 64<<10)
	for {
		n, err := all.Read(buf)
		for i, c := range buf[:n] {
			if c == '\n' || c == '\r' {
				buf[i] = ' '
			}
		}
		if err := relay.write(x.r.Context(), buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return relay.write(x.r.Context(), []byte("\n\n"))
		}
		if err != nil {
			return err
		}
	}
}

// relayStatus passes a response that is no result: 202 for a notification, an error, or what is no answer of MCP.
func (x *exchange) relayStatus(resp *http.Response, calls []*call) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxFailure))
	if err != nil {
		return err
	}
	out := raw
	if record := x.session.FromServer(raw); record != nil {
		if instead := record(x.r.Context()); instead != nil {
			out = instead
		}
	}
	if resp.StatusCode >= 400 {
		x.fail(calls, outcome{err: fmt.Sprint(resp.StatusCode), output: plain(string(raw), maxKept)})
	}
	if x.events {
		if !json.Valid(out) || len(calls) != 1 {
			x.failed(0, calls, fmt.Sprintf("the MCP server answered %d", resp.StatusCode))
			return nil
		}
		return x.send(dataEvent(out))
	}
	x.w.WriteHeader(resp.StatusCode)
	if len(out) == 0 {
		return nil
	}
	return x.send(out)
}
