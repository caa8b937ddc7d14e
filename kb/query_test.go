package kb_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

func TestBadQueriesAreNamed(t *testing.T) {
	door := testkit.Door(t)
	fill(t, door, tenantA, 0, 2)
	bad := func(change func(*kb.Query)) kb.Query {
		q := kb.Query{Mode: kb.Hybrid, Text: "pumps", Vector: near(1, 1, 0), K: 5}
		change(&q)
		return q
	}
	vector := func(f func([]float32) []float32) kb.Query {
		return bad(func(q *kb.Query) { q.Vector = f(slices.Clone(q.Vector)) })
	}
	where := func(c kb.Condition) kb.Query { return bad(func(q *kb.Query) { q.Where = []kb.Condition{c} }) }
	nan := math.NaN()
	for name, c := range map[string]struct {
		q     kb.Query
		wants string
	}{
		"NaN":          {vector(func(v []float32) []float32 { v[3] = float32(nan); return v }), "number 3 is NaN"},
		"infinity":     {vector(func(v []float32) []float32 { v[3] = float32(math.Inf(1)); return v }), "number 3 is +Inf"},
		"zero":         {vector(func(v []float32) []float32 { return make([]float32, 384) }), "its length is zero"},
		"too short":    {vector(func(v []float32) []float32 { return v[:383] }), "383 dimensions, not 384"},
		"none":         {vector(func(v []float32) []float32 { return nil }), "0 dimensions"},
		"empty":        {bad(func(q *kb.Query) { q.Text = " \t" }), "text: it is empty"},
		"1 MB":         {bad(func(q *kb.Query) { q.Text = strings.Repeat("x", 1<<20) }), "text: it is 1048576 bytes long"},
		"zero byte":    {bad(func(q *kb.Query) { q.Text = "a\x00b" }), "zero byte"},
		"k 0":          {bad(func(q *kb.Query) { q.K = 0 }), "top-k: 0: it is 1 to 100"},
		"k negative":   {bad(func(q *kb.Query) { q.K = -1 }), "top-k: -1"},
		"k a million":  {bad(func(q *kb.Query) { q.K = 1_000_000 }), "top-k: 1000000"},
		"mode":         {bad(func(q *kb.Query) { q.Mode = "magic" }), "mode:"},
		"variety":      {bad(func(q *kb.Query) { q.Diversity = nan }), "variety:"},
		"min score":    {bad(func(q *kb.Query) { q.MinScore = &nan }), "min-score:"},
		"neighbours":   {bad(func(q *kb.Query) { q.Neighbours = 11 }), "neighbours:"},
		"within":       {bad(func(q *kb.Query) { q.Within = -1 }), "within:"},
		"after":        {bad(func(q *kb.Query) { q.After = "x" }), "after:"},
		"after forged": {bad(func(q *kb.Query) { q.After = "N2ZmODAwMDAwMDAwMDAwMS4x" }), "after:"},
		"field":        {where(kb.Condition{Field: "colour", Op: kb.Equal, Value: "red"}), `"colour": there is no such field`},
		"injection":    {where(kb.Condition{Field: "d.id) OR (true", Op: kb.Equal, Value: "red"}), `there is no such field`},
		"comparison":   {where(kb.Condition{Field: "filename", Op: "LIKE", Value: "red"}), "no comparison"},
		"type uuid":    {where(kb.Condition{Field: "document", Op: kb.Equal, Value: "red"}), `"document": invalid UUID`},
		"type number":  {where(kb.Condition{Field: "version", Op: kb.Equal, Value: "red"}), `"red" is no number`},
		"type time":    {where(kb.Condition{Field: "ingested", Op: kb.More, Value: true}), "is no time"},
		"type text":    {where(kb.Condition{Field: "title", Op: kb.Equal, Value: 3.5}), "is no text"},
		"type object":  {where(kb.Condition{Field: "title", Op: kb.Equal, Value: map[string]any{}}), "neither text"},
		"list":         {where(kb.Condition{Field: "title", Op: kb.In, Value: "x"}), "wants a list"},
		"key":          {where(kb.Condition{Field: "metadata.", Op: kb.Equal, Value: "x"}), "the key has 1"},
		"many":         {bad(func(q *kb.Query) { q.Where = make([]kb.Condition, 101) }), "where: 101 conditions"},
	} {
		_, err := try(t.Context(), door, kb.NewSearcher(), tenantA, c.q)
		if err == nil || !strings.Contains(err.Error(), c.wants) {
			t.Errorf("%s: %v, want %q", name, err, c.wants)
		}
	}
	for _, s := range []string{"", "x", "=x", "metadata.a", "a b c"} {
		if c, err := kb.ParseCondition(s); err == nil {
			t.Errorf("%q is read as %+v", s, c)
		}
	}
	// What could steer SQL is a value like any other.
	for _, value := range []string{`'; DROP TABLE kb_chunks; --`, `" OR "1"="1`, "\\", "%"} {
		f := ask(t, door, tenantA, where(kb.Condition{Field: "metadata." + value, Op: kb.Equal, Value: value}))
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
	_, err := try(t.Context(), door, kb.NewSearcher(), tenantA, kb.Query{Mode: kb.Semantic, Vector: near(1, 1, 0), K: 5, Within: 50 * time.Millisecond})
	if !errors.Is(err, kb.ErrSlow) {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}
