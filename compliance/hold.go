package compliance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Hold protects events from erasure and deletion: those that match all of its conditions. A hold without conditions
// protects all events.
type Hold struct {
	ID         uuid.UUID  `json:"id"`
	Reason     string     `json:"reason"`
	Since      *time.Time `json:"since,omitempty"` // of created_at, inclusive
	Until      *time.Time `json:"until,omitempty"` // exclusive
	Agent      *uuid.UUID `json:"agent_id,omitempty"`
	User       *string    `json:"user_id,omitempty"` // removed when the hold is released
	Action     *string    `json:"action_type,omitempty"`
	PlacedAt   time.Time  `json:"placed_at"`
	PlacedBy   string     `json:"placed_by"`
	ReleasedAt *time.Time `json:"released_at,omitempty"`
	ReleasedBy *string    `json:"released_by,omitempty"`
}

// String describes which events the hold protects.
func (h Hold) String() string {
	var parts []string
	add := func(format string, v any) { parts = append(parts, fmt.Sprintf(format, v)) }
	if h.Since != nil {
		add("from %s", h.Since.Format(time.RFC3339))
	}
	if h.Until != nil {
		add("before %s", h.Until.Format(time.RFC3339))
	}
	if h.Agent != nil {
		add("agent %s", *h.Agent)
	}
	if h.User != nil {
		add("user %s", *h.User)
	}
	if h.Action != nil {
		add("%s", *h.Action)
	}
	if len(parts) == 0 {
		return "all events"
	}
	return strings.Join(parts, ", ")
}

// Place puts a hold in force and returns its id. After Place has returned, no matching event is erased or deleted. Of h
// it uses the reason, which is required, and the five conditions.
func Place(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID, h Hold) (id uuid.UUID, err error) {
	err = queryOne(ctx, db, "place a hold", `SELECT audit_hold($1, $2, $3, $4, $5, $6, $7)`,
		[]any{tenant, h.Reason, h.Since, h.Until, h.Agent, h.User, h.Action}, &id)
	return id, err
}

// Release ends a hold. If the tenant requires two people, it only makes a request and returns its id.
func Release(ctx context.Context, db *tenantdb.Compliance, tenant, hold uuid.UUID,
	reason string) (request *uuid.UUID, err error) {
	err = queryOne(ctx, db, fmt.Sprintf("release hold %s", hold), `SELECT audit_release($1, $2, $3)`,
		[]any{tenant, hold, reason}, &request)
	return request, err
}

// Holds lists a tenant's holds, including released ones, newest first.
func Holds(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID) (all []Hold, err error) {
	err = db.Call(ctx,
		`SELECT id, reason, since, until, agent_id, user_id, action_type, placed_at, placed_by, released_at,
		released_by FROM audit_list_holds($1)`, []any{tenant}, func(rows pgx.Rows) error {
			all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Hold])
			return err
		})
	if err != nil {
		return nil, asError("list holds", err)
	}
	return all, nil
}
