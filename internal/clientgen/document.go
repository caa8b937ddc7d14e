package clientgen

import (
	"encoding/json"
	"fmt"
	"strings"
)

// document is what the generator reads of an OpenAPI 3.1 description.
type document struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*schema }
}

// operation is an operation of the description.
type operation struct {
	OperationID string
	Summary     string
	Description string
	Deprecated  bool
	Parameters  []parameter
	RequestBody *struct{ Content map[string]media }
	Responses   map[string]struct {
		Content map[string]media
		Headers map[string]struct{ Schema schema }
	}
	MessageSchema string `json:"x-konstruct-message-schema"`
}

// parameter is a parameter in a path, query or header.
type parameter struct {
	Name        string
	In          string
	Description string
	Required    bool
	Schema      schema
}

// media is a content type's schema.
type media struct{ Schema schema }

// schema is the part of JSON Schema that the description uses. read refuses what is beyond it.
type schema struct {
	Ref         string `json:"$ref"`
	Type        types
	Format      string
	Description string
	Enum        []string
	Properties  map[string]*schema
	Required    []string
	Items       *schema
	Values      *schema `json:"additionalProperties"` // nil: none, or not an object
	AllOf       []any
	AnyOf       []any
	OneOf       []any
	closed      bool // additionalProperties is false
}

// types is a schema's type: one, or one and null.
type types struct {
	name     string // "" is any
	nullable bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *types) UnmarshalJSON(raw []byte) error {
	var names []string
	if raw[0] == '"' {
		names = make([]string, 1)
		if err := json.Unmarshal(raw, &names[0]); err != nil {
			return fmt.Errorf("read a type: %w", err)
		}
	} else if err := json.Unmarshal(raw, &names); err != nil {
		return fmt.Errorf("read a type: %w", err)
	}
	for _, name := range names {
		switch {
		case name == "null":
			t.nullable = true
		case t.name != "":
			return fmt.Errorf("a schema has the types %v: only one beside null is supported", names)
		default:
			t.name = name
		}
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler: additionalProperties may be a schema or a truth value.
func (s *schema) UnmarshalJSON(raw []byte) error {
	if string(raw) == "true" || string(raw) == "false" {
		s.closed = string(raw) == "false"
		return nil
	}
	type plain schema // without this method
	if err := json.Unmarshal(raw, (*plain)(s)); err != nil {
		return err
	}
	if s.AllOf != nil || s.AnyOf != nil || s.OneOf != nil {
		return fmt.Errorf("a schema has allOf, anyOf or oneOf, which the generator does not support: %.200s", raw)
	}
	if s.Values != nil && s.Values.closed {
		s.Values = nil
	}
	return nil
}

// ref returns the component's name that the schema refers to, or "".
func (s *schema) ref() string { return strings.TrimPrefix(s.Ref, "#/components/schemas/") }
