package logstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
)

// HeadCovering returns the first signed head that covers a leaf, with its checkpoint, or ErrNotInLog.
func HeadCovering(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, index int64) (Head, string, error) {
	return firstSigned(ctx, tx, `c.tenant_id = $1 AND c.size > $2 ORDER BY c.size, c.anchor`, tenant, index)
}

// LastSigned returns a log's newest signed head with its checkpoint, or ErrNotInLog. Unless below is 0, the head's
// anchor must be less.
func LastSigned(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, below int64) (h Head, note string, err error) {
	return firstSigned(ctx, tx, `c.tenant_id = $1 AND ($2 = 0 OR c.anchor < $2) ORDER BY c.size DESC, c.anchor DESC`,
		tenant, below)
}

// firstSigned returns the first checkpoint that matches, with its head. The subquery selects it before the join:
// otherwise PostgreSQL reads all of a log's checkpoints and heads.
func firstSigned(ctx context.Context, tx pgx.Tx, which string, args ...any) (h Head, note string, err error) {
	rows, err := tx.Query(ctx, `SELECT `+HeadColumns+`, c.note FROM (SELECT * FROM audit_checkpoints c WHERE `+which+
		` LIMIT 1) c JOIN audit_heads h USING (tenant_id, size, anchor)`, args...)
	if err != nil {
		return h, "", err
	}
	return ScanSignedHead(rows)
}

// ScanSignedHead reads one row of HeadColumns and a checkpoint, or returns ErrNotInLog.
func ScanSignedHead(rows pgx.Rows) (h Head, note string, err error) {
	_, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
		h, err = ScanHeadAnd(row, &note)
		return struct{}{}, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotInLog
	}
	return h, note, err
}

// ProvenLeaf returns a leaf's hash, with its inclusion in the head's root proven.
func ProvenLeaf(r *Reader, h Head, index int64) (ledger.Hash, error) {
	hashes, err := r.prove(h, []int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return ledger.Hash{}, fmt.Errorf("leaf %d of log %s: %w", index, r.tenant, err)
	}
	return hashes[0], nil
}

// SuperLog is the super-log at a signed size, for inclusion proofs.
type SuperLog struct {
	Size   int64
	Signed string // the checkpoint as the notary signed it
	Note   string // the checkpoint with the witnesses' cosignatures
	Hashes tlog.HashReader
}

// OpenSuperLog opens the super-log at a signed size, or at the newest for 0. It returns ErrNotInLog without a signed
// checkpoint.
func OpenSuperLog(ctx context.Context, tx pgx.Tx, size int64) (*SuperLog, error) {
	h, note, err := firstSigned(ctx, tx, `c.tenant_id = $1 AND ($2 = 0 OR c.size = $2) ORDER BY c.size DESC`,
		Operator, size)
	if err != nil {
		return nil, err
	}
	s := &SuperLog{Size: h.Size, Signed: note,
		Hashes: tlog.TileHashReader(tlog.Tree{N: h.Size, Hash: tlog.Hash(h.Root)},
			NewReader(ctx, tx, Operator, h.Size))}
	s.Note, err = WithCosignatures(ctx, tx, note, h.Size)
	return s, err
}

// WithCosignatures appends the witnesses' cosignatures to a checkpoint of the super-log.
func WithCosignatures(ctx context.Context, tx pgx.Tx, note string, size int64) (string, error) {
	rows, err := tx.Query(ctx,
		`SELECT said FROM audit_witnesses WHERE tenant_id = $1 AND size = $2 AND kind = 'cosignature' ORDER BY name`,
		Operator, size)
	if err != nil {
		return "", err
	}
	var line []byte
	_, err = pgx.ForEachRow(rows, []any{&line}, func() error { note += string(line); return nil })
	return note, err
}

// Prove returns the inclusion proof of a leaf.
func (s *SuperLog) Prove(index int64) ([]evidence.Hash, error) {
	p, err := tlog.ProveRecord(s.Size, index, s.Hashes)
	if err != nil {
		return nil, fmt.Errorf("leaf %d of the super-log: %w", index, err)
	}
	out := make([]evidence.Hash, len(p))
	for i, h := range p {
		out[i] = evidence.Hash(h)
	}
	return out, nil
}
