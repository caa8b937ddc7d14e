package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/konstruct/konstruct/ledger"
)

// MaxMetadata is the limit on a filter's metadata in bytes: every event's metadata is compared with it.
const MaxMetadata = 4 << 10

// errObject is returned for metadata that is not one JSON object.
var errObject = errors.New("must be a JSON object")

// readObject parses one JSON object; numbers keep their text.
func readObject(raw []byte) (map[string]any, error) {
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil || v == nil || d.InputOffset() != int64(len(bytes.TrimRight(raw, " \t\r\n"))) {
		return nil, errObject
	}
	return v, nil
}

// contains reports whether JSON value a contains b, as PostgreSQL's a @> b does for two objects. An object must have
// each of the other's keys, with a value that contains the other's value. An array must have an element that contains
// each of the other's elements. Other values must be equal.
func contains(a, b any) bool {
	switch b := b.(type) {
	case map[string]any:
		a, ok := a.(map[string]any)
		if !ok {
			return false
		}
		for key, want := range b {
			if have, ok := a[key]; !ok || !contains(have, want) {
				return false
			}
		}
		return true
	case []any:
		a, ok := a.([]any)
		if !ok {
			return false
		}
		for _, want := range b {
			if !anyContains(a, want) {
				return false
			}
		}
		return true
	case json.Number:
		a, ok := a.(json.Number)
		return ok && (a == b || decimalOf(a) == decimalOf(b))
	}
	return a == b && !composite(a) // string, bool, null
}

func anyContains(all []any, want any) bool {
	for _, have := range all {
		if contains(have, want) {
			return true
		}
	}
	return false
}

// composite reports whether a value is a map or a slice, which == can't compare.
func composite(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// decimal is a number's canonical form: digits without zeros at either end, times ten to the exponent.
type decimal struct {
	negative bool
	digits   string
	exponent int64
}

// decimalOf parses a number that is valid JSON. It does not expand exponents, so 1e999999999 costs no more than its
// text.
func decimalOf(n json.Number) (d decimal) {
	s, negative := strings.CutPrefix(string(n), "-")
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.ParseInt(strings.TrimPrefix(s[i+1:], "+"), 10, 62)
		if err != nil {
			return decimal{digits: string(n)} // equal only to the same text
		}
		s, d.exponent = s[:i], e
	}
	whole, fraction, _ := strings.Cut(s, ".")
	d.exponent -= int64(len(fraction))
	all := strings.TrimLeft(whole+fraction, "0")
	d.digits = strings.TrimRight(all, "0")
	d.exponent += int64(len(all) - len(d.digits))
	if d.digits == "" {
		return decimal{} // zero has no sign and no exponent in PostgreSQL's numeric
	}
	d.negative = negative
	return d
}

// metadata returns the condition that an event's metadata contains the filter's.
func (f Filter) metadata() (condition, error) {
	if len(f.Metadata) > MaxMetadata {
		return condition{}, fmt.Errorf("metadata: %d bytes, the limit is %d", len(f.Metadata), MaxMetadata)
	}
	want, err := readObject(f.Metadata)
	if err != nil {
		return condition{}, fmt.Errorf("metadata: %w", err)
	}
	return condition{field: ledger.Metadata, holds: func(value []byte) bool {
		have, err := readObject(value)
		return err == nil && contains(have, want)
	}}, nil
}
