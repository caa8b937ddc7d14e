package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

// CreateEventRequest is an event as a client sends it.
type CreateEventRequest struct {
	ID        *uuid.UUID `json:"id,omitempty"`
	AgentID   *uuid.UUID `json:"agent_id,omitempty" doc:"The agent; a key of one agent has it as default"`
	UserID    string     `json:"user_id,omitempty" maxLength:"1024" doc:"The user for whom it acted; empty: none"`
	Action    string     `json:"action_type" minLength:"1" maxLength:"1024" example:"tool_invocation"`
	Input     string     `json:"input_summary,omitempty" doc:"Summary of the input"`
	Output    string     `json:"output_summary,omitempty" doc:"Summary of the output"`
	LatencyMS int64      `json:"latency_ms,omitempty" minimum:"0" maximum:"2147483647"`
	Metadata  jsonObject `json:"metadata,omitempty" doc:"OpenTelemetry GenAI names are the convention"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
}

// agentID returns the agent that a principal acts as: its own, if it has one.
func agentID(w access.Principal, said *uuid.UUID, at string) (uuid.UUID, error) {
	switch id, err := givenID(at, said); {
	case said == nil:
		return w.Agent, nil
	case err != nil:
		return id, err
	case w.Agent != uuid.Nil && *said != w.Agent:
		return uuid.Nil, problem(http.StatusForbidden, "%s: this key acts as agent %s only", at, w.Agent)
	}
	return *said, nil
}

// EventCreated has the id of a logged event.
type EventCreated struct {
	ID  *uuid.UUID `json:"id" doc:"Null if it was not logged"`
	Gap bool       `json:"gap,omitempty"`
}

// eventCreated returns the response for a logged event: 201, or 202 without an id when the trail is unavailable and the
// tenant's calls continue.
func eventCreated(id uuid.UUID, err error) (*CreatedOrPending[EventCreated], error) {
	if err != nil {
		return nil, err
	}
	if id == uuid.Nil {
		return &CreatedOrPending[EventCreated]{Status: http.StatusAccepted, Body: EventCreated{Gap: true}}, nil
	}
	return &CreatedOrPending[EventCreated]{Status: http.StatusCreated, Location: "/v1/events/" + id.String(),
		Body: EventCreated{ID: &id}}, nil
}

// eventID returns the given id, or one derived from the request's Idempotency-Key and the event's index.
func eventID(ctx context.Context, w access.Principal, given *uuid.UUID, n int, at string) (uuid.UUID, error) {
	k, _ := ctx.Value(idempotencyKey).(string)
	switch {
	case k == "":
		return givenID(at, given)
	case given != nil:
		return uuid.Nil, fieldProblem(at, "the Idempotency-Key sets the event's id: leave out the id or the header")
	}
	return access.EventID(w, k, n), nil
}

// checkEventKey refuses an Idempotency-Key that another request was made with. The trail itself refuses other content
// under an event's id; this finds another operation, and a batch of another size. n is the number of events.
func (s *Server) checkEventKey(ctx context.Context, w access.Principal, n int) error {
	k, _ := ctx.Value(idempotencyKey).(string)
	if k == "" {
		return nil
	}
	used, err := s.replies.Used(ctx, w, k)
	if err == nil && !used {
		ids := make([]uuid.UUID, n+1) // one more than this request's
		for i := range ids {
			ids[i] = access.EventID(w, k, i)
		}
		var there int
		there, err = s.tenant(w).Events().CountIDs(ctx, ids)
		used = there != 0 && there != n
	}
	switch {
	case err != nil && isUnavailable(err): // the tenant's policy says what becomes of the event
		return nil
	case err != nil:
		return err
	case used:
		return access.ErrKeyReused
	}
	return nil
}

// agent returns a tenant's agent by its id.
func (s *Server) agent(w access.Principal, agent uuid.UUID) *konstruct.Agent {
	return s.c.Konstruct.Tenant(w.Tenant).Agent(agent)
}

func (s *Server) tenant(w access.Principal) *konstruct.Tenant { return s.c.Konstruct.Tenant(w.Tenant) }

func (s *Server) events() {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Events"}}
	}
	s.createEvent()
	s.createEvents()
	register(s, op("listEvents", "GET", "/v1/events", "List events, newest first"), access.EventsRead,
		func(ctx context.Context, w access.Principal, in *struct {
			Page
			EventFilter
			After string `query:"after" maxLength:"200" doc:"The previous page's next"`
			Text  string `query:"text" maxLength:"1000"`
		}) (*Response[List[audit.StoredEvent]], error) {
			f, err := in.filter(w)
			if err != nil {
				return nil, err
			}
			f.After, f.Limit = in.After, in.Limit
			var events []audit.StoredEvent
			if in.Text != "" {
				if f.AgentID != uuid.Nil || f.UserID != "" || f.Action != "" || f.Metadata != nil {
					return nil, fieldProblem("query.text",
						"combines with since, until and after only; a key of one agent can't search text")
				}
				events, err = s.tenant(w).Events().
					Search(ctx,
						audit.TextQuery{Text: in.Text, Since: f.Since, Until: f.Until, After: in.After,
							Limit: in.Limit})
			} else {
				events, err = s.tenant(w).Events().List(ctx, f)
			}
			if err != nil {
				return nil, err
			}
			return listPage(events, in.Limit, func(e audit.StoredEvent) string { return e.Cursor }), nil
		})
	register(s, op("getEvent", "GET", "/v1/events/{id}", "Get an event"), access.EventsRead,
		func(ctx context.Context, w access.Principal, in *struct {
			PathID
			IfNoneMatch
		}) (*Cacheable[audit.StoredEvent], error) {
			e, err := s.getEvent(ctx, w, in.PathID)
			if err != nil {
				return nil, err
			}
			etag := `"` + e.LeafHash + `"`
			if len(e.Erased) > 0 { // an erasure changed its content, but not its leaf
				etag = `"` + e.LeafHash + `-erased"`
			}
			if err := in.check(etag); err != nil {
				return nil, err
			}
			return &Cacheable[audit.StoredEvent]{etag, e}, nil
		})
	register(s,
		op("getEventRetrieval", "GET", "/v1/events/{id}/retrieval",
			"Compare what a search returned with what is stored now"), access.EventsRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*Response[konstruct.RetrievalCheck], error) {
			if !w.Can(access.KBRead) {
				return nil, problem(http.StatusForbidden, "permission denied: the passages' texts need %s",
					access.KBRead)
			}
			e, err := s.getEvent(ctx, w, *in)
			if err != nil {
				return nil, err
			}
			shown, err := s.tenant(w).Events().CheckRetrieval(ctx, e.ID)
			return &Response[konstruct.RetrievalCheck]{shown}, err
		})
	register(s, op("getRun", "GET", "/v1/runs/{run}", "Get the events of one conversation or trace as a tree"),
		access.EventsRead, func(ctx context.Context, w access.Principal, in *struct {
			Run string `path:"run" maxLength:"1024" doc:"gen_ai.conversation.id or trace_id"`
		}) (*Response[audit.Run], error) {
			if w.Agent != uuid.Nil {
				return nil, problem(http.StatusForbidden,
					"a run has events of several agents, and this key sees one agent's only")
			}
			run, err := s.tenant(w).Events().Run(ctx, in.Run)
			return &Response[audit.Run]{run}, err
		})
	register(s, op("getStats", "GET", "/v1/stats", "Get statistics of events: counts, latencies, tokens, cost"),
		access.EventsRead, func(ctx context.Context, w access.Principal, in *struct {
			Since  string   `query:"since" format:"date-time"`
			Until  string   `query:"until" format:"date-time"`
			By     []string `query:"by,explode" enum:"day,agent,model,action" maxItems:"4" doc:"Groups"`
			Agent  string   `query:"agent_id" format:"uuid"`
			Action string   `query:"action_type" maxLength:"1024"`
			Run    string   `query:"run" maxLength:"1024" doc:"A conversation or trace"`
		}) (*Response[List[audit.Stats]], error) {
			e := EventFilter{Since: in.Since, Until: in.Until, Agent: in.Agent, Action: in.Action}
			f, err := e.filter(w)
			if err != nil {
				return nil, err
			}
			figures, err := s.tenant(w).Events().
				Stats(ctx, audit.StatsFilter{Since: f.Since, Until: f.Until, By: in.By, AgentID: f.AgentID,
					Action: f.Action, Run: in.Run})
			return &Response[List[audit.Stats]]{List[audit.Stats]{Items: figures}}, err
		})
}

// getEvent returns an event that the principal may see.
func (s *Server) getEvent(ctx context.Context, w access.Principal, in PathID) (audit.StoredEvent, error) {
	eid, err := in.uuid()
	if err != nil {
		return audit.StoredEvent{}, err
	}
	e, err := s.tenant(w).Events().Get(ctx, eid)
	if err == nil && !w.Sees(e.AgentID) {
		err = audit.ErrNotFound
	}
	return e, err
}

// EventFilter selects events.
type EventFilter struct {
	Since  string   `query:"since" format:"date-time" doc:"Least created_at, inclusive"`
	Until  string   `query:"until" format:"date-time" doc:"Before this created_at"`
	Agent  string   `query:"agent_id" format:"uuid"`
	User   string   `query:"user_id" maxLength:"1024"`
	Action string   `query:"action_type" maxLength:"1024"`
	Meta   []string `query:"meta,explode" maxItems:"20"`
}

func (e EventFilter) filter(w access.Principal) (f audit.Filter, err error) {
	if f.Since, err = optionalTime("query.since", e.Since); err != nil {
		return f, err
	}
	if f.Until, err = optionalTime("query.until", e.Until); err != nil {
		return f, err
	}
	if f.AgentID, err = optionalID("query.agent_id", e.Agent); err != nil {
		return f, err
	}
	if w.Agent != uuid.Nil {
		if f.AgentID != uuid.Nil && f.AgentID != w.Agent {
			return f, problem(http.StatusForbidden, "query.agent_id: this key sees agent %s only", w.Agent)
		}
		f.AgentID = w.Agent
	}
	f.UserID, f.Action = e.User, e.Action
	f.Metadata, err = metadataFilter(e.Meta)
	return f, err
}

// optionalTime parses a time that may be empty.
func optionalTime(location, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fieldProblem(location, "it is not a time: write 2026-01-31T12:00:00Z (a + in a URL is %2B)")
	}
	return givenTime(location, &t)
}
