package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// A mark stands in a model's text where it cites a result: markBegin, the result's code or several, markEnd. Codes are
// random, and made after the documents were written, so that no document can have the model cite another.
const (
	markBegin = "[[cite:"
	markEnd   = "]]"
	maxMark   = 200 // bytes
	codeSize  = 8
)

// citation is a place in a text that cites a result.
type citation struct {
	index int // in Unicode characters
	*FileResult
}

// citer takes marks out of a text as it arrives: known ones become citations, and others nothing. It holds back what
// may be the beginning of a mark, and no more. The space before a mark goes with it.
type citer struct {
	known map[string]*FileResult
	// half is the first half of a surrogate pair, whose other half is in the next piece.
	half  []byte
	held  string
	text  strings.Builder // all of it, without marks
	chars int
	began bool
	cited []citation // all of them
}

// write takes a piece of the text, and returns what may be sent on of it, and what that cites.
func (c *citer) write(piece string) (text string, cited []citation) {
	c.began = true
	s := c.held + piece
	c.held = ""
	var out strings.Builder
	for i := 0; i < len(s); {
		next := strings.IndexAny(s[i:], " [")
		if next < 0 {
			c.add(&out, s[i:])
			break
		}
		c.add(&out, s[i:i+next])
		i += next
		size, partial := mark(s[i:])
		switch {
		case partial:
			c.held = s[i:]
			i = len(s)
		case size > 0:
			cited = append(cited, c.cite(s[i:i+size])...)
			i += size
		default:
			c.add(&out, s[i:i+1])
			i++
		}
	}
	return out.String(), cited
}

// writeJSON is write of a JSON string. A character that is split over two of them is whole again.
func (c *citer) writeJSON(raw json.RawMessage) (string, []citation) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", nil
	}
	inside := append(bytes.Clone(c.half), raw[1:len(raw)-1]...)
	c.half = nil
	if n := len(inside) - len(`\ud83d`); n >= 0 && isHighSurrogate(inside[n:]) && !escapedAt(inside, n) {
		inside, c.half = inside[:n], inside[n:]
	}
	return c.write(unquote(append(append([]byte{'"'}, inside...), '"')))
}

// isHighSurrogate reports whether \uXXXX is the first half of a pair.
func isHighSurrogate(s []byte) bool {
	return s[0] == '\\' && s[1] == 'u' && s[2]|0x20 == 'd' && strings.IndexByte("89abAB", s[3]) >= 0
}

// escapedAt reports whether the backslash at i is itself escaped.
func escapedAt(s []byte, i int) bool {
	n := 0
	for i > n && s[i-n-1] == '\\' {
		n++
	}
	return n%2 == 1
}

// flush returns what is held back: the text is over.
func (c *citer) flush() string {
	var out strings.Builder
	if len(c.half) > 0 {
		c.held, c.half = c.held+string(utf8.RuneError), nil
	}
	c.add(&out, c.held)
	c.held = ""
	return out.String()
}

func (c *citer) add(out *strings.Builder, s string) {
	out.WriteString(s)
	c.text.WriteString(s)
	c.chars += utf8.RuneCountInString(s)
}

// cite returns the citations of a mark: each known code of it.
func (c *citer) cite(mark string) (cited []citation) {
	_, codes, _ := strings.Cut(strings.TrimSuffix(mark, markEnd), markBegin)
	for code := range strings.FieldsFuncSeq(codes, func(r rune) bool { return strings.ContainsRune(" ,;", r) }) {
		if f := c.known[strings.TrimPrefix(code, "cite:")]; f != nil {
			cited = append(cited, citation{c.chars, f})
		}
	}
	c.cited = append(c.cited, cited...)
	return cited
}

// mark returns the size of the mark with which a text begins, or whether it may still become one.
func mark(s string) (size int, partial bool) {
	rest := strings.TrimPrefix(s, " ")
	begin := len(s) - len(rest)
	if len(rest) < len(markBegin) {
		return 0, strings.HasPrefix(markBegin, rest)
	}
	if !strings.HasPrefix(rest, markBegin) {
		return 0, false
	}
	for i := len(markBegin); i < min(len(rest), maxMark); i++ {
		switch rest[i] {
		case '\n', '[':
			return 0, false
		case ']':
			if i+1 == len(rest) {
				return 0, true
			}
			if rest[i+1] == ']' {
				return begin + i + len(markEnd), false
			}
			return 0, false
		}
	}
	return 0, len(rest) < maxMark
}
