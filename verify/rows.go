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

// Finding is something that does not stand as it was sealed: an event, or a place in a tenant's log.
type Finding struct {
	Tenant   uuid.UUID `json:"tenant_id"`
	Event    uuid.UUID `json:"event_id,omitzero"`
	Location string    `json:"place,omitempty"` // in the log, where it is no event
	Problem  string    `json:"what"`
}

// Report is what a reading of the rows found.
type Report struct {
	Events  int64 `json:"events"`  // events that match their seal
	Changed int64 `json:"differ"`  // events whose content is not what was sealed
	Missing int64 `json:"missing"` // seals whose event is gone
	Extra   int64 `json:"extra"`   // events that have no seal
}

// OK reports whether nothing was found.
func (r Report) OK() bool { return r.Changed+r.Missing+r.Extra == 0 }

// Rows says which sealed rows to read, and who hears of them.
type Rows struct {
	// Tenant is whose; nil is everybody's.
	Tenant *uuid.UUID
	// Since, when not nil, leaves out what was sealed before it and itself, in the order of (epoch, xid, id).
	Since *RowsSince
	// Each, when not nil, hears of each seal, from several goroutines at once; the worker's number tells them apart.
	Each func(worker int, s *logstore.SealedEvent)
	// Found hears of each event that does not match, one at a time.
	Found func(Finding)
	// Progress, when not nil, hears how much was read, of how much.
	Progress func(done, total int64)
}

// RowsSince is an event's position in the order of sealing.
type RowsSince struct {
	Epoch int16
	XID   uint64
	ID    uuid.UUID
}

// workers is how many connections read: as many as small machines have cores.
const workers = 2

// Events re-reads every stored event, of one tenant or of all when tenant is nil, recomputes every
// commitment and leaf, and calls found for each event that differs. Memory stays flat.
func Events(ctx context.Context, db *tenantdb.Evidence, tenant *uuid.UUID, found func(Finding)) (r Report, err error) {
	err = db.Snapshots(ctx, workers, func(txs []pgx.Tx) error {
		r, err = Rows{Tenant: tenant, Found: found}.Read(ctx, txs)
		return err
	})
	return r, err
}

// A join of the whole tables would sort or spill them.
const rowsSQL = `SELECT ` + logstore.SealedColumns + ` FROM (SELECT * FROM audit_seals s WHERE `
const rowsEnd = `) s LEFT JOIN audit_events e ON e.tenant_id = s.tenant_id AND e.id = s.event_id`

// chunk is a part of the seals: which, and its arguments.
type chunk struct {
	where  string
	args   []any
	blocks []int64 // of the seals' table, from and before; nil for a chunk by keys
}

// Read reads in the given transactions, which see the same instant.
func (o Rows) Read(ctx context.Context, txs []pgx.Tx) (r Report, err error) {
	chunks, err := o.chunks(ctx, txs[0])
	if err != nil {
		return r, fmt.Errorf("verify the trail: %w", err)
	}
	// A chunk by keys looks each event up: what the planner would rather hash is the whole table.
	settings := `SET LOCAL enable_mergejoin = off; SET LOCAL jit = off; SET LOCAL work_mem = '16MB'`
	if o.Since != nil || o.Tenant != nil {
		settings += `; SET LOCAL enable_hashjoin = off`
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // Found and the report are one goroutine's at a time
	missing := map[uuid.UUID]int64{}
	told := o.Found
	o.Found = func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		if f.Problem == logstore.EventMissing {
			missing[f.Tenant]++
		}
		told(f)
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
				if o.Progress != nil {
					o.Progress(int64(i+1), int64(len(chunks)))
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

// read reads a chunk, and looks up by their keys those events that do not lie where they should.
func (o Rows) read(ctx context.Context, tx pgx.Tx, worker int, c chunk) (r Report, err error) {
	if c.blocks == nil {
		return r, o.take(ctx, tx, worker, rowsSQL+c.where+rowsEnd, c.args, &r, nil)
	}
	beside, err := c.outOfPlace(ctx, tx)
	if err != nil {
		return r, err
	}
	var elsewhere, tenants []uuid.UUID
	if err := o.take(ctx, tx, worker, rowsSQL+c.where+besideEnd, append(c.args, beside...), &r,
		func(s *logstore.SealedEvent) {
			tenants, elsewhere = append(tenants, s.TenantID), append(elsewhere, s.ID)
		}); err != nil || len(elsewhere) == 0 {
		return r, err
	}
	if _, err := tx.Exec(ctx, `SET LOCAL enable_hashjoin = off`); err != nil {
		return r, err
	}
	if err := o.take(ctx, tx, worker, elsewhereSQL, []any{tenants, elsewhere}, &r, nil); err != nil {
		return r, err
	}
	_, err = tx.Exec(ctx, `SET LOCAL enable_hashjoin = on`)
	return r, err
}

const (
	// besideEnd joins with the events in a stretch of their table's blocks.
	besideEnd = `) s
	  LEFT JOIN (SELECT * FROM audit_events WHERE ctid >= $3::text::tid AND ctid < $4::text::tid) e
	    ON e.tenant_id = s.tenant_id AND e.id = s.event_id`
	// elsewhereSQL looks seals and events up by their keys.
	elsewhereSQL = `SELECT ` + logstore.SealedColumns +
		` FROM unnest($1::uuid[], $2::uuid[]) k (t, i) JOIN audit_seals s ON s.tenant_id = k.t AND s.event_id = k.i
	  LEFT JOIN audit_events e ON e.tenant_id = k.t AND e.id = k.i`
)

//go:embed sql/out_of_place.sql
var outOfPlaceSQL string

// outOfPlace is the stretch of the events' table that the chunk's events should lie in: both tables are written in the
// same order, so it reaches from the events of the chunk's first block to those of its last.
func (c chunk) outOfPlace(ctx context.Context, tx pgx.Tx) ([]any, error) {
	var low, high int64
	err := tx.QueryRow(ctx,
		outOfPlaceSQL,
		tupleID(c.blocks[0]), tupleID(c.blocks[0]+1), tupleID(c.blocks[1]-1), tupleID(c.blocks[1])).Scan(&low, &high)
	if high-low > maxOutOfPlace { // they lie all over: look each up
		high = low
	}
	return []any{tupleID(low), tupleID(high + 1)}, err
}

func tupleID(block int64) string { return fmt.Sprintf("(%d,0)", block) }

// take reads rows and counts what they hold; with missing, a seal whose event is not among them is left to it.
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
	return erased.contains(ctx, tx, func(f Finding) {
		r.Events, r.Changed = r.Events-1, r.Changed+1
		o.Found(f)
	})
}

// The sizes of a chunk.
const (
	chunkBlocks   = 256    // of the seals' table, some five thousand seals
	maxOutOfPlace = 4096   // blocks of the events' table that may lie beside them
	chunkRows     = 10_000 // of a tenant, or since a transaction
)

// chunks shares the seals out: the whole table by its blocks, a part of it by keys.
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

// sinceSQL are the seals behind a place, of all tenants or one. The index knows epoch and xid.
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

// unsealed finds events that have no seal: by counting first, which is quick, and by looking where the counts
// do not agree. missing are the seals without an event that were found, by tenant.
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
			case o.Since != nil: // otherwise it was read with its seal
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

// count is how many rows each tenant has in a table.
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
