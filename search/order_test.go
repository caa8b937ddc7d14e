package search_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

// crowd stores 130 documents that differ in a number alone, and 120 others that share some of their words.
func crowd(t *testing.T) (search.Query, func(search.Query) search.Result) {
	t.Helper()
	door := testkit.Door(t)
	texts := map[string]string{}
	for i := range 130 {
		texts[fmt.Sprintf("u%03d", i)] = fmt.Sprintf("The pump number %d is returned within thirty days alpha.", i)
	}
	for i := range 120 {
		texts[fmt.Sprintf("d%03d", i)] = fmt.Sprintf("Label %d of the returned pump, %s, has the event of tenant beta.",
			i, []string{"thirty", "alpha", "valve", "seal"}[i%4])
	}
	say(t, door, tenantA, "english", texts)
	q := search.Query{Mode: search.Hybrid, Text: "pump returned alpha thirty number label", Vector: near(2, 200, 0),
		K: 7}
	return q, func(q search.Query) search.Result { return ask(t, door, tenantA, q) }
}

// TestOneOrderWhateverIsWanted asks for few and for many, by pages of several sizes: each answer is the beginning, or
// the next part, of one order.
func TestOneOrderWhateverIsWanted(t *testing.T) {
	q, ask := crowd(t)
	conditions := []search.Condition{{Field: "filename", Op: search.Prefix, Value: "u"}}
	for name, c := range map[string]struct {
		change func(*search.Query)
		all    int
	}{
		"all":               {func(*search.Query) {}, 250},
		"each":              {func(q *search.Query) { q.Duplicates = true }, 250},
		"conditions":        {func(q *search.Query) { q.Where = conditions }, 130},
		"a question":        {func(q *search.Query) { q.Text = `is the "pump returned" within thirty days?` }, 250},
		"words":             {func(q *search.Query) { q.Mode = search.Lexical }, 250},
		"meaning":           {func(q *search.Query) { q.Mode = search.Semantic }, 250},
		"one of a document": {func(q *search.Query) { q.PerDocument = true }, 250},
	} {
		q := q
		c.change(&q)
		pages := func(k int) (all []uuid.UUID) {
			q := q
			q.K = k
			for {
				f := ask(q)
				all = append(all, ids(f.Hits)...)
				if q.After = f.Next; f.Next == "" {
					return all
				}
			}
		}
		want := pages(100)
		if len(want) != c.all {
			t.Errorf("%s: %d hits in pages of a hundred, of %d", name, len(want), c.all)
		}
		if d := cmp.Diff(want, pages(7)); d != "" {
			t.Errorf("%s, in pages of seven:\n%s", name, d)
		}
		for _, k := range []int{1, 5, 50, 99} {
			q := q
			q.K = k
			if d := cmp.Diff(want[:k], ids(ask(q).Hits)); d != "" {
				t.Errorf("%s, %d:\n%s", name, k, d)
			}
		}
	}
}

// TestAnExplanationAddsUp compares each hit's score with what its explanation says it is made of.
func TestAnExplanationAddsUp(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 40)
	for _, q := range []search.Query{
		{Mode: search.Hybrid, Text: "doc3 passage4 pumps warranti", Vector: near(1, 5, 0), K: 50},
		{Mode: search.Lexical, Text: "doc3 passage4 pumps pump*", K: 50},
		{Mode: search.Hybrid, Text: "doc3 passage4", Vector: near(1, 5, 0), K: 50,
			Where: []search.Condition{{Field: "filename", Op: search.Prefix, Value: "doc"}}}} {
		var e search.Explanation
		if err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) (err error) {
			e, err = search.NewSearcher().Explain(ctx, tx, tenantA, q)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		found, worded := ask(t, door, tenantA, q).Hits, 0
		if len(found) == 0 || len(e.Ranking) != len(found) {
			t.Fatalf("%d are explained of %d", len(e.Ranking), len(found))
		}
		for i, h := range e.Ranking {
			sum := 0.0
			for _, w := range h.Words {
				sum += w.Score
			}
			if h.LexicalScore != nil {
				worded++
				sum -= *h.LexicalScore
			}
			if math.Abs(sum) > 1e-9 || h.Score != found[i].Score || h.ChunkID != found[i].ChunkID {
				t.Errorf("%s %q: hit %d is explained as %+v, and found as %v", q.Mode, q.Text, i, h, found[i].Score)
			}
		}
		if worded == 0 {
			t.Errorf("%s %q: no hit has a word", q.Mode, q.Text)
		}
	}
}

// TestEqualPassagesAreNamedWhereverTheyRank stores one text with vectors that are far apart.
func TestEqualPassagesAreNamedWhereverTheyRank(t *testing.T) {
	door := testkit.Door(t)
	texts := map[string]string{}
	for i := range 40 {
		texts[fmt.Sprintf("d%02d", i)] = fmt.Sprintf("Passage %d is about a valve.", i)
	}
	for _, i := range []int{0, 13, 27, 39} {
		texts[fmt.Sprintf("d%02d", i)] = "The same text of a pump."
	}
	say(t, door, tenantA, "english", texts)
	say(t, door, tenantB, "english", map[string]string{"b": "The same text of a pump."})
	conditions := []search.Condition{{Field: "filename", Op: search.Unequal, Value: "d27"}}
	for _, q := range []search.Query{{Mode: search.Semantic, Vector: near(2, 1, 0), K: 3},
		{Mode: search.Hybrid, Text: "valve", Vector: near(2, 1, 0), K: 3},
		{Mode: search.Hybrid, Text: "pump", Vector: near(2, 14, 0), K: 3, Where: conditions},
		{Mode: search.Lexical, Text: "pump", K: 3}} {
		var named []string
		places := 0
		for {
			f := ask(t, door, tenantA, q)
			for _, h := range f.Hits {
				if h.Content == "The same text of a pump." {
					places++
					named = append(named, h.Filename)
					for _, a := range h.Also {
						named = append(named, a.Filename)
					}
				}
			}
			if q.After = f.Next; f.Next == "" {
				break
			}
		}
		slices.Sort(named)
		want := []string{"d00", "d13", "d27", "d39"}
		if q.Where != nil {
			want = []string{"d00", "d13", "d39"}
		}
		if !slices.Equal(named, want) || places != 1 {
			t.Errorf("%s %q: %d places, of %q", q.Mode, q.Text, places, named)
		}
	}
}

// TestFrequenciesAreOfWhatIsSearched asks within conditions for a word that all their documents have.
func TestFrequenciesAreOfWhatIsSearched(t *testing.T) {
	q, ask := crowd(t)
	q.Mode, q.Text, q.Where = search.Lexical, "number alpha", []search.Condition{{Field: "filename", Op: search.Prefix,
		Value: "u"}}
	for _, h := range ask(q).Hits {
		if h.Score > 0.1 {
			t.Errorf("%s scores %v by words that all have", h.Filename, h.Score)
		}
	}
}
