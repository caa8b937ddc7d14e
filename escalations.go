package konstruct

import (
	"context"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// List lists what agents handed to people, and what became of it, the newest first.
func (g Escalations) List(ctx context.Context, f EscalationFilter) ([]EscalationRecord, error) {
	return audit.Escalations(ctx, g.t.k.door, g.t.id, f)
}

// Acknowledge says that somebody looks after an escalation; it is an event. audit.ErrNotFound, audit.ErrAcknowledged
// and audit.ErrResolved say why not.
func (g Escalations) Acknowledge(ctx context.Context, escalation uuid.UUID, by string) (uuid.UUID, error) {
	return g.t.k.trail.Acknowledge(ctx, g.t.id, escalation, by)
}

// Resolve says what somebody decided about an escalation; it is an event. audit.ErrNotFound and audit.ErrResolved say
// why not.
func (g Escalations) Resolve(ctx context.Context, escalation uuid.UUID, by, decision string) (uuid.UUID, error) {
	return g.t.k.trail.Resolve(ctx, g.t.id, escalation, by, decision)
}
