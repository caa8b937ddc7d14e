package search

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// collectionIndexes is how the names of collections' own indexes begin.
const collectionIndexes = "ix_kb_coll_"

// collectionIndex is the name of a large collection's own index.
func collectionIndex(tenant, collection uuid.UUID) string {
	return collectionIndexes + hex.EncodeToString(tenant[:8]) + "_" + hex.EncodeToString(collection[:])
}

// collectionState is what there is of a collection's own index.
type collectionState struct {
	id       uuid.UUID
	chunks   int  // at least: counted to Collection
	indexed  bool // its points are kept
	complete bool // there is an index of them, and it was measured
}

// collectionAction says what is to be done for a collection's index. Between a half of Collection and Collection what
// is there stays.
func (t Thresholds) collectionAction(c collectionState) indexAction {
	switch {
	case c.indexed && c.chunks < t.Collection/2:
		return drop
	case c.indexed && !c.complete, !c.indexed && c.chunks >= t.Collection:
		return build
	}
	return leave
}

// collectionsSQL lists the collections of tenant $1 with their passages, counted to $2, and whether the index of this
// name is complete.
const collectionsSQL = `SELECT c.id, c.indexed,
	  (SELECT count(*) FROM (
	     SELECT FROM kb_collection_documents e, LATERAL (
	       SELECT FROM kb_points p WHERE p.tenant_id = $1 AND p.document_id = e.document_id LIMIT $2) p
	      WHERE e.tenant_id = $1 AND e.collection_id = c.id AND e.document_id IS NOT NULL LIMIT $2) n),
	  c.ef_search > 0 AND EXISTS (SELECT FROM pg_index i
	    WHERE i.indisvalid AND i.indisready AND i.indexrelid = to_regclass('public.ix_kb_coll_' ||
	      left(replace(c.tenant_id::text, '-', ''), 16) || '_' || replace(c.id::text, '-', '')))
	FROM kb_collections c WHERE c.tenant_id = $1`

// orphansSQL lists indexes of this tenant's collections that are no more.
const orphansSQL = `SELECT k.relname::text FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid
	WHERE i.indrelid = 'public.kb_collection_points'::regclass AND i.indpred IS NOT NULL
	  AND strpos(pg_get_expr(i.indpred, i.indrelid), $1::uuid::text) > 0
	  AND NOT EXISTS (SELECT FROM kb_collections c WHERE c.tenant_id = $1
	    AND strpos(k.relname, replace(c.id::text, '-', '')) > 0)`

// inspectCollections finds what is due for the collections of a tenant that has an index of its own.
func (in *Indexer) inspectCollections(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, x *indexState) error {
	x.collections, x.orphans = nil, nil
	rows, err := tx.Query(ctx, collectionsSQL, tenant, in.Thresholds.Collection)
	if err != nil {
		return err
	}
	var c collectionState
	if _, err := pgx.ForEachRow(rows, []any{&c.id, &c.indexed, &c.chunks, &c.complete}, func() error {
		if !x.there {
			c.chunks = 0 // in a small tenant each passage is compared
		}
		if in.Thresholds.collectionAction(c) != leave {
			x.collections = append(x.collections, c)
		}
		return nil
	}); err != nil {
		return err
	}
	if rows, err = tx.Query(ctx, orphansSQL, tenant); err == nil {
		x.orphans, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	return err
}

// workCollections makes and drops the indexes of a tenant's collections.
func (in *Indexer) workCollections(ctx context.Context, conn *pgx.Conn, tenant uuid.UUID, x indexState) error {
	for _, name := range x.orphans {
		if _, err := conn.Exec(ctx,
			`DROP INDEX CONCURRENTLY IF EXISTS public.`+pgx.Identifier{name}.Sanitize()); err != nil {
			return fmt.Errorf("drop %s: %w", name, err)
		}
	}
	for _, c := range x.collections {
		var err error
		if in.Thresholds.collectionAction(c) == build {
			err = in.buildCollection(ctx, conn, tenant, c.id)
		} else {
			err = in.dropCollection(ctx, conn, tenant, c.id)
		}
		if err != nil {
			return fmt.Errorf("collection %s: %w", c.id, err)
		}
	}
	return nil
}

// buildCollection has a collection's points kept from now on, copies those that there are, and makes their index.
func (in *Indexer) buildCollection(ctx context.Context, conn *pgx.Conn, tenant, id uuid.UUID) error {
	start := time.Now()
	if err := in.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		// Whoever writes points or entries shares this lock until that is committed: 00015_collections.sql.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('konstruct indexes ' || $1::uuid, 0))`,
			tenant); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE kb_collections SET indexed = true WHERE tenant_id = $1 AND id = $2`, tenant, id)
		return err
	}); err != nil {
		return err
	}
	var points int
	if err := in.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx,
			`INSERT INTO kb_collection_points (tenant_id, collection_id, document_id, chunk_id, half)
		  SELECT $1::uuid, $2::uuid, p.document_id, p.chunk_id, p.half
		    FROM kb_collection_documents e, LATERAL (
		      SELECT p.document_id, p.chunk_id, p.half FROM kb_points p
		       WHERE p.tenant_id = $1 AND p.document_id = e.document_id AND p.half IS NOT NULL) p
		   WHERE e.tenant_id = $1 AND e.collection_id = $2 AND e.document_id IS NOT NULL
		  ON CONFLICT DO NOTHING`, tenant, id); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT count(*) FROM kb_collection_points WHERE tenant_id = $1 AND collection_id = $2`,
			tenant, id).Scan(&points)
	}); err != nil {
		return err
	}
	name := collectionIndex(tenant, id)
	memory := min(max(leastMemory, points*bytesPerVector*3/2), mostMemory) // it has twice the links
	for _, sql := range []string{
		fmt.Sprintf("SET maintenance_work_mem = '%dkB'", memory>>10), "SET statement_timeout = 0",
		"SET lock_timeout = 0",
		"DROP INDEX CONCURRENTLY IF EXISTS public." + name, // which somebody was killed at
		fmt.Sprintf("CREATE INDEX CONCURRENTLY %s ON public.kb_collection_points USING hnsw (half halfvec_cosine_ops) "+
			"WITH (m = 32, ef_construction = 128) WHERE tenant_id = '%s' AND collection_id = '%s'", name, tenant, id),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	if err := tuneCollection(ctx, in.Door, tenant, id); err != nil {
		return err
	}
	in.Logger.Info("made a collection's own index", "tenant", tenant, "collection", id, "passages", points, "took",
		time.Since(start).Round(time.Millisecond))
	return nil
}

// dropCollection drops a collection's index and its points.
func (in *Indexer) dropCollection(ctx context.Context, conn *pgx.Conn, tenant, id uuid.UUID) error {
	if _, err := conn.Exec(ctx, `DROP INDEX CONCURRENTLY IF EXISTS public.`+collectionIndex(tenant, id)); err != nil {
		return err
	}
	if err := in.Door.Query(ctx, tenant, `WITH small AS (
	    UPDATE kb_collections SET indexed = false, ef_search = 0 WHERE tenant_id = $1 AND id = $2)
	  DELETE FROM kb_collection_points WHERE tenant_id = $1 AND collection_id = $2`,
		[]any{tenant, id}, nil); err != nil {
		return err
	}
	in.Logger.Info("dropped a collection's own index", "tenant", tenant, "collection", id)
	return nil
}
