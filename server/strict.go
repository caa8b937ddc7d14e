package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxDepth is how deep a body's JSON may nest.
const maxDepth = 64

// strict reads JSON as json.Unmarshal does, and refuses what two readers could read differently: a name that stands twice in an object, what is nested deeper than
// anything of ours, and anything behind the value.
func strict(raw []byte, to any) error {
	if _, first := to.(*any); first { // huma reads a body twice: the first time to see whether it is what it should be
		if err := unambiguous(raw); err != nil {
			return err
		}
	}
	return json.Unmarshal(raw, to)
}

// unambiguous reports what is wrong with JSON that everybody should read alike.
func unambiguous(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	type level struct {
		names map[string]bool // of an object so far; nil in an array
		key   bool            // a name comes next
	}
	var open []level
	for {
		t, err := d.Token()
		switch {
		case errors.Is(err, io.EOF):
			if len(open) > 0 {
				return io.ErrUnexpectedEOF
			}
			return nil
		case err != nil:
			return err
		}
		if delim, ok := t.(json.Delim); ok && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
		} else {
			if n := len(open); n > 0 && open[n-1].key {
				name, _ := t.(string)
				if open[n-1].names[name] {
					return fmt.Errorf("%.100q stands twice in one object", name)
				}
				open[n-1].names[name], open[n-1].key = true, false
				continue
			}
			switch t {
			case json.Delim('{'):
				open = append(open, level{map[string]bool{}, true})
				if len(open) > maxDepth {
					return fmt.Errorf("it is nested deeper than %d", maxDepth)
				}
				continue
			case json.Delim('['):
				open = append(open, level{})
				if len(open) > maxDepth {
					return fmt.Errorf("it is nested deeper than %d", maxDepth)
				}
				continue
			}
		}
		if n := len(open); n > 0 && open[n-1].names != nil {
			open[n-1].key = true
		}
	}
}
