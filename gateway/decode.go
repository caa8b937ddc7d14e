package gateway

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// maxDecoded is how many bytes of a compressed response are read for its record.
const maxDecoded = 256 << 20

// decodes reports whether a content encoding can be read.
func decodes(encoding string) bool {
	switch encoding {
	case "gzip", "x-gzip", "deflate", "br", "zstd":
		return true
	}
	return false
}

// decoder gives what is written to it, decoded, to a function, in a goroutine of its own.
type decoder struct {
	to   *io.PipeWriter
	done chan struct{}
	err  error
}

// newDecoder returns a decoder of an encoding that decodes knows.
func newDecoder(encoding string, take func([]byte)) *decoder {
	from, to := io.Pipe()
	d := &decoder{to: to, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		defer func() {
			if thrown := recover(); thrown != nil { // the response is passed on all the same
				d.err = fmt.Errorf("gateway: decode a response: %v", thrown)
				_ = from.CloseWithError(io.ErrClosedPipe)
			}
		}()
		if d.err = decode(encoding, from, take); d.err == nil {
			_, d.err = io.Copy(io.Discard, from)
		}
		_ = from.CloseWithError(io.ErrClosedPipe) // the response is passed on all the same
	}()
	return d
}

func (d *decoder) write(p []byte) { _, _ = d.to.Write(p) }

// close waits until everything is decoded.
func (d *decoder) close() error {
	_ = d.to.Close()
	<-d.done
	return d.err
}

func decode(encoding string, from io.Reader, take func([]byte)) error {
	var r io.Reader
	var err error
	switch encoding {
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(from)
	case "br":
		r = brotli.NewReader(from)
	case "zstd":
		var z *zstd.Decoder
		z, err = zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
		if err == nil {
			defer z.Close()
			r = z
		}
	case "deflate": // zlib's format (RFC 9110, 8.4.1.2), and what some servers send instead
		b := bufio.NewReader(from)
		if head, _ := b.Peek(2); len(head) == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			r, err = zlib.NewReader(b)
		} else {
			r = flate.NewReader(b)
		}
	}
	if err != nil {
		return err
	}
	buffer := make([]byte, readSize)
	for n := 0; n < maxDecoded; {
		m, err := r.Read(buffer)
		take(buffer[:m])
		if n += m; err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// contentEncoding returns a response's encoding, or "" for none.
func contentEncoding(s string) string {
	if s = strings.ToLower(strings.TrimSpace(s)); s == "identity" {
		return ""
	}
	return s
}
