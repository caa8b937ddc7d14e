package ledger

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"golang.org/x/mod/sumdb/tlog"
)

// Tiles are 256 hashes wide, as C2SP tlog-tiles has them.
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight
)

// edges makes compact ranges over RFC 6962's node hash, SHA-256(0x01 ‖ left ‖ right).
var edges = &compact.RangeFactory{Hash: func(l, r []byte) []byte {
	h := tlog.NodeHash(tlog.Hash(l), tlog.Hash(r))
	return h[:]
}}

// Range is a run of a log's leaves [Begin, End), known by the roots of its perfect subtrees alone: enough to
// be joined with its neighbours, and, where it begins at 0, to know the tree's root.
type Range struct{ r *compact.Range }

// NewRange begins a run at a leaf's index.
func NewRange(begin int64) Range { return Range{edges.NewEmptyRange(uint64(begin))} }

// ReadRange is a run whose hashes somebody says; they prove themselves in the root they lead to.
func ReadRange(begin, end int64, hashes []Hash) (Range, error) {
	raw := make([][]byte, len(hashes))
	for i := range hashes {
		raw[i] = hashes[i][:]
	}
	if begin < 0 || end < begin {
		return Range{}, fmt.Errorf("a run of leaves from %d to %d", begin, end)
	}
	r, err := edges.NewRange(uint64(begin), uint64(end), raw)
	if err != nil {
		return Range{}, fmt.Errorf("a run of leaves from %d to %d: %w", begin, end, err)
	}
	return Range{r}, nil
}

// RangeNodes lists, as levels and places, the subtrees that ReadRange wants the hashes of.
func RangeNodes(begin, end int64) []compact.NodeID {
	return compact.RangeNodes(uint64(begin), uint64(end), nil)
}

// End is the index behind the run's last leaf.
func (r Range) End() int64 { return int64(r.r.End()) }

// Append adds a leaf.
func (r Range) Append(leaf Hash) error { return r.r.Append(leaf[:], nil) }

// AppendTile adds 256 leaves by the root of the tile that they fill; the run must end where a tile begins.
func (r Range) AppendTile(root Hash) error {
	tile, err := edges.NewRange(r.r.End(), r.r.End()+TileWidth, [][]byte{root[:]})
	if err != nil {
		return err
	}
	return r.r.AppendRange(tile, nil)
}

// Join adds the run that follows.
func (r Range) Join(next Range) error { return r.r.AppendRange(next.r, nil) }

// Root is the root of the tree whose leaves the run is: it must begin at 0. The empty tree's is SHA-256 of nothing.
func (r Range) Root() (Hash, error) {
	if r.r.End() == 0 {
		return EmptyRoot(), nil
	}
	h, err := r.r.GetRootHash(nil)
	if err != nil {
		return Hash{}, err
	}
	return Hash(h), nil
}

// Clone returns a copy that can grow by itself.
func (r Range) Clone() Range {
	c, err := edges.NewRange(r.r.Begin(), r.r.End(), append([][]byte(nil), r.r.Hashes()...))
	if err != nil {
		panic(err) // a range's own hashes are as many as it needs
	}
	return Range{c}
}

// EmptyRoot is the root of a log without leaves.
func EmptyRoot() Hash { return sha256.Sum256(nil) }

// TileRoot is the root over a full tile's 256 hashes.
func TileRoot(hashes []byte) (Hash, error) {
	if len(hashes) != TileWidth*len(Hash{}) {
		return Hash{}, fmt.Errorf("a full tile has %d bytes, not %d", TileWidth*len(Hash{}), len(hashes))
	}
	var level [TileWidth]tlog.Hash
	for i := range level {
		level[i] = tlog.Hash(hashes[i*tlog.HashSize:])
	}
	for n := TileWidth / 2; n > 0; n /= 2 {
		for i := range n {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
	}
	return Hash(level[0]), nil
}

// TilePath is where C2SP tlog-tiles puts a tile, below the log's prefix.
func TilePath(t tlog.Tile) string {
	path := t.Path() // x/mod's own layout has the height in it
	if rest, ok := strings.CutPrefix(path, "tile/8/data/"); ok {
		return "tile/entries/" + rest
	}
	return strings.Replace(path, "tile/8/", "tile/", 1)
}

// ParseTilePath reads a tile's path; level -1 are the entries. ok is false for anything else.
func ParseTilePath(path string) (t tlog.Tile, ok bool) {
	if rest, entries := strings.CutPrefix(path, "tile/entries/"); entries {
		path = "tile/8/data/" + rest
	} else if rest, hashes := strings.CutPrefix(path, "tile/"); hashes {
		path = "tile/8/" + rest
	}
	t, err := tlog.ParseTilePath(path)
	return t, err == nil && t.H == TileHeight
}
