package fairqueue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// lockSQL is the lock that proves that a dispatcher is alive: it ends with the dispatcher's connection, however the
// process ends.
const lockSQL = `hashtextextended('konstruct dealer ' || $1, 0)`

// register says that this dealer lives.
func (d *dispatcher) register(ctx context.Context) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("open the worker's database: %w", err)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(`+lockSQL+`)`, d.id); err != nil {
		conn.Release()
		return fmt.Errorf("sign on as a worker: %w", err)
	}
	d.lease = conn
	return nil
}

// unregister ends the connection that holds the lock.
func (d *dispatcher) unregister() {
	if d.lease != nil {
		_ = d.lease.Hijack().Close(context.Background())
	}
}

// sweepUntil frees the tickets of dealers that died, and signs anew after the database was unavailable, until the
// context ends.
func (d *dispatcher) sweepUntil(ctx context.Context) {
	for t := time.NewTicker(sweepEvery); ; {
		if err := d.sweep(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("tickets of workers that died could not be looked for; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// sweep frees the tickets that dealers hold who live no more. One whose connection was lost and who lives may lose its
// ticket: then two work for one tenant, which does no harm.
func (d *dispatcher) sweep(ctx context.Context) error {
	if d.lease == nil || d.lease.Ping(ctx) != nil {
		d.unregister()
		d.lease = nil
		if err := d.register(ctx); err != nil {
			return err
		}
	}
	queues := slices.Collect(maps.Keys(d.work))
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT DISTINCT attempted_by[cardinality(attempted_by)] FROM river_job
			WHERE state = 'running' AND queue = ANY($1)`, queues)
		if err != nil {
			return err
		}
		holders, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, h := range holders {
			if h == d.id {
				continue
			}
			var dead bool
			if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(`+lockSQL+`)`, h).Scan(&dead); err != nil {
				return err
			}
			if !dead {
				continue
			}
			freed, err := tx.Exec(ctx, `UPDATE river_job SET state = 'available', scheduled_at = now(), attempt = 0
			  WHERE state = 'running' AND queue = ANY($1) AND attempted_by[cardinality(attempted_by)] = $2`, queues, h)
			if err != nil {
				return err
			}
			if n := freed.RowsAffected(); n > 0 {
				d.log.Warn("a worker died; others take its turns", "worker", h, "tickets", n)
			}
		}
		return nil
	})
}
