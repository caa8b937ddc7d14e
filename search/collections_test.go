package search_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// collect makes a collection of tenant A's documents of fill that meet a condition on kb_sources s, n among it.
func collect(t *testing.T, door *tenantdb.Door, name, condition string) uuid.UUID {
	t.Helper()
	id := uuid.NewSHA1(tenantA, []byte(name))
	if err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO kb_collections (tenant_id, id, name) VALUES ($1, $2, $3)`, tenantA, id,
			name); err != nil {
			return err
		}
		_, err := tx.Exec(ctx,
			`INSERT INTO kb_collection_documents (tenant_id, collection_id, id, document_id, attributes)
		  SELECT s.tenant_id, $2, s.document_id, s.document_id, jsonb_build_object('n', s.given->'n')
		    FROM kb_sources s WHERE s.tenant_id = $1 AND `+condition, tenantA, id)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestCollectionsAreSearchedAlone searches collections of all sizes in every mode, with and without conditions, in a
// tenant with an index and in one without.
func TestCollectionsAreSearchedAlone(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 300)
	number := "(s.given->>'n')::int"
	few, tenth, half, all := collect(t, door, "few", number+" < 5"), collect(t, door, "tenth", number+" % 10 = 3"),
		collect(t, door, "half", number+" % 2 = 0"), collect(t, door, "all", "true")
	empty := collect(t, door, "empty", "false")
	even, err := search.ParseCondition("metadata.half=0")
	if err != nil {
		t.Fatal(err)
	}
	in := indexer(t, d, door)
	for _, state := range []string{"no index", "the tenant's index", "indexes of collections"} {
		indexed := state != "no index"
		switch state {
		case "the tenant's index":
			in.Thresholds.Collection = 1 << 30
		case "indexes of collections":
			in.Thresholds.Collection = 250
		}
		if indexed && !turn(t, in, tenantA) {
			t.Fatalf("%s: nothing was due", state)
		}
		own := search.Exact // of a collection that is too small a part of the tenant for its index
		if state == "indexes of collections" {
			own = search.Indexed
		}
		for _, c := range []struct {
			name        string
			collections []uuid.UUID
			where       []search.Condition
			in          string
			tier        search.Tier // with an index, where up to 200 passages are compared one by one
			passages    int
		}{
			{"few", []uuid.UUID{few}, nil, number + " < 5", search.Exact, 50},
			{"a tenth", []uuid.UUID{tenth}, nil, number + " % 10 = 3", own, 300},
			{"half", []uuid.UUID{half}, nil, number + " % 2 = 0", search.Indexed, 1500},
			{"all", []uuid.UUID{all}, nil, "true", search.Indexed, 3000},
			{"two", []uuid.UUID{few, tenth}, nil, "(" + number + " < 5 OR " + number + " % 10 = 3)",
				search.Exact, 340},
			{"twice the same", []uuid.UUID{few, few}, nil, number + " < 5", search.Exact, 50},
			{"one in another", []uuid.UUID{few, all}, nil, "true", search.Indexed, 3000},
			{"half of few", []uuid.UUID{few}, []search.Condition{even}, number + " IN (0, 2, 4)", search.Exact, 30},
			{"none of a tenth", []uuid.UUID{tenth}, []search.Condition{even}, "false", search.Exact, 0},
			{"half of all", []uuid.UUID{all}, []search.Condition{even}, number + " % 2 = 0", search.Indexed, 1500},
			{"empty", []uuid.UUID{empty}, nil, "false", search.Exact, 0},
		} {
			found, wanted := 0, 0
			meet := map[uuid.UUID]bool{}
			for _, id := range nearest(t, door, tenantA, near(1, 1, 1), 1<<30, c.in) {
				meet[id] = true
			}
			if len(meet) != c.passages {
				t.Fatalf("%s has %d passages: the test wants %d", c.name, len(meet), c.passages)
			}
			for n := range uint64(10) {
				v := near(1, n, 0.3)
				truth := nearest(t, door, tenantA, v, 10, c.in)
				for _, mode := range []search.Mode{search.Semantic, search.Lexical, search.Hybrid} {
					f, err := try(t.Context(), door, search.NewSearcher().Few(200), tenantA, search.Query{Mode: mode,
						Text: "pumps", Vector: v, K: 10, Collections: c.collections, Where: c.where, Duplicates: true})
					if err != nil {
						t.Fatalf("%s, %s: %v", c.name, mode, err)
					}
					if len(f.Hits) != min(10, c.passages) {
						t.Errorf("%s, %s: %d hits of %d passages, by %s (%s)", c.name, mode, len(f.Hits), c.passages,
							f.Plan.Tier, f.Plan.Reason)
					}
					for _, id := range ids(f.Hits) {
						if !meet[id] {
							t.Fatalf("%s, %s: a passage of another document was found", c.name, mode)
						}
					}
					if mode == search.Lexical {
						continue
					}
					if want := map[bool]search.Tier{false: search.Exact, true: c.tier}[indexed]; f.Plan.Tier != want {
						t.Errorf("%s: %s, %s: by %s, %s", state, c.name, mode, f.Plan.Tier, f.Plan.Reason)
					}
					if mode == search.Semantic {
						found, wanted = found+common(ids(f.Hits), truth), wanted+len(truth)
					}
				}
			}
			if float64(found) < 0.99*float64(wanted) {
				t.Errorf("%s: %s: recall %.3f", state, c.name, float64(found)/float64(wanted))
			}
		}
	}
}

// TestPagesOfACollection reads all pages of a search of a collection: each passage is there once.
func TestPagesOfACollection(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 100)
	turn(t, indexer(t, d, door), tenantA)
	some := collect(t, door, "some", "(s.given->>'n')::int < 50")
	question := near(1, 3, 0.3)
	for _, mode := range []search.Mode{search.Semantic, search.Lexical} {
		seen, after := map[uuid.UUID]bool{}, ""
		for page := 0; page < 20; page++ {
			q := search.Query{Mode: mode, Text: "pumps", Vector: question, K: 50, After: after,
				Collections: []uuid.UUID{some}, Duplicates: true}
			f := ask(t, door, tenantA, q)
			for _, id := range ids(f.Hits) {
				if seen[id] {
					t.Fatalf("%s: a passage on two pages", mode)
				}
				seen[id] = true
			}
			if page == 0 {
				other := q
				other.After, other.Collections = f.Next, nil
				if _, err := try(t.Context(), door, search.NewSearcher(), tenantA, other); err == nil {
					t.Errorf("%s: a page of a collection goes on in all documents", mode)
				}
			}
			if after = f.Next; after == "" {
				break
			}
		}
		if len(seen) != 500 {
			t.Errorf("%s: %d of 500 passages on all pages", mode, len(seen))
		}
	}
}

// TestACollectionIsExplained looks at what explain says of small and large ones.
func TestACollectionIsExplained(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 100)
	turn(t, indexer(t, d, door), tenantA)
	few, most := collect(t, door, "few", "(s.given->>'n')::int < 5"), collect(t, door, "most",
		"(s.given->>'n')::int > 5")
	for name, c := range map[string]struct {
		of      uuid.UUID
		explain string
	}{"few": {few, "exact 50 the collections hold 50 passages"},
		"most": {most, "hnsw 940 the tenant has an index of its own"}} {
		if err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
			e, err := search.NewSearcher().Few(200).Explain(ctx, tx, tenantA, search.Query{Mode: search.Semantic,
				Vector: near(1, 3, 0.3), K: 10, Collections: []uuid.UUID{c.of}})
			if got := fmt.Sprint(e.Tier, " ", e.Matching, " ", e.Reason); err == nil && got != c.explain {
				t.Errorf("%s: %q, not %q", name, got, c.explain)
			}
			if !strings.Contains(strings.Join(e.Explain, "\n"), "kb_collection_documents") && name == "most" {
				t.Error("the database's plan does not read the collection")
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCollectionsOfOthersFindNothing searches another tenant's collection, without a tenant and with labels that hide.
func TestCollectionsOfOthersFindNothing(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 10)
	fill(t, door, tenantB, 0, 10)
	mine := collect(t, door, "mine", "true")
	q := search.Query{Mode: search.Hybrid, Text: "pumps", Vector: near(1, 3, 0.3), K: 10,
		Collections: []uuid.UUID{mine}}
	if f := ask(t, door, tenantB, q); len(f.Hits) > 0 {
		t.Errorf("another tenant found %d passages by a collection that is not its own", len(f.Hits))
	}
	if _, err := try(t.Context(), door, search.NewSearcher(), uuid.Nil, q); err == nil {
		t.Error("a search without a tenant")
	}
	if err := door.Query(t.Context(), tenantA, `UPDATE kb_collections SET labels = '{legal}' WHERE tenant_id = $1`,
		[]any{tenantA}, nil); err != nil {
		t.Fatal(err)
	}
	for labels, want := range map[string]int{"": 0, "hr": 0, "legal": 10} {
		ctx := tenantdb.WithLabels(t.Context(), tenantdb.LabelsOf(strings.Fields(labels)...))
		f, err := try(ctx, door, search.NewSearcher(), tenantA, q)
		if err != nil || len(f.Hits) != want {
			t.Errorf("with %q: %d hits, %v", labels, len(f.Hits), err)
		}
	}
	if diff := cmp.Diff(10, len(ask(t, door, tenantA, q).Hits)); diff != "" {
		t.Error(diff)
	}
}

// TestAttributesAreOfACollection filters by what documents have in the collections that are searched.
func TestAttributesAreOfACollection(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 100)
	turn(t, indexer(t, d, door), tenantA)
	few, most := collect(t, door, "few", "(s.given->>'n')::int < 5"), collect(t, door, "most",
		"(s.given->>'n')::int > 5")
	if err := door.Query(t.Context(), tenantA, `UPDATE kb_collection_documents SET attributes = '{"n": -1, "a.b": "x"}'
	    WHERE tenant_id = $1 AND collection_id = $2`, []any{tenantA, few}, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		collections []uuid.UUID
		where       string
		found       int
	}{
		"in one":           {[]uuid.UUID{few}, "attributes.n=-1", 50},
		"in the other":     {[]uuid.UUID{most}, "attributes.n=-1", 0},
		"of the other":     {[]uuid.UUID{most}, "attributes.n<10", 40},
		"in both":          {[]uuid.UUID{few, most}, "attributes.n<10", 90},
		"a key with a dot": {[]uuid.UUID{few, most}, `attributes."a.b"=x`, 50},
		"missing":          {[]uuid.UUID{few, most}, `attributes."a.b" missing`, 940},
	} {
		where, err := search.ParseCondition(c.where)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []search.Mode{search.Semantic, search.Lexical, search.Hybrid} {
			f, err := try(t.Context(), door, search.NewSearcher().Few(200), tenantA, search.Query{Mode: mode,
				Text:   "pumps",
				Vector: near(1, 3, 0.3), K: 100, Collections: c.collections, Where: []search.Condition{where},
				Duplicates: true})
			if err != nil || len(f.Hits) != min(100, c.found) {
				t.Errorf("%s, %s: %d of %d passages, %v", name, mode, len(f.Hits), c.found, err)
			}
			_, err = try(t.Context(), door, search.NewSearcher(), tenantA, search.Query{Mode: mode, Text: "pumps",
				Vector: near(1, 3, 0.3), K: 1, Where: []search.Condition{where}})
			var bad *search.QueryError
			if !errors.As(err, &bad) || bad.Field != "where" {
				t.Errorf("%s, %s, without a collection: %v", name, mode, err)
			}
		}
	}
}
