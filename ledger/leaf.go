// Package ledger has the formats of the provable log: leaves, trees and tiles, checkpoints, proofs, receipts. It is
// pure: it knows no database, reads no clock, and depends only on the standard library's crypto and the C2SP log
// libraries (golang.org/x/mod/sumdb, transparency-dev), so that an outsider can verify with it.
package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
)

// Hash is a SHA-256 digest.
type Hash = [sha256.Size]byte

// Mode says when an event was sealed.
type Mode int16

const (
	// SealedAtWrite marks an event sealed in its writer's own transaction.
	SealedAtWrite Mode = 0
	// SealedOnAdoption marks an event written before the database had seals, and sealed when the database was adopted.
	// Its seal proves nothing about the time before.
	SealedOnAdoption Mode = 1
)

// Field is the number of an event's field that can carry content. Each is committed to with its own salt.
type Field byte

// The committed fields, in leaf order.
const (
	AgentID Field = iota + 1
	UserID
	ActionType
	InputSummary
	OutputSummary
	LatencyMS
	Metadata
)

// Fields is the number of committed fields.
const Fields = 7

// fieldNames are the column names of the fields, by Field - 1.
var fieldNames = [Fields]string{"agent_id", "user_id", "action_type", "input_summary", "output_summary",
	"latency_ms", "metadata"}

// String returns the field's column name.
func (f Field) String() string {
	if f < AgentID || f > Metadata {
		return "unknown"
	}
	return fieldNames[f-1]
}

// FieldNamed returns the field with a column name.
func FieldNamed(column string) (Field, error) {
	for i, name := range fieldNames {
		if name == column {
			return Field(i + 1), nil
		}
	}
	return 0, fmt.Errorf("%.60q is no field that can be opened or withheld: they are %s", column,
		strings.Join(fieldNames[:], ", "))
}

// Event is an audit event with the bytes that the leaf commits to, as they are stored. A nil pointer is SQL's NULL,
// which is not the same as the empty value.
type Event struct {
	TenantID, ID  [16]byte
	CreatedAt     Micros
	AgentID       *[16]byte
	UserID        *string
	ActionType    string
	InputSummary  *string
	OutputSummary *string
	LatencyMS     *int32
	Metadata      string // PostgreSQL's own jsonb::text
}

// Micros is a time in microseconds since 2000-01-01T00:00:00Z, as in PostgreSQL's wire format: math.MaxInt64 is
// infinity and math.MinInt64 is -infinity.
type Micros int64

// The two infinite times.
const (
	Infinity         Micros = math.MaxInt64
	NegativeInfinity Micros = math.MinInt64
)

// postgresEpoch is 2000-01-01T00:00:00Z in Unix microseconds.
const postgresEpoch = 946_684_800_000_000

// MicrosOf truncates t to a microsecond. A writer must send the truncated time, because PostgreSQL rounds.
func MicrosOf(t time.Time) Micros { return Micros(t.UnixMicro() - postgresEpoch) }

// Time returns the time in UTC. The result is meaningless for the two infinite times.
func (m Micros) Time() time.Time { return time.UnixMicro(int64(m) + postgresEpoch).UTC() }

const (
	fieldDomain = "konstruct/field/v1"
	eventDomain = "konstruct/event/v1"
)

// FieldSalt derives a field's salt from its row's salt, so that opening one field reveals nothing about the others.
func FieldSalt(salt [16]byte, f Field) Hash {
	var b [17]byte
	copy(b[:], salt[:])
	b[16] = byte(f)
	return sha256.Sum256(b[:])
}

// Commit returns the salted commitment to one field's value; ok is false for NULL.
func Commit(fieldSalt Hash, f Field, value []byte, ok bool) Hash {
	var short [512]byte // avoids a heap allocation for short values
	b := append(short[:0], fieldDomain...)
	b = append(b, byte(f))
	b = append(b, fieldSalt[:]...)
	if !ok {
		return sha256.Sum256(append(b, 0))
	}
	b = append(b, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return sha256.Sum256(append(b, value...))
}

// Values are the bytes of an event's committed fields, by Field - 1; nil is NULL.
type Values [Fields][]byte

// Commitments returns the commitment to each field, in leaf order.
func (v *Values) Commitments(salt [16]byte) (c [Fields]Hash) {
	for f := AgentID; f <= Metadata; f++ {
		value := v[f-1]
		c[f-1] = Commit(FieldSalt(salt, f), f, value, value != nil)
	}
	return c
}

// Recommit returns the commitment to each field, in leaf order. For an erased field it returns the stored commitment.
func (v *Values) Recommit(salts *Salts, stored *[Fields]Hash) (c [Fields]Hash) {
	for f := AgentID; f <= Metadata; f++ {
		if value := v[f-1]; salts.erased.Has(f) {
			c[f-1] = stored[f-1]
		} else {
			c[f-1] = Commit(salts.Salt(f), f, value, value != nil)
		}
	}
	return c
}

// Values returns the bytes that the commitments cover.
func (e *Event) Values() (v Values) {
	text := func(s *string) []byte {
		if s == nil {
			return nil
		}
		return append([]byte{}, *s...) // not nil even if empty: nil is NULL
	}
	if e.AgentID != nil {
		v[AgentID-1] = e.AgentID[:]
	}
	if e.LatencyMS != nil {
		v[LatencyMS-1] = binary.BigEndian.AppendUint32(nil, uint32(*e.LatencyMS))
	}
	v[UserID-1], v[InputSummary-1], v[OutputSummary-1] = text(e.UserID), text(e.InputSummary), text(e.OutputSummary)
	v[ActionType-1], v[Metadata-1] = text(&e.ActionType), text(&e.Metadata)
	return v
}

// Commitments returns the commitment to each field, in leaf order.
func (e *Event) Commitments(salt [16]byte) [Fields]Hash {
	v := e.Values()
	return v.Commitments(salt)
}

// Leaf returns the event's leaf in the log. docs/leaf-format.md describes it byte by byte.
func (e *Event) Leaf(mode Mode, recordedAt Micros, commitments [Fields]Hash) []byte {
	return appendLeaf(make([]byte, 0, leafSize), e.TenantID, e.ID, e.CreatedAt, recordedAt, mode, &commitments)
}

// EventHash returns an event's leaf hash, given the commitments to its fields.
func EventHash(tenant, id [16]byte, created, recorded Micros, mode Mode, commitments *[Fields]Hash) Hash {
	var buf [leafSize + 1]byte
	return sum(appendLeaf(buf[:1], tenant, id, created, recorded, mode, commitments))
}

// leafSize is the size of an event's leaf in bytes.
const leafSize = len(eventDomain) + 2*16 + 2*8 + 2 + Fields*sha256.Size

func appendLeaf(b []byte, tenant, id [16]byte, created, recorded Micros, mode Mode, commitments *[Fields]Hash) []byte {
	b = append(b, eventDomain...)
	b = append(b, tenant[:]...)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(created))
	b = binary.BigEndian.AppendUint64(b, uint64(recorded))
	b = binary.BigEndian.AppendUint16(b, uint16(mode))
	for _, c := range commitments {
		b = append(b, c[:]...)
	}
	return b
}

// LeafHash returns RFC 6962's hash of a leaf: SHA-256(0x00 ‖ leaf).
func LeafHash(leaf []byte) Hash {
	return sum(append(make([]byte, 1, 1+len(leaf)), leaf...))
}

// sum hashes a zero byte followed by a leaf.
func sum(zeroAndLeaf []byte) Hash { return sha256.Sum256(zeroAndLeaf) }
