package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// fileRun answers a request whose files are searched here: it calls the upstream's model, searches what that asks for,
// and calls it again with the results, until it answers.
type fileRun struct {
	x       *exchange // the client's; each call of the model has one of its own
	request *fileRequest
	answer  fileAnswer
	known   map[string]*FileResult // what was put before the model, by its code
	shown   int                    // bytes of it
	calls   int                    // searches so far
	trace   string
	events  []uuid.UUID // of searches since the last call of the model
	begun   bool        // the response's head is sent
}

// round is one call of the model, as its event tells it.
type round struct {
	number      int
	trace, span string
	retrievals  []uuid.UUID
	response    string // the id of the client's response, where this call ends it
}

// fileCall is a search that the model asks for.
type fileCall struct {
	id        string // the client's
	call      string // the upstream's
	arguments string
	index     int // of its item in the client's response
	queries   []string
	results   []FileResult
}

// fileAnswer makes the client's response of the model's answers: it sends what can be sent, and keeps the rest.
type fileAnswer interface {
	// event takes an event of an answer, and whole a whole answer. It returns errUnreadable where that is none.
	event(data []byte) error
	whole(body []byte) error
	// end ends an answer, and returns the searches that it asks for.
	end() ([]*fileCall, error)
	// searching and searched tell the client of a search, whose result the model is to be given.
	searching(*fileCall) error
	searched(c *fileCall, said string) error
	// last is what ends the response: the body, or the last events.
	last() []byte
	// failed is what ends a stream that can't go on.
	failed(*Refusal) []byte
	// id is that of the client's response.
	id() string
}

var errUnreadable = errors.New("the upstream's answer can't be read")

// searchTime is how long one search may take.
const searchTime = 30 * time.Second

// Metadata of the rounds' events.
const (
	metaRound      = "konstruct.gateway.round"      // which call of the request's model it is
	metaRetrievals = "konstruct.gateway.retrievals" // events of the searches since the call before
	metaResponse   = "konstruct.gateway.response"   // the id of the client's response that this call ends
)

// record adds to an event's metadata.
func (r *round) record(m audit.Metadata) {
	m["trace_id"], m["span_id"], m[metaRound] = r.trace, r.span, r.number
	if len(r.retrievals) > 0 {
		m[metaRetrievals] = r.retrievals
	}
	if r.response != "" {
		m[metaResponse] = cleaned(r.response)
	}
}

// answeredAs is the response's id as the client knows it.
func (x *exchange) answeredAs() string {
	if x.own != nil {
		return x.own.response
	}
	return x.answer.id
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// searchFiles answers the call. Its error is what the caller is told, where nothing is answered yet.
func (x *exchange) searchFiles(t *fileTool) error {
	request, err := newFileRequest(x.call.Operation, x.call.Body, t)
	if err != nil {
		return err
	}
	x.call.Body, x.q.found = nil, nil
	f := &fileRun{x: x, request: request, known: map[string]*FileResult{}, trace: x.ctx.trace}
	if f.trace == "" {
		f.trace = randomHex(16)
	}
	t.query.Agent, t.query.User, t.query.Conversation = x.call.Caller.Agent, x.ctx.user, x.ctx.conversation
	t.query.Trace = f.trace
	if err := x.g.files.Check(x.r.Context(), t.query); err != nil {
		return t.placed(err)
	}
	if f.answer = newResponsesAnswer(f); x.call.Operation == ChatCompletions {
		f.answer = newChatAnswer(f)
	}
	for number := 1; ; number++ {
		calls, err := f.callModel(number)
		switch {
		case err != nil || len(calls) == 0:
		case number == maxRounds:
			err = &Refusal{Status: http.StatusBadGateway, Code: codeUpstreamError, Message: "Upstream " + x.up.Name +
				": its model asks for searches that it was told not to make."}
		default:
			err = f.search(calls)
		}
		switch {
		case errors.Is(err, errClient):
			return nil // it is not there to be told
		case err != nil && f.begun:
			_ = x.send(f.answer.failed(x.refusal(err))) // ignore the error: the client is gone, too
			return nil
		case err != nil || len(calls) == 0:
			return err
		}
	}
}

// placed is an error of the search, with its place in the request.
func (t *fileTool) placed(err error) error {
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Param == "" {
		return err
	}
	out := *refusal
	out.Param = fmt.Sprintf("tools[%d].%s", t.at, out.Param)
	out.Message = out.Param + ": " + out.Message
	return &out
}

// callModel calls the upstream's model, and returns the searches that it asks for: none where the client was answered.
func (f *fileRun) callModel(number int) (calls []*fileCall, err error) {
	x := f.x
	y := &exchange{g: x.g, w: x.w, r: x.r, control: x.control, call: x.call, ctx: x.ctx, up: x.up, charge: x.charge,
		own: &round{number: number, trace: f.trace, span: randomHex(8), retrievals: f.events}}
	y.call.Body = f.request.body(f.calls > 0, number == maxRounds)
	f.events, f.request.tool.query.Parent = nil, y.own.span
	if y.q, err = readRequest(x.call.Operation, y.call.Body); err != nil {
		return nil, err
	}
	if number > 1 {
		ctx, cancel := context.WithTimeout(x.r.Context(), budgetTime)
		y.charge, err = x.g.admit(ctx, x.call.Caller, x.g.trail.ModelPolicy(x.call.Caller.Tenant), &y.q)
		if cancel(); err != nil {
			return nil, err
		}
		defer y.charge.end()
	}
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	res, kind, err := y.open(ctx, cancel)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch encoded := contentEncoding(res.Header.Get("Content-Encoding")) != ""; {
	case y.status >= 400 && !f.begun:
		return nil, y.passBody(ctx, cancel, res, kind)
	case y.status < 400 && y.q.stream == y.streamed && y.streamed && !encoded:
		return f.stream(ctx, cancel, y, res)
	case y.status < 400 && encoded:
		return nil, y.failed(faultUndecodable, y.unreadable())
	}
	return f.body(ctx, cancel, y, res, kind)
}

func (x *exchange) unreadable() *Refusal {
	return &Refusal{Status: http.StatusBadGateway, Code: codeUpstreamError,
		Message: "Upstream " + x.up.Name + ": its response is none of this API, so that no file can be searched " +
			"with it."}
}

// body reads an answer that is no stream: of the model, or an error after the client has a part of the response.
func (f *fileRun) body(ctx context.Context, cancel context.CancelCauseFunc, y *exchange, res *http.Response,
	kind string) (calls []*fileCall, err error) {
	raw, err := y.readBody(cancel, res.Body)
	if y.took = time.Since(y.begun); err != nil {
		fault, refusal := y.fault(ctx, err)
		return nil, y.failed(fault, refusal)
	}
	d := y.call.Operation.dialect()
	found := newScanner(d.whole)
	found.write(raw)
	d.readWhole(&y.answer, found)
	if y.judge(found, kind, nil); y.status >= 400 { // of a stream, whose head is sent
		y.errorBody = raw[:min(len(raw), maxError)]
		if err := y.log(); err != nil {
			return nil, err
		}
		return nil, &Refusal{Status: y.status, Code: y.errorKind(), Message: "Upstream " + y.up.Name + ": " +
			cleaned(y.answer.errorText)}
	}
	if y.errorType == "" && (y.q.stream || f.answer.whole(raw) != nil) {
		y.errorType = faultInvalid
	}
	if y.errorType != "" {
		return nil, y.failed(y.errorType, y.unreadable())
	}
	if calls, err = f.answer.end(); err != nil {
		return nil, err
	}
	if len(calls) == 0 {
		y.own.response = f.answer.id()
	}
	if err := y.log(); err != nil || len(calls) > 0 {
		return calls, err
	}
	last := f.answer.last()
	y.sendHead(res, len(last))
	if err := y.send(last); err != nil {
		y.g.logger.DebugContext(ctx, "a response could not be sent", "error", err)
	}
	return nil, nil
}

// readBody reads a whole response.
func (x *exchange) readBody(cancel context.CancelCauseFunc, body io.Reader) (raw []byte, err error) {
	buffer := x.g.buffers.Get().(*[]byte)
	defer x.g.buffers.Put(buffer)
	for err == nil {
		var n int
		n, err = x.read(body, *buffer, cancel)
		if raw = append(raw, (*buffer)[:n]...); len(raw) > maxRound {
			return nil, errors.New("the upstream's answer is too long")
		}
	}
	if err == io.EOF {
		err = nil
	}
	return raw, err
}

// stream passes an answer on as it arrives, without what is not the client's. Its end waits until the call is logged.
func (f *fileRun) stream(ctx context.Context, cancel context.CancelCauseFunc, y *exchange,
	res *http.Response) (calls []*fileCall, err error) {
	if !f.begun {
		res.ContentLength = -1
		y.sendHead(res, -1)
		f.begun = true
	}
	events := newEventReader(y.call.Operation.dialect(), &y.answer)
	split := frames{}
	buffer := y.g.buffers.Get().(*[]byte)
	defer y.g.buffers.Put(buffer)
	for err == nil && !events.last {
		var n int
		if n, err = y.read(res.Body, *buffer, cancel); n == 0 {
			continue
		}
		if y.firstChunk == 0 {
			y.firstChunk = time.Since(y.begun)
		}
		events.write((*buffer)[:n])
		if y.received > maxStream {
			err = errUnreadable
			break
		}
		if wrong := split.write((*buffer)[:n], f.answer.event); wrong != nil {
			if !errors.Is(wrong, errUnreadable) {
				cancel(errClient)
			}
			err = wrong
		}
	}
	y.took = time.Since(y.begun)
	broken := err != nil && err != io.EOF
	switch {
	case errors.Is(err, errUnreadable):
		y.errorType = faultInvalid
	case broken:
		y.errorType, _ = y.fault(ctx, err)
	case !y.answer.over() && y.answer.errorType == "":
		y.errorType = faultIncomplete
	}
	var gone error
	if y.errorKind() == "" {
		calls, gone = f.answer.end()
	}
	if len(calls) == 0 {
		y.own.response = f.answer.id()
	}
	if unlogged := y.log(); unlogged != nil {
		return nil, unlogged
	}
	switch {
	case errors.Is(err, errUnreadable):
		return nil, y.unreadable()
	case broken:
		panic(http.ErrAbortHandler)
	case gone != nil:
		return nil, errClient
	case len(calls) > 0:
		y.drain(cancel, res.Body)
		return calls, nil
	}
	_ = y.send(f.answer.last()) // ignore the error: the client is gone
	return nil, nil
}

// drain reads what comes after the last event, so that the connection serves again.
func (x *exchange) drain(cancel context.CancelCauseFunc, body io.Reader) {
	wait := newWatch(cancel, 50*time.Millisecond, nil)
	defer wait.stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(body, readSize))
}

// search runs the searches that the model asked for, and puts their results before it.
func (f *fileRun) search(calls []*fileCall) error {
	t := f.request.tool
	for i, c := range calls {
		if err := f.answer.searching(c); err != nil {
			return errClient
		}
		said := ""
		switch c.queries = queries(c.arguments); {
		case i >= maxCalls || t.calls >= 0 && f.calls >= t.calls:
			said, c.queries = "There can be no further search: answer with what you have.", []string{}
		case len(c.queries) == 0:
			said, c.queries = `The arguments are no {"queries":["…"]}: nothing was searched.`, []string{}
		default:
			q := t.query
			q.Queries = c.queries
			ctx, cancel := context.WithTimeout(f.x.r.Context(), searchTime)
			found, err := f.x.g.files.Search(ctx, q)
			if cancel(); err != nil {
				return t.placed(err)
			}
			f.events = append(f.events, found.Events...)
			c.results = found.Results
			said = f.show(found.Results)
		}
		f.calls++
		if err := f.answer.searched(c, said); err != nil {
			return errClient
		}
	}
	return nil
}

// show gives results codes by which the model can cite them, and returns them as it is shown them.
func (f *fileRun) show(results []FileResult) string {
	codes := make([]string, len(results))
	for i := range results {
		for codes[i] == "" || f.known[codes[i]] != nil {
			codes[i] = strings.ToLower(rand.Text()[:codeSize])
		}
		if f.shown += len(results[i].Text); f.shown > maxShown {
			return shownResults(results[:i], codes[:i])
		}
		f.known[codes[i]] = &results[i]
	}
	return shownResults(results, codes)
}

// shownResults are results as a model is shown them: JSON, in which each text stands between lines of a boundary that
// nobody knew who wrote the text.
func shownResults(results []FileResult, codes []string) string {
	type shown struct {
		Cite       string         `json:"cite,omitempty"`
		Filename   string         `json:"filename"`
		Attributes map[string]any `json:"attributes,omitempty"`
		Text       string         `json:"text"`
	}
	boundary := "=== " + strings.ToLower(rand.Text()) + " ==="
	all := make([]shown, len(results))
	for i, r := range results {
		all[i] = shown{Filename: r.Filename, Attributes: r.Attributes, Text: boundary + "\n" + r.Text + "\n" + boundary}
		if codes != nil {
			all[i].Cite = markBegin + codes[i] + markEnd
		}
	}
	return string(encode(struct {
		Boundary string  `json:"boundary"`
		Results  []shown `json:"results"`
	}{boundary, all}))
}

// sum adds numbers of a JSON object to those of another, as tokens of two calls.
func sum(a, b json.RawMessage) json.RawMessage {
	var x, y map[string]json.RawMessage
	if json.Unmarshal(b, &y) != nil || y == nil {
		return a
	}
	if json.Unmarshal(a, &x) != nil || x == nil {
		return b
	}
	for name, more := range y {
		var n, m int64
		switch {
		case x[name] == nil:
			x[name] = more
		case json.Unmarshal(x[name], &n) == nil && json.Unmarshal(more, &m) == nil:
			x[name] = encode(n + m)
		default:
			x[name] = sum(x[name], more)
		}
	}
	return encode(x)
}
