package logstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
)

// Reader reads a log's tiles, full and partial, for a tree of the given size. It trusts nothing: tlog.TileHashReader
// verifies the tiles against the tree's root.
type Reader struct {
	ctx    context.Context
	tx     pgx.Tx
	tenant uuid.UUID
	size   int64
}

// NewReader returns a reader of a tenant's log at a size, within a transaction.
func NewReader(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, size int64) *Reader {
	return &Reader{ctx: ctx, tx: tx, tenant: tenant, size: size}
}

// Height implements tlog.TileReader.
func (r *Reader) Height() int { return ledger.TileHeight }

// SaveTiles implements tlog.TileReader; it does nothing, since the tiles are in the database.
func (r *Reader) SaveTiles([]tlog.Tile, [][]byte) {}

// Three queries for a tile's hashes, whose rows are concatenated: a full tile; a partial one of level 0, which may have
// been filled since; a partial one of a higher level, from the roots below it.
const (
	fullSQL = `SELECT hashes FROM audit_tiles WHERE tenant_id = $1 AND level = $2 AND tile = $3`
	openSQL = `SELECT b
	  FROM (SELECT 0, 0, hashes FROM audit_tiles WHERE tenant_id = $1 AND level = 0 AND tile = $2
	        UNION ALL
	        SELECT size, anchor, added FROM audit_heads WHERE tenant_id = $1 AND size > $2 * 256 AND size <= $3
	       ) t (size, anchor, b) ORDER BY size, anchor`
	aboveSQL = `SELECT root FROM audit_tiles WHERE tenant_id = $1 AND level = $2 AND tile >= $3 AND tile < $4
	  ORDER BY tile`
)

// ReadTiles implements tlog.TileReader, in one round trip.
func (r *Reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	var batch pgx.Batch
	for i, t := range tiles {
		switch {
		case t.W == ledger.TileWidth:
			batch.Queue(fullSQL, r.tenant, t.L, t.N)
		case t.L == 0:
			batch.Queue(openSQL, r.tenant, t.N, r.size)
		default:
			batch.Queue(aboveSQL, r.tenant, t.L-1, t.N*ledger.TileWidth, t.N*ledger.TileWidth+int64(t.W))
		}
		batch.QueuedQueries[i].Query(func(rows pgx.Rows) error {
			var part []byte
			if _, err := pgx.ForEachRow(rows, []any{&part}, func() error {
				out[i] = append(out[i], part...)
				return nil
			}); err != nil {
				return err
			}
			if want := t.W * tlog.HashSize; len(out[i]) < want {
				return fmt.Errorf("tile %s of log %s: it has %d bytes, not %d", ledger.TilePath(t), r.tenant,
					len(out[i]), want)
			}
			out[i] = out[i][:t.W*tlog.HashSize]
			return nil
		})
	}
	if err := r.tx.SendBatch(r.ctx, &batch).Close(); err != nil {
		return nil, err
	}
	return out, nil
}

// OpenLeaves returns the leaves from index first on, which no full tile holds yet, and their events' ids: what the
// heads added since, up to the tree's size. Hashes have 32 bytes each, ids 16.
func (r *Reader) OpenLeaves(first int64) (hashes, ids []byte, err error) {
	rows, err := r.tx.Query(r.ctx,
		`SELECT added, added_ids FROM audit_heads WHERE tenant_id = $1 AND size > $2 AND size <= $3
		ORDER BY size, anchor`, r.tenant, first, r.size)
	if err != nil {
		return nil, nil, err
	}
	var h, i []byte
	if _, err := pgx.ForEachRow(rows, []any{&h, &i}, func() error {
		hashes, ids = append(hashes, h...), append(ids, i...)
		return nil
	}); err != nil {
		return nil, nil, err
	}
	if want := (r.size - first) * tlog.HashSize; int64(len(hashes)) != want {
		return nil, nil, fmt.Errorf("leaves %d to %d of log %s are %d bytes, not %d: heads were changed", first,
			r.size-1, r.tenant, len(hashes), want)
	}
	return hashes, ids, nil
}

// Subtrees returns the roots of the perfect subtrees over the leaves [begin, end), with their inclusion in the head's
// root proven.
func (r *Reader) Subtrees(h Head, begin, end int64) ([]ledger.Hash, error) {
	nodes := ledger.RangeNodes(begin, end)
	at := make([]int64, len(nodes))
	for i, id := range nodes {
		at[i] = tlog.StoredHashIndex(int(id.Level), int64(id.Index))
	}
	return r.prove(h, at)
}

// prove returns hashes by tlog's index, with their inclusion in the head's root proven.
func (r *Reader) prove(h Head, at []int64) ([]ledger.Hash, error) {
	hashes, err := tlog.TileHashReader(tlog.Tree{N: h.Size, Hash: tlog.Hash(h.Root)}, r).ReadHashes(at)
	if err != nil {
		return nil, err
	}
	out := make([]ledger.Hash, len(hashes))
	for i, x := range hashes {
		out[i] = ledger.Hash(x)
	}
	return out, nil
}
