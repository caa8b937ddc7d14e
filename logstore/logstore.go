// Package logstore reads the logs out of the database: heads, tiles, checkpoints, keys, the history of rounds, and what
// waits to enter. It proves what it reads in a head's root, and writes nothing. It knows the ledger's formats; it knows
// neither who signs (notary) nor what is asked about the logs (verify).
package logstore

import (
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Operator is the tenant id of the super-log's rows. No tenant can have it: the database refuses its events.
var Operator = uuid.MustParse("6b6f6e73-7472-8563-8000-000000000000")

// Position is where a seal stands in the order of its log: logs grow in the order of (segment, xid, id).
type Position struct {
	Segment int32
	XID     uint64
	ID      uuid.UUID
}

// PositionOf returns where the seal of an event stands, by the epoch and the transaction that sealed it.
func PositionOf(epoch int16, xid uint64, id uuid.UUID) Position {
	return Position{Segment: SegmentOf(epoch), XID: xid, ID: id}
}

// SegmentOf returns the segment of an epoch's seals, in the order of their transactions. The segment behind it, one
// higher, is of those that a resumed notary found left.
func SegmentOf(epoch int16) int32 { return 2 * int32(epoch) }

// ErrRefused says that the notary will not sign until a person decides: `konstruct notary resume` explains.
var ErrRefused = errors.New("the notary refuses to sign")

// ErrNotInLog says that an event is sealed, and that no signed checkpoint covers it yet.
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
