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

// sign signs the super-log as committed, stores the checkpoint in the anchor, and only then stores the signatures in
// the database. A kill between any two steps is safe: the next start signs the same tree again.
func (n *Notary) sign(ctx context.Context) error {
	size := n.super.size()
	if size == n.stored {
		return nil // nothing new
	}
	if n.anchoredSize < size {
		note, err := n.superNote()
		if err != nil {
			return err
		}
		if n.anchorVersion, err = n.c.Anchor.Swap(ctx, n.anchorVersion, note); err != nil {
			return fmt.Errorf("notary: store checkpoint %d in the anchor: %w", size, err)
		}
		n.anchored, n.anchoredSize = note, size
	}
	if err := n.lease.Tx(ctx, func(tx pgx.Tx) error { return n.storeSigned(ctx, tx) }); err != nil {
		return fmt.Errorf("notary: store checkpoint %d: %w", size, err)
	}
	if err := n.promoteNextKey(); err != nil {
		return err
	}
	n.stored = size
	n.cosignHead()
	n.stamp()
	return nil
}

// superNote returns the super-log's signed checkpoint; with both keys' signatures during a rotation.
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

// checkAnchor verifies the super-log against the anchor before anything is signed: the tree must extend the anchored
// one.
func (n *Notary) checkAnchor(ctx context.Context, tx pgx.Tx) error {
	if n.anchored == "" {
		n.anchoredSize = 0
		return n.checkNothingSigned(ctx, tx)
	}
	head, err := logstore.LastHead(ctx, tx, logstore.Operator)
	if errors.Is(err, pgx.ErrNoRows) {
		c, err := ledger.OpenCheckpoint(n.anchored, n.signer.Key)
		if err != nil {
			return fmt.Errorf("%w: the anchor's checkpoint: %w", logstore.ErrRefused, err)
		}
		return &logstore.RolledBackError{Signed: c.Size}
	}
	if err != nil {
		return err
	}
	last, err := logstore.CheckAnchor(ctx, tx, n.anchored, n.signer.Name, head)
	n.anchoredSize = last.Size
	return err
}

// checkNothingSigned refuses an empty anchor when the database holds a signed checkpoint.
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

// storeSigned stores the super-log's signed checkpoint, and signs and stores those of the heads that it newly covers.
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
		[]string{n.anchored}
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
