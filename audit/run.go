package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

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

const runSQL = storedSQL + ` AND e.id IN (SELECT audit_find_run(r, $3) FROM unnest($2::text[]) r)` + sealsSQL +
	` ORDER BY e.created_at, e.id LIMIT $3`

// maxTraces is how many traces of a conversation are read; the events of further ones are those that name it.
const maxTraces = 100

// GetRun returns the events that name a run, by gen_ai.conversation.id or trace_id, as a tree, and those of the traces
// that a conversation's events name. An event with a parent_span_id is below the event with that span_id. Otherwise a
// tool call or retrieval is below the same agent's last model call, an acknowledgement or resolution is below its
// escalation, and a further report of a call below the call. It fails with ErrNotFound if no event names the run.
func GetRun(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, run string) (r Run, err error) {
	if err := checkText("run", run, MaxName); err != nil {
		return r, err
	}
	events, err := runEvents(ctx, door, tenant, run)
	if err != nil {
		return r, err
	}
	r = Run{ID: run, Truncated: len(events) > MaxRun}
	r.Events = min(len(events), MaxRun)
	r.Steps = buildTree(events[:r.Events])
	return r, nil
}

// runEvents returns a run's events, oldest first: MaxRun and one more at most. A further report of a call brings the
// call: another instrumentation, which did not know the run, may have reported it first.
func runEvents(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, run string) (events []StoredEvent,
	err error) {
	names := []string{run}
	for {
		err = door.Query(ctx, tenant, runSQL, []any{tenant, names, MaxRun + 1}, func(rows pgx.Rows) error {
			events, err = pgx.CollectRows(rows, scanStored)
			return err
		})
		if err == nil && len(events) == 0 {
			err = ErrNoRun
		}
		if err != nil {
			return nil, fmt.Errorf("audit: run %.80q: %w", run, err)
		}
		traces := tracesOf(events, run)
		if len(names) > 1 || len(events) > MaxRun || len(traces) == 0 {
			break
		}
		names = append(names, traces...)
	}
	missing := completed(events)
	if len(missing) == 0 {
		return events, nil
	}
	others, err := getAll(ctx, door, tenant, missing)
	if err != nil {
		return nil, fmt.Errorf("audit: run %.80q: %w", run, err)
	}
	for _, e := range others {
		events = append(events, e)
	}
	slices.SortFunc(events, func(a, b StoredEvent) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return events[:min(len(events), MaxRun+1)], nil
}

// completed returns the calls that events report further and that are not among them.
func completed(events []StoredEvent) (missing []uuid.UUID) {
	there := make(map[uuid.UUID]bool, len(events))
	for i := range events {
		there[events[i].ID] = true
	}
	for _, id := range completedByOthers(events) {
		if !there[id] {
			there[id] = true
			missing = append(missing, id)
		}
	}
	return missing
}

// completedByOthers returns the calls of which events are further reports.
func completedByOthers(events []StoredEvent) []uuid.UUID {
	ids := []uuid.UUID{}
	for i := range events {
		var m struct {
			Of uuid.UUID `json:"konstruct.completes"`
		}
		if bytes.Contains(events[i].Metadata, []byte("konstruct.completes")) &&
			json.Unmarshal(events[i].Metadata, &m) == nil && m.Of != uuid.Nil {
			ids = append(ids, m.Of)
		}
	}
	return ids
}

// tracesOf returns the traces that events of a conversation name. A run by its trace has no others.
func tracesOf(events []StoredEvent, run string) (traces []string) {
	for i := range events {
		var m struct {
			Conversation string `json:"gen_ai.conversation.id"`
			Trace        string `json:"trace_id"`
		}
		_ = json.Unmarshal(events[i].Metadata, &m) // names of another type are none
		if m.Conversation == run && m.Trace != "" && m.Trace != run && !slices.Contains(traces, m.Trace) {
			if traces = append(traces, m.Trace); len(traces) == maxTraces {
				break
			}
		}
	}
	return traces
}

// links are the metadata keys that link an event to its parent.
type links struct {
	Span       string `json:"span_id"`
	Parent     string `json:"parent_span_id"`
	Escalation string `json:"konstruct.escalation.id"`
	Completes  string `json:"konstruct.completes"` // the event of which this is a further report
}

// buildTree puts events, oldest first, below their parents.
func buildTree(events []StoredEvent) (roots []*Step) {
	steps := make([]Step, len(events))
	named := make([]links, len(events))
	spans, escalations, reported := map[string]*Step{}, map[string]*Step{}, map[string]int{}
	for i := range events {
		steps[i].StoredEvent = events[i]
		_ = json.Unmarshal(events[i].Metadata, &named[i]) // ignore keys of another type
		if named[i].Span != "" && (spans[named[i].Span] == nil || named[i].Completes == "") {
			spans[named[i].Span] = &steps[i]
		}
		reported[steps[i].ID.String()] = i
	}
	for i := range steps { // a log record does not know its call's parent; the span that reports it again does
		of, there := reported[named[i].Completes]
		if there && of != i && (named[of].Parent == "" || named[of].Parent == named[i].Span) {
			named[of].Parent = named[i].Parent
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
		if of, there := reported[named[i].Completes]; there && of != i {
			parent = &steps[of]
		}
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
