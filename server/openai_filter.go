package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Limits on a filter.
const (
	maxFilterDepth = 10
	maxFilterParts = 100
)

// storeFilter is a condition on the attributes of files in a vector store, in OpenAI's form.
type storeFilter struct {
	Type    string        `json:"type"`
	Key     string        `json:"key"`
	Value   any           `json:"value"`
	Filters []storeFilter `json:"filters"`
}

// attributeFilter reads a filter; nil where there is none. It is to become search.Filter, whose keys are
// attributes.KEY.
func attributeFilter(raw json.RawMessage) (*storeFilter, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var f storeFilter
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, openAIField("filters", "it has type, key and value, or type and filters")
	}
	parts := 0
	return &f, f.check("filters", 1, &parts)
}

func (f *storeFilter) check(at string, depth int, parts *int) error {
	if *parts++; *parts > maxFilterParts {
		return openAIField("filters", fmt.Sprintf("there are more than %d", maxFilterParts))
	}
	switch f.Type {
	case "and", "or":
		switch {
		case depth == maxFilterDepth:
			return openAIField(at, fmt.Sprintf("it is nested more than %d deep", maxFilterDepth))
		case f.Key != "" || f.Value != nil:
			return openAIField(at, f.Type+" joins filters: it has neither key nor value")
		case len(f.Filters) == 0:
			return openAIField(at+".filters", "there are none")
		}
		for i := range f.Filters {
			if err := f.Filters[i].check(fmt.Sprintf("%s.filters[%d]", at, i), depth+1, parts); err != nil {
				return err
			}
		}
		return nil
	case "eq", "ne", "gt", "gte", "lt", "lte", "in", "nin":
	default:
		return openAIField(at+".type", fmt.Sprintf("%.40q: it is eq, ne, gt, gte, lt, lte, in, nin, and, or", f.Type))
	}
	list, isList := f.Value.([]any)
	switch {
	case f.Key == "":
		return openAIField(at+".key", "it is missing")
	case f.Filters != nil:
		return openAIField(at+".filters", "they are for and, or")
	case (f.Type == "in" || f.Type == "nin") != isList:
		return openAIField(at+".value", "it is a list for in and nin, and for no other")
	case isList && len(list) > maxFilterParts:
		return openAIField(at+".value", fmt.Sprintf("there are more than %d", maxFilterParts))
	case !isList:
		list = []any{f.Value}
	}
	for _, v := range list {
		switch v.(type) {
		case string, float64:
		case bool:
			if !slices.Contains([]string{"eq", "ne", "in", "nin"}, f.Type) {
				return openAIField(at+".value", "true and false are equal or not, and no more")
			}
		default:
			return openAIField(at+".value", "it is text, a number, true or false")
		}
	}
	return nil
}

// meets reports whether attributes meet the filter. A file without the attribute meets ne and nin alone.
func (f *storeFilter) meets(attributes map[string]any) bool {
	own, there := attributes[f.Key]
	equal := func(v any) bool { return there && own == v }
	switch f.Type {
	case "and":
		return !slices.ContainsFunc(f.Filters, func(g storeFilter) bool { return !g.meets(attributes) })
	case "or":
		return slices.ContainsFunc(f.Filters, func(g storeFilter) bool { return g.meets(attributes) })
	case "eq":
		return equal(f.Value)
	case "ne":
		return !equal(f.Value)
	case "in":
		return slices.ContainsFunc(f.Value.([]any), equal)
	case "nin":
		return !slices.ContainsFunc(f.Value.([]any), equal)
	}
	order, same := 0, false
	switch v := f.Value.(type) {
	case string:
		var text string
		text, same = own.(string)
		order = strings.Compare(text, v)
	case float64:
		var number float64
		number, same = own.(float64)
		order = cmp.Compare(number, v)
	}
	return same && map[string]bool{"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0}[f.Type]
}
