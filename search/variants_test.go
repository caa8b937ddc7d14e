package search

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
)

// variant is one form that a search's statement can take.
type variant struct {
	name string
	s    *statement
}

// variants are the forms of a search's statement: of every mode, tier and model, with and without conditions, one of
// each document, hits that differ, a page behind the first, phrases and beginnings, chunks that have pieces.
func variants(tenant uuid.UUID, vector []float32) (all []variant) {
	where := []Condition{{"metadata.team", Equal, "legal"}, {"version", AtLeast, "2"}}
	for _, mode := range []Mode{Semantic, Lexical, Hybrid} {
		for _, tier := range []Tier{Exact, Indexed} {
			for _, model := range []string{"", "other"} {
				for _, text := range []string{"pump", `"the pump" -oil sta* wat*`} {
					for bits := range 32 {
						if bits&16 != 0 && model != "" {
							continue // pieces are the first model's
						}
						q := &Query{Mode: mode, Text: text, Vector: vector, Model: model, K: 5}
						s := &statement{tenant: tenant, q: q, plan: Plan{Mode: mode, Tier: tier, Depth: 50},
							st: &tenantState{chunks: 1000, average: 12.5, languages: []string{"english"},
								read: time.Now()}, words: wordsOf(text)}
						if bits&1 != 0 {
							q.Where = where
						}
						if bits&2 != 0 {
							q.PerDocument = true
						}
						if bits&4 != 0 {
							q.Diversity = 0.5
						}
						if bits&8 != 0 {
							s.cursor = &cursor{score: 0.5, chunk: tenant}
						}
						if bits&16 != 0 {
							s.st.pieces, s.st.most = 5000, 21
						}
						name := fmt.Sprintf("%s %s model=%q text=%q bits=%05b", mode, tier, model, text, bits)
						all = append(all, variant{name, s})
						if bits&1 != 0 && tier == Exact {
							found := *s
							found.documents = []uuid.UUID{tenant}
							all = append(all, variant{name + " found", &found})
						}
					}
				}
			}
		}
	}
	return all
}

// wordsOf are a query's words as analyze would give them.
func wordsOf(text string) (words []*Word) {
	for w := range strings.FieldsSeq(text) {
		words = append(words, &Word{Word: w, Weight: 1, found: []weightedTerm{{w, 1}}, must: strings.HasSuffix(w, `"`)})
		if begin, ok := strings.CutSuffix(w, "*"); ok {
			words[len(words)-1] = &Word{Word: w, Weight: 1, begin: begin}
		} else if len(w) > 4 {
			words[len(words)-1].found = append(words[len(words)-1].found, weightedTerm{"pumpe", 0.5})
		}
	}
	return words
}

// TestEveryFormOfASearchIsPlanned has PostgreSQL plan each form of a search's statement with its arguments.
func TestEveryFormOfASearchIsPlanned(t *testing.T) {
	d := testkit.Database(t)
	conn := testkit.Connect(t, d.URL("konstruct_app"))
	tenant := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	if _, err := conn.Exec(t.Context(), `SELECT set_config('app.current_tenant', $1, false)`,
		tenant.String()); err != nil {
		t.Fatal(err)
	}
	texts := map[string]bool{}
	for _, v := range variants(tenant, make([]float32, 384)) {
		sql, err := v.s.build()
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		texts[sql] = true
		// A tenant without pieces has the statement that it would have if there were none.
		if pieces := strings.Contains(sql, "piece_of"); pieces && v.s.st.pieces == 0 ||
			!pieces && v.s.st.pieces > 0 && (v.s.q.Mode != Lexical || v.s.q.Where != nil) {
			t.Errorf("%s: with %d pieces: %s", v.name, v.s.st.pieces, sql)
		}
		if strings.Contains(sql, "<no value>") || strings.Contains(sql, "{{") {
			t.Errorf("%s: what the template left: %s", v.name, sql)
		}
		rows, err := conn.Query(t.Context(), "EXPLAIN "+sql, v.s.args...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", v.name, err, sql)
		}
		if plan, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(plan) < 5 {
			t.Fatalf("%s: %v\n%s", v.name, err, sql)
		}
	}
	if len(texts) < 100 {
		t.Errorf("the variants have %d texts", len(texts))
	}
}

// BenchmarkStatement makes the text of one search's statement.
func BenchmarkStatement(b *testing.B) {
	all := variants(uuid.MustParse("11111111-1111-4111-8111-111111111111"), make([]float32, 384))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := all[i%len(all)].s.build(); err != nil {
			b.Fatal(err)
		}
	}
}
