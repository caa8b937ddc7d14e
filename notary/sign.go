package notary

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

// sign signs the super-log as it stands in the database, has the anchor take it, and only then stores
// the signatures. Between any two of these steps it can be killed: the next start signs the same again.
func (n *Notary) sign(ctx context.Context) error {
	size := n.super.size()
	if size == n.stored {
		return nil // nothing new
	}
	if n.kept < size {
		note, err := n.superNote()
		if err != nil {
			return err
		}
		if n.version, err = n.c.Anchor.Swap(ctx, n.version, note); err != nil {
			return fmt.Errorf("notary: keep checkpoint %d in the anchor: %w", size, err)
		}
		n.signed, n.kept = note, size
	}
	if err := n.lease.Tx(ctx, func(tx pgx.Tx) error { return n.storeSigned(ctx, tx) }); err != nil {
		return fmt.Errorf("notary: store checkpoint %d: %w", size, err)
	}
	if err := n.rotated(); err != nil {
		return err
	}
	n.stored = size
	n.cosignHead()
	n.stamp()
	return nil
}

// superNote is the super-log's signed checkpoint; while keys rotate, signed by both.
func (n *Notary) superNote() (string, error) {
	root, err := n.super.root()
	if err != nil {
		return "", err
	}
	text := ledger.Checkpoint{Origin: n.signer.Name, Size: n.super.size(), Root: root}.Text()
	signers := []*ledger.Signer{n.signer}
	if n.next != nil {
		signers = append(signers, n.next)
	}
	return ledger.SignAll(n.signer.Name, text, signers...)
}

// moveAnchor holds what the anchor holds against the super-log here, before anything is done: a tree that it is not
// the beginning of is never signed.
func (n *Notary) moveAnchor(ctx context.Context, tx pgx.Tx) error {
	if n.signed == "" {
		n.kept = 0
		return n.checkNothingSigned(ctx, tx)
	}
	head, err := logstore.LastHead(ctx, tx, logstore.Operator)
	if errors.Is(err, pgx.ErrNoRows) {
		c, err := ledger.OpenCheckpoint(n.signed, n.signer.Key)
		if err != nil {
			return fmt.Errorf("%w: the checkpoint kept in the anchor: %w", logstore.ErrRefused, err)
		}
		return &logstore.RolledBackError{Signed: c.Size}
	}
	if err != nil {
		return err
	}
	last, err := logstore.CheckAnchor(ctx, tx, n.signed, n.signer.Name, head)
	n.kept = last.Size
	return err
}

// checkNothingSigned holds that no anchor means a log that was never signed.
func (n *Notary) checkNothingSigned(ctx context.Context, tx pgx.Tx) error {
	var size int64
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(size), 0) FROM audit_checkpoints WHERE tenant_id = $1`,
		logstore.Operator).
		Scan(&size); err != nil {
		return err
	}
	if size > 0 {
		return fmt.Errorf("%w: the anchor holds nothing (%s), and the database holds a checkpoint of size %d that was "+
			"signed: put the copy back, or run `konstruct notary resume`, which explains", logstore.ErrRefused,
			n.c.Anchor, size)
	}
	return nil
}

// storeSigned stores the super-log's signed checkpoint, and those of all logs whose heads it holds and that
// are not stored yet.
func (n *Notary) storeSigned(ctx context.Context, tx pgx.Tx) error {
	var from int64
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(size), 0) FROM audit_checkpoints WHERE tenant_id = $1`,
		logstore.Operator).
		Scan(&from); err != nil {
		return err
	}
	size := n.super.size()
	if from >= size {
		return nil
	}
	rows, err := tx.Query(ctx,
		`SELECT tenant_id, size, anchor, root FROM audit_heads WHERE anchor >= $1 AND anchor < $2 AND tenant_id <> $3`,
		from, size, logstore.Operator)
	if err != nil {
		return err
	}
	tenants, sizes, anchors, notes := []uuid.UUID{logstore.Operator}, []int64{size}, []int64{size - 1},
		[]string{n.signed}
	signer := n.signer
	if n.next != nil {
		signer = n.next
	}
	var tenant uuid.UUID
	var at, anchor int64
	var root []byte
	if _, err := pgx.ForEachRow(rows, []any{&tenant, &at, &anchor, &root}, func() error {
		c := ledger.Checkpoint{Origin: ledger.Origin(signer.Name, tenant), Size: at, Root: ledger.Hash(root)}
		note, err := signer.Sign(c.Origin, c.Text())
		tenants, sizes, anchors, notes = append(tenants, tenant), append(sizes, at), append(anchors, anchor),
			append(notes, note)
		return err
	}); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit_checkpoints (tenant_id, size, anchor, note) SELECT *
		FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[])`, tenants, sizes, anchors, notes)
	return err
}
