package notary

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

// headRow is a log's new head.
type headRow struct {
	l      *logState
	root   ledger.Hash
	anchor int64
	at     time.Time
	salt   [32]byte
}

//go:embed sql/insert_heads.sql
var insertHeadsSQL string

//go:embed sql/insert_tiles.sql
var insertTilesSQL string

// insertRows stores heads and their logs' tiles. The primary keys are the last defence against a second notary: no head
// can be stored twice.
func insertRows(ctx context.Context, tx pgx.Tx, heads []headRow) error {
	var h struct {
		tenants, events               []uuid.UUID
		sizes, anchors                []int64
		roots, salts, added, addedIDs [][]byte
		at                            []time.Time
		segments                      []int32
		xids                          []string
	}
	for i := range heads {
		r := &heads[i]
		h.tenants, h.events = append(h.tenants, r.l.tenant), append(h.events, r.l.last.ID)
		h.sizes, h.anchors = append(h.sizes, r.l.size()), append(h.anchors, r.anchor)
		h.roots, h.salts = append(h.roots, r.root[:]), append(h.salts, r.salt[:])
		h.added, h.addedIDs = append(h.added, notNull(r.l.added)), append(h.addedIDs, notNull(r.l.addedIDs))
		h.at, h.segments, h.xids = append(h.at, r.at), append(h.segments, r.l.last.Segment),
			append(h.xids, fmt.Sprint(r.l.last.XID))
	}
	if _, err := tx.Exec(ctx, insertHeadsSQL, h.tenants, h.sizes, h.anchors, h.roots, h.at, h.salts, h.segments, h.xids,
		h.events, h.added, h.addedIDs,
		logstore.Operator); err != nil {
		return fmt.Errorf("store %d heads: %w", len(heads), err)
	}
	var t struct {
		tenants, events    []uuid.UUID
		levels             []int16
		tiles              []int64
		hashes, roots, ids [][]byte
		segments           []*int32
		xids               []*string
	}
	for i := range heads {
		for _, one := range heads[i].l.tiles {
			t.tenants, t.levels, t.tiles = append(t.tenants, heads[i].l.tenant), append(t.levels, one.level),
				append(t.tiles, one.n)
			t.hashes, t.roots, t.events = append(t.hashes, one.data), append(t.roots, one.root[:]),
				append(t.events, one.last.ID)
			var segment *int32
			var xid *string
			var ids []byte
			if len(one.ids) > 0 { // leaves that are events
				x := fmt.Sprint(one.last.XID)
				segment, xid, ids = &one.last.Segment, &x, one.ids
			}
			t.segments, t.xids, t.ids = append(t.segments, segment), append(t.xids, xid), append(t.ids, ids)
		}
	}
	if len(t.tiles) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, insertTilesSQL, t.tenants, t.levels, t.tiles, t.hashes, t.roots, t.segments, t.xids,
		t.events, t.ids); err != nil {
		return fmt.Errorf("store %d tiles: %w", len(t.tiles), err)
	}
	return nil
}

// notNull returns b, or empty bytes for nil, which would be stored as NULL.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
