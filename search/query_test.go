package search_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

func TestBadQueriesAreNamed(t *testing.T) {
	door := testkit.Door(t)
	fill(t, door, tenantA, 0, 2)
	bad := func(change func(*search.Query)) search.Query {
		q := search.Query{Mode: search.Hybrid, Text: "pumps", Vector: near(1, 1, 0), K: 5}
		change(&q)
		return q
	}
	vector := func(f func([]float32) []float32) search.Query {
		return bad(func(q *search.Query) { q.Vector = f(slices.Clone(q.Vector)) })
	}
	where := func(c search.Condition) search.Query {
		return bad(func(q *search.Query) { q.Where = []search.Condition{c} })
	}
	nan := math.NaN()
	for name, c := range map[string]struct {
		q     search.Query
		wants string
	}{
		"NaN": {vector(func(v []float32) []float32 { v[3] = float32(nan); return v }), "number 3 is NaN"},
		"infinity": {vector(func(v []float32) []float32 {
			v[3] = float32(math.Inf(1))
			return v
		}), "number 3 is +Inf"},
		"zero":      {vector(func(v []float32) []float32 { return make([]float32, 384) }), "its length is zero"},
		"too short": {vector(func(v []float32) []float32 { return v[:383] }), "383 dimensions, not 384"},
		"none":      {vector(func(v []float32) []float32 { return nil }), "0 dimensions"},
		"empty":     {bad(func(q *search.Query) { q.Text = " \t" }), "text: it is empty"},
		"1 MB": {bad(func(q *search.Query) {
			q.Text = strings.Repeat("x", 1<<20)
		}), "text: it is 1048576 bytes long"},
		"zero byte":    {bad(func(q *search.Query) { q.Text = "a\x00b" }), "zero byte"},
		"k 0":          {bad(func(q *search.Query) { q.K = 0 }), "top-k: 0: it is 1 to 100"},
		"k negative":   {bad(func(q *search.Query) { q.K = -1 }), "top-k: -1"},
		"k a million":  {bad(func(q *search.Query) { q.K = 1_000_000 }), "top-k: 1000000"},
		"mode":         {bad(func(q *search.Query) { q.Mode = "magic" }), "mode:"},
		"diversity":    {bad(func(q *search.Query) { q.Diversity = nan }), "diversity:"},
		"min score":    {bad(func(q *search.Query) { q.MinScore = &nan }), "min-score:"},
		"neighbours":   {bad(func(q *search.Query) { q.Neighbours = 11 }), "neighbours:"},
		"within":       {bad(func(q *search.Query) { q.Within = -1 }), "within:"},
		"after":        {bad(func(q *search.Query) { q.After = "x" }), "after:"},
		"after forged": {bad(func(q *search.Query) { q.After = "N2ZmODAwMDAwMDAwMDAwMS4x" }), "after:"},
		"field": {where(search.Condition{Field: "colour", Op: search.Equal, Value: "red"}),
			`"colour": there is no such field`},
		"injection": {where(search.Condition{Field: "d.id) OR (true", Op: search.Equal, Value: "red"}),
			`there is no such field`},
		"comparison": {where(search.Condition{Field: "filename", Op: "LIKE", Value: "red"}), "no comparison"},
		"type uuid": {where(search.Condition{Field: "document", Op: search.Equal, Value: "red"}),
			`"document": "red" is not a UUID`},
		"type number": {where(search.Condition{Field: "version", Op: search.Equal, Value: "red"}),
			`"red" is no number`},
		"type time": {where(search.Condition{Field: "ingested", Op: search.More, Value: true}), "is no time"},
		"type text": {where(search.Condition{Field: "title", Op: search.Equal, Value: 3.5}), "is no text"},
		"type object": {where(search.Condition{Field: "title", Op: search.Equal, Value: map[string]any{}}),
			"neither text"},
		"list": {where(search.Condition{Field: "title", Op: search.In, Value: "x"}), "wants a list"},
		"key":  {where(search.Condition{Field: "metadata.", Op: search.Equal, Value: "x"}), "the key has 1"},
		"many": {bad(func(q *search.Query) {
			q.Where = make([]search.Condition, 101)
		}), "where: 101 conditions"},
	} {
		_, err := try(t.Context(), door, search.NewSearcher(), tenantA, c.q)
		if err == nil || !strings.Contains(err.Error(), c.wants) {
			t.Errorf("%s: %v, want %q", name, err, c.wants)
		}
	}
	for _, s := range []string{"", "x", "=x", "metadata.a", "a b c"} {
		if c, err := search.ParseCondition(s); err == nil {
			t.Errorf("%q is read as %+v", s, c)
		}
	}
	// What could steer SQL is a value like any other.
	for _, value := range []string{`'; DROP TABLE kb_chunks; --`, `" OR "1"="1`, "\\", "%"} {
		key := search.Key("metadata", value)
		f := ask(t, door, tenantA, where(search.Condition{Field: key, Op: search.Equal, Value: value}))
		if len(f.Hits) != 0 {
			t.Errorf("%q finds %d", value, len(f.Hits))
		}
	}
}

func TestASlowSearchGivesUp(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 2)
	holder := testkit.Connect(t, d.URL("konstruct_owner"))
	if _, err := holder.Exec(t.Context(), `BEGIN; LOCK TABLE kb_points`); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := try(t.Context(), door, search.NewSearcher(), tenantA,
		search.Query{Mode: search.Semantic, Vector: near(1, 1, 0), K: 5, Within: 50 * time.Millisecond})
	if !errors.Is(err, search.ErrSlow) {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}
