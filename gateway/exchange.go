package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/konstruct/konstruct/audit"
)

// exchange is one call, from its request until it is logged.
type exchange struct {
	g       *Gateway
	w       http.ResponseWriter
	r       *http.Request
	call    Call
	q       request
	ctx     callContext
	up      *upstream
	charge  *charge
	control *http.ResponseController

	begun      time.Time
	firstChunk time.Duration // of a stream; 0 until it is there
	took       time.Duration
	status     int // of the upstream's response; 0 without one
	streamed   bool
	answer     answer
	errorBody  []byte // the beginning of a response that is an error
	errorType  string // what the gateway saw; empty: nothing
	received   int64  // bytes of the response, as they were sent
	logged     bool
	own        *round // of a request whose files are searched here; nil: the response is passed on as it is
}

// writeTime is how long a client may take to read what is there.
const writeTime = 30 * time.Second

// Serve answers a call. It returns after the call is logged. It panics with http.ErrAbortHandler where the response
// breaks off, so that nobody takes a part for the whole.
func (g *Gateway) Serve(w http.ResponseWriter, r *http.Request, c Call) {
	g.active.Add(1)
	defer g.active.Done()
	x := &exchange{g: g, w: w, r: r, call: c, control: http.NewResponseController(w)}
	if c.Release == nil {
		x.call.Release = func() {}
	}
	defer x.call.Release()
	err := x.admit()
	if err == nil {
		defer x.charge.end()
		err = x.answerCall()
	}
	if err == nil {
		return
	}
	if err := x.refusal(err).Write(w, c.Operation.API()); err != nil {
		g.logger.DebugContext(r.Context(), "a response could not be sent", "error", err)
	}
}

// answerCall answers an admitted call.
func (x *exchange) answerCall() error {
	if x.g.files == nil || x.call.Operation != ChatCompletions && x.call.Operation != Responses {
		return x.run()
	}
	if previous, _ := x.q.metadata["gen_ai.request.previous_response.id"].(string); strings.HasPrefix(previous,
		responsePrefix) {
		return badParam("previous_response_id", "nothing stores a response whose files were searched here: send its "+
			"items, and those before, again as input")
	}
	tool, err := readFileTool(x.q.found.get("tools"))
	if err != nil {
		return err
	}
	if tool == nil {
		return x.run()
	}
	return x.searchFiles(tool)
}

// refusal is what the caller is told of an error.
func (x *exchange) refusal(err error) *Refusal {
	refusal := &Refusal{Status: http.StatusInternalServerError, Code: "gateway_error",
		Message: "Something went wrong here: the service's log says what."}
	if !errors.As(err, &refusal) {
		x.g.logger.ErrorContext(x.r.Context(), "a call through the gateway failed", "error", err)
	}
	return refusal
}

// admit reads the request, and applies routes and the tenant's policy.
func (x *exchange) admit() (err error) {
	if x.ctx, err = readContext(x.r.Header); err != nil {
		return err
	}
	if x.q, err = readRequest(x.call.Operation, x.call.Body); err != nil {
		return err
	}
	if x.ctx.user == "" {
		x.ctx.user = x.q.user
	}
	if x.ctx.conversation == "" {
		x.ctx.conversation = x.q.conversation
	}
	policy := x.g.trail.ModelPolicy(x.call.Caller.Tenant)
	if x.q.fallbacks && len(policy.Allow) > 0 || !allows(policy, x.q.model) {
		return x.g.refusals.notAllowed(x.call.Caller, x.q.model)
	}
	if x.up = x.g.route(x.call.Operation.API(), x.q.model); x.up == nil {
		return x.g.refusals.noUpstream(x.call.Caller, x.q.model)
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), budgetTime)
	defer cancel()
	x.charge, err = x.g.admit(ctx, x.call.Caller, policy, &x.q)
	return err
}

// budgetTime is how long the look at a budget may take: a database that hangs must not hold the call.
const budgetTime = 5 * time.Second

// allows reports whether a policy allows a model.
func allows(p audit.ModelPolicy, model string) bool {
	for _, pattern := range p.Allow {
		if fit(pattern, model) >= 0 {
			return true
		}
	}
	return len(p.Allow) == 0
}

// run sends the request to the upstream, and passes the response on. It returns an error where nothing was answered.
func (x *exchange) run() error {
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	res, kind, err := x.open(ctx, cancel)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	x.call.Release()
	if x.streamed {
		return x.passStream(ctx, cancel, res)
	}
	return x.passBody(ctx, cancel, res, kind)
}

// open sends the request to the upstream, and returns the response and its media type. Where there is none, it logs the
// call, and its error is what the caller is told.
func (x *exchange) open(ctx context.Context, cancel context.CancelCauseFunc) (*http.Response, string, error) {
	h, err := x.requestHeaders()
	if err != nil {
		return nil, "", err
	}
	u := *x.up.base
	u.Path += "/" + string(x.call.Operation)
	u.RawQuery = x.r.URL.RawQuery
	req, err := http.NewRequestWithContext(ctx, x.r.Method, u.String(), bytes.NewReader(x.call.Body))
	if err != nil {
		return nil, "", err
	}
	req.Header = h
	x.begun = time.Now()
	wait := newWatch(cancel, x.g.firstByte, errFirstByte)
	read := x.readPrompt() // while the upstream works
	res, err := x.g.transport.RoundTrip(req)
	wait.stop()
	read()
	x.call.Body = nil
	if err != nil {
		x.took = time.Since(x.begun)
		kind, refusal := x.fault(ctx, err)
		return nil, "", x.failed(kind, refusal)
	}
	x.status = res.StatusCode
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		res.Body.Close()
		x.took = time.Since(x.begun)
		return nil, "", x.failed(faultRedirect, &Refusal{Status: http.StatusBadGateway, Code: codeUpstreamError,
			Message: "Upstream " + x.up.Name + ": it answers with a redirect, which is not followed: the operator " +
				"corrects its base_url."})
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	x.streamed = kind == "text/event-stream" && len(x.call.Operation.dialect().event) > 0
	return res, kind, nil
}

// readPrompt reads the prompt in the background, and returns what waits for it.
func (x *exchange) readPrompt() (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if thrown := recover(); thrown != nil { // a programming error; the call goes on
				x.g.logger.Error("a prompt could not be read", "panic", thrown, "stack", string(debug.Stack()))
				x.q.metadata[metaOmitted] = []string{"gen_ai.input.messages"}
			}
		}()
		x.q.readPrompt(x.call.Operation)
	}()
	return func() { <-done }
}

// failed logs a call without a response of the upstream, and returns what the caller is told.
func (x *exchange) failed(kind string, refusal *Refusal) error {
	x.errorType = kind
	x.answer.errorText = refusal.Message
	if err := x.log(); err != nil {
		return err
	}
	return refusal
}

// read reads from a response until something is there, within the time that an upstream may be silent.
func (x *exchange) read(body io.Reader, buffer []byte, cancel context.CancelCauseFunc) (int, error) {
	wait := newWatch(cancel, x.g.idle, errIdle)
	defer wait.stop()
	n, err := body.Read(buffer)
	x.received += int64(n)
	return n, err
}

// send writes to the client.
func (x *exchange) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := x.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil && !errors.Is(err,
		http.ErrNotSupported) {
		return err
	}
	if _, err := x.w.Write(p); err != nil {
		return err
	}
	return x.control.Flush()
}

// sendHead passes the head of a response on.
func (x *exchange) sendHead(res *http.Response, size int) {
	passHeaders(x.w.Header(), res.Header)
	if size >= 0 {
		x.w.Header().Set("Content-Length", strconv.Itoa(size))
	} else if res.ContentLength >= 0 {
		x.w.Header().Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
	x.w.WriteHeader(res.StatusCode)
}
