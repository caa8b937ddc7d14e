package server

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/kb"
)

// Me is the principal of a credential.
type Me struct {
	Tenant      uuid.UUID           `json:"tenant_id"`
	ID          uuid.UUID           `json:"id" doc:"The key's or the user's"`
	Name        string              `json:"name"`
	Role        access.Role         `json:"role,omitempty" doc:"Of a person"`
	Agent       *uuid.UUID          `json:"agent_id,omitempty"`
	Permissions []access.Permission `json:"permissions"`
	Labels      []string            `json:"labels"`
}

// KeyCreated is a new API key, whose secret is returned only here.
type KeyCreated struct {
	Secret string     `json:"secret" doc:"The key itself. It is shown once: what is stored is a hash"`
	Key    access.Key `json:"key"`
}

// Usage is a tenant's documents, jobs, events and limits.
type Usage struct {
	Documents int            `json:"documents"`
	Jobs      map[string]int `json:"jobs" doc:"By state"`
	Days      []audit.Stats  `json:"days" doc:"Events of each of the last 30 days, by type"`
	Limits    access.Limits  `json:"limits"`
}

func (s *Server) access() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Access"},
			DefaultStatus: status}
	}
	getMe := op("getMe", "GET", "/v1/me", "Get the principal and its permissions", 200)
	getMe.Description = "Any credential may call it."
	register(s, getMe, "", func(_ context.Context, w access.Principal, _ *struct{}) (*Response[Me], error) {
		m := Me{Tenant: w.Tenant, ID: w.Credential, Name: w.Name, Role: w.Role, Permissions: w.Permissions(),
			Labels: w.Labels().Names()}
		if w.Agent != uuid.Nil {
			m.Agent = &w.Agent
		}
		return &Response[Me]{m}, nil
	})
	register(s, op("listKeys", "GET", "/v1/keys", "List keys", 200), access.AccessRead,
		func(ctx context.Context, w access.Principal, in *ListParams) (*Response[List[access.Key]], error) {
			after, err := in.afterID()
			if err != nil {
				return nil, err
			}
			keys, err := s.tenant(w).Keys().List(ctx, after, in.Limit)
			return listPage(keys, in.Limit, func(k access.Key) string { return k.ID.String() }), err
		})
	register(s, op("createKey", "POST", "/v1/keys", "Create a key; its secret is shown once", 201), access.AccessWrite,
		func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				Name        string       `json:"name" minLength:"1" maxLength:"200" doc:"What it is for"`
				Agent       *uuid.UUID   `json:"agent_id,omitempty"`
				Permissions []permission `json:"permissions" minItems:"1" maxItems:"20"`
				Labels      []string     `json:"labels,omitempty" maxItems:"200"`
				ExpiresAt   *time.Time   `json:"expires_at,omitempty"`
			}
		}) (*Created[KeyCreated], error) {
			a := access.KeyRequest{Name: in.Body.Name, Labels: in.Body.Labels,
				Permissions: stringsOf[access.Permission](in.Body.Permissions)}
			var err error
			if a.Agent, err = givenID("body.agent_id", in.Body.Agent); err != nil {
				return nil, err
			}
			if a.ExpiresAt, err = givenTime("body.expires_at", in.Body.ExpiresAt); err != nil {
				return nil, err
			}
			secret, key, err := s.tenant(w).Keys().Create(ctx, w, a)
			return &Created[KeyCreated]{Location: "/v1/keys", Body: KeyCreated{secret, key}}, err
		})
	rotate := op("rotateKey", "POST", "/v1/keys/{id}/rotate", "Replace a key by a new one with the same permissions",
		201)
	register(s, rotate, access.AccessWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Body struct {
			Overlap int `json:"overlap_seconds" minimum:"0" maximum:"2592000" doc:"How long the old key stays valid"`
		}
	}) (*Created[KeyCreated], error) {
		kid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		secret, key, err := s.tenant(w).Keys().Rotate(ctx, w, kid, time.Duration(in.Body.Overlap)*time.Second)
		return &Created[KeyCreated]{Location: "/v1/keys", Body: KeyCreated{secret, key}}, err
	})
	grant := op("updateKeyLabels", "PUT", "/v1/keys/{id}/labels", "Replace the labels of a key", 200)
	register(s, grant, access.AccessWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Body struct {
			Labels []string `json:"labels" maxItems:"200"`
		}
	}) (*Response[access.Key], error) {
		kid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		k, err := s.tenant(w).Keys().SetLabels(ctx, w, kid, in.Body.Labels)
		return &Response[access.Key]{k}, err
	})
	revoke := op("revokeKey", "DELETE", "/v1/keys/{id}", "Revoke a key at once, in every process", 204)
	register(s, revoke, access.AccessWrite,
		func(ctx context.Context, w access.Principal, in *PathID) (*NoContent, error) {
			kid, err := in.uuid()
			if err != nil {
				return nil, err
			}
			_, err = s.tenant(w).Keys().Revoke(ctx, w, kid)
			return nil, err
		})
	register(s, op("listUsers", "GET", "/v1/users", "List users and their roles", 200), access.AccessRead,
		func(ctx context.Context, w access.Principal, in *ListParams) (*Response[List[access.User]], error) {
			after, err := in.afterID()
			if err != nil {
				return nil, err
			}
			users, err := s.tenant(w).Users().List(ctx, after, in.Limit)
			return listPage(users, in.Limit, func(u access.User) string { return u.ID.String() }), err
		})
	register(s, op("createUser", "POST", "/v1/users", "Add a user with a role", 201), access.AccessWrite,
		func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				Issuer  string      `json:"issuer" minLength:"1" maxLength:"500" doc:"The identity provider's URL"`
				Subject string      `json:"subject" minLength:"1" maxLength:"255" doc:"The sub claim of its tokens"`
				Name    string      `json:"name,omitempty" maxLength:"200"`
				Role    access.Role `json:"role" enum:"viewer,auditor,operator,compliance,admin"`
				Labels  []string    `json:"labels,omitempty" maxItems:"200"`
			}
		}) (*Created[access.User], error) {
			b := in.Body
			u, err := s.tenant(w).Users().
				Add(ctx, w,
					access.User{Issuer: b.Issuer, Subject: b.Subject, Name: b.Name, Role: b.Role, Labels: b.Labels})
			return &Created[access.User]{Location: "/v1/users", Body: u}, err
		})
	dismiss := op("deleteUser", "DELETE", "/v1/users/{id}", "Remove a user at once", 204)
	register(s, dismiss, access.AccessWrite,
		func(ctx context.Context, w access.Principal, in *PathID) (*NoContent, error) {
			uid, err := in.uuid()
			if err != nil {
				return nil, err
			}
			return nil, s.tenant(w).Users().Remove(ctx, w, uid)
		})
	register(s, op("getLimits", "GET", "/v1/settings/limits", "Get the limits of the tenant", 200), access.AccessRead,
		func(ctx context.Context, w access.Principal, _ *struct{}) (*Response[access.Limits], error) {
			l, err := s.meter.Limits(ctx, w.Tenant)
			return &Response[access.Limits]{l}, err
		})
	register(s, op("getUsage", "GET", "/v1/usage", "Get the usage of the tenant in the last 30 days", 200),
		access.AccessRead, func(ctx context.Context, w access.Principal, _ *struct{}) (*Response[Usage], error) {
			t := s.tenant(w)
			u := Usage{Jobs: map[string]int{}}
			jobs, err := t.Jobs().Count(ctx)
			if err == nil {
				u.Documents, err = kb.CountDocuments(ctx, s.c.Konstruct.Door(), w.Tenant)
			}
			if err == nil {
				u.Days, err = t.Events().
					Stats(ctx,
						audit.StatsFilter{Since: time.Now().Add(-30 * 24 * time.Hour), By: []string{"day", "action"}})
			}
			if err == nil {
				u.Limits, err = s.meter.Limits(ctx, w.Tenant)
			}
			for state, n := range jobs {
				u.Jobs[string(state)] = n
			}
			return &Response[Usage]{u}, err
		})
	register(s, op("listAgents", "GET", "/v1/agents", "List agents by their number of events", 200), access.EventsRead,
		func(ctx context.Context, w access.Principal, _ *struct{}) (*Response[List[audit.Stats]], error) {
			figures, err := s.tenant(w).Events().Stats(ctx, audit.StatsFilter{By: []string{"agent"}, AgentID: w.Agent})
			return listPage(figures, audit.MaxGroups+1, func(audit.Stats) string { return "" }), err
		})
	s.tenants(op)
}

// TenantCreated is a new tenant with its first key.
type TenantCreated struct {
	Tenant uuid.UUID `json:"tenant_id"`
	KeyCreated
}

// tenants registers the operator's operations on other tenants, each an event on both trails.
func (s *Server) tenants(op func(id, method, path, summary string, status int) huma.Operation) {
	register(s, op("impersonateTenant", "POST", "/v1/impersonate", "Create a short-lived key of another tenant", 201),
		access.TenantsImpersonate, func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				Tenant      uuid.UUID          `json:"tenant_id"`
				Reason      string             `json:"reason" minLength:"1" maxLength:"100"`
				Permissions []tenantPermission `json:"permissions" minItems:"1" maxItems:"20"`
				Labels      []string           `json:"labels,omitempty" maxItems:"200"`
				Seconds     int                `json:"seconds" minimum:"1" maximum:"3600"`
			}
		}) (*Created[KeyCreated], error) {
			secret, key, err := s.c.Konstruct.ImpersonateTenant(ctx, w, in.Body.Tenant, in.Body.Reason,
				stringsOf[access.Permission](in.Body.Permissions), in.Body.Labels,
				time.Duration(in.Body.Seconds)*time.Second)
			return &Created[KeyCreated]{Location: "/v1/keys", Body: KeyCreated{secret, key}}, err
		})
	set := op("updateLimits", "PUT", "/v1/tenants/{id}/limits", "Set the limits of a tenant", 200)
	set.Description = "Only for the operator: a tenant can't change its own limits."
	register(s, set, access.TenantsImpersonate, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Body access.Limits
	}) (*Response[access.Limits], error) {
		tenant, err := in.uuid()
		if err != nil {
			return nil, err
		}
		err = s.c.Konstruct.Tenant(tenant).SetLimits(ctx, w, in.Body)
		return &Response[access.Limits]{in.Body}, err
	})
	register(s, op("createTenant", "POST", "/v1/tenants", "Create a tenant and its first key", 201),
		access.TenantsImpersonate, func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				Name string `json:"name" minLength:"1" maxLength:"100" doc:"Shown on the operator's trail"`
			}
		}) (*Created[TenantCreated], error) {
			secret, tenant, key, err := s.c.Konstruct.CreateTenant(ctx, w, in.Body.Name)
			return &Created[TenantCreated]{Location: "/v1/me", Body: TenantCreated{tenant, KeyCreated{secret, key}}},
				err
		})
}
