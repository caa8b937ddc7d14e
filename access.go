package konstruct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/tenantdb"
)

// ErrNoKeys means that no API key can be created or checked, because Config.KeySecret is empty.
var ErrNoKeys = errors.New("konstruct: there is no secret to hash API keys with: set it (Config.KeySecret, " +
	"KONSTRUCT_KEY_SECRET_FILE)")

// Keys returns the API keys of all tenants, or ErrNoKeys without Config.KeySecret.
func (k *Konstruct) Keys() (*access.Keys, error) {
	if k.keys == nil {
		return nil, ErrNoKeys
	}
	return k.keys, nil
}

// Door returns the access to this database's tables, for packages that have their own tables in it.
func (k *Konstruct) Door() *tenantdb.Door { return k.door }

// recordChange runs do, which changes permissions, and records the event of it in the same transaction.
func (t *Tenant) recordChange(ctx context.Context, by access.Principal, action string,
	do func(ctx context.Context, tx pgx.Tx) (details any, err error)) error {
	return t.k.door.Tx(ctx, t.id, func(ctx context.Context, tx pgx.Tx) error {
		details, err := do(ctx, tx)
		if err != nil {
			return err
		}
		return t.record(ctx, tx, by, action, details)
	})
}

// record writes an event of a principal that is no agent.
func (t *Tenant) record(ctx context.Context, tx pgx.Tx, by access.Principal, action string, details any) error {
	metadata, err := json.Marshal(map[string]any{"konstruct.by": by.String(), "konstruct.access": details})
	if err != nil {
		return err
	}
	_, err = t.k.trail.InTx(ctx, tx, t.id,
		audit.Event{AgentID: by.Agent, UserID: by.Name, Action: action, Metadata: metadata}.OfService())
	return err
}

// Record writes an event of a principal that is no agent, such as an export or a proof of this tenant's data.
func (t *Tenant) Record(ctx context.Context, by access.Principal, action string, details any) error {
	return t.recordChange(ctx, by, action, func(context.Context, pgx.Tx) (any, error) { return details, nil })
}

// Create creates a key and records the event. The key's text is returned only here. A key can't have a permission or a
// label that its creator lacks.
func (g Keys) Create(ctx context.Context, by access.Principal,
	a access.KeyRequest) (key string, made access.Key, err error) {
	if g.t.k.keys == nil {
		return "", made, ErrNoKeys
	}
	for _, action := range a.Permissions {
		if slices.Contains(access.Permissions, action) && !by.Can(action) {
			return "", made, &access.FieldError{Field: "permissions",
				Reason: fmt.Sprintf("has %s, a permission that you do not have", action)}
		}
	}
	if by.Agent != uuid.Nil && a.Agent != by.Agent {
		return "", made, &access.FieldError{Field: "agent_id", Reason: "must be your own, " + by.Agent.String()}
	}
	if err := checkGrantedLabels(by, a.Labels); err != nil {
		return "", made, err
	}
	err = g.t.recordChange(ctx, by, audit.ActionKeyCreated, func(ctx context.Context, tx pgx.Tx) (any, error) {
		key, made, err = g.t.k.keys.Create(ctx, tx, g.t.id, by.String(), a)
		return made, err
	})
	return key, made, err
}

// checkGrantedLabels refuses to grant labels that the principal does not have.
func checkGrantedLabels(by access.Principal, labels []string) error {
	if name, lacks := by.Labels().Missing(labels); lacks {
		return &tenantdb.GrantError{Field: "labels",
			Reason: fmt.Sprintf("%.120q is not granted to you, so you can't give it", name)}
	}
	return nil
}

// checkKeyRights refuses a principal the secret of a key that has rights the principal lacks.
func checkKeyRights(by access.Principal, k access.Key) error {
	for _, action := range k.Permissions {
		if !by.Can(action) {
			return &tenantdb.GrantError{Field: "id",
				Reason: fmt.Sprintf(
					"this key has %s, which you do not have: let an administrator rotate it, or revoke it",
					action)}
		}
	}
	if name, lacks := by.Labels().Missing(k.Labels); lacks {
		return &tenantdb.GrantError{Field: "id",
			Reason: fmt.Sprintf(
				"this key has the label %.120q, which you do not have: have somebody rotate it who has, or revoke it",
				name)}
	}
	if by.Agent != uuid.Nil && (k.Agent == nil || *k.Agent != by.Agent) {
		return &tenantdb.GrantError{Field: "id", Reason: "this key is not agent " + by.Agent.String() +
			"'s, and you act as that agent only"}
	}
	return nil
}

// Rotate creates a key with the same rights as key id, which stays valid for overlap. It refuses a principal that lacks
// one of these rights.
func (g Keys) Rotate(ctx context.Context, by access.Principal, id uuid.UUID,
	overlap time.Duration) (key string, made access.Key, err error) {
	if g.t.k.keys == nil {
		return "", made, ErrNoKeys
	}
	err = g.t.recordChange(ctx, by, audit.ActionKeyRotated, func(ctx context.Context, tx pgx.Tx) (any, error) {
		key, made, err = g.t.k.keys.Rotate(ctx, tx, g.t.id, id, by.String(), overlap, func(old access.Key) error {
			return checkKeyRights(by, old)
		})
		return map[string]any{"rotated": id, "key": made}, err
	})
	g.t.k.keys.Forget()
	return key, made, err
}

// SetLabels replaces a key's labels and records the event. A principal can't grant a label that it lacks.
func (g Keys) SetLabels(ctx context.Context, by access.Principal, id uuid.UUID,
	labels []string) (granted access.Key, err error) {
	if g.t.k.keys == nil {
		return granted, ErrNoKeys
	}
	if err := checkGrantedLabels(by, labels); err != nil {
		return granted, err
	}
	err = g.t.recordChange(ctx, by, audit.ActionKeyLabels, func(ctx context.Context, tx pgx.Tx) (any, error) {
		granted, err = g.t.k.keys.SetLabels(ctx, tx, g.t.id, id, labels)
		return granted, err
	})
	g.t.k.keys.Forget()
	return granted, err
}

// Revoke makes a key invalid at once, in every process.
func (g Keys) Revoke(ctx context.Context, by access.Principal, id uuid.UUID) (revoked access.Key, err error) {
	if g.t.k.keys == nil {
		return revoked, ErrNoKeys
	}
	err = g.t.recordChange(ctx, by, audit.ActionKeyRevoked, func(ctx context.Context, tx pgx.Tx) (any, error) {
		revoked, err = g.t.k.keys.Revoke(ctx, tx, g.t.id, id)
		return revoked, err
	})
	g.t.k.keys.Forget()
	return revoked, err
}

// List lists keys in the order of their ids, after the given one, at most limit of them.
func (g Keys) List(ctx context.Context, after uuid.UUID, limit int) ([]access.Key, error) {
	if g.t.k.keys == nil {
		return nil, ErrNoKeys
	}
	return g.t.k.keys.List(ctx, g.t.id, after, limit)
}

// Add adds a person to this tenant with a role and labels, or changes those of a member. A principal can't grant more
// than it has.
func (g Users) Add(ctx context.Context, by access.Principal, u access.User) (admitted access.User, err error) {
	for _, action := range u.Role.Permissions() {
		if !by.Can(action) {
			return u, &access.FieldError{Field: "role",
				Reason: fmt.Sprintf("%s has %s, a permission that you do not have", u.Role, action)}
		}
	}
	if err := checkGrantedLabels(by, u.Labels); err != nil {
		return u, err
	}
	err = g.t.recordChange(ctx, by, audit.ActionUserAdded, func(ctx context.Context, tx pgx.Tx) (any, error) {
		admitted, err = access.AddUser(ctx, tx, g.t.id, by.String(), u)
		return admitted, err
	})
	return admitted, err
}

// Remove removes a person from this tenant, at once.
func (g Users) Remove(ctx context.Context, by access.Principal, id uuid.UUID) error {
	return g.t.recordChange(ctx, by, audit.ActionUserRemoved, func(ctx context.Context, tx pgx.Tx) (any, error) {
		return access.RemoveUser(ctx, tx, g.t.id, id)
	})
}

// List lists people in the order of their ids, after the given one, at most limit of them.
func (g Users) List(ctx context.Context, after uuid.UUID, limit int) ([]access.User, error) {
	return access.Users(ctx, g.t.k.door, g.t.id, after, limit)
}

// SetLimits sets this tenant's limits: rates, documents and concurrency.
func (t *Tenant) SetLimits(ctx context.Context, by access.Principal, l access.Limits) error {
	return t.recordChange(ctx, by, audit.ActionLimitsSet, func(ctx context.Context, tx pgx.Tx) (any, error) {
		return l, access.SetLimits(ctx, tx, t.id, by.String(), l)
	})
}

// maxImpersonation is the longest validity of a key that ImpersonateTenant creates.
const maxImpersonation = time.Hour

// ImpersonateTenant creates a key of another tenant that is valid for at most an hour. It needs a principal of the
// operator's tenant with the permission tenants:impersonate. Both trails record the event.
func (k *Konstruct) ImpersonateTenant(ctx context.Context, by access.Principal, to uuid.UUID, reason string,
	permissions []access.Permission, labels []string, lasts time.Duration) (key string, made access.Key, err error) {
	switch {
	case k.keys == nil:
		return "", made, ErrNoKeys
	case by.Tenant != audit.Operator || !by.Can(access.TenantsImpersonate):
		return "", made, &access.FieldError{Field: "tenant_id", Reason: "can't be switched to with this credential"}
	case to == uuid.Nil || to == audit.Operator:
		return "", made, &access.FieldError{Field: "tenant_id", Reason: "must be another tenant's"}
	case strings.TrimSpace(reason) == "" || len(reason) > access.MaxName/2:
		return "", made, &access.FieldError{Field: "reason",
			Reason: fmt.Sprintf("has %d bytes: say why in 1 to %d, it stays on both trails", len(reason),
				access.MaxName/2)}
	case slices.Contains(permissions, access.TenantsImpersonate):
		return "", made, &access.FieldError{Field: "permissions",
			Reason: "has tenants:impersonate, which only the operator's tenant has"}
	case lasts <= 0 || lasts > maxImpersonation:
		return "", made, &access.FieldError{Field: "seconds",
			Reason: fmt.Sprintf("is %g: it is 1 to %g", lasts.Seconds(), maxImpersonation.Seconds())}
	}
	if err := checkGrantedLabels(by, labels); err != nil {
		return "", made, err
	}
	request := access.KeyRequest{Name: "switch: " + reason, Permissions: permissions, Labels: labels,
		ExpiresAt: time.Now().Add(lasts)}
	if err := request.Check(); err != nil {
		return "", made, err
	}
	// The operator's trail first: no key without its event there.
	details := map[string]any{"tenant_id": to, "reason": reason, "permissions": permissions, "labels": labels,
		"seconds": lasts.Seconds()}
	if err := k.Tenant(audit.Operator).Record(ctx, by, audit.ActionImpersonation, details); err != nil {
		return "", made, err
	}
	t := k.Tenant(to)
	err = t.recordChange(ctx, by, audit.ActionImpersonation, func(ctx context.Context, tx pgx.Tx) (any, error) {
		key, made, err = k.keys.Create(ctx, tx, to, by.String(), request)
		return map[string]any{"key": made, "reason": reason}, err
	})
	return key, made, err
}

// CreateTenant draws the id of a new tenant and creates its first key, with the role admin. Both trails record the
// event.
func (k *Konstruct) CreateTenant(ctx context.Context, by access.Principal,
	name string) (key string, tenant uuid.UUID, made access.Key, err error) {
	switch {
	case k.keys == nil:
		return "", tenant, made, ErrNoKeys
	case by.Tenant != audit.Operator || !by.Can(access.TenantsImpersonate):
		return "", tenant, made, &access.FieldError{Field: "name", Reason: "can't be given with this credential"}
	case strings.TrimSpace(name) == "":
		return "", tenant, made, &access.FieldError{Field: "name", Reason: "is empty: say whose tenant it is"}
	}
	request := access.KeyRequest{Name: "first key of " + name, Permissions: access.Admin.Permissions(),
		Labels: []string{tenantdb.AllLabelsName}}
	if err := request.Check(); err != nil { // before the event that says that it was created
		return "", tenant, made, err
	}
	if tenant, err = uuid.NewRandom(); err != nil {
		return "", tenant, made, err
	}
	if err := k.Tenant(audit.Operator).Record(ctx, by, audit.ActionTenantCreated,
		map[string]any{"tenant_id": tenant, "name": name}); err != nil {
		return "", tenant, made, err
	}
	t := k.Tenant(tenant)
	err = t.recordChange(ctx, by, audit.ActionTenantCreated, func(ctx context.Context, tx pgx.Tx) (any, error) {
		key, made, err = k.keys.Create(ctx, tx, tenant, by.String(), request)
		return made, err
	})
	return key, tenant, made, err
}
