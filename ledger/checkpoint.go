package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is a log's tree head in the form of C2SP tlog-checkpoint, without extension lines:
//
//	konstruct.example/tenant/11111111-1111-4111-8111-111111111111
//	20852163
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
type Checkpoint struct {
	Origin string // the log's name: the notary's name for the super-log, Origin for a tenant's log
	Size   int64  // number of leaves
	Root   Hash
}

// maxOrigin is the limit on a log's name in bytes.
const maxOrigin = 255

// Origin returns the name of a tenant's log: the notary's name, "/tenant/" and the tenant's UUID.
func Origin(notary string, tenant [16]byte) string {
	return notary + "/tenant/" + FormatID(tenant)
}

// Text returns the checkpoint's text, which is what is signed.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ErrNotCheckpoint is returned for a text that is not a valid checkpoint.
var ErrNotCheckpoint = errors.New("not a checkpoint")

// ParseCheckpoint parses a signed checkpoint's text. It refuses a text that Text would write differently, so that a
// checkpoint has one form.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("%w: it must have three lines", ErrNotCheckpoint)
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

// maxProof is the limit on a proof's hashes: a tree with an int64 size has at most 63 levels.
const maxProof = 64

// Includes verifies that the checkpoint's tree has the leaf at the index, by RFC 6962's inclusion proof.
func (c Checkpoint) Includes(index int64, leaf Hash, proof []Hash) error {
	if len(proof) > maxProof || index < 0 || index >= c.Size {
		return fmt.Errorf("no tree of size %d has a proof for leaf %d with %d hashes", c.Size, index, len(proof))
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

// Extends verifies that the checkpoint's tree extends that of an earlier checkpoint of the same log, by RFC 6962's
// consistency proof.
func (c Checkpoint) Extends(earlier Checkpoint, proof []Hash) error {
	if earlier.Origin != c.Origin || earlier.Size < 1 || earlier.Size > c.Size || len(proof) > maxProof {
		return fmt.Errorf("size %d of %s can't be proven with %d hashes to be a prefix of size %d of %s", earlier.Size,
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

// CheckName returns an error if a log's or key's name is not valid: C2SP signed-note allows neither spaces nor plus
// signs.
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
