package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxBuffered is how many bytes of a whole body are held until the call is logged. Of a larger one, its end is held.
const (
	maxBuffered = 1 << 20
	heldEnd     = 4 << 10
)

// passBody passes a response that is no stream on: after it is logged, or where it is large, all but its end before.
func (x *exchange) passBody(ctx context.Context, cancel context.CancelCauseFunc, res *http.Response,
	kind string) error {
	d := x.call.Operation.dialect()
	found := newScanner(d.whole)
	take := func(p []byte) {
		if x.status >= 400 || kind != "application/json" {
			x.errorBody = append(x.errorBody, p[:min(len(p), maxError-len(x.errorBody))]...)
		}
		found.write(p)
	}
	finish := func() error { return nil }
	encoding := contentEncoding(res.Header.Get("Content-Encoding"))
	switch {
	case decodes(encoding):
		dec := newDecoder(encoding, take)
		take, finish = dec.write, dec.close
	case encoding != "":
		take = func([]byte) {}
		x.errorType = faultUndecodable
	}
	buffer := x.g.buffers.Get().(*[]byte)
	defer x.g.buffers.Put(buffer)
	var held []byte
	sent := false
	var err error
	for err == nil {
		var n int
		n, err = x.read(res.Body, *buffer, cancel)
		take((*buffer)[:n])
		held = append(held, (*buffer)[:n]...)
		if len(held) > maxBuffered || sent && len(held) > heldEnd {
			if !sent {
				x.sendHead(res, -1)
				sent = true
			}
			rest := max(len(held)-heldEnd, 0)
			if gone := x.send(held[:rest]); gone != nil {
				cancel(errClient)
				err = gone
			}
			held = append(held[:0], held[rest:]...)
		}
	}
	x.took = time.Since(x.begun)
	undecodable := finish()
	if err == io.EOF && x.errorType == "" {
		d.readWhole(&x.answer, found)
		x.judge(found, kind, undecodable)
	}
	return x.endBody(ctx, res, err, held, sent)
}

// judge says what is wrong with a response that came whole.
func (x *exchange) judge(found *scanner, kind string, undecodable error) {
	if found.incomplete() {
		x.answer.lost++
	}
	switch {
	case undecodable != nil:
		x.errorType = faultUndecodable
	case x.status >= 400: // the vendor's words, or the status
	case kind != "application/json" && !strings.HasSuffix(kind, "+json") || !found.ended():
		x.errorType = faultInvalid
	}
}

// endBody logs the call, and passes the rest of the response on.
func (x *exchange) endBody(ctx context.Context, res *http.Response, err error, held []byte, sent bool) error {
	var refusal *Refusal
	if err != io.EOF {
		x.errorType, refusal = x.fault(ctx, err)
	}
	unlogged := x.log()
	switch {
	case unlogged != nil && sent, refusal != nil && sent:
		panic(http.ErrAbortHandler)
	case unlogged != nil:
		return unlogged
	case refusal != nil:
		return refusal
	}
	if !sent {
		x.sendHead(res, len(held))
	}
	if err := x.send(held); err != nil {
		x.g.logger.DebugContext(ctx, "a response could not be sent", "error", err)
	}
	return nil
}

// passStream passes a stream of events on as they arrive. Its last event waits until the call is logged.
func (x *exchange) passStream(ctx context.Context, cancel context.CancelCauseFunc, res *http.Response) error {
	events := newEventReader(x.call.Operation.dialect(), &x.answer)
	take := events.write
	finish := func() error { return nil }
	encoding := contentEncoding(res.Header.Get("Content-Encoding"))
	switch {
	case decodes(encoding): // the upstream was asked for none: the end of the response waits instead
		dec := newDecoder(encoding, func(p []byte) { events.write(p) })
		take = func(p []byte) int { dec.write(p); return len(p) }
		finish = dec.close
	case encoding != "":
		take = func(p []byte) int { return len(p) }
		x.errorType = faultUndecodable
	}
	res.ContentLength = -1
	x.sendHead(res, -1)
	buffer := x.g.buffers.Get().(*[]byte)
	defer x.g.buffers.Put(buffer)
	var held []byte
	var err error
	for err == nil && (!events.last || encoding != "") {
		var n int
		if n, err = x.read(res.Body, *buffer, cancel); n == 0 {
			continue
		}
		if x.firstChunk == 0 {
			x.firstChunk = time.Since(x.begun)
		}
		over := take((*buffer)[:n])
		if over > 0 {
			held = append(held, (*buffer)[:over]...)
			if gone := x.send(held); gone != nil {
				cancel(errClient)
				err = gone
			}
			held = held[:0]
		}
		held = append(held, (*buffer)[over:n]...)
		if rest := len(held) - heldEnd; len(held) > maxHeld && !events.last {
			if gone := x.send(held[:rest]); gone != nil {
				cancel(errClient)
				err = gone
			}
			held = append(held[:0], held[rest:]...)
		}
	}
	x.took = time.Since(x.begun)
	if undecodable := finish(); undecodable != nil {
		x.errorType = faultUndecodable
	}
	return x.endStream(ctx, cancel, res, err, held)
}

// endStream logs the call, and passes the rest of the stream on.
func (x *exchange) endStream(ctx context.Context, cancel context.CancelCauseFunc, res *http.Response, err error,
	held []byte) error {
	broken := err != nil && err != io.EOF
	switch {
	case broken:
		x.errorType, _ = x.fault(ctx, err)
	case !x.answer.over() && x.errorType == "" && x.answer.errorType == "":
		x.errorType = faultIncomplete
	}
	if unlogged := x.log(); unlogged != nil {
		var refusal *Refusal
		if !errors.As(unlogged, &refusal) {
			panic(http.ErrAbortHandler)
		}
		_ = x.send(refusal.event(x.call.Operation)) // ignore the error: the client is gone, too
		return nil
	}
	sendErr := x.send(held)
	if broken {
		panic(http.ErrAbortHandler)
	}
	buffer := x.g.buffers.Get().(*[]byte)
	defer x.g.buffers.Put(buffer)
	for err == nil && sendErr == nil { // what comes after the last event
		var n int
		n, err = x.read(res.Body, *buffer, cancel)
		sendErr = x.send((*buffer)[:n])
	}
	return nil
}

// over reports whether a response ended as its API says: by the last event, or by a reason for each choice where a
// server leaves the last event out.
func (a *answer) over() bool {
	if a.finished {
		return true
	}
	for _, c := range a.choices {
		if c.reason == "" {
			return false
		}
	}
	return len(a.choices) > 0
}
