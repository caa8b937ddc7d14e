package httpwire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// stub is a connection from which a text comes, some bytes at a time.
type stub struct {
	net.Conn
	r     io.Reader
	piece int
}

func (s *stub) Read(p []byte) (int, error)      { return s.r.Read(p[:min(len(p), s.piece)]) }
func (s *stub) Close() error                    { return nil }
func (s *stub) SetReadDeadline(time.Time) error { return nil }

// FuzzWire: what is handed on is the same however it comes in pieces, is what came until something is refused, and
// net/http finds the same requests in it; where it finds a length and a coding, or reads what a strict reader would
// not, the wire has refused it.
func FuzzWire(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\nT: 1\r\n\r\nGET / " +
			"HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\nHost: x\n\n", "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(s), 1)
		f.Add([]byte(s), 4096)
	}
	f.Fuzz(func(t *testing.T, raw []byte, piece int) {
		if len(raw) > 1<<16 {
			return
		}
		through := func(piece int) ([]byte, bool) {
			w := newWireConn(&stub{r: bytes.NewReader(raw), piece: piece}, true)
			out, err := io.ReadAll(w)
			if err != nil {
				t.Fatal(err)
			}
			return out, w.refused.Load()
		}
		out, refused := through(max(1, piece%8192))
		if again, same := through(1); !bytes.Equal(out, again) || same != refused {
			t.Fatalf("%q comes as %q or as %q", raw, out, again)
		}
		r := bufio.NewReader(bytes.NewReader(out))
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Method == "PRI" {
				return
			}
			if why := req.Header.Get(malformed); why != "" {
				return
			}
			for name, values := range req.Header {
				if len(values) > 1 && (name == "Content-Length" || name == "Host") {
					t.Fatalf("%q: %s %q", raw, name, values)
				}
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				if !refused && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%q: its body %q: %v", raw, body, err)
				}
				return
			}
		}
	})
}
