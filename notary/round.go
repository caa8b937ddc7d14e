package notary

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// Round sequences new events, makes and signs checkpoints, and returns whether more events wait. Without new events it
// does nothing. After an error, nothing is signed that the database does not hold, and the next round starts from the
// database's state.
func (n *Notary) Round(ctx context.Context) (more bool, err error) {
	n.metrics.rounds.Add(1)
	defer func() {
		n.metrics.done(err)
		n.tellRefusal(ctx, err)
		if err != nil {
			n.forget()
		}
	}()
	n.witnesses.mu.Lock()
	err = n.witnesses.fork
	n.witnesses.mu.Unlock()
	if err != nil {
		return false, err
	}
	if n.lease == nil {
		take := n.c.DB.Lease
		if n.unleased {
			take = n.c.DB.Unleased
		}
		if n.lease, err = take(ctx); err != nil {
			return false, err
		}
	}
	if err := n.lease.Held(ctx); err != nil {
		return false, err
	}
	if n.super == nil {
		if err := n.start(ctx); err != nil {
			return false, err
		}
		if err := n.cosignFirst(ctx); err != nil {
			return false, err
		}
	}
	if err := n.checkCatalog(ctx); err != nil {
		return false, err
	}
	r := roundState{n: n, at: n.c.Clock().Truncate(time.Microsecond).UTC()}
	if err := n.lease.Tx(ctx, func(tx pgx.Tx) error { return r.sequence(ctx, tx) }); err != nil {
		return false, fmt.Errorf("notary: sequence events: %w", err)
	}
	// Sign after the commit: everything signed is in the database, and then in the anchor.
	if err := n.sign(ctx); err != nil {
		return false, err
	}
	n.waiting = r.waiting
	n.metrics.add(r.events, r.oldest, n.super.size(), &r.waiting)
	r.overdue()
	if n.c.Progress != nil && r.more {
		n.c.Progress(r.events)
	}
	n.shrink()
	return r.more, nil
}

// checkCatalog compares the database's catalog with the migrations, at the start and every catalogEvery.
func (n *Notary) checkCatalog(ctx context.Context) error {
	if !n.lastScan.IsZero() && time.Since(n.lastScan) < catalogEvery {
		return nil
	}
	c, err := n.c.DB.Catalog(ctx)
	if err != nil {
		return fmt.Errorf("notary: %w", err)
	}
	n.lastScan, n.catalog = time.Now(), c.Differences
	n.metrics.changed.Store(int64(len(c.Differences)))
	for _, d := range c.Differences {
		n.c.Logger.Error("notary: the database was changed: " + d.String())
	}
	return nil
}

// roundState is the state of one round.
type roundState struct {
	n         *Notary
	at        time.Time
	horizon   uint64
	events    int64
	oldest    time.Time // recorded_at of the oldest event of the round
	more      bool
	touched   []*logState
	adoptions map[uuid.UUID]logstore.Adoption
	waiting   logstore.Waiting // seals beyond the horizon, or that can't enter a log
}

// sequence reads the new seals below the horizon, appends them to their logs, and stores heads and tiles.
func (r *roundState) sequence(ctx context.Context, tx pgx.Tx) error {
	n := r.n
	if _, err := tx.Exec(ctx, tenantdb.Nested); err != nil {
		return err
	}
	// Another notary may have written since the last round.
	var size int64
	var horizon uint64
	if err := tx.QueryRow(ctx, `SELECT coalesce((SELECT max(size) FROM audit_heads
		WHERE tenant_id = $1), 0), pg_snapshot_xmin(pg_current_snapshot())::text::bigint`, logstore.Operator).
		Scan(&size, &horizon); err != nil {
		return err
	}
	if size != n.super.size() {
		return fmt.Errorf("the super-log has %d leaves, not %d: another notary wrote", size, n.super.size())
	}
	r.horizon = horizon
	var err error
	if r.adoptions, err = logstore.ReadAdoptions(ctx, tx); err != nil {
		return err
	}
	n.super.begin()
	if err := r.keys(ctx, tx); err != nil {
		return err
	}
	if err := r.read(ctx, tx); err != nil {
		return err
	}
	if err := r.heartbeats(ctx, tx); err != nil {
		return err
	}
	if len(r.touched) == 0 && n.super.size() == size {
		return nil // nothing new
	}
	return r.store(ctx, tx)
}

// newSQL returns all rows of equal (xid, id): the limit never splits one id of two tenants.
const newSQL = `SELECT ` + logstore.SealedColumns + `
  FROM (SELECT *
          FROM audit_seals s
         WHERE s.epoch = $1 AND (s.xid, s.event_id) > ($2::text::xid8, $3) AND s.xid < $4::text::xid8
           AND (s.epoch, s.xid) >= ($1, $2::text::xid8)
         ORDER BY s.epoch, s.xid, s.event_id FETCH FIRST $5 ROWS WITH TIES) s
  LEFT JOIN audit_events e ON e.tenant_id = s.tenant_id AND e.id = s.event_id
 ORDER BY s.epoch, s.xid, s.event_id`

// read appends the next seals to their logs.
func (r *roundState) read(ctx context.Context, tx pgx.Tx) error {
	n := r.n
	if n.scanned.Segment < logstore.SegmentOf(n.epochNow) {
		if err := r.readEarlierEpochs(ctx, tx); err != nil || r.more {
			return err
		}
	}
	rows, err := tx.Query(ctx, newSQL, logstore.Binary(), n.epochNow, fmt.Sprint(n.scanned.XID), n.scanned.ID,
		fmt.Sprint(r.horizon), maxRound)
	if err != nil {
		return err
	}
	batch, err := r.collect(rows)
	if err != nil {
		return err
	}
	r.more = len(batch) >= maxRound
	if err := r.append(ctx, tx, batch); err != nil || r.more {
		return err
	}
	return r.remaining(ctx, tx)
}

// remaining counts the seals that this round left: usually none, or those of the last moment.
func (r *roundState) remaining(ctx context.Context, tx pgx.Tx) (err error) {
	if r.waiting, err = logstore.CountWaiting(ctx, tx, r.n.scanned, nil, r.n.c.IntegrateWithin); err != nil {
		return err
	}
	return r.reportHeld(ctx, tx)
}

// overdue logs which events should be in the log and are not, at most every heldAfter.
func (r *roundState) overdue() {
	if r.waiting.OK() || r.at.Sub(r.n.waitLogged) < heldAfter {
		return
	}
	r.n.waitLogged = r.at
	r.n.c.Logger.Error("notary: " + r.waiting.String())
}

// collect reads rows of seals and verifies each event.
func (r *roundState) collect(rows pgx.Rows) (batch []newLeaf, err error) {
	defer rows.Close()
	var s logstore.SealedEvent
	for rows.Next() {
		if err := s.Scan(rows); err != nil {
			return nil, err
		}
		l, err := r.examine(&s)
		if err != nil {
			return nil, err
		}
		batch = append(batch, l)
	}
	return batch, rows.Err()
}

// newLeaf is a verified seal on its way into its log.
type newLeaf struct {
	tenant uuid.UUID
	at     logstore.Position
	hash   ledger.Hash
}

// examine verifies an event against its seal. One that differs still enters the log as sealed, which proves the
// difference for good, and is logged as an error.
func (r *roundState) examine(s *logstore.SealedEvent) (newLeaf, error) {
	if s.Leaf == (ledger.Hash{}) {
		return newLeaf{},
			fmt.Errorf("the seal of event %s of tenant %s is malformed: no event after it can be sequenced",
				uuid.UUID(s.ID), uuid.UUID(s.TenantID))
	}
	if what := s.Difference(); what != "" {
		r.n.metrics.mismatch()
		r.n.c.Logger.Error("notary: event "+what+": it enters the log as it was sealed", "event", uuid.UUID(s.ID),
			"tenant", uuid.UUID(s.TenantID))
	}
	what := logstore.CheckDate(r.n.marks, s, r.at)
	if what == "" && s.Mode == ledger.SealedOnAdoption {
		what = logstore.CheckAdoption(r.adoptions, s)
	}
	if what != "" {
		r.n.metrics.misdated.Add(1)
		r.n.c.Logger.Error("notary: event "+what+": it enters the log as it was sealed", "event", uuid.UUID(s.ID),
			"tenant", uuid.UUID(s.TenantID))
	}
	if at := s.RecordedAt.Time(); r.oldest.IsZero() || at.Before(r.oldest) {
		r.oldest = at
	}
	return newLeaf{s.TenantID, logstore.PositionOf(s.Epoch, s.XID, s.ID), s.Leaf}, nil
}

func (r *roundState) append(ctx context.Context, tx pgx.Tx, batch []newLeaf) error {
	n := r.n
	for _, leaf := range batch {
		if leaf.tenant == logstore.Operator {
			n.c.Logger.Error("notary: an event has the super-log's tenant id: it enters no log",
				"event", leaf.at.ID)
			n.scanned = leaf.at
			continue
		}
		l, err := r.log(ctx, tx, leaf.tenant)
		if err != nil {
			return err
		}
		if err := l.append(leaf.hash, leaf.at, leaf.at.ID[:]); err != nil {
			return err
		}
		n.scanned = leaf.at
	}
	r.events += int64(len(batch))
	return nil
}

// log returns a tenant's log, from the cache or the database, and marks it as changed in this round.
func (r *roundState) log(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (*logState, error) {
	n := r.n
	l := n.logs[tenant]
	if l == nil {
		var err error
		if l, err = load(ctx, tx, tenant); err != nil {
			return nil, err
		}
		if err := n.checkHead(ctx, tx, l); err != nil {
			return nil, err
		}
		n.logs[tenant] = l
	}
	if now := n.metrics.rounds.Load(); l.used != now {
		l.used = now
		l.begin()
		r.touched = append(r.touched, l)
	}
	return l, nil
}

// heartbeats marks the logs whose heartbeat is due.
func (r *roundState) heartbeats(ctx context.Context, tx pgx.Tx) error {
	for tenant, at := range r.n.heartbeats {
		if r.at.Sub(at) >= r.n.c.Heartbeat {
			if _, err := r.log(ctx, tx, tenant); err != nil {
				return err
			}
		}
	}
	return nil
}

// keys adds our key to the super-log before it signs anything, and handles a rotation.
func (r *roundState) keys(ctx context.Context, tx pgx.Tx) error {
	n := r.n
	known, err := latestKey(ctx, tx)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	// Read once, so that one round sees one state of a rotation.
	var nextErr error
	if n.next, nextErr = n.c.Keys.Next(); nextErr != nil {
		return nextErr
	}
	if n.next != nil && err == nil && known.Equal(n.next.Key) {
		return nil // logged already: a kill came before the key file was replaced
	}
	ours := n.signer.Key
	if n.next != nil && (err != nil || known.Equal(ours)) {
		ours = n.next.Key
	}
	if err == nil && known.Equal(ours) {
		return nil
	}
	if err == nil && !known.Equal(n.signer.Key) {
		return fmt.Errorf("%w: the log was last signed with key %s, and the key here is %s: give the notary its own "+
			"key, or rotate with `konstruct notary key rotate` where that key is", logstore.ErrRefused, known,
			n.signer.Key)
	}
	anchor := n.super.size()
	if err := n.super.append(ledger.LeafHash(ledger.KeyLeaf(ledger.MicrosOf(r.at), ours)), logstore.Position{},
		nil); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit_keys (tenant_id, anchor, verifier, at) VALUES ($1, $2, $3, $4)`,
		logstore.Operator,
		anchor, ours.String(), r.at)
	return err
}

func latestKey(ctx context.Context, tx pgx.Tx) (ledger.Key, error) {
	var vkey string
	if err := tx.QueryRow(ctx, `SELECT verifier FROM audit_keys WHERE tenant_id = $1 ORDER BY anchor DESC LIMIT 1`,
		logstore.Operator).Scan(&vkey); err != nil {
		return ledger.Key{}, err
	}
	return ledger.ParseKey(vkey)
}

// store writes the changed logs' heads, each also a leaf of the super-log, and all tiles. It needs a few statements,
// whatever the number of logs.
func (r *roundState) store(ctx context.Context, tx pgx.Tx) error {
	n := r.n
	slices.SortFunc(r.touched, func(a, b *logState) int { return bytes.Compare(a.tenant[:], b.tenant[:]) })
	var heads []headRow
	for _, l := range r.touched {
		if err := l.lift(ctx, tx); err != nil {
			return err
		}
		root, err := l.root()
		if err != nil {
			return err
		}
		h := headRow{l: l, root: root, anchor: n.super.size(), at: laterOf(l.at, r.at)}
		if _, err := rand.Read(h.salt[:]); err != nil {
			return err
		}
		c := ledger.Checkpoint{Origin: ledger.Origin(n.signer.Name, l.tenant), Size: l.size(), Root: root}
		if err := n.super.append(ledger.LeafHash(ledger.HeadLeaf(ledger.MicrosOf(h.at), h.salt, c)),
			logstore.Position{},
			nil); err != nil {
			return err
		}
		l.at = h.at
		n.heartbeats[l.tenant] = h.at
		heads = append(heads, h)
	}
	if err := n.super.lift(ctx, tx); err != nil {
		return err
	}
	root, err := n.super.root()
	if err != nil {
		return err
	}
	n.super.last, n.super.at = n.scanned, r.at
	own := logstore.RoundMark{At: r.at, Epoch: int16((n.scanned.Segment + 1) / 2), Last: n.scanned}
	if err := tx.QueryRow(ctx, `SELECT pg_current_xact_id()::text::bigint`).Scan(&own.XID); err != nil {
		return err
	}
	if n.marks = append(n.marks, own); len(n.marks) > 2*logstore.KeptMarks {
		n.marks = slices.Clone(n.marks[logstore.KeptMarks:])
	}
	heads = append(heads, headRow{l: n.super, root: root, anchor: n.super.size() - 1, at: r.at})
	return insertRows(ctx, tx, heads)
}

// laterOf keeps a log's heads in order of time when the clock steps back.
func laterOf(last, now time.Time) time.Time {
	if last.After(now) {
		return last
	}
	return now
}
