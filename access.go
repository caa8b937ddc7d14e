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

// ErrNoKeys says that keys can't be made or checked here.
var ErrNoKeys = errors.New("konstruct: there is no secret to hash keys with: set it (Config.KeySecret, " +
	"KONSTRUCT_KEY_SECRET_FILE)")

// Keys knows the keys of all tenants; ErrNoKeys without Config.KeySecret.
func (k *Konstruct) Keys() (*access.Keys, error) {
	if k.keys == nil {
		return nil, ErrNoKeys
	}
	return k.keys, nil
}

// Door is the way to this database's tables, for packages that keep tables of their own there.
func (k *Konstruct) Door() *tenantdb.Door { return k.door }

// recordChange does something about who may do what, and writes the event that says so in the same transaction.
func (t *Tenant) recordChange(ctx context.Context, by access.Principal, action string,
	do func(ctx context.Context, tx pgx.Tx) (said any, err error)) error {
	return t.k.door.Tx(ctx, t.id, func(ctx context.Context, tx pgx.Tx) error {
		said, err := do(ctx, tx)
		if err != nil {
			return err
		}
		return t.record(ctx, tx, by, action, said)
	})
}

// record writes an event of somebody's who is no agent.
func (t *Tenant) record(ctx context.Context, tx pgx.Tx, by access.Principal, action string, said any) error {
	metadata, err := json.Marshal(map[string]any{"konstruct.by": by.String(), "konstruct.access": said})
	if err != nil {
		return err
	}
	_, err = t.k.trail.InTx(ctx, tx, t.id,
		audit.Event{AgentID: by.Agent, UserID: by.Name, Action: action, Metadata: metadata}.OfService())
	return err
}

// Record writes an event that says what somebody who is no agent did with this tenant's data: an export, a proof.
func (t *Tenant) Record(ctx context.Context, by access.Principal, action string, said any) error {
	return t.recordChange(ctx, by, action, func(context.Context, pgx.Tx) (any, error) { return said, nil })
}

// Create makes a key, which is shown once, and an event that says so. Nobody can give away more than they have
// themselves.
func (g Keys) Create(ctx context.Context, by access.Principal,
	a access.KeyRequest) (key string, made access.Key, err error) {
	if g.t.k.keys == nil {
		return "", made, ErrNoKeys
	}
	for _, action := range a.Permissions {
		if slices.Contains(access.Permissions, action) && !by.Can(action) {
			return "", made, &access.FieldError{Field: "permissions",
				Reason: fmt.Sprintf("has %s, which you may not do yourself", action)}
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

// checkGrantedLabels refuses to give away labels that somebody does not have.
func checkGrantedLabels(by access.Principal, labels []string) error {
	if name, lacks := by.Labels().Missing(labels); lacks {
		return &tenantdb.GrantError{Field: "labels",
			Reason: fmt.Sprintf("%.120q is not granted to you, so you can't give it", name)}
	}
	return nil
}

// checkKeyRights refuses somebody the secret of a key that may more than they do.
func checkKeyRights(by access.Principal, k access.Key) error {
	for _, action := range k.Permissions {
		if !by.Can(action) {
			return &tenantdb.GrantError{Field: "id",
				Reason: fmt.Sprintf("this key may %s, which you may not: have somebody rotate it who may, or revoke it",
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
			"'s, as which alone you act"}
	}
	return nil
}

// Rotate makes a key with the same rights in another's place, which holds for overlap longer. Nobody gets a key that
// may more than they do.
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

// SetLabels gives a key other labels than it had, and writes an event that says so. Nobody gives labels that they do
// not have.
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

// Revoke ends a key at once, everywhere.
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

// Add says what a person is in this tenant.
func (g Users) Add(ctx context.Context, by access.Principal, u access.User) (admitted access.User, err error) {
	for _, action := range u.Role.Permissions() {
		if !by.Can(action) {
			return u, &access.FieldError{Field: "role",
				Reason: fmt.Sprintf("%s may %s, which you may not do yourself", u.Role, action)}
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

// Remove ends what a person is in this tenant, at once.
func (g Users) Remove(ctx context.Context, by access.Principal, id uuid.UUID) error {
	return g.t.recordChange(ctx, by, audit.ActionUserRemoved, func(ctx context.Context, tx pgx.Tx) (any, error) {
		return access.RemoveUser(ctx, tx, g.t.id, id)
	})
}

// List lists people in the order of their ids, after the given one, at most limit of them.
func (g Users) List(ctx context.Context, after uuid.UUID, limit int) ([]access.User, error) {
	return access.Users(ctx, g.t.k.door, g.t.id, after, limit)
}

// SetLimits says how much this tenant may use.
func (t *Tenant) SetLimits(ctx context.Context, by access.Principal, l access.Limits) error {
	return t.recordChange(ctx, by, audit.ActionLimitsSet, func(ctx context.Context, tx pgx.Tx) (any, error) {
		return l, access.SetLimits(ctx, tx, t.id, by.String(), l)
	})
}

// maxImpersonation is how long a switch to another tenant lasts.
const maxImpersonation = time.Hour

// ImpersonateTenant gives somebody of the operator's tenant who may do that a key of another tenant for an hour at
// most. It is an event on that tenant's trail, and on the operator's.
func (k *Konstruct) ImpersonateTenant(ctx context.Context, by access.Principal, to uuid.UUID, reason string,
	permissions []access.Permission, labels []string, lasts time.Duration) (key string, made access.Key, err error) {
	switch {
	case k.keys == nil:
		return "", made, ErrNoKeys
	case by.Tenant != audit.Operator || !by.Can(access.TenantsImpersonate):
		return "", made, &access.FieldError{Field: "tenant_id", Reason: "can't be switched to with this credential"}
	case to == uuid.Nil || to == audit.Operator:
		return "", made, &access.FieldError{Field: "tenant_id", Reason: "is no other tenant"}
	case strings.TrimSpace(reason) == "" || len(reason) > access.MaxName/2:
		return "", made, &access.FieldError{Field: "reason",
			Reason: fmt.Sprintf("has %d bytes: say why in 1 to %d, it stays on both trails", len(reason),
				access.MaxName/2)}
	case slices.Contains(permissions, access.TenantsImpersonate):
		return "", made, &access.FieldError{Field: "permissions",
			Reason: "has tenants:impersonate, which is the operator's tenant's alone"}
	case lasts <= 0 || lasts > maxImpersonation:
		return "", made, &access.FieldError{Field: "seconds",
			Reason: fmt.Sprintf("is %g: it is 1 to %g", lasts.Seconds(), maxImpersonation.Seconds())}
	}
	if err := checkGrantedLabels(by, labels); err != nil {
		return "", made, err
	}
	// The operator's trail first: a switch that was not noted must not be.
	said := map[string]any{"tenant_id": to, "reason": reason, "permissions": permissions, "labels": labels,
		"seconds": lasts.Seconds()}
	if err := k.Tenant(audit.Operator).Record(ctx, by, audit.ActionImpersonation, said); err != nil {
		return "", made, err
	}
	t := k.Tenant(to)
	err = t.recordChange(ctx, by, audit.ActionImpersonation, func(ctx context.Context, tx pgx.Tx) (any, error) {
		key, made, err = k.keys.Create(ctx, tx, to, by.String(),
			access.KeyRequest{Name: "switch: " + reason, Permissions: permissions, Labels: labels,
				ExpiresAt: time.Now().Add(lasts)})
		return map[string]any{"key": made, "reason": reason}, err
	})
	return key, made, err
}

// CreateTenant draws a new tenant's id and makes its first key, an admin's. It is an event on both trails.
func (k *Konstruct) CreateTenant(ctx context.Context, by access.Principal,
	name string) (key string, tenant uuid.UUID, made access.Key, err error) {
	switch {
	case k.keys == nil:
		return "", tenant, made, ErrNoKeys
	case by.Tenant != audit.Operator || !by.Can(access.TenantsImpersonate):
		return "", tenant, made, &access.FieldError{Field: "name", Reason: "can't be given with this credential"}
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
		key, made, err = k.keys.Create(ctx, tx, tenant, by.String(),
			access.KeyRequest{Name: "first key of " + name, Permissions: access.Admin.Permissions(),
				Labels: []string{tenantdb.AllLabelsName}})
		return made, err
	})
	return key, tenant, made, err
}
