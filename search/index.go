package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// Thresholds say when a tenant gets an index of its own.
type Thresholds struct {
	// Grow is with how many passages one is made, each counted with its further pieces, and Shrink with how few it is
	// dropped.
	Grow, Shrink int
	// Many is how many such indexes there may be before only a tenant of Crowded passages gets one: each costs the
	// planner of every search a little.
	Many, Crowded int
	// Collection is how many passages a collection of such a tenant has that gets an index of its own; with half as
	// many it is dropped.
	Collection int
}

// DefaultThresholds are what measurements suggest: see docs/benchmarks.md.
var DefaultThresholds = Thresholds{Grow: 4000, Shrink: 2000, Many: 250, Crowded: 20_000, Collection: 5000}

// Indexer creates and drops tenants' own indexes when passages were added or removed. It is the worker of
// fairqueue.Indexes.
type Indexer struct {
	Door       *tenantdb.Door
	Builder    *tenantdb.IndexBuilder
	Thresholds Thresholds
	Logger     *slog.Logger
}

// indexAction is what is due for a tenant's index.
type indexAction int

const (
	leave indexAction = iota
	build
	drop
)

// indexState is what there is in the database of a tenant's own indexes.
type indexState struct {
	model    string // that serves
	chunks   int    // at least, with pieces: counted to Grow
	there    bool
	complete bool
	stale    []string // of models that do not serve
	all      int      // of all tenants

	collections []collectionState // for which something is due
	orphans     []string          // indexes of collections that are no more
}

// action says what is to be done. Between Shrink and Grow what is there stays.
func (t Thresholds) action(x indexState) indexAction {
	grow := t.Grow
	if x.all >= t.Many {
		grow = max(grow, t.Crowded)
	}
	switch {
	case x.there && x.chunks < t.Shrink, len(x.stale) > 0:
		return drop
	case x.there && !x.complete: // left by a killed job
		return build
	case !x.there && x.chunks >= grow:
		return build
	}
	return leave
}

// due reports whether anything is to be done.
func (t Thresholds) due(x indexState) bool {
	return t.action(x) != leave || len(x.collections) > 0 || len(x.orphans) > 0
}

func (in *Indexer) inspect(ctx context.Context, tenant uuid.UUID) (x indexState, err error) {
	err = in.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, kb.ServingSQL, tenant).Scan(&x.model); err != nil {
			return err
		}
		name := indexName(tenant, x.model)
		rows, err := tx.Query(ctx,
			`SELECT c.relname::text, i.indisvalid AND i.indisready
			FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
			WHERE c.relnamespace = 'public'::regnamespace AND (c.relname = $1 OR starts_with(c.relname::text, $2))`,
			indexName(tenant, ""), vectorIndexes(tenant))
		if err != nil {
			return err
		}
		var found string
		var complete bool
		x.there, x.complete, x.stale = false, false, nil
		if _, err := pgx.ForEachRow(rows, []any{&found, &complete}, func() error {
			switch {
			case found == name:
				x.there, x.complete = true, complete
			case found != indexName(tenant, ""):
				x.stale = append(x.stale, found)
			}
			return nil
		}); err != nil {
			return err
		}
		if err := in.inspectCollections(ctx, tx, tenant, &x); err != nil {
			return err
		}
		return tx.QueryRow(ctx,
			`SELECT (SELECT count(*) FROM (SELECT FROM kb_terms t WHERE t.tenant_id = $1 AND t.term = '' LIMIT $2) t)
			+ (SELECT count(*) FROM (SELECT FROM kb_points p WHERE p.tenant_id = $1 AND p.piece_of IS NOT NULL
			   AND $3 = '' LIMIT $2) p),
			(SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'i'
			   AND starts_with(relname::text,
			   'ix_kb_points_'))`, tenant, max(in.Thresholds.Grow, in.Thresholds.Crowded), x.model).
			Scan(&x.chunks, &x.all)
	})
	if err != nil {
		return x, fmt.Errorf("search: look at the tenant's index: %w", err)
	}
	return x, nil
}

// Prepare reports whether something is due for the tenant's index. It implements fairqueue.Worker.
func (in *Indexer) Prepare(ctx context.Context, tenant uuid.UUID) (bool, error) {
	x, err := in.inspect(ctx, tenant)
	return err == nil && in.Thresholds.due(x), err
}

// Work makes or drops the tenant's index where that is due. Killed, it leaves what the next turn clears away. It
// implements fairqueue.Worker.
func (in *Indexer) Work(ctx context.Context, tenant uuid.UUID) (worked bool, err error) {
	x, err := in.inspect(ctx, tenant)
	if err != nil {
		return false, err
	}
	if !in.Thresholds.due(x) {
		return false, nil
	}
	alone, err := in.Builder.Exclusive(ctx, "konstruct index "+tenant.String(), func(conn *pgx.Conn) error {
		if x, err = in.inspect(ctx, tenant); err != nil { // as it is now that nobody else is at it
			return err
		}
		switch in.Thresholds.action(x) {
		case drop:
			return in.drop(ctx, conn, tenant, x)
		case build:
			return in.build(ctx, conn, tenant, x)
		}
		return in.workCollections(ctx, conn, tenant, x)
	})
	if err != nil && ctx.Err() == nil {
		in.record(ctx, tenant, x.model, err)
	}
	if err != nil {
		return false, fmt.Errorf("search: tenant %s: its own index: %w", tenant, err)
	}
	return alone, nil
}

func (in *Indexer) drop(ctx context.Context, conn *pgx.Conn, tenant uuid.UUID, x indexState) error {
	names := x.stale
	if x.there && x.chunks < in.Thresholds.Shrink {
		names = append(names, indexName(tenant, x.model))
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, `DROP INDEX CONCURRENTLY IF EXISTS public.`+name); err != nil {
			return fmt.Errorf("drop %s: %w", name, err)
		}
		in.Logger.Info("dropped a tenant's own index", "tenant", tenant, "index", name)
	}
	return in.Door.Query(ctx, tenant,
		`UPDATE kb_tiers SET built_at = NULL, recall = NULL, queries = NULL, tuned_at = NULL, ef_search = $3
		WHERE tenant_id = $1 AND model = $2`, []any{tenant, x.model, defaultEf}, nil)
}

// What an index takes while it is made: pgvector keeps its graph in memory while that fits, and is many times slower
// where it does not.
const (
	bytesPerVector = 2200 // 384 numbers of two bytes, and some 32 links
	leastMemory    = 64 << 20
	mostMemory     = 4 << 30
)

func (in *Indexer) build(ctx context.Context, conn *pgx.Conn, tenant uuid.UUID, x indexState) error {
	name := indexName(tenant, x.model)
	on :=
		fmt.Sprintf("kb_points USING hnsw (half halfvec_cosine_ops) WITH (m = 16, ef_construction = 64) WHERE "+
			"tenant_id = '%s'", tenant)
	var chunks, pieces, dimensions int
	if err := in.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM kb_terms t WHERE t.tenant_id = $1 AND t.term = ''),
			(SELECT count(*) FROM kb_points p WHERE p.tenant_id = $1 AND p.piece_of IS NOT NULL AND $2 = ''),
			coalesce((SELECT m.dimensions FROM kb_models m
			WHERE m.tenant_id = $1 AND m.model = $2), 384)`,
			tenant, x.model).Scan(&chunks, &pieces, &dimensions)
	}); err != nil {
		return err
	}
	if x.model != "" {
		if dimensions > mostDimensions {
			return nil // it is searched passage by passage
		}
		on = fmt.Sprintf("kb_vectors USING hnsw ((embedding::halfvec(%d)) halfvec_cosine_ops) WITH (m = 16, "+
			"ef_construction = 64) WHERE tenant_id = '%s' AND model = %s", dimensions, tenant,
			tenantdb.Literal(x.model))
	}
	start := time.Now()
	memory := min(max(leastMemory, (chunks+pieces)*bytesPerVector*dimensions/384), mostMemory)
	for _, sql := range []string{
		fmt.Sprintf("SET maintenance_work_mem = '%dkB'", memory>>10), "SET statement_timeout = 0",
		"SET lock_timeout = 0",
		"DROP INDEX CONCURRENTLY IF EXISTS public." + name, // which somebody was killed at
		"CREATE INDEX CONCURRENTLY " + name + " ON public." + on,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	if err := in.Door.Query(ctx, tenant,
		`INSERT INTO kb_tiers (tenant_id, model, chunks, built_at) VALUES ($1, $2, $3, now())
	    ON CONFLICT (tenant_id, model) DO UPDATE SET chunks = EXCLUDED.chunks, built_at = now(), trouble = ''`,
		[]any{tenant, x.model, chunks}, nil); err != nil {
		return err
	}
	in.Logger.Info("made a tenant's own index", "tenant", tenant, "index", name, "passages", chunks, "took",
		time.Since(start).Round(time.Millisecond))
	_, err := TuneIndex(ctx, in.Door, tenant, nil)
	if errors.Is(err, ErrUntunable) { // its passages went while it was made
		err = nil
	}
	return err
}

// mostDimensions is how long vectors an HNSW index of half precision takes.
const mostDimensions = 4000

// vectorIndexes is how the names begin of a tenant's own indexes of other models.
func vectorIndexes(tenant uuid.UUID) string { return indexName(tenant, "x")[:len("ix_kb_vectors_")+32] }

// record keeps why an index could not be made.
func (in *Indexer) record(ctx context.Context, tenant uuid.UUID, model string, why error) {
	text, whole := disclosure.Reason(why)
	if !whole {
		in.Logger.Warn("an index can't be made", "tenant", tenant, "model", model, "error", why)
	}
	if err := in.Door.Query(ctx, tenant,
		`INSERT INTO kb_tiers (tenant_id, model, chunks, trouble) VALUES ($1, $2, 0, $3)
		ON CONFLICT (tenant_id, model) DO UPDATE SET trouble = EXCLUDED.trouble`,
		[]any{tenant, model, fmt.Sprintf("%.500s", text)}, nil); err != nil {
		in.Logger.Warn("why an index could not be made could not be noted", "tenant", tenant, "error", err)
	}
}
