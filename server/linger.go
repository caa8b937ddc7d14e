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

// What is read and dropped of a body that nobody wants any more, so that whoever sends it gets to see the answer: a
// connection that is closed while its client writes is reset, and the answer that is on its way is lost (RFC 9112,
// 9.6).
const (
	discardBytes = maxUpload + 2*maxJSON // what the largest request that is taken has
	discardTime  = bodyTime
	// smallRest is what net/http itself reads of a body before it answers.
	smallRest = 256 << 10
)

// drainBody answers those who are turned away while they still send: the answer goes out at once and says that the
// connection will be closed, and what still comes is dropped, within bounds of bytes and time. Whoever waits to be
// told to go on (Expect: 100-continue) need not send anything. HTTP/2 has no need of it: a stream ends without its
// connection.
func (s *Server) drainBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		body := &incomingBody{ReadCloser: r.Body, size: r.ContentLength}
		l := &lingeringWriter{ResponseWriter: w, body: body, expects: strings.EqualFold(r.Header.Get("Expect"),
			"100-continue")}
		own := *r // net/http looks at its own one's body when it answers
		own.Body = body
		control := http.NewResponseController(w)
		// A head that came is no promise that a body will: this holds until whoever knows what is asked for says
		// better.
		if err := control.SetReadDeadline(time.Now().Add(bodyTime)); err != nil && !errors.Is(err,
			http.ErrNotSupported) {
			s.logger.DebugContext(r.Context(), "a body's time is not limited", "error", err)
		}
		next.ServeHTTP(l, &own)
		if !l.dropping || l.answer() != nil || control.Flush() != nil ||
			control.SetReadDeadline(time.Now().Add(discardTime)) != nil {
			return
		}
		defer context.AfterFunc(s.stopping, func() { _ = control.SetReadDeadline(time.Now()) })()
		_, _ = io.CopyN(io.Discard, body.ReadCloser, discardBytes) // however it ends, the connection is closed
	})
}

// incomingBody is a request's body, of which it is known how much was read. Closing it ends nothing: what was not
// read may have to be dropped.
type incomingBody struct {
	io.ReadCloser
	size  int64 // as its sender said; -1 where they did not
	read  atomic.Int64
	ended atomic.Bool
}

// Read implements io.Reader.
func (b *incomingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (b *incomingBody) Close() error { return nil }

// over reports that nothing of a body is still to come.
func (b *incomingBody) over() bool {
	return b.ended.Load() || b.size >= 0 && b.read.Load() >= b.size
}

// lingeringWriter sees an answer that turns a request away before its body has come.
type lingeringWriter struct {
	http.ResponseWriter
	body     *incomingBody
	expects  bool
	decided  bool
	dropping bool
	status   int          // of what is held
	held     bytes.Buffer // the answer, where the rest is dropped
}

// decide says what becomes of the rest of the body, when the answer begins.
func (l *lingeringWriter) decide(status int) {
	if l.decided || status < 200 {
		return
	}
	l.decided = true
	rest := l.body.size - l.body.read.Load()
	switch {
	case status < 400 || l.body.over():
	case l.expects && l.body.read.Load() == 0: // it waits: net/http closes the connection, and nothing is sent
	case l.body.size >= 0 && rest < smallRest: // net/http reads it, and the connection stays
	// else it would be read before it is answered
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
		return l.held.Write(p) // a problem: some hundred bytes
	}
	return l.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController calls.
func (l *lingeringWriter) FlushError() error {
	if l.decide(http.StatusOK); l.dropping {
		return nil
	}
	return http.NewResponseController(l.ResponseWriter).Flush()
}

// answer sends what was held, so that its end is told before what comes is dropped.
func (l *lingeringWriter) answer() error {
	l.Header().Set("Content-Length", strconv.Itoa(l.held.Len()))
	l.ResponseWriter.WriteHeader(l.status)
	_, err := l.ResponseWriter.Write(l.held.Bytes())
	return err
}

// Unwrap lets http.ResponseController reach the connection.
func (l *lingeringWriter) Unwrap() http.ResponseWriter { return l.ResponseWriter }
