package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/strictjson"
)

// Filter is what a document must meet, in the form of OpenAI's vector stores: a comparison of Key with Value, or
// Filters that are joined. Its values have types: a text is compared with texts alone, and a number with numbers alone.
type Filter struct {
	// Type is eq, ne, gt, gte, lt, lte, in, nin, starts_with or exists; or and, or.
	Type string `json:"type" enum:"eq,ne,gt,gte,lt,lte,in,nin,starts_with,exists,and,or"`
	// Key is a field as a Condition has it.
	Key string `json:"key,omitempty" maxLength:"210"`
	// Value is text, a number, a truth value or null; with in and nin a list of these, with exists true or false.
	Value any `json:"value,omitempty"`
	// Filters are those that and, or join.
	Filters []Filter `json:"filters,omitempty" maxItems:"100"`
}

// Limits of the conditions of one search.
const (
	maxConditions  = 100      // those of Where, and the comparisons of Filter
	maxFilterDepth = 10       // a comparison alone is 1 deep
	maxFilterBytes = 64 << 10 // of all keys and values
)

// filterOps are the comparisons by their names in a Filter.
var filterOps = map[string]Op{"eq": Equal, "ne": Unequal, "gt": More, "gte": AtLeast, "lt": Less, "lte": AtMost,
	"in": In, "nin": NotIn, "starts_with": Prefix, "exists": Exists}

// ParseFilter reads a filter from its JSON. The error is a *QueryError that names the place, such as
// filter.filters[1].value.
func ParseFilter(raw []byte) (*Filter, error) {
	f, err := decodeFilter(raw)
	if err != nil {
		return nil, err
	}
	return f, f.Check()
}

func decodeFilter(raw []byte) (*Filter, error) {
	var f Filter
	if !json.Valid(raw) {
		return nil, &QueryError{"filter",
			`it is no JSON: write it as {"type":"eq","key":"metadata.team","value":"legal"}`}
	}
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return nil, &QueryError{"filter", err.Error()}
	}
	if at, what := strictjson.CheckText(raw); what != "" {
		return nil, &QueryError{"filter" + at, what}
	}
	if err := strictjson.Decode(raw, &f); err != nil {
		field := new(strictjson.FieldError)
		if errors.As(err, &field) {
			return nil, &QueryError{"filter." + field.Field, field.Reason}
		}
		return nil, &QueryError{"filter", err.Error()}
	}
	return &f, nil
}

// UnmarshalJSON keeps the digits of numbers, and refuses names that a filter has not.
func (f *Filter) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	if err := strictjson.CheckDuplicates(raw); err != nil { // each level reads what is below it anew: not a thousand
		return err
	}
	type plain Filter
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	d.DisallowUnknownFields()
	err := d.Decode((*plain)(f))
	if err != nil { // encoding/json has no type for this error
		if name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
			return fmt.Errorf("there is no %.100s: a filter has type, key, value and filters", name)
		}
	}
	return err
}

// MarshalJSON writes the value of a comparison, null too, and that alone.
func (f Filter) MarshalJSON() ([]byte, error) {
	if _, ok := filterOps[f.Type]; !ok {
		return json.Marshal(struct {
			Type    string   `json:"type"`
			Filters []Filter `json:"filters"`
		}{f.Type, f.Filters})
	}
	return json.Marshal(struct {
		Type  string `json:"type"`
		Key   string `json:"key"`
		Value any    `json:"value"`
	}{f.Type, f.Key, f.Value})
}

// Check returns a *QueryError for a filter that a search of collections would refuse.
func (f *Filter) Check() error {
	return (&Query{Filter: f, Collections: make([]uuid.UUID, 1)}).CheckConditions()
}

// compiler turns conditions into SQL, and counts them.
type compiler struct {
	arg           func(any) string
	collected     bool // collections are searched, in which documents have attributes
	leaves, bytes int
}

// conditions turns the query's conditions into SQL over kb_documents d, kb_sources s, which may be missing, and entries
// of the collections that are searched, kb_collection_documents cd: all must be true. arg adds an argument and returns
// its name.
func (q *Query) conditions(arg func(any) string) (sql []string, err error) {
	if len(q.Where) > maxConditions {
		return nil, &QueryError{"where", fmt.Sprintf("%d conditions, the limit is %d", len(q.Where), maxConditions)}
	}
	c := compiler{arg: arg, collected: len(q.Collections) > 0}
	for _, one := range q.Where {
		clause, err := c.condition(one)
		if err != nil {
			return nil, err
		}
		sql = append(sql, clause)
	}
	if q.Filter != nil {
		clause, err := c.filter(q.Filter, "filter", 1)
		if err != nil {
			return nil, err
		}
		sql = append(sql, clause)
	}
	return sql, nil
}

// CheckConditions returns a *QueryError for conditions that a search would refuse, alone or together.
func (q *Query) CheckConditions() error {
	_, err := q.conditions(func(any) string { return "" })
	return err
}

func (c *compiler) condition(one Condition) (string, error) {
	leaf, err := one.comparison()
	if err != nil {
		return "", one.invalid(err)
	}
	return c.leaf(leaf, "where", one.invalid)
}

func (c *compiler) filter(f *Filter, at string, depth int) (string, error) {
	bad := func(name, reason string, args ...any) error {
		return &QueryError{at + name, fmt.Sprintf(reason, args...)}
	}
	if depth > maxFilterDepth {
		return "", bad("", "it is nested deeper than %d: join the filters of one kind in one list", maxFilterDepth)
	}
	op, isComparison := filterOps[f.Type]
	switch {
	case isComparison && f.Filters != nil:
		return "", bad(".filters", "%s compares a key with a value: filters are for and, or", f.Type)
	case isComparison:
		leaf, err := f.comparison(op)
		if err != nil {
			return "", bad(".value", "%v", err)
		}
		if f.Key == "" {
			return "", bad(".key", "it is missing: say what is compared, such as metadata.team")
		}
		return c.leaf(leaf, at, func(err error) error {
			if errors.As(err, new(keyError)) {
				return bad(".key", "%.100q: %v", f.Key, err)
			}
			return bad(".value", "%.100q: %v", f.Key, err)
		})
	case f.Type != "and" && f.Type != "or":
		return "", bad(".type", "%.40q is none: it is eq, ne, gt, gte, lt, lte, in, nin, starts_with, exists, and, or",
			f.Type)
	case f.Key != "":
		return "", bad(".key", "%s joins filters: it has no key", f.Type)
	case f.Value != nil:
		return "", bad(".value", "%s joins filters: it has no value", f.Type)
	case len(f.Filters) == 0 || len(f.Filters) > maxConditions:
		return "", bad(".filters", "%d filters: it is 1 to %d", len(f.Filters), maxConditions)
	}
	clauses := make([]string, len(f.Filters))
	for i := range f.Filters {
		var err error
		if clauses[i], err = c.filter(&f.Filters[i], fmt.Sprintf("%s.filters[%d]", at, i), depth+1); err != nil {
			return "", err
		}
	}
	return "(" + strings.Join(clauses, " "+strings.ToUpper(f.Type)+" ") + ")", nil
}

// comparison is the filter's own, whose values are what they are.
func (f *Filter) comparison(op Op) (*comparison, error) {
	if f.Type != "exists" {
		return newComparison(f.Key, op, f.Value, false)
	}
	there, ok := f.Value.(bool)
	if !ok {
		return nil, errors.New("exists wants true, or false for documents without it")
	}
	if !there {
		op = Missing
	}
	return newComparison(f.Key, op, nil, false)
}

// leaf turns a comparison into SQL; bad makes its error one of the query.
func (c *compiler) leaf(leaf *comparison, at string, bad func(error) error) (string, error) {
	if c.leaves++; c.leaves > maxConditions {
		return "", &QueryError{at, fmt.Sprintf("there are more than %d conditions in all", maxConditions)}
	}
	if strings.HasPrefix(leaf.field, attributes+".") && !c.collected {
		return "",
			bad(keyError{errors.New("attributes are a document's in a collection: name the collections that are " +
				"searched")})
	}
	c.bytes += len(leaf.field)
	for i := range leaf.values {
		c.bytes += len(leaf.values[i].number) + len(`"",`)
		if leaf.values[i].text != nil {
			c.bytes += len(*leaf.values[i].text)
		}
	}
	if c.bytes > maxFilterBytes {
		return "", &QueryError{at, fmt.Sprintf("the keys and values of all conditions have more than %d bytes",
			maxFilterBytes)}
	}
	sql, err := leaf.sql(c.arg)
	if err != nil {
		return "", bad(err)
	}
	return sql, nil
}

// newComparison reads the values of a comparison.
func newComparison(field string, op Op, value any, loose bool) (*comparison, error) {
	c := &comparison{field: field, op: op}
	values := []any{value}
	switch op {
	case In, NotIn:
		switch list := value.(type) {
		case []any:
			values = list
		case []string:
			values = nil
			for _, s := range list {
				values = append(values, s)
			}
		default:
			values = nil
		}
		if len(values) == 0 || len(values) > maxIn {
			return nil, fmt.Errorf("%s wants a list of 1 to %d values", op, maxIn)
		}
	case Exists, Missing:
		if value != nil {
			return nil, fmt.Errorf("%s has no value", op)
		}
		return c, nil
	default:
		if !slices.Contains(ordered, op) && op != Prefix {
			return nil, fmt.Errorf("%.10q is no comparison", op)
		}
	}
	for _, v := range values {
		o, err := newOperand(v, loose)
		if err != nil {
			return nil, err
		}
		c.values = append(c.values, o)
	}
	return c, nil
}
