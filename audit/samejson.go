package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// sameJSON reports whether PostgreSQL's jsonb stores what was sent: the same value, apart from spaces, the order of
// names and the form of numbers.
func sameJSON(sent []byte, stored string) bool {
	if string(sent) == stored {
		return true
	}
	var a, b any
	return decodeJSON(sent, &a) && decodeJSON([]byte(stored), &b) && equalJSON(a, b)
}

func decodeJSON(raw []byte, to *any) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // a float64 would lose digits
	return d.Decode(to) == nil
}

func equalJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, value := range a {
			if other, there := b[name]; !there || !equalJSON(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equalJSON(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || decimalOf(string(a)) == decimalOf(string(b)))
	}
	return reflect.DeepEqual(a, b)
}

// decimal is a number's canonical form: digits without zeros at either end, times ten to the power of exp.
type decimal struct {
	negative bool
	digits   string
	exp      int
}

// maxExponent is more than the exponent of any PostgreSQL numeric.
const maxExponent = 1 << 20

func decimalOf(s string) (d decimal) {
	d.digits, d.negative = strings.CutPrefix(s, "-")
	if i := strings.IndexAny(d.digits, "eE"); i >= 0 {
		exp, minus := strings.CutPrefix(strings.TrimPrefix(d.digits[i+1:], "+"), "-")
		for _, digit := range exp {
			d.exp = min(d.exp*10+int(digit-'0'), maxExponent)
		}
		if minus {
			d.exp = -d.exp
		}
		d.digits = d.digits[:i]
	}
	whole, fraction, _ := strings.Cut(d.digits, ".")
	d.exp -= len(fraction)
	d.digits = strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(d.digits, "0")
	d.exp += len(d.digits) - len(short)
	if d.digits = short; short == "" {
		return decimal{}
	}
	return d
}
