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

// malformed is the field that a head gets which two readers could read differently: by the time that a handler sees
// a request net/http has decided how it reads it, and doesn't say so. Whoever sends it themselves is refused as
// well.
const malformed = "Konstruct-Malformed"

const (
	// maxHead is how many bytes of a head are looked at: more than net/http takes, which has refused it by then.
	maxHead = MaxHeader + 16<<10
	// maxChunkLine is how many bytes the line before a chunk may have.
	maxChunkLine = 4 << 10
	// How much and for how long is read of a connection that is closed because of what came, so that its client
	// sees why.
	wireDiscard     = 256 << 10
	wireDiscardTime = time.Second
)

// wirePhase is where a connection is in a request.
type wirePhase int

const (
	atLine     wirePhase = iota // the request's line
	atField                     // a field of its head
	atBody                      // the body, or a chunk's data
	atChunk                     // the line that says how long a chunk is
	atChunkEnd                  // the line's end behind a chunk
	atTrailer                   // a field behind the last chunk
	atHTTP2                     // none of this is for it
	atEnd                       // nothing more is handed on
)

// wireConn hands on what comes of HTTP/1 requests, line by line, and refuses what RFC 9112 does not allow and
// net/http reads all the same: a proxy in front that reads it otherwise would take part of one request for another
// one (request smuggling). It follows where each request ends, so that it knows heads from bodies, also of requests
// that come in one piece.
type wireConn struct {
	net.Conn
	http2 bool // may begin without TLS

	raw   []byte // room for in
	in    []byte // what was read and not looked at
	err   error  // why no more was
	store []byte // room for out
	out   []byte // what was looked at and not handed on
	phase wirePhase
	later bool   // it is not the connection's first request
	line  []byte // the line so far
	size  int    // bytes of the head so far, or of the line before a chunk
	rest  int64  // bytes of the body, or of the chunk, that are yet to come

	length, coding, host, old bool // what the head has: a length, a transfer coding, a host, another version than 1.1

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
			w.err = nil // a read that was interrupted is made again; what is broken says so again
			return 0, err
		case w.phase == atHTTP2:
			return w.Conn.Read(p)
		case w.phase == atBody: // which needs no looking at
			n, err := w.Conn.Read(p[:min(int64(len(p)), w.rest)])
			w.consumed(n)
			return n, err
		default:
			n, err := w.Conn.Read(w.raw)
			w.in, w.err = w.raw[:n], err
		}
	}
}

// consumed notes that n bytes of the body have come.
func (w *wireConn) consumed(n int) {
	if w.rest -= int64(n); w.rest == 0 && w.coding {
		w.phase, w.size = atChunkEnd, 0
	} else if w.rest == 0 {
		w.begin()
	}
}

// begin forgets the request before.
func (w *wireConn) begin() {
	w.phase, w.later, w.size, w.rest = atLine, true, 0, 0
	w.length, w.coding, w.host, w.old = false, false, false, false
}

// process moves what can be handed on from in to out: some of a body, or a line.
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
		w.out = append(w.out, w.line...) // which makes it too long for net/http too
		w.end()
	case whole:
		line := w.line
		w.line = w.line[:0]
		w.readLine(line)
	}
}

// readLine looks at a line, and hands it on.
func (w *wireConn) readLine(line []byte) {
	content := bytes.TrimSuffix(line, []byte("\r\n"))
	if len(content)+2 != len(line) || bytes.ContainsAny(content, "\r\x00") {
		w.refuse("a line ends otherwise than with CR LF, or holds CR or NUL")
		return
	}
	why := ""
	switch w.phase {
	case atLine:
		if len(content) == 0 && w.size <= 4 { // some clients end a body with an empty line that is no part of it
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
			why = "a chunk's length is no number"
		}
		if w.phase, w.rest = atBody, int64(n); n == 0 {
			w.phase, w.size = atTrailer, 0
		}
	case atChunkEnd:
		if w.phase, w.size = atChunk, 0; len(content) > 0 {
			why = "a chunk is longer than it says"
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

// endHead says what comes behind a head.
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

// fieldOf takes a field apart, or says what is wrong with it.
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

// field looks at what says where a request ends and whom it is for.
func (w *wireConn) field(line []byte) (why string) {
	name, value, why := fieldOf(line)
	switch strings.ToLower(name) {
	case "content-length":
		if w.length || w.coding {
			return "it has Content-Length twice, or with Transfer-Encoding"
		}
		n, err := strconv.ParseUint(value, 10, 63)
		if w.length, w.rest = true, int64(n); err != nil || value[0] == '+' {
			return "its Content-Length is no number"
		}
	case "transfer-encoding":
		if w.length || w.coding || w.old {
			return "it has Transfer-Encoding twice, with Content-Length, or in a version without"
		}
		if w.coding = true; !strings.EqualFold(value, "chunked") {
			return "its Transfer-Encoding is not chunked alone"
		}
	case "host":
		if w.host {
			return "it has Host twice"
		}
		w.host = true
	case strings.ToLower(malformed):
		return "it has a field that is this service's own"
	}
	return why
}

// refuse hands on nothing of what came, but a head that is whole and says why it is refused; in a body, that it
// breaks off.
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

// CloseWrite says that no more will be sent.
func (w *wireConn) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close implements net.Conn. What was refused is closed when its client had the time to read why.
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
		return "it has Host twice, or another than :authority"
	}
	return ""
}
