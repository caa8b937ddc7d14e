package search_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// say stores documents of one passage each, named by what they are called here, in a language.
func say(t *testing.T, door *tenantdb.Door, tenant uuid.UUID, language string, texts map[string]string) {
	t.Helper()
	err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		for n, name := range slices.Sorted(maps.Keys(texts)) { // a text's point is by its place
			text := texts[name]
			id := uuid.NewSHA1(tenant, []byte(name))
			if _, err := tx.Exec(ctx,
				`INSERT INTO kb_documents (tenant_id, id, agent_id, filename) VALUES ($1, $2, $3, $4)`, tenant, id,
				agent, name); err != nil {
				return err
			}
			if language != "" {
				if _, err := tx.Exec(ctx,
					`INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, recipe, language)
					VALUES ($1, $2, $3, 1, sha256('x'), 'r', $4)`, tenant, id, "test:"+name, language); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, `INSERT INTO kb_chunks (tenant_id, document_id, content, chunk_index, embedding)
				VALUES ($1, $2, $3, 0, $4::real[]::vector)`, tenant, id, text, near(2, uint64(n)+1, 0)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func named(hits []search.Hit) string {
	var all []string
	for _, h := range hits {
		all = append(all, h.Filename)
	}
	return strings.Join(all, " ")
}

func TestWordsAreFoundAsTheyAreAskedFor(t *testing.T) {
	door := testkit.Door(t)
	say(t, door, tenantA, "english", map[string]string{
		"a": "The boundary layer of a wing is heated.", "b": "A layer on the boundary of two wings.",
		"c": "Heat transfer in the boundary layers of cones.", "d": "Pumps and pumping stations.",
	})
	say(t, door, tenantA, "german",
		map[string]string{"e": "Die Häuser stehen am Fluss, und die Pumpen laufen.", "f": "Ein Haus mit einer Pumpe."})
	say(t, door, tenantA, "", map[string]string{"g": "Ein Client des Vorgängers schrieb: pump."})
	for question, want := range map[string]string{
		"boundary":                  "a b c",
		"wings":                     "a b",
		`"boundary layer"`:          "a c", // as a phrase, in its stems
		`"boundary layer" -cones`:   "a",
		`layer -"boundary layer"`:   "b",
		`layer -heated`:             "b", // heat and heated are one stem
		`"heat transfer" pumps`:     "c",
		"pump":                      "d e f g", // which is the German stem as well
		"stations":                  "d",
		"häuser":                    "e f",
		"haus":                      "e f",
		"pump*":                     "d e f g",
		"st* -fluss":                "d",
		"unheard":                   "",
		"boundery":                  "a b c", // which nobody wrote
		"bonudary":                  "a b c",
		"bondery":                   "", // two letters off, and not long
		"xoundary":                  "", // a word must begin as it should
		"wingz":                     "a b",
		"sael":                      "", // too short
		"-boundery pumps":           "d e f g",
		"the of and":                "a b c d", // there is nothing else in the question
		`"`:                         "",
		"***":                       "",
		"-":                         "",
		"-boundary":                 "",
		`"of two wings" layer`:      "b",
		`"the boundary layer of a"`: "a",
		"transfer'; DROP TABLE x":   "c",
	} {
		f, err := try(t.Context(), door, search.NewSearcher(), tenantA,
			search.Query{Mode: search.Lexical, Text: question, K: 20})
		if err != nil {
			t.Errorf("%s: %v", question, err)
			continue
		}
		got := strings.Fields(named(f.Hits))
		slices.Sort(got)
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s finds %q, want %q", question, s, want)
		}
	}
	// A hybrid query holds to what must and must not stand there where it says so; else it is a natural question.
	q := search.Query{Mode: search.Hybrid, Text: `"boundary layer" -cones`, Vector: near(2, 1, 0), K: 20,
		Operators: true}
	if f := ask(t, door, tenantA, q); named(f.Hits) != "a" {
		t.Errorf("by both: %s", named(f.Hits))
	}
	q.Operators = false
	if f := ask(t, door, tenantA, q); len(f.Hits) != 7 {
		t.Errorf("a natural question: %s", named(f.Hits))
	}
}

func TestWordsAreRankedByBM25OfTheTenantAlone(t *testing.T) {
	door := testkit.Door(t)
	texts := map[string]string{
		"a": "pump pump valve", "b": "pump hose hose hose hose hose hose", "c": "valve valve valve seal", "d": "seal",
		"e": "hose pump valve seal pump hose valve seal",
	}
	say(t, door, tenantA, "simple", texts)
	score := func(text, question string) (sum float64) {
		const k, b = 1.2, 0.75
		n, total := float64(len(texts)), 0
		for _, s := range texts {
			total += len(strings.Fields(s))
		}
		length := float64(len(strings.Fields(text)))
		for _, w := range strings.Fields(question) {
			df, tf := 0.0, 0.0
			for _, s := range texts {
				if slices.Contains(strings.Fields(s), w) {
					df++
				}
			}
			for _, f := range strings.Fields(text) {
				if f == w {
					tf++
				}
			}
			sum += math.Log(1+(n-df+0.5)/(df+0.5)) * tf * (k + 1) / (tf + k*(1-b+b*length/(float64(total)/n)))
		}
		return sum
	}
	check := func(when string) {
		for _, question := range []string{"pump", "valve seal", "hose pump valve"} {
			f := ask(t, door, tenantA, search.Query{Mode: search.Lexical, Text: question, K: 10})
			for i, h := range f.Hits {
				if want := score(texts[h.Filename], question); math.Abs(h.Score-want) > 1e-9 {
					t.Errorf("%s: %s scores %s %v, want %v", when, question, h.Filename, h.Score, want)
				}
				if i > 0 && h.Score > f.Hits[i-1].Score {
					t.Errorf("%s: %s: not best first", when, question)
				}
			}
		}
	}
	check("alone")
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprintf("x%d", i)] = "pump pump pump"
	}
	say(t, door, tenantB, "simple", many)
	check("beside another tenant's pumps")
}

// TestBothScoresAreFused holds the score of a hybrid search to its parts: 0.55 of the similarity, and 0.45 of the share
// that its words have of the best passage's, on the scale of the best similarity.
func TestBothScoresAreFused(t *testing.T) {
	door := testkit.Door(t)
	fill(t, door, tenantA, 0, 30)
	v := near(1, 4, 0.2)
	const text = "doc7 passage3 words11"
	list := func(mode search.Mode) map[uuid.UUID]float64 {
		scores := map[uuid.UUID]float64{}
		for _, h := range ask(t, door, tenantA, search.Query{Mode: mode, Text: text, Vector: v, K: 100,
			Duplicates: true}).Hits {
			scores[h.ChunkID] = h.Score
		}
		return scores
	}
	meaning, words := list(search.Semantic), list(search.Lexical)
	best, most := 0.0, 0.0
	for _, s := range meaning {
		best = max(best, s)
	}
	for _, s := range words {
		most = max(most, s)
	}
	f := ask(t, door, tenantA, search.Query{Mode: search.Hybrid, Text: text, Vector: v, K: 30})
	last := math.Inf(1)
	for _, h := range f.Hits {
		if h.Similarity == nil || (h.LexicalScore == nil) != (words[h.ChunkID] == 0) {
			t.Errorf("%s lacks a part of its score: %+v", h.ChunkID, h)
			continue
		}
		// Candidates are compared by half the precision: their similarities differ a little from the semantic list's.
		if s, ok := meaning[h.ChunkID]; ok && math.Abs(*h.Similarity-s) > 0.01 {
			t.Errorf("%s is like the question by %v, and by meaning %v", h.ChunkID, *h.Similarity, s)
		}
		want := 0.55*max(*h.Similarity, 0) + 0.45*words[h.ChunkID]/most*best
		if math.Abs(h.Score-want) > 0.005 || h.Score > last {
			t.Errorf("%s scores %v, want %v", h.ChunkID, h.Score, want)
		}
		last = h.Score
	}
	if len(f.Hits) != 30 {
		t.Errorf("%d hits", len(f.Hits))
	}
}

// TestWhatAClientWritesIsReadAtOnce holds that points and postings follow what any client does to kb_chunks.
func TestWhatAClientWritesIsReadAtOnce(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	say(t, door, tenantA, "english", map[string]string{"a": "The pump draws water.", "b": "A valve."})
	find := func(question string) string {
		return named(ask(t, door, tenantA, search.Query{Mode: search.Lexical, Text: question, K: 9}).Hits)
	}
	run := func(sql string) {
		t.Helper()
		if err := door.Query(t.Context(), tenantA, sql, nil, nil); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(`UPDATE kb_chunks SET content = 'The hose draws oil.' WHERE content LIKE 'The pump%'`)
	if find("pump") != "" || find("hose") != "a" {
		t.Errorf("after an update pump is in %q, hose in %q", find("pump"), find("hose"))
	}
	v := near(2, 77, 0)
	run(fmt.Sprintf(`UPDATE kb_chunks SET embedding = '%s'::real[]::vector WHERE content = 'A valve.'`, pgArray(v)))
	if f := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 1}); named(f.Hits) != "b" ||
		f.Hits[0].Score < 0.999 {
		t.Errorf("after its vector was changed it is found as %s", named(f.Hits))
	}
	// What nothing can be near to, and what is larger than half the precision holds, is stored all the same.
	run(`UPDATE kb_chunks SET embedding = array_fill(0::real, ARRAY[384])::vector WHERE content = 'A valve.'`)
	run(`UPDATE kb_chunks SET embedding = array_fill(1e30::real, ARRAY[384])::vector WHERE content LIKE 'The hose%'`)
	if f := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 9}); named(f.Hits) != "a" {
		t.Errorf("a vector without length is found: %s", named(f.Hits))
	}
	run(`UPDATE kb_chunks SET content = repeat('many words ', 200000) WHERE content = 'A valve.'`)
	if find("many") != "b" {
		t.Error("two megabytes of words are not found")
	}
	run(`DELETE FROM kb_chunks WHERE content LIKE 'The hose%'`)
	if find("hose") != "" {
		t.Error("what was deleted is found")
	}
	testkit.Super(t, d, `DELETE FROM kb_documents`) // past row security, and with no tenant set
	super := testkit.Connect(t, d.SuperuserURL())
	var points, terms int
	if err := super.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM kb_points), (SELECT count(*) FROM kb_terms)`).
		Scan(&points, &terms); err != nil || points+terms != 0 {
		t.Errorf("%d points and %d postings are left of nothing: %v", points, terms, err)
	}
}

func pgArray(v []float32) string {
	return "{" + strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]") + "}"
}

// TestAnotherTenantsPassagesAreNobodys searches in every way, as another tenant, one that is not there, with no tenant
// set and with one that is not the searched one.
func TestAnotherTenantsPassagesAreNobodys(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 40)
	stranger := uuid.MustParse("99999999-9999-4999-8999-999999999999")
	one, err := search.ParseCondition("filename=doc3")
	if err != nil {
		t.Fatal(err)
	}
	all, err := search.ParseCondition("filename^=doc")
	if err != nil {
		t.Fatal(err)
	}
	queries := func() (all2 []search.Query) {
		for _, mode := range []search.Mode{search.Semantic, search.Lexical, search.Hybrid} {
			for _, where := range [][]search.Condition{nil, {one}, {all}} {
				all2 = append(all2, search.Query{Mode: mode, Text: "doc3 passage1 pump*", Vector: near(1, 3, 0), K: 10,
					Where: where},
					search.Query{Mode: mode, Text: `"of pumps"`, Vector: near(1, 3, 0), K: 10, Where: where,
						PerDocument: true, Neighbours: 2})
			}
		}
		return all2
	}()
	nothing := func(when string) {
		t.Helper()
		for i, q := range queries {
			if f := ask(t, door, tenantA, q); len(f.Hits) == 0 {
				t.Errorf("%s: question %d: the tenant itself finds nothing", when, i)
			}
			for name, as := range map[string]string{"another": tenantB.String(), "a stranger": stranger.String()} {
				f := ask(t, door, uuid.MustParse(as), q)
				if len(f.Hits) != 0 || f.Plan.Chunks != 0 || f.Plan.Index != "" || f.Plan.Tier == search.Indexed {
					t.Errorf("%s: question %d as %s: %d hits, %+v", when, i, name, len(f.Hits), f.Plan)
				}
			}
			// One tenant is set, and another's is asked for; or none is set.
			for name, set := range map[string]string{"forged": `SET LOCAL app.current_tenant = '` + tenantB.String() +
				`'`, "no tenant": `RESET app.current_tenant`} {
				err := door.Tx(t.Context(), tenantB, func(ctx context.Context, tx pgx.Tx) error {
					if _, err := tx.Exec(ctx, set); err != nil {
						return err
					}
					f, err := search.NewSearcher().SearchInTx(ctx, tx, tenantA, q)
					if len(f.Hits) != 0 || f.Plan.Chunks != 0 {
						t.Errorf("%s: question %d, %s: %d hits, %d passages counted", when, i, name, len(f.Hits),
							f.Plan.Chunks)
					}
					if e, err := search.NewSearcher().Explain(ctx, tx, tenantA, q); err != nil || e.Actual != 0 ||
						e.TenantIndex != nil {
						t.Errorf("%s: question %d explained, %s: %d rows, %v", when, i, name, e.Actual, err)
					}
					return err
				})
				if err != nil {
					t.Errorf("%s: question %d, %s: %v", when, i, name, err)
				}
			}
		}
	}
	nothing("without an index")
	if !turn(t, indexer(t, d, door), tenantA) {
		t.Fatal("no index")
	}
	nothing("with an index of A's own")
	if tuned, err := search.TuneIndex(t.Context(), door, tenantB, nil); err != nil || tuned.Indexed ||
		tuned.Queries != 0 {
		t.Errorf("B's index is tuned: %+v, %v", tuned, err)
	}
	for _, tenant := range []uuid.UUID{tenantB, stranger} {
		stored, err := kb.PassagesByID(t.Context(), door, tenant,
			[]uuid.UUID{uuid.NewSHA1(uuid.NewSHA1(tenantA, []byte("doc1")), []byte{1})})
		versions, err2 := kb.CurrentVersions(t.Context(), door, tenant,
			[]uuid.UUID{uuid.NewSHA1(tenantA, []byte("doc1"))})
		if err != nil || err2 != nil || len(stored)+len(versions) != 0 {
			t.Errorf("A's passages and documents: %d and %d, %v %v", len(stored), len(versions), err, err2)
		}
	}
	// B's own searches are what they were before A came: the same hits and scores.
	say(t, door, tenantB, "english", map[string]string{"b": "doc3 passage1 of pumps"})
	f := ask(t, door, tenantB, search.Query{Mode: search.Lexical, Text: "doc3", K: 10})
	if d := cmp.Diff("b", named(f.Hits)); d != "" || math.Abs(f.Hits[0].Score-math.Log(1+0.5/1.5)) > 1e-9 {
		t.Errorf("B finds %s, with score %v", named(f.Hits), f.Hits[0].Score)
	}
}
