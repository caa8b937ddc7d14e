package audit

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// maxCount is the largest token count that statistics add, as audit_figures has it.
const maxCount = 1e9

// readRun calls each with every event of a run in [since, until). A zero time means no bound.
func (d *dailyStats) readRun(ctx context.Context, run string, since, until time.Time) error {
	if err := checkText("run", run, MaxName); err != nil {
		return err
	}
	events, err := runEvents(ctx, d.door, d.tenant, run)
	if err != nil {
		return err
	}
	events = events[:min(len(events), MaxRun)]
	costs := reportedCosts(events)
	for i := range events {
		e := &events[i]
		if !since.IsZero() && e.CreatedAt.Before(since) || !until.IsZero() && !e.CreatedAt.Before(until) {
			continue
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(e.Metadata, &m); err != nil {
			m = nil // metadata that is no object names nothing
		}
		row := dailyRow{agent: e.AgentID, action: e.Action, events: 1,
			inputTokens:  tokenCount(m["gen_ai.usage.input_tokens"]),
			outputTokens: tokenCount(m["gen_ai.usage.output_tokens"])}
		day := e.CreatedAt.UTC().Truncate(24 * time.Hour)
		row.day = &day
		var model string
		if json.Unmarshal(m["gen_ai.request.model"], &model) == nil {
			row.model = &model
		}
		if _, failed := m["error.type"]; failed {
			row.errors = 1
		}
		if e.LatencyMS != nil {
			row.latencies = []int32{*e.LatencyMS}
		}
		if cost, there := costs[e.ID]; there {
			row.cost = &cost
		}
		d.each(&row)
	}
	return nil
}

// reportedCosts returns what events say that they cost. Where an event does not say it, a further report of it may.
func reportedCosts(events []StoredEvent) map[uuid.UUID]float64 {
	costs, further := map[uuid.UUID]float64{}, map[uuid.UUID]float64{}
	for i := range events {
		var m struct {
			Cost      *float64  `json:"gen_ai.usage.cost"`
			Completes uuid.UUID `json:"konstruct.completes"`
			Record    struct {
				Cost *float64 `json:"gen_ai.usage.cost"`
			} `json:"record"`
		}
		if json.Unmarshal(events[i].Metadata, &m) != nil {
			continue // names of another type
		}
		if m.Cost != nil {
			costs[events[i].ID] = *m.Cost
		}
		if m.Completes != uuid.Nil && m.Record.Cost != nil {
			further[m.Completes] = *m.Record.Cost
		}
	}
	for id, cost := range further {
		if _, there := costs[id]; !there {
			costs[id] = cost
		}
	}
	return costs
}

// tokenCount returns a count of tokens; one that is not a sensible number counts as zero.
func tokenCount(raw json.RawMessage) int64 {
	var n float64
	if json.Unmarshal(raw, &n) != nil || n < 0 || n > maxCount {
		return 0
	}
	return int64(n)
}
