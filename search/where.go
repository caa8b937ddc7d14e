package search

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/kb"
)

// Condition is what a document must meet to be searched: a field, a comparison, a value.
type Condition struct {
	// Field is document, source, filename, title, type, label, version, ingested, or metadata.KEY, of what was given
	// with the document.
	Field string `json:"field"`
	Op    Op     `json:"op"`
	// Value is text, a number or a truth value; of document a UUID, of ingested a time (RFC 3339) or a date. With In it
	// is a list of these.
	Value any `json:"value"`
}

// Op is how a field is compared.
type Op string

// The comparisons. Prefix is for text.
const (
	Equal   Op = "="
	Unequal Op = "!="
	Less    Op = "<"
	AtMost  Op = "<="
	More    Op = ">"
	AtLeast Op = ">="
	In      Op = "in"
	Prefix  Op = "^="
)

const (
	maxIn  = 1000 // values in a list
	maxKey = 200  // bytes of a key of the metadata
)

// ParseCondition reads a condition as people write it: metadata.team=legal, version>=2, source^=https://example.com/,
// label in a,b.
func ParseCondition(s string) (c Condition, err error) {
	bad := &QueryError{"where", fmt.Sprintf("%.100q is no condition: write it as metadata.team=legal, "+
		"ingested>=2026-01-31, source^=https://example.com/ or label in a,b", s)}
	if field, list, ok := strings.Cut(s, " in "); ok && !strings.ContainsAny(field, "=<>!^") {
		var values []any
		for v := range strings.SplitSeq(list, ",") {
			values = append(values, strings.TrimSpace(v))
		}
		return Condition{strings.TrimSpace(field), In, values}, nil
	}
	at := strings.IndexAny(s, "=<>!^")
	if at < 1 {
		return c, bad
	}
	for _, op := range []Op{Unequal, AtMost, AtLeast, Prefix, Equal, Less, More} {
		if rest, ok := strings.CutPrefix(s[at:], string(op)); ok {
			return Condition{strings.TrimSpace(s[:at]), op, strings.TrimSpace(rest)}, nil
		}
	}
	return c, bad
}

// conditionClauses turns conditions into SQL over kb_documents d and kb_sources s, which may be missing; arg adds an
// argument and returns its name.
func conditionClauses(all []Condition, arg func(any) string) (sql []string, err error) {
	for _, c := range all {
		clause, err := c.clause(arg)
		if err != nil {
			return nil, err
		}
		sql = append(sql, clause)
	}
	return sql, nil
}

func (c Condition) clause(arg func(any) string) (string, error) {
	values, err := c.values()
	if err != nil {
		return "", err
	}
	if key, ok := strings.CutPrefix(c.Field, "metadata."); ok {
		return c.metadata(key, values, arg)
	}
	switch c.Field {
	case "document":
		return compare(c, "d.id", "uuid", values, arg, func(v any) (any, error) {
			id, err := uuid.Parse(fmt.Sprint(v))
			if err != nil {
				return nil, fmt.Errorf("%.100q is not a UUID", fmt.Sprint(v))
			}
			return id, nil
		}, Equal, Unequal, In)
	case "source":
		return compare(c, "coalesce(s.source, d.source_url, '')", "text", values, arg, textValue, Equal,
			Unequal, In, Prefix)
	case "filename":
		return compare(c, "coalesce(d.filename, '')", "text", values, arg, textValue, Equal, Unequal, In, Prefix)
	case "title":
		return compare(c, "coalesce(s.title, '')", "text", values, arg, textValue, Equal, Unequal, In, Prefix)
	case "type":
		return compare(c, "coalesce(d.content_type, '')", "text", values, arg, textValue, Equal, Unequal, In, Prefix)
	case "version":
		return compare(c, "coalesce(s.version, 1)", "bigint", values, arg, func(v any) (any, error) {
			n, err := numberValue(v)
			if err == nil && (n != math.Trunc(n) || math.Abs(n) > 1<<53) {
				err = fmt.Errorf("%v is no whole number", v)
			}
			return int64(n), err
		}, Equal, Unequal, Less, AtMost, More, AtLeast, In)
	case "ingested":
		return compare(c, "coalesce(s.ingested_at, d.created_at)", "timestamptz", values, arg, timeValue, Less, AtMost,
			More, AtLeast)
	case "label":
		list := make([]string, len(values))
		for i, v := range values {
			list[i] = fmt.Sprint(v)
		}
		has := "coalesce(s.labels, '{}') && " + arg(list) + "::text[]"
		switch c.Op {
		case Equal, In:
			return has, nil
		case Unequal:
			return "NOT " + has, nil
		}
		return "", c.invalid("it is compared with =, != and in")
	}
	return "", c.invalid("there is no such field: it is document, source, filename, title, type, label, version, " +
		"ingested or metadata.KEY")
}

// Check returns a *QueryError for a condition that a search would refuse.
func (c Condition) Check() error {
	_, err := c.clause(func(any) string { return "" })
	return err
}

func (c Condition) invalid(reason string, args ...any) error {
	return &QueryError{"where", fmt.Sprintf("%.100q: %s", c.Field, fmt.Sprintf(reason, args...))}
}

// values are what the field is compared with.
func (c Condition) values() ([]any, error) {
	values := []any{c.Value}
	if c.Op == In {
		list, ok := c.Value.([]any)
		if !ok || len(list) == 0 || len(list) > maxIn {
			return nil, c.invalid("in wants a list of 1 to %d values", maxIn)
		}
		values = list
	}
	for _, v := range values {
		switch v := v.(type) {
		case string:
			if len(v) > kb.MaxSource || strings.ContainsRune(v, 0) {
				return nil, c.invalid("a value has more than %d bytes, or a zero byte", kb.MaxSource)
			}
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, c.invalid("%v is no number to compare with", v)
			}
		case bool, int, int64, json.Number, uuid.UUID, time.Time:
		default:
			return nil, c.invalid("the value is neither text, a number nor true or false")
		}
	}
	return values, nil
}

func compare(c Condition, column, kind string, values []any, arg func(any) string, as func(any) (any, error),
	may ...Op) (string, error) {
	if !slices.Contains(may, c.Op) {
		names := make([]string, len(may))
		for i, op := range may {
			names[i] = string(op)
		}
		return "", c.invalid("%.10q is no comparison for it: it is one of %s", c.Op, strings.Join(names, " "))
	}
	read := make([]any, len(values))
	for i, v := range values {
		var err error
		if read[i], err = as(v); err != nil {
			return "", c.invalid("%v", err)
		}
	}
	switch c.Op {
	case In:
		names := make([]string, len(read))
		for i := range read {
			names[i] = arg(read[i]) + "::" + kind
		}
		return column + " IN (" + strings.Join(names, ", ") + ")", nil
	case Prefix:
		return "starts_with(" + column + ", " + arg(read[0]) + "::text)", nil
	case Unequal:
		return column + " <> " + arg(read[0]) + "::" + kind, nil
	}
	return column + " " + string(c.Op) + " " + arg(read[0]) + "::" + kind, nil
}

// metadata compares what was given with a document. A number is also met where it was given as text, as a command line
// gives it.
func (c Condition) metadata(key string, values []any, arg func(any) string) (string, error) {
	if key == "" || len(key) > maxKey {
		return "", c.invalid("the key has 1 to %d bytes", maxKey)
	}
	k := arg(key) + "::text"
	has := func(v any) string {
		same := fmt.Sprintf("coalesce(s.given->>%s, '') = %s::text AND s.given ? %s", k, arg(fmt.Sprint(v)), k)
		return "(" + same + ")"
	}
	switch c.Op {
	case Equal, In:
		all := make([]string, len(values))
		for i, v := range values {
			all[i] = has(v)
		}
		return "(" + strings.Join(all, " OR ") + ")", nil
	case Unequal:
		return "NOT coalesce(" + has(values[0]) + ", false)", nil
	case Prefix:
		return "starts_with(s.given->>" + k + ", " + arg(fmt.Sprint(values[0])) + "::text)", nil
	case Less, AtMost, More, AtLeast:
		if n, err := numberValue(values[0]); err == nil {
			return fmt.Sprintf("CASE WHEN jsonb_typeof(s.given->%[1]s) = 'number' THEN (s.given->%[1]s)::numeric "+
				"%[2]s %[3]s::float8::numeric WHEN s.given->>%[1]s ~ '^-?[0-9]{1,30}(\\.[0-9]{1,30})?$' THEN "+
				"(s.given->>%[1]s)::numeric %[2]s %[3]s::float8::numeric ELSE false END", k, c.Op, arg(n)), nil
		}
		return fmt.Sprintf(`coalesce(s.given->>%s COLLATE "C" %s %s::text, false)`, k, c.Op,
			arg(fmt.Sprint(values[0]))), nil
	}
	return "", c.invalid("%.10q is no comparison", c.Op)
}

func textValue(v any) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("%v is no text", v)
	}
	return s, nil
}

func numberValue(v any) (n float64, err error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case int:
		return float64(v), nil
	case int64:
		return float64(v), nil
	}
	err = json.Unmarshal([]byte(fmt.Sprint(v)), &n)
	if err != nil {
		err = fmt.Errorf("%.60q is no number", fmt.Sprint(v))
	}
	return n, err
}

func timeValue(v any) (any, error) {
	if t, ok := v.(time.Time); ok {
		return t, nil
	}
	s, _ := v.(string)
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%.60q is no time: write it as 2026-01-31 or 2026-01-31T12:00:00Z", fmt.Sprint(v))
}
