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

// WitnessAnchor has a witness be the anchor: nothing is signed for good before it has cosigned, and it cosigns
// only what goes on from the size that it saw last. What it saw it remembers itself; while it is unavailable, nothing
// is signed.
type WitnessAnchor struct {
	DB      *tenantdb.Evidence
	Witness Witness
}

func (b WitnessAnchor) String() string { return "witness " + b.Witness.Verifier.Name() }

// Load implements Anchor: what the database signed last, which the witness is asked about before anything follows it.
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

// Swap implements Anchor: the witness goes from the version's size to the note's, or refuses.
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
	for {
		said, at, err := b.ask(ctx, c, old, signed)
		switch {
		case err != nil:
			return "", fmt.Errorf("witness %s: %w", b.Witness.Verifier.Name(), err)
		case said != nil:
			return strconv.FormatInt(c.Size, 10), b.Witness.keep(ctx, b.DB, c.Size, signed, said)
		case at == c.Size && old != at: // it cosigned this before, and we were killed before we heard
			old = at
		default:
			return "", &logstore.RolledBackError{Here: c.Size, Signed: at}
		}
	}
}

func (b WitnessAnchor) ask(ctx context.Context, c ledger.Checkpoint, old int64,
	signed string) (said []byte, at int64, err error) {
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
