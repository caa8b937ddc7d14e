// Package strictjson reads JSON that all readers read alike and that can be stored as it was sent: no name twice in an
// object, names compared letter by letter, text that is UTF-8 without NUL, numbers that PostgreSQL's numeric and a
// 64-bit float hold, and at most MaxDepth deep. It knows nothing of what the JSON says.
package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest.
const MaxDepth = 64

// Decode reads JSON as json.Unmarshal does, and refuses what two readers could read differently: a name that occurs
// twice in an object, nesting deeper than MaxDepth, and anything behind the value.
func Decode(raw []byte, to any) error {
	if _, first := to.(*any); first { // huma reads a body twice: the first time to see whether it is what it should be
		if err := CheckDuplicates(raw); err != nil {
			return err
		}
	}
	return json.Unmarshal(raw, to)
}

// CheckDuplicates returns an error for a name that occurs twice in an object, and for nesting deeper than MaxDepth. It
// does not check that raw is JSON: reading a decoder's tokens would take as long as storing what they say.
func CheckDuplicates(raw []byte) error {
	var open []objectNames
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			if len(open) == MaxDepth {
				return fmt.Errorf("it is nested deeper than %d", MaxDepth)
			}
			if len(open) < cap(open) { // reuse an earlier object's memory
				open = open[:len(open)+1]
				open[len(open)-1].clear(raw[i] == '{')
			} else {
				open = append(open, objectNames{object: raw[i] == '{', next: true})
			}
		case '}', ']':
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		case ',':
			if len(open) > 0 {
				open[len(open)-1].next = true
			}
		case '"':
			begin := i
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			if len(open) == 0 || !open[len(open)-1].object || !open[len(open)-1].next || i >= len(raw) {
				continue
			}
			if name := raw[begin : i+1]; !open[len(open)-1].add(name) {
				return fmt.Errorf("%.100s is repeated in one object", name)
			}
		}
	}
	return nil
}

// objectNames are the names seen in an object.
type objectNames struct {
	object bool
	next   bool     // a name follows
	few    [][]byte // the first maxFew, as written, with quotes
	many   map[string]bool
}

// maxFew is the number of names that are compared one by one.
const maxFew = 16

func (n *objectNames) clear(object bool) {
	n.object, n.next, n.few, n.many = object, true, n.few[:0], nil
}

// add adds a name and reports whether it is new.
func (n *objectNames) add(name []byte) bool {
	n.next = false
	if bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) { // escapes allow several spellings
		var plain string
		if json.Unmarshal(name, &plain) == nil {
			name = append(append([]byte{'"'}, plain...), '"')
		}
	}
	if slices.ContainsFunc(n.few, func(other []byte) bool { return bytes.Equal(other, name) }) || n.many[string(name)] {
		return false
	}
	if len(n.few) < maxFew {
		n.few = append(n.few, name)
		return true
	}
	if n.many == nil {
		n.many = map[string]bool{}
	}
	n.many[string(name)] = true
	return true
}
