package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// eachEvent yields the events of a batch, {"events": […]}, while it arrives. Each raw value has balanced brackets and
// is valid until the next call.
func eachEvent(body io.Reader, yield func(i int, raw []byte) error) error {
	v := &valueReader{r: body, buf: make([]byte, 0, 32<<10)}
	err := v.batch(yield)
	if err == nil || isProblem(err) {
		return err
	}
	if errors.Is(err, io.EOF) {
		return unreadableBody("it is not JSON: it ends too early")
	}
	return bodyProblem(err)
}

// isProblem reports whether an error is a client's problem already.
func isProblem(err error) bool {
	var p *Problem
	return errors.As(err, &p)
}

// valueReader reads JSON values from a stream, one after the other.
type valueReader struct {
	r   io.Reader
	buf []byte // the unread part begins at pos
	pos int
}

func (v *valueReader) batch(yield func(i int, raw []byte) error) error {
	if err := v.expect('{', "an object"); err != nil {
		return err
	}
	name, err := v.value()
	if err != nil {
		return err
	}
	if string(name) == "}" {
		return fieldProblem("body.events", "it is missing")
	}
	var plain string
	if json.Unmarshal(name, &plain) != nil {
		return unreadableBody("it is not a JSON object")
	}
	if plain != "events" {
		return fieldProblem("body", fmt.Sprintf("%.100q is not a field of a batch, which has events only", plain))
	}
	if err := v.expect(':', "a colon"); err != nil {
		return err
	}
	if c, err := v.next(); err != nil {
		return err
	} else if c != '[' {
		return fieldProblem("body.events", "it must be an array")
	}
	v.pos++
	for i := 0; ; i++ {
		c, err := v.next()
		if err != nil {
			return err
		}
		if c == ']' && i == 0 {
			v.pos++
			break
		}
		if c != '{' {
			return fieldProblem(fmt.Sprintf("body.events[%d]", i), "it must be an object")
		}
		raw, err := v.value()
		if err == nil {
			err = yield(i, raw)
		}
		if err != nil {
			return err
		}
		if c, err = v.next(); err != nil {
			return err
		}
		if v.pos++; c == ']' {
			break
		}
		if c != ',' {
			return unreadableBody(fmt.Sprintf(
				"it is not JSON: after body.events[%d] a comma or the array's end is missing", i))
		}
	}
	c, err := v.next()
	if err != nil {
		return err
	}
	if c == ',' {
		return fieldProblem("body", "a batch has events only, once")
	}
	if err := v.expect('}', "the object's end"); err != nil {
		return err
	}
	switch _, err := v.next(); {
	case err == nil:
		return unreadableBody("there is something after the value")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// expect consumes a required byte.
func (v *valueReader) expect(want byte, name string) error {
	c, err := v.next()
	if err != nil {
		return err
	}
	if c != want {
		return unreadableBody("it is not a JSON object with events: " + name + " is missing")
	}
	v.pos++
	return nil
}

// next returns the next byte that is not white space, without consuming it.
func (v *valueReader) next() (byte, error) {
	for {
		for ; v.pos < len(v.buf); v.pos++ {
			switch c := v.buf[v.pos]; c {
			case ' ', '\t', '\r', '\n':
			default:
				return c, nil
			}
		}
		v.buf, v.pos = v.buf[:0], 0
		if err := v.fill(); err != nil {
			return 0, err
		}
	}
}

// value consumes a value, delimited by its brackets or quotation marks, or a single other byte.
func (v *valueReader) value() ([]byte, error) {
	if _, err := v.next(); err != nil {
		return nil, err
	}
	depth, quoted, escaped := 0, false, false
	for n := 0; ; n++ { // n counts from pos
		if v.pos+n == len(v.buf) {
			v.buf = v.buf[:copy(v.buf, v.buf[v.pos:])] // move to the front, to make room
			v.pos = 0
			if err := v.fill(); err != nil {
				return nil, err
			}
		}
		switch c := v.buf[v.pos+n]; {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if !quoted && depth <= 0 {
			raw := v.buf[v.pos : v.pos+n+1]
			v.pos += n + 1
			return raw, nil
		}
	}
}

// fill reads more into the buffer.
func (v *valueReader) fill() error {
	if len(v.buf) == cap(v.buf) {
		v.buf = append(make([]byte, 0, 2*cap(v.buf)), v.buf...)
	}
	for range maxEmptyReads {
		n, err := v.r.Read(v.buf[len(v.buf):cap(v.buf)])
		v.buf = v.buf[:len(v.buf)+n]
		if n > 0 {
			return nil // the next Read returns the error again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// maxEmptyReads is the largest number of consecutive reads without data.
const maxEmptyReads = 100
