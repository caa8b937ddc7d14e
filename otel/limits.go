package otel

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits on one export.
const (
	MaxRecords = 50_000    // spans or log records
	MaxItems   = 2_000_000 // messages of any kind: attributes, values, events, links
)

// ErrTooMany means that an export has more items than the limits allow.
var ErrTooMany = errors.New("too many items in one export")

// Shape is which fields of a message are messages themselves.
type Shape struct {
	fields map[protowire.Number]*Shape
	record bool // a span or log record
}

// The shapes of OTLP's export requests (opentelemetry-proto v1).
var (
	TraceShape = Shape{fields: map[protowire.Number]*Shape{1: {fields: map[protowire.Number]*Shape{
		1: resourceShape, 2: {fields: map[protowire.Number]*Shape{1: scopeShape, 2: {record: true,
			fields: map[protowire.Number]*Shape{9: keyShape, 11: {fields: map[protowire.Number]*Shape{3: keyShape}},
				13: {fields: map[protowire.Number]*Shape{4: keyShape}}, 15: {}}}}}}}}}
	LogShape = Shape{fields: map[protowire.Number]*Shape{1: {fields: map[protowire.Number]*Shape{
		1: resourceShape, 2: {fields: map[protowire.Number]*Shape{1: scopeShape, 2: {record: true,
			fields: map[protowire.Number]*Shape{5: valueShape, 6: keyShape}}}}}}}}

	resourceShape = &Shape{fields: map[protowire.Number]*Shape{1: keyShape}}
	scopeShape    = &Shape{fields: map[protowire.Number]*Shape{3: keyShape}}
	keyShape      = &Shape{fields: map[protowire.Number]*Shape{2: valueShape}}
	valueShape    = anyValue()
)

// anyValue returns the shape of AnyValue, which holds lists of itself.
func anyValue() *Shape {
	v := &Shape{}
	v.fields = map[protowire.Number]*Shape{5: {fields: map[protowire.Number]*Shape{1: v}},
		6: {fields: map[protowire.Number]*Shape{1: {fields: map[protowire.Number]*Shape{2: v}}}}}
	return v
}

// maxDepth is how deep messages may nest; the decoder has the same limit.
const maxDepth = 100

// ItemMemory is what a decoded item needs in bytes, at most.
const ItemMemory = 128

// CheckProto checks an export's protobuf: well-formed, and within the limits. It returns the number of its items, and
// allocates nothing for what it counts.
func (s Shape) CheckProto(raw []byte) (items int, err error) {
	records := 0
	err = s.check(raw, 0, &records, &items)
	return items, err
}

func (s *Shape) check(raw []byte, depth int, records, items *int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	if *items++; s.record {
		*records++
	}
	if *items > MaxItems || *records > MaxRecords {
		return fmt.Errorf("%w: the limits are %d records and %d items", ErrTooMany, MaxRecords, MaxItems)
	}
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]
		inner := s.fields[number]
		if kind != protowire.BytesType || inner == nil {
			if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
				return protowire.ParseError(n)
			}
			raw = raw[n:]
			continue
		}
		body, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := inner.check(body, depth+1, records, items); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

// CheckJSON checks that an export's JSON is within the limits of depth and of the number of objects and lists, which it
// returns.
func CheckJSON(raw []byte) (items int, err error) {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\': // within quotes, or an error that the decoder reports
			i++
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > 4*maxDepth {
				return items, fmt.Errorf("it is nested deeper than %d", 4*maxDepth)
			}
			if items++; items > MaxItems {
				return items, fmt.Errorf("%w: the limit is %d", ErrTooMany, MaxItems)
			}
		case c == '}' || c == ']':
			if depth--; depth <= 0 && len(bytes.TrimSpace(raw[i+1:])) > 0 {
				return items, errors.New("there is something after the JSON document")
			}
		}
	}
	return items, nil
}
