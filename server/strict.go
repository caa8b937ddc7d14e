package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// maxDepth is the deepest nesting of a body's JSON.
const maxDepth = 64

// decodeStrict is json.Unmarshal that also refuses duplicate names in an object and deep nesting, on which JSON parsers
// differ.
func decodeStrict(raw []byte, to any) error {
	if _, first := to.(*any); first { // huma decodes a body twice; the first time into any, for validation
		if err := checkDuplicates(raw); err != nil {
			return err
		}
	}
	return json.Unmarshal(raw, to)
}

// checkDuplicates refuses duplicate names and deep nesting. It does not check the JSON syntax: a full tokenizer would
// take as long as storing the events.
func checkDuplicates(raw []byte) error {
	var open []objectNames
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			if len(open) == maxDepth {
				return fmt.Errorf("it is nested deeper than %d", maxDepth)
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
