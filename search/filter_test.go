package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// store stores a document for each of some metadata, as JSON; the empty one gets no row of kb_sources, as another
// client's document has none. Their numbers are their file names.
func store(t testing.TB, door *tenantdb.Door, tenant uuid.UUID, given ...string) {
	t.Helper()
	err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		for i, one := range given {
			id := uuid.NewSHA1(tenant, fmt.Appendf(nil, "%d", i))
			b.Queue(`INSERT INTO kb_documents (tenant_id, id, agent_id, filename, content_type, created_at)
				VALUES ($1, $2, $3, $4, 'text/plain', '2026-01-01')`, tenant, id, agent, fmt.Sprint(i))
			if one != "" {
				b.Queue(`INSERT INTO kb_sources (tenant_id, document_id, source, title, bytes, content_sha256, recipe,
					given, labels, language, ingested_at)
					VALUES ($1, $2, $3, '', 1, sha256('x'), 'r', $4::jsonb, '{}', 'english', '2026-01-01')`, tenant, id,
					"test:"+fmt.Sprint(i), one)
			}
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// met are the numbers of a tenant's documents that meet a query's conditions.
func met(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, q search.Query) (all []int, err error) {
	sql, args, err := search.ConditionsSQL(&q)
	if err != nil {
		return nil, err
	}
	err = door.Query(ctx, tenant, `SELECT d.filename::integer FROM kb_documents d
		LEFT JOIN kb_sources s ON s.tenant_id = d.tenant_id AND s.document_id = d.id WHERE `+sql+` ORDER BY 1`, args,
		func(rows pgx.Rows) error {
			all, err = pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		})
	return all, err
}

// filtered is a query with a filter, which is JSON, or with a condition.
func filtered(t testing.TB, s string) search.Query {
	t.Helper()
	if strings.HasPrefix(s, "{") {
		f, err := search.ParseFilter([]byte(s))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		return search.Query{Filter: f}
	}
	c, err := search.ParseCondition(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return search.Query{Where: []search.Condition{c}}
}

func TestFiltersAreMet(t *testing.T) {
	door := testkit.Door(t)
	store(t, door, tenantA, []string{
		0:  `{"tags":["a","b"],"nested":{"deep":"x"}}`,
		1:  `{"tags":"b","nested.deep":"x"}`,
		2:  `{"tags":[],"a.b":{"c":1}}`,
		3:  `{"tags":null,"d":"2024-01-01"}`,
		4:  ``,
		5:  `{"n":5,"d":"2024-01-01T02:00:00+02:00"}`,
		6:  `{"n":"5","d":"xyz"}`,
		7:  `{"n":"05","t":true,"d":"2024-06-30T12:00:00.5Z"}`,
		8:  `{"n":[4,"6"],"t":"true","list":[{"k":1},{"k":"two"}]}`,
		9:  `{"n":12345678901234567890,"d":"2024-02-31"}`,
		10: `{"q":"say \"hi\", \\ you"}`}...)
	for s, want := range map[string]string{
		// A list is met where an element is.
		`metadata.tags=b`:                                         "0 1",
		`metadata.tags!=b`:                                        "2 3 4 5 6 7 8 9 10",
		`metadata.tags in b,c`:                                    "0 1",
		`metadata.tags not in b`:                                  "2 3 4 5 6 7 8 9 10",
		`metadata.tags^=a`:                                        "0",
		`{"type":"eq","key":"metadata.tags","value":"b"}`:         "0 1",
		`{"type":"nin","key":"metadata.tags","value":["a","z"]}`:  "1 2 3 4 5 6 7 8 9 10",
		`{"type":"starts_with","key":"metadata.tags","value":""}`: "0 1",
		// Keys: paths, names with dots, names in lists' objects.
		`metadata.nested.deep=x`:   "0 1",
		`metadata."nested.deep"=x`: "1",
		`metadata.nested."deep"=x`: "0",
		`metadata."a.b".c=1`:       "2",
		`metadata.list.k=two`:      "8",
		`metadata.list.k=1`:        "8",
		// Missing is not null.
		`metadata.tags=null`:                                    "3",
		`metadata.tags="null"`:                                  "",
		`metadata.tags!=null`:                                   "0 1 2 4 5 6 7 8 9 10",
		`metadata.tags exists`:                                  "0 1 2 3",
		`metadata.tags missing`:                                 "4 5 6 7 8 9 10",
		`{"type":"eq","key":"metadata.tags","value":null}`:      "3",
		`{"type":"exists","key":"metadata.tags","value":false}`: "4 5 6 7 8 9 10",
		`{"type":"and","filters":[{"type":"exists","key":"metadata.tags","value":true},
			{"type":"ne","key":"metadata.tags","value":"b"}]}`: "2 3",
		// Types.
		`metadata.n=5`:                                                  "5 6",
		`metadata.n="5"`:                                                "6",
		`metadata.t=true`:                                               "7 8",
		`metadata.t="true"`:                                             "8",
		`metadata.n>=5`:                                                 "5 6 7 8 9",
		`metadata.n>="5"`:                                               "6 8",
		`metadata.n=12345678901234567890`:                               "9",
		`metadata.n=12345678901234567891`:                               "",
		`metadata.n>12345678901234567889`:                               "9",
		`{"type":"eq","key":"metadata.n","value":5}`:                    "5",
		`{"type":"eq","key":"metadata.n","value":5.0}`:                  "5",
		`{"type":"eq","key":"metadata.n","value":"5"}`:                  "6",
		`{"type":"eq","key":"metadata.t","value":true}`:                 "7",
		`{"type":"in","key":"metadata.n","value":[5,"05",true]}`:        "5 7",
		`{"type":"lt","key":"metadata.n","value":5}`:                    "8",
		`{"type":"eq","key":"metadata.n","value":12345678901234567890}`: "9",
		// Times.
		`metadata.d>=2024-01-01`:                                 "3 5 7",
		`metadata.d>2024-01-01`:                                  "7",
		`metadata.d<=2024-06-30T14:00:00.5+02:00`:                "3 5 7",
		`metadata.d<2024-06-30T12:00:00.5Z`:                      "3 5",
		`metadata.d=2024-01-01`:                                  "3 5",
		`metadata.d!=2024-01-01`:                                 "0 1 2 4 6 7 8 9 10",
		`metadata.d=2023-12-31T22:00:00-02:00`:                   "3 5",
		`metadata.d=2024-02-31`:                                  "9",
		`metadata.d>=a`:                                          "6",
		`{"type":"gte","key":"metadata.d","value":"2024-01-01"}`: "3 5 7",
		// Quotes.
		`metadata.q="say \"hi\", \\ you"`:      "10",
		`metadata.q in "say \"hi\", \\ you",x`: "10",
		`metadata.tags in "a,b"`:               "",
		// Columns.
		`filename in 3, 4`: "3 4", `filename not in 0,1,2,3`: "4 5 6 7 8 9 10", `filename>=9`: "9",
		`source exists`: "0 1 2 3 5 6 7 8 9 10", `title exists`: "", `label missing`: "0 1 2 3 4 5 6 7 8 9 10",
		`version not in 1`: "", `version in 1,2`: "0 1 2 3 4 5 6 7 8 9 10",
		`label not in a,b`: "0 1 2 3 4 5 6 7 8 9 10",
		`document=` + uuid.NewSHA1(tenantA, []byte("4")).String(): "4",
		`ingested=2026-01-01`: "0 1 2 3 4 5 6 7 8 9 10", `ingested in 2026-01-02`: "", `ingested!=2026-01-01`: "",
		`ingested>2025-12-31T23:59:59.999999Z`: "0 1 2 3 4 5 6 7 8 9 10",
		`{"type":"or","filters":[{"type":"eq","key":"version","value":2},{"type":"in","key":"filename","value":["3"]},
			{"type":"and","filters":[{"type":"eq","key":"metadata.t","value":true}]}]}`: "3 7",
	} {
		got, err := met(t.Context(), door, tenantA, filtered(t, s))
		if all := strings.Trim(fmt.Sprint(got), "[]"); err != nil || all != want {
			t.Errorf("%s: documents %q, want %q: %v", s, all, want, err)
		}
	}
}

// TestAFilterSearchesATenantsOwn in every mode, as one search with everything else; another tenant, none and a forged
// one find nothing.
func TestAFilterSearchesATenantsOwn(t *testing.T) {
	door := testkit.Door(t)
	fill(t, door, tenantA, 0, 12)
	fill(t, door, tenantB, 20, 3)
	f, err := search.ParseFilter([]byte(`{"type":"and","filters":[{"type":"gte","key":"metadata.n","value":4},
		{"type":"or","filters":[{"type":"eq","key":"filename","value":"doc7"},
		{"type":"lt","key":"ingested","value":"2026-01-06"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	q := search.Query{Text: "pumps", Vector: near(1, 3, 0.3), K: 100, PerDocument: true, Filter: f}
	for _, mode := range []search.Mode{search.Semantic, search.Lexical, search.Hybrid} {
		q.Mode = mode
		var names []string
		for _, h := range ask(t, door, tenantA, q).Hits {
			names = append(names, h.Filename)
		}
		if slices.Sort(names); strings.Join(names, " ") != "doc4 doc7" {
			t.Errorf("%s: %v", mode, names)
		}
		if hits := ask(t, door, tenantB, q).Hits; len(hits) != 0 {
			t.Errorf("%s: the other tenant finds %d", mode, len(hits))
		}
		// A tenant that is set and another that is asked for.
		err := door.Tx(t.Context(), tenantB, func(ctx context.Context, tx pgx.Tx) error {
			got, err := search.NewSearcher().SearchInTx(ctx, tx, tenantA, q)
			if err == nil && len(got.Hits) != 0 {
				t.Errorf("%s: forged, it finds %d", mode, len(got.Hits))
			}
			return err
		})
		if err != nil {
			t.Errorf("%s, forged: %v", mode, err)
		}
		q.Where = []search.Condition{{Field: "filename", Op: search.Unequal, Value: "doc7"}}
		if hits := ask(t, door, tenantA, q).Hits; len(hits) != 1 || hits[0].Filename != "doc4" {
			t.Errorf("%s: a condition beside it leaves %d", mode, len(hits))
		}
		q.Where = nil
	}
	// Without a tenant, no document meets what all do.
	sql, args, err := search.ConditionsSQL(&search.Query{Filter: &search.Filter{Type: "ne", Key: "metadata.none",
		Value: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tenant := range map[string]uuid.UUID{"no tenant": uuid.Nil, "a tenant without documents": uuid.New()} {
		found := -1
		err := door.Query(t.Context(), tenant, `SELECT count(*) FROM kb_documents d LEFT JOIN kb_sources s
			ON s.document_id = d.id WHERE `+sql, args, func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			return err
		})
		if found > 0 || err != nil && tenant != uuid.Nil {
			t.Errorf("%s: %d documents: %v", name, found, err)
		}
	}
}

// TestBadFiltersAreNamed by the place that is wrong, and by what to do.
func TestBadFiltersAreNamed(t *testing.T) {
	nested := func(n int) string {
		return strings.Repeat(`{"type":"and","filters":[`, n) + `{"type":"eq","key":"title","value":"x"}` +
			strings.Repeat(`]}`, n)
	}
	list := func(n int, one string) string { return `[` + strings.Repeat(one+`,`, n-1) + one + `]` }
	eq := func(key, value string) string { return `{"type":"eq","key":"` + key + `","value":` + value + `}` }
	many := func(n int) string {
		return `{"type":"or","filters":` + list(n, eq("title", `"x"`)) + `}`
	}
	for _, c := range [][2]string{
		{`x`, "filter: it is no JSON: write it as"},
		{`null`, `filter.type: "" is none: it is eq, ne`},
		{`[]`, "filter: it must be an object"},
		{nested(9), ""},
		{nested(10), "filter" + strings.Repeat(".filters[0]", 10) + ": it is nested deeper than 10"},
		{nested(100), "filter: it is nested deeper than 64"},
		// of a depth that the reader of JSON takes
		{nested(100_000), "filter: it is no JSON"},
		{many(100), ""},
		{many(101), "filter.filters: 101 filters: it is 1 to 100"},
		{`{"type":"and","filters":[` + many(100) + `,` + eq("title", `"x"`) + `]}`,
			"filter.filters[1]: there are more than 100"},
		{`{"type":"and","filters":[]}`, "filter.filters: 0 filters"},
		{`{"type":"and"}`, "filter.filters: 0 filters"},
		{`{"type":"and","key":"a","filters":[` + eq("title", `"x"`) + `]}`, "filter.key: and joins filters"},
		{`{"type":"or","value":1,"filters":[` + eq("title", `"x"`) + `]}`, "filter.value: or joins filters"},
		{`{"type":"eq","key":"title","value":"x","filters":[]}`, "filter.filters: eq compares"},
		{`{"type":"not","filters":[` + eq("title", `"x"`) + `]}`, `filter.type: "not" is none`},
		{`{"type":"eq","value":1}`, "filter.key: it is missing"},
		{eq("region", `"us"`), `filter.key: "region": there is no such field`},
		{eq("metadata", `1`), "filter.key:"},
		{eq("metadata.", `1`), "filter.key: \"metadata.\": the key has 1 to 200"},
		{eq("metadata.a..b", `1`), "a name is empty"},
		{eq(`metadata.\"a`, `1`), "a name in quotes has no end"},
		{eq(`metadata.\"a\"b`, `1`), "a dot or nothing follows"},
		{eq("metadata."+strings.Repeat("k", 201), `1`), "the key has 1 to 200 bytes"},
		{eq("metadata.a", `{}`), "filter.value: the value is neither"},
		{eq("metadata.a", `[]`), "filter.value: the value is neither"},
		{eq("metadata.a", `1e400`), "filter.value: "},
		{eq("metadata.a", `1`+strings.Repeat("0", 100)), "a number has 101 digits"},
		{eq("metadata.a", `"`+strings.Repeat("x", 1<<16)+`"`), "filter.value: a value has 65536 bytes"},
		{eq("metadata.a", `"\u0000"`), "filter.value: "},
		{eq("metadata.a", `"\ud800"`), "filter.value: "},
		{eq("document", `"x"`), `filter.value: "document": "x" is not a UUID`},
		{eq("version", `"2"`), "filter.value: \"version\": \"2\" is no number"},
		{eq("version", `2.5`), "2.5 is no whole number"},
		{eq("title", `null`), "null is no text"},
		{eq("title", `true`), "true is no text"},
		{eq("ingested", `5`), "5 is no time: write it as 2026-01-31"},
		{`{"type":"gt","key":"metadata.a","value":true}`, "true has no order: compare it with = or !="},
		{`{"type":"gt","key":"metadata.a","value":null}`, "null has no order"},
		{`{"type":"gt","key":"metadata.a","value":[1]}`, "filter.value: the value is neither"},
		{`{"type":"starts_with","key":"metadata.a","value":1}`, "1 is no text"},
		{`{"type":"gt","key":"label","value":"x"}`, `">" is no comparison for it: it is one of =, !=`},
		{`{"type":"exists","key":"document","value":true}`, `"exists" is no comparison for it`},
		{`{"type":"exists","key":"metadata.a","value":"yes"}`, "filter.value: exists wants true, or false"},
		{`{"type":"in","key":"metadata.a","value":"x"}`, "in wants a list of 1 to 1000 values"},
		{`{"type":"nin","key":"metadata.a","value":[]}`, "not in wants a list of 1 to 1000"},
		{`{"type":"in","key":"metadata.a","value":` + list(1000, `1`) + `}`, ""},
		{`{"type":"in","key":"metadata.a","value":` + list(1001, `1`) + `}`, "in wants a list of 1 to 1000"},
		{`{"type":"in","key":"metadata.a","value":[[1]]}`, "filter.value: the value is neither"},
		{`{"type":"in","key":"metadata.a","value":` + list(100, `"`+strings.Repeat("x", 700)+`"`) + `}`,
			"more than 65536 bytes"},
		{`{"type":"eq","key":"title","value":"x","valeu":1}`, `there is no "valeu": a filter has`},
		{`{"type":"eq","type":"ne","key":"title","value":"x"}`, `"type" is repeated`},
		{`{"type":5,"key":"title","value":"x"}`, "filter.type: it must be text"},
		{`{"type":"and","filters":{}}`, "filter.filters: it must be an array"},
	} {
		s, want := c[0], c[1]
		f, err := search.ParseFilter([]byte(s))
		var query *search.QueryError
		switch {
		case want == "" && err != nil:
			t.Errorf("%.100s: %v", s, err)
		case want != "" && (!errors.As(err, &query) || !strings.Contains(err.Error(), want)):
			t.Errorf("%.100s: %v, want %s", s, err, want)
		}
		for _, word := range []string{"json:", "Go ", "UTF-16", "\x00"} {
			if err != nil && strings.Contains(err.Error(), word) {
				t.Errorf("%.100s: %v has %q", s, err, word)
			}
		}
		if err == nil {
			raw, err := json.Marshal(f)
			again, err2 := search.ParseFilter(raw)
			twice, err3 := json.Marshal(again)
			if err != nil || err2 != nil || err3 != nil || string(raw) != string(twice) {
				t.Errorf("%.100s is written as %.100s and then %.100s: %v %v", s, raw, twice, err, err2)
			}
		}
	}
	// A value that contains itself ends too.
	loop := &search.Filter{Type: "or", Filters: make([]search.Filter, 2)}
	loop.Filters[0], loop.Filters[1] = *loop, *loop
	if err := loop.Check(); err == nil || !strings.Contains(err.Error(), "nested deeper than 10") {
		t.Error(err)
	}
}

func TestBadConditionsAreNamed(t *testing.T) {
	for s, want := range map[string]string{
		`metadata.a="x`:         "a value that begins with a quote ends with one",
		`metadata.a="x" y`:      "a value that begins with a quote ends with one",
		`metadata.a="\n"`:       "a value that begins with a quote ends with one",
		`metadata.a in "x" y,z`: "a value that begins with a quote ends with one",
		`metadata.a in b,"c`:    "a value that begins with a quote ends with one",
		`metadata.a`:            "is no condition",
		`metadata.a missing x`:  "is no condition",
		`exists`:                "is no condition",
		`metadata.a!5`:          "is no condition",
	} {
		if c, err := search.ParseCondition(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is read as %+v: %v, want %s", s, c, err, want)
		}
	}
	for s, want := range map[string]search.Condition{
		`metadata."a = b" = "c"`: {Field: `metadata."a = b"`, Op: search.Equal, Value: search.Text("c")},
		`metadata.a b in c`:      {Field: `metadata.a b`, Op: search.In, Value: []any{"c"}},
		`label in "a,b" , c`:     {Field: "label", Op: search.In, Value: []any{search.Text("a,b"), "c"}},
		`label not in a`:         {Field: "label", Op: search.NotIn, Value: []any{"a"}},
		`metadata.a= null `:      {Field: "metadata.a", Op: search.Equal},
		`metadata.a exists`:      {Field: "metadata.a", Op: search.Exists},
		`metadata.exists=1`:      {Field: "metadata.exists", Op: search.Equal, Value: "1"},
		`metadata.a="\\\""`:      {Field: "metadata.a", Op: search.Equal, Value: search.Text(`\"`)},
	} {
		c, err := search.ParseCondition(s)
		again, err2 := search.ParseCondition(c.String())
		if fmt.Sprintf("%#v", c) != fmt.Sprintf("%#v", want) || err != nil || err2 != nil ||
			fmt.Sprintf("%#v", again) != fmt.Sprintf("%#v", want) {
			t.Errorf("%s is read as %#v and, from %s, as %#v: %v %v", s, c, c, again, err, err2)
		}
	}
	if raw, err := json.Marshal([]any{"5", search.Text("5")}); string(raw) != `["5",{"text":"5"}]` {
		t.Errorf("texts are recorded as %s: %v", raw, err)
	}
	for _, names := range [][]string{{"a"}, {"a.b", "c"}, {`"`}, {""}, {"a b", "=", `\`}, {" "}} {
		c, err := search.ParseCondition(search.Key("metadata", names...) + `="x"`)
		if err != nil || c.Check() != nil || c.Field != search.Key("metadata", names...) {
			t.Errorf("%q: %+v: %v %v", names, c, err, c.Check())
		}
	}
}
