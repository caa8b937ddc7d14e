package server

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

func (s *Server) escalations() {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary,
			Tags: []string{"Escalations"}}
	}
	register(s, op("listEscalations", "GET", "/v1/escalations", "List escalations, newest first"), access.EventsRead,
		func(ctx context.Context, w access.Principal, in *struct {
			Page
			State string `query:"state" enum:"open,acknowledged,resolved"`
			Since string `query:"since" format:"date-time"`
			Until string `query:"until" format:"date-time"`
			After string `query:"after" maxLength:"200"`
		}) (*Response[List[konstruct.EscalationRecord]], error) {
			if w.Agent != uuid.Nil {
				return nil, problem(http.StatusForbidden,
					"a key of one agent can't list escalations, which are of all agents")
			}
			f := konstruct.EscalationFilter{State: in.State, After: in.After, Limit: in.Limit}
			var err error
			if f.Since, err = optionalTime("query.since", in.Since); err == nil {
				f.Until, err = optionalTime("query.until", in.Until)
			}
			if err != nil {
				return nil, err
			}
			cases, err := s.tenant(w).Escalations().List(ctx, f)
			if err != nil {
				return nil, err
			}
			return listPage(cases, in.Limit, func(c konstruct.EscalationRecord) string { return c.Cursor }), nil
		})
	s.getEscalation(op("getEscalation", "GET", "/v1/escalations/{id}", "Get an escalation, or wait for its answer"))
	acknowledge := op("acknowledgeEscalation", "POST", "/v1/escalations/{id}/acknowledge", "Acknowledge an escalation")
	acknowledge.DefaultStatus, acknowledge.Responses = 201, s.pendingResponse(reflect.TypeFor[EventCreated]())
	register(s, acknowledge, access.EscalationsWrite,
		func(ctx context.Context, w access.Principal, in *PathID) (*CreatedOrPending[EventCreated], error) {
			eid, err := in.uuid()
			if err != nil {
				return nil, err
			}
			return eventCreated(s.tenant(w).Escalations().Acknowledge(ctx, eid, w.Name))
		})
	s.cancelEscalation(op("cancelEscalation", "POST", "/v1/escalations/{id}/cancel",
		"Cancel an escalation that nobody needs to answer any more"))
	resolve := op("resolveEscalation", "POST", "/v1/escalations/{id}/resolve", "Resolve an escalation")
	resolve.DefaultStatus, resolve.Responses = 201, s.pendingResponse(reflect.TypeFor[EventCreated]())
	register(s, resolve, access.EscalationsWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Body struct {
			Decision string `json:"decision" minLength:"1"`
		}
	}) (*CreatedOrPending[EventCreated], error) {
		eid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		return eventCreated(s.tenant(w).Escalations().Resolve(ctx, eid, w.Name, in.Body.Decision))
	})
}

// maxWait is how long a request waits for an answer: less than clients and proxies wait for a response.
const maxWait = 8 * time.Second

// getEscalation registers the operation by which an agent learns what a person decided.
func (s *Server) getEscalation(op huma.Operation) {
	op.Description = "A key that may only write events can read an escalation whose id it knows: its own."
	register(s, op, "", func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Wait int `query:"wait" minimum:"0" maximum:"8" doc:"Seconds to wait for the resolution; ask again after them"`
	}) (*Response[konstruct.EscalationRecord], error) {
		if !w.Can(access.EventsRead) && !w.Can(access.EventsWrite) {
			return nil, problem(http.StatusForbidden, "permission denied: it needs %s or %s", access.EventsRead,
				access.EventsWrite)
		}
		eid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		c, err := s.tenant(w).Escalations().Get(ctx, eid)
		if err == nil && !w.Sees(c.AgentID) {
			err = audit.ErrNotFound
		}
		if err != nil || in.Wait == 0 {
			return &Response[konstruct.EscalationRecord]{c}, err
		}
		within := min(time.Duration(in.Wait)*time.Second, maxWait)
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.stopping, cancel)()
		last, err := s.tenant(w).Escalations().Wait(waiting, eid, within)
		if err != nil && s.stopping.Err() != nil { // the client asks again, elsewhere
			last, err = c, nil
		}
		return &Response[konstruct.EscalationRecord]{last}, err
	})
}

// cancelEscalation registers the operation by which an agent ends its question. Its words never approve anything.
func (s *Server) cancelEscalation(op huma.Operation) {
	op.DefaultStatus, op.Responses = 201, s.pendingResponse(reflect.TypeFor[EventCreated]())
	op.Description = "It is resolved with `cancelled: ` and the reason, so that who answers later learns that it was " +
		"too late."
	register(s, op, access.EventsWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Body struct {
			Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why no answer is needed"`
		}
	}) (*CreatedOrPending[EventCreated], error) {
		eid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		c, err := s.tenant(w).Escalations().Get(ctx, eid)
		if err == nil && !w.Sees(c.AgentID) {
			err = audit.ErrNotFound
		}
		if err != nil {
			return nil, err
		}
		return eventCreated(s.tenant(w).Escalations().Resolve(ctx, eid, w.Name, "cancelled: "+in.Body.Reason))
	})
}
