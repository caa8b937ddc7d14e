package mcpproxy

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"strings"
)

// maxKept is how many bytes of the beginning of a long frame are recorded.
const maxKept = 48 << 10

// longFrame reads a frame that is too long to hold, piece by piece: the id, whether it is an error, its hash and its
// beginning. It trusts nothing: bytes that are no JSON leave it without an id.
type longFrame struct {
	size  int64
	sum   hash.Hash
	begin []byte

	id       []byte
	hasError bool
	isError  bool   // the result's isError
	kind     string // the result's resultType

	depth     int
	inString  bool
	escaped   bool
	scalar    []byte // the string or number being read, up to maxID bytes
	keys      [3]string
	different bool // it is no object
}

func newLongFrame() *longFrame { return &longFrame{sum: sha256.New()} }

// Write reads the next piece.
func (f *longFrame) Write(p []byte) (int, error) {
	f.size += int64(len(p))
	f.sum.Write(p)
	if room := maxKept - len(f.begin); room > 0 {
		f.begin = append(f.begin, p[:min(room, len(p))]...)
	}
	for _, c := range p {
		f.read(c)
	}
	return len(p), nil
}

func (f *longFrame) read(c byte) {
	if f.inString {
		f.keep(c)
		switch {
		case f.escaped:
			f.escaped = false
		case c == '\\':
			f.escaped = true
		case c == '"':
			f.inString = false
		}
		return
	}
	switch c {
	case ' ', '\t', '\r', '\n':
	case '"':
		f.scalar, f.inString = append(f.scalar[:0], c), true
	case ':':
		if f.depth < len(f.keys) {
			f.keys[f.depth], _ = text(f.scalar)
			f.hasError = f.hasError || f.depth == 1 && f.keys[1] == "error"
		}
		f.scalar = f.scalar[:0]
	case '{', '[':
		f.different = f.different || f.depth == 0 && c == '['
		f.depth++
		f.scalar = f.scalar[:0]
		if f.depth < len(f.keys) {
			f.keys[f.depth] = ""
		}
	case ',', '}', ']':
		f.value()
		f.scalar = f.scalar[:0]
		if c != ',' && f.depth > 0 {
			f.depth--
		}
	default:
		f.keep(c)
	}
}

func (f *longFrame) keep(c byte) {
	if len(f.scalar) <= maxID && f.depth < len(f.keys) {
		f.scalar = append(f.scalar, c)
	}
}

// value takes the scalar that has ended.
func (f *longFrame) value() {
	if f.different || len(f.scalar) == 0 {
		return
	}
	switch {
	case f.depth == 1 && f.keys[1] == "id" && len(f.scalar) <= maxID:
		f.id = append([]byte(nil), f.scalar...)
	case f.depth == 2 && f.keys[1] == "result" && f.keys[2] == "isError":
		f.isError = string(f.scalar) == "true"
	case f.depth == 2 && f.keys[1] == "result" && f.keys[2] == "resultType":
		f.kind, _ = text(f.scalar)
	}
}

// String is what is recorded of the frame: its beginning, and a mark with its size and SHA-256.
func (f *longFrame) String() string {
	return strings.ToValidUTF8(string(f.begin), "\ufffd") +
		fmt.Sprintf("… [cut: a frame of %d bytes, sha256 %x]", f.size, f.sum.Sum(nil))
}
