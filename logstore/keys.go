package logstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/plural"
)

// DatedKey is a key of the notary, with the index and the time of its leaf in the super-log.
type DatedKey struct {
	ledger.Key
	Anchor int64
	At     ledger.Micros
}

// ReadKeys returns the notary's keys, the oldest first.
func ReadKeys(ctx context.Context, tx pgx.Tx) ([]DatedKey, error) {
	rows, err := tx.Query(ctx, `SELECT verifier, anchor, at FROM audit_keys WHERE tenant_id = $1 ORDER BY anchor`,
		Operator)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k DatedKey, err error) {
		var vkey string
		var at time.Time
		if err := row.Scan(&vkey, &k.Anchor, &at); err != nil {
			return k, err
		}
		k.At = ledger.MicrosOf(at)
		k.Key, err = ledger.ParseKey(vkey)
		return k, err
	})
}

var errKeyRetired = errors.New("it is signed with a key that was retired before")

// NotRetired returns the keys that may have signed a head whose leaf in the super-log has the given index: the one in
// force there, and later ones, because a head is signed after its leaf is in the log. keys are the oldest first.
func NotRetired(keys []DatedKey, anchor int64) []DatedKey {
	for len(keys) > 1 && keys[1].Anchor <= anchor {
		keys = keys[1:]
	}
	return keys
}

// OpenWithAnyKey verifies a checkpoint of the super-log with any key that was not retired at its size, and returns it.
func OpenWithAnyKey(ctx context.Context, tx pgx.Tx, signed, name string) (ledger.Checkpoint, error) {
	keys, err := ReadKeys(ctx, tx)
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	err = errors.New("it is not signed with a key of this log")
	for i := len(keys) - 1; i >= 0; i-- {
		if keys[i].Name != name {
			continue
		}
		c, openErr := ledger.OpenCheckpoint(signed, keys[i].Key)
		switch {
		case openErr != nil:
			err = openErr
		case i+1 < len(keys) && keys[i+1].Anchor < c.Size:
			err = errKeyRetired
		default:
			return c, nil
		}
	}
	return ledger.Checkpoint{}, err
}

// CheckAnchor verifies the anchor's checkpoint against the super-log's head, and returns it. The head's tree must
// extend it; otherwise the error is an ErrRefused.
func CheckAnchor(ctx context.Context, tx pgx.Tx, anchored, name string, head Head) (ledger.Checkpoint, error) {
	last, err := OpenWithAnyKey(ctx, tx, anchored, name)
	if err != nil {
		return last, fmt.Errorf("%w: the anchor's checkpoint: %w", ErrRefused, err)
	}
	if last.Size > head.Size {
		return last, &RolledBackError{Here: head.Size, Signed: last.Size}
	}
	root := head.Root
	if last.Size < head.Size {
		r := tlog.TileHashReader(tlog.Tree{N: head.Size, Hash: tlog.Hash(head.Root)},
			NewReader(ctx, tx, Operator, head.Size))
		h, err := tlog.TreeHash(last.Size, r)
		if err != nil {
			return last, fmt.Errorf("the super-log at size %d: %w", last.Size, err)
		}
		root = ledger.Hash(h)
	}
	if root != last.Root {
		return last, fmt.Errorf("%w: the super-log was rewritten: at size %d its root is not the one that was "+
			"signed. Run `konstruct notary resume`, which explains", ErrRefused, last.Size)
	}
	return last, nil
}

// RolledBackError refuses a database that was restored to an earlier state.
type RolledBackError struct {
	Here, Signed int64 // sizes of the super-log, in leaves: in the database, and signed
}

// Error implements error.
func (e *RolledBackError) Error() string {
	return fmt.Sprintf("%v: the database was restored to an earlier state: it holds a super-log of %s, and "+
		"one of %d was signed. Run `konstruct notary resume`, which explains", ErrRefused,
		plural.Of(e.Here, "leaf", "leaves"), e.Signed)
}

// Unwrap implements errors.Unwrap.
func (e *RolledBackError) Unwrap() error { return ErrRefused }
