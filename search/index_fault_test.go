package search_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

// TestPostgreSQLIsKilledWhileAnIndexIsMade with SIGKILL: searches are right after it, and the next turn clears away
// what was left and makes it.
func TestPostgreSQLIsKilledWhileAnIndexIsMade(t *testing.T) {
	d := testkit.Own(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 150)
	name := "ix_kb_points_" + strings.ReplaceAll(tenantA.String(), "-", "")
	// Whoever has a transaction open holds up the index in its last step, when it is there and not valid yet.
	holder := testkit.Connect(t, d.URL("konstruct_app"))
	if _, err := holder.Exec(t.Context(), `BEGIN; SET LOCAL app.current_tenant = '`+tenantA.String()+
		`'; SELECT count(*) FROM kb_points; INSERT INTO kb_documents (tenant_id, agent_id) VALUES ('`+tenantA.String()+
		`', gen_random_uuid())`); err != nil {
		t.Fatal(err)
	}
	in := indexer(t, d, door)
	end := make(chan error, 1)
	go func() {
		_, err := in.Work(context.WithoutCancel(t.Context()), tenantA)
		end <- err
	}()
	super := testkit.Connect(t, d.SuperuserURL())
	testkit.Until(t, "there and not valid", func() bool {
		var half bool
		return super.QueryRow(t.Context(), `SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)`,
			name).Scan(&half) == nil && half
	})
	d.Restart(t) // kills it
	if err := <-end; err == nil {
		t.Error("whoever made it heard nothing")
	}
	door = testkit.DoorOf(t, d)
	v := near(1, 3, 0.3)
	f := ask(t, door, tenantA, search.Query{Mode: search.Semantic, Vector: v, K: 10})
	if common(ids(f.Hits), nearest(t, door, tenantA, v, 10, "true")) < 10 || f.Plan.Tier != search.Exact {
		t.Errorf("after the kill: %d hits by %s", len(f.Hits), f.Plan.Tier)
	}
	var left bool
	if err := testkit.Connect(t, d.SuperuserURL()).
		QueryRow(t.Context(), `SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)`, name).
		Scan(&left); err != nil || !left {
		t.Errorf("nothing half made was left (%v): the test shows nothing", err)
	}
	in = indexer(t, d, door)
	if !turn(t, in, tenantA) || turn(t, in, tenantA) {
		t.Error("it was not made, or twice")
	}
	if f := ask(t, door, tenantA,
		search.Query{Mode: search.Semantic, Vector: v, K: 10}); f.Plan.Tier != search.Indexed || len(f.Hits) != 10 {
		t.Errorf("made again: %d hits by %s", len(f.Hits), f.Plan.Tier)
	}
}

// TestAnIndexComesAndGoesUnderSearches, which find what there is throughout.
func TestAnIndexComesAndGoesUnderSearches(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	fill(t, door, tenantA, 0, 60)
	v := near(1, 5, 0)
	want := nearest(t, door, tenantA, v, 10, "true")
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for n := range 3 {
		all.Go(func() {
			s := search.NewSearcher()
			for i := 0; ctx.Err() == nil; i++ {
				if (i+n)%3 == 0 {
					s.Forget(tenantA)
				}
				f, err := s.Search(context.WithoutCancel(ctx), door, tenantA,
					search.Query{Mode: search.Semantic, Vector: v, K: 10})
				if err != nil || len(f.Hits) != 10 || common(ids(f.Hits), want) < 9 {
					t.Errorf("%s: %d hits, %d of what is right, %v", f.Plan.Tier, len(f.Hits),
						common(ids(f.Hits), want), err)
					return
				}
			}
		})
	}
	up, down := indexer(t, d, door), indexer(t, d, door)
	down.Thresholds = search.Thresholds{Grow: 10_000, Shrink: 10_000, Many: 250, Crowded: 10_000}
	for range 5 {
		if !turn(t, up, tenantA) || !turn(t, down, tenantA) {
			t.Error("nothing was made, or nothing dropped")
		}
	}
	stop()
	all.Wait()
}
