package audit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Figures are what a group of events comes to.
type Figures struct {
	Day          *time.Time `json:"day,omitempty"` // UTC
	AgentID      *uuid.UUID `json:"agent_id,omitempty"`
	Model        *string    `json:"model,omitempty"` // gen_ai.request.model
	Action       *string    `json:"action_type,omitempty"`
	Events       int64      `json:"events"`
	Errors       int64      `json:"errors"`         // with error.type
	P50          *int32     `json:"latency_p50_ms"` // of events that say their latency, by nearest rank
	P95          *int32     `json:"latency_p95_ms"`
	P99          *int32     `json:"latency_p99_ms"`
	InputTokens  int64      `json:"input_tokens"` // gen_ai.usage.input_tokens
	OutputTokens int64      `json:"output_tokens"`
	Cost         *float64   `json:"cost,omitempty"` // by the price list; nil where it does not name the model
}

// StatsFilter says of what, and by what.
type StatsFilter struct {
	Since, Until time.Time // of created_at
	By           []string  // of day, agent, model, action
	AgentID      uuid.UUID
	Action       string
	Prices       Prices // needs "model" among By, or is not used
}

// Prices is what a million tokens cost, by gen_ai.request.model.
type Prices map[string]struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
}

// MaxGroups is how many groups one answer has at most: the largest.
const MaxGroups = 1000

// groups are what events can be grouped by.
var groups = map[string]string{
	"day": `CASE WHEN isfinite(created_at) THEN (created_at AT TIME ZONE 'UTC')::date END`, "agent": `agent_id`, "model": `metadata->>'gen_ai.request.model'`, "action": `action_type`,
}

// tokens is a count of tokens; what is no sensible number counts nothing.
func tokens(key string) string {
	return fmt.Sprintf(`coalesce(sum(CASE WHEN jsonb_typeof(metadata->'%[1]s') = 'number' AND (metadata->'%[1]s')::numeric BETWEEN 0 AND 1e9 THEN (metadata->'%[1]s')::numeric END), 0)::bigint`, key)
}

// Stats counts events, and says their latencies, tokens and cost.
func Stats(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, f StatsFilter) (all []Figures, err error) {
	if err := inOrder(f.Since, f.Until); err != nil {
		return nil, err
	}
	asked := map[string]bool{}
	for _, by := range f.By {
		if groups[by] == "" {
			return nil, &FieldError{"by", fmt.Sprintf("%.40q is none of day, agent, model, action", by)}
		}
		asked[by] = true
	}
	var columns, keys []string
	for _, by := range []string{"day", "agent", "model", "action"} {
		column := groups[by]
		if !asked[by] {
			column = map[string]string{"day": "NULL::date", "agent": "NULL::uuid", "model": "NULL::text", "action": "NULL::text"}[by]
		} else {
			keys = append(keys, fmt.Sprint(len(columns)+1))
		}
		columns = append(columns, column)
	}
	where, args := "tenant_id = $1", []any{tenant}
	and := func(condition string, v any) {
		args = append(args, v)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	if !f.Since.IsZero() {
		and("created_at >= $%d", f.Since)
	}
	if !f.Until.IsZero() {
		and("created_at < $%d", f.Until)
	}
	if f.AgentID != uuid.Nil {
		and("agent_id = $%d", f.AgentID)
	}
	if f.Action != "" {
		and("action_type = $%d", f.Action)
	}
	sql := `SELECT ` + strings.Join(columns, ", ") + `, count(*), count(*) FILTER (WHERE metadata ? 'error.type'), percentile_disc('{0.5,0.95,0.99}'::float8[]) WITHIN GROUP (ORDER BY latency_ms), ` +
		tokens("gen_ai.usage.input_tokens") + `, ` + tokens("gen_ai.usage.output_tokens") + ` FROM audit_events WHERE ` + where
	if len(keys) > 0 {
		sql += ` GROUP BY ` + strings.Join(keys, ", ")
	}
	sql += fmt.Sprintf(` ORDER BY 1 DESC NULLS LAST, 5 DESC LIMIT %d`, MaxGroups)
	err = door.Query(ctx, tenant, sql, args, func(rows pgx.Rows) error {
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g Figures, err error) {
			var latency []*int32
			if err := row.Scan(&g.Day, &g.AgentID, &g.Model, &g.Action, &g.Events, &g.Errors, &latency, &g.InputTokens, &g.OutputTokens); err != nil {
				return g, err
			}
			if len(latency) == 3 {
				g.P50, g.P95, g.P99 = latency[0], latency[1], latency[2]
			}
			if g.Model != nil {
				if p, ok := f.Prices[*g.Model]; ok {
					cost := (float64(g.InputTokens)*p.Input + float64(g.OutputTokens)*p.Output) / 1e6
					g.Cost = &cost
				}
			}
			return g, nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audit: count events: %w", err)
	}
	return all, nil
}
