package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// maxDepth is how deep a body's JSON may nest.
const maxDepth = 64

// decodeStrict reads JSON as json.Unmarshal does, and refuses what two readers could read differently: a name that
// stands twice in an object, what is nested deeper than anything of ours, and anything behind the value.
func decodeStrict(raw []byte, to any) error {
	if _, first := to.(*any); first { // huma reads a body twice: the first time to see whether it is what it should be
		if err := checkDuplicates(raw); err != nil {
			return err
		}
	}
	return json.Unmarshal(raw, to)
}

// checkDuplicates reports what is wrong with JSON that everybody should read alike. Whether it is JSON at all is for
// whoever reads it: a decoder's tokens would take as long as storing what they say.
func checkDuplicates(raw []byte) error {
	var open []objectNames
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			if len(open) == maxDepth {
				return fmt.Errorf("it is nested deeper than %d", maxDepth)
			}
			if len(open) < cap(open) { // with the room that another object there had
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
				return fmt.Errorf("%.100s stands twice in one object", name)
			}
		}
	}
	return nil
}

// objectNames are those of an object so far.
type objectNames struct {
	object bool
	next   bool     // what comes is a name
	few    [][]byte // as they are written, with their quotes; the first maxFew
	many   map[string]bool
}

// maxFew is how many names are compared one by one.
const maxFew = 16

func (n *objectNames) clear(object bool) {
	n.object, n.next, n.few, n.many = object, true, n.few[:0], nil
}

// add reports whether the name is new.
func (n *objectNames) add(name []byte) bool {
	n.next = false
	if bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) { // it may be written in several ways
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
