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

// MaxMetadata bounds a filter's metadata in bytes: each event's metadata is compared with all of it.
const MaxMetadata = 4 << 10

// errObject says what a filter's metadata must be.
var errObject = errors.New("must be a JSON object")

// readObject reads one JSON object, numbers as they are written.
func readObject(raw []byte) (map[string]any, error) {
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil || v == nil || d.InputOffset() != int64(len(bytes.TrimRight(raw, " \t\r\n"))) {
		return nil, errObject
	}
	return v, nil
}

// contains reports whether JSON document a contains b, as PostgreSQL's a @> b has it for two objects: an object holds
// each key of the other with a value that contains its value, an array an element that contains each of the other's,
// and all else is equal.
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

// composite reports whether a value is one that == must not compare.
func composite(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// decimal is a number's one form: digits without zeros at either end, times ten to the exponent.
type decimal struct {
	negative bool
	digits   string
	exponent int64
}

// decimalOf reads a number that is valid JSON. Nothing is multiplied out: 1e999999999 is as short as it is written.
func decimalOf(n json.Number) (d decimal) {
	s, negative := strings.CutPrefix(string(n), "-")
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.ParseInt(strings.TrimPrefix(s[i+1:], "+"), 10, 62)
		if err != nil {
			return decimal{digits: string(n)} // equal to what is written alike
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

// metadata is the condition that an event's metadata contains the filter's.
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
