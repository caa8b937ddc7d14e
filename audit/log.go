package audit

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
)

// ErrIDTaken is returned if an event with this id was logged before with other content.
var ErrIDTaken = errors.New("audit: the event id is taken by an event with other content: draw a new id")

// MaxBatch is how many events one batch has at most.
const MaxBatch = 10_000

// Log writes one event in one round trip and returns its id. If it returns nil, the event is committed and sealed.
func Log(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, e Event) (uuid.UUID, error) {
	e, err := e.check()
	if err != nil {
		return uuid.Nil, err
	}
	if err := log(ctx, door, tenant, e); err != nil {
		return uuid.Nil, err
	}
	return e.ID, nil
}

// log writes a checked event in one round trip and verifies its seal. If the id is taken, the stored event must have
// the same content.
func log(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, e Event) error {
	h := pendingBatch{tenant: tenant, events: []Event{e}}
	if err := door.Stream(ctx, h.parts(insertSQL(1, onConflict+returningColumns))); err != nil {
		return fmt.Errorf("audit: log an event: %w", err)
	}
	if h.committed == 1 {
		return nil
	}
	return door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return e.sameAsStored(ctx, tx, tenant) })
}

// LogBatch writes all events in one transaction, or none, and returns their ids in order. A *BatchError names the
// invalid events.
func LogBatch(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, events []Event) ([]uuid.UUID, error) {
	checked, ids, err := checkAll(events)
	if err != nil || len(events) == 0 {
		return ids, err
	}
	if err := logBatch(ctx, door, tenant, checked); err != nil {
		return nil, err
	}
	return ids, nil
}

// logBatch writes checked events in one transaction.
func logBatch(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, events []Event) error {
	err := door.Stream(ctx, streamParts(pendingBatches(nil, tenant, events)))
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23505" { // unique_violation: a retry, or an id that another event has
		return door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			return insertAll(ctx, tx, tenant, events)
		})
	}
	if err != nil {
		return fmt.Errorf("audit: log %s: %w", plural.Of(len(events), "event", "events"), err)
	}
	return nil
}

// pendingBatches appends one tenant's events, split into statements.
func pendingBatches(to []*pendingBatch, tenant uuid.UUID, events []Event) []*pendingBatch {
	for rest := events; len(rest) > 0; {
		some := rest[:tenantdb.StatementRows(streamed(rest))]
		to = append(to, &pendingBatch{tenant: tenant, events: some, all: true})
		rest = rest[len(some):]
	}
	return to
}

// streamParts returns the statements that write batches.
func streamParts(batches []*pendingBatch) (parts []tenantdb.Part) {
	for _, h := range batches {
		parts = append(parts, h.parts(insertSQL(len(h.events), returningColumns))...)
	}
	return parts
}

// streamRows is how many events one statement has at most: few enough that the server starts while the rest is
// prepared.
const streamRows = 256

// streamBytes is the size in bytes at which a statement takes no further event: it is held in memory twice.
const streamBytes = 1 << 20

// streamed returns how many of the first events go into the next statement, at least one.
func streamed(events []Event) (n int) {
	size := 0
	for n < min(len(events), streamRows) {
		if size += events[n].size(); n > 0 && size > streamBytes {
			break
		}
		n++
	}
	return n
}

// size is the length of the event's texts in bytes.
func (e *Event) size() int {
	return len(e.UserID) + len(e.Action) + len(e.Input) + len(e.Output) + len(e.Metadata)
}

// InTx writes events in the caller's own transaction, in which the tenant must already be set. They commit or roll back
// with it.
func InTx(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, events ...Event) ([]uuid.UUID, error) {
	checked, ids, err := checkAll(events)
	if err != nil {
		return nil, err
	}
	if err := insertAll(ctx, tx, tenant, checked); err != nil {
		return nil, err
	}
	return ids, nil
}

// checkAll returns the events as they will be stored, and their ids.
func checkAll(events []Event) ([]Event, []uuid.UUID, error) {
	if len(events) > MaxBatch {
		return nil, nil, fmt.Errorf("audit: a batch of %d events: the limit is %d", len(events), MaxBatch)
	}
	checked := make([]Event, len(events))
	ids := make([]uuid.UUID, len(events))
	if err := eachEvent(events, func(i int, e Event) (err error) {
		checked[i], err = e.check()
		ids[i] = checked[i].ID
		return err
	}); err != nil {
		return nil, nil, err
	}
	return checked, ids, nil
}

// eachEvent calls do with every event of a batch, and returns a BatchError with the invalid ones.
func eachEvent(events []Event, do func(i int, e Event) error) error {
	bad := &BatchError{}
	for i, e := range events {
		err := do(i, e)
		var field *FieldError
		switch {
		case errors.As(err, &field) && len(events) > 1:
			if bad.Events = append(bad.Events,
				InvalidEvent{Index: i, FieldError: field}); len(bad.Events) == maxReported {
				return bad
			}
		case err != nil:
			return err
		}
	}
	if len(bad.Events) > 0 {
		return bad
	}
	return nil
}

// maxReported is how many invalid events of a batch are named.
const maxReported = 100

// BatchError says which events of a batch are invalid, and why: the first 100.
type BatchError struct{ Events []InvalidEvent }

// InvalidEvent is an invalid event of a batch.
type InvalidEvent struct {
	Index int // in the batch
	*FieldError
}

// Error implements error.
func (e *BatchError) Error() string {
	s := fmt.Sprintf("event %d of the batch: %s", e.Events[0].Index, e.Events[0].Error())
	if n := len(e.Events) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// Unwrap returns the first invalid event's error.
func (e *BatchError) Unwrap() error { return e.Events[0].FieldError }

func insertAll(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, events []Event) error {
	for rest := events; len(rest) > 0; {
		n := tenantdb.StatementRows(len(rest))
		if err := insert(ctx, tx, tenant, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// insert writes the events of one statement. Events whose id is already there must equal the stored ones.
func insert(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, events []Event) error {
	h := pendingBatch{tenant: tenant, events: events}
	if err := h.write(ctx, tx); err != nil {
		return fmt.Errorf("audit: log %s: %w", plural.Of(len(events), "event", "events"), err)
	}
	if h.committed == len(events) {
		return nil
	}
	// Each id has the first event that was written with it; the others with this id must equal it.
	for _, e := range events {
		if err := e.sameAsStored(ctx, tx, tenant); err != nil {
			return fmt.Errorf("event %s: %w", e.ID, err)
		}
	}
	return nil
}

const eventColumns = 10

// onConflict makes an INSERT skip an event whose id is already there.
const onConflict = ` ON CONFLICT (tenant_id, id) DO NOTHING`

func eventArgs(events []Event, tenant uuid.UUID) []any {
	args := make([]any, 0, len(events)*eventColumns)
	for i := range events {
		args = events[i].args(args, &tenant)
	}
	return args
}

func insertSQL(n int, end string) string {
	var b strings.Builder
	b.WriteString(
		`INSERT INTO audit_events (id, tenant_id, agent_id, user_id, action_type, input_summary, output_summary,
		latency_ms, metadata, created_at) VALUES `)
	tenantdb.Values(&b, n, "uuid", "uuid", "uuid", "text", "text", "text", "text", "int", "jsonb", "timestamptz=now()")
	b.WriteString(end)
	return b.String()
}

// eventParams adds the parameters of a batch.
func eventParams(p *tenantdb.Params, events []Event, tenant uuid.UUID) {
	size := 0
	for i := range events {
		size += events[i].size() + 64
	}
	p.Grow(len(events)*eventColumns, size)
	args := make([]any, 0, eventColumns)
	for i := range events {
		for _, v := range events[i].args(args[:0], &tenant) {
			p.Add(v)
		}
	}
}

// args appends the event's parameters; zero values are NULL. They point into the event, which saves an allocation each.
func (e *Event) args(to []any, tenant *uuid.UUID) []any {
	var agent *[16]byte // pgx would convert uuid.UUID through driver.Valuer, which is slower
	if e.AgentID != uuid.Nil {
		agent = (*[16]byte)(&e.AgentID)
	}
	var latency *int32
	if e.Latency > 0 {
		ms := int32(e.Latency.Milliseconds())
		latency = &ms
	}
	var at *time.Time
	if !e.At.IsZero() {
		at = &e.At
	}
	return append(to, (*[16]byte)(&e.ID), (*[16]byte)(tenant), agent, nullIfEmpty(&e.UserID), &e.Action,
		nullIfEmpty(&e.Input), nullIfEmpty(&e.Output), latency, &e.Metadata, at)
}

func nullIfEmpty(s *string) *string {
	if *s == "" {
		return nil
	}
	return s
}

//go:embed sql/same_as_stored.sql
var sameAsStoredSQL string

// sameAsStored returns nil if the stored event of this id has this content, otherwise ErrIDTaken.
func (e Event) sameAsStored(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error {
	if e.stamped {
		e.At = time.Time{}
	}
	var same bool
	err := tx.QueryRow(ctx, sameAsStoredSQL, e.args(nil, &tenant)...).Scan(&same)
	if err != nil {
		return fmt.Errorf("audit: compare with the stored event: %w", err)
	}
	if !same {
		return ErrIDTaken
	}
	return nil
}
