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

// me is who a credential is.
type me struct {
	Tenant  uuid.UUID       `json:"tenant_id"`
	ID      uuid.UUID       `json:"id" doc:"The key's or the user's"`
	Name    string          `json:"name"`
	Role    access.Role     `json:"role,omitempty" doc:"Of a person"`
	Agent   *uuid.UUID      `json:"agent_id,omitempty"`
	Actions []access.Action `json:"actions"`
	Labels  []string        `json:"labels" doc:"You see documents that have one of these, beside those that have none; * is every label"`
}

// Told is a key that is told once.
type Told struct {
	Secret string     `json:"secret" doc:"The key itself. It is told once: what is stored is a hash"`
	Key    access.Key `json:"key"`
}

// usage is what a tenant has and did.
type usage struct {
	Documents int             `json:"documents"`
	Jobs      map[string]int  `json:"jobs" doc:"By state"`
	Days      []audit.Figures `json:"days" doc:"Events of each of the last 30 days, by type"`
	Limits    access.Limits   `json:"limits"`
}

func (s *Server) people() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Access"}, DefaultStatus: status}
	}
	add(s, op("get-me", "GET", "/v1/me", "Who you are, and what you may do", 200), "", func(_ context.Context, w access.Who, _ *struct{}) (*answer[me], error) {
		m := me{Tenant: w.Tenant, ID: w.Credential, Name: w.Name, Role: w.Role, Actions: w.Actions(), Labels: w.Labels().Names()}
		if w.Agent != uuid.Nil {
			m.Agent = &w.Agent
		}
		return &answer[me]{m}, nil
	})
	add(s, op("list-keys", "GET", "/v1/keys", "List keys", 200), access.AccessRead, func(ctx context.Context, w access.Who, in *ByID) (*answer[many[access.Key]], error) {
		after, err := in.from()
		if err != nil {
			return nil, err
		}
		keys, err := s.of(w).AccessKeys(ctx, after, in.Limit)
		return listed(keys, in.Limit, func(k access.Key) string { return k.ID.String() }), err
	})
	add(s, op("make-key", "POST", "/v1/keys", "Make a key, which may do no more than you may", 201), access.AccessWrite, func(ctx context.Context, w access.Who, in *struct {
		Body struct {
			Name      string          `json:"name" minLength:"1" maxLength:"200" doc:"What it is for"`
			Agent     *uuid.UUID      `json:"agent_id,omitempty" doc:"The one agent as which it acts and whose events it sees"`
			Actions   []access.Action `json:"actions" minItems:"1" maxItems:"11" enum:"events:read,events:write,cases:write,evidence:read,kb:read,kb:write,law:read,law:write,access:read,access:write,tenants:switch"`
			Labels    []string        `json:"labels,omitempty" maxItems:"200" doc:"Labels of documents that it may see, beside documents that have none: no more than you have yourself; * alone is every label"`
			ExpiresAt *time.Time      `json:"expires_at,omitempty"`
		}
	}) (*made[Told], error) {
		a := access.Ask{Name: in.Body.Name, Actions: in.Body.Actions, Labels: in.Body.Labels}
		if in.Body.Agent != nil {
			a.Agent = *in.Body.Agent
		}
		if in.Body.ExpiresAt != nil {
			a.Expires = *in.Body.ExpiresAt
		}
		secret, key, err := s.of(w).MakeKey(ctx, w, a)
		return &made[Told]{Location: "/v1/keys", Body: Told{secret, key}}, err
	})
	rotate := op("rotate-key", "POST", "/v1/keys/{id}/rotate", "Make a key with the same rights in another's place", 201)
	add(s, rotate, access.AccessWrite, func(ctx context.Context, w access.Who, in *struct {
		Identified
		Body struct {
			Overlap int `json:"overlap_seconds" minimum:"0" maximum:"2592000" doc:"How long the old one holds beside it"`
		}
	}) (*made[Told], error) {
		kid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		secret, key, err := s.of(w).RotateKey(ctx, w, kid, time.Duration(in.Body.Overlap)*time.Second)
		return &made[Told]{Location: "/v1/keys", Body: Told{secret, key}}, err
	})
	grant := op("grant-key", "PUT", "/v1/keys/{id}/labels", "Say which labels a key has: at once, in every process", 200)
	add(s, grant, access.AccessWrite, func(ctx context.Context, w access.Who, in *struct {
		Identified
		Body struct {
			Labels []string `json:"labels" maxItems:"200" doc:"Labels of documents that it may see, beside documents that have none: no more than you have yourself; * alone is every label"`
		}
	}) (*answer[access.Key], error) {
		kid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		k, err := s.of(w).GrantKey(ctx, w, kid, in.Body.Labels)
		return &answer[access.Key]{k}, err
	})
	revoke := op("revoke-key", "DELETE", "/v1/keys/{id}", "End a key at once, in every process", 204)
	add(s, revoke, access.AccessWrite, func(ctx context.Context, w access.Who, in *Identified) (*empty, error) {
		kid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		_, err = s.of(w).RevokeKey(ctx, w, kid)
		return nil, err
	})
	add(s, op("list-users", "GET", "/v1/users", "List people and their roles", 200), access.AccessRead, func(ctx context.Context, w access.Who, in *ByID) (*answer[many[access.User]], error) {
		after, err := in.from()
		if err != nil {
			return nil, err
		}
		users, err := s.of(w).Users(ctx, after, in.Limit)
		return listed(users, in.Limit, func(u access.User) string { return u.ID.String() }), err
	})
	add(s, op("admit-user", "POST", "/v1/users", "Give a person a role in this tenant", 201), access.AccessWrite, func(ctx context.Context, w access.Who, in *struct {
		Body struct {
			Issuer  string      `json:"issuer" minLength:"1" maxLength:"500" doc:"The identity provider's URL"`
			Subject string      `json:"subject" minLength:"1" maxLength:"255" doc:"As its tokens have it (sub)"`
			Name    string      `json:"name,omitempty" maxLength:"200"`
			Role    access.Role `json:"role" enum:"viewer,auditor,operator,compliance,admin"`
			Labels  []string    `json:"labels,omitempty" maxItems:"200" doc:"Labels of documents that they may see, beside documents that have none: no more than you have yourself; * alone is every label. Where it is missing, somebody who is there keeps theirs"`
		}
	}) (*made[access.User], error) {
		b := in.Body
		u, err := s.of(w).Admit(ctx, w, access.User{Issuer: b.Issuer, Subject: b.Subject, Name: b.Name, Role: b.Role, Labels: b.Labels})
		return &made[access.User]{Location: "/v1/users", Body: u}, err
	})
	dismiss := op("dismiss-user", "DELETE", "/v1/users/{id}", "End what a person may do in this tenant, at once", 204)
	add(s, dismiss, access.AccessWrite, func(ctx context.Context, w access.Who, in *Identified) (*empty, error) {
		uid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		return nil, s.of(w).Dismiss(ctx, w, uid)
	})
	add(s, op("get-limits", "GET", "/v1/settings/limits", "How much this tenant may use", 200), access.AccessRead, func(ctx context.Context, w access.Who, _ *struct{}) (*answer[access.Limits], error) {
		l, err := s.meter.Limits(ctx, w.Tenant)
		return &answer[access.Limits]{l}, err
	})
	add(s, op("get-usage", "GET", "/v1/usage", "What this tenant has, and did in the last 30 days", 200), access.AccessRead, func(ctx context.Context, w access.Who, _ *struct{}) (*answer[usage], error) {
		t := s.of(w)
		u := usage{Jobs: map[string]int{}}
		jobs, err := t.CountJobs(ctx)
		if err == nil {
			u.Documents, err = kb.CountDocuments(ctx, s.c.Konstruct.Door(), w.Tenant)
		}
		if err == nil {
			u.Days, err = t.Stats(ctx, audit.StatsFilter{Since: time.Now().Add(-30 * 24 * time.Hour), By: []string{"day", "action"}})
		}
		if err == nil {
			u.Limits, err = s.meter.Limits(ctx, w.Tenant)
		}
		for state, n := range jobs {
			u.Jobs[string(state)] = n
		}
		return &answer[usage]{u}, err
	})
	add(s, op("list-agents", "GET", "/v1/agents", "The agents that have events, the busiest first", 200), access.EventsRead, func(ctx context.Context, w access.Who, _ *struct{}) (*answer[many[audit.Figures]], error) {
		figures, err := s.of(w).Stats(ctx, audit.StatsFilter{By: []string{"agent"}, AgentID: w.Agent})
		return listed(figures, audit.MaxGroups+1, func(audit.Figures) string { return "" }), err
	})
	s.tenants(op)
}

// Begun is a new tenant with its first key.
type Begun struct {
	Tenant uuid.UUID `json:"tenant_id"`
	Told
}

// tenants serves the operator's own: other tenants, each step of which is an event on both trails.
func (s *Server) tenants(op func(id, method, path, summary string, status int) huma.Operation) {
	add(s, op("switch-tenant", "POST", "/v1/switch", "Get a key of another tenant for an hour at most", 201), access.TenantsSwitch, func(ctx context.Context, w access.Who, in *struct {
		Body struct {
			Tenant  uuid.UUID       `json:"tenant_id"`
			Reason  string          `json:"reason" minLength:"1" maxLength:"100" doc:"Why; it stays on both trails"`
			Actions []access.Action `json:"actions" minItems:"1" maxItems:"10" enum:"events:read,events:write,cases:write,evidence:read,kb:read,kb:write,law:read,law:write,access:read,access:write"`
			Labels  []string        `json:"labels,omitempty" maxItems:"200" doc:"Labels of its documents that the key may see, beside documents that have none: no more than you have yourself; * alone is every label"`
			Seconds int             `json:"seconds" minimum:"1" maximum:"3600"`
		}
	}) (*made[Told], error) {
		secret, key, err := s.c.Konstruct.Switch(ctx, w, in.Body.Tenant, in.Body.Reason, in.Body.Actions, in.Body.Labels, time.Duration(in.Body.Seconds)*time.Second)
		return &made[Told]{Location: "/v1/keys", Body: Told{secret, key}}, err
	})
	set := op("set-limits", "PUT", "/v1/tenants/{id}/limits", "Say how much a tenant may use", 200)
	set.Description = "The operator's alone: who is limited does not decide by how much."
	add(s, set, access.TenantsSwitch, func(ctx context.Context, w access.Who, in *struct {
		Identified
		Body access.Limits
	}) (*answer[access.Limits], error) {
		tenant, err := in.uuid()
		if err != nil {
			return nil, err
		}
		err = s.c.Konstruct.Tenant(tenant).SetLimits(ctx, w, in.Body)
		return &answer[access.Limits]{in.Body}, err
	})
	add(s, op("make-tenant", "POST", "/v1/tenants", "Begin a tenant: draw its id, and make its first key", 201), access.TenantsSwitch, func(ctx context.Context, w access.Who, in *struct {
		Body struct {
			Name string `json:"name" minLength:"1" maxLength:"100" doc:"For people who read the operator's trail"`
		}
	}) (*made[Begun], error) {
		secret, tenant, key, err := s.c.Konstruct.Begin(ctx, w, in.Body.Name)
		return &made[Begun]{Location: "/v1/me", Body: Begun{tenant, Told{secret, key}}}, err
	})
}
