// Package verify reads and recomputes events, seals, logs, checkpoints and keys. It proves single events, checks
// receipts, and writes the evidence bundles that an outsider verifies. It only reads, as konstruct_notary. It must not
// know how the notary signs, the knowledge base, or HTTP.
package verify

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
)

// Anchor holds the last signed checkpoint outside the database. Every notary.Anchor implements it.
type Anchor interface {
	// Load returns the checkpoint and its version; both are empty when there is none yet.
	Load(ctx context.Context) (note, version string, err error)
	// String returns the anchor's location.
	String() string
}

// Options selects what to verify, and against what.
type Options struct {
	// Tenant is the tenant to verify; nil is all of them, and the super-log.
	Tenant *uuid.UUID
	// Key is the notary's key from a trusted source; nil trusts the keys in the database.
	Key *ledger.Key
	// Anchor holds the last signed checkpoint; nil skips the comparison.
	Anchor Anchor
	// IntegrateWithin is the time within which a sealed event must be in its log; 0 is ledger.IntegrateWithin.
	IntegrateWithin time.Duration
	// Floor is the least period of a retention rule, in days, whatever the database says; 0 is none.
	Floor int
	// Since is the state of an earlier successful verification: leaves that the logs had then are not read again. Nil
	// reads everything.
	Since *State
	// OnFinding is called for each problem, by one goroutine at a time.
	OnFinding func(Finding)
	// Progress, when not nil, is called with what is read, the number of items read and their total, by one goroutine
	// at a time. For each kind of item the number only rises.
	Progress func(what string, done, total int64)
}

// State is the point up to which a verification succeeded.
type State struct {
	At      time.Time   `json:"at"`
	FullAt  time.Time   `json:"full_at"` // when everything was last read
	Size    int64       `json:"super_log_size"`
	Root    ledger.Hash `json:"super_log_root"`
	Segment int32       `json:"segment"`
	XID     uint64      `json:"xid"`
	ID      uuid.UUID   `json:"event_id"`
}

func (s *State) position() logstore.Position {
	return logstore.Position{Segment: s.Segment, XID: s.XID, ID: s.ID}
}

// Result is the result of a verification.
type Result struct {
	Report
	Logs        int64 `json:"logs"`
	Leaves      int64 `json:"leaves"`      // in the logs
	Deleted     int64 `json:"deleted"`     // of them, those whose events were deleted under retention
	Checkpoints int64 `json:"checkpoints"` // signed, each recomputed from the leaves before it
	// leaves not read again: the logs had them at Since
	NotRead int64 `json:"not_read"`
	// events that entered their log more than ledger.IntegrateWithin after they were recorded
	Late    int64            `json:"late"`
	LateBy  float64          `json:"late_by_seconds,omitzero"` // of the latest of them
	Waiting logstore.Waiting `json:"waiting"`                  // sealed, and not in a log yet
	// problems of logs, checkpoints, keys or the anchor
	Broken   int64     `json:"broken"`
	SignedAt time.Time `json:"signed_at,omitzero"`
	Anchor   string    `json:"anchor"` // the result of the comparison with the anchor
	State    *State    `json:"-"`      // for the next verification's Since; nil after a problem
}

// OK reports whether no problem was found.
func (v *Result) OK() bool { return v.Report.OK() && v.Broken == 0 }

// verifier is a verification in progress.
type verifier struct {
	Options
	Result
	mu          sync.Mutex
	keys        []logstore.DatedKey
	scanned     logstore.Position // the position up to which the notary has sequenced seals
	since       logstore.Position
	secret      cipher.Block
	name        string
	super       logstore.Head
	anchored    string                    // the anchor's checkpoint
	sums        []map[uuid.UUID]*leafSums // of the seals, by worker
	late        []lateness                // by worker
	marks       []logstore.RoundMark      // the history of rounds
	adoptions   map[uuid.UUID]logstore.Adoption
	now         time.Time               // the database's clock when the verification began
	logSums     map[uuid.UUID]*leafSums // of the leaves in the logs
	superSigned int64                   // size of the super-log's last signed checkpoint
}

// leafSums is a hash of a set of leaves, independent of their order: the sum of their CBC-MACs, a pseudorandom function
// of messages of equal length. The key is random for each verification: without it, nobody can construct two sets with
// one sum.
type leafSums [2]uint64

func (s *leafSums) add(key cipher.Block, id []byte, leaf *ledger.Hash) {
	var b [aes.BlockSize]byte
	copy(b[:], id)
	key.Encrypt(b[:], b[:])
	subtle.XORBytes(b[:], b[:], leaf[:16])
	key.Encrypt(b[:], b[:])
	subtle.XORBytes(b[:], b[:], leaf[16:])
	key.Encrypt(b[:], b[:])
	for i := range s {
		s[i] += binary.LittleEndian.Uint64(b[8*i:])
	}
}

func (s *leafSums) merge(o *leafSums) {
	for i := range s {
		s[i] += o[i]
	}
}

// Run reads and recomputes events, seals, tiles, heads, checkpoints and keys, and compares the super-log with the
// anchor. It is read-only; memory use is constant.
func Run(ctx context.Context, db *tenantdb.Evidence, o Options) (*Result, error) {
	v := &verifier{Options: o, logSums: map[uuid.UUID]*leafSums{}}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // it never fails
	var err error
	if v.secret, err = aes.NewCipher(secret[:]); err != nil {
		return nil, err
	}
	onFinding := o.OnFinding
	v.OnFinding = func(f Finding) { v.mu.Lock(); defer v.mu.Unlock(); onFinding(f) }
	if v.IntegrateWithin == 0 {
		v.IntegrateWithin = ledger.IntegrateWithin
	}
	if o.Anchor != nil {
		// Before the database is read, which then can't be behind the anchor.
		if v.anchored, _, err = o.Anchor.Load(ctx); err != nil {
			return nil, fmt.Errorf("verify: read the anchor: %w", err)
		}
	}
	catalog, err := db.Catalog(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	for _, d := range catalog.Differences {
		v.addProblem(logstore.Operator, "catalog", "%s", d)
	}
	err = db.Snapshots(ctx, 2, func(txs []pgx.Tx) error {
		if err := v.prepare(ctx, txs[0]); err != nil {
			return err
		}
		if err := v.rows(ctx, txs); err != nil {
			return err
		}
		if err := v.allLogs(ctx, txs); err != nil {
			return err
		}
		if err := v.reportOverdue(ctx, txs[0]); err != nil {
			return err
		}
		return v.compare(ctx, txs[0])
	})
	if err != nil {
		return nil, err
	}
	if v.OK() && o.Tenant == nil && v.super.Size > 0 {
		at := time.Now().UTC()
		full := at
		if o.Since != nil {
			full = o.Since.FullAt
		}
		v.State = &State{At: at, FullAt: full, Size: v.super.Size, Root: v.super.Root,
			Segment: v.scanned.Segment, XID: v.scanned.XID, ID: v.scanned.ID}
	}
	return &v.Result, nil
}

// addProblem reports a problem of something that is no event. The verification of one tenant names no other tenant.
func (v *verifier) addProblem(tenant uuid.UUID, place, format string, args ...any) {
	atomic.AddInt64(&v.Broken, 1)
	if v.Tenant != nil && tenant != *v.Tenant {
		tenant = logstore.Operator
	}
	v.OnFinding(Finding{Tenant: tenant, Location: place, Problem: fmt.Sprintf(format, args...)})
}

// prepare reads keys and the super-log's head.
func (v *verifier) prepare(ctx context.Context, tx pgx.Tx) error {
	var err error
	if v.keys, err = logstore.ReadKeys(ctx, tx); err != nil {
		return fmt.Errorf("verify: read the notary's keys: %w", err)
	}
	if len(v.keys) > 0 {
		v.name = v.keys[0].Name
	}
	if v.Key != nil && len(v.keys) > 0 {
		known := false
		for _, k := range v.keys {
			known = known || k.Key.Equal(*v.Key)
		}
		if !known {
			v.addProblem(logstore.Operator, "keys",
				"the key you gave, %s, is none of the log's: its key was replaced, or this is another notary's log",
				v.Key)
		}
	}
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(size), 0) FROM audit_checkpoints WHERE tenant_id = $1`,
		logstore.Operator).
		Scan(&v.superSigned); err != nil {
		return fmt.Errorf("verify: read the super-log's checkpoint: %w", err)
	}
	v.super, err = logstore.LastHead(ctx, tx, logstore.Operator)
	if err := logstore.IgnoreNoRows(err); err != nil {
		return fmt.Errorf("verify: read the super-log's head: %w", err)
	}
	v.scanned = v.super.Last
	if v.marks, err = logstore.ReadMarks(ctx, tx); err != nil {
		return fmt.Errorf("verify: read the history of rounds: %w", err)
	}
	if v.adoptions, err = logstore.ReadAdoptions(ctx, tx); err != nil {
		return fmt.Errorf("verify: read adoptions: %w", err)
	}
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&v.now); err != nil {
		return fmt.Errorf("verify: read the database's clock: %w", err)
	}
	if v.Since != nil {
		if v.Since.Size > v.super.Size {
			v.addProblem(logstore.Operator, "super-log",
				"it has %s, and had %d when it was verified last: the database was rolled back",
				plural.Of(v.super.Size, "leaf", "leaves"), v.Since.Size)
			v.Since = nil
			return nil
		}
		v.since = v.Since.position()
	}
	return nil
}

// rows verifies every event against its seal, and sums up the leaves that the logs should have.
func (v *verifier) rows(ctx context.Context, txs []pgx.Tx) (err error) {
	v.sums, v.late = make([]map[uuid.UUID]*leafSums, len(txs)), make([]lateness, len(txs))
	for i := range v.sums {
		v.sums[i] = map[uuid.UUID]*leafSums{}
	}
	r := Rows{Tenant: v.Tenant, Found: v.OnFinding, Each: v.addSeal}
	if v.Since != nil {
		r.Since = &RowsSince{Epoch: int16(v.since.Segment / 2), XID: v.since.XID, ID: v.since.ID}
	}
	if v.Progress != nil {
		r.Progress = func(done, total int64) { v.Progress("events", done, total) }
	}
	v.Report, err = r.Read(ctx, txs)
	for _, l := range v.late {
		v.Late += l.events
		v.LateBy = max(v.LateBy, l.by.Seconds())
	}
	return err
}

// lateness counts events that entered their log late: behind a long transaction, or without a running notary.
type lateness struct {
	events int64
	by     time.Duration
}

func (v *verifier) addSeal(worker int, s *logstore.SealedEvent) {
	at := logstore.PositionOf(s.Epoch, s.XID, s.ID)
	if !at.After(v.since) && v.Since != nil {
		return
	}
	v.checkTime(worker, s, at)
	if at.After(v.scanned) {
		return
	}
	v.sumOf(v.sums[worker], s.TenantID).add(v.secret, s.ID[:], &s.Leaf)
}

// checkTime verifies a seal's time against the log's history.
func (v *verifier) checkTime(worker int, s *logstore.SealedEvent, at logstore.Position) {
	entered := logstore.EnteredAt(v.marks, at)
	latest := entered
	if entered.IsZero() {
		latest = v.now
	}
	what := logstore.CheckDate(v.marks, s, latest)
	if what == "" && s.Mode == ledger.SealedOnAdoption {
		what = logstore.CheckAdoption(v.adoptions, s)
	}
	if what != "" {
		atomic.AddInt64(&v.Broken, 1)
		v.OnFinding(Finding{Tenant: s.TenantID, Event: s.ID, Problem: what})
		return
	}
	if by := entered.Sub(s.RecordedAt.Time()); !entered.IsZero() && by > ledger.IntegrateWithin+logstore.ClockSlack {
		l := &v.late[worker]
		l.events, l.by = l.events+1, max(l.by, by)
	}
}

// reportOverdue reports sealed events that should be in the log and are not.
func (v *verifier) reportOverdue(ctx context.Context, tx pgx.Tx) (err error) {
	if v.Waiting, err = logstore.CountWaiting(ctx, tx, v.scanned, v.Tenant, v.IntegrateWithin); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if !v.Waiting.OK() {
		tenant := logstore.Operator
		if v.Tenant != nil {
			tenant = *v.Tenant
		}
		v.addProblem(tenant, "waiting", "%s", &v.Waiting)
	}
	return nil
}

func (v *verifier) sumOf(sums map[uuid.UUID]*leafSums, tenant uuid.UUID) *leafSums {
	at := sums[tenant]
	if at == nil {
		at = &leafSums{}
		sums[tenant] = at
	}
	return at
}

// logsSQL lists the logs by an index skip scan over their heads.
const logsSQL = `
WITH RECURSIVE t AS (
       (SELECT tenant_id FROM audit_heads ORDER BY tenant_id LIMIT 1)
       UNION ALL
       SELECT (SELECT h.tenant_id FROM audit_heads h WHERE h.tenant_id > t.tenant_id ORDER BY h.tenant_id LIMIT 1)
         FROM t WHERE t.tenant_id IS NOT NULL)
SELECT tenant_id FROM t WHERE tenant_id IS NOT NULL`

// allLogs walks every log, one per transaction at a time.
func (v *verifier) allLogs(ctx context.Context, txs []pgx.Tx) error {
	rows, err := txs[0].Query(ctx, logsSQL)
	if err != nil {
		return fmt.Errorf("verify: list the logs: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("verify: list the logs: %w", err)
	}
	var logs []uuid.UUID
	for _, tenant := range all {
		if v.Tenant == nil || tenant == *v.Tenant || tenant == logstore.Operator {
			logs = append(logs, tenant)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	done := int64(0) // guarded by v.mu
	var group sync.WaitGroup
	for _, tx := range txs {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(logs) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				w := logWalk{v: v, tx: tx, tenant: logs[i], sum: &leafSums{}}
				if err := w.run(ctx); err != nil {
					cancel(fmt.Errorf("verify log %s: %w", logs[i], err))
					return
				}
				v.mu.Lock()
				v.Leaves, v.Deleted, v.Checkpoints = v.Leaves+w.leaves, v.Deleted+w.deleted, v.Checkpoints+w.checkpoints
				if logs[i] != logstore.Operator {
					v.NotRead += w.from
				}
				if logs[i] != logstore.Operator {
					v.Logs++
					v.logSums[logs[i]] = w.sum
				}
				if done++; v.Progress != nil {
					v.Progress("logs", done, int64(len(logs)))
				}
				v.mu.Unlock()
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// compare compares the seals with the leaves, and the super-log with the anchor.
func (v *verifier) compare(ctx context.Context, tx pgx.Tx) error {
	seals := map[uuid.UUID]*leafSums{}
	for _, part := range v.sums {
		for tenant, s := range part {
			v.sumOf(seals, tenant).merge(s)
		}
	}
	for tenant := range seals {
		v.sumOf(v.logSums, tenant)
	}
	if err := v.compareSums(ctx, tx, seals); err != nil {
		return err
	}
	return v.compareAnchor(ctx, tx)
}

func (v *verifier) compareSums(ctx context.Context, tx pgx.Tx, seals map[uuid.UUID]*leafSums) error {
	if v.scanned.Segment%2 == 1 {
		v.addProblem(logstore.Operator, "logs",
			"a resumed notary has not sequenced everything yet: let it run, and verify again")
		return nil
	}
	for tenant, leaves := range v.logSums {
		if *v.sumOf(seals, tenant) != *leaves {
			if err := v.nameLeaves(ctx, tx, tenant); err != nil {
				return fmt.Errorf("verify log %s: %w", tenant, err)
			}
		}
	}
	return nil
}

func (v *verifier) compareAnchor(ctx context.Context, tx pgx.Tx) error {
	if v.Options.Anchor == nil {
		v.Result.Anchor = "not compared"
		return nil
	}
	if v.anchored == "" {
		v.Result.Anchor = "empty"
		if v.super.Size > 0 {
			v.addProblem(logstore.Operator, v.Options.Anchor.String(),
				"the anchor holds nothing, and the super-log has %s", plural.Of(v.super.Size, "leaf", "leaves"))
		}
		return nil
	}
	c, err := logstore.CheckAnchor(ctx, tx, v.anchored, v.name, v.super)
	if err != nil {
		if !errors.Is(err, logstore.ErrRefused) {
			return err
		}
		v.Result.Anchor = "differs"
		v.addProblem(logstore.Operator, v.Options.Anchor.String(), "%v", err)
		return nil
	}
	v.Result.Anchor = fmt.Sprintf("agrees at size %d", c.Size)
	return nil
}
