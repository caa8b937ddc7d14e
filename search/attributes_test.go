package search_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
)

// TestEntriesMeetAttributeFilters searches a collection of five documents, whose attributes have every type, with each
// comparison; as an exact search and as one that looks the best candidates' documents up.
func TestEntriesMeetAttributeFilters(t *testing.T) {
	door := testkit.Door(t)
	fill(t, door, tenantA, 0, 6)
	var collection kb.Collection
	number := map[uuid.UUID]string{}
	err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) (err error) {
		name := "all"
		collection, err = kb.CreateCollection(ctx, tx, tenantA, kb.CollectionOptions{Name: &name}, true)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT id FROM kb_documents ORDER BY filename LIMIT 5`)
		if err != nil {
			return err
		}
		documents, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		for i, attributes := range []map[string]any{{"n": 1, "s": "a", "b": true}, {"n": 2.5, "s": "B", "b": false},
			{"n": "2.5", "s": "c"}, {"n": -1e3}, {"it's \"odd\"": `'; DROP TABLE kb_chunks; --`}} {
			if err == nil {
				number[documents[i]] = fmt.Sprint(i)
				_, err = kb.Collect(ctx, tx, tenantA, collection.ID, documents[i], attributes)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]string{
		`{"type":"eq","key":"n","value":1.0}`: "0", `{"type":"eq","key":"n","value":"2.5"}`: "2",
		`{"type":"ne","key":"n","value":2.5}`: "0234", `{"type":"gt","key":"n","value":0}`: "01",
		`{"type":"gte","key":"n","value":2.5}`: "1", `{"type":"lt","key":"n","value":1}`: "3",
		`{"type":"lte","key":"n","value":1}`: "03", `{"type":"gt","key":"s","value":"B"}`: "02",
		`{"type":"lte","key":"s","value":"a"}`: "01", `{"type":"eq","key":"b","value":true}`: "0",
		`{"type":"in","key":"n","value":[1,"2.5"]}`: "02", `{"type":"nin","key":"s","value":["a","c"]}`: "134",
		`{"type":"eq","key":"it's \"odd\"","value":"'; DROP TABLE kb_chunks; --"}`: "4",
		`{"type":"eq","key":"none","value":1}`:                                     "",
		`{"type":"and","filters":[{"type":"gte","key":"n","value":1},{"type":"or","filters":[
			{"type":"eq","key":"s","value":"a"},{"type":"eq","key":"b","value":true}]}]}`: "0",
	} {
		f, err := search.ParseAttributeFilter([]byte(filter))
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		for _, mode := range []search.Mode{search.Semantic, search.Hybrid} {
			q := search.Query{Mode: mode, Text: "pumps", Vector: near(1, 1, 0), K: 100, Filter: f,
				Collections: []uuid.UUID{collection.ID}, Duplicates: true, PerDocument: true}
			var got []string
			for _, h := range ask(t, door, tenantA, q).Hits {
				got = append(got, number[h.DocumentID])
			}
			if slices.Sort(got); strings.Join(got, "") != want {
				t.Errorf("%s %s finds %v, want %s", mode, filter, got, want)
			}
		}
	}
	q := search.Query{Mode: search.Semantic, Text: "pumps", Vector: near(1, 1, 0), K: 5,
		Filter: &search.Filter{Type: "eq", Key: "attributes.n", Value: 1}}
	if _, err := try(t.Context(), door, search.NewSearcher(), tenantA, q); err == nil ||
		!strings.Contains(err.Error(), "attributes are a document's in a collection") {
		t.Errorf("without a collection: %v", err)
	}
}

// TestBadAttributeFiltersAreNamed: each error names the place in the filter.
func TestBadAttributeFiltersAreNamed(t *testing.T) {
	for filter, want := range map[string]string{
		``: "filters: ", `null x`: "filters: ", `[]`: "filters", `{}`: "filters.type: ",
		`{"type":"like"}`:                                "filters.type: ",
		`{"type":"eq","value":1}`:                        "filters.key: ",
		`{"type":"eq","key":"k","value":{"a":1}}`:        "filters.value: ",
		`{"type":"in","key":"k","value":[]}`:             "filters.value: ",
		`{"type":"in","key":"k","value":[[1]]}`:          "filters.value: ",
		`{"type":"eq","key":"k","value":1,"type":"ne"}`:  "filters: ",
		`{"type":"eq","key":"k","value":1,"more":2}`:     "more",
		`{"type":"eq","key":"k","value":"\\u0000"}`:      "",
		`{"type":"and","filters":[]}`:                    "filters.filters: 0 filters",
		`{"type":"and","filters":[{"type":"x"}]}`:        "filters.filters[0].type: ",
		`{"type":"or","key":"k","filters":[{}]}`:         "or joins filters",
		`{"type":"eq","key":"k","value":1,"filters":[]}`: "filters.filters: eq compares",
		strings.Repeat(`{"type":"and","filters":[`, 11) + `{"type":"eq","key":"k","value":1}` +
			strings.Repeat(`]}`, 11): "nested deeper than 10",
		`{"type":"eq","key":"k","value":"` + strings.Repeat("x", 64<<10) + `"}`: "filters",
	} {
		_, err := search.ParseAttributeFilter([]byte(filter))
		if want == "" && err == nil {
			continue // a backslash is text
		}
		var query *search.QueryError
		if !errors.As(err, &query) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s: %v, want %s", filter, err, want)
		}
	}
}
