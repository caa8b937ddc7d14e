package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/law"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
)

// errNoLaw says that the service was not given the compliance role's database URL.
var errNoLaw = problem(http.StatusConflict, "this service does nothing by the law: its operator gives it KONSTRUCT_COMPLIANCE_DATABASE_URL")

// lawful serves what the compliance role does. The database writes each act into the trail as the service's role; who asked is an event of its own beside it.
func lawful[I, O any](s *Server, op huma.Operation, may access.Action, h func(context.Context, access.Who, *tenantdb.Compliance, *I) (*O, error)) {
	op.Tags = []string{"Law"}
	add(s, op, may, func(ctx context.Context, w access.Who, in *I) (*O, error) {
		if s.c.Law == nil {
			return nil, errNoLaw
		}
		if may == access.LawWrite {
			if err := s.of(w).Record(ctx, w, audit.ActionLawRequest, map[string]any{"operation": op.OperationID}); err != nil {
				return nil, err
			}
		}
		return h(ctx, w, s.c.Law, in)
	})
}

// Because is why something is done; it stays on the trail.
type Because struct {
	Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why. It is kept in the trail for good, so it names a ticket and not a person"`
}

// Reason is a body that says why.
type Reason struct{ Body Because }

// Decision is what became of something that two people may have to agree to.
type Decision struct {
	Request *uuid.UUID `json:"request,omitempty" doc:"Where two people must agree: nothing is done until another approves it"`
}

func (s *Server) law() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, DefaultStatus: status}
	}
	lawful(s, op("erase", "POST", "/v1/erasures", "Erase fields of events: of some, or of one user's all", 200), access.LawWrite, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, in *struct {
		Body struct {
			Because
			Events []uuid.UUID `json:"events,omitempty" maxItems:"1000"`
			User   string      `json:"user_id,omitempty" maxLength:"1024" doc:"Instead of events: all of this user's"`
			Fields []string    `json:"fields" minItems:"1" maxItems:"6" enum:"agent_id,user_id,input_summary,output_summary,latency_ms,metadata"`
		}
	}) (*answer[law.Erased], error) {
		e := law.Erasure{Events: in.Body.Events, User: in.Body.User, Reason: in.Body.Reason}
		for _, name := range in.Body.Fields {
			f, err := ledger.FieldOf(name)
			if err != nil {
				return nil, wrong("body.fields", err.Error())
			}
			e.Fields = append(e.Fields, f)
		}
		done, err := law.Erase(ctx, c, w.Tenant, e)
		return &answer[law.Erased]{done}, err
	})
	lawful(s, op("list-erasures", "GET", "/v1/erasures", "List what waits for a second person: erasures, releases of holds, rules that keep less", 200), access.LawRead, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, _ *struct{}) (*answer[many[law.Request]], error) {
		all, err := law.Pending(ctx, c, w.Tenant)
		return listed(all, len(all)+1, func(law.Request) string { return "" }), err
	})
	approve := op("approve-erasure", "POST", "/v1/erasures/{id}/approve", "Carry out what another person asked for", 200)
	approve.Description = "The database tells persons apart by their database roles, and this service has one: what was asked for through it is approved with a person's own role (konstruct audit erasures approve)."
	lawful(s, approve, access.LawWrite, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, in *struct {
		Identified
		Reason
	}) (*answer[law.Erased], error) {
		request, err := in.uuid()
		if err != nil {
			return nil, err
		}
		n, err := law.Approve(ctx, c, w.Tenant, request, in.Body.Reason)
		return &answer[law.Erased]{law.Erased{Events: n}}, err
	})
	lawful(s, op("decline-erasure", "POST", "/v1/erasures/{id}/decline", "Drop a request", 204), access.LawWrite, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, in *struct {
		Identified
		Reason
	}) (*empty, error) {
		request, err := in.uuid()
		if err != nil {
			return nil, err
		}
		return nil, law.Decline(ctx, c, w.Tenant, request, in.Body.Reason)
	})
	lawful(s, op("require-two", "PUT", "/v1/settings/two-people", "Have erasures, releases of holds and rules that keep less wait for a second person from now on", 204), access.LawWrite, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, in *Reason) (*empty, error) {
		return nil, law.RequireTwo(ctx, c, w.Tenant, in.Body.Reason)
	})
	lawful(s, op("list-holds", "GET", "/v1/holds", "List legal holds", 200), access.LawRead, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, _ *struct{}) (*answer[many[law.Hold]], error) {
		all, err := law.Holds(ctx, c, w.Tenant)
		return listed(all, len(all)+1, func(law.Hold) string { return "" }), err
	})
	lawful(s, op("place-hold", "POST", "/v1/holds", "Hold events: nothing that matches is erased or deleted from then on", 201), access.LawWrite, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, in *struct {
		Body struct {
			Because
			Since  *time.Time `json:"since,omitempty" doc:"Of created_at, inclusive"`
			Until  *time.Time `json:"until,omitempty"`
			Agent  *uuid.UUID `json:"agent_id,omitempty"`
			User   *string    `json:"user_id,omitempty" maxLength:"1024"`
			Action *string    `json:"action_type,omitempty" maxLength:"1024"`
		}
	}) (*made[logged], error) {
		b := in.Body
		hold, err := law.Place(ctx, c, w.Tenant, law.Hold{Reason: b.Reason, Since: b.Since, Until: b.Until, Agent: b.Agent, User: b.User, Action: b.Action})
		return &made[logged]{Location: "/v1/holds", Body: logged{ID: &hold}}, err
	})
	lawful(s, op("release-hold", "POST", "/v1/holds/{id}/release", "End a hold", 200), access.LawWrite, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, in *struct {
		Identified
		Reason
	}) (*answer[Decision], error) {
		hold, err := in.uuid()
		if err != nil {
			return nil, err
		}
		request, err := law.Release(ctx, c, w.Tenant, hold, in.Body.Reason)
		return &answer[Decision]{Decision{request}}, err
	})
	type rules struct {
		Floor int        `json:"floor_days" doc:"The fewest days that a rule may say"`
		Items []law.Rule `json:"items"`
	}
	lawful(s, op("list-retention", "GET", "/v1/retention", "List how long events are kept", 200), access.LawRead, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, _ *struct{}) (*answer[rules], error) {
		all, floor, err := law.Rules(ctx, c, w.Tenant)
		if all == nil {
			all = []law.Rule{}
		}
		return &answer[rules]{rules{floor, all}}, err
	})
	lawful(s, op("set-retention", "PUT", "/v1/retention", "Say how long events are kept", 200), access.LawWrite, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, in *struct {
		Body struct {
			Because
			Action string `json:"action_type,omitempty" maxLength:"1024" doc:"Missing: all that have no rule of their own"`
			Days   int    `json:"days" minimum:"0" maximum:"36500" doc:"0 takes the rule back"`
		}
	}) (*answer[Decision], error) {
		request, err := law.Keep(ctx, c, w.Tenant, in.Body.Action, in.Body.Days, in.Body.Reason)
		return &answer[Decision]{Decision{request}}, err
	})
	lawful(s, op("run-retention", "POST", "/v1/retention/run", "Delete what the rules no longer keep, or find out what would go", 200), access.LawWrite, func(ctx context.Context, w access.Who, c *tenantdb.Compliance, in *struct {
		Body struct {
			Because
			Try bool `json:"try,omitempty" doc:"Delete nothing"`
		}
	}) (*answer[law.Retired], error) {
		all, err := law.Retire(ctx, c, w.Tenant, in.Body.Reason, in.Body.Try, nil)
		return &answer[law.Retired]{all}, err
	})
}
