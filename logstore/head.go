package logstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
)

// Head is a log at a size: a row of audit_heads without the leaves that it added.
type Head struct {
	Size   int64       // in leaves
	Anchor int64       // index of the head's leaf in the super-log; the super-log's own heads: size - 1
	Root   ledger.Hash // over all leaves
	At     time.Time
	Salt   [32]byte // of its leaf in the super-log
	Last   Position // of its last leaf
}

// HeadColumns are the columns that ScanHead reads; the query's alias of audit_heads must be h.
const HeadColumns = `h.size, h.anchor, h.root, h.at, h.salt, h.segment, h.xid::text::bigint, h.event_id`

// ScanHead reads a head from a row of HeadColumns.
func ScanHead(row pgx.CollectableRow) (Head, error) { return ScanHeadAnd(row) }

// ScanHeadAnd reads a head from a row that begins with HeadColumns, and the columns after them into dest.
func ScanHeadAnd(row pgx.CollectableRow, dest ...any) (h Head, err error) {
	var root, salt []byte
	var xid int64
	if err := row.Scan(append([]any{&h.Size, &h.Anchor, &root, &h.At, &salt, &h.Last.Segment, &xid, &h.Last.ID},
		dest...)...); err != nil {
		return h, err
	}
	if len(root) != len(h.Root) || len(salt) != len(h.Salt) {
		return h, fmt.Errorf("a head with a root of %d bytes and a salt of %d", len(root), len(salt))
	}
	h.Root, h.Salt, h.Last.XID = ledger.Hash(root), [32]byte(salt), uint64(xid)
	return h, nil
}

// LastHead returns a log's newest head, or pgx.ErrNoRows without any.
func LastHead(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (Head, error) {
	rows, err := tx.Query(ctx,
		`SELECT `+HeadColumns+` FROM audit_heads h WHERE tenant_id = $1 ORDER BY size DESC, anchor DESC LIMIT 1`,
		tenant)
	if err != nil {
		return Head{}, err
	}
	return pgx.CollectExactlyOneRow(rows, ScanHead)
}

// StoredRoots returns the concatenated roots, 32 bytes each, of n consecutive full tiles.
func StoredRoots(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, level int16, first int64, n int) ([]byte, error) {
	out := make([]byte, 0, ledger.TileWidth*tlog.HashSize)
	if n == 0 {
		return out, nil
	}
	rows, err := tx.Query(ctx,
		`SELECT root FROM audit_tiles WHERE tenant_id = $1 AND level = $2 AND tile >= $3 AND tile < $4 ORDER BY tile`,
		tenant, level, first, first+int64(n))
	if err != nil {
		return nil, err
	}
	var root []byte
	if _, err := pgx.ForEachRow(rows, []any{&root}, func() error {
		out = append(out, root...)
		return nil
	}); err != nil {
		return nil, err
	}
	if len(out) != n*tlog.HashSize {
		return nil, fmt.Errorf("log %s lacks tiles of level %d between %d and %d", tenant, level, first,
			first+int64(n)-1)
	}
	return out, nil
}
