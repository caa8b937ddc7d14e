package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
)

// errNoCompliance means that the service has no connection as the compliance role.
var errNoCompliance = problem(http.StatusConflict,
	"this service has no compliance operations: its operator must set KONSTRUCT_COMPLIANCE_DATABASE_URL")

// registerCompliance registers an operation of the compliance role. The database records each act under the service's
// role; a second event records the principal.
func registerCompliance[I, O any](s *Server, op huma.Operation, may access.Permission,
	h func(context.Context, access.Principal, *tenantdb.Compliance, *I) (*O, error)) {
	op.Tags = []string{"Compliance"}
	register(s, op, may, func(ctx context.Context, w access.Principal, in *I) (*O, error) {
		if s.c.Compliance == nil {
			return nil, errNoCompliance
		}
		if may == access.ComplianceWrite {
			if err := s.tenant(w).Record(ctx, w, audit.ActionComplianceRequest,
				map[string]any{"operation": op.OperationID}); err != nil {
				return nil, err
			}
		}
		return h(ctx, w, s.c.Compliance, in)
	})
}

// ReasonBody is the reason for an act; it stays on the trail.
type ReasonBody struct {
	Reason string `json:"reason" minLength:"1" maxLength:"1000"`
}

// ReasonRequest is a request with only a reason.
type ReasonRequest struct{ Body ReasonBody }

// ComplianceDecision is the result of an act that may need a second person's approval.
type ComplianceDecision struct {
	Request *uuid.UUID `json:"request,omitempty" doc:"Set if a second person must approve it first"`
}

func (s *Server) compliance() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, DefaultStatus: status}
	}
	registerCompliance(s, op("createErasure", "POST", "/v1/erasures", "Erase fields of events", 200),
		access.ComplianceWrite, func(ctx context.Context, w access.Principal, c *tenantdb.Compliance, in *struct {
			Body struct {
				ReasonBody
				Events []uuid.UUID     `json:"events,omitempty" maxItems:"1000"`
				User   string          `json:"user_id,omitempty" maxLength:"1024"`
				Fields []erasableField `json:"fields" minItems:"1" maxItems:"6"`
			}
		}) (*Response[compliance.Erased], error) {
			e := compliance.Erasure{Events: in.Body.Events, User: in.Body.User, Reason: in.Body.Reason}
			for _, name := range in.Body.Fields {
				f, err := ledger.FieldNamed(string(name))
				if err != nil {
					return nil, fieldProblem("body.fields", err.Error())
				}
				e.Fields = append(e.Fields, f)
			}
			done, err := compliance.Erase(ctx, c, w.Tenant, e)
			return &Response[compliance.Erased]{done}, err
		})
	registerCompliance(s, op("listErasures", "GET", "/v1/erasures", "List requests that wait for a second person", 200),
		access.ComplianceRead, func(ctx context.Context, w access.Principal, c *tenantdb.Compliance,
			_ *struct{}) (*Response[List[compliance.Request]], error) {
			all, err := compliance.Pending(ctx, c, w.Tenant)
			return listPage(all, len(all)+1, func(compliance.Request) string { return "" }), err
		})
	approve := op("approveErasure", "POST", "/v1/erasures/{id}/approve", "Approve a request and carry it out", 200)
	approve.Description = "The database identifies persons by their database roles, and this service has one role: " +
		"what was requested through it is approved with a person's own role (konstruct audit erasures approve)."
	registerCompliance(s, approve, access.ComplianceWrite,
		func(ctx context.Context, w access.Principal, c *tenantdb.Compliance, in *struct {
			PathID
			ReasonRequest
		}) (*Response[compliance.Erased], error) {
			request, err := in.uuid()
			if err != nil {
				return nil, err
			}
			n, err := compliance.Approve(ctx, c, w.Tenant, request, in.Body.Reason)
			return &Response[compliance.Erased]{compliance.Erased{Events: n}}, err
		})
	registerCompliance(s, op("declineErasure", "POST", "/v1/erasures/{id}/decline", "Decline a request", 204),
		access.ComplianceWrite, func(ctx context.Context, w access.Principal, c *tenantdb.Compliance, in *struct {
			PathID
			ReasonRequest
		}) (*NoContent, error) {
			request, err := in.uuid()
			if err != nil {
				return nil, err
			}
			return nil, compliance.Decline(ctx, c, w.Tenant, request, in.Body.Reason)
		})
	registerCompliance(s,
		op("updateTwoPeople", "PUT", "/v1/settings/two-people",
			"Require two people for erasures, releases and shorter retention", 204), access.ComplianceWrite,
		func(ctx context.Context, w access.Principal, c *tenantdb.Compliance, in *ReasonRequest) (*NoContent, error) {
			return nil, compliance.RequireTwo(ctx, c, w.Tenant, in.Body.Reason)
		})
	registerCompliance(s, op("listHolds", "GET", "/v1/holds", "List legal holds", 200), access.ComplianceRead,
		func(ctx context.Context, w access.Principal, c *tenantdb.Compliance,
			_ *struct{}) (*Response[List[compliance.Hold]], error) {
			all, err := compliance.Holds(ctx, c, w.Tenant)
			return listPage(all, len(all)+1, func(compliance.Hold) string { return "" }), err
		})
	registerCompliance(s,
		op("createHold", "POST", "/v1/holds", "Place a legal hold: matching events are neither erased nor deleted",
			201), access.ComplianceWrite,
		func(ctx context.Context, w access.Principal, c *tenantdb.Compliance, in *struct {
			Body struct {
				ReasonBody
				Since  *time.Time `json:"since,omitempty" doc:"Of created_at, inclusive"`
				Until  *time.Time `json:"until,omitempty"`
				Agent  *uuid.UUID `json:"agent_id,omitempty"`
				User   *string    `json:"user_id,omitempty" maxLength:"1024"`
				Action *string    `json:"action_type,omitempty" maxLength:"1024"`
			}
		}) (*Created[EventCreated], error) {
			b := in.Body
			for at, given := range map[string]*time.Time{"body.since": b.Since, "body.until": b.Until} {
				if _, err := givenTime(at, given); err != nil {
					return nil, err
				}
			}
			hold, err := compliance.Place(ctx, c, w.Tenant,
				compliance.Hold{Reason: b.Reason, Since: b.Since, Until: b.Until, Agent: b.Agent, User: b.User,
					Action: b.Action})
			return &Created[EventCreated]{Location: "/v1/holds", Body: EventCreated{ID: &hold}}, err
		})
	registerCompliance(s, op("releaseHold", "POST", "/v1/holds/{id}/release", "Release a legal hold", 200),
		access.ComplianceWrite, func(ctx context.Context, w access.Principal, c *tenantdb.Compliance, in *struct {
			PathID
			ReasonRequest
		}) (*Response[ComplianceDecision], error) {
			hold, err := in.uuid()
			if err != nil {
				return nil, err
			}
			request, err := compliance.Release(ctx, c, w.Tenant, hold, in.Body.Reason)
			return &Response[ComplianceDecision]{ComplianceDecision{request}}, err
		})
	type RetentionRules struct {
		Floor int               `json:"floor_days" doc:"Least number of days of a rule"`
		Items []compliance.Rule `json:"items"`
	}
	registerCompliance(s, op("listRetentionRules", "GET", "/v1/retention", "List retention rules", 200),
		access.ComplianceRead, func(ctx context.Context, w access.Principal, c *tenantdb.Compliance,
			_ *struct{}) (*Response[RetentionRules], error) {
			all, floor, err := compliance.Rules(ctx, c, w.Tenant)
			if all == nil {
				all = []compliance.Rule{}
			}
			return &Response[RetentionRules]{RetentionRules{floor, all}}, err
		})
	registerCompliance(s, op("updateRetentionRules", "PUT", "/v1/retention", "Set how long events of a type are kept",
		200), access.ComplianceWrite, func(ctx context.Context, w access.Principal, c *tenantdb.Compliance, in *struct {
		Body struct {
			ReasonBody
			Action string `json:"action_type,omitempty" maxLength:"1024"`
			Days   int    `json:"days" minimum:"0" maximum:"36500" doc:"0 removes the rule"`
		}
	}) (*Response[ComplianceDecision], error) {
		request, err := compliance.SetRule(ctx, c, w.Tenant, in.Body.Action, in.Body.Days, in.Body.Reason)
		return &Response[ComplianceDecision]{ComplianceDecision{request}}, err
	})
	registerCompliance(s,
		op("runRetention", "POST", "/v1/retention/run", "Delete events past their retention, or count them", 200),
		access.ComplianceWrite, func(ctx context.Context, w access.Principal, c *tenantdb.Compliance, in *struct {
			Body struct {
				ReasonBody
				Try bool `json:"try,omitempty" doc:"Delete nothing"`
			}
		}) (*Response[compliance.Expired], error) {
			all, err := compliance.Expire(ctx, c, w.Tenant, in.Body.Reason, in.Body.Try, nil)
			return &Response[compliance.Expired]{all}, err
		})
}
