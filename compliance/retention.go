package compliance

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Rule says how long events are kept. What has no rule is kept for good.
type Rule struct {
	Action string    `json:"action_type"` // empty: all that have no rule of their own
	Days   int       `json:"days"`
	SetAt  time.Time `json:"set_at"`
	SetBy  string    `json:"set_by"`
}

// SetRule sets a rule; ErrInvalid where it is below the schema's floor. With zero days it takes the rule back. Where
// two people must agree to what keeps less, it only asks, and returns the request.
func SetRule(ctx context.Context, db *tenantdb.Compliance, tenant uuid.UUID, action string, days int,
	reason string) (request *uuid.UUID, err error) {
	err = queryOne(ctx, db, "set a retention rule", `SELECT audit_retain($1, $2, nullif($3::int, 0), $4)`,
		[]any{tenant, action, days, reason}, &request)
	return request, err
}

// Rules lists a tenant's rules, and the floor in days that no rule goes under.
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

// Expired is what went, or with a trial would.
type Expired struct {
	Events int64 `json:"deleted_events"`
	Held   int64 `json:"held_events"` // that would have gone, were they not held
	Bytes  int64 `json:"bytes"`       // of rows; indexes come on top
}

// expireBatch is how many leaves one transaction looks at.
const expireBatch = 16_384

// Expire deletes what a tenant's rules no longer keep, in bounded transactions, each with its own event: it can be
// killed and run again. Only what a signed checkpoint covers goes, and nothing that is held; leaf hashes stay. With try
// nothing is deleted. progress, when not nil, hears how many leaves were looked at and how many events went.
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
