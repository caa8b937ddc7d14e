package server

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// addExamples gives each schema an example, built from its properties' examples, for code generators and readers.
func addExamples(all huma.Registry) {
	for _, s := range all.Map() {
		if s.Type == huma.TypeObject && len(s.Examples) == 0 {
			s.Examples = []any{exampleOf(all, "", s, 0)}
		}
	}
}

// maxExampleDepth bounds examples of recursive types.
const maxExampleDepth = 6

// exampleOf returns a value that a schema accepts. name is the property's name, which selects a string.
func exampleOf(all huma.Registry, name string, s *huma.Schema, depth int) any {
	if s.Ref != "" {
		s = all.SchemaFromRef(s.Ref)
	}
	switch {
	case len(s.Examples) > 0 && s.Type != huma.TypeObject:
		return s.Examples[0]
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	switch s.Type {
	case huma.TypeObject:
		value := map[string]any{}
		for key, p := range s.Properties {
			if depth < maxExampleDepth || slices.Contains(s.Required, key) {
				value[key] = exampleOf(all, key, p, depth+1)
			}
		}
		return value
	case huma.TypeArray:
		if s.Items == nil || depth >= maxExampleDepth && (s.MinItems == nil || *s.MinItems == 0) {
			return []any{}
		}
		return []any{exampleOf(all, strings.TrimSuffix(name, "s"), s.Items, depth+1)}
	case huma.TypeInteger:
		return json.Number(boundedExample(s, "3"))
	case huma.TypeNumber:
		return json.Number(boundedExample(s, "0.5"))
	case huma.TypeBoolean:
		return true
	case huma.TypeString:
		return stringExample(name, s)
	}
	return map[string]any{"order": "17"}
}

// boundedExample returns a number within a schema's bounds.
func boundedExample(s *huma.Schema, value string) string {
	if s.Minimum != nil {
		raw, _ := json.Marshal(*s.Minimum)
		return string(raw)
	}
	return value
}

// stringExample returns a string for a property's name and format.
func stringExample(name string, s *huma.Schema) string {
	switch s.Format {
	case "uuid":
		return "01a21c98-3e96-7514-a13c-9aa196ceea0a"
	case "date-time":
		return "2026-11-27T09:30:00.123456Z"
	case "date":
		return "2026-11-27"
	case "uri":
		return "https://example.com/handbook"
	}
	value, known := exampleTexts[name]
	if !known || s.MaxLength != nil && len(value) > *s.MaxLength || s.MinLength != nil && len(value) < *s.MinLength {
		return "text"
	}
	return value
}

// exampleTexts are strings by property name.
var exampleTexts = map[string]string{
	"action_type": "tool_invocation", "input_summary": `{"order":17}`, "output_summary": "the pump was shipped",
	"user_id": "ada", "name": "lookup_order", "reason": "a refund above the limit", "filename": "handbook.md",
	"source": "https://example.com/handbook", "text": "How do I return a pump?",
	"content": "Pumps are returned within 30 days.",
	"model":   "all-MiniLM-L6-v2", "label": "legal", "key": "kst_…", "title": "Handbook",
	"detail":   "input_summary is too long",
	"decision": "refund it", "url": "https://example.com/handbook", "content_type": "text/markdown",
	"cursor": "1795776069430059",
	"day":    "2026-11-27",
}
