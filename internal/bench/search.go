package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// SearchConfig configures Search.
type SearchConfig struct {
	Chunks  int // of all tenants together
	Tenants int // whose sizes follow Zipf's law
	// OwnAlone leaves out the seed's index over all tenants.
	OwnAlone bool
	// Progress is called with what is being done.
	Progress func(what string, done, total int)
	// Measured is called with each measurement when it is complete: a large run takes most of an hour.
	Measured func(Measurement)
}

const (
	topK      = 10
	questions = 100 // asked of each tenant
)

// searchSetup is a tenant that is measured.
type searchSetup struct {
	name      string
	id        uuid.UUID
	chunks    int
	questions [][]float32
	truth     [][]uuid.UUID // by comparing every passage in full precision
	table     string        // that holds it alone
}

// Search measures searches of tenants of all sizes in one database: beside the seed's query as written (the index over
// all tenants under row level security) and beside pgvector on a table that holds the tenant alone; with conditions, by
// words and by both; by sixteen at once; and while documents are ingested. curve is p50 against size, for Curve.
func (b *Bench) Search(ctx context.Context, s SearchConfig) (lines []Measurement, curve []Size, err error) {
	all, err := b.load(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	door, err := tenantdb.Open(ctx, b.url("konstruct_app"))
	if err != nil {
		return nil, nil, err
	}
	defer door.Close()
	built, err := b.tiers(ctx, door, s, all)
	if err != nil {
		return nil, nil, err
	}
	add := func(some []Measurement) {
		for _, l := range some {
			s.Measured(l)
		}
		lines = append(lines, some...)
	}
	add(built)
	// all is sorted by size, the largest first
	at := func(q float64) int { return all[int(q*float64(len(all)-1))].rank }
	var measured []*searchSetup
	for _, m := range []struct {
		name string
		rank int
	}{{"1st", at(0.99)}, {"25th", at(0.75)}, {"50th", at(0.5)}, {"75th", at(0.25)}, {"99th", at(0.01)},
		{"largest", 0}} {
		t := &searchSetup{name: m.name, id: all[m.rank].id, chunks: all[m.rank].chunks}
		if err := b.prepare(ctx, t, all[m.rank]); err != nil {
			return nil, nil, err
		}
		measured = append(measured, t)
	}
	for i, t := range measured {
		s.Progress("searching", i, len(measured))
		some, err := b.compare(ctx, door, t)
		if err != nil {
			return nil, nil, err
		}
		add(some)
	}
	largest := measured[len(measured)-1]
	for _, part := range []func(context.Context, *tenantdb.Door, *searchSetup) ([]Measurement, error){b.modes,
		b.conditions, b.collections} {
		some, err := part(ctx, door, largest)
		if err != nil {
			return nil, nil, err
		}
		add(some)
	}
	crowd, err := b.crowd(ctx, door, all, measured)
	if err != nil {
		return nil, nil, err
	}
	add(crowd)
	if curve, err = b.curve(ctx, door, all, s); err != nil {
		return nil, nil, err
	}
	return lines, curve, nil
}

// tiers creates the indexes of tenants of these sizes.
func (b *Bench) tiers(ctx context.Context, door *tenantdb.Door, s SearchConfig,
	all []sizedTenant) ([]Measurement, error) {
	builder, err := tenantdb.OpenIndexBuilder(ctx, b.url("konstruct_owner"))
	if err != nil {
		return nil, err
	}
	defer builder.Close()
	in := &search.Indexer{Door: door, Builder: builder, Thresholds: search.DefaultThresholds,
		Logger: slog.New(slog.DiscardHandler)}
	n, chunks, begin := 0, 0, time.Now()
	for i, t := range all {
		if t.chunks < search.DefaultThresholds.Grow {
			break
		}
		s.Progress("making tenants' own indexes", i, len(all))
		worked, err := in.Work(ctx, t.id)
		if err != nil {
			return nil, err
		}
		if worked {
			n, chunks = n+1, chunks+t.chunks
		}
	}
	took := time.Since(begin)
	conn, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var global, own, points, terms int64
	if err := conn.QueryRow(ctx,
		`SELECT coalesce(pg_relation_size(to_regclass('ix_kb_chunks_hnsw')), 0),
		coalesce((SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relname LIKE 'ix\_kb\_points\_%'), 0)::bigint,
		pg_total_relation_size('kb_points'), pg_total_relation_size('kb_terms')`).
		Scan(&global, &own, &points, &terms); err != nil {
		return nil, err
	}
	return []Measurement{{What: fmt.Sprintf("making %d tenants' own indexes, and tuning", n), Unit: "chunks",
		Rate: float64(chunks) / took.Seconds(),
		Note: fmt.Sprintf(
			"%d chunks in %s, %d MB; the seed's over all tenants %d MB; points with their key %d MB, words %d MB",
			chunks, took.Round(time.Second), own>>20, global>>20, (points-own)>>20, terms>>20)}}, nil
}

// prepare generates queries, computes the exact answers, and creates a table with the rows of this tenant only.
func (b *Bench) prepare(ctx context.Context, t *searchSetup, z sizedTenant) error {
	conn, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	t.table = fmt.Sprintf("alone_%d", z.rank)
	for _, sql := range []string{
		`SET maintenance_work_mem = '2GB'`,
		`CREATE TABLE ` + t.table + ` AS SELECT id, content, embedding FROM kb_chunks WHERE tenant_id = '` +
			t.id.String() + `'`,
		`CREATE INDEX ON ` + t.table + ` USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)`,
		`VACUUM ANALYZE ` + t.table,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	if _, err := conn.Exec(ctx, `SET enable_indexscan = off`); err != nil {
		return err
	}
	draw := rand.New(rand.NewPCG(3, uint64(z.rank)))
	for range questions {
		q := z.point(draw, draw.IntN(z.chunks), questionSpread)
		rows, err := conn.Query(ctx, `SELECT id FROM `+t.table+` ORDER BY embedding <=> $1::real[]::vector LIMIT $2`, q,
			topK)
		if err != nil {
			return err
		}
		right, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		t.questions, t.truth = append(t.questions, q), append(t.truth, right)
	}
	return nil
}

// tally counts hits that are in the exact answer.
type tally struct{ asked, rows, right, all int }

func (c *tally) add(got, truth []uuid.UUID) {
	c.asked, c.rows, c.all = c.asked+1, c.rows+len(got), c.all+len(truth)
	for _, id := range got {
		if slices.Contains(truth, id) {
			c.right++
		}
	}
}

func (c *tally) String() string {
	if c.all == 0 || c.asked == 0 {
		return "recall not measured: there was nothing to find"
	}
	return fmt.Sprintf("recall@%d %.3f, %.1f rows", topK, float64(c.right)/float64(c.all),
		float64(c.rows)/float64(c.asked))
}

func ids(hits []search.Hit) []uuid.UUID {
	all := make([]uuid.UUID, len(hits))
	for i := range hits {
		all[i] = hits[i].ChunkID
	}
	return all
}

// seedSearch is the seed's query as written.
const seedSearch = `SELECT id, content FROM kb_chunks ORDER BY embedding <=> $1::real[]::vector LIMIT $2`

// compare measures one tenant's searches in turn with the baselines.
func (b *Bench) compare(ctx context.Context, door *tenantdb.Door, t *searchSetup) ([]Measurement, error) {
	conn, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	searcher := search.NewSearcher()
	var counts [4]tally
	var plan search.Plan
	next := [4]int{}
	turn := func(who int, ask func(q []float32) ([]uuid.UUID, error)) func(int) error {
		return func(int) error {
			i := next[who] % len(t.questions)
			next[who]++
			got, err := ask(t.questions[i])
			if next[who] <= len(t.questions) {
				counts[who].add(got, t.truth[i])
			}
			return err
		}
	}
	collect := func(rows pgx.Rows) (all []uuid.UUID, err error) {
		var id uuid.UUID
		var content string
		_, err = pgx.ForEachRow(rows, []any{&id, &content}, func() error { all = append(all, id); return nil })
		return all, err
	}
	// Both indexes keep as many candidates: what a recall costs is compared at about the same recall.
	f, err := searcher.Search(ctx, door, t.id, search.Query{Mode: search.Semantic, Vector: t.questions[0], K: topK})
	if err == nil && f.Plan.EfSearch > 0 {
		_, err = conn.Exec(ctx, fmt.Sprintf(`SET hnsw.ef_search = %d`, f.Plan.EfSearch))
	}
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%s tenant, %d chunks: ", t.name, t.chunks)
	lines, err := b.alternateN(ctx, 3, "searches", 1,
		contender{what + "pgvector, a table of its own", 1, turn(0, func(q []float32) ([]uuid.UUID, error) {
			rows, err := conn.Query(ctx,
				`SELECT id, content FROM `+t.table+` ORDER BY embedding <=> $1::real[]::vector LIMIT $2`, q, topK)
			if err != nil {
				return nil, err
			}
			return collect(rows)
		})},
		contender{what + "the seed as written", 1, turn(1, func(q []float32) (all []uuid.UUID, err error) {
			err = door.Query(ctx, t.id, seedSearch, []any{q, topK}, func(rows pgx.Rows) error {
				all, err = collect(rows)
				return err
			})
			return all, err
		})},
		contender{what + "ours", 1, turn(2, func(q []float32) (all []uuid.UUID, err error) {
			f, err := searcher.Search(ctx, door, t.id, search.Query{Mode: search.Semantic, Vector: q, K: topK})
			plan = f.Plan
			return ids(f.Hits), err
		})},
		contender{what + "ours, with its event", 1, turn(3, func(q []float32) ([]uuid.UUID, error) {
			return b.recorded(ctx, door, searcher, t.id, q)
		})})
	if err != nil {
		return nil, err
	}
	for i := range lines {
		lines[i].Note = counts[i].String()
		if i > 0 {
			lines[i] = lines[i].against(lines[0])
		}
	}
	lines[2].Note += ", " + string(plan.Tier)
	if plan.EfSearch > 0 {
		lines[2].Note += fmt.Sprintf(" %d", plan.EfSearch)
	}
	return lines, nil
}
