package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/tenantdb"
)

// Stats are the statistics of a group of events.
type Stats struct {
	Day          *time.Time `json:"day,omitempty"` // UTC
	AgentID      *uuid.UUID `json:"agent_id,omitempty"`
	Model        *string    `json:"model,omitempty"` // gen_ai.request.model
	Action       *string    `json:"action_type,omitempty"`
	Events       int64      `json:"events"`
	Errors       int64      `json:"errors"`         // events with error.type
	P50          *int32     `json:"latency_p50_ms"` // in ms, of events with a latency, by nearest rank
	P95          *int32     `json:"latency_p95_ms"`
	P99          *int32     `json:"latency_p99_ms"`
	InputTokens  int64      `json:"input_tokens"` // gen_ai.usage.input_tokens
	OutputTokens int64      `json:"output_tokens"`
	Cost         *float64   `json:"cost,omitempty"` // by Prices; nil if the model has no price
	// ReportedCost is what calls of a run cost as their reports say, gen_ai.usage.cost; nil: no run is asked for, or
	// none says it.
	ReportedCost *float64 `json:"reported_cost,omitempty"`
}

// StatsFilter selects events and the columns by which they are grouped.
type StatsFilter struct {
	Since, Until time.Time // of created_at
	By           []string  // any of day, agent, model, action
	AgentID      uuid.UUID
	Action       string
	Run          string // a conversation or trace, as for GetRun; at most MaxRun events of it
	Prices       Prices // used only if By has "model"
}

// Prices are the prices of a million tokens, by gen_ai.request.model.
type Prices map[string]struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
}

// MaxGroups is how many groups one result has at most.
const MaxGroups = 1000

// statsKey identifies a group; columns that are not grouped by are zero.
type statsKey struct {
	day              time.Time
	agent            uuid.UUID
	model, action    string
	noDay            bool // the event's time is infinite
	noAgent, noModel bool
}

// statsRow accumulates a group.
type statsRow struct {
	Stats
	latencies []int32
}

// ComputeStats returns counts, latencies, tokens and cost of events, by group. Whole past days are computed once and
// cached; an erasure or deletion of events invalidates their day.
func ComputeStats(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, f StatsFilter) ([]Stats, error) {
	if err := inOrder(f.Since, f.Until); err != nil {
		return nil, err
	}
	var by struct{ day, agent, model, action bool }
	for _, what := range f.By {
		asked := map[string]*bool{"day": &by.day, "agent": &by.agent, "model": &by.model, "action": &by.action}[what]
		if asked == nil {
			return nil, &FieldError{"by", fmt.Sprintf("%.40q is none of day, agent, model, action", what)}
		}
		*asked = true
	}
	groups := map[statsKey]*statsRow{}
	d := dailyStats{door: door, tenant: tenant, each: func(p *dailyRow) {
		if f.Action != "" && p.action != f.Action || f.AgentID != uuid.Nil &&
			(p.agent == nil || *p.agent != f.AgentID) {
			return
		}
		var k statsKey
		if k.noDay = by.day && p.day == nil; by.day && !k.noDay {
			k.day = *p.day
		}
		if k.noAgent = by.agent && p.agent == nil; by.agent && !k.noAgent {
			k.agent = *p.agent
		}
		if k.noModel = by.model && p.model == nil; by.model && !k.noModel {
			k.model = *p.model
		}
		if by.action {
			k.action = p.action
		}
		at := groups[k]
		if at == nil {
			at = &statsRow{}
			if by.day {
				at.Day = p.day
			}
			if by.agent {
				at.AgentID = p.agent
			}
			if by.model {
				at.Model = p.model
			}
			if by.action {
				at.Action = &k.action
			}
			groups[k] = at
		}
		at.Events, at.Errors, at.InputTokens, at.OutputTokens = at.Events+p.events, at.Errors+p.errors, at.InputTokens+
			p.inputTokens, at.OutputTokens+p.outputTokens
		at.latencies = append(at.latencies, p.latencies...)
		if p.cost != nil {
			cost := *p.cost
			if at.ReportedCost != nil {
				cost += *at.ReportedCost
			}
			at.ReportedCost = &cost
		}
	}}
	var err error
	if f.Run != "" {
		err = d.readRun(ctx, f.Run, f.Since, f.Until)
	} else {
		err = d.read(ctx, f.Since, f.Until)
	}
	if err != nil {
		return nil, fmt.Errorf("audit: count events: %w", err)
	}
	if len(f.By) == 0 && len(groups) == 0 {
		groups[statsKey{}] = &statsRow{}
	}
	var all []Stats
	for _, g := range groups {
		all = append(all, g.finish(f.Prices))
	}
	slices.SortFunc(all, newestAndLargest)
	return all[:min(len(all), MaxGroups)], nil
}

// finish computes a group's percentiles and cost.
func (g *statsRow) finish(prices Prices) Stats {
	if n := len(g.latencies); n > 0 {
		slices.Sort(g.latencies)
		at := func(percent int) *int32 { ms := g.latencies[(n*percent+99)/100-1]; return &ms }
		g.P50, g.P95, g.P99 = at(50), at(95), at(99)
	}
	if g.Model != nil {
		if p, ok := prices[*g.Model]; ok {
			cost := (float64(g.InputTokens)*p.Input + float64(g.OutputTokens)*p.Output) / 1e6
			g.Cost = &cost
		}
	}
	return g.Stats
}

// newestAndLargest orders groups by day, newest first, then by events, most first. The other columns make the order
// deterministic.
func newestAndLargest(a, b Stats) int {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	id := func(u *uuid.UUID) string {
		if u == nil {
			return ""
		}
		return string(u[:])
	}
	day := 0
	switch {
	case a.Day != nil && b.Day != nil:
		day = b.Day.Compare(*a.Day)
	case a.Day != nil:
		day = -1
	case b.Day != nil:
		day = 1
	}
	return cmp.Or(day, cmp.Compare(b.Events, a.Events), cmp.Compare(text(a.Model), text(b.Model)),
		cmp.Compare(text(a.Action), text(b.Action)), cmp.Compare(id(a.AgentID), id(b.AgentID)))
}
