package mcpserver

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"
)

// schemaOf returns the JSON schema of a struct's fields, with the bounds that their tags say.
func schemaOf[T any]() *jsonschema.Schema {
	s, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[uuid.UUID]():       {Type: "string", Format: "uuid"},
		reflect.TypeFor[time.Time]():       {Type: "string", Format: "date-time"},
		reflect.TypeFor[json.RawMessage](): {Type: "object"},
	}})
	if err != nil {
		panic(fmt.Sprintf("the schema of %T: %v", *new(T), err)) // a programming error, which every test meets
	}
	bound(s, reflect.TypeFor[T]())
	return s
}

// bound adds the bounds of a struct's tags to its schema.
func bound(s *jsonschema.Schema, t reflect.Type) {
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := s.Properties[name]
		if f.Anonymous || p == nil {
			continue
		}
		if all := f.Tag.Get("enum"); all != "" {
			for v := range strings.SplitSeq(all, ",") {
				p.Enum = append(p.Enum, v)
			}
		}
		least, hasLeast := number(f.Tag.Get("min"))
		most, hasMost := number(f.Tag.Get("max"))
		switch {
		case p.Type == "string":
			p.MinLength, p.MaxLength = intIf(least, hasLeast), intIf(most, hasMost)
		case p.Type == "array" || slices.Contains(p.Types, "array"):
			p.Type, p.Types = "array", nil // null is a missing list, and nobody has to know
			p.MinItems, p.MaxItems = intIf(least, hasLeast), intIf(most, hasMost)
		case hasLeast && hasMost:
			p.Minimum, p.Maximum = new(float64(least)), new(float64(most))
		}
		if d := f.Tag.Get("default"); d != "" {
			p.Default = json.RawMessage(d)
		}
	}
}

func number(s string) (n int, is bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil
}

func intIf(n int, is bool) *int {
	if !is {
		return nil
	}
	return &n
}

// checkBounds checks arguments against their schema's bounds and the names that must be there.
func checkBounds(raw []byte, s *jsonschema.Schema, value any) error {
	var there map[string]json.RawMessage
	if err := json.Unmarshal(raw, &there); err != nil {
		return argument("arguments", "they can't be read")
	}
	for _, name := range s.Required {
		if given := there[name]; given == nil || string(given) == "null" {
			return argument(name, "it is missing")
		}
	}
	v := reflect.ValueOf(value).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p, given := s.Properties[name], there[name]
		if f.Anonymous || p == nil || given == nil || string(given) == "null" {
			continue
		}
		if reason := outside(p, v.FieldByIndex(f.Index)); reason != "" {
			return argument(name, "%s", reason)
		}
	}
	return nil
}

// outside returns why a value is outside of a schema's bounds, or "".
func outside(p *jsonschema.Schema, v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		n, s := utf8.RuneCountInString(v.String()), v.String()
		switch {
		case len(p.Enum) > 0 && !slices.Contains(p.Enum, any(s)):
			return fmt.Sprintf("it is none of %s", strings.Trim(fmt.Sprint(p.Enum), "[]"))
		case p.MinLength != nil && n < *p.MinLength:
			return "it is empty"
		case p.MaxLength != nil && n > *p.MaxLength:
			return fmt.Sprintf("it has %d characters, the limit is %d", n, *p.MaxLength)
		}
	case reflect.Int, reflect.Int64:
		if n := float64(v.Int()); p.Minimum != nil && n < *p.Minimum || p.Maximum != nil && n > *p.Maximum {
			return fmt.Sprintf("%d: it is %g to %g", v.Int(), *p.Minimum, *p.Maximum)
		}
	case reflect.Slice:
		if p.MaxItems != nil && v.Len() > *p.MaxItems {
			return fmt.Sprintf("it has %d items, the limit is %d", v.Len(), *p.MaxItems)
		}
	}
	return ""
}
