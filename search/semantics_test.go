package search_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

// scalars are what documents have and filters ask for, as JSON.
var scalars = []string{`"x"`, `"xyz"`, `""`, `"5"`, `"05"`, `"5.0"`, `5`, `5.0`, `-1.5`, `"-1.5"`, `100`, `1e2`,
	`"1e2"`, `12345678901234567890`, `12345678901234567891`,
	`"true"`, `true`, `false`, `null`, `"null"`, `"2024-01-01"`,
	`"2024-01-01T00:00:00Z"`, `"2024-01-01t02:00:00.000+02:00"`, `"2023-12-31T23:59:59.999999Z"`,
	`"2023-12-31T23:59:59.9999999Z"`, `"2024-02-31"`, `"2024-02-29"`, `"2023-02-29"`, `"2024-01-01T24:00:00Z"`, `"Z"`,
	`"a"`, `"é"`, `"\ue000"`, `"😀"`, `"2024"`, `"a\"b\\c"`}

// keys are asked for; given draws metadata that has them.
var keys = []string{"a", "b", "a.b", `"a.b"`, "n.m", "n.m.k", `n."m"`, "l.k", "none"}

// given draws the metadata of a document.
func given(r *rand.Rand) map[string]any {
	scalar := func() any {
		var v any
		d := json.NewDecoder(strings.NewReader(scalars[r.IntN(len(scalars))]))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			panic(err)
		}
		return v
	}
	var value func(depth int) any
	object := func(depth int, names ...string) map[string]any {
		all := map[string]any{}
		for _, name := range names {
			if r.IntN(3) > 0 {
				all[name] = value(depth - 1)
			}
		}
		return all
	}
	value = func(depth int) any {
		switch n := r.IntN(10); {
		case depth > 0 && n == 0:
			return object(depth, "b", "k", "m")
		case depth > 0 && n < 4:
			list := []any{}
			for range r.IntN(4) {
				list = append(list, value(depth-1))
			}
			return list
		}
		return scalar()
	}
	all := object(3, "a", "b", "a.b", "n.m")
	if r.IntN(2) == 0 {
		all["n"] = object(3, "m", "k")
	}
	if r.IntN(2) == 0 {
		all["l"] = []any{object(2, "k"), object(2, "k"), scalar()}
	}
	return all
}

// at are the values of a key, which is one of keys, and whether there is any, a list or not.
func at(doc map[string]any, key string) (values []any, there bool) {
	paths := [][]string{strings.Split(key, ".")}
	switch {
	case key == `"a.b"`:
		paths = [][]string{{"a.b"}}
	case strings.Contains(key, `"`):
		paths = [][]string{strings.Split(strings.ReplaceAll(key, `"`, ""), ".")}
	case strings.Contains(key, "."):
		paths = append(paths, []string{key})
	}
	for _, path := range paths {
		found := []any{doc}
		for _, name := range path {
			var next []any
			for _, one := range found {
				list, ok := one.([]any)
				if !ok {
					list = []any{one}
				}
				for _, element := range list {
					if object, ok := element.(map[string]any); ok {
						if v, ok := object[name]; ok {
							next = append(next, v)
						}
					}
				}
			}
			found = next
		}
		for _, v := range found {
			there = true
			if list, ok := v.([]any); ok {
				values = append(values, list...)
			} else {
				values = append(values, v)
			}
		}
	}
	return values, there
}

func instant(v any) (time.Time, bool) {
	s, _ := v.(string)
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, strings.ToUpper(s)); err == nil {
			return t.Truncate(time.Microsecond), true
		}
	}
	return time.Time{}, false
}

func numeric(v any) (*big.Rat, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return nil, false
	}
	return new(big.Rat).SetString(n.String())
}

// compares says how a stored value stands to one of a filter: -1, 0 or 1, where they have an order, and whether they
// are equal.
func compares(stored, asked any) (order int, has, equal bool) {
	if a, ok := numeric(stored); ok {
		b, ok := numeric(asked)
		if !ok {
			return 0, false, false
		}
		return a.Cmp(b), true, a.Cmp(b) == 0
	}
	if a, ok := stored.(string); ok {
		b, ok := asked.(string)
		if !ok {
			return 0, false, false
		}
		s, isTime := instant(a)
		if t, ok := instant(b); ok {
			return s.Compare(t), isTime, a == b || isTime && s.Equal(t)
		}
		return strings.Compare(a, b), true, a == b // of UTF-8, which is that of code points
	}
	switch stored.(type) {
	case bool, nil:
		return 0, false, stored == asked
	}
	return 0, false, false
}

// meets says whether a document meets a filter.
func meets(doc map[string]any, f *search.Filter) bool {
	if f.Type == "and" || f.Type == "or" {
		for i := range f.Filters {
			if meets(doc, &f.Filters[i]) == (f.Type == "or") {
				return f.Type == "or"
			}
		}
		return f.Type == "and"
	}
	values, there := at(doc, strings.TrimPrefix(f.Key, "metadata."))
	asked, isList := f.Value.([]any)
	if !isList {
		asked = []any{f.Value}
	}
	equal := slices.ContainsFunc(values, func(v any) bool {
		return slices.ContainsFunc(asked, func(a any) bool { _, _, equal := compares(v, a); return equal })
	})
	ordered := func(ok func(int) bool) bool {
		return slices.ContainsFunc(values, func(v any) bool {
			order, has, _ := compares(v, f.Value)
			return has && ok(order)
		})
	}
	switch f.Type {
	case "eq", "in":
		return equal
	case "ne", "nin":
		return !equal
	case "gt":
		return ordered(func(n int) bool { return n > 0 })
	case "gte":
		return ordered(func(n int) bool { return n >= 0 })
	case "lt":
		return ordered(func(n int) bool { return n < 0 })
	case "lte":
		return ordered(func(n int) bool { return n <= 0 })
	case "starts_with":
		return slices.ContainsFunc(values, func(v any) bool {
			s, ok := v.(string)
			return ok && strings.HasPrefix(s, f.Value.(string))
		})
	}
	return there == f.Value.(bool)
}

// draw draws a filter as JSON.
func draw(r *rand.Rand, depth int) string {
	if depth > 0 && r.IntN(3) == 0 {
		all := make([]string, 1+r.IntN(3))
		for i := range all {
			all[i] = draw(r, depth-1)
		}
		return fmt.Sprintf(`{"type":%q,"filters":[%s]}`, []string{"and", "or"}[r.IntN(2)], strings.Join(all, ","))
	}
	kinds := []string{"eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "starts_with", "exists"}
	kind, key := kinds[r.IntN(len(kinds))], "metadata."+keys[r.IntN(len(keys))]
	scalar := func(may func(string) bool) string {
		for {
			if s := scalars[r.IntN(len(scalars))]; may(s) {
				return s
			}
		}
	}
	value := scalar(func(s string) bool {
		return (kind[0] != 'g' && kind[0] != 'l' || s != "null" && s != "true" && s != "false") &&
			(kind != "starts_with" || s[0] == '"')
	})
	switch kind {
	case "exists":
		value = fmt.Sprint(r.IntN(2) == 0)
	case "in", "nin":
		list := make([]string, 1+r.IntN(4))
		for i := range list {
			list[i] = scalar(func(string) bool { return true })
		}
		value = "[" + strings.Join(list, ",") + "]"
	}
	return fmt.Sprintf(`{"type":%q,"key":%q,"value":%s}`, kind, key, value)
}

// loosely is what a condition without quotes means: numbers and truth values, and the texts that look like them.
func loosely(c search.Condition) *search.Filter {
	s := c.Value.(string)
	either := &search.Filter{Type: "or"}
	add := func(v any) {
		either.Filters = append(either.Filters, search.Filter{Type: "eq", Key: c.Field, Value: v})
	}
	add(s)
	var v any
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if d.Decode(&v) == nil && !d.More() {
		switch v.(type) {
		case bool, json.Number:
			add(v)
		}
	}
	return either
}

// TestFiltersMeanWhatTheySay asks PostgreSQL and a plain reading in Go which of some documents meet some filters, all
// of which are drawn.
func TestFiltersMeanWhatTheySay(t *testing.T) {
	door := testkit.Door(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	docs := make([]map[string]any, 250)
	texts := make([]string, len(docs))
	for i := range docs {
		docs[i] = given(r)
		raw, err := json.Marshal(docs[i])
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(raw)
	}
	store(t, door, tenantA, texts...)
	some := map[string]int{} // how often a comparison told documents apart
	check := func(q search.Query, what, kind string, want func(doc map[string]any) bool) {
		got, err := met(t.Context(), door, tenantA, q)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(got) > 0 && len(got) < len(docs) {
			some[kind]++
		}
		for i, doc := range docs {
			if slices.Contains(got, i) != want(doc) {
				t.Fatalf("%s: of %s PostgreSQL says %t", what, texts[i], slices.Contains(got, i))
			}
		}
	}
	for range 1500 {
		s := draw(r, 3)
		f, err := search.ParseFilter([]byte(s))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		check(search.Query{Filter: f}, s, f.Type, func(doc map[string]any) bool { return meets(doc, f) })
	}
	for range 300 { // conditions, with and without quotes
		var v any
		raw := scalars[r.IntN(len(scalars))]
		if err := json.Unmarshal([]byte(raw), &v); err != nil {
			t.Fatal(err)
		}
		key, not := "metadata."+keys[r.IntN(len(keys))], r.IntN(2) == 0
		s := key + map[bool]string{true: "!=", false: "="}[not]
		plain := strings.Trim(raw, `"`)
		if _, text := v.(string); text && (r.IntN(2) == 0 || strings.Contains(raw, `\`)) {
			s += raw[:1] + strings.NewReplacer(`\ue000`, "\ue000").Replace(raw[1:])
		} else {
			s += plain
		}
		c, err := search.ParseCondition(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		var f *search.Filter
		switch v := c.Value.(type) {
		case nil:
			f = &search.Filter{Type: "eq", Key: key}
		case search.Text:
			f = &search.Filter{Type: "eq", Key: key, Value: string(v)}
		case string:
			f = loosely(c)
		}
		check(search.Query{Where: []search.Condition{c}}, s, string(c.Op), func(doc map[string]any) bool {
			return meets(doc, f) != not
		})
	}
	t.Log(some)
	for _, kind := range []string{"eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "starts_with", "exists", "and",
		"or", "=", "!="} {
		if some[kind] < 20 {
			t.Errorf("%s told documents apart %d times", kind, some[kind])
		}
	}
}

// TestTimesAreReadAlike in Go and in SQL, and nothing raises an error there.
func TestTimesAreReadAlike(t *testing.T) {
	door := testkit.Door(t)
	texts := []string{"", "x", "2024", "2024-01", "2024-01-01", "2024-1-1", "2024-02-29", "2023-02-29", "2000-02-29",
		"1900-02-29", "2024-02-30", "2024-02-31", "2024-04-31", "2024-04-30", "2024-12-31", "2024-13-01", "2024-00-01",
		"2024-01-00", "2024-01-32", "0000-01-01", "0000-01-01T00:00:00Z", "0001-01-01", "0001-01-01T00:00:00+23:59",
		"9999-12-31", "9999-12-31T23:59:59.999999-23:59", "10000-01-01", "-2024-01-01", "+2024-01-01", "infinity",
		"-infinity", "now", "today", "epoch", "2024-01-01T00:00:00", "2024-01-01T00:00Z", "2024-01-01 00:00:00Z",
		"2024-01-01T00:00:00Z", "2024-01-01t00:00:00z", "2024-01-01T24:00:00Z", "2024-01-01T23:59:60Z",
		"2024-06-30T23:59:60Z", "2024-01-01T00:60:00Z", "2024-01-01T00:00:00+00:00", "2024-01-01T00:00:00-00:00",
		"2024-01-01T00:00:00+99:99", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+05:30",
		"2024-01-01T00:00:00-05:30",
		"2024-01-01T00:00:00+0530", "2024-01-01T00:00:00+05", "2024-01-01T00:00:00.1Z", "2024-01-01T00:00:00.123456Z",
		"2024-01-01T00:00:00.1234567Z", "2024-01-01T00:00:59.9999999Z", "2024-01-01T00:00:00.Z",
		"2024-01-01T00:00:00,5Z",
		"1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.000001+00:01", "2024-01-01\n", " 2024-01-01",
		"2024-01-01 ",
		"٢٠٢٤-٠١-٠١", "２０２４-01-01", "2024-01-01T00:00:00." + strings.Repeat("1", 43) + "Z",
		"2024-01-01T00:00:00." + strings.Repeat("1", 44) + "Z", "2024-01-01T00:00:00.5+01:00",
		"2024-01-01T00:00:00.000000Z", "2024‐01‐01"}
	near := len(texts)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 { // what is nearly one
		s := []byte(texts[r.IntN(near)])
		for range 1 + r.IntN(2) {
			if len(s) > 0 && len(s) < 100 {
				s[r.IntN(len(s))] = "0123456789-:.TZ+ "[r.IntN(17)]
			}
		}
		texts = append(texts, strings.ToValidUTF8(string(s), "?"))
	}
	texts = append(texts, strings.Repeat("2024-01-01", 1e6), strings.Repeat("9", 1e6)+"-01-01")
	var read []*time.Time
	if err := door.Query(t.Context(), tenantA, `SELECT public.kb_time(t)
		FROM unnest($1::text[]) WITH ORDINALITY u (t, n) ORDER BY n`, []any{texts}, func(rows pgx.Rows) (err error) {
		read, err = pgx.CollectRows(rows, pgx.RowTo[*time.Time])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	times := 0
	for i, s := range texts {
		want, ok := search.ParseTime(s)
		if ok != (read[i] != nil) || ok && !want.Equal(*read[i]) {
			t.Errorf("%.100q is %v in SQL, and %v (%t) in Go", s, read[i], want, ok)
		}
		if ok {
			times++
		}
	}
	if times < 1000 || times > len(texts)/2 {
		t.Errorf("%d of %d are times", times, len(texts))
	}
	for _, constant := range []string{"NULL", "''", "'2024-02-31'", "'0000-01-01T00:00:00Z'",
		"'x' || repeat('y', 1000000)"} {
		read := func(rows pgx.Rows) error {
			got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[*time.Time])
			if got != nil {
				t.Errorf("%s is %v", constant, got)
			}
			return err
		}
		if err := door.Query(t.Context(), tenantA, `SELECT public.kb_time(`+constant+`)`, nil, read); err != nil {
			t.Errorf("%s: %v", constant, err)
		}
	}
}
