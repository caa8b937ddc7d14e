package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/strictjson"
)

// AttributeFilter is what an entry's attributes in the searched collections must meet, in the form of OpenAI's vector
// stores: a comparison of Key with Value (eq, ne, gt, gte, lt, lte, in, nin), or Filters joined by and, or. Values have
// types: a text is compared with texts alone. An entry without the key meets ne and nin.
type AttributeFilter struct {
	Type    string            `json:"type"`
	Key     string            `json:"key,omitempty"`
	Value   json.RawMessage   `json:"value,omitempty"`
	Filters []AttributeFilter `json:"filters,omitempty"`
}

// Limits of one filter.
const (
	maxAttributeFilter = 64 << 10 // bytes
	maxAttributeDepth  = 10       // a comparison alone is 1 deep
)

var attributeOps = map[string]string{"eq": "=", "ne": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "in": "",
	"nin": ""}

// ParseAttributeFilter reads a filter from its JSON. The error is a *QueryError that names the place, such as
// filters.filters[1].value.
func ParseAttributeFilter(raw []byte) (*AttributeFilter, error) {
	bad := func(reason string) error { return &QueryError{"filters", reason} }
	if len(raw) > maxAttributeFilter {
		return nil, bad(fmt.Sprintf("it is %d bytes long, the limit is %d", len(raw), maxAttributeFilter))
	}
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return nil, bad(err.Error())
	}
	var f AttributeFilter
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, bad(`it is a comparison, {"type":"eq","key":"team","value":"legal"}, or {"type":"and",` +
			`"filters":[…]}: ` + strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("there is data after it")
	}
	if at, what := strictjson.CheckStorable(raw); what != "" {
		return nil, &QueryError{"filters" + at, what}
	}
	_, err := f.clause("filters", 1, new(int), func(any) string { return "" })
	return &f, err
}

// withAttributes adds the condition on entries, kb_collection_documents cd, to others.
func (q *Query) withAttributes(clauses []string, arg func(any) string) ([]string, error) {
	if q.Attributes == nil {
		return clauses, nil
	}
	clause, err := q.Attributes.clause("filters", 1, new(int), arg)
	return append(clauses, clause), err
}

// clause turns the filter into SQL over kb_collection_documents cd. It is true or false, and never null.
func (f *AttributeFilter) clause(at string, depth int, leaves *int, arg func(any) string) (string, error) {
	bad := func(name, reason string, args ...any) error {
		return &QueryError{at + name, fmt.Sprintf(reason, args...)}
	}
	op, compares := attributeOps[f.Type]
	switch {
	case depth > maxAttributeDepth:
		return "", bad("", "it is nested deeper than %d", maxAttributeDepth)
	case compares && f.Filters != nil:
		return "", bad(".filters", "%s compares a key with a value", f.Type)
	case compares:
		if *leaves++; *leaves > maxConditions {
			return "", bad("", "there are more than %d comparisons", maxConditions)
		}
		if n := len([]rune(f.Key)); n < 1 || n > kb.MaxAttributeKey {
			return "", bad(".key", "it has %d characters: it is 1 to %d", n, kb.MaxAttributeKey)
		}
		sql, err := f.comparison(op, arg)
		if err != nil {
			return "", bad(".value", "%v", err)
		}
		return sql, nil
	case f.Type != "and" && f.Type != "or":
		return "", bad(".type", "%.40q is none: it is eq, ne, gt, gte, lt, lte, in, nin, and, or", f.Type)
	case f.Key != "" || f.Value != nil:
		return "", bad("", "%s joins filters: it has neither key nor value", f.Type)
	case len(f.Filters) == 0 || len(f.Filters) > maxConditions:
		return "", bad(".filters", "%d filters: it is 1 to %d", len(f.Filters), maxConditions)
	}
	clauses := make([]string, len(f.Filters))
	for i := range f.Filters {
		var err error
		below := fmt.Sprintf("%s.filters[%d]", at, i)
		if clauses[i], err = f.Filters[i].clause(below, depth+1, leaves, arg); err != nil {
			return "", err
		}
	}
	return "(" + strings.Join(clauses, " "+strings.ToUpper(f.Type)+" ") + ")", nil
}

// comparison compares jsonb values of one type; texts in the order of their bytes.
func (f *AttributeFilter) comparison(op string, arg func(any) string) (string, error) {
	one := func(raw json.RawMessage, op string) (string, error) {
		key := "(cd.attributes->" + arg(f.Key) + "::text)"
		switch {
		case len(raw) > 0 && raw[0] == '"' && op != "=":
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return "", err
			}
			return "CASE jsonb_typeof" + key + " WHEN 'string' THEN (" + key + ` #>> '{}') COLLATE "C" ` + op + " " +
				arg(s) + "::text ELSE false END", nil
		case len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9') && op != "=":
			return "CASE jsonb_typeof" + key + " WHEN 'number' THEN " + key + " " + op + " " + arg(string(raw)) +
				"::jsonb ELSE false END", nil
		case len(raw) > 0 && strings.ContainsRune(`"-0123456789tf`, rune(raw[0])) && op == "=":
			return "coalesce(" + key + " = " + arg(string(raw)) + "::jsonb, false)", nil
		}
		if op == "=" {
			return "", errors.New("it is text, a number, true or false")
		}
		return "", fmt.Errorf("%s compares with text or a number", f.Type)
	}
	switch f.Type {
	case "eq":
		return one(f.Value, op)
	case "ne":
		sql, err := one(f.Value, op)
		return "NOT " + sql, err
	case "in", "nin":
		var values []json.RawMessage
		if json.Unmarshal(f.Value, &values) != nil || len(values) == 0 || len(values) > maxIn {
			return "", fmt.Errorf("%s wants a list of 1 to %d values", f.Type, maxIn)
		}
		clauses := make([]string, len(values))
		for i, v := range values {
			var err error
			if clauses[i], err = one(v, "="); err != nil {
				return "", err
			}
		}
		sql := "(" + strings.Join(clauses, " OR ") + ")"
		if f.Type == "nin" {
			sql = "NOT " + sql
		}
		return sql, nil
	}
	return one(f.Value, op)
}
