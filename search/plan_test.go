package search

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestASearchIsPlanned(t *testing.T) {
	small, large := &tenantState{chunks: 3000, efSearch: 100, index: "i"}, &tenantState{chunks: 400_000, efSearch: 160,
		index: "i", indexed: true}
	for name, c := range map[string]struct {
		st              *tenantState
		mode            Mode
		depth, matching int
		tier            Tier
		ef              int
	}{
		"small":                        {small, Semantic, 16, -1, Exact, 0},
		"small, conditions":            {small, Hybrid, 500, -1, Exact, 0},
		"large":                        {large, Semantic, 16, -1, Indexed, 160},
		"large, many candidates":       {large, Semantic, 500, -1, Indexed, 500},
		"large, too many candidates":   {large, Semantic, 2000, -1, Indexed, 1000},
		"large, few meet":              {large, Semantic, 16, 5000, Exact, 0},
		"large, none meets":            {large, Semantic, 16, 0, Exact, 0},
		"large, too few for its index": {large, Hybrid, 500, 99_999, Exact, 0},
		"large, many meet":             {large, Hybrid, 100, 100_000, Indexed, 1000},
		"large, many meet and wanted":  {large, Hybrid, 700, 200_000, Indexed, 1000},
		"by words":                     {large, Lexical, 16, -1, "", 0},
	} {
		p := c.st.decide(&Query{Mode: c.mode}, c.depth, c.matching, exactBelow)
		if p.Tier != c.tier || p.EfSearch != c.ef || (p.Index != "") != (c.tier == Indexed) || p.Reason == "" ||
			p.Depth != c.depth {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestAnIndexIsDue(t *testing.T) {
	th := DefaultThresholds
	for name, c := range map[string]struct {
		x    indexState
		want indexAction
	}{
		"nothing":           {indexState{}, leave},
		"just too few":      {indexState{chunks: 3999}, leave},
		"enough":            {indexState{chunks: 4000}, build},
		"enough, and there": {indexState{chunks: 4000, there: true, complete: true}, leave},
		// hysteresis: neither made nor dropped
		"fewer, and there":        {indexState{chunks: 2000, there: true, complete: true}, leave},
		"fewer, and not there":    {indexState{chunks: 3000}, leave},
		"too few":                 {indexState{chunks: 1999, there: true, complete: true}, drop},
		"half made":               {indexState{chunks: 5000, there: true}, build},
		"half made, and too few":  {indexState{chunks: 100, there: true}, drop},
		"many already":            {indexState{chunks: 5000, all: 250}, leave},
		"many already, and large": {indexState{chunks: 20_000, all: 250}, build},
		"another model's, which not": {indexState{chunks: 5000, there: true, complete: true, stale: []string{"x"}},
			drop},
	} {
		if got := th.action(c.x); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestAQuestionsMarksAreRead(t *testing.T) {
	for text, want := range map[string]lexicalQuery{
		`pump rotor`:             {ranked: "pump rotor"},
		`"boundary layer" wing`:  {ranked: "boundary layer wing", phrases: []string{"boundary layer"}},
		`pump -rotor -"a phrase`: {ranked: "pump a phrase", never: []string{"rotor"}},
		`pump -"warm water"`:     {ranked: "pump", never: []string{"warm water"}},
		`Rin* x*`:                {ranked: "x*", prefixes: []string{"rin"}},
		`a - b`:                  {ranked: "a - b"},
		`""`:                     {},
		`-`:                      {ranked: "-"},
	} {
		want.strict = true
		if d := cmp.Diff(want, parseQuery(text), cmp.AllowUnexported(lexicalQuery{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
}

func TestMistakesAreCounted(t *testing.T) {
	for _, c := range []struct {
		a, b             string
		whole, beginning int
	}{{"rotor", "rotor", 0, 0}, {"rotro", "rotor", 1, 1}, {"roter", "rotor", 1, 1}, {"rotr", "rotor", 1, 1},
		{"rottor", "rotor", 1, 1}, {"boundry", "boundary", 1, 1},
		{"bundray", "boundary", 2, 2}, {"pump", "valve", 3, 3},
		{"größe", "grösse", 2, 2}, {"", "ab", 2, 3}, {"abcdef", "ab", 3, 0}, {"vactaion", "vacat", 3, 1},
		{"submersibel", "submers", 3, 0}, {"pumps", "pumpers", 2, 2}, {"pump", "pumpers", 3, 3}} {
		if whole, beginning := editDistance([]rune(c.a), []rune(c.b), 2); whole != c.whole || beginning != c.beginning {
			t.Errorf("%s and %s are %d apart, its beginning %d, want %d and %d", c.a, c.b, whole, beginning, c.whole,
				c.beginning)
		}
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{`a "b c" -d e* -"f g"`, `"`, `-"`, "*", "-*", "\x00", "é* ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w := parseQuery(s)
		if len(w.ranked) > len(s) || len(w.prefixes) > maxPrefixes {
			t.Errorf("%q is read as %+v", s, w)
		}
		for _, p := range w.prefixes {
			if textAfter(p) <= p {
				t.Errorf("%q comes after %q", textAfter(p), p)
			}
		}
		_, _ = PlainText(s, true), PlainText(s, false)
	})
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{"metadata.a=1", "label in a,b", "version>=2", "source^=x", "!=", " in ", "a b in c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCondition(s)
		if err != nil {
			return
		}
		var args []any
		q := Query{Where: []Condition{c}}
		sql, err := q.conditions(func(v any) string { args = append(args, v); return "$1" })
		if err == nil && (len(sql) != 1 || len(args) == 0) {
			t.Errorf("%q gives %q with %d arguments", s, sql, len(args))
		}
	})
}

func FuzzCursor(f *testing.F) {
	read := func(after string) (*cursor, error) { return (&Query{Text: "a", After: after}).cursor() }
	f.Add((&cursor{0.5, uuid.UUID{1}, 3, (&Query{Text: "a"}).fingerprint()}).String())
	f.Add("x")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := read(s); err == nil && c != nil {
			if again, err := read(c.String()); err != nil || *again != *c {
				t.Errorf("%q is read as %+v and then as %+v: %v", s, c, again, err)
			}
		}
	})
}

// TestAPlaceIsOfItsQuery changes one part of a query after the other.
func TestAPlaceIsOfItsQuery(t *testing.T) {
	q := Query{Mode: Hybrid, Text: "a", K: 5, Where: []Condition{{"title", Equal, "x"}}, Vector: []float32{1, 2}}
	q.After = (&cursor{0.5, uuid.UUID{1}, 3, q.fingerprint()}).String()
	least := 0.1
	for name, c := range map[string]struct {
		same   bool
		change func(*Query)
	}{
		"nothing":        {true, func(*Query) {}},
		"how many":       {true, func(q *Query) { q.K, q.Neighbours, q.MinScore = 7, 1, &least }},
		"text's vector":  {true, func(q *Query) { q.Vector = []float32{1, 2.001} }},
		"text":           {false, func(q *Query) { q.Text = "b" }},
		"mode":           {false, func(q *Query) { q.Mode = Semantic }},
		"operators":      {false, func(q *Query) { q.Operators = true }},
		"natural":        {false, func(q *Query) { q.Natural = true }},
		"model":          {false, func(q *Query) { q.Model = "m" }},
		"conditions":     {false, func(q *Query) { q.Where = nil }},
		"a condition":    {false, func(q *Query) { q.Where = []Condition{{"title", Equal, "y"}} }},
		"per document":   {false, func(q *Query) { q.PerDocument = true }},
		"duplicates":     {false, func(q *Query) { q.Duplicates = true }},
		"vector instead": {false, func(q *Query) { q.Text = "" }},
	} {
		other := q
		c.change(&other)
		if _, err := other.cursor(); (err == nil) != c.same {
			t.Errorf("with another %s: %v", name, err)
		}
	}
	a, b := Query{Mode: Semantic, Vector: []float32{1, 2}}, Query{Mode: Semantic, Vector: []float32{1, 3}}
	if a.fingerprint() == b.fingerprint() {
		t.Error("two vectors have one fingerprint")
	}
}
