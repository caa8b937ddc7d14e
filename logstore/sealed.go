package logstore

import (
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
)

// SealedEvent is a stored event with its seal, as the notary's role reads them. Its byte slices are valid until the
// next row.
type SealedEvent struct {
	TenantID, ID    [16]byte
	Stored, HasSeal bool // whether there is an event, and a seal
	CreatedAt       ledger.Micros
	Values          ledger.Values
	Mode            ledger.Mode
	RecordedAt      ledger.Micros
	Salts           ledger.Salts
	Commitments     [ledger.Fields]ledger.Hash
	Leaf            ledger.Hash
	Epoch           int16
	XID             uint64
	malformed       bool
}

// SealedColumns are the columns that Scan reads, of an event e and its seal s. Either may be missing, from an outer
// join.
const SealedColumns = `coalesce(e.tenant_id, s.tenant_id), coalesce(e.id, s.event_id), e.created_at,
       e.agent_id, e.user_id, e.action_type, e.input_summary, e.output_summary, e.latency_ms, e.metadata::text,
       s.mode, s.recorded_at, s.salt, s.commitments, s.leaf_hash, s.epoch, s.xid`

// sealedColumns is the number of SealedColumns.
const sealedColumns = 17

// Binary makes a query return results in the binary format that Scan needs. Pass it as the first argument.
func Binary() pgx.QueryResultFormats { return pgx.QueryResultFormats{1} }

// Scan reads the current row. It decodes the 17 columns from their bytes, which takes a third of the time that
// reflection takes.
func (s *SealedEvent) Scan(rows pgx.Rows) error {
	raw := rows.RawValues()
	if len(raw) < sealedColumns || len(raw[0]) != 16 || len(raw[1]) != 16 {
		return fmt.Errorf("audit: a sealed event of %d columns", len(raw))
	}
	*s = SealedEvent{TenantID: [16]byte(raw[0]), ID: [16]byte(raw[1]), Stored: raw[2] != nil, HasSeal: raw[10] != nil}
	if s.Stored {
		s.CreatedAt = ledger.Micros(binary.BigEndian.Uint64(raw[2]))
		copy(s.Values[:], raw[3:10])
	}
	if !s.HasSeal {
		return nil
	}
	if len(raw[11]) != 8 || len(raw[15]) != 2 || len(raw[16]) != 8 {
		s.malformed = true
		return nil
	}
	s.Mode, s.RecordedAt = ledger.Mode(binary.BigEndian.Uint16(raw[10])),
		ledger.Micros(binary.BigEndian.Uint64(raw[11]))
	s.Epoch, s.XID = int16(binary.BigEndian.Uint16(raw[15])), binary.BigEndian.Uint64(raw[16])
	var err error
	if s.Salts, err = ledger.ReadSalts(raw[12]); err != nil || len(raw[13]) != ledger.Fields*32 || len(raw[14]) != 32 {
		s.malformed = true
		return nil
	}
	s.Leaf = ledger.Hash(raw[14])
	for i := range s.Commitments {
		s.Commitments[i] = ledger.Hash(raw[13][i*32:])
	}
	return nil
}

// Record returns the event as an outsider gets it, with no field shown yet.
func (s *SealedEvent) Record() ledger.Record {
	return ledger.Record{TenantID: s.TenantID, ID: s.ID, CreatedAt: s.CreatedAt, RecordedAt: s.RecordedAt, Mode: s.Mode}
}

// EventMissing is what Difference returns for a seal whose event is not there.
const EventMissing = "was sealed and is gone"

// reset reports whether a field has the value that an erasure leaves: NULL, or an empty object for metadata, which
// can't be NULL.
func (s *SealedEvent) reset(f ledger.Field) bool {
	value := s.Values[f-1]
	return value == nil || f == ledger.Metadata && string(value) == "{}"
}

// Difference recomputes every commitment and the leaf, and describes the first mismatch; empty if there is none. It
// does not check that an erasure was recorded by an act; Rows.Verify does.
func (s *SealedEvent) Difference() string {
	switch {
	case !s.HasSeal:
		return "has no seal"
	case !s.Stored:
		return EventMissing
	case s.malformed:
		return "does not match its seal: the seal itself is malformed"
	}
	now := s.Values.Recommit(&s.Salts, &s.Commitments)
	for i, c := range now {
		if f := ledger.Field(i + 1); s.Salts.Erased().Has(f) && !s.reset(f) {
			return fmt.Sprintf("does not match its seal: %s was erased, and holds something", f)
		}
		if c != s.Commitments[i] {
			return fmt.Sprintf("does not match its seal: %s was changed after %s", ledger.Field(i+1),
				s.RecordedAt.Time().Format("2006-01-02T15:04:05.999999Z07:00"))
		}
	}
	if ledger.EventHash(s.TenantID, s.ID, s.CreatedAt, s.RecordedAt, s.Mode, &now) != s.Leaf {
		return "does not match its seal: created_at, recorded_at, mode or the leaf hash was changed"
	}
	return ""
}

// Apply copies the values, so that they stay valid after the next row.
func (s *SealedEvent) Apply() {
	for i, v := range s.Values {
		if v != nil {
			s.Values[i] = append([]byte{}, v...)
		}
	}
}
