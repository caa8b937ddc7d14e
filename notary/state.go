package notary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

// logState is the right edge of one log's tree, in memory.
type logState struct {
	tenant uuid.UUID
	edge   ledger.Range      // over all leaves
	tail   []byte            // hashes of the leaves in the open tile
	ids    []byte            // and their events
	last   logstore.Position // of the log's last leaf
	at     time.Time         // of its last head
	used   uint64            // the round that last used it

	// Added by this round, stored with its head.
	tiles           []tile
	added, addedIDs []byte
}

// tile is a full tile to be stored.
type tile struct {
	level int16
	n     int64
	data  []byte
	root  ledger.Hash
	last  logstore.Position // level 0 only: position of its last leaf
	ids   []byte            // level 0 only
}

func newLog(tenant uuid.UUID) *logState {
	return &logState{tenant: tenant, edge: ledger.NewRange(0)}
}

func (l *logState) size() int64 { return l.edge.End() }

func (l *logState) begin() { l.tiles, l.added, l.addedIDs = nil, l.added[:0], l.addedIDs[:0] }

// append adds a leaf; a tile that becomes full goes to l.tiles. id is empty in the super-log.
func (l *logState) append(leaf ledger.Hash, at logstore.Position, id []byte) error {
	l.tail, l.ids, l.last = append(l.tail, leaf[:]...), append(l.ids, id...), at
	l.added, l.addedIDs = append(l.added, leaf[:]...), append(l.addedIDs, id...)
	if err := l.edge.Append(leaf); err != nil {
		return err
	}
	if len(l.tail) < ledger.TileWidth*tlog.HashSize {
		return nil
	}
	root, err := ledger.TileRoot(l.tail)
	if err != nil {
		return err
	}
	l.tiles = append(l.tiles, tile{n: l.size()/ledger.TileWidth - 1, data: l.tail, root: root, last: at, ids: l.ids})
	l.tail, l.ids, l.added, l.addedIDs = nil, nil, l.added[:0], l.addedIDs[:0]
	return nil
}

// lift adds the higher tiles that this round's tiles complete.
func (l *logState) lift(ctx context.Context, tx pgx.Tx) error {
	tiles := l.tiles
	for level := int16(0); len(tiles) > 0; level++ {
		var above []tile
		for i, t := range tiles {
			if t.n%ledger.TileWidth != ledger.TileWidth-1 {
				continue
			}
			// The roots of the 256 tiles below: the last from this round, the others from the database.
			here := min(i+1, ledger.TileWidth)
			data, err := logstore.StoredRoots(ctx, tx, l.tenant, level, t.n-ledger.TileWidth+1, ledger.TileWidth-here)
			if err != nil {
				return err
			}
			for _, below := range tiles[i+1-here : i+1] {
				data = append(data, below.root[:]...)
			}
			root, err := ledger.TileRoot(data)
			if err != nil {
				return fmt.Errorf("level %d of log %s: %w", level+1, l.tenant, err)
			}
			above = append(above, tile{level: level + 1, n: t.n / ledger.TileWidth, data: data, root: root})
		}
		l.tiles = append(l.tiles, above...)
		tiles = above
	}
	return nil
}

// root returns the current root.
func (l *logState) root() (ledger.Hash, error) { return l.edge.Root() }

// load reads a log's right edge from the database and verifies it against the root of its head. A log without a head is
// empty.
func load(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (*logState, error) {
	l := newLog(tenant)
	head, err := logstore.LastHead(ctx, tx, tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the head of log %s: %w", tenant, err)
	}
	r := logstore.NewReader(ctx, tx, tenant, head.Size)
	full := head.Size / ledger.TileWidth * ledger.TileWidth
	// The roots of the perfect subtrees over the full tiles, each with its inclusion in the head's root proven.
	edge, err := r.Subtrees(head, 0, full)
	if err != nil {
		return nil, fmt.Errorf("log %s does not lead to its head's root: %w", tenant, err)
	}
	if l.edge, err = ledger.ReadRange(0, full, edge); err != nil {
		return nil, err
	}
	if l.tail, l.ids, err = r.OpenLeaves(full); err != nil {
		return nil, err
	}
	for i := 0; i < len(l.tail); i += tlog.HashSize {
		if err := l.edge.Append(ledger.Hash(l.tail[i:])); err != nil {
			return nil, err
		}
	}
	if root, err := l.root(); err != nil || l.size() != head.Size || root != head.Root {
		return nil, fmt.Errorf("log %s does not lead to its head's root: its tiles were changed (%w)", tenant,
			errors.Join(err, logstore.ErrRefused))
	}
	l.last, l.at = head.Last, head.At
	return l, nil
}
