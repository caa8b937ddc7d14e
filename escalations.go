package konstruct

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// List lists decisions that agents escalated to people, with their state, the newest first.
func (g Escalations) List(ctx context.Context, f EscalationFilter) ([]EscalationRecord, error) {
	return audit.Escalations(ctx, g.t.k.door, g.t.id, f)
}

// Get returns an escalation with its state, or audit.ErrNotFound.
func (g Escalations) Get(ctx context.Context, escalation uuid.UUID) (EscalationRecord, error) {
	return audit.GetEscalation(ctx, g.t.k.door, g.t.id, escalation)
}

// Wait returns an escalation when somebody has resolved it, or as it is when within has passed. It returns
// audit.ErrNotFound if there is none.
func (g Escalations) Wait(ctx context.Context, escalation uuid.UUID, within time.Duration) (EscalationRecord, error) {
	return audit.WaitEscalation(ctx, g.t.k.door, g.t.id, escalation, within)
}

// Acknowledge records that a person takes care of an escalation. It returns the event's id, or audit.ErrNotFound,
// audit.ErrAcknowledged or audit.ErrResolved.
func (g Escalations) Acknowledge(ctx context.Context, escalation uuid.UUID, by string) (uuid.UUID, error) {
	return g.t.k.trail.Acknowledge(ctx, g.t.id, escalation, by)
}

// Resolve records a person's decision about an escalation. It returns the event's id, or audit.ErrNotFound or
// audit.ErrResolved.
func (g Escalations) Resolve(ctx context.Context, escalation uuid.UUID, by, decision string) (uuid.UUID, error) {
	return g.t.k.trail.Resolve(ctx, g.t.id, escalation, by, decision)
}
