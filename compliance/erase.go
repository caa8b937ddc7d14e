package compliance

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
)

// MaxEvents is how many events one erasure may name. An erasure by user has no such limit.
const MaxEvents = 1000

// Erasure is a request to erase fields of events.
type Erasure struct {
	// Events are the ids of the events. Alternatively, User selects all events of a user.
	Events []uuid.UUID
	User   string
	// Fields are the fields to erase: any but ActionType.
	Fields []ledger.Field
	// Reason is stored in the trail permanently, so it must not name the person.
	Reason string
}

// Erased is the result of an erasure.
type Erased struct {
	// Events is how many events had fields erased.
	Events int64 `json:"events"`
	// Request is set if the tenant requires two people: nothing is erased until another person approves it.
	Request *uuid.UUID `json:"request,omitempty"`
}

// Erase blanks fields and destroys their salts. The commitments stay, so every proof still verifies. Either all the
// fields are erased or none. Besides context and connection errors it returns ErrInvalid, ErrNotFound, ErrHeld,
// ErrErased, ErrRefused and ErrBusy.
func Erase(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID, e Erasure) (done Erased, err error) {
	fields := make([]int16, len(e.Fields))
	for i, f := range e.Fields {
		fields[i] = int16(f)
	}
	var events []uuid.UUID
	seen := map[uuid.UUID]bool{}
	for _, id := range e.Events {
		if !seen[id] {
			seen[id], events = true, append(events, id)
		}
	}
	var n *int64
	err = queryOne(ctx, db, "erase", `SELECT erased, request FROM audit_erase($1, $2, nullif($3, ''), $4, $5)`,
		[]any{tenant, events, e.User, fields, e.Reason}, &n, &done.Request)
	if n != nil {
		done.Events = *n
	}
	return done, err
}

// Kinds of requests that need a second person's approval.
const (
	RequestErasure   = "erasure"
	RequestRelease   = "release"        // release a hold
	RequestRule      = "retention_rule" // keep events for less time, or remove a rule
	RequestOnePerson = "one_person"     // require only one person again
)

// Request is an act that waits for a second person's approval.
type Request struct {
	ID          uuid.UUID   `json:"id"`
	Kind        string      `json:"act"`
	Events      []uuid.UUID `json:"events,omitempty"`
	User        *string     `json:"user_id,omitempty"`
	Fields      []string    `json:"fields,omitempty"`
	Hold        *uuid.UUID  `json:"hold,omitempty"`
	Action      *string     `json:"action_type,omitempty"` // of a rule
	Days        *int        `json:"keep_days,omitempty"`   // of a rule; missing: the rule is removed
	Reason      string      `json:"reason"`
	At          time.Time   `json:"requested_at"`
	RequestedBy string      `json:"requested_by"`
}

// String describes the requested act.
func (r Request) String() string {
	switch {
	case r.Kind == RequestRelease && r.Hold != nil:
		return "release hold " + r.Hold.String()
	case r.Kind == RequestRule && r.Action != nil:
		action := *r.Action
		if action == "" {
			action = "all others"
		}
		if r.Days == nil {
			return "take the rule for " + action + " back"
		}
		return fmt.Sprintf("keep %s for %s", action, plural.Of(*r.Days, "day", "days"))
	case r.Kind == RequestOnePerson:
		return "let one person be enough"
	case r.User != nil:
		return "erase user " + *r.User
	}
	return "erase " + plural.Of(len(r.Events), "event", "events")
}

// Pending lists the requests that wait for a second person, oldest first.
func Pending(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID) (all []Request, err error) {
	err = db.Call(ctx,
		`SELECT id, act, events, user_id, fields, hold, action_type, keep_days, reason, requested_at, requested_by
		FROM audit_pending($1)`, []any{tenant}, func(rows pgx.Rows) error {
			all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Request, err error) {
				var fields []int16
				err = row.Scan(&r.ID, &r.Kind, &r.Events, &r.User, &fields, &r.Hold, &r.Action, &r.Days,
					&r.Reason, &r.At,
					&r.RequestedBy)
				for _, f := range fields {
					r.Fields = append(r.Fields, ledger.Field(f).String())
				}
				return r, err
			})
			return err
		})
	if err != nil {
		return nil, asError("list what waits for a second person", err)
	}
	return all, nil
}

// Approve carries out another person's request, and returns how many events had fields erased.
func Approve(ctx context.Context, db *tenantdb.Compliance, tenant, request uuid.UUID,
	reason string) (n int64, err error) {
	err = queryOne(ctx, db, fmt.Sprintf("approve request %s", request), `SELECT audit_decide($1, $2, true, $3)`,
		[]any{tenant, request, reason}, &n)
	return n, err
}

// Decline declines a request.
func Decline(ctx context.Context, db *tenantdb.Compliance, tenant, request uuid.UUID, reason string) error {
	var none int64
	return queryOne(ctx, db, fmt.Sprintf("decline request %s", request), `SELECT audit_decide($1, $2, false, $3)`,
		[]any{tenant, request, reason}, &none)
}

// RequireTwo makes every erasure of the tenant's events, every release of a hold and every shortening of retention
// require a second person's approval from now on.
func RequireTwo(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID, reason string) error {
	return queryOne(ctx, db, "require two people", `SELECT FROM audit_require_two($1, $2)`, []any{tenant, reason})
}

// RequireOne requests that one person be enough again. Another person must approve the request.
func RequireOne(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID,
	reason string) (request uuid.UUID, err error) {
	err = queryOne(ctx, db, "let one person be enough", `SELECT audit_require_one($1, $2)`,
		[]any{tenant, reason}, &request)
	return request, err
}
