package notary

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// WitnessAnchor uses a witness as the anchor: a checkpoint counts as signed once the witness has cosigned it, and the
// witness cosigns only extensions of what it saw last. It keeps its own state. While it is unavailable, nothing is
// signed.
type WitnessAnchor struct {
	DB      *tenantdb.Evidence
	Witness Witness
}

func (b WitnessAnchor) String() string { return "witness " + b.Witness.Verifier.Name() }

// Load implements Anchor. It returns the checkpoint that the database signed last; Swap has the witness verify it.
func (b WitnessAnchor) Load(ctx context.Context) (signed, version string, err error) {
	err = b.DB.Snapshot(ctx, func(tx pgx.Tx) error {
		var size int64
		err := tx.QueryRow(ctx,
			`SELECT size, note FROM audit_checkpoints WHERE tenant_id = $1 ORDER BY size DESC LIMIT 1`,
			logstore.Operator).
			Scan(&size, &signed)
		version = strconv.FormatInt(size, 10)
		return logstore.IgnoreNoRows(err)
	})
	if signed == "" {
		version = ""
	}
	return signed, version, err
}

// Swap implements Anchor: the witness cosigns the step from the version's size, or from the size that it has, to the
// note's, or refuses.
func (b WitnessAnchor) Swap(ctx context.Context, version, signed string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, witnessLimit)
	defer cancel()
	text, _, _ := strings.Cut(signed, "\n\n")
	c, err := ledger.ParseCheckpoint(text + "\n")
	if err != nil {
		return "", err
	}
	old := int64(0)
	if version != "" {
		if old, err = strconv.ParseInt(version, 10, 64); err != nil {
			return "", err
		}
	}
	for try := 0; ; try++ {
		lines, at, err := b.request(ctx, c, old, signed)
		switch {
		case err != nil:
			return "", fmt.Errorf("witness %s: %w", b.Witness.Verifier.Name(), err)
		case lines != nil:
			return strconv.FormatInt(c.Size, 10), b.Witness.storeCosignature(ctx, b.DB, c.Size, signed, lines)
		case at > c.Size:
			return "", &logstore.RolledBackError{Here: c.Size, Signed: at}
		case try == 1 || at == old:
			return "", fmt.Errorf("witness %s: it has size %d, and rejected the proof from there",
				b.Witness.Verifier.Name(), at)
		}
		// It is new to this log and has seen less, or cosigned more before a kill came between its response and the
		// commit. The proof from its own size shows it that this tree extends what it saw.
		old = at
	}
}

func (b WitnessAnchor) request(ctx context.Context, c ledger.Checkpoint, old int64,
	signed string) (lines []byte, at int64, err error) {
	var body []byte
	if err := b.DB.Snapshot(ctx, func(tx pgx.Tx) error {
		tree := tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)},
			logstore.NewReader(ctx, tx, logstore.Operator, c.Size))
		body, err = request(old, c.Size, tree, signed)
		return err
	}); err != nil {
		return nil, 0, err
	}
	return b.Witness.post(ctx, body)
}
