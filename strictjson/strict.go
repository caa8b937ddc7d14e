// Package strictjson reads JSON that all readers read alike and that can be stored as it was sent: no name twice in an
// object, names compared letter by letter, text that is UTF-8 without NUL, numbers that PostgreSQL's numeric and a
// 64-bit float hold, and at most MaxDepth deep. It knows nothing of what the JSON says.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest.
const MaxDepth = 64

// Decode reads JSON as json.Unmarshal does, and refuses what two readers could read differently: a name that occurs
// twice in an object, nesting deeper than MaxDepth, and anything behind the value.
func Decode(raw []byte, to any) error {
	if _, first := to.(*any); first { // huma reads a body twice: the first time to see whether it is what it should be
		if field, err := checkDuplicates(raw); err != nil && field != "" {
			return &FieldError{field, err.Error()}
		} else if err != nil {
			return err
		}
	}
	err := json.Unmarshal(raw, to)
	var syntax *json.SyntaxError
	if err == nil || errors.As(err, &syntax) {
		return err
	}
	return badField(raw, to, err)
}

// FieldError says which field of a JSON object does not have its type, and what it must be.
type FieldError struct{ Field, Reason string }

// fieldPrefix begins the text of each FieldError.
const fieldPrefix = "field "

// Error implements error.
func (e *FieldError) Error() string { return fieldPrefix + e.Field + ": " + e.Reason }

// ParseFieldError is the FieldError with this text: huma keeps nothing else of an error.
func ParseFieldError(text string) (*FieldError, bool) {
	rest, is := strings.CutPrefix(text, fieldPrefix)
	field, reason, named := strings.Cut(rest, ": ")
	return &FieldError{field, reason}, is && named
}

// badField returns the error of the field because of which raw could not be read into a value of to's type.
func badField(raw []byte, to any, err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return &FieldError{kind.Field, typeReason(err)}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return errors.New(typeReason(err))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) { // an error of a type's own reader has no field
		one, marshalErr := json.Marshal(map[string]json.RawMessage{name: fields[name]})
		again := reflect.New(reflect.TypeOf(to).Elem()).Interface()
		if marshalErr == nil && json.Unmarshal(one, again) != nil {
			return &FieldError{name, typeReason(err)}
		}
	}
	return errors.New(typeReason(err))
}

// typeReason says what a value must be, in no words of Go.
func typeReason(err error) string {
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) {
		switch text := strings.ToLower(err.Error()); {
		case strings.Contains(text, "uuid"):
			return "it is not a UUID"
		case strings.Contains(text, "time"):
			return "it is not a time: write 2026-01-31T12:00:00Z"
		}
		return err.Error()
	}
	switch kind.Type.Kind() {
	case reflect.String:
		return "it must be text"
	case reflect.Bool:
		return "it must be true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "it must be a whole number, written in digits"
	case reflect.Float64:
		return "it must be a number"
	case reflect.Array:
		return "it is not a UUID"
	case reflect.Slice:
		return "it must be an array"
	}
	return "it must be an object"
}

// CheckDuplicates returns an error for a name that occurs twice in an object, and for nesting deeper than MaxDepth. It
// does not check that raw is JSON: reading a decoder's tokens would take as long as storing what they say.
func CheckDuplicates(raw []byte) error {
	_, err := checkDuplicates(raw)
	return err
}

// checkDuplicates is CheckDuplicates, and names the field of the outermost object that is wrong within, where its name
// is a plain one.
func checkDuplicates(raw []byte) (field string, err error) {
	var open []objectNames
	within := func() string {
		if len(open) < 2 || !open[0].object || bytes.ContainsFunc(open[0].last, func(r rune) bool {
			return r != '_' && (r < 'a' || r > 'z')
		}) {
			return ""
		}
		return string(open[0].last)
	}
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			if len(open) == MaxDepth {
				return within(), fmt.Errorf("it is nested deeper than %d", MaxDepth)
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
				return within(), fmt.Errorf("%.100s is repeated in one object", name)
			}
		}
	}
	return "", nil
}

// objectNames are the names seen in an object.
type objectNames struct {
	object bool
	next   bool     // a name follows
	last   []byte   // the name before the value, without quotes
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
	n.next, n.last = false, bytes.Trim(name, `"`)
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
