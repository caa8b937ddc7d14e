// Package logstore reads the logs from the database: heads, tiles, checkpoints, keys, the history of rounds, and sealed
// events that are in no log yet. It proves what it reads in a head's root, and writes nothing. It knows the ledger's
// formats, but neither the signing (notary) nor the verification (verify).
package logstore

import (
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Operator is the tenant id of the super-log's rows. No tenant can have it: the database refuses its events.
var Operator = uuid.MustParse("6b6f6e73-7472-8563-8000-000000000000")

// Position is a seal's position in its log: logs grow in the order of (segment, xid, id).
type Position struct {
	Segment int32
	XID     uint64
	ID      uuid.UUID
}

// PositionOf returns the position of an event's seal, from the epoch and the transaction that sealed it.
func PositionOf(epoch int16, xid uint64, id uuid.UUID) Position {
	return Position{Segment: SegmentOf(epoch), XID: xid, ID: id}
}

// SegmentOf returns the segment of an epoch's seals. The next segment, one higher, holds the seals that the epoch left
// and a resumed notary appended.
func SegmentOf(epoch int16) int32 { return 2 * int32(epoch) }

// ErrRefused means that the notary does not sign until a person decides: `konstruct notary resume` explains.
var ErrRefused = errors.New("the notary refuses to sign")

// ErrNotInLog means that an event is sealed, and no signed checkpoint covers it yet.
var ErrNotInLog = errors.New("the event is in no signed checkpoint yet: the notary puts it there within a second or " +
	"two when it runs (konstruct notary run)")

// After reports whether a position comes after another.
func (p Position) After(o Position) bool {
	if p.Segment != o.Segment {
		return p.Segment > o.Segment
	}
	if p.XID != o.XID {
		return p.XID > o.XID
	}
	return string(p.ID[:]) > string(o.ID[:])
}

// IgnoreNoRows returns nil for pgx.ErrNoRows, and other errors as they are.
func IgnoreNoRows(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}
