package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/kb"
)

// Text is a condition's value that is text whatever it looks like: Text("5") does not meet the number 5.
type Text string

// MarshalJSON tells it from other text in a record of the condition.
func (t Text) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"text": string(t)})
}

// operand is what a field is compared with. One that was written without quotes may be a text and a number, or a text
// and a truth value; each other is one thing alone.
type operand struct {
	text   *string
	number string // JSON's digits; empty where it is none
	truth  *bool
	null   bool
	time   *time.Time // of a text that is a time or a date
	loose  bool       // a number, or a truth value, is met where it stands as text
}

// newOperand reads a value; loose is as conditions are read, where metadata from a command line is text throughout.
func newOperand(v any, loose bool) (o operand, err error) {
	o.loose = loose
	switch v := v.(type) {
	case nil:
		o.null = true
	case Text:
		o.loose = false
		return o, o.setText(string(v))
	case string:
		if loose {
			if err := checkNumber(v); err == nil {
				o.number = v
			}
			if v == "true" || v == "false" {
				truth := v == "true"
				o.truth = &truth
			}
		}
		return o, o.setText(v)
	case time.Time:
		return o, o.setText(v.Format(time.RFC3339Nano))
	case uuid.UUID:
		return o, o.setText(v.String())
	case bool:
		o.truth = &v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return o, fmt.Errorf("%v is no number to compare with", v)
		}
		o.number = strconv.FormatFloat(v, 'g', -1, 64)
	case int:
		o.number = strconv.Itoa(v)
	case int64:
		o.number = strconv.FormatInt(v, 10)
	case json.Number:
		o.number = v.String()
	default:
		return o, errors.New("the value is neither text, a number, true, false nor null")
	}
	if o.number != "" {
		if err := checkNumber(o.number); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *operand) setText(s string) error {
	if len(s) > kb.MaxSource {
		return fmt.Errorf("a value has %d bytes, the limit is %d", len(s), kb.MaxSource)
	}
	if err := storable(s); err != nil {
		return fmt.Errorf("a value %w", err)
	}
	o.text = &s
	if t, ok := parseTime(s); ok {
		o.time = &t
	}
	return nil
}

// storable says why PostgreSQL can't hold a text.
func storable(s string) error {
	switch {
	case strings.ContainsRune(s, 0):
		return errors.New("has a zero byte")
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	}
	return nil
}

// equals are the JSON values that are equal to it.
func (o *operand) equals() (all []any) {
	if o.null {
		all = append(all, nil)
	}
	if o.text != nil {
		all = append(all, *o.text)
	}
	if o.number != "" {
		all = append(all, json.Number(o.number))
	}
	if o.truth != nil {
		all = append(all, *o.truth)
	}
	if o.loose && o.text == nil && !o.null {
		all = append(all, o.String())
	}
	return all
}

// Numbers: the digits that one may have, and its exponent, which is that of a 64-bit float. PostgreSQL writes a
// number's digits out.
const (
	maxDigits   = 100
	maxExponent = 308
)

var jsonNumber = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE]([+-]?[0-9]+))?$`)

func checkNumber(s string) error {
	m := jsonNumber.FindStringSubmatch(s)
	if m == nil {
		return fmt.Errorf("%.60q is no number", s)
	}
	if len(s) > maxDigits {
		return fmt.Errorf("a number has %d digits, the limit is %d", len(s), maxDigits)
	}
	if e, err := strconv.Atoi(m[1]); m[1] != "" && (err != nil || e < -maxExponent || e > maxExponent) {
		return fmt.Errorf("%.60s has an exponent beyond %d", s, maxExponent)
	}
	return nil
}

// rfc3339 has the ranges that kb_time has.
var rfc3339 = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]` +
	`(?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))?$`)

// maxTime is the bytes of the longest text that is taken for a time.
const maxTime = 64

// parseTime reads a time (RFC 3339) or a date, which is its midnight in UTC, as kb_time does: the year is 1 to 9999,
// there are no leap seconds, and what is below a microsecond is cut off.
func parseTime(s string) (t time.Time, ok bool) {
	if len(s) > maxTime || !rfc3339.MatchString(s) || strings.HasPrefix(s, "0000") {
		return t, false
	}
	layout := time.DateOnly
	if len(s) > len(layout) {
		layout = time.RFC3339Nano
	}
	t, err := time.Parse(layout, strings.ToUpper(s))
	return t.UTC().Truncate(time.Microsecond), err == nil
}
