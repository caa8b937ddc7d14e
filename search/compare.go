package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// comparison is a leaf of what documents must meet: of a Condition, or of a Filter.
type comparison struct {
	field  string
	op     Op
	values []operand // one, several with In and NotIn, none with Exists and Missing
}

// attributes is the root of what a document has in a collection.
const attributes = "attributes"

// jsonRoots are the JSON objects of a document whose values are compared, in SQL.
var jsonRoots = map[string]string{"metadata": "s.given", attributes: "cd.attributes"}

// column is a field that each document has, in SQL, and how it is compared.
type column struct {
	sql, kind string // kind is its type
	may       []Op
	read      func(*operand) (any, error)
}

var (
	equality  = []Op{Equal, Unequal, In, NotIn}
	ordered   = slices.Concat(equality, []Op{Less, AtMost, More, AtLeast})
	textual   = slices.Concat(ordered, []Op{Prefix, Exists, Missing})
	labelling = slices.Concat(equality, []Op{Exists, Missing})
)

// columns are over kb_documents d and kb_sources s, which may be missing. Texts are ordered by their code points.
var columns = map[string]column{
	"document": {"d.id", "uuid", equality, (*operand).asUUID},
	"source":   {`coalesce(s.source, d.source_url, '') COLLATE "C"`, "text", textual, (*operand).asText},
	"filename": {`coalesce(d.filename, '') COLLATE "C"`, "text", textual, (*operand).asText},
	"title":    {`coalesce(s.title, '') COLLATE "C"`, "text", textual, (*operand).asText},
	"type":     {`coalesce(d.content_type, '') COLLATE "C"`, "text", textual, (*operand).asText},
	"version":  {"coalesce(s.version, 1)", "bigint", ordered, (*operand).asWhole},
	"ingested": {"coalesce(s.ingested_at, d.created_at)", "timestamptz", ordered, (*operand).asTime},
	"label":    {"coalesce(s.labels, '{}')", "text", labelling, (*operand).asText},
}

// keyError says that it is the field that is wrong, and not what it is compared with.
type keyError struct{ error }

const noField = "there is no such field: it is document, source, filename, title, type, label, version, ingested, " +
	"metadata.KEY or attributes.KEY"

// sql is the comparison in SQL over kb_documents d and kb_sources s; arg adds an argument and returns its name. It is
// true, or false or NULL.
func (c *comparison) sql(arg func(any) string) (string, error) {
	if root, key, ok := strings.Cut(c.field, "."); ok && jsonRoots[root] != "" {
		paths, err := keyPaths(key)
		if err != nil {
			return "", keyError{err}
		}
		return c.jsonSQL(jsonRoots[root], paths, arg)
	}
	col, ok := columns[c.field]
	if !ok {
		return "", keyError{errors.New(noField)}
	}
	return c.columnSQL(col, arg)
}

func (c *comparison) columnSQL(col column, arg func(any) string) (string, error) {
	if !slices.Contains(col.may, c.op) {
		names := make([]string, len(col.may))
		for i, op := range col.may {
			names[i] = string(op)
		}
		return "", fmt.Errorf("%.10q is no comparison for it: it is one of %s", c.op, strings.Join(names, ", "))
	}
	values := make([]string, len(c.values))
	for i := range c.values {
		v, err := col.read(&c.values[i])
		if err != nil {
			return "", err
		}
		values[i] = fmt.Sprint(v)
	}
	list := c.field == "label"
	switch c.op {
	case Exists, Missing:
		empty := map[bool]string{false: "''", true: "'{}'"}[list]
		return col.sql + map[Op]string{Exists: " <> ", Missing: " = "}[c.op] + empty, nil
	case Prefix:
		return "starts_with(" + col.sql + ", " + arg(values[0]) + "::text)", nil
	case Less, AtMost, More, AtLeast:
		if col.kind == "timestamptz" {
			return col.sql + " " + string(c.op) + " public.kb_time(" + arg(values[0]) + "::text)", nil
		}
		return col.sql + " " + string(c.op) + " " + arg(values[0]) + "::" + col.kind, nil
	}
	all := arg(values) + "::text[]"
	if col.kind != "text" {
		all += "::" + col.kind + "[]"
	}
	if col.kind == "timestamptz" {
		all = timesSQL(all[:strings.Index(all, "::")] + "::text[]")
	}
	has := col.sql + " = ANY (" + all + ")"
	if list {
		has = col.sql + " && " + all
	}
	if c.op == Unequal || c.op == NotIn {
		return "NOT (" + has + ")", nil
	}
	return has, nil
}

// timesSQL are the instants of texts that are times. The database reads those of conditions as it reads those that
// are stored.
func timesSQL(texts string) string {
	return "ARRAY(SELECT public.kb_time(t) FROM unnest(" + texts + ") t)"
}

func (o *operand) asText() (any, error) {
	if o.text == nil {
		return nil, fmt.Errorf("%s is no text", o)
	}
	return *o.text, nil
}

func (o *operand) asUUID() (any, error) {
	if o.text != nil {
		if id, err := uuid.Parse(*o.text); err == nil {
			return id, nil
		}
	}
	return nil, fmt.Errorf("%s is not a UUID", o)
}

func (o *operand) asWhole() (any, error) {
	if o.number == "" {
		return nil, fmt.Errorf("%s is no number", o)
	}
	n, err := strconv.ParseFloat(o.number, 64)
	if err != nil || n != math.Trunc(n) || math.Abs(n) > 1<<53 {
		return nil, fmt.Errorf("%s is no whole number", o)
	}
	return int64(n), nil
}

func (o *operand) asTime() (any, error) {
	if o.time == nil {
		return nil, fmt.Errorf("%s is no time: write it as 2026-01-31 or 2026-01-31T12:00:00Z", o)
	}
	return *o.text, nil
}

// String is for errors.
func (o *operand) String() string {
	switch {
	case o.text != nil:
		return fmt.Sprintf("%.100q", *o.text)
	case o.number != "":
		return o.number
	case o.truth != nil:
		return strconv.FormatBool(*o.truth)
	}
	return "null"
}

// jsonSQL compares the values of some paths in a JSON object. jsonpath, in its lax mode, meets a list where it meets
// an element, goes on from a list to the elements' own names, and never compares values of different types.
func (c *comparison) jsonSQL(object string, paths [][]string, arg func(any) string) (string, error) {
	switch c.op {
	case Exists, Missing:
		return negate(c.op == Missing, object, jsonpath(object, paths, "exists(%s)", nil, arg)), nil
	case Equal, Unequal, In, NotIn:
		return negate(c.op == Unequal || c.op == NotIn, object, c.jsonEqual(object, paths, arg)), nil
	case Prefix:
		text, err := c.values[0].asText()
		if err != nil {
			return "", err
		}
		return jsonpath(object, paths, "%s starts with $v", text, arg), nil
	case Less, AtMost, More, AtLeast:
		return c.jsonOrder(object, paths, arg)
	}
	return "", fmt.Errorf("%.10q is no comparison", c.op)
}

// negate says that a document does not meet it, which one without the object, or without the key, does not either.
func negate(not bool, object, sql string) string {
	if not {
		return "NOT coalesce(" + sql + ", false)"
	}
	return sql
}

func (c *comparison) jsonEqual(object string, paths [][]string, arg func(any) string) string {
	var equals []any
	var times []string
	var first, last time.Time
	for i := range c.values {
		equals = append(equals, c.values[i].equals()...)
		if t := c.values[i].time; t != nil {
			if times = append(times, *c.values[i].text); len(times) == 1 || t.Before(first) {
				first = *t
			}
			if len(times) == 1 || t.After(last) {
				last = *t
			}
		}
	}
	var v any = equals
	if len(equals) == 1 {
		v = equals[0]
	}
	sql := jsonpath(object, paths, "%s == $v", v, arg)
	if len(times) == 0 && len(equals) < fewValues {
		return sql
	}
	instants := ""
	if len(times) > 0 {
		instants = " = ANY (" + timesSQL(arg(times)+"::text[]") + ")"
		sql = "(" + sql + " OR " + jsonTexts(object, paths, timeLike, "public.kb_time(x #>> '{}')"+instants, arg) + ")"
	}
	return unlessList(object, paths, sql, func(key string) string {
		texts := make([]string, len(equals))
		for i, v := range equals {
			raw, _ := json.Marshal(v)
			texts[i] = string(raw)
		}
		sql := object + " -> " + key + " = ANY (" + arg(texts) + "::jsonb[])"
		if instants == "" {
			return sql
		}
		text := object + " ->> " + key
		return "(" + sql + " OR " + text + ` COLLATE "C" >= ` + arg(dayBefore(first)) + "::text AND " + text +
			` COLLATE "C" < ` + arg(dayBehind(last)) + "::text AND public.kb_time(" + text + ")" + instants + ")"
	}, arg)
}

// fewValues is how many jsonpath compares one after the other; more are looked up by their hashes.
const fewValues = 9

// timeLike is what each text that is a time is like, so that few others are read as one.
const timeLike = "^[0-9]{4}-"

// dayBefore and dayBehind bound the texts that may be of a time: none of it or later is less than the one, and none of
// it or earlier is as much as the other, whatever its zone. Reading a text as a time takes ten times as long.
func dayBefore(t time.Time) string { return t.AddDate(0, 0, -1).Format(time.DateOnly) }

func dayBehind(t time.Time) string {
	if t = t.AddDate(0, 0, 2); t.Year() > 9999 {
		return "9999-99-99"
	}
	return t.Format(time.DateOnly)
}

// unlessList is sql for a list, and for any other value what scalar returns for its key, which is faster: a function
// that returns rows takes ten times as long. Within nested objects sql is for all values.
func unlessList(object string, paths [][]string, sql string, scalar func(key string) string,
	arg func(any) string) string {
	if len(paths) > 1 || len(paths[0]) > 1 {
		return sql
	}
	key := arg(paths[0][0]) + "::text"
	return "CASE jsonb_typeof(" + object + " -> " + key + ") WHEN 'array' THEN " + sql + " ELSE " + scalar(key) + " END"
}

func (c *comparison) jsonOrder(object string, paths [][]string, arg func(any) string) (string, error) {
	switch o := &c.values[0]; {
	case o.number != "":
		sql := jsonpath(object, paths, "%s "+string(c.op)+" $v", json.Number(o.number), arg)
		if !o.loose {
			return sql, nil
		}
		return "(" + sql + " OR " + jsonTexts(object, paths, `^-?[0-9]{1,30}(\\.[0-9]{1,30})?$`,
			"(x #>> '{}')::numeric "+string(c.op)+" "+arg(o.number)+"::text::numeric", arg) + ")", nil
	case o.time != nil:
		return jsonTimes(object, paths, c.op, o, arg), nil
	case o.text != nil:
		return jsonpath(object, paths, "%s "+string(c.op)+" $v", *o.text, arg), nil
	default:
		return "", fmt.Errorf("%s has no order: compare it with = or !=", o)
	}
}

// jsonTimes orders the texts that are times. The bound of a key's text comes first, apart, so that PostgreSQL can have
// both bounds of a range before it reads a time; a list's text, which begins with a bracket, is beyond neither.
func jsonTimes(object string, paths [][]string, op Op, o *operand, arg func(any) string) string {
	than := " " + string(op) + " public.kb_time(" + arg(*o.text) + "::text)"
	bound := ""
	sql := unlessList(object, paths, jsonTexts(object, paths, timeLike, "public.kb_time(x #>> '{}')"+than, arg),
		func(key string) string {
			text := object + " ->> " + key
			if op == More || op == AtLeast {
				bound = text + ` COLLATE "C" >= ` + arg(dayBefore(*o.time)) + "::text"
			} else {
				bound = "(" + text + ` COLLATE "C" < ` + arg(dayBehind(*o.time)) + "::text OR " + text + " LIKE '[%')"
			}
			return "public.kb_time(" + text + ")" + than
		}, arg)
	if bound == "" {
		return sql
	}
	return "(" + bound + " AND " + sql + ")"
}

// jsonpath asks whether a value of one of the paths meets a predicate of it, in which $v is a value.
func jsonpath(object string, paths [][]string, predicate string, v any, arg func(any) string) string {
	all := make([]string, len(paths))
	for i, path := range paths {
		all[i] = fmt.Sprintf(predicate, "@"+accessors(path))
	}
	raw, _ := json.Marshal(map[string]any{"v": v}) // texts, numbers, truth values and null always have their JSON
	return fmt.Sprintf("jsonb_path_exists(%s, %s::text::jsonpath, %s::text::jsonb, true)", object,
		arg("$ ? ("+strings.Join(all, " || ")+")"), arg(string(raw)))
}

// jsonTexts asks whether a text of one of the paths is like an expression, and then meets a condition of it as x.
func jsonTexts(object string, paths [][]string, like, condition string, arg func(any) string) string {
	all := make([]string, len(paths))
	for i, path := range paths {
		all[i] = fmt.Sprintf("jsonb_path_query(%s, %s::text::jsonpath, '{}', true)", object,
			arg("$"+accessors(path)+` ? (@.type() == "string" && @ like_regex "`+like+`")`))
	}
	from := make([]string, len(all))
	for i := range all {
		from[i] = "SELECT x FROM " + all[i] + " x"
	}
	if len(from) == 1 {
		return "EXISTS (SELECT FROM " + all[0] + " x WHERE " + condition + ")"
	}
	return "EXISTS (SELECT FROM (" + strings.Join(from, " UNION ALL ") + ") y (x) WHERE " + condition + ")"
}
