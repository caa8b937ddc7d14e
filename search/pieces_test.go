package search_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// breakUp gives a tenant's chunks pieces: each third none, others up to most, all near one center, so that the pieces
// of few chunks are the nearest vectors.
func breakUp(t *testing.T, door *tenantdb.Door, tenant uuid.UUID, most int) {
	t.Helper()
	if err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, document_id FROM kb_chunks WHERE tenant_id = $1 ORDER BY id`, tenant)
		if err != nil {
			return err
		}
		type row struct{ Chunk, Document uuid.UUID }
		chunks, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
		if err != nil {
			return err
		}
		var b pgx.Batch
		for i, c := range chunks {
			for n := range i % 3 * most / 2 {
				b.Queue(`INSERT INTO kb_points (tenant_id, document_id, chunk_id, piece_of, language, half)
					VALUES ($1, $2, $3, $4, 'english', l2_normalize($5::real[]::vector)::halfvec(384))`, tenant,
					c.Document, uuid.NewSHA1(c.Chunk, []byte{byte(n)}), c.Chunk, near(1, uint64((i+n/4)%50), 1))
			}
		}
		return tx.SendBatch(ctx, &b).Close()
	}); err != nil {
		t.Fatal(err)
	}
}

// nearestPieced are a tenant's chunks by the nearest of their vectors, all compared by PostgreSQL without an index.
func nearestPieced(t *testing.T, door *tenantdb.Door, tenant uuid.UUID, v []float32, k int,
	condition string) (all []uuid.UUID) {
	t.Helper()
	if err := door.Query(t.Context(), tenant, `SELECT c.id FROM kb_chunks c
		  JOIN kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id
		 WHERE c.tenant_id = $1 AND `+condition+`
		 ORDER BY least(c.embedding <=> $2::real[]::vector, (SELECT min(p.half <=> $2::real[]::vector::halfvec(384))
		         FROM kb_points p WHERE p.tenant_id = c.tenant_id AND p.piece_of = c.id)), c.id LIMIT $3`,
		[]any{tenant, v, k}, func(rows pgx.Rows) (err error) {
			all, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			return err
		}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAChunkIsFoundByItsNearestPiece: once, in its place, ten of ten, with and without conditions, an index, and pages.
func TestAChunkIsFoundByItsNearestPiece(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 40)
	breakUp(t, door, tenantA, 21)
	check := func(tier search.Tier, least int) {
		t.Helper()
		found := 0
		for n := range uint64(10) {
			v := near(1, n, 0.3)
			f := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10, Duplicates: true})
			got, want := ids(f.Hits), nearestPieced(t, door, tenantA, v, 10, "true")
			if f.Plan.Tier != tier || len(got) != 10 || len(slices.Compact(slices.Sorted(uuids(got)))) != 10 {
				t.Fatalf("%s: %d hits of %+v", tier, len(got), f.Plan)
			}
			found += common(got, want)
			if tier == search.Exact && n == 0 {
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("not in the order of their nearest pieces:\n%s", diff)
				}
			}
			half := []search.Condition{{Field: "metadata.half", Op: search.Equal, Value: "1"}}
			f = ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10, Where: half,
				Duplicates: true})
			if got, want := ids(f.Hits), nearestPieced(t, door, tenantA, v, 10, "s.given->>'half' = '1'"); common(got,
				want) < 9 {
				t.Errorf("%s: %d of %d under a condition", tier, common(got, want), len(want))
			}
			for _, mode := range []search.Mode{search.Semantic, search.Hybrid} {
				f = ask(t, door, tenantA, search.Query{Mode: mode, Text: "pumps passage3", Vector: v, K: 10,
					PerDocument: true, Duplicates: true})
				if len(f.Hits) != 10 {
					t.Errorf("%s: %s finds %d documents", tier, mode, len(f.Hits))
				}
			}
		}
		if found < least {
			t.Errorf("%s: %d of 100 are the nearest", tier, found)
		}
	}
	check(search.Exact, 99)
	in := indexer(t, d, door)
	if !turn(t, in, tenantA) {
		t.Fatal("no index was made")
	}
	check(search.Indexed, 95)
	e := explained(t, door, tenantA, search.Query{Mode: search.Hybrid, Text: "pumps", Vector: near(1, 3, 0.3), K: 10})
	if e.Hits != 10 || e.Actual < 10 || e.TenantIndex == nil || e.TenantIndex.Recall == nil ||
		*e.TenantIndex.Recall < 0.95 {
		t.Errorf("%+v", e)
	}
}

func explained(t *testing.T, door *tenantdb.Door, tenant uuid.UUID, q search.Query) (e search.Explanation) {
	t.Helper()
	if err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		e, err = search.NewSearcher().Explain(ctx, tx, tenant, q)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return e
}

// uuids are ids as texts.
func uuids(all []uuid.UUID) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, id := range all {
			if !yield(id.String()) {
				return
			}
		}
	}
}

// TestPagesOfChunksWithPieces: page by page each chunk comes once, in one order, until there is none.
func TestPagesOfChunksWithPieces(t *testing.T) {
	door := testkit.DoorOf(t, testkit.Database(t))
	fill(t, door, tenantA, 0, 6)
	breakUp(t, door, tenantA, 40)
	v := near(1, 3, 0.3)
	want := nearestPieced(t, door, tenantA, v, 60, "true")
	for _, mode := range []search.Mode{search.Semantic, search.Hybrid} {
		var got []uuid.UUID
		q := search.Query{Mode: mode, Text: "passage1 pumps", Vector: v, K: 7, Duplicates: true}
		s := search.NewSearcher()
		for {
			f, err := try(t.Context(), door, s, tenantA, q)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ids(f.Hits)...)
			if q.After = f.Next; q.After == "" {
				break
			}
		}
		if mode == search.Semantic {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("semantic:\n%s", diff)
			}
		} else if len(got) != 60 || common(got, want) != 60 {
			t.Errorf("hybrid: %d chunks, %d of them once", len(got), common(got, want))
		}
	}
	most := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 60, Diversity: 0.3})
	if len(most.Hits) < 50 {
		t.Errorf("%d hits that differ", len(most.Hits))
	}
}
