package verify

import (
	"context"
	_ "embed"
	"math/bits"
	"sort"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

// deletion is an act of retention: a bit for each leaf from first on, set for the deleted ones.
type deletion struct {
	first    int64
	bits     []byte
	record   uuid.UUID
	recorded bool // whether the event that records it agrees
}

// last returns the index of the newest deleted leaf, or -1.
func (d *deletion) last() int64 {
	for i := len(d.bits) - 1; i >= 0; i-- {
		if d.bits[i] != 0 {
			return d.first + int64(i)*8 + int64(bits.Len8(d.bits[i])) - 1
		}
	}
	return -1
}

func (d *deletion) end() int64 { return d.first + int64(len(d.bits))*8 }

// deletedLeaves are a log's deletions, by their first leaf: some kilobytes for a million leaves.
type deletedLeaves []deletion

//go:embed sql/deletions.sql
var deletionsSQL string

// readDeletedLeaves returns the deletions among a log's leaves [from, to).
func readDeletedLeaves(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, from, to int64) (deletedLeaves, error) {
	rows, err := tx.Query(ctx, deletionsSQL, tenant, from, to)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d deletion, err error) {
		return d, row.Scan(&d.first, &d.bits, &d.record, &d.recorded)
	})
}

// markUnlawful marks the deletions of unlawful acts as unrecorded.
func (g deletedLeaves) markUnlawful(rulings []evidence.Ruling) {
	for i := range g {
		for _, r := range rulings {
			if r.Event == g[i].record.String() {
				g[i].recorded = false
			}
		}
	}
}

// contains reports whether a leaf's event was deleted.
func (g deletedLeaves) contains(leaf int64) bool { return g.find(leaf) != nil }

// lawful reports whether a leaf's event was deleted and an act in the trail records it.
func (g deletedLeaves) lawful(leaf int64) bool {
	d := g.find(leaf)
	return d != nil && d.recorded
}

func (g deletedLeaves) find(leaf int64) *deletion {
	// No act covers more than maxDeletion leaves: earlier ones can't contain this leaf.
	for i := sort.Search(len(g), func(i int) bool {
		return g[i].first > leaf-maxDeletion
	}); i < len(g) && g[i].first <= leaf; i++ {
		if at := leaf - g[i].first; leaf < g[i].end() && g[i].bits[at/8]&(1<<(at%8)) != 0 {
			return &g[i]
		}
	}
	return nil
}

// deletedLeaf finds the leaf of an event that was lawfully deleted under retention.
func deletedLeaf(ctx context.Context, tx pgx.Tx, tenant, event uuid.UUID, last logstore.Head,
	floor int) (index int64, found bool, err error) {
	all, err := readDeletedLeaves(ctx, tx, tenant, 0, last.Size)
	if err != nil || len(all) == 0 {
		return 0, false, err
	}
	rulings, err := judge(ctx, tx, tenant, floor)
	if err != nil {
		return 0, false, err
	}
	all.markUnlawful(rulings)
	full := last.Size / ledger.TileWidth
	rows, err := tx.Query(ctx, `SELECT tile, event_ids FROM audit_tiles WHERE tenant_id = $1
		AND level = 0 AND tile < $3 AND position($2::bytea IN event_ids) > 0`, tenant, event[:], full)
	if err != nil {
		return 0, false, err
	}
	var tile int64
	var ids []byte
	search := func(first int64, ids []byte) {
		if i := findID(ids, event); i >= 0 && all.lawful(first+i) {
			index, found = first+i, true
		}
	}
	if _, err := pgx.ForEachRow(rows, []any{&tile, &ids}, func() error {
		search(tile*ledger.TileWidth, ids)
		return nil
	}); err != nil || found {
		return index, found, err
	}
	_, open, err := logstore.NewReader(ctx, tx, tenant, last.Size).OpenLeaves(full * ledger.TileWidth)
	if err == nil {
		search(full*ledger.TileWidth, open)
	}
	return index, found, err
}

// maxDeletion is the largest number of leaves that an act of retention covers; audit_retire has the same limit.
const maxDeletion = 65536
