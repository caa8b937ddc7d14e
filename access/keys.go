package access

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Key is what is stored of a key; the key itself is not.
type Key struct {
	ID          uuid.UUID    `json:"id"`
	Name        string       `json:"name"`
	Agent       *uuid.UUID   `json:"agent_id,omitempty" doc:"the one agent as which it acts and whose events it sees"`
	Permissions []Permission `json:"permissions"`
	Labels      []string     `json:"labels" doc:"Granted labels; * is every label"`
	CreatedAt   time.Time    `json:"created_at"`
	CreatedBy   string       `json:"created_by"`
	ExpiresAt   *time.Time   `json:"expires_at,omitempty"`
	UsedAt      *time.Time   `json:"used_at,omitempty" doc:"to a minute"`
	RevokedAt   *time.Time   `json:"revoked_at,omitempty"`
	Successor   *uuid.UUID   `json:"successor,omitempty" doc:"the key that took its place"`
}

// live reports whether the key holds at a time.
func (k *Key) live(at time.Time) bool {
	return k.RevokedAt == nil && (k.ExpiresAt == nil || at.Before(*k.ExpiresAt))
}

// KeyRequest says what key is wanted.
type KeyRequest struct {
	Name        string
	Agent       uuid.UUID // zero: any
	Permissions []Permission
	// Labels are those of documents that it may see beside documents that have none; tenantdb.Every alone is every
	// label.
	Labels    []string
	ExpiresAt time.Time // zero: never
}

// Check returns an error if no such key can be made.
func (a KeyRequest) Check() error {
	if err := errors.Join(checkName(a.Name), checkPermissions(a.Permissions), checkLabels(a.Labels)); err != nil {
		return err
	}
	if !a.ExpiresAt.IsZero() && !a.ExpiresAt.After(time.Now()) {
		return &FieldError{"expires_at", "has passed already"}
	}
	return nil
}

// MinPepper is how many bytes the secret needs that keys are hashed with.
const MinPepper = 32

// Channel is the NOTIFY channel on which every process learns that a key, a user or a limit changed.
const Channel = "konstruct_access"

// Keys makes keys and knows them again. It is safe for concurrent use.
type Keys struct {
	door   *tenantdb.Door
	pepper []byte
	cache  *principalCache
}

// NewKeys returns the keys of a database; pepper is the secret that they are hashed with, the same in every process.
func NewKeys(door *tenantdb.Door, pepper []byte) (*Keys, error) {
	if len(pepper) < MinPepper {
		return nil, fmt.Errorf("access: the secret that keys are hashed with has %d bytes: it needs %d",
			len(pepper), MinPepper)
	}
	return &Keys{door: door, pepper: slices.Clone(pepper), cache: newPrincipalCache()}, nil
}

const keyColumns = `id, name, agent_id, permissions, labels, created_at, created_by, expires_at, used_at, revoked_at,
	successor`

// notifyKeyChange has every process forget what it knows of keys, once the transaction is committed.
func notifyKeyChange(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT pg_notify($1, '')`, Channel)
	return err
}

// Create makes a key in a transaction of the tenant's, and returns it: it is shown once.
func (k *Keys) Create(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, by string,
	a KeyRequest) (key string, made Key, err error) {
	if err := a.Check(); err != nil {
		return "", made, err
	}
	var there int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM access_keys WHERE tenant_id = $1 AND revoked_at IS NULL
		AND (expires_at IS NULL OR expires_at > now())`, tenant).Scan(&there); err != nil {
		return "", made, fmt.Errorf("access: count keys: %w", err)
	}
	if there >= MaxKeys {
		return "", made,
			&FieldError{"name", fmt.Sprintf("is one too many: the tenant has %d keys that hold; revoke some", there)}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", made, err
	}
	t := newToken(tenant, id)
	key = t.String()
	var agent *uuid.UUID
	if a.Agent != uuid.Nil {
		agent = &a.Agent
	}
	var expires *time.Time
	if !a.ExpiresAt.IsZero() {
		expires = &a.ExpiresAt
	}
	rows, err := tx.Query(ctx,
		`INSERT INTO access_keys (tenant_id, id, name, hash, agent_id, permissions, created_by, expires_at, labels)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9::text[], '{}')) RETURNING `+keyColumns,
		tenant, id, a.Name, hashSecret(k.pepper, key), agent, a.Permissions, by, expires, a.Labels)
	if err != nil {
		return "", made, fmt.Errorf("access: make a key: %w", err)
	}
	if made, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Key]); err != nil {
		return "", made, fmt.Errorf("access: make a key: %w", err)
	}
	return key, made, nil
}

// Rotate makes a key with the same rights in another's place, which holds for overlap longer, unless may says why not.
func (k *Keys) Rotate(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, by string, overlap time.Duration,
	may func(old Key) error) (key string, made Key, err error) {
	if overlap < 0 || overlap > MaxOverlap {
		return "", made, &FieldError{"overlap_seconds", fmt.Sprintf("is %s: it is 0 to %s", overlap, MaxOverlap)}
	}
	old, err := getKey(ctx, tx, tenant, id, ` FOR UPDATE`)
	if err != nil {
		return "", made, err
	}
	if !old.live(time.Now()) || old.Successor != nil {
		return "", made, &FieldError{"id", "is of a key that was revoked, has expired or was rotated already"}
	}
	if why := may(old); why != nil {
		return "", made, why
	}
	a := KeyRequest{Name: old.Name, Permissions: old.Permissions, Labels: old.Labels}
	if old.Agent != nil {
		a.Agent = *old.Agent
	}
	if old.ExpiresAt != nil { // as long again
		a.ExpiresAt = time.Now().Add(old.ExpiresAt.Sub(old.CreatedAt))
	}
	if key, made, err = k.Create(ctx, tx, tenant, by, a); err != nil {
		return "", made, err
	}
	_, err = tx.Exec(ctx, `UPDATE access_keys SET successor = $3, expires_at = least(expires_at, now() + $4::interval)
		WHERE tenant_id = $1 AND id = $2`, tenant, id, made.ID, overlap)
	if err == nil {
		err = notifyKeyChange(ctx, tx)
	}
	if err != nil {
		return "", made, fmt.Errorf("access: rotate a key: %w", err)
	}
	return key, made, nil
}

// MaxOverlap is how long a key may hold beside its successor.
const MaxOverlap = 30 * 24 * time.Hour

// Revoke ends a key at once, in every process.
func (k *Keys) Revoke(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (revoked Key, err error) {
	if _, err := getKey(ctx, tx, tenant, id, ` FOR UPDATE`); err != nil {
		return revoked, err
	}
	if _, err = tx.Exec(ctx,
		`UPDATE access_keys SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = $1 AND id = $2`, tenant,
		id); err == nil {
		err = notifyKeyChange(ctx, tx)
	}
	if err != nil {
		return revoked, fmt.Errorf("access: revoke a key: %w", err)
	}
	return getKey(ctx, tx, tenant, id, ``)
}

// SetLabels gives a key other labels than it had, at once and in every process.
func (k *Keys) SetLabels(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID,
	labels []string) (granted Key, err error) {
	if err := checkLabels(labels); err != nil {
		return granted, err
	}
	if _, err = getKey(ctx, tx, tenant, id, ` FOR UPDATE`); err != nil {
		return granted, err
	}
	if _, err = tx.Exec(ctx,
		`UPDATE access_keys SET labels = coalesce($3::text[], '{}') WHERE tenant_id = $1 AND id = $2`, tenant, id,
		labels); err == nil {
		err = notifyKeyChange(ctx, tx)
	}
	if err != nil {
		return granted, fmt.Errorf("access: grant labels: %w", err)
	}
	return getKey(ctx, tx, tenant, id, ``)
}

func getKey(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, lock string) (key Key, err error) {
	rows, err := tx.Query(ctx, `SELECT `+keyColumns+` FROM access_keys WHERE tenant_id = $1 AND id = $2`+lock, tenant,
		id)
	if err != nil {
		return key, fmt.Errorf("access: look a key up: %w", err)
	}
	if key, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Key]); errors.Is(err, pgx.ErrNoRows) {
		return key, ErrNotFound
	} else if err != nil {
		return key, fmt.Errorf("access: look a key up: %w", err)
	}
	return key, nil
}

// List returns a tenant's keys in the order of their ids, after the given one, at most limit of them.
func (k *Keys) List(ctx context.Context, tenant, after uuid.UUID, limit int) (keys []Key, err error) {
	err = k.door.Query(ctx, tenant,
		`SELECT `+keyColumns+` FROM access_keys WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3`,
		[]any{tenant, after, min(limit, MaxList)}, func(rows pgx.Rows) error {
			keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("access: list keys: %w", err)
	}
	return keys, nil
}

// Check returns who holds a key, or ErrUnknown: whether there is no such key, or another secret belongs to it, takes
// the same time and looks the same.
func (k *Keys) Check(ctx context.Context, key string) (Principal, error) {
	tenant, id, ok := ParseKey(key)
	if !ok {
		return Principal{}, ErrUnauthenticated
	}
	sum := hashSecret(k.pepper, key)
	if w, ok := k.cache.get(sum); ok {
		return w, nil
	}
	generation := k.cache.generation()
	var stored Key
	var want []byte
	err := k.door.Query(ctx, tenant, `SELECT hash, `+keyColumns+` FROM access_keys WHERE tenant_id = $1 AND id = $2`,
		[]any{tenant, id}, func(rows pgx.Rows) error {
			want = nil
			_, err := pgx.ForEachRow(rows,
				[]any{&want, &stored.ID, &stored.Name, &stored.Agent, &stored.Permissions, &stored.Labels,
					&stored.CreatedAt, &stored.CreatedBy, &stored.ExpiresAt, &stored.UsedAt, &stored.RevokedAt,
					&stored.Successor},
				func() error { return nil })
			return err
		})
	if err != nil {
		return Principal{}, fmt.Errorf("access: check a key: %w", err)
	}
	there := want != nil
	if !there {
		want = make([]byte, len(sum))
	}
	same := subtle.ConstantTimeCompare(sum, want) == 1
	if !there || !same || !stored.live(time.Now()) {
		return Principal{}, ErrUnauthenticated
	}
	if stored.UsedAt == nil || time.Since(*stored.UsedAt) > time.Minute {
		if err := k.door.Query(ctx, tenant, `UPDATE access_keys SET used_at = now() WHERE tenant_id = $1 AND id = $2`,
			[]any{tenant, id}, nil); err != nil {
			return Principal{}, fmt.Errorf("access: note a key's use: %w", err)
		}
	}
	w := Principal{Tenant: tenant, Credential: id, Name: stored.Name, may: stored.Permissions,
		labels: tenantdb.LabelsOf(stored.Labels...)}
	if stored.Agent != nil {
		w.Agent = *stored.Agent
	}
	if tenant != operatorPrefix {
		w.may = slices.DeleteFunc(slices.Clone(w.may), func(a Permission) bool { return a == TenantsImpersonate })
	}
	k.cache.put(sum, w, stored.ExpiresAt, generation)
	return w, nil
}
