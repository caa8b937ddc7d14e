package search

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Condition is what a document must meet to be searched: a field, a comparison, a value.
type Condition struct {
	// Field is document, source, filename, title, type, label, version, ingested, or metadata.KEY, of what was given
	// with the document. metadata.nested.deep is deep within nested, or a key with that name; a name in double quotes
	// may have dots: metadata."a.b".c.
	Field string `json:"field"`
	Op    Op     `json:"op"`
	// Value is text, a number, a truth value, or nil, which is JSON's null; of document a UUID, of ingested a time (RFC
	// 3339) or a date. With In and NotIn it is a list of these, with Exists and Missing nil. As metadata from a command
	// line is text, a text that looks like a number or a truth value meets that as well, and those meet the text: Text
	// does not.
	Value any `json:"value"`
}

// Op is how a field is compared.
type Op string

// The comparisons. A list meets one where an element does; Unequal and NotIn are met where Equal and In are not, so by
// documents without the field too. Prefix is for text.
const (
	Equal   Op = "="
	Unequal Op = "!="
	Less    Op = "<"
	AtMost  Op = "<="
	More    Op = ">"
	AtLeast Op = ">="
	In      Op = "in"
	NotIn   Op = "not in"
	Prefix  Op = "^="
	Exists  Op = "exists" // null exists
	Missing Op = "missing"
)

const maxIn = 1000 // values in a list

// ParseCondition reads a condition as people write it: metadata.team=legal, version>=2, source^=https://example.com/,
// label in a,b, metadata.team exists. A value in double quotes is text, in which \" and \\ are a quote and a backslash;
// null without quotes is JSON's.
func ParseCondition(s string) (c Condition, err error) {
	bad := &QueryError{"where", fmt.Sprintf("%.100q is no condition: write it as metadata.team=legal, "+
		"ingested>=2026-01-31, source^=https://example.com/, label in a,b or metadata.team exists", s)}
	field, op, rest := cutField(s)
	if op == "" || field == "" {
		return c, bad
	}
	c = Condition{Field: field, Op: op}
	switch op {
	case Exists, Missing:
		return c, nil
	case In, NotIn:
		c.Value, err = parseList(rest)
	default:
		var more string
		if c.Value, more, err = parseValue(rest, ""); err == nil && more != "" {
			err = errQuotes
		}
	}
	if err != nil {
		return Condition{}, c.invalid(err)
	}
	return c, nil
}

// String writes a condition as ParseCondition reads it.
func (c Condition) String() string {
	switch c.Op {
	case Exists, Missing:
		return c.Field + " " + string(c.Op)
	case In, NotIn:
		all, _ := c.Value.([]any)
		texts := make([]string, len(all))
		for i, v := range all {
			if texts[i] = valueText(v); strings.Contains(texts[i], ",") && texts[i][0] != '"' {
				texts[i] = quote(texts[i])
			}
		}
		return c.Field + " " + string(c.Op) + " " + strings.Join(texts, ",")
	}
	return c.Field + string(c.Op) + valueText(c.Value)
}

func valueText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case Text:
		return quote(string(v))
	case string:
		if v == "null" || strings.HasPrefix(v, `"`) || strings.TrimSpace(v) != v {
			return quote(v)
		}
		return v
	}
	return fmt.Sprint(v)
}

// Check returns a *QueryError for a condition that a search of collections would refuse.
func (c Condition) Check() error {
	return (&Query{Where: []Condition{c}, Collections: make([]uuid.UUID, 1)}).CheckConditions()
}

func (c Condition) invalid(err error) error {
	return &QueryError{"where", fmt.Sprintf("%.100q: %v", c.Field, err)}
}

func (c Condition) comparison() (*comparison, error) {
	return newComparison(c.Field, c.Op, c.Value, true)
}

// cutField cuts a condition into its field, how it is compared, and what comes then. A name in quotes may have what
// else ends a field.
func cutField(s string) (field string, op Op, rest string) {
	s = strings.TrimSpace(s)
	begin := true // of a name
	for i := 0; i < len(s); i++ {
		if begin && s[i] == '"' {
			if _, rest, ok := unquote(s[i:]); ok {
				i = len(s) - len(rest) - 1
			}
			begin = false
			continue
		}
		begin = s[i] == '.'
		for _, op := range []Op{Unequal, AtMost, AtLeast, Prefix, Equal, Less, More} {
			if rest, ok := strings.CutPrefix(s[i:], string(op)); ok {
				return strings.TrimSpace(s[:i]), op, strings.TrimSpace(rest)
			}
		}
		if strings.IndexByte("!^", s[i]) >= 0 {
			return "", "", ""
		}
		if s[i] != ' ' {
			continue
		}
		for _, op := range []Op{In, NotIn, Exists, Missing} {
			rest, ok := strings.CutPrefix(s[i+1:], string(op))
			if list := op == In || op == NotIn; ok && (list && strings.HasPrefix(rest, " ") || !list && rest == "") {
				return strings.TrimSpace(s[:i]), op, strings.TrimSpace(rest)
			}
		}
	}
	return "", "", ""
}

var errQuotes = errors.New(`a value that begins with a quote ends with one: in it, \" and \\ are a quote and a ` +
	"backslash")

// parseValue reads a value, which ends where one of until stands.
func parseValue(s, until string) (v any, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		text, rest, ok := unquote(s)
		if !ok {
			return nil, "", errQuotes
		}
		return Text(text), strings.TrimSpace(rest), nil
	}
	if at := strings.IndexAny(s, until); until != "" && at >= 0 {
		s, rest = s[:at], s[at:]
	}
	if s = strings.TrimSpace(s); s == "null" {
		return nil, rest, nil
	}
	return s, rest, nil
}

func parseList(s string) (any, error) {
	var values []any
	for {
		v, rest, err := parseValue(strings.TrimSpace(s), ",")
		if err != nil {
			return nil, err
		}
		if values = append(values, v); rest == "" {
			return values, nil
		}
		if rest[0] != ',' {
			return nil, errQuotes
		}
		s = rest[1:]
	}
}
