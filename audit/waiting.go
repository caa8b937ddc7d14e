package audit

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// WaitingReport is a report of a call that waits for another report of the same call, before both become one event.
type WaitingReport struct {
	Event  Event // the report alone
	Logged bool  // an event of this id is on the trail already
	digest [32]byte
}

// waitingEvent is an event as it waits in the database.
type waitingEvent struct {
	AgentID  uuid.UUID       `json:"agent_id"`
	UserID   string          `json:"user_id,omitempty"`
	Action   string          `json:"action_type"`
	Input    string          `json:"input_summary,omitempty"`
	Output   string          `json:"output_summary,omitempty"`
	Latency  time.Duration   `json:"latency_ns,omitempty"`
	Metadata json.RawMessage `json:"metadata"`
	At       time.Time       `json:"created_at,omitzero"`
}

// KeepWaiting stores reports durably until LogWaiting logs them, or for so long, by the database's clock: then LogDue
// does. They are redacted and checked first, as if they were logged. A report that waits already is stored once. It
// returns those that it did not store, since an event of the same id is on the trail: they are to be logged now.
func (t *Trail) KeepWaiting(ctx context.Context, tenant uuid.UUID, reports []Event, wait time.Duration) (now []Event,
	err error) {
	checked, ids, err := t.prepare(tenant, reports)
	if err != nil {
		return nil, err
	}
	var clock time.Time
	var there []uuid.UUID
	if err := t.door.Query(ctx, tenant, `SELECT now(), ARRAY(
		SELECT e.id FROM audit_events e WHERE e.tenant_id = $1 AND e.id = ANY($2))`, []any{tenant, ids},
		func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&clock, &there}, func() error { return nil })
			return err
		}); err != nil {
		return nil, fmt.Errorf("audit: look for the events of reports: %w", err)
	}
	var rows []waitingRow
	for i, e := range checked {
		if slices.Contains(there, e.ID) {
			now = append(now, reports[i])
			continue
		}
		raw, err := json.Marshal(waitingEvent{e.AgentID, e.UserID, e.Action, e.Input, e.Output, e.Latency, e.Metadata,
			e.At})
		if err != nil {
			return nil, fmt.Errorf("audit: encode a report: %w", err)
		}
		rows = append(rows, waitingRow{e.ID, sha256.Sum256(raw), raw})
	}
	if err := t.door.Stream(ctx, waitingParts(tenant, rows, clock.Add(wait))); err != nil {
		return nil, fmt.Errorf("audit: keep reports until their spans come: %w", err)
	}
	return now, nil
}

// waitingRow is a row of audit_reports.
type waitingRow struct {
	id     uuid.UUID
	digest [32]byte
	event  []byte
}

// waitingParts returns the statements that store rows.
func waitingParts(tenant uuid.UUID, rows []waitingRow, due time.Time) (parts []tenantdb.Part) {
	for len(rows) > 0 {
		some := rows[:tenantdb.StatementRows(len(rows))]
		rows = rows[len(some):]
		var sql strings.Builder
		sql.WriteString("INSERT INTO audit_reports (tenant_id, event_id, digest, event, due) VALUES ")
		tenantdb.Values(&sql, len(some), "uuid", "uuid", "bytea", "jsonb", "timestamptz")
		sql.WriteString(" ON CONFLICT (tenant_id, event_id, digest) DO NOTHING")
		parts = append(parts, tenantdb.Part{Tenant: tenant, SQL: sql.String(), Params: func(p *tenantdb.Params) {
			for i := range some {
				p.UUID(tenant)
				p.UUID(some[i].id)
				p.Bytes(some[i].digest[:])
				p.JSON(some[i].event)
				p.Time(due)
			}
		}})
	}
	return parts
}

// MaxWaitingRead is how many bytes of reports, as JSON, are read at one time; the last one may exceed it.
const MaxWaitingRead = 8 << 20

// waitingSQL selects the first report that waits for each of some events, with the sizes of those before it.
const waitingSQL = `SELECT w.event_id, w.digest, w.event, octet_length(w.event::text) AS size,
    sum(octet_length(w.event::text)) OVER (ORDER BY w.event_id) - octet_length(w.event::text) AS before
  FROM (SELECT DISTINCT ON (r.event_id) r.event_id, r.digest, r.event FROM audit_reports r
         WHERE r.tenant_id = $1 AND r.event_id = ANY($2) ORDER BY r.event_id, r.due, r.digest) w`

// WaitingSize returns the size of what Waiting reads, in bytes of JSON.
func (t *Trail) WaitingSize(ctx context.Context, tenant uuid.UUID, events []uuid.UUID) (size int64, err error) {
	err = t.door.Query(ctx, tenant, `SELECT coalesce(sum(w.size), 0)::bigint FROM (`+waitingSQL+`) w
		WHERE w.before < $3`, []any{tenant, events, MaxWaitingRead}, func(rows pgx.Rows) error {
		size, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("audit: look for reports that wait: %w", err)
	}
	return size, nil
}

// Waiting returns the first report that waits for each of these events, up to MaxWaitingRead. Others wait on.
func (t *Trail) Waiting(ctx context.Context, tenant uuid.UUID, events []uuid.UUID) ([]WaitingReport, error) {
	return readWaiting(ctx, t.door, tenant, `SELECT w.event_id, w.digest, w.event,
		  EXISTS (SELECT FROM audit_events e WHERE e.tenant_id = $1 AND e.id = w.event_id)
		FROM (`+waitingSQL+`) w WHERE w.before < $3`, tenant, events, MaxWaitingRead)
}

func readWaiting(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, sql string,
	args ...any) (all []WaitingReport, err error) {
	err = door.Query(ctx, tenant, sql, args, func(rows pgx.Rows) error {
		all = nil
		var id uuid.UUID
		var digest, raw []byte
		var logged bool
		_, err := pgx.ForEachRow(rows, []any{&id, &digest, &raw, &logged}, func() error {
			var w waitingEvent
			if err := json.Unmarshal(raw, &w); err != nil {
				return err
			}
			e := Event{ID: id, AgentID: w.AgentID, UserID: w.UserID, Action: w.Action, Input: w.Input, Output: w.Output,
				Latency: w.Latency, Metadata: w.Metadata, At: w.At, service: true, redacted: true, derived: true}
			all = append(all, WaitingReport{e, logged, [32]byte(digest)})
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audit: read the reports that wait: %w", err)
	}
	return all, nil
}

// LogWaiting logs events with all that reports told, which then no longer wait. Unlike LogReports it never goes on when
// the trail can't be written: what waits is durable.
func (t *Trail) LogWaiting(ctx context.Context, tenant uuid.UUID, events []Event,
	further func(stored StoredEvent, e Event) (Event, bool), told []WaitingReport) error {
	err := t.logReports(ctx, tenant, events, further, func(ctx context.Context, events []Event) error {
		_, _, err := t.surely(ctx, tenant, events, func(ctx context.Context, events []Event) error {
			return logBatch(ctx, t.door, tenant, events)
		})
		return err
	})
	if err != nil {
		return err
	}
	return t.reported(ctx, tenant, told)
}

// Redacted returns an event with the tenant's rules applied, which then are not applied again: it is to be joined with
// one that waited.
func (t *Trail) Redacted(tenant uuid.UUID, e Event) (Event, error) {
	return t.policy.tenantRules(tenant).redactOnce(tenant, e)
}

// reported ends the wait of reports.
func (t *Trail) reported(ctx context.Context, tenant uuid.UUID, reports []WaitingReport) error {
	ids, digests := make([]uuid.UUID, len(reports)), make([][]byte, len(reports))
	for i := range reports {
		ids[i], digests[i] = reports[i].Event.ID, reports[i].digest[:]
	}
	err := t.door.Query(ctx, tenant,
		`DELETE FROM audit_reports r WHERE r.tenant_id = $1 AND r.event_id = ANY($2) AND r.digest = ANY($3)`,
		[]any{tenant, ids, digests}, nil)
	if err != nil {
		return fmt.Errorf("audit: reports that were logged: %w", err)
	}
	return nil
}

// dueAtOnce is how many reports one turn logs.
const dueAtOnce = 200

// dueSQL selects the reports that are due, up to MaxWaitingRead.
const dueSQL = `SELECT d.event_id, d.digest, d.event, false FROM (
    SELECT s.*, sum(octet_length(s.event::text)) OVER place - octet_length(s.event::text) AS before
      FROM (SELECT r.event_id, r.digest, r.event, r.due FROM audit_reports r
             WHERE r.tenant_id = $1 AND r.due <= now() ORDER BY r.due, r.event_id, r.digest LIMIT $2) s
    WINDOW place AS (ORDER BY s.due, s.event_id, s.digest)) d
  WHERE d.before < $3 ORDER BY d.due, d.event_id, d.digest`

// LogDue logs reports whose other report did not come in time. It is the worker of fairqueue.Reports: killed between
// the event and the report's end, it finds the event at the next turn, and logs nothing twice.
type LogDue struct {
	Trail   *Trail
	Further func(stored StoredEvent, e Event) (Event, bool) // as LogReports needs it
}

// Work logs what is due of a tenant. It implements fairqueue.Worker.
func (l LogDue) Work(ctx context.Context, tenant uuid.UUID) (worked bool, err error) {
	due, err := readWaiting(ctx, l.Trail.door, tenant, dueSQL, tenant, dueAtOnce, MaxWaitingRead)
	if err != nil || len(due) == 0 {
		return false, err
	}
	events := make([]Event, len(due))
	for i := range due {
		events[i] = due[i].Event
	}
	err = l.Trail.LogWaiting(ctx, tenant, events, l.Further, due)
	if err == nil || !eventsFault(err) {
		return err == nil, err
	}
	for i := range events { // one can't be logged: the others are, and it does not stand before them
		one := l.Trail.LogWaiting(ctx, tenant, events[i:i+1], l.Further, due[i:i+1])
		if one == nil {
			worked = true
			continue
		}
		err = errors.Join(one, l.Trail.putOff(ctx, tenant, due[i]))
	}
	return worked, err
}

// putOff lets a report wait for another minute.
func (t *Trail) putOff(ctx context.Context, tenant uuid.UUID, r WaitingReport) error {
	err := t.door.Query(ctx, tenant, `UPDATE audit_reports r SET due = now() + interval '1 minute'
		WHERE r.tenant_id = $1 AND r.event_id = $2 AND r.digest = $3`, []any{tenant, r.Event.ID, r.digest[:]}, nil)
	if err != nil {
		return fmt.Errorf("audit: put a report off: %w", err)
	}
	return nil
}

// Prepare reports whether reports of the tenant wait. It implements fairqueue.Worker.
func (l LogDue) Prepare(ctx context.Context, tenant uuid.UUID) (waits bool, err error) {
	err = l.Trail.door.Query(ctx, tenant, `SELECT EXISTS (SELECT FROM audit_reports r WHERE r.tenant_id = $1)`,
		[]any{tenant}, func(rows pgx.Rows) error {
			waits, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
			return err
		})
	if err != nil {
		return false, fmt.Errorf("audit: look for reports that wait: %w", err)
	}
	return waits, nil
}
