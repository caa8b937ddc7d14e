// Package access says who acts and what they may do: principals, API keys, users of an identity provider, roles,
// labels, limits and idempotency. It knows tenants and credentials; it must not know HTTP, or what is done with a
// permission.
package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/tenantdb"
)

// Permission is something that a credential may do.
type Permission string

// The permissions. "read" shows, "write" changes.
const (
	EventsRead       Permission = "events:read"       // list, get, runs, statistics, escalations, the stream
	EventsWrite      Permission = "events:write"      // log events
	EscalationsWrite Permission = "escalations:write" // acknowledge and resolve escalations
	GatewayUse       Permission = "gateway:use"       // call models and MCP servers by the operator's credentials
	// proofs, receipts, checkpoints, tiles, bundles, exports, verification; each is an event
	EvidenceRead    Permission = "evidence:read"
	KBRead          Permission = "kb:read"          // documents, searches and citations; each search is an event
	KBWrite         Permission = "kb:write"         // ingest and remove documents, tune
	ComplianceRead  Permission = "compliance:read"  // holds, rules, requests
	ComplianceWrite Permission = "compliance:write" // erase, hold, retain
	AccessRead      Permission = "access:read"      // keys, users, limits
	AccessWrite     Permission = "access:write"     // make and revoke keys, name users, set limits
	WebhooksRead    Permission = "webhooks:read"    // endpoints, and what was delivered to them
	WebhooksWrite   Permission = "webhooks:write"   // make, change and delete endpoints, send messages again
	// of the operator's tenant alone: a short-lived key of any tenant
	TenantsImpersonate Permission = "tenants:impersonate"
)

// Permissions are all of them.
var Permissions = []Permission{EventsRead, EventsWrite, EscalationsWrite, GatewayUse, EvidenceRead, KBRead, KBWrite,
	ComplianceRead, ComplianceWrite, AccessRead, AccessWrite, WebhooksRead, WebhooksWrite, TenantsImpersonate}

// Role is what a person is in a tenant.
type Role string

// The roles.
const (
	Viewer  Role = "viewer"  // sees
	Auditor Role = "auditor" // sees, proves and exports; changes nothing
	// Operator runs the agents: writes events, calls models, answers escalations, keeps the knowledge base and
	// webhooks.
	Operator   Role = "operator"
	Compliance Role = "compliance" // what an auditor may, and compliance: erasures, holds, retention
	Admin      Role = "admin"      // everything in the tenant but switching to others
)

// Roles are all of them.
var Roles = []Role{Viewer, Auditor, Operator, Compliance, Admin}

// Permissions returns what a role may do; nothing where there is no such role.
func (r Role) Permissions() []Permission {
	sees := []Permission{EventsRead, KBRead}
	switch r {
	case Viewer:
		return sees
	case Auditor:
		return append(sees, EvidenceRead, ComplianceRead, AccessRead, WebhooksRead)
	case Operator:
		return append(sees, EventsWrite, EscalationsWrite, GatewayUse, KBWrite, WebhooksRead, WebhooksWrite)
	case Compliance:
		return append(sees, EvidenceRead, ComplianceRead, ComplianceWrite, AccessRead, WebhooksRead)
	case Admin:
		return Permissions[:len(Permissions)-1]
	}
	return nil
}

// Principal is the caller: a key, or a person.
type Principal struct {
	Tenant     uuid.UUID
	Credential uuid.UUID // the key's or the user's id
	Name       string    // for people who read the trail
	Agent      uuid.UUID // the one agent as which it acts; zero is any
	Role       Role      // of a person; empty for a key
	may        []Permission
	labels     tenantdb.Labels
}

// Can reports whether who may do an action.
func (w Principal) Can(a Permission) bool { return slices.Contains(w.may, a) }

// Sees reports whether it may see what an agent did; nil is no agent. Who acts as one agent sees that agent's only.
func (w Principal) Sees(agent *uuid.UUID) bool {
	return w.Agent == uuid.Nil || agent != nil && *agent == w.Agent
}

// Permissions returns what it may do.
func (w Principal) Permissions() []Permission { return slices.Clone(w.may) }

// Labels are those of the documents that it may see, beside documents that have none.
func (w Principal) Labels() tenantdb.Labels { return w.labels }

// String names who for the trail.
func (w Principal) String() string {
	switch {
	case w.Credential == uuid.Nil:
		return w.Name + " at the terminal"
	case w.Role != "":
		return "person " + w.Credential.String() + " (" + w.Name + ")"
	}
	return "key " + w.Credential.String() + " (" + w.Name + ")"
}

// Errors of credentials. All invalid credentials get the same one, so that a stranger learns nothing from it.
var (
	ErrUnauthenticated = errors.New("the credential is not known: it is mistyped, expired, revoked, or " +
		"of another service")
	ErrNotFound = errors.New("there is no such key or user of this tenant")
)

// FieldError says what of a request is not acceptable, and why.
type FieldError struct{ Field, Reason string }

// Error implements error.
func (e *FieldError) Error() string { return e.Field + " " + e.Reason }

// Limits on what a tenant can have made.
const (
	MaxName  = 200
	MaxKeys  = 1000
	MaxUsers = 10_000
	MaxList  = 1000
	// MaxLabels is how many labels one key or user is granted at most.
	MaxLabels = 200
)

func checkName(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return &FieldError{"name", "is empty: say what it is for"}
	case len(name) > MaxName:
		return &FieldError{"name", fmt.Sprintf("has %d bytes, the limit is %d", len(name), MaxName)}
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return &FieldError{"name", "has a control character"}
	}
	return nil
}

func checkPermissions(permissions []Permission) error {
	if len(permissions) == 0 {
		return &FieldError{"permissions", "is empty: name at least one"}
	}
	for i, a := range permissions {
		if !slices.Contains(Permissions, a) {
			return &FieldError{"permissions",
				fmt.Sprintf("has %.40q, which is none: they are %s", string(a), JoinPermissions(Permissions, ", "))}
		}
		if slices.Contains(permissions[:i], a) {
			return &FieldError{"permissions", fmt.Sprintf("has %s twice", a)}
		}
	}
	return nil
}

// checkLabels checks labels that are to be granted: tenantdb.Every alone, or labels.
func checkLabels(labels []string) error {
	if len(labels) == 1 && labels[0] == tenantdb.AllLabelsName {
		return nil
	}
	if len(labels) > MaxLabels {
		return &FieldError{"labels", fmt.Sprintf("has %d, the limit is %d", len(labels), MaxLabels)}
	}
	for i, l := range labels {
		if err := tenantdb.CheckLabel(l); err != nil {
			return &FieldError{"labels", "has one that can't be: " + err.Error()}
		}
		if slices.Contains(labels[:i], l) {
			return &FieldError{"labels", fmt.Sprintf("has %.120q twice", l)}
		}
	}
	return nil
}

// JoinPermissions names permissions or roles in one text.
func JoinPermissions[T ~string](all []T, between string) string {
	names := make([]string, len(all))
	for i, a := range all {
		names[i] = string(a)
	}
	return strings.Join(names, between)
}

// LocalOperator is who acts at the machine's own terminal, with the database's password: they may do anything in a
// tenant.
func LocalOperator(tenant uuid.UUID, name string) Principal {
	return Principal{Tenant: tenant, Name: name, may: Permissions, labels: tenantdb.AllLabels()}
}
