package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Limits on draining an unwanted body. If a server closes the connection while the client still writes, the connection
// is reset and the client may lose the response (RFC 9112, 9.6).
const (
	discardBytes = maxUpload + 2*maxJSON // the largest accepted request
	discardTime  = bodyTime
	// smallRest is how many bytes of a body net/http itself drains before it responds.
	smallRest = 256 << 10
)

// drainBody lets clients read an error response while they still send the body: it sends the response at once with
// Connection: close, and then discards the rest, within bounds of bytes and time. A client that waits for 100-continue
// sends nothing. HTTP/2 needs none of this: a stream ends without its connection.
func (s *Server) drainBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			next.ServeHTTP(w, r)
			return
		}
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(bodilessWriter{w}, r)
			return
		}
		body := &incomingBody{ReadCloser: r.Body, size: r.ContentLength, control: http.NewResponseController(w)}
		l := &lingeringWriter{ResponseWriter: w, body: body, expects: strings.EqualFold(r.Header.Get("Expect"),
			"100-continue")}
		own := *r // net/http checks the original request's body when it responds
		own.Body = body
		control := body.control
		// A client may send a head and never a body: bound the wait until the handler sets its own deadline.
		if err := control.SetReadDeadline(time.Now().Add(bodyTime)); err != nil && !errors.Is(err,
			http.ErrNotSupported) {
			s.logger.DebugContext(r.Context(), "a read deadline could not be set", "error", err)
		}
		next.ServeHTTP(l, &own)
		if !l.dropping || l.answer() != nil || control.Flush() != nil ||
			control.SetReadDeadline(time.Now().Add(discardTime)) != nil {
			return
		}
		defer context.AfterFunc(s.stopping, func() { _ = control.SetReadDeadline(time.Now()) })()
		_, _ = io.CopyN(io.Discard, body.ReadCloser, discardBytes) // ignore the error: the connection is closed anyway
	})
}

// incomingBody counts the bytes read of a request's body. Close does nothing, since the rest may have to be drained.
type incomingBody struct {
	io.ReadCloser
	size  int64 // Content-Length; -1 if unknown
	read  atomic.Int64
	ended atomic.Bool
	// control ends the read deadline with the body. net/http goes on reading, to see whether the client is there: a
	// deadline that passes then would cancel the contexts of this and of every later request of the connection. It is
	// nil in a body within another.
	control *http.ResponseController
}

// Read implements io.Reader.
func (b *incomingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	}
	if b.over() && b.control != nil {
		_ = b.control.SetReadDeadline(time.Time{}) // ignore the error: the connection is gone
	}
	return n, err
}

// Close implements io.Closer.
func (b *incomingBody) Close() error { return nil }

// over reports whether the whole body has been read.
func (b *incomingBody) over() bool {
	return b.ended.Load() || b.size >= 0 && b.read.Load() >= b.size
}

// lingeringWriter detects an error response that begins before the body has been read.
type lingeringWriter struct {
	http.ResponseWriter
	body     *incomingBody
	expects  bool
	decided  bool
	dropping bool
	status   int          // of the held response
	held     bytes.Buffer // the response, when the body will be drained
}

// SetReadDeadline sets the deadline for the rest of the body, if there is one: see incomingBody.
func (l *lingeringWriter) SetReadDeadline(t time.Time) error {
	if l.body.over() {
		return nil
	}
	return l.body.control.SetReadDeadline(t)
}

// bodilessWriter is for a request without a body: it has no read deadline, as an incomingBody that is over.
type bodilessWriter struct{ http.ResponseWriter }

// SetReadDeadline does nothing.
func (bodilessWriter) SetReadDeadline(time.Time) error { return nil }

// Unwrap lets http.ResponseController reach the connection.
func (b bodilessWriter) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// decide decides how to treat the rest of the body, when the response begins.
func (l *lingeringWriter) decide(status int) {
	if l.decided || status < 200 {
		return
	}
	l.decided = true
	rest := l.body.size - l.body.read.Load()
	switch {
	case status < 400 || l.body.over():
	case l.expects && l.body.read.Load() == 0: // the client waits for 100-continue: net/http closes the connection
	case l.body.size >= 0 && rest < smallRest: // net/http drains it and keeps the connection
	// without full duplex, net/http reads the body before it responds
	case http.NewResponseController(l.ResponseWriter).EnableFullDuplex() == nil:
		l.ResponseWriter.Header().Set("Connection", "close")
		l.dropping = true
	}
}

// WriteHeader implements http.ResponseWriter.
func (l *lingeringWriter) WriteHeader(status int) {
	if l.decide(status); l.dropping {
		l.status = status
		return
	}
	l.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (l *lingeringWriter) Write(p []byte) (int, error) {
	if l.decide(http.StatusOK); l.dropping {
		return l.held.Write(p) // a problem of some hundred bytes
	}
	return l.ResponseWriter.Write(p)
}

// FlushError implements the interface of http.ResponseController.
func (l *lingeringWriter) FlushError() error {
	if l.decide(http.StatusOK); l.dropping {
		return nil
	}
	return http.NewResponseController(l.ResponseWriter).Flush()
}

// answer sends the held response, complete, before the body is drained.
func (l *lingeringWriter) answer() error {
	l.Header().Set("Content-Length", strconv.Itoa(l.held.Len()))
	l.ResponseWriter.WriteHeader(l.status)
	_, err := l.ResponseWriter.Write(l.held.Bytes())
	return err
}

// Unwrap lets http.ResponseController reach the connection.
func (l *lingeringWriter) Unwrap() http.ResponseWriter { return l.ResponseWriter }
