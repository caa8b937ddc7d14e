package mcpserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/pgtext"
)

// maxText is how many bytes of an event's input and output a timeline has; the event itself has all.
const maxText = 2000

type timelineArguments struct {
	Run    string `json:"run" min:"1" max:"1024" jsonschema:"a conversation or a trace"`
	Limit  int    `json:"limit,omitempty" min:"1" max:"500" default:"100" jsonschema:"largest number of events"`
	Cursor string `json:"cursor,omitempty" max:"100" jsonschema:"next_cursor of the page before"`
	conversation
}

// timeline is a run's events in the order of their tree: each behind the one that led to it.
type timeline struct {
	Run       string  `json:"run"`
	Total     int     `json:"total" jsonschema:"events of the run"`
	Truncated bool    `json:"truncated,omitempty" jsonschema:"the run has more than are counted"`
	Events    []event `json:"events"`
	Next      string  `json:"next_cursor,omitempty" jsonschema:"cursor of the next page; missing on the last one"`
}

type event struct {
	ID        uuid.UUID  `json:"id"`
	Parent    *uuid.UUID `json:"parent_id,omitempty" jsonschema:"the event that led to it"`
	Depth     int        `json:"depth" jsonschema:"how many events led to it"`
	Action    string     `json:"action_type"`
	Agent     *uuid.UUID `json:"agent_id,omitempty"`
	User      string     `json:"user_id,omitempty"`
	At        time.Time  `json:"created_at"`
	LatencyMS *int32     `json:"latency_ms,omitempty"`
	Model     string     `json:"model,omitempty"`
	Tool      string     `json:"tool,omitempty"`
	Error     string     `json:"error_type,omitempty"`
	Input     string     `json:"input_summary,omitempty"`
	Output    string     `json:"output_summary,omitempty"`
	Cut       bool       `json:"cut,omitempty" jsonschema:"the texts are longer: konstruct://events/ID has them whole"`
}

// framed implements untrusted.
func (t timeline) framed(b boundary) any {
	events := make([]event, len(t.Events))
	for i, e := range t.Events {
		e.Input, e.Output = b.frame(eventURI(e.ID), e.Input), b.frame(eventURI(e.ID), e.Output)
		events[i] = e
	}
	t.Events = events
	return t
}

// sources implements untrusted.
func (t timeline) sources() []string { return []string{runURI(t.Run)} }

// runURI is the address of a run.
func runURI(run string) string { return scheme + "runs/" + url.PathEscape(run) }

func (s *Server) timelineTool() tool {
	return newTool("timeline", "Read a run",
		"Returns the events of one conversation or trace in order, page by page: what the agents were asked, which "+
			"tools they called, what was retrieved, and what people decided.", reads,
		func(ctx context.Context, c *call, in timelineArguments) (timeline, error) {
			if in.Limit == 0 {
				in.Limit = 100
			}
			out, err := c.timeline(ctx, in.Run, in.Cursor, in.Limit)
			if err == nil {
				c.summary = map[string]any{"events": len(out.Events), "total": out.Total}
			}
			return out, err
		}, access.EventsRead)
}

// errOneAgent refuses runs to who sees one agent's events only.
var errOneAgent = errors.New(
	"permission denied: a run has events of several agents, and this key sees one agent's only")

// timeline returns a page of a run.
func (c *call) timeline(ctx context.Context, run, at string, limit int) (out timeline, err error) {
	if c.Principal.Agent != uuid.Nil {
		return out, errOneAgent
	}
	from, err := readCursor(at, timelineList)
	if err != nil {
		return out, err
	}
	r, err := c.tenant().Events().Run(ctx, run)
	if err != nil {
		return out, err
	}
	out = timeline{Run: run, Total: r.Events, Truncated: r.Truncated, Events: []event{}}
	n, first := uint32(0), from.count
	var add func(steps []*audit.Step, parent *uuid.UUID, depth int)
	add = func(steps []*audit.Step, parent *uuid.UUID, depth int) {
		for _, step := range steps {
			if n >= first && len(out.Events) < limit {
				out.Events = append(out.Events, newEvent(&step.StoredEvent, parent, depth))
			}
			n++
			add(step.Steps, &step.ID, depth+1)
		}
	}
	add(r.Steps, nil, 0)
	if shown := first + uint32(len(out.Events)); shown < n && len(out.Events) > 0 {
		out.Next = cursor{kind: timelineList, count: shown}.encode()
	}
	return out, nil
}

// newEvent returns an event of a timeline.
func newEvent(e *audit.StoredEvent, parent *uuid.UUID, depth int) event {
	var m struct {
		Model string `json:"gen_ai.request.model"`
		Tool  string `json:"gen_ai.tool.name"`
		Error string `json:"error.type"`
	}
	_ = json.Unmarshal(e.Metadata, &m) // names of another type are none
	input, output := textOr(e.Input), textOr(e.Output)
	return event{ID: e.ID, Parent: parent, Depth: depth, Action: e.Action, Agent: e.AgentID, User: textOr(e.UserID),
		At: e.CreatedAt, LatencyMS: e.LatencyMS, Model: m.Model, Tool: m.Tool, Error: m.Error,
		Input: pgtext.Head(input, maxText), Output: pgtext.Head(output, maxText),
		Cut: len(input) > maxText || len(output) > maxText}
}
