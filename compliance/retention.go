package compliance

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Rule says how long events are kept. Events without a rule are kept for ever.
type Rule struct {
	Action string    `json:"action_type"` // empty: all action types without a rule of their own
	Days   int       `json:"days"`
	SetAt  time.Time `json:"set_at"`
	SetBy  string    `json:"set_by"`
}

// SetRule sets a rule; zero days remove the rule. It returns ErrInvalid if the days are below the schema's floor. If
// the tenant requires two people and the change shortens retention, it only makes a request and returns its id.
func SetRule(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID, action string, days int,
	reason string) (request *uuid.UUID, err error) {
	err = queryOne(ctx, db, "set a retention rule", `SELECT audit_retain($1, $2, nullif($3::int, 0), $4)`,
		[]any{tenant, action, days, reason}, &request)
	return request, err
}

// Rules lists a tenant's rules, and returns the floor: the least number of days that a rule may have.
func Rules(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID) (all []Rule, floor int, err error) {
	err = db.Call(ctx, `SELECT action_type, keep_days, set_at, set_by FROM audit_list_retention($1)`, []any{tenant},
		func(rows pgx.Rows) error {
			all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Rule])
			return err
		})
	if err != nil {
		return nil, 0, asError("list retention rules", err)
	}
	err = queryOne(ctx, db, "read the retention floor", `SELECT audit_retention_floor()`, nil, &floor)
	return all, floor, err
}

// Expired is what was deleted or, with try, would be.
type Expired struct {
	Events int64 `json:"deleted_events"`
	Held   int64 `json:"held_events"` // expired, but protected by a hold
	Bytes  int64 `json:"bytes"`       // of rows, without indexes
}

// expireBatch is how many leaves one transaction checks.
const expireBatch = 16_384

// Expire deletes the events that a tenant's rules no longer keep, in bounded transactions, each with an event that
// records it. It can be killed and run again. It deletes only events that a signed checkpoint proves to be old enough
// and no hold protects; leaf hashes stay. With try it deletes nothing. progress, if not nil, is called with the number
// of leaves checked and of events deleted.
func Expire(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID, reason string, try bool,
	progress func(leaves, deleted int64)) (all Expired, err error) {
	next := new(int64)
	for next != nil {
		var part Expired
		var after *int64
		if err := queryOne(ctx, db, "delete what need not be kept",
			`SELECT next, deleted, held, bytes FROM audit_retire($1, $2, $3, $4, $5)`,
			[]any{tenant, *next, expireBatch, reason, try}, &after, &part.Events, &part.Held, &part.Bytes); err != nil {
			return all, err
		}
		all = Expired{all.Events + part.Events, all.Held + part.Held, all.Bytes + part.Bytes}
		if progress != nil {
			progress(*next+expireBatch, all.Events)
		}
		next = after
	}
	return all, nil
}
