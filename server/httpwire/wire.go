package httpwire

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// malformed is the header field that marks an ambiguous request. A handler can't detect one, since net/http has already
// parsed it by then. A client that sends the field itself is refused too.
const malformed = "Konstruct-Malformed"

const (
	// maxHead is how many bytes of a head are looked at: more than net/http takes, which has refused it by then.
	maxHead = MaxHeader + 16<<10
	// maxChunkLine is how many bytes the line before a chunk may have.
	maxChunkLine = 4 << 10
	// How much and for how long a refused connection is drained, so that its client can read the response.
	wireDiscard     = 256 << 10
	wireDiscardTime = time.Second
)

// wirePhase is the parser's state.
type wirePhase int

const (
	atLine     wirePhase = iota // the request line
	atField                     // a field of the head
	atBody                      // the body, or a chunk's data
	atChunk                     // the line with a chunk's length
	atChunkEnd                  // the line end after a chunk
	atTrailer                   // a field after the last chunk
	atHTTP2                     // HTTP/2: not parsed
	atEnd                       // nothing more is passed on
)

// wireConn passes on HTTP/1 requests line by line, and refuses what RFC 9112 forbids but net/http accepts: a proxy that
// parses it differently would take part of one request for another (request smuggling). It tracks where each request
// ends to tell heads from bodies, also of pipelined requests.
type wireConn struct {
	net.Conn
	http2 bool // HTTP/2 without TLS is allowed

	raw   []byte // buffer of in
	in    []byte // read and not parsed yet
	err   error  // the error after in
	store []byte // buffer of out
	out   []byte // parsed and not passed on yet
	phase wirePhase
	later bool   // not the connection's first request
	line  []byte // the incomplete line
	size  int    // bytes of the head so far, or of the line before a chunk
	rest  int64  // bytes left of the body or the chunk

	length, coding, host, old bool // what the head has: a length, a transfer coding, a host, a version before 1.1

	refused atomic.Bool
	closing sync.Once
}

func newWireConn(c net.Conn, http2 bool) *wireConn {
	return &wireConn{Conn: c, http2: http2, raw: make([]byte, 4<<10)}
}

// Read implements net.Conn.
func (w *wireConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(w.out) > 0:
			n := copy(p, w.out)
			w.out = w.out[n:]
			return n, nil
		case w.phase == atEnd:
			return 0, io.EOF
		case len(w.in) > 0:
			w.out = w.store[:0]
			w.process()
			w.store = w.out
		case w.err != nil:
			err := w.err
			w.err = nil // an interrupted read may be retried; a broken connection fails again
			return 0, err
		case w.phase == atHTTP2:
			return w.Conn.Read(p)
		case w.phase == atBody: // passed on unparsed
			n, err := w.Conn.Read(p[:min(int64(len(p)), w.rest)])
			w.consumed(n)
			return n, err
		default:
			n, err := w.Conn.Read(w.raw)
			w.in, w.err = w.raw[:n], err
		}
	}
}

// consumed counts n bytes of the body.
func (w *wireConn) consumed(n int) {
	if w.rest -= int64(n); w.rest == 0 && w.coding {
		w.phase, w.size = atChunkEnd, 0
	} else if w.rest == 0 {
		w.begin()
	}
}

// begin resets the state for the next request.
func (w *wireConn) begin() {
	w.phase, w.later, w.size, w.rest = atLine, true, 0, 0
	w.length, w.coding, w.host, w.old = false, false, false, false
}

// process moves a part of a body, or a line, from in to out.
func (w *wireConn) process() {
	if w.phase == atHTTP2 || w.phase == atBody {
		n := len(w.in)
		if w.phase == atBody {
			n = int(min(int64(n), w.rest))
		}
		w.out, w.in = append(w.out, w.in[:n]...), w.in[n:]
		if w.phase == atBody {
			w.consumed(n)
		}
		return
	}
	n := bytes.IndexByte(w.in, '\n') + 1
	whole := n > 0
	if !whole {
		n = len(w.in)
	}
	w.line, w.in, w.size = append(w.line, w.in[:n]...), w.in[n:], w.size+n
	switch inBody := w.phase >= atChunk; {
	case w.size > maxHead || inBody && w.phase != atTrailer && w.size > maxChunkLine:
		w.out = append(w.out, w.line...) // net/http refuses it as too long
		w.end()
	case whole:
		line := w.line
		w.line = w.line[:0]
		w.readLine(line)
	}
}

// readLine parses a line and passes it on.
func (w *wireConn) readLine(line []byte) {
	content := bytes.TrimSuffix(line, []byte("\r\n"))
	if len(content)+2 != len(line) || bytes.ContainsAny(content, "\r\x00") {
		w.refuse("a line does not end with CR LF, or has CR or NUL")
		return
	}
	why := ""
	switch w.phase {
	case atLine:
		if len(content) == 0 && w.size <= 4 { // some clients send an extra empty line after a body
			return
		}
		if !w.later && w.http2 && string(content) == "PRI * HTTP/2.0" { // RFC 9113, 3.4
			w.phase = atHTTP2
			break
		}
		w.phase, w.old = atField, !bytes.HasSuffix(content, []byte(" HTTP/1.1"))
	case atField:
		switch {
		case len(content) > 0:
			why = w.field(content)
		case !w.host && !w.old:
			why = "it has no Host"
		default:
			w.endHead()
		}
	case atChunk:
		digits, _, _ := bytes.Cut(content, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimRight(digits, " \t")), 16, 63)
		if err != nil {
			why = "a chunk's length is not a number"
		}
		if w.phase, w.rest = atBody, int64(n); n == 0 {
			w.phase, w.size = atTrailer, 0
		}
	case atChunkEnd:
		if w.phase, w.size = atChunk, 0; len(content) > 0 {
			why = "a chunk is longer than its length"
		}
	case atTrailer:
		if len(content) == 0 {
			w.begin()
		} else if _, _, why = fieldOf(content); why == "" {
			break
		}
	}
	if why != "" {
		w.refuse(why)
		return
	}
	w.out = append(w.out, line...)
}

// endHead sets the state after a head.
func (w *wireConn) endHead() {
	switch w.size = 0; {
	case w.coding:
		w.phase = atChunk
	case w.rest > 0:
		w.phase = atBody
	default:
		w.begin()
	}
}

// fieldOf splits a field into name and value, or returns what is wrong with it.
func fieldOf(line []byte) (name, value, why string) {
	if line[0] == ' ' || line[0] == '\t' {
		return "", "", "a field's value goes on in the next line"
	}
	before, after, ok := bytes.Cut(line, []byte(":"))
	if name = string(before); !ok || !httpguts.ValidHeaderFieldName(name) {
		return "", "",
			"a field has no name, a name with a space or another character that can't be in it, or no colon"
	}
	return name, string(bytes.Trim(after, " \t")), ""
}

// field checks the fields that delimit a request and name its host.
func (w *wireConn) field(line []byte) (why string) {
	name, value, why := fieldOf(line)
	switch strings.ToLower(name) {
	case "content-length":
		if w.length || w.coding {
			return "it has Content-Length twice, or with Transfer-Encoding"
		}
		n, err := strconv.ParseUint(value, 10, 63)
		if w.length, w.rest = true, int64(n); err != nil || value[0] == '+' {
			return "its Content-Length is not a number"
		}
	case "transfer-encoding":
		if w.length || w.coding || w.old {
			return "it has Transfer-Encoding twice, with Content-Length, or in a version without"
		}
		if w.coding = true; !strings.EqualFold(value, "chunked") {
			return "its Transfer-Encoding is not just chunked"
		}
	case "host":
		if w.host {
			return "it has Host twice"
		}
		w.host = true
	case strings.ToLower(malformed):
		return "it has a header field that is reserved"
	}
	return why
}

// refuse passes on, instead of the request, a head with the reason. Within a body, it ends the input.
func (w *wireConn) refuse(why string) {
	switch {
	case w.phase == atLine:
		w.out = append(w.out, "GET / HTTP/1.1\r\n"...)
		fallthrough
	case w.phase == atField:
		if !w.host {
			w.out = append(w.out, "Host: localhost\r\n"...)
		}
		w.out = fmt.Appendf(w.out, "%s: %s\r\n\r\n", malformed, why)
	}
	w.end()
}

func (w *wireConn) end() {
	w.phase, w.in = atEnd, nil
	w.refused.Store(true)
}

// CloseWrite closes the sending side.
func (w *wireConn) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close implements net.Conn. It drains a refused connection first, so that its client can read the response.
func (w *wireConn) Close() error {
	w.closing.Do(func() {
		if w.refused.Load() && w.CloseWrite() == nil && w.SetReadDeadline(time.Now().Add(wireDiscardTime)) == nil {
			_, _ = io.CopyN(io.Discard, w.Conn, wireDiscard)
		}
	})
	return w.Conn.Close()
}

// Ambiguous returns why two readers could read a request differently, or the empty string: what was seen on the wire,
// and what HTTP/2 leaves to its readers.
func Ambiguous(r *http.Request) string {
	if why := r.Header.Get(malformed); why != "" {
		return why
	}
	if len(r.Header.Values("Content-Length")) > 1 {
		return "it has Content-Length twice"
	}
	if hosts := r.Header.Values("Host"); len(hosts) > 1 || len(hosts) == 1 && hosts[0] != r.Host {
		return "it has Host twice, or a Host other than :authority"
	}
	return ""
}
