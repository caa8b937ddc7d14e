package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/plural"
)

// logWalk verifies one log from its leaves up: each tile, each head's root at its size, each signature.
type logWalk struct {
	v      *verifier
	tx     pgx.Tx
	tenant uuid.UUID

	edge        ledger.Range  // over the full tiles already read
	good        int64         // size of the last head whose root matches the leaves
	rootWrong   bool          // a root was wrong: all later ones are too
	from        int64         // leaves before it were verified earlier
	seen        int64         // heads with a smaller anchor were verified earlier
	deletions   deletedLeaves // leaves whose events were deleted
	sum         *leafSums
	leaves      int64
	deleted     int64
	checkpoints int64
}

// stride is the number of tiles read at a time.
const stride = 64

func (w *logWalk) addBroken(place, format string, args ...any) {
	w.v.addProblem(w.tenant, place, format, args...)
}

func (w *logWalk) run(ctx context.Context) error {
	last, err := logstore.LastHead(ctx, w.tx, w.tenant)
	if err != nil {
		return err
	}
	w.edge = ledger.NewRange(0)
	if w.deletions, err = readDeletedLeaves(ctx, w.tx, w.tenant, 0, last.Size); err != nil {
		return err
	}
	if w.tenant != logstore.Operator {
		rulings, err := judge(ctx, w.tx, w.tenant, w.v.Floor)
		if err != nil {
			return err
		}
		for _, r := range rulings {
			atomic.AddInt64(&w.v.Broken, 1)
			id, _ := uuid.Parse(r.Event) // always valid: the database formatted it
			w.v.OnFinding(Finding{Tenant: w.tenant, Event: id, Problem: r.Verdict})
		}
	}
	for _, a := range w.deletions {
		if !a.recorded {
			w.addBroken(fmt.Sprintf("leaves from %d on", a.first),
				"they were deleted, and no act of retention in the trail says so")
		}
	}
	if w.v.Since != nil {
		if err := w.skip(ctx); err != nil {
			return err
		}
	}
	full := last.Size / ledger.TileWidth
	for t := w.edge.End() / ledger.TileWidth; ; t += stride {
		to := min(t+stride, full)
		if whole, err := w.part(ctx, t, to, last.Size); err != nil || !whole {
			return err
		}
		if to == full {
			break
		}
	}
	var beyond int64
	if err := w.tx.QueryRow(ctx, `SELECT count(*) FROM audit_tiles WHERE tenant_id = $1 AND level = 0 AND tile >= $2`,
		w.tenant, full).Scan(&beyond); err != nil {
		return err
	}
	if beyond > 0 {
		w.addBroken(fmt.Sprintf("tiles from %d on", full),
			"%s beyond the log's last head, of size %d: heads were removed, or tiles added",
			plural.Of(beyond, "tile is", "tiles are"), last.Size)
	}
	return nil
}

// skip skips what the last verification covered; its last head proves it.
func (w *logWalk) skip(ctx context.Context) error {
	w.seen = w.v.Since.Size
	rows, err := w.tx.Query(ctx,
		`SELECT `+logstore.HeadColumns+
			` FROM audit_heads h WHERE tenant_id = $1 AND anchor < $2 ORDER BY size DESC, anchor DESC LIMIT 1`,
		w.tenant, w.seen)
	if err != nil {
		return err
	}
	h, err := pgx.CollectExactlyOneRow(rows, logstore.ScanHead)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // all of it is new
	}
	if err != nil {
		return err
	}
	if w.tenant == logstore.Operator && (h.Size != w.v.Since.Size || h.Root != w.v.Since.Root) {
		w.addBroken(fmt.Sprintf("size %d", w.v.Since.Size),
			"the super-log's root is not the one that was verified at %s", w.v.Since.At.Format(time.RFC3339))
		return nil
	}
	w.from, w.good = h.Size, h.Size
	begin := h.Size / ledger.TileWidth * ledger.TileWidth
	edge, err := logstore.NewReader(ctx, w.tx, w.tenant, h.Size).Subtrees(h, 0, begin)
	if err != nil {
		w.addBroken(fmt.Sprintf("size %d", h.Size), "the leaves that were verified before no longer have its root: %v",
			err)
		w.from, w.good = 0, 0
		return nil
	}
	w.edge, err = ledger.ReadRange(0, begin, edge)
	return err
}

// tileRow is a tile of level 0; the last may be partial.
type tileRow struct {
	n                 int64
	hashes, root, ids []byte
}

// part verifies the tiles [from, to), and the open tile after them if the log ends there.
func (w *logWalk) part(ctx context.Context, from, to, size int64) (whole bool, err error) {
	rows, err := w.tx.Query(ctx, `SELECT tile, hashes, root, coalesce(event_ids, '') FROM audit_tiles
		WHERE tenant_id = $1 AND level = 0 AND tile >= $2 AND tile < $3 ORDER BY tile`, w.tenant, from, to)
	if err != nil {
		return false, err
	}
	tiles, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t tileRow, err error) {
		return t, row.Scan(&t.n, &t.hashes, &t.root, &t.ids)
	})
	if err != nil {
		return false, err
	}
	end := to * ledger.TileWidth
	if size < end+ledger.TileWidth && size > end {
		hashes, ids, err := logstore.NewReader(ctx, w.tx, w.tenant, size).OpenLeaves(end)
		if err != nil {
			w.addBroken(fmt.Sprintf("leaves from %d on", end), "%v", err)
			return false, nil
		}
		tiles, end = append(tiles, tileRow{n: to, hashes: hashes, ids: ids}), size
	}
	heads, err := w.heads(ctx, from*ledger.TileWidth, end)
	if err != nil {
		return false, err
	}
	for i := range tiles {
		t := &tiles[i]
		if t.n != from+int64(i) || len(t.hashes)%tlog.HashSize != 0 || w.tenant != logstore.Operator &&
			len(t.ids)*2 != len(t.hashes) {
			w.addBroken(fmt.Sprintf("tile %d", from+int64(i)), "it is missing, or malformed")
			return false, nil
		}
		if heads, err = w.tile(ctx, t, heads); err != nil {
			return false, err
		}
		if w.tenant == logstore.Operator {
			if err := w.superLeaves(ctx, t); err != nil {
				return false, err
			}
		}
	}
	if want := (end + ledger.TileWidth - 1) / ledger.TileWidth; from+int64(len(tiles)) < want {
		w.addBroken(fmt.Sprintf("tile %d", from+int64(len(tiles))), "it is missing")
		return false, nil
	}
	return true, nil
}

// headRead is a head and its signed checkpoint; note is empty without one.
type headRead struct {
	logstore.Head
	note string
}

func (w *logWalk) heads(ctx context.Context, after, upTo int64) ([]headRead, error) {
	rows, err := w.tx.Query(ctx, `SELECT `+logstore.HeadColumns+`, coalesce(c.note, '')
	  FROM audit_heads h LEFT JOIN audit_checkpoints c USING (tenant_id, size, anchor)
	 WHERE h.tenant_id = $1 AND h.size > $2 AND h.size <= $3 AND h.anchor >= $4 ORDER BY h.size, h.anchor`, w.tenant,
		after, upTo, w.seen)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h headRead, err error) {
		h.Head, err = logstore.ScanHeadAnd(row, &h.note)
		return h, err
	})
}

// tile verifies one tile and the heads whose size is in it, and returns the remaining heads.
func (w *logWalk) tile(ctx context.Context, t *tileRow, heads []headRead) ([]headRead, error) {
	begin, inside := t.n*ledger.TileWidth, w.edge.Clone()
	n := int64(len(t.hashes) / tlog.HashSize)
	for ; len(heads) > 0 && heads[0].Size <= begin+n; heads = heads[1:] {
		for inside.End() < heads[0].Size {
			i := inside.End() - begin
			if err := inside.Append(ledger.Hash(t.hashes[i*tlog.HashSize:])); err != nil {
				return nil, err
			}
		}
		root, err := inside.Root()
		if err != nil {
			return nil, err
		}
		w.head(&heads[0], root, t)
	}
	for i := range n {
		if begin+i < w.from {
			continue
		}
		leaf := ledger.Hash(t.hashes[i*tlog.HashSize:])
		if w.tenant != logstore.Operator {
			w.leaves++
			if w.deletions.contains(begin + i) {
				w.deleted++
				continue
			}
			w.sum.add(w.v.secret, t.ids[16*i:16*i+16], &leaf)
		}
	}
	if n < ledger.TileWidth {
		return heads, nil
	}
	root, err := ledger.TileRoot(t.hashes)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(root[:], t.root) {
		w.addBroken(fmt.Sprintf("tile %d", t.n), "its hashes lead to another root than it says: it was changed")
	}
	if err := w.edge.AppendTile(root); err != nil {
		return nil, err
	}
	return heads, w.above(ctx, t.n)
}

// head verifies a head against the root of the leaves, and its signature against both.
func (w *logWalk) head(h *headRead, root ledger.Hash, t *tileRow) {
	place := fmt.Sprintf("checkpoint of size %d", h.Size)
	signedRoot := h.Root
	if h.note != "" {
		c, err := w.openNote(h)
		switch {
		case err != nil:
			w.addBroken(place, "%v", err)
		case c.Size != h.Size || c.Root != h.Root:
			w.addBroken(place, "it was signed with another root or size than its head says: the head was changed")
			signedRoot = c.Root
		default:
			w.checkpoints++
			w.v.signed(h.At)
		}
	} else if w.tenant != logstore.Operator && h.Anchor < w.v.superSigned {
		w.addBroken(place, "its signature is gone")
	}
	if root == signedRoot {
		w.good = h.Size
		return
	}
	if w.rootWrong {
		return // a consequence of the first
	}
	w.rootWrong = true
	w.addBroken(place, "the leaves lead to another root than was signed: among leaves %d to %d some were changed, "+
		"swapped, removed or inserted", w.good, h.Size-1)
	if w.tenant == logstore.Operator || h.Size-w.good > 8 {
		return
	}
	for i := max(w.good, t.n*ledger.TileWidth); i < h.Size; i++ {
		at := (i - t.n*ledger.TileWidth) * 16
		w.v.OnFinding(Finding{Tenant: w.tenant, Event: uuid.UUID(t.ids[at : at+16]),
			Problem: fmt.Sprintf("is leaf %d, among those that lead to another root than was signed at size %d",
				i, h.Size)})
	}
}

// openNote verifies a head's checkpoint with a key that was not retired at that point.
func (w *logWalk) openNote(h *headRead) (ledger.Checkpoint, error) {
	err := errors.New("it is signed, and the database has no key for it")
	for _, k := range slices.Backward(logstore.NotRetired(w.v.keys, h.Anchor)) {
		if w.tenant != logstore.Operator {
			k.Key = k.OfTenant(w.tenant)
		}
		c, openErr := ledger.OpenCheckpoint(h.note, k.Key)
		if openErr == nil {
			return c, nil
		}
		err = openErr
	}
	return ledger.Checkpoint{}, err
}

// above verifies the tiles of higher levels that tile n of level 0 completes.
func (w *logWalk) above(ctx context.Context, n int64) error {
	for level := int16(1); n%ledger.TileWidth == ledger.TileWidth-1; level++ {
		n /= ledger.TileWidth
		below, err := logstore.StoredRoots(ctx, w.tx, w.tenant, level-1, n*ledger.TileWidth, ledger.TileWidth)
		if err != nil {
			return err
		}
		var hashes, storedRoot []byte
		err = w.tx.QueryRow(ctx,
			`SELECT hashes, root FROM audit_tiles WHERE tenant_id = $1 AND level = $2 AND tile = $3`, w.tenant, level,
			n).Scan(&hashes, &storedRoot)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		root, rootErr := ledger.TileRoot(hashes)
		if err != nil || rootErr != nil || !bytes.Equal(hashes, below) || !bytes.Equal(root[:], storedRoot) {
			w.addBroken(fmt.Sprintf("tile %d of level %d", n, level),
				"it is missing, or not made of the roots below it")
		}
	}
	return nil
}

// superLeaves verifies the super-log's leaves against the heads and keys that they commit to.
func (w *logWalk) superLeaves(ctx context.Context, t *tileRow) error {
	begin := t.n * ledger.TileWidth
	n := int64(len(t.hashes) / tlog.HashSize)
	made := make(map[int64]ledger.Hash, n)
	rows, err := w.tx.Query(ctx,
		`SELECT `+logstore.HeadColumns+
			`, h.tenant_id FROM audit_heads h WHERE anchor >= $1 AND anchor < $2 AND tenant_id <> '`+
			logstore.Operator.String()+`'`, begin, begin+n)
	if err != nil {
		return err
	}
	owner := map[int64]uuid.UUID{}
	if _, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var tenant uuid.UUID
		h, err := logstore.ScanHeadAnd(row, &tenant)
		if err != nil {
			return struct{}{}, err
		}
		c := ledger.Checkpoint{Origin: ledger.Origin(w.v.name, tenant), Size: h.Size, Root: h.Root}
		made[h.Anchor], owner[h.Anchor] = ledger.LeafHash(ledger.HeadLeaf(ledger.MicrosOf(h.At), h.Salt, c)), tenant
		return struct{}{}, nil
	}); err != nil {
		return err
	}
	for _, k := range w.v.keys {
		if k.Anchor >= begin && k.Anchor < begin+n {
			made[k.Anchor] = ledger.LeafHash(ledger.KeyLeaf(k.At, k.Key))
		}
	}
	for i := range n {
		at := begin + i
		got, there := made[at]
		switch {
		case at < w.from:
		case !there:
			w.addBroken(fmt.Sprintf("leaf %d", at), "the head or key that it commits to is gone: a log was cut back, "+
				"a tenant taken away whole, or a key removed")
		case got != ledger.Hash(t.hashes[i*tlog.HashSize:]):
			if tenant, ok := owner[at]; ok {
				w.v.addProblem(tenant, fmt.Sprintf("leaf %d of the super-log", at),
					"the head that it commits to was changed")
			} else {
				w.addBroken(fmt.Sprintf("leaf %d", at), "the key that it commits to was replaced")
			}
		}
	}
	return nil
}
