package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is a log's head as C2SP tlog-checkpoint writes it, without extension lines:
//
//	konstruct.example/tenant/11111111-1111-4111-8111-111111111111
//	20852163
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
type Checkpoint struct {
	Origin string // which log: a notary's name for its super-log, Origin for a tenant's
	Size   int64  // how many leaves
	Root   Hash
}

// maxOrigin bounds a log's name.
const maxOrigin = 255

// Origin names a tenant's log under a notary's name.
func Origin(notary string, tenant [16]byte) string {
	return notary + "/tenant/" + FormatID(tenant)
}

// Text is the checkpoint as it is signed.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ErrNotCheckpoint says that a text is no checkpoint of ours.
var ErrNotCheckpoint = errors.New("not a checkpoint")

// ParseCheckpoint reads a signed checkpoint's text; what does not write back the same is refused.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("%w: it has not three lines", ErrNotCheckpoint)
	}
	if err := CheckName(lines[0]); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: line 1: %w", ErrNotCheckpoint, err)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("%w: line 2, %.40q, is no size", ErrNotCheckpoint, lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(Hash{}) {
		return Checkpoint{}, fmt.Errorf("%w: line 3, %.60q, is no root hash", ErrNotCheckpoint, lines[2])
	}
	c := Checkpoint{lines[0], size, Hash(root)}
	if c.Text() != text {
		return Checkpoint{}, fmt.Errorf("%w: it is not written as it should be", ErrNotCheckpoint)
	}
	return c, nil
}

// maxProof is how many hashes a proof has at most: a tree has no more than 63 levels.
const maxProof = 64

// Includes proves that a leaf stands in the checkpoint's tree, by RFC 6962's inclusion proof.
func (c Checkpoint) Includes(index int64, leaf Hash, proof []Hash) error {
	if len(proof) > maxProof || index < 0 || index >= c.Size {
		return fmt.Errorf("leaf %d with %d hashes is no proof in a tree of %d", index, len(proof), c.Size)
	}
	p := make(tlog.RecordProof, len(proof))
	for i, h := range proof {
		p[i] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(p, c.Size, tlog.Hash(c.Root), index, tlog.Hash(leaf)); err != nil {
		return fmt.Errorf("leaf %d is not in the tree of %s of size %d", index, c.Origin, c.Size)
	}
	return nil
}

// Extends proves that the checkpoint's tree goes on from an earlier one of its log, by RFC 6962's consistency proof.
func (c Checkpoint) Extends(earlier Checkpoint, proof []Hash) error {
	if earlier.Origin != c.Origin || earlier.Size < 1 || earlier.Size > c.Size || len(proof) > maxProof {
		return fmt.Errorf("size %d of %s with %d hashes is nothing that size %d of %s goes on from", earlier.Size,
			earlier.Origin, len(proof), c.Size, c.Origin)
	}
	p := make(tlog.TreeProof, len(proof))
	for i, h := range proof {
		p[i] = tlog.Hash(h)
	}
	if err := tlog.CheckTree(p, c.Size, tlog.Hash(c.Root), earlier.Size, tlog.Hash(earlier.Root)); err != nil {
		return fmt.Errorf("the tree of %s of size %d does not go on from the one of size %d", c.Origin, c.Size,
			earlier.Size)
	}
	return nil
}

// CheckName says what is wrong with a name of a log or key: C2SP signed-note allows no space and no plus.
func CheckName(name string) error {
	if name == "" || len(name) > maxOrigin {
		return fmt.Errorf("a name has 1 to %d bytes, not %d", maxOrigin, len(name))
	}
	for _, r := range name {
		if r <= ' ' || r == '+' || r == 0x7f || r == '�' || r >= 0x80 {
			return fmt.Errorf("name %.60q: only printable ASCII without space and plus", name)
		}
	}
	return nil
}
