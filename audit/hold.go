package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
)

// ErrChanged is returned if an event was stored or sealed with other content than was sent: something on the table,
// such as a trigger, changes what is written to it.
var ErrChanged = errors.New(
	"audit: an event was not stored as it was sent: `konstruct doctor` names what was changed about the table")

// returningColumns makes an INSERT return the stored values that the writer can't know in advance.
const returningColumns = ` RETURNING id, created_at, metadata::text`

// sealedOnInsert selects the seals that this transaction made. It fails if an event has none.
const sealedOnInsert = `SELECT event_id, mode, recorded_at, salt, leaf_hash FROM audit_sealed_here($1)`

// pendingBatch writes events and verifies each against its seal. It recomputes the leaf from what was sent; the leaf
// equals the sealed one only if the same content was stored.
type pendingBatch struct {
	tenant uuid.UUID
	events []Event
	all    bool // whether every event must be new

	stored    []storedRow // by event; at is zero if the event was already there
	committed int
	sealed    int
}

// storedRow is what the database returned for an event that it wrote.
type storedRow struct {
	at       time.Time
	metadata string
	verified bool  // the seal is of the content that was sent
	changed  error // why it is not verified
}

// parts returns the statements of the transaction: the INSERT, and the check of the seals, without which nothing
// commits.
func (h *pendingBatch) parts(insert string) []tenantdb.Part {
	return []tenantdb.Part{
		{Tenant: h.tenant, SQL: insert, Params: func(p *tenantdb.Params) {
			h.prepare()
			eventParams(p, h.events, h.tenant)
		}, Read: h.readStored},
		{Tenant: h.tenant, SQL: sealedOnInsert, Params: func(p *tenantdb.Params) { p.UUIDs(h.ids()) },
			Read: h.readSealed},
	}
}

// write runs the same statements in the caller's transaction, in one round trip.
func (h *pendingBatch) write(ctx context.Context, tx pgx.Tx) error {
	h.prepare()
	var b pgx.Batch
	b.Queue(insertSQL(len(h.events), onConflict+returningColumns), eventArgs(h.events, h.tenant)...).Query(h.readStored)
	b.Queue(sealedOnInsert, h.ids()).Query(h.readSealed)
	return tx.SendBatch(ctx, &b).Close()
}

func (h *pendingBatch) prepare() {
	h.stored, h.committed, h.sealed = make([]storedRow, len(h.events)), 0, 0
}

func (h *pendingBatch) ids() []uuid.UUID {
	ids := make([]uuid.UUID, len(h.events))
	for i := range h.events {
		ids[i] = h.events[i].ID
	}
	return ids
}

// find returns an event's index, or -1. Rows mostly come in the order in which they were sent, so it tries near first.
func (h *pendingBatch) find(id uuid.UUID, near int) int {
	if near < len(h.events) && h.events[near].ID == id {
		return near
	}
	return slices.IndexFunc(h.events, func(e Event) bool { return e.ID == id })
}

func (h *pendingBatch) readStored(rows pgx.Rows) error {
	var id [16]byte
	var s storedRow
	_, err := pgx.ForEachRow(rows, []any{&id, &s.at, &s.metadata}, func() error {
		i := h.find(id, h.committed)
		if i < 0 {
			return fmt.Errorf("%w: event %s was stored but not sent", ErrChanged, uuid.UUID(id))
		}
		h.stored[i] = s
		h.committed++
		return nil
	})
	if err == nil && h.all && h.committed != len(h.events) {
		err = fmt.Errorf("%w: only %[3]d of %[2]d events were stored", ErrChanged, len(h.events), h.committed)
	}
	return err
}

func (h *pendingBatch) readSealed(rows pgx.Rows) error {
	var id [16]byte
	var mode int16
	var recorded time.Time
	var salt, leaf []byte
	_, err := pgx.ForEachRow(rows, []any{&id, &mode, &recorded, &salt, &leaf}, func() error {
		i := h.find(id, h.sealed)
		h.sealed++
		if i < 0 || h.stored[i].at.IsZero() {
			return nil // an event that was already there, written earlier in this transaction
		}
		e, s := &h.events[i], &h.stored[i]
		switch {
		case !e.At.IsZero() && !e.At.Equal(s.at):
			s.changed = fmt.Errorf("%w: event %s: its created_at", ErrChanged, e.ID)
		case !sameJSON(e.Metadata, s.metadata):
			s.changed = fmt.Errorf("%w: event %s: its metadata", ErrChanged, e.ID)
		case len(salt) != 16 || len(leaf) != len(ledger.Hash{}) ||
			e.leaf(h.tenant, s, mode, recorded, [16]byte(salt)) != ledger.Hash(leaf):
			s.changed = fmt.Errorf("%w: event %s was sealed as another", ErrChanged, e.ID)
		default:
			s.verified = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range h.stored {
		if s := &h.stored[i]; !s.at.IsZero() && !s.verified {
			return h.verdict(i)
		}
	}
	return nil
}

// verdict returns nil for an event whose seal was verified, otherwise an ErrChanged.
func (h *pendingBatch) verdict(i int) error {
	switch s := &h.stored[i]; {
	case s.verified:
		return nil
	case s.changed != nil:
		return s.changed
	case s.at.IsZero():
		return fmt.Errorf("%w: event %s was in a committed batch, and it is not known whether it was stored",
			ErrChanged, h.events[i].ID)
	}
	return fmt.Errorf("%w: event %s was written without a seal", ErrChanged, h.events[i].ID)
}

// leaf returns the leaf hash of the content that was sent.
func (e *Event) leaf(tenant uuid.UUID, s *storedRow, mode int16, recorded time.Time, salt [16]byte) ledger.Hash {
	var v ledger.Values
	if e.AgentID != uuid.Nil {
		v[ledger.AgentID-1] = e.AgentID[:]
	}
	for _, t := range [...]struct {
		f    ledger.Field
		text string
	}{{ledger.UserID, e.UserID}, {ledger.ActionType, e.Action}, {ledger.InputSummary, e.Input},
		{ledger.OutputSummary, e.Output}} {
		if t.text != "" {
			v[t.f-1] = []byte(t.text)
		}
	}
	if e.Latency > 0 {
		v[ledger.LatencyMS-1] = binary.BigEndian.AppendUint32(nil, uint32(e.Latency.Milliseconds()))
	}
	v[ledger.Metadata-1] = []byte(s.metadata)
	c := v.Commitments(salt)
	return ledger.EventHash(tenant, e.ID, ledger.MicrosOf(s.at), ledger.MicrosOf(recorded), ledger.Mode(mode), &c)
}
