package notary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

// start reads the state that the notary needs, and refuses to continue where it must.
func (n *Notary) start(ctx context.Context) error {
	n.logs, n.heartbeats = map[uuid.UUID]*logState{}, map[uuid.UUID]time.Time{}
	// The anchor first: the database has held its checkpoint ever since, so it can't be behind.
	var err error
	if n.anchored, n.anchorVersion, err = n.c.Anchor.Load(ctx); err != nil {
		return fmt.Errorf("notary: read the anchor: %w", err)
	}
	return n.lease.Tx(ctx, func(tx pgx.Tx) error {
		epoch, err := n.epoch(ctx, tx)
		if err != nil {
			return err
		}
		if err := n.checkAnchor(ctx, tx); err != nil {
			return err
		}
		super, err := load(ctx, tx, logstore.Operator)
		if err != nil {
			return fmt.Errorf("notary: the super-log: %w", err)
		}
		if err := countLeaves(ctx, tx, super.size()); err != nil {
			return err
		}
		// an empty super-log has the zero position: seals of earlier epochs come first
		n.epochNow, n.scanned = epoch, super.last
		if n.marks, err = logstore.ReadLastMarks(ctx, tx); err != nil {
			return err
		}
		if err := n.readHeartbeats(ctx, tx); err != nil {
			return err
		}
		n.super = super
		return nil
	})
}

// epoch returns the current epoch, and refuses in another cluster than the epoch's.
func (n *Notary) epoch(ctx context.Context, tx pgx.Tx) (epoch int16, err error) {
	var here, began int64
	err = tx.QueryRow(ctx,
		`SELECT e.epoch, e.system_identifier, c.system_identifier FROM audit_epochs e, pg_control_system() c
	   WHERE e.tenant_id = $1 ORDER BY e.epoch DESC LIMIT 1`, logstore.Operator).Scan(&epoch, &began, &here)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, `SELECT audit_begin_epoch($1)`, logstore.Operator).Scan(&epoch)
		return epoch, err
	}
	if err == nil && here != began {
		err = fmt.Errorf("%w: this database was moved or restored: its transaction ids are from cluster %d, and this "+
			"is cluster %d. Run `konstruct notary resume`, which explains what it finds", logstore.ErrRefused,
			began, here)
	}
	return epoch, err
}

// countLeaves checks that each leaf of the super-log has its row. It detects a removed head, whose log was cut back to
// an older one.
func countLeaves(ctx context.Context, tx pgx.Tx, size int64) error {
	var rows int64
	if err := tx.QueryRow(ctx,
		`SELECT (SELECT count(*) FROM audit_heads WHERE tenant_id <> $1) + (SELECT count(*) FROM audit_keys)`,
		logstore.Operator).Scan(&rows); err != nil {
		return err
	}
	if rows != size {
		return fmt.Errorf("%w: the super-log has %d leaves, and the database holds heads and keys for %d: some were "+
			"removed or added. `konstruct audit verify --full` names them", logstore.ErrRefused, size, rows)
	}
	return nil
}

func (n *Notary) readHeartbeats(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT l.tenant_id, h.at FROM audit_logs l CROSS JOIN LATERAL
	  (SELECT at FROM audit_heads h WHERE h.tenant_id = l.tenant_id ORDER BY size DESC, anchor DESC LIMIT 1) h
	 WHERE l.tenant_id <> $1`, logstore.Operator)
	if err != nil {
		return err
	}
	var tenant uuid.UUID
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&tenant, &at}, func() error { n.heartbeats[tenant] = at; return nil })
	return err
}

// checkHead verifies a log's head against its leaf in the super-log, which is signed and anchored.
func (n *Notary) checkHead(ctx context.Context, tx pgx.Tx, l *logState) error {
	if l.size() == 0 {
		return nil
	}
	h, err := logstore.LastHead(ctx, tx, l.tenant)
	if err != nil {
		return err
	}
	c := ledger.Checkpoint{Origin: ledger.Origin(n.signer.Name, l.tenant), Size: h.Size, Root: h.Root}
	want := ledger.LeafHash(ledger.HeadLeaf(ledger.MicrosOf(h.At), h.Salt, c))
	got, err := n.superLeaf(ctx, tx, h.Anchor)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf(
			"%w: log %s: its head of size %d is not the one that leaf %d of the super-log holds: it was changed",
			logstore.ErrRefused, l.tenant, h.Size, h.Anchor)
	}
	return nil
}

// superLeaf returns a leaf hash of the super-log with its inclusion proven; also of this round's leaves.
func (n *Notary) superLeaf(ctx context.Context, tx pgx.Tx, index int64) (ledger.Hash, error) {
	head, err := logstore.LastHead(ctx, tx, logstore.Operator)
	if err != nil {
		return ledger.Hash{}, err
	}
	return logstore.ProvenLeaf(logstore.NewReader(ctx, tx, logstore.Operator, head.Size), head, index)
}
