package verify

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// Finding is a difference from what was sealed, in an event or in a tenant's log.
type Finding struct {
	Tenant   uuid.UUID `json:"tenant_id"`
	Event    uuid.UUID `json:"event_id,omitzero"`
	Location string    `json:"place,omitempty"` // the place in the log, if it is not an event
	Problem  string    `json:"what"`
}

// Report counts what a verification found.
type Report struct {
	Events  int64 `json:"events"`  // events that match their seal
	Changed int64 `json:"differ"`  // events whose content is not what was sealed
	Missing int64 `json:"missing"` // seals without an event
	Extra   int64 `json:"extra"`   // events without a seal
}

// OK reports whether no difference was found.
func (r Report) OK() bool { return r.Changed+r.Missing+r.Extra == 0 }

// Rows configures a verification: which seals to read, and the callbacks.
type Rows struct {
	// Tenant selects one tenant; nil means all.
	Tenant *uuid.UUID
	// Since, if not nil, selects only seals after this one, in the order of (epoch, xid, id).
	Since *RowsSince
	// Each, if not nil, is called with each seal, from several goroutines at once. worker identifies the goroutine.
	Each func(worker int, s *logstore.SealedEvent)
	// Found is called with each difference, one at a time.
	Found func(Finding)
	// Progress, if not nil, is called with the number of chunks read and their total.
	Progress func(done, total int64)
}

// RowsSince is a position in the order of sealing.
type RowsSince struct {
	Epoch int16
	XID   uint64
	ID    uuid.UUID
}

// workers is how many connections read at once: as many as a small machine has cores.
const workers = 2

// Events reads every stored event, of one tenant or, if tenant is nil, of all, recomputes every commitment and leaf,
// and calls found for each event that differs. Memory use does not depend on the number of events.
func Events(ctx context.Context, db *tenantdb.Evidence, tenant *uuid.UUID, found func(Finding)) (r Report, err error) {
	err = db.Snapshots(ctx, workers, func(txs []pgx.Tx) error {
		r, err = Rows{Tenant: tenant, Found: found}.Read(ctx, txs)
		return err
	})
	return r, err
}

// Seals are joined with events chunk by chunk: a join of whole tables would sort or spill to disk.
const rowsSQL = `SELECT ` + logstore.SealedColumns + ` FROM (SELECT * FROM audit_seals s WHERE `
const rowsEnd = `) s LEFT JOIN audit_events e ON e.tenant_id = s.tenant_id AND e.id = s.event_id`

// chunk is a part of the seals: a condition and its arguments.
type chunk struct {
	where  string
	args   []any
	blocks []int64 // the range of blocks of audit_seals, end exclusive; nil for a chunk by keys
}

// Read reads in the given transactions, which must share one snapshot.
func (o Rows) Read(ctx context.Context, txs []pgx.Tx) (r Report, err error) {
	chunks, err := o.chunks(ctx, txs[0])
	if err != nil {
		return r, fmt.Errorf("verify the trail: %w", err)
	}
	// For a chunk by keys each event is looked up by its key; a hash join would read the whole table.
	settings := `SET LOCAL enable_mergejoin = off; SET LOCAL jit = off; SET LOCAL work_mem = '16MB'`
	if o.Since != nil || o.Tenant != nil {
		settings += `; SET LOCAL enable_hashjoin = off`
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // guards Found, Progress, done and the report
	done := int64(0)
	missing := map[uuid.UUID]int64{}
	report := o.Found
	o.Found = func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		if f.Problem == logstore.EventMissing {
			missing[f.Tenant]++
		}
		report(f)
	}
	var next atomic.Int64
	var group sync.WaitGroup
	for worker, tx := range txs {
		group.Go(func() {
			if _, err := tx.Exec(ctx, settings); err != nil {
				cancel(err)
				return
			}
			for i := int(next.Add(1)) - 1; i < len(chunks) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				part, err := o.read(ctx, tx, worker, chunks[i])
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				r.Events, r.Changed, r.Missing = r.Events+part.Events, r.Changed+part.Changed, r.Missing+part.Missing
				if done++; o.Progress != nil {
					o.Progress(done, int64(len(chunks)))
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return r, fmt.Errorf("verify the trail: %w", err)
	}
	if err := o.unsealed(ctx, txs, missing, &r); err != nil {
		return r, fmt.Errorf("verify the trail: look for events without a seal: %w", err)
	}
	return r, nil
}

// read verifies a chunk. Events that are not in the expected block range of audit_events are looked up by their keys.
func (o Rows) read(ctx context.Context, tx pgx.Tx, worker int, c chunk) (r Report, err error) {
	if c.blocks == nil {
		return r, o.take(ctx, tx, worker, rowsSQL+c.where+rowsEnd, c.args, &r, nil)
	}
	blocks, err := c.eventBlocks(ctx, tx)
	if err != nil {
		return r, err
	}
	var ids, tenants []uuid.UUID
	missing := func(s *logstore.SealedEvent) { tenants, ids = append(tenants, s.TenantID), append(ids, s.ID) }
	if err := o.take(ctx, tx, worker, rowsSQL+c.where+blockRangeEnd, append(c.args, blocks...), &r,
		missing); err != nil || len(ids) == 0 {
		return r, err
	}
	if _, err := tx.Exec(ctx, `SET LOCAL enable_hashjoin = off`); err != nil {
		return r, err
	}
	if err := o.take(ctx, tx, worker, byKeySQL, []any{tenants, ids}, &r, nil); err != nil {
		return r, err
	}
	_, err = tx.Exec(ctx, `SET LOCAL enable_hashjoin = on`)
	return r, err
}

const (
	// blockRangeEnd joins with the events in a block range of audit_events.
	blockRangeEnd = `) s
	  LEFT JOIN (SELECT * FROM audit_events WHERE ctid >= $3::text::tid AND ctid < $4::text::tid) e
	    ON e.tenant_id = s.tenant_id AND e.id = s.event_id`
	// byKeySQL looks seals and events up by their keys.
	byKeySQL = `SELECT ` + logstore.SealedColumns +
		` FROM unnest($1::uuid[], $2::uuid[]) k (t, i) JOIN audit_seals s ON s.tenant_id = k.t AND s.event_id = k.i
	  LEFT JOIN audit_events e ON e.tenant_id = k.t AND e.id = k.i`
)

//go:embed sql/event_blocks.sql
var eventBlocksSQL string

// eventBlocks returns the block range of audit_events in which the chunk's events should be. Both tables are written in
// the same order, so the range reaches from the events of the chunk's first block to those of its last.
func (c chunk) eventBlocks(ctx context.Context, tx pgx.Tx) ([]any, error) {
	var low, high int64
	err := tx.QueryRow(ctx,
		eventBlocksSQL,
		tupleID(c.blocks[0]), tupleID(c.blocks[0]+1), tupleID(c.blocks[1]-1), tupleID(c.blocks[1])).Scan(&low, &high)
	if high-low > maxEventBlocks { // scattered: look each event up by its key
		high = low
	}
	return []any{tupleID(low), tupleID(high + 1)}, err
}

func tupleID(block int64) string { return fmt.Sprintf("(%d,0)", block) }

// take verifies rows and counts the results. If missing is not nil, it is called with seals without an event, which are
// not counted.
func (o Rows) take(ctx context.Context, tx pgx.Tx, worker int, sql string, args []any, r *Report,
	missing func(*logstore.SealedEvent)) error {
	rows, err := tx.Query(ctx, sql, append([]any{logstore.Binary()}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var s logstore.SealedEvent
	erased := erasureSet{}
	for rows.Next() {
		if err := s.Scan(rows); err != nil {
			return err
		}
		if missing != nil && !s.Stored {
			missing(&s)
			continue
		}
		if o.Each != nil {
			o.Each(worker, &s)
		}
		what := s.Difference()
		switch {
		case what == "":
			r.Events++
			if fields := s.Salts.Erased(); fields != 0 {
				erased.add(&s, fields)
			}
			continue
		case !s.Stored:
			r.Missing++
		default:
			r.Changed++
		}
		o.Found(Finding{Tenant: s.TenantID, Event: s.ID, Problem: what})
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return erased.checkActs(ctx, tx, func(f Finding) {
		r.Events, r.Changed = r.Events-1, r.Changed+1
		o.Found(f)
	})
}

// Sizes of a chunk.
const (
	chunkBlocks    = 256    // blocks of audit_seals: some 5,000 seals
	maxEventBlocks = 4096   // blocks of audit_events that are read for a chunk
	chunkRows      = 10_000 // seals in a chunk by keys
)

// chunks splits the seals: the whole table by blocks, a part of it by keys.
func (o Rows) chunks(ctx context.Context, tx pgx.Tx) (all []chunk, err error) {
	switch {
	case o.Since != nil:
		return o.sinceChunks(ctx, tx)
	case o.Tenant != nil:
		return o.tenantChunks(ctx, tx)
	}
	var blocks int64
	if err := tx.QueryRow(ctx, `SELECT pg_relation_size('audit_seals') / current_setting('block_size')::int`).
		Scan(&blocks); err != nil {
		return nil, err
	}
	for b := int64(0); b < blocks; b += chunkBlocks {
		end := min(b+chunkBlocks, blocks)
		all = append(all, chunk{`ctid >= $1::text::tid AND ctid < $2::text::tid`, []any{tupleID(b), tupleID(end)},
			[]int64{b, end}})
	}
	return all, nil
}

func (o Rows) tenantChunks(ctx context.Context, tx pgx.Tx) (all []chunk, err error) {
	rows, err := tx.Query(ctx,
		`SELECT event_id FROM (SELECT event_id, row_number() OVER (ORDER BY event_id) AS n FROM audit_seals
		WHERE tenant_id = $1) s WHERE n % $2 = 1 ORDER BY n`, *o.Tenant, chunkRows)
	if err != nil {
		return nil, err
	}
	begins, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	for i, id := range begins {
		c := chunk{where: `tenant_id = $1 AND event_id >= $2`, args: []any{*o.Tenant, id}}
		if i+1 < len(begins) {
			c.where, c.args = c.where+` AND event_id < $3`, append(c.args, begins[i+1])
		}
		all = append(all, c)
	}
	return all, err
}

// sinceSQL selects the seals after a position, of all tenants or one. The first condition is for the index on (epoch,
// xid).
const sinceSQL = `(epoch, xid) >= ($1, $2::text::xid8) AND (epoch, xid, event_id) > ($1, $2::text::xid8, $4)
	  AND ($3::uuid IS NULL OR tenant_id = $3)`

func (o Rows) sinceChunks(ctx context.Context, tx pgx.Tx) (all []chunk, err error) {
	type key struct {
		epoch int16
		xid   string
		id    uuid.UUID
	}
	args := []any{o.Since.Epoch, fmt.Sprint(o.Since.XID), o.Tenant, o.Since.ID}
	rows, err := tx.Query(ctx,
		`SELECT epoch, xid::text, event_id
	  FROM (SELECT epoch, xid, event_id, row_number() OVER (ORDER BY epoch, xid, event_id) AS n
	          FROM audit_seals WHERE `+sinceSQL+`) s WHERE n % $5 = 1 ORDER BY n`, append(args, chunkRows)...)
	if err != nil {
		return nil, err
	}
	begins, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k key, err error) {
		return k, row.Scan(&k.epoch, &k.xid, &k.id)
	})
	for i, k := range begins {
		c := chunk{where: sinceSQL + ` AND (epoch, xid, event_id) >= ($5, $6::text::xid8, $7)`,
			args: append(args[:4:4], k.epoch, k.xid, k.id)}
		if i+1 < len(begins) {
			next := begins[i+1]
			c.where, c.args = c.where+` AND (epoch, xid, event_id) < ($8, $9::text::xid8, $10)`,
				append(c.args, next.epoch, next.xid, next.id)
		}
		all = append(all, c)
	}
	return all, err
}

// unsealed finds events without a seal. It compares the tenants' counts first, which is fast, and searches only where
// they differ. missing is the number of seals without an event that were found, by tenant.
func (o Rows) unsealed(ctx context.Context, txs []pgx.Tx, missing map[uuid.UUID]int64, r *Report) error {
	var counted [2]map[uuid.UUID]int64
	var failed [2]error
	var group sync.WaitGroup
	for i, table := range []string{"audit_events", "audit_seals"} {
		if i < len(txs) {
			group.Go(func() { counted[i], failed[i] = o.count(ctx, txs[i], table) })
		} else {
			group.Wait()
			counted[i], failed[i] = o.count(ctx, txs[0], table)
		}
	}
	group.Wait()
	if err := errors.Join(failed[:]...); err != nil {
		return err
	}
	events, seals, tx := counted[0], counted[1], txs[0]
	var differ []uuid.UUID
	for tenant, n := range events {
		if n+missing[tenant] != seals[tenant] {
			differ = append(differ, tenant)
		}
	}
	for tenant, n := range seals {
		if _, some := events[tenant]; !some && missing[tenant] != n {
			differ = append(differ, tenant)
		}
	}
	for _, tenant := range differ {
		rows, err := tx.Query(ctx,
			`SELECT coalesce(e.id, s.event_id), e.id IS NULL FROM (SELECT id FROM audit_events WHERE tenant_id = $1) e
			  FULL JOIN (SELECT event_id FROM audit_seals WHERE tenant_id = $1) s ON e.id = s.event_id
			 WHERE e.id IS NULL OR s.event_id IS NULL`, tenant)
		if err != nil {
			return err
		}
		var id uuid.UUID
		var noEvent bool
		if _, err := pgx.ForEachRow(rows, []any{&id, &noEvent}, func() error {
			switch {
			case !noEvent:
				r.Extra++
				o.Found(Finding{Tenant: tenant, Event: id, Problem: "has no seal"})
			case o.Since != nil: // otherwise take has reported it
				r.Missing++
				o.Found(Finding{Tenant: tenant, Event: id, Problem: logstore.EventMissing})
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// count returns how many rows each tenant has in a table.
func (o Rows) count(ctx context.Context, tx pgx.Tx, table string) (map[uuid.UUID]int64, error) {
	rows, err := tx.Query(ctx,
		`SELECT tenant_id, count(*) FROM `+table+` WHERE $1::uuid IS NULL OR tenant_id = $1 GROUP BY tenant_id`,
		o.Tenant)
	if err != nil {
		return nil, err
	}
	all := map[uuid.UUID]int64{}
	var tenant uuid.UUID
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&tenant, &n}, func() error { all[tenant] = n; return nil })
	return all, err
}
