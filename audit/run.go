package audit

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// MaxRun is how many events of a run are returned; a longer run is truncated.
const MaxRun = 10_000

// Step is an event of a run, with the steps that it led to.
type Step struct {
	StoredEvent
	Steps []*Step `json:"steps,omitempty"`
}

// Run is the events of one conversation or trace, in order.
type Run struct {
	ID        string  `json:"id"`
	Events    int     `json:"events"`
	Truncated bool    `json:"cut,omitempty"` // the run has more than MaxRun events
	Steps     []*Step `json:"steps"`
}

const runSQL = storedSQL + ` AND e.id IN (SELECT audit_find_run($2, $3))` + sealsSQL + ` ORDER BY e.created_at, e.id`

// GetRun returns the events that name a run, by gen_ai.conversation.id or trace_id, as a tree. An event with a
// parent_span_id is below the event with that span_id. Otherwise a tool call or retrieval is below the same agent's
// last model call, and an acknowledgement or resolution is below its escalation. It fails with ErrNotFound if no event
// names the run.
func GetRun(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, run string) (r Run, err error) {
	if err := checkText("run", run, MaxName); err != nil {
		return r, err
	}
	var events []StoredEvent
	err = door.Query(ctx, tenant, runSQL, []any{tenant, run, MaxRun + 1}, func(rows pgx.Rows) error {
		events, err = pgx.CollectRows(rows, scanStored)
		return err
	})
	if err == nil && len(events) == 0 {
		err = ErrNoRun
	}
	if err != nil {
		return r, fmt.Errorf("audit: run %.80q: %w", run, err)
	}
	r = Run{ID: run, Truncated: len(events) > MaxRun}
	r.Events = min(len(events), MaxRun)
	r.Steps = buildTree(events[:r.Events])
	return r, nil
}

// links are the metadata keys that link an event to its parent.
type links struct {
	Span       string `json:"span_id"`
	Parent     string `json:"parent_span_id"`
	Escalation string `json:"konstruct.escalation.id"`
}

// buildTree puts events, oldest first, below their parents.
func buildTree(events []StoredEvent) (roots []*Step) {
	steps := make([]Step, len(events))
	named := make([]links, len(events))
	spans, escalations := map[string]*Step{}, map[string]*Step{}
	for i := range events {
		steps[i].StoredEvent = events[i]
		_ = json.Unmarshal(events[i].Metadata, &named[i]) // ignore keys of another type
		if named[i].Span != "" && spans[named[i].Span] == nil {
			spans[named[i].Span] = &steps[i]
		}
	}
	calls := map[uuid.UUID]*Step{} // each agent's last model call
	below := map[*Step]*Step{}
	for i := range steps {
		s := &steps[i]
		agent := uuid.Nil
		if s.AgentID != nil {
			agent = *s.AgentID
		}
		parent := spans[named[i].Parent]
		if parent == nil {
			switch s.Action {
			case ActionToolCall, ActionRetrieval:
				parent = calls[agent]
			case ActionAcknowledged, ActionResolved:
				parent = escalations[named[i].Escalation]
			}
		}
		for above := parent; above != nil; above = below[above] {
			if above == s { // a cycle of spans
				parent = nil
				break
			}
		}
		if below[s] = parent; parent == nil {
			roots = append(roots, s)
		} else {
			parent.Steps = append(parent.Steps, s)
		}
		switch s.Action {
		case ActionLLMCall:
			calls[agent] = s
		case ActionEscalation:
			escalations[s.ID.String()] = s
		}
	}
	return roots
}
