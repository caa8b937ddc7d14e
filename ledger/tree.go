package ledger

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"golang.org/x/mod/sumdb/tlog"
)

// Tiles are 256 hashes wide, as in C2SP tlog-tiles.
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight
)

// compactRanges makes compact ranges over RFC 6962's node hash, SHA-256(0x01 ‖ left ‖ right).
var compactRanges = &compact.RangeFactory{Hash: func(l, r []byte) []byte {
	h := tlog.NodeHash(tlog.Hash(l), tlog.Hash(r))
	return h[:]
}}

// Range is a compact range: the leaves [Begin, End) of a log, represented by the roots of their perfect subtrees. It
// can be joined with an adjacent range. If it begins at 0, it has the tree's root.
type Range struct{ r *compact.Range }

// NewRange returns an empty range that begins at a leaf's index.
func NewRange(begin int64) Range { return Range{compactRanges.NewEmptyRange(uint64(begin))} }

// ReadRange returns a range with given subtree hashes. They are not checked here: the caller compares the root to which
// they lead with a signed one.
func ReadRange(begin, end int64, hashes []Hash) (Range, error) {
	raw := make([][]byte, len(hashes))
	for i := range hashes {
		raw[i] = hashes[i][:]
	}
	if begin < 0 || end < begin {
		return Range{}, fmt.Errorf("leaves %d to %d are not a range", begin, end)
	}
	r, err := compactRanges.NewRange(uint64(begin), uint64(end), raw)
	if err != nil {
		return Range{}, fmt.Errorf("the range of leaves %d to %d: %w", begin, end, err)
	}
	return Range{r}, nil
}

// RangeNodes returns the subtrees (level and index) whose hashes ReadRange needs.
func RangeNodes(begin, end int64) []compact.NodeID {
	return compact.RangeNodes(uint64(begin), uint64(end), nil)
}

// End returns the index after the range's last leaf.
func (r Range) End() int64 { return int64(r.r.End()) }

// Append adds a leaf.
func (r Range) Append(leaf Hash) error { return r.r.Append(leaf[:], nil) }

// AppendTile adds 256 leaves, given as the root of their full tile. The range must end at a tile's begin.
func (r Range) AppendTile(root Hash) error {
	tile, err := compactRanges.NewRange(r.r.End(), r.r.End()+TileWidth, [][]byte{root[:]})
	if err != nil {
		return err
	}
	return r.r.AppendRange(tile, nil)
}

// Join adds the range that begins where this one ends.
func (r Range) Join(next Range) error { return r.r.AppendRange(next.r, nil) }

// Root returns the root of the tree with the range's leaves; the range must begin at 0. The empty tree's root is
// SHA-256 of nothing.
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

// Clone returns an independent copy.
func (r Range) Clone() Range {
	c, err := compactRanges.NewRange(r.r.Begin(), r.r.End(), append([][]byte(nil), r.r.Hashes()...))
	if err != nil {
		panic(err) // can't happen: a range has the right number of hashes
	}
	return Range{c}
}

// EmptyRoot returns the root of a log without leaves.
func EmptyRoot() Hash { return sha256.Sum256(nil) }

// TileRoot returns the root over a full tile's 256 hashes of 32 bytes.
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

// TilePath returns a tile's path in C2SP tlog-tiles, below the log's prefix.
func TilePath(t tlog.Tile) string {
	path := t.Path() // x/mod's layout includes the height; C2SP's does not
	if rest, ok := strings.CutPrefix(path, "tile/8/data/"); ok {
		return "tile/entries/" + rest
	}
	return strings.Replace(path, "tile/8/", "tile/", 1)
}

// ParseTilePath parses a tile's path; level -1 is a tile of entries. ok is false if it is not a tile's path.
func ParseTilePath(path string) (t tlog.Tile, ok bool) {
	if rest, entries := strings.CutPrefix(path, "tile/entries/"); entries {
		path = "tile/8/data/" + rest
	} else if rest, hashes := strings.CutPrefix(path, "tile/"); hashes {
		path = "tile/8/" + rest
	}
	t, err := tlog.ParseTilePath(path)
	return t, err == nil && t.H == TileHeight
}
