package notary

import (
	"context"
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

// insertRows stores heads and the tiles of their logs. The primary keys are the last defence against a second
// notary: the same head can't be stored twice.
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
		h.added, h.addedIDs = append(h.added, presentBefore(r.l.added)), append(h.addedIDs, presentBefore(r.l.addedIDs))
		h.at, h.segments, h.xids = append(h.at, r.at), append(h.segments, r.l.last.Segment),
			append(h.xids, fmt.Sprint(r.l.last.XID))
	}
	if _, err := tx.Exec(ctx,
		`INSERT INTO audit_heads (tenant_id, size, anchor, root, at, salt, segment, xid, event_id, added, added_ids, own_xid)
	  SELECT a, b, c, d, e, f, g, h::xid8, i, j, k, CASE WHEN a = $12 THEN pg_current_xact_id() END
	    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::bytea[], $7::integer[], $8::text[], $9::uuid[], $10::bytea[], $11::bytea[]) u (a, b, c, d, e, f, g, h, i, j, k)`,
		h.tenants, h.sizes, h.anchors, h.roots, h.at, h.salts, h.segments, h.xids, h.events, h.added, h.addedIDs,
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
	if _, err := tx.Exec(ctx,
		`INSERT INTO audit_tiles (tenant_id, level, tile, hashes, root, segment, xid, event_id, event_ids)
	  SELECT a, b, c, d, e, f, g::xid8, CASE WHEN f IS NOT NULL THEN h END, i FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::integer[], $7::text[], $8::uuid[], $9::bytea[]) u (a, b, c, d, e, f, g, h, i)`,
		t.tenants, t.levels, t.tiles, t.hashes, t.roots, t.segments, t.xids, t.events, t.ids); err != nil {
		return fmt.Errorf("store %d tiles: %w", len(t.tiles), err)
	}
	return nil
}

// presentBefore is bytes that are not NULL.
func presentBefore(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
