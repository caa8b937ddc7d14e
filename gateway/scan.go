package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
)

// maxName and maxString bound what a scanner keeps of one name and of one string, in bytes.
const (
	maxName   = 256
	maxString = 128 << 10
)

// member is a member of a JSON object that a scanner keeps: "usage", or "response.usage" in an object within it.
type member struct {
	outer, name string // outer is empty for a member of the document itself
	limit       int    // bytes; a larger value is not kept
}

// kept is what a scanner has of a member.
type kept struct {
	raw    []byte
	whole  bool // the value has ended
	cut    bool // it is larger than its limit
	elided bool // the end of a string in it is left out
	twice  bool
}

// scanner finds members of a JSON object as its bytes arrive, and holds nothing else of it. It does not validate: who
// decodes a member does. Names are compared exactly, so that it reads the member that other readers read.
type scanner struct {
	members []member
	values  []kept
	outer   map[string]bool // names of objects that members are looked for in
	// longest bounds a string in a member, in bytes.
	longest int

	depth  int
	object [3]bool   // whether the container at a depth is an object
	naming [3]bool   // whether a name is next in it
	names  [3]string // the last name in it

	inString, escaped, isName bool
	hex                       int // digits that a \u escape still has
	length                    int // of the string so far
	eliding                   bool
	scalar                    bool
	name                      []byte

	folded  string // a name that is model in other letters
	at      int    // the member that is being kept; -1 is none
	atDepth int
}

func newScanner(members []member) *scanner {
	s := &scanner{members: members, values: make([]kept, len(members)), outer: map[string]bool{}, at: -1,
		longest: maxString}
	for _, m := range members {
		if m.outer != "" {
			s.outer[m.outer] = true
		}
	}
	return s
}

// reset forgets the document.
func (s *scanner) reset() {
	for i := range s.values {
		s.values[i] = kept{raw: s.values[i].raw[:0]}
	}
	s.depth, s.inString, s.escaped, s.isName, s.hex, s.scalar, s.at = 0, false, false, false, 0, false, -1
	s.name, s.folded = s.name[:0], ""
}

// value returns a member's JSON, or nil.
func (s *scanner) value(outer, name string) json.RawMessage {
	for i := range s.members {
		if s.members[i].name == name && s.members[i].outer == outer && s.values[i].whole && !s.values[i].cut {
			return s.values[i].raw
		}
	}
	return nil
}

// get returns a member of the document.
func (s *scanner) get(name string) json.RawMessage { return s.value("", name) }

// text returns a member that is a string, or "".
func (s *scanner) text(outer, name string) (v string) {
	if json.Unmarshal(s.value(outer, name), &v) != nil {
		return ""
	}
	return v
}

// repeated returns a name that occurs twice, which two readers could read differently.
func (s *scanner) repeated() string {
	for i := range s.values {
		if s.values[i].twice {
			return s.members[i].name
		}
	}
	return ""
}

// incomplete reports whether a part of a member was left out.
func (s *scanner) incomplete() bool {
	for i := range s.values {
		if s.values[i].cut || s.values[i].elided {
			return true
		}
	}
	return false
}

// ended reports whether the document is over.
func (s *scanner) ended() bool { return s.depth == 0 && !s.inString && !s.scalar }

// write takes the next bytes.
func (s *scanner) write(p []byte) {
	for i := 0; i < len(p); {
		if s.inString {
			i += s.writeString(p[i:])
			continue
		}
		c := p[i]
		i++
		switch c {
		case ' ', '\t', '\r', '\n':
			s.endScalar()
		case '"':
			s.beginString()
		case '{', '[':
			s.beginValue()
			s.keep(c)
			if s.depth++; s.depth < len(s.object) {
				s.object[s.depth], s.naming[s.depth], s.names[s.depth] = c == '{', c == '{', ""
			}
		case '}', ']':
			s.endScalar()
			if s.depth == 0 {
				continue // not JSON
			}
			s.depth--
			s.keep(c)
			s.endValue()
		case ',':
			s.endScalar()
			s.keep(c)
			if s.depth < len(s.object) {
				s.naming[s.depth] = s.object[s.depth]
			}
		case ':':
			s.keep(c)
		default:
			if !s.scalar {
				s.beginValue()
				s.scalar = true
			}
			s.keep(c)
		}
	}
}

// keep appends a byte to the member that is being kept.
func (s *scanner) keep(c byte) {
	if s.at >= 0 {
		s.keepAll([]byte{c})
	}
}

func (s *scanner) keepAll(p []byte) {
	v := &s.values[s.at]
	if v.cut || len(v.raw)+len(p) > s.members[s.at].limit {
		v.cut = true
		return
	}
	v.raw = append(v.raw, p...)
}

// matched reports whether the names of the current container matter.
func (s *scanner) matched() bool {
	return s.at < 0 && s.depth > 0 && s.depth < len(s.object) && s.object[s.depth] &&
		(s.depth == 1 || s.object[1] && s.outer[s.names[1]])
}

func (s *scanner) beginValue() {
	if !s.matched() {
		return
	}
	outer, name := "", s.names[1]
	if s.depth == 1 && name != "model" && strings.EqualFold(name, "model") {
		s.folded = name
	}
	if s.depth == 2 {
		outer, name = s.names[1], s.names[2]
	}
	for i := range s.members {
		if s.members[i].name == name && s.members[i].outer == outer {
			v := &s.values[i]
			*v = kept{raw: v.raw[:0], twice: v.whole || v.twice}
			s.at, s.atDepth = i, s.depth
			return
		}
	}
}

func (s *scanner) endValue() {
	if s.at >= 0 && s.depth == s.atDepth {
		s.values[s.at].whole = true
		s.at = -1
	}
}

func (s *scanner) endScalar() {
	if s.scalar {
		s.scalar = false
		s.endValue()
	}
}

func (s *scanner) beginString() {
	s.isName = s.matched() && s.naming[s.depth]
	if s.isName {
		s.name = s.name[:0]
	} else {
		s.beginValue()
	}
	s.inString, s.escaped, s.hex, s.length, s.eliding = true, false, 0, 0, false
	s.keep('"')
}

// writeString takes bytes of a string, and returns how many.
func (s *scanner) writeString(p []byte) int {
	end := s.plain(p)
	if end > 0 {
		s.stringPart(p[:end])
	}
	if end == len(p) {
		return end
	}
	c := p[end]
	if c == '"' && !s.escaped {
		s.endString()
		return end + 1
	}
	s.stringPart(p[end : end+1])
	switch {
	case s.escaped:
		if s.escaped = false; c == 'u' {
			s.hex = 4
		}
	case s.hex > 0:
		s.hex--
	default:
		s.escaped = true // c is a backslash
	}
	return end + 1
}

// plain returns how many bytes are neither the string's end nor part of an escape.
func (s *scanner) plain(p []byte) int {
	if s.escaped || s.hex > 0 {
		return 0
	}
	end := bytes.IndexByte(p, '"')
	if end < 0 {
		end = len(p)
	}
	if i := bytes.IndexByte(p[:end], '\\'); i >= 0 {
		return i
	}
	return end
}

// stringPart keeps a part of a string: of a name, or of a member's value, of which a string that is too long is cut
// between two characters.
func (s *scanner) stringPart(p []byte) {
	if s.isName {
		s.name = append(s.name, p[:min(len(p), maxName-min(len(s.name), maxName))]...)
		return
	}
	if s.at < 0 || s.eliding {
		return
	}
	if room := s.longest - s.length; len(p) > room {
		start := max(room, 0)
		for start < len(p) && p[start]&0xc0 == 0x80 { // the rest of a character
			start++
		}
		if start < len(p) && !s.escaped && s.hex == 0 {
			s.keepAll(p[:start])
			s.eliding, s.values[s.at].elided = true, true
			return
		}
	}
	s.length += len(p)
	s.keepAll(p)
}

func (s *scanner) endString() {
	s.inString = false
	if !s.isName {
		s.keep('"')
		if s.at >= 0 && s.depth == s.atDepth {
			s.endValue()
		}
		return
	}
	s.isName = false
	name := string(s.name)
	if bytes.IndexByte(s.name, '\\') >= 0 {
		_ = json.Unmarshal([]byte(`"`+name+`"`), &name) // an invalid name stays as it is
	}
	s.names[s.depth], s.naming[s.depth] = name, false
}
