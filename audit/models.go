package audit

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ModelPolicy says which models a tenant may call through the gateway, and how much a day. The zero ModelPolicy allows
// every model without a budget.
type ModelPolicy struct {
	// Allow are names of models, or beginnings of names and an asterisk. Empty: all.
	Allow []string `json:"allow,omitempty"`
	// TokensPerDay is the budget of a day in UTC, in input and output tokens; 0 is none.
	TokensPerDay int64 `json:"tokens_per_day,omitempty"`
	// CostPerDay is the budget of a day in UTC, in the currency of the gateway's prices; 0 is none.
	CostPerDay float64 `json:"cost_per_day,omitempty"`
}

// maxAllowed is how many models a policy names at most.
const maxAllowed = 1000

func (p *ModelPolicy) check(at string) error {
	if p == nil {
		return nil
	}
	if len(p.Allow) > maxAllowed {
		return fmt.Errorf("policy: %s.allow: %d models, the limit is %d", at, len(p.Allow), maxAllowed)
	}
	for i, m := range p.Allow {
		if m == "" || len(m) > MaxName || strings.Contains(strings.TrimSuffix(m, "*"), "*") {
			return fmt.Errorf("policy: %s.allow[%d]: %.60q is no model: write a name, or its beginning and one "+
				"asterisk, as gpt-5*", at, i, m)
		}
	}
	if p.TokensPerDay < 0 || p.CostPerDay < 0 || math.IsInf(p.CostPerDay, 0) {
		return fmt.Errorf("policy: %s: a budget is 0 or more", at)
	}
	return nil
}

// ModelPolicy returns a tenant's policy for models.
func (t *Trail) ModelPolicy(tenant uuid.UUID) ModelPolicy {
	if p := t.policy.tenantRules(tenant).source.Models; p != nil {
		return *p
	}
	return ModelPolicy{}
}

// Continues reports whether a tenant's calls go on when the trail can't be written.
func (t *Trail) Continues(tenant uuid.UUID) bool { return t.policy.tenantRules(tenant).continues }

// Names of what the gateway records of a call for budgets. Only the service writes them.
const (
	// GatewayTokens are the tokens that count for a budget: the provider's, or an estimate where it told none.
	GatewayTokens = "konstruct.gateway.tokens"
	// GatewayCost is the cost by the gateway's prices.
	GatewayCost = "konstruct.gateway.cost"
)

// ModelUsage is what calls through the gateway used.
type ModelUsage struct {
	Calls, Tokens int64
	Cost          float64
}

// Add adds what other calls used.
func (u *ModelUsage) Add(o ModelUsage) {
	u.Calls, u.Tokens, u.Cost = u.Calls+o.Calls, u.Tokens+o.Tokens, u.Cost+o.Cost
}

const modelUsageSQL = `SELECT count(*),
	coalesce(sum((metadata->>'` + GatewayTokens + `')::numeric), 0)::bigint,
	coalesce(sum((metadata->>'` + GatewayCost + `')::numeric), 0)::float8
	FROM audit_events WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 AND action_type = '` +
	ActionLLMCall + `' AND metadata ? '` + GatewayTokens + `'`

// ModelUsage returns what a tenant's calls through the gateway used in [since, until), by created_at. It reads the
// tenant's events of that time by their index.
func (t *Trail) ModelUsage(ctx context.Context, tenant uuid.UUID, since, until time.Time) (u ModelUsage, err error) {
	err = t.door.Query(ctx, tenant, modelUsageSQL, []any{tenant, since, until}, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&u.Calls, &u.Tokens, &u.Cost}, func() error { return nil })
		return err
	})
	if err != nil {
		return u, fmt.Errorf("audit: sum what models used: %w", err)
	}
	return u, nil
}
