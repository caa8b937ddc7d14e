package audit

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/konstruct/konstruct/tenantdb"
)

// Action types of what people do with an escalation. The event's metadata names the escalation.
const (
	ActionAcknowledged = "escalation_acknowledged"
	ActionResolved     = "escalation_resolved"
)

// The states of an escalation.
const (
	StateOpen         = "open"
	StateAcknowledged = "acknowledged"
	StateResolved     = "resolved"
)

// Errors of Acknowledge and Resolve.
var (
	ErrResolved     = errors.New("the escalation is resolved already")
	ErrAcknowledged = errors.New("the escalation is acknowledged already")
)

// EscalationRecord is an escalation with its state.
type EscalationRecord struct {
	ID             uuid.UUID  `json:"id"` // id of the event that opened it
	State          string     `json:"state"`
	AgentID        *uuid.UUID `json:"agent_id,omitempty"`
	UserID         *string    `json:"user_id,omitempty"`
	Reason         *string    `json:"reason"`
	Question       *string    `json:"question,omitempty"`
	Recipient      *string    `json:"to,omitempty"`
	OpenedAt       time.Time  `json:"opened_at"`
	AcknowledgedAt *time.Time `json:"acknowledged_at,omitempty"`
	AcknowledgedBy *string    `json:"acknowledged_by,omitempty"`
	ResolvedAt     *time.Time `json:"resolved_at,omitempty"`
	ResolvedBy     *string    `json:"resolved_by,omitempty"`
	Decision       *string    `json:"decision,omitempty"`
	// WaitTime is the time from opening to the first acknowledgement or resolution, in nanoseconds in JSON; zero while
	// open.
	WaitTime time.Duration `json:"waited_ns,omitempty"`
	Cursor   string        `json:"cursor"`
}

// escalationStepID returns the id of the event that acknowledges or resolves an escalation. It is derived from the
// escalation's id, so there is at most one event of each kind, however many people act at the same time. It is a UUIDv8
// (RFC 9562) of SHA-256; sql/escalations.sql computes the same.
func escalationStepID(escalation uuid.UUID, action string) (id uuid.UUID) {
	h := sha256.Sum256(append(escalation[:], action...))
	copy(id[:], h[:])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return id
}

// Acknowledge logs that somebody takes care of an escalation, and returns the event's id. It fails with ErrNotFound,
// ErrAcknowledged or ErrResolved.
func (t *Trail) Acknowledge(ctx context.Context, tenant, escalation uuid.UUID, by string) (uuid.UUID, error) {
	return t.advance(ctx, tenant, escalation, Event{Action: ActionAcknowledged, UserID: by}.OfService())
}

// Resolve logs what somebody decided, and returns the event's id. It fails with ErrNotFound or ErrResolved.
func (t *Trail) Resolve(ctx context.Context, tenant, escalation uuid.UUID, by, decision string) (uuid.UUID, error) {
	if decision == "" {
		return uuid.Nil, &FieldError{"decision", "is empty: say what was decided"}
	}
	return t.advance(ctx, tenant, escalation, Event{Action: ActionResolved, UserID: by, Output: decision}.OfService())
}

func (t *Trail) advance(ctx context.Context, tenant, escalation uuid.UUID, e Event) (uuid.UUID, error) {
	if e.UserID == "" {
		return uuid.Nil, &FieldError{"by", "is empty: say who"}
	}
	e.ID = escalationStepID(escalation, e.Action)
	taken := ErrResolved
	if e.Action == ActionAcknowledged {
		taken = ErrAcknowledged
	}
	err := t.door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var agent *uuid.UUID
		var conversation, trace *string
		var resolved bool
		err := tx.QueryRow(ctx,
			`SELECT e.agent_id, e.metadata->>'gen_ai.conversation.id', e.metadata->>'trace_id',
			   EXISTS (SELECT FROM audit_events r WHERE r.tenant_id = $1 AND r.id = $3)
			  FROM audit_events e WHERE e.tenant_id = $1 AND e.id = $2 AND e.action_type = 'escalation'`, tenant,
			escalation, escalationStepID(escalation, ActionResolved)).Scan(&agent, &conversation, &trace,
			&resolved)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case resolved:
			return ErrResolved
		}
		if agent != nil {
			e.AgentID = *agent
		}
		m := Metadata{"konstruct.escalation.id": escalation}
		if conversation != nil {
			m.set("gen_ai.conversation.id", *conversation)
		}
		if trace != nil { // so that the answer is in the run, and in its evidence
			m.set("trace_id", *trace)
		}
		if e.Metadata, err = json.Marshal(m); err != nil {
			return err
		}
		checked, _, err := t.prepare(tenant, []Event{e})
		if err != nil {
			return err
		}
		// A concurrent call waits here for the other transaction to end, and then finds the id taken.
		h := pendingBatch{tenant: tenant, events: checked}
		err = h.write(ctx, tx)
		if err == nil && h.committed == 0 {
			err = taken
		}
		return err
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("audit: escalation %s: %w", escalation, err)
	}
	return e.ID, nil
}

// EscalationFilter selects escalations; zero fields don't filter.
type EscalationFilter struct {
	State        string    // one of the states; empty: all; StateOpen: neither acknowledged nor resolved
	Since, Until time.Time // of OpenedAt: from, inclusive; until, exclusive
	After        string    // a Cursor
	Limit        int       // 50 when zero, at most MaxList
}

//go:embed sql/escalations.sql
var escalationsSQL string

// Escalations lists a tenant's escalations with their states, newest first.
func Escalations(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	f EscalationFilter) (cases []EscalationRecord, err error) {
	switch f.State {
	case "", StateOpen, StateAcknowledged, StateResolved:
	default:
		return nil, &FieldError{"state", fmt.Sprintf("%.40q is none of open, acknowledged, resolved", f.State)}
	}
	limit, after, id, err := page(f.Since, f.Until, f.Limit, f.After)
	if err != nil {
		return nil, err
	}
	err = door.Query(ctx, tenant, escalationsSQL,
		[]any{tenant, timeOrNil(f.Since), timeOrNil(f.Until), after, id, f.State, limit}, func(rows pgx.Rows) error {
			cases, err = pgx.CollectRows(rows, scanEscalation)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("audit: list escalations: %w", err)
	}
	return cases, nil
}

// GetEscalation returns one escalation with its state, or ErrNotFound.
func GetEscalation(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID) (c EscalationRecord, err error) {
	err = door.Query(ctx, tenant, `SELECT e.id, CASE WHEN r.id IS NOT NULL THEN 'resolved'
	    WHEN a.id IS NOT NULL THEN 'acknowledged' ELSE 'open' END,
	    e.agent_id, e.user_id, e.input_summary, e.output_summary, e.metadata->>'konstruct.escalation.to',
	    e.created_at, a.created_at, a.user_id, r.created_at, r.user_id, r.output_summary
	  FROM audit_events e
	  LEFT JOIN audit_events a
	    ON a.tenant_id = $1 AND a.id = $3 AND a.action_type = 'escalation_acknowledged'
	  LEFT JOIN audit_events r ON r.tenant_id = $1 AND r.id = $4 AND r.action_type = 'escalation_resolved'
	 WHERE e.tenant_id = $1 AND e.id = $2 AND e.action_type = 'escalation'`,
		[]any{tenant, id, escalationStepID(id, ActionAcknowledged), escalationStepID(id, ActionResolved)},
		func(rows pgx.Rows) error {
			c, err = pgx.CollectExactlyOneRow(rows, scanEscalation)
			return err
		})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return EscalationRecord{}, fmt.Errorf("audit: escalation %s: %w", id, err)
	}
	return c, nil
}

// The waits between looks at an escalation's state while somebody waits for its answer.
const (
	firstLook = 250 * time.Millisecond
	lastLook  = time.Second
)

// WaitEscalation returns an escalation when it is resolved, or as it is when within has passed. It fails with
// ErrNotFound, or if ctx ends.
func WaitEscalation(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID,
	within time.Duration) (EscalationRecord, error) {
	end := time.Now().Add(within)
	for pause := firstLook; ; pause = min(pause*9/8, lastLook) {
		c, err := GetEscalation(ctx, door, tenant, id)
		left := time.Until(end)
		if err != nil || c.State == StateResolved || left <= 0 {
			return c, err
		}
		if !wait(ctx, min(pause, left)) {
			return c, ctx.Err()
		}
	}
}

func scanEscalation(row pgx.CollectableRow) (c EscalationRecord, err error) {
	var opened, acknowledged, resolved pgtype.Timestamptz
	if err := row.Scan(&c.ID, &c.State, &c.AgentID, &c.UserID, &c.Reason, &c.Question, &c.Recipient, &opened,
		&acknowledged, &c.AcknowledgedBy, &resolved, &c.ResolvedBy, &c.Decision); err != nil {
		return c, err
	}
	c.OpenedAt, c.Cursor = withinRange(opened), cursor(opened, c.ID)
	for _, answer := range []struct {
		at pgtype.Timestamptz
		to **time.Time
	}{{resolved, &c.ResolvedAt}, {acknowledged, &c.AcknowledgedAt}} { // acknowledgement last: its WaitTime wins
		if answer.at.Valid {
			at := withinRange(answer.at)
			*answer.to = &at
			c.WaitTime = max(0, at.Sub(c.OpenedAt))
		}
	}
	return c, nil
}

// inOrder returns an error for a time range that does not begin before it ends.
func inOrder(since, until time.Time) error {
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return &FieldError{"since",
			fmt.Sprintf("%s is not before until (%s)", since.Format(time.RFC3339), until.Format(time.RFC3339))}
	}
	return nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
