package search_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// near draws a vector near a center; the same seed and number give the same.
func near(seed, center uint64, spread float64) []float32 {
	at, off := rand.New(rand.NewPCG(seed, center)), rand.New(rand.NewPCG(seed^center, rand.Uint64()))
	v := make([]float32, 384)
	for i := range v {
		v[i] = float32(at.NormFloat64() + spread*off.NormFloat64())
	}
	return v
}

// fill stores documents of ten passages each, as a client of the seed would: passage i of document n says "doc<n>
// passage<i> …" and lies near center n mod 50.
func fill(t testing.TB, door *tenantdb.Door, tenant uuid.UUID, from, documents int) {
	t.Helper()
	err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		for n := from; n < from+documents; n++ {
			id := uuid.NewSHA1(tenant, fmt.Appendf(nil, "doc%d", n))
			b.Queue(`INSERT INTO kb_documents (tenant_id, id, agent_id, filename, content_type, created_at)
				VALUES ($1, $2, $3, $4, 'text/plain', '2026-01-01'::timestamptz + $5 * interval '1 day')`, tenant, id,
				agent, fmt.Sprintf("doc%d", n), n)
			b.Queue(
				`INSERT INTO kb_sources (tenant_id, document_id, source, title, bytes, content_sha256, recipe, given,
					labels, language, ingested_at)
			    VALUES ($1, $2, $3, $4, 1, sha256('x'), 'r', jsonb_build_object('half', ($5::integer % 2)::text, 'n',
			    $5::integer, 'team', 'team ' || $5::integer % 7), $6, 'english',
			    '2026-01-01'::timestamptz + $5 * interval '1 day')`,
				tenant, id, fmt.Sprintf("test:doc%d", n), fmt.Sprintf("Document %d", n), n, []string{})
			for i := range 10 {
				b.Queue(`INSERT INTO kb_chunks (tenant_id, id, document_id, content, chunk_index, embedding)
					VALUES ($1, $2, $3, $4, $5, $6::real[]::vector)`,
					tenant, uuid.NewSHA1(id, []byte{byte(i)}), id,
					fmt.Sprintf("doc%d says passage%d of pumps and words%d", n, i, (n*10+i)%97), i,
					near(1, uint64(n%50), 1))
			}
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ask searches with a searcher that knows nothing yet.
func ask(t *testing.T, door *tenantdb.Door, tenant uuid.UUID, q search.Query) search.Result {
	t.Helper()
	f, err := try(t.Context(), door, search.NewSearcher(), tenant, q)
	if err != nil {
		t.Fatalf("%+v: %v", q.Mode, err)
	}
	return f
}

func try(ctx context.Context, door *tenantdb.Door, s *search.Searcher, tenant uuid.UUID,
	q search.Query) (f search.Result, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		f, err = s.SearchInTx(ctx, tx, tenant, q)
		return err
	})
	return f, err
}

func ids(hits []search.Hit) (all []uuid.UUID) {
	for _, h := range hits {
		all = append(all, h.ChunkID)
	}
	return all
}

// nearest are a tenant's passages nearest to a vector, compared one by one in Go.
func nearest(t *testing.T, door *tenantdb.Door, tenant uuid.UUID, v []float32, k int,
	condition string) (all []uuid.UUID) {
	t.Helper()
	err := door.Query(t.Context(), tenant,
		`SELECT c.id, c.embedding::real[] FROM kb_chunks c JOIN kb_documents d ON d.tenant_id = c.tenant_id
			AND d.id = c.document_id LEFT JOIN kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = d.id
	    WHERE `+condition, nil, func(rows pgx.Rows) error {
			type point struct {
				id       uuid.UUID
				distance float64
			}
			points, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p point, err error) {
				var e []float32
				err = row.Scan(&p.id, &e)
				var ab, aa, bb float64
				for i := range e {
					ab, aa, bb = ab+float64(e[i])*float64(v[i]), aa+float64(e[i])*float64(e[i]), bb+
						float64(v[i])*float64(v[i])
				}
				p.distance = 1 - ab/math.Sqrt(aa*bb)
				return p, err
			})
			slices.SortFunc(points, func(a, b point) int { return cmpFloat(a.distance, b.distance) })
			for _, p := range points[:min(k, len(points))] {
				all = append(all, p.id)
			}
			return err
		})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func cmpFloat(a, b float64) int {
	if a < b {
		return -1
	}
	return 1
}

func common(a, b []uuid.UUID) (n int) {
	for _, id := range a {
		if slices.Contains(b, id) {
			n++
		}
	}
	return n
}

// indexer makes indexes of tenants that have 300 passages and drops those of tenants that have fewer than 100.
func indexer(t *testing.T, d *testkit.DB, door *tenantdb.Door) *search.Indexer {
	t.Helper()
	b, err := tenantdb.OpenIndexBuilder(t.Context(), d.URL("konstruct_owner"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &search.Indexer{Door: door, Builder: b,
		Thresholds: search.Thresholds{Grow: 300, Shrink: 100, Many: 250, Crowded: 300}, Logger: testkit.Logger(t)}
}

func turn(t *testing.T, in *search.Indexer, tenant uuid.UUID) bool {
	t.Helper()
	worked, err := in.Work(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	return worked
}

func TestATenantGrowsIntoAnIndexAndOutOfIt(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	in := indexer(t, d, door)
	fill(t, door, tenantB, 0, 5) // another's passages, of the same kind
	recall := func(tier search.Tier, chunks int) {
		t.Helper()
		found, all := 0, 0
		for n := range uint64(20) {
			v := near(1, n, 0.3)
			f := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10})
			want := nearest(t, door, tenantA, v, 10, "true")
			if len(f.Hits) != min(10, chunks) || f.Plan.Tier != tier {
				t.Fatalf("%d hits by %s (%s), of %d passages", len(f.Hits), f.Plan.Tier, f.Plan.Reason, chunks)
			}
			found, all = found+common(ids(f.Hits), want), all+len(want)
			if !slices.IsSortedFunc(f.Hits, func(a, b search.Hit) int { return cmpFloat(b.Score, a.Score) }) {
				t.Fatal("not best first")
			}
		}
		if r := float64(found) / float64(all); r < 0.99 {
			t.Errorf("%s over %d passages: recall %.3f", tier, chunks, r)
		}
	}
	fill(t, door, tenantA, 0, 20)
	if turn(t, in, tenantA) {
		t.Error("200 passages got an index")
	}
	recall(search.Exact, 200)
	fill(t, door, tenantA, 20, 60)
	recall(search.Exact, 800)
	if open, err := in.Prepare(t.Context(), tenantA); err != nil || !open {
		t.Errorf("800 passages, and nothing is due: %v", err)
	}
	if !turn(t, in, tenantA) || turn(t, in, tenantA) {
		t.Error("800 passages got no index, or two")
	}
	recall(search.Indexed, 800)
	// A mass delete, before any vacuum: what is left is found, all of it, and then the index goes.
	if err := door.Query(t.Context(), tenantA,
		`DELETE FROM kb_documents WHERE tenant_id = $1 AND filename <> ALL ('{doc1,doc2,doc3}')`, []any{tenantA},
		nil); err != nil {
		t.Fatal(err)
	}
	f := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: near(1, 70, 0.3), K: 100})
	if len(f.Hits) != 30 {
		t.Errorf("%d of 30 passages that are left, by %s: %s", len(f.Hits), f.Plan.Tier, f.Plan.Reason)
	}
	if !turn(t, in, tenantA) || turn(t, in, tenantA) {
		t.Error("30 passages kept their index")
	}
	f = ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: near(1, 1, 0.3), K: 10})
	if want := nearest(t, door, tenantA, near(1, 1, 0.3), 10, "true"); f.Plan.Tier != search.Exact ||
		len(want) != len(f.Hits) {
		t.Errorf("%s: %d hits", f.Plan.Tier, len(f.Hits))
	}
	for _, table := range []string{"kb_points", "kb_terms"} {
		var n int
		if err := testkit.Connect(t, d.SuperuserURL()).
			QueryRow(t.Context(), `SELECT count(DISTINCT chunk_id) FROM `+table+` WHERE tenant_id = $1`, tenantA).
			Scan(&n); err != nil || n != 30 {
			t.Errorf("%s has %d passages of 30: %v", table, n, err)
		}
	}
}

// TestAnIndexOfNothingIsNotTuned: there is no recall where there is nothing to find.
func TestAnIndexOfNothingIsNotTuned(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 40)
	if !turn(t, indexer(t, d, door), tenantA) {
		t.Fatal("no index")
	}
	if err := door.Query(t.Context(), tenantA, `DELETE FROM kb_documents WHERE tenant_id = $1`, []any{tenantA},
		nil); err != nil {
		t.Fatal(err)
	}
	for _, questions := range [][][]float32{nil, {near(1, 1, 0.3)}} {
		tuned, err := search.TuneIndex(t.Context(), door, tenantA, questions)
		if !errors.Is(err, search.ErrUntunable) || tuned.Recall != nil {
			t.Errorf("%+v, %v", tuned, err)
		}
	}
}

func TestWhatAKilledBuilderLeftIsClearedAway(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	in := indexer(t, d, door)
	fill(t, door, tenantA, 0, 40)
	name := "ix_kb_points_" + strings.ReplaceAll(tenantA.String(), "-", "")
	// What CREATE INDEX CONCURRENTLY leaves when it is killed: an index that is not valid.
	testkit.Owner(t, d, `CREATE INDEX `+name+` ON kb_points USING hnsw (half halfvec_cosine_ops) WHERE tenant_id = '`+
		tenantA.String()+`'`)
	testkit.Super(t, d, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = '`+name+`'::regclass`)
	v := near(1, 3, 0.3)
	if f := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10}); f.Plan.Tier != search.Exact ||
		common(ids(f.Hits), nearest(t, door, tenantA, v, 10, "true")) < 10 {
		t.Errorf("with an index that is not valid: %s, %d hits", f.Plan.Tier, len(f.Hits))
	}
	if !turn(t, in, tenantA) {
		t.Error("nothing was done")
	}
	if f := ask(t, door, tenantA,
		search.Query{Mode: search.Semantic, Vector: v, K: 10}); f.Plan.Tier != search.Indexed || f.Plan.Index != name {
		t.Errorf("after it was cleared away: %s %s", f.Plan.Tier, f.Plan.Reason)
	}
	// A searcher that believes in an index that is gone answers as well.
	s := search.NewSearcher()
	if _, err := try(t.Context(), door, s, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10}); err != nil {
		t.Fatal(err)
	}
	testkit.Owner(t, d, `DROP INDEX `+name)
	if f, err := try(t.Context(), door, s, tenantA,
		search.Query{Mode: search.Semantic, Vector: v, K: 10}); err != nil ||
		common(ids(f.Hits), nearest(t, door, tenantA, v, 10, "true")) < 10 {
		t.Errorf("with an index that is gone: %d hits, %v", len(f.Hits), err)
	}
	// While somebody else makes it, nobody makes it twice.
	busy := testkit.Connect(t, d.URL("konstruct_owner"))
	if _, err := busy.Exec(t.Context(), `SELECT pg_advisory_lock(hashtextextended($1, 0))`,
		"konstruct index "+tenantA.String()); err != nil {
		t.Fatal(err)
	}
	if turn(t, in, tenantA) {
		t.Error("two make one index")
	}
}

func TestSearchesStayRightWhileATenantGrows(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	in := indexer(t, d, door)
	fill(t, door, tenantA, 0, 10)
	s, v := search.NewSearcher(), near(1, 7, 0)
	// One passage is the question itself: whatever goes on, it is found first, and ten are.
	own := uuid.New()
	if err := door.Query(t.Context(), tenantA, `INSERT INTO kb_chunks (tenant_id, id, document_id, content, embedding)
		VALUES ($1, $2, $3, 'itself', $4::real[]::vector)`,
		[]any{tenantA, own, uuid.NewSHA1(tenantA, []byte("doc1")), v}, nil); err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() {
		for n := 10; n < 70; n += 10 {
			fill(t, door, tenantA, n, 10)
			if _, err := in.Work(context.WithoutCancel(t.Context()), tenantA); err != nil {
				end <- err
				return
			}
		}
		end <- nil
	}()
	tiers := map[search.Tier]int{}
	for {
		f, err := try(t.Context(), door, s, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10})
		if err != nil || len(f.Hits) != 10 || f.Hits[0].ChunkID != own {
			t.Fatalf("%s: %d hits, %v", f.Plan.Tier, len(f.Hits), err)
		}
		if tiers[f.Plan.Tier]++; len(tiers) == 2 || tiers[search.Exact]%3 == 0 {
			// it looks anew, or goes by what it knew
			s.Forget(tenantA)
		}
		select {
		case err := <-end:
			if err != nil {
				t.Fatal(err)
			}
			if f := ask(t, door, tenantA,
				search.Query{Mode: search.Semantic, Vector: v, K: 10}); f.Plan.Tier != search.Indexed ||
				f.Hits[0].ChunkID != own {
				t.Errorf("in the end it is %s", f.Plan.Tier)
			}
			if len(tiers) != 2 {
				t.Errorf("searched by %v: the test wants both", tiers)
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestRecallIsKeptWhereLabelsHideMuch: what is hidden takes candidates from an index that knows no labels.
func TestRecallIsKeptWhereLabelsHideMuch(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 300)
	if in := indexer(t, d, door); !turn(t, in, tenantA) {
		t.Fatal("no index")
	}
	for _, c := range []struct {
		hidden string
		tier   search.Tier
	}{{"n % 2 = 1", search.Indexed}, {"n % 50 = 49", search.Indexed}, {"n >= 15", search.Exact},
		{"true", search.Exact}} {
		if err := door.Query(t.Context(), tenantA, `UPDATE kb_sources s SET labels = CASE WHEN `+c.hidden+
			` THEN '{legal}'::text[] ELSE '{}' END
		    FROM (SELECT document_id, (given->>'n')::int AS n FROM kb_sources WHERE tenant_id = $1) g
		    WHERE s.tenant_id = $1 AND s.document_id = g.document_id`, []any{tenantA}, nil); err != nil {
			t.Fatal(err)
		}
		for labels, condition := range map[string]string{"": "s.labels = '{}'", "legal": "true"} {
			ctx, found, all := tenantdb.WithLabels(t.Context(), tenantdb.LabelsOf(strings.Fields(labels)...)), 0, 0
			for n := range uint64(10) {
				v := near(1, n, 0.3)
				f, err := try(ctx, door, search.NewSearcher().Few(200), tenantA,
					search.Query{Mode: search.Semantic, Vector: v, K: 10})
				if err != nil {
					t.Fatal(err)
				}
				if labels == "" && f.Plan.Tier != c.tier || labels != "" && f.Plan.Tier != search.Indexed {
					t.Errorf("%s, as %q: by %s, %s", c.hidden, labels, f.Plan.Tier, f.Plan.Reason)
				}
				want := nearest(t, door, tenantA, v, 10, condition)
				if meet := nearest(t, door, tenantA, v, 1<<30, condition); common(ids(f.Hits), meet) != len(f.Hits) ||
					len(f.Hits) != len(want) {
					t.Fatalf("%s, as %q: %d of %d hits may be seen", c.hidden, labels, common(ids(f.Hits), meet),
						len(f.Hits))
				}
				found, all = found+common(ids(f.Hits), want), all+len(want)
			}
			if float64(found) < 0.99*float64(all) {
				t.Errorf("%s, as %q: recall %.3f", c.hidden, labels, float64(found)/float64(all))
			}
		}
	}
}

func TestConditionsAreMetAndRecallIsKept(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 300)
	in := indexer(t, d, door)
	if !turn(t, in, tenantA) {
		t.Fatal("no index")
	}
	for _, c := range []struct {
		condition, sql string
		tier           search.Tier
		least          int
	}{
		{"metadata.half=0", "s.given->>'half' = '0'", search.Indexed, 10},
		{"metadata.n<3", "(s.given->>'n')::int < 3", search.Exact, 10},
		{"filename=doc17", "d.filename = 'doc17'", search.Exact, 10},
		{"metadata.n>=0", "true", search.Indexed, 10},
		{"source^=test:doc", "true", search.Indexed, 10},
		{"label=nobody", "false", search.Exact, 0},
	} {
		where, err := search.ParseCondition(c.condition)
		if err != nil {
			t.Fatal(err)
		}
		found, all := 0, 0
		for n := range uint64(10) {
			v := near(1, n, 0.3)
			f, err := try(t.Context(), door, search.NewSearcher().Few(200), tenantA,
				search.Query{Mode: search.Semantic, Vector: v, K: 10, Where: []search.Condition{where}})
			if err != nil {
				t.Fatal(err)
			}
			want := nearest(t, door, tenantA, v, 10, c.sql)
			if len(f.Hits) != c.least || f.Plan.Tier != c.tier {
				t.Fatalf("%s: %d hits by %s: %s", c.condition, len(f.Hits), f.Plan.Tier, f.Plan.Reason)
			}
			found, all = found+common(ids(f.Hits), want), all+len(want)
			if meet := nearest(t, door, tenantA, v, 1<<30, c.sql); common(ids(f.Hits), meet) != len(f.Hits) {
				t.Fatalf("%s: %d of %d hits meet it", c.condition, common(ids(f.Hits), meet), len(f.Hits))
			}
		}
		if all > 0 && float64(found)/float64(all) < 0.99 {
			t.Errorf("%s: recall %.3f by %s", c.condition, float64(found)/float64(all), c.tier)
		}
	}
	// By words, and by both.
	where := []search.Condition{{Field: "metadata.n", Op: search.Less, Value: 20}}
	for _, mode := range []search.Mode{search.Lexical, search.Hybrid} {
		f := ask(t, door, tenantA,
			search.Query{Mode: mode, Text: "passage3", Vector: near(1, 3, 0.3), K: 20, Where: where})
		if len(f.Hits) != 20 {
			t.Errorf("%s: %d hits", mode, len(f.Hits))
		}
		for _, h := range f.Hits {
			var n int
			if _, err := fmt.Sscanf(h.Filename, "doc%d", &n); err != nil || n >= 20 {
				t.Errorf("%s: %s does not meet the condition", mode, h.Filename)
			}
		}
	}
}

func TestConditionsAreCompared(t *testing.T) {
	door := testkit.Door(t)
	fill(t, door, tenantA, 0, 12)
	if err := door.Query(t.Context(), tenantA,
		`UPDATE kb_sources SET labels = '{red,blue}' WHERE tenant_id = $1 AND source = 'test:doc3'`, []any{tenantA},
		nil); err != nil {
		t.Fatal(err)
	}
	doc4 := uuid.NewSHA1(tenantA, []byte("doc4"))
	for condition, want := range map[string]string{
		"filename=doc4": "4", "filename!=doc4": "0 1 2 3 5 6 7 8 9 10 11", "filename in doc4, doc5": "4 5",
		"filename^=doc1": "1 10 11", "title=Document 4": "4", "source=test:doc4": "4",
		"document=" + doc4.String(): "4", "type=text/plain": "0 1 2 3 4 5 6 7 8 9 10 11",
		"version=1": "0 1 2 3 4 5 6 7 8 9 10 11", "version>1": "",
		"ingested<2026-01-03": "0 1", "ingested>=2026-01-11T00:00:00Z": "10 11", "label=red": "3",
		"label in green,blue": "3", "label!=red": "0 1 2 4 5 6 7 8 9 10 11",
		"metadata.n=4": "4", "metadata.n!=4": "0 1 2 3 5 6 7 8 9 10 11", "metadata.n>9": "10 11",
		"metadata.n<=1": "0 1", "metadata.half=1": "1 3 5 7 9 11", "metadata.team^=team 6": "6",
		"metadata.team in team 6,team 5": "5 6",
		"metadata.team>team 5":           "6", "metadata.none=1": "", "metadata.none!=1": "0 1 2 3 4 5 6 7 8 9 10 11",
		"metadata.n in 4,5": "4 5",
	} {
		where, err := search.ParseCondition(condition)
		if err != nil {
			t.Fatalf("%s: %v", condition, err)
		}
		f := ask(t, door, tenantA,
			search.Query{Mode: search.Semantic, Vector: near(1, 3, 0.3), K: 100, PerDocument: true,
				Where: []search.Condition{where}})
		got := map[int]bool{}
		for _, h := range f.Hits {
			var n int
			if _, err := fmt.Sscanf(h.Filename, "doc%d", &n); err != nil {
				t.Fatal(err)
			}
			got[n] = true
		}
		var all []string
		for n := range 12 {
			if got[n] {
				all = append(all, fmt.Sprint(n))
			}
		}
		if s := strings.Join(all, " "); s != want {
			t.Errorf("%s: documents %q, want %q", condition, s, want)
		}
	}
}

func TestPagesAreOfOneSearch(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 40)
	check := func(tier search.Tier) {
		for _, mode := range []search.Mode{search.Semantic, search.Lexical, search.Hybrid} {
			for _, perDocument := range []bool{false, true} {
				q := search.Query{Mode: mode, Text: "doc3 doc5 passage4 pumps", Vector: near(1, 5, 0), K: 7,
					PerDocument: perDocument}
				var paged []uuid.UUID
				for range 4 {
					f := ask(t, door, tenantA, q)
					if mode != search.Lexical && f.Plan.Tier != tier {
						t.Fatalf("by %s", f.Plan.Tier)
					}
					paged = append(paged, ids(f.Hits)...)
					if q.After = f.Next; f.Next == "" {
						t.Fatalf("%s, per document %t: nothing after %d", mode, perDocument, len(paged))
					}
				}
				q.After, q.K = "", 28
				if d := cmp.Diff(ids(ask(t, door, tenantA, q).Hits), paged); d != "" && (tier == search.Exact ||
					mode == search.Hybrid) {
					t.Errorf("%s, per document %t: four pages are not one search:\n%s", mode, perDocument, d)
				}
				seen := map[uuid.UUID]bool{}
				for _, id := range paged {
					if seen[id] {
						t.Errorf("%s, per document %t: a passage is on two pages", mode, perDocument)
					}
					seen[id] = true
				}
			}
		}
	}
	check(search.Exact)
	if !turn(t, indexer(t, d, door), tenantA) {
		t.Fatal("no index")
	}
	check(search.Indexed)
}

func TestVarietyDocumentsNeighboursAndScores(t *testing.T) {
	door := testkit.Door(t)
	fill(t, door, tenantA, 0, 60)
	v := near(1, 5, 0.2)
	plain := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10})
	alike := func(hits []search.Hit) (documents int) {
		seen := map[uuid.UUID]bool{}
		for _, h := range hits {
			seen[h.DocumentID] = true
		}
		return len(seen)
	}
	varied := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10, Diversity: 0.7})
	if varied.Hits[0].ChunkID != plain.Hits[0].ChunkID || len(varied.Hits) != 10 ||
		alike(varied.Hits) <= alike(plain.Hits) {
		t.Errorf("with variety passages of %d documents, without of %d", alike(varied.Hits), alike(plain.Hits))
	}
	grouped := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 20, PerDocument: true})
	if len(grouped.Hits) != 20 || alike(grouped.Hits) != 20 || grouped.Hits[0].ChunkID != plain.Hits[0].ChunkID {
		t.Errorf("%d hits of %d documents", len(grouped.Hits), alike(grouped.Hits))
	}
	around := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 5, Neighbours: 2})
	for _, h := range around.Hits {
		for i, p := range slices.Concat(h.Before, []kb.Passage{h.Passage}, h.After) {
			if p.Index != max(0, h.Index-2)+i || !strings.HasPrefix(p.Content, h.Filename+" ") {
				t.Errorf("around passage %d of %s stands %d: %s", h.Index, h.Filename, p.Index, p.Content)
			}
		}
		if len(h.Before) != min(2, h.Index) || len(h.After) != min(2, 9-h.Index) {
			t.Errorf("passage %d has %d before and %d behind", h.Index, len(h.Before), len(h.After))
		}
	}
	least := plain.Hits[4].Score
	if f := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10, MinScore: &least}); len(
		f.Hits) != 5 || f.Next != "" {
		t.Errorf("%d hits of at least %v", len(f.Hits), least)
	}
}
