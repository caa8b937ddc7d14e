package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// User is a person whom an identity provider knows, and what it is in a tenant.
type User struct {
	ID      uuid.UUID `json:"id"`
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	// Labels are those of documents that they may see, beside documents that have none; tenantdb.Every alone is every
	// label.
	Labels    []string  `json:"labels" doc:"Granted labels; * is every label"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
}

const userColumns = `id, issuer, subject, name, role, labels, created_at, created_by`

// maxSubject is how many bytes OpenID Connect lets a subject have, and maxIssuer ours for an issuer's URL.
const (
	maxSubject = 255
	maxIssuer  = 500
)

// AddUser says what a person is in a tenant, within a transaction of the tenant's. Somebody who is there already gets
// the role, and the name and the labels where these are given: labels that are nil stay.
func AddUser(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, by string, u User) (admitted User, err error) {
	switch {
	case u.Subject == "" || len(u.Subject) > maxSubject:
		return u, &FieldError{"subject",
			fmt.Sprintf("has %d bytes: it is 1 to %d, as the provider's tokens have it (sub)", len(u.Subject),
				maxSubject)}
	case u.Issuer == "" || len(u.Issuer) > maxIssuer:
		return u, &FieldError{"issuer",
			fmt.Sprintf("has %d bytes: it is the provider's URL, 1 to %d", len(u.Issuer), maxIssuer)}
	case !slices.Contains(Roles, u.Role):
		return u,
			&FieldError{"role",
				fmt.Sprintf("is %.40q, which is none: they are %s", string(u.Role), JoinPermissions(Roles, ", "))}
	}
	if err := checkLabels(u.Labels); err != nil {
		return u, err
	}
	if u.Name == "" {
		u.Name = u.Subject
	}
	if len(u.Name) > MaxName {
		return u, &FieldError{"name", fmt.Sprintf("has %d bytes, the limit is %d", len(u.Name), MaxName)}
	}
	var there int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM access_users WHERE tenant_id = $1`, tenant).
		Scan(&there); err != nil {
		return u, fmt.Errorf("access: count users: %w", err)
	}
	if there >= MaxUsers {
		return u, &FieldError{"subject", fmt.Sprintf("is one too many: the tenant has %d users", there)}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return u, err
	}
	rows, err := tx.Query(ctx,
		`INSERT INTO access_users (tenant_id, id, issuer, subject, name, role, created_by, labels)
		VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8::text[], '{}'))
		ON CONFLICT (tenant_id, issuer, subject) DO UPDATE SET role = EXCLUDED.role, name = EXCLUDED.name,
		labels = coalesce($8::text[], access_users.labels)
		RETURNING `+userColumns, tenant, id, u.Issuer, u.Subject, u.Name, u.Role, by, u.Labels)
	if err == nil {
		admitted, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[User])
	}
	if err != nil {
		return u, fmt.Errorf("access: admit a user: %w", err)
	}
	return admitted, nil
}

// RemoveUser ends what a person is in a tenant.
func RemoveUser(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (dismissed User, err error) {
	rows, err := tx.Query(ctx, `DELETE FROM access_users WHERE tenant_id = $1 AND id = $2 RETURNING `+userColumns,
		tenant, id)
	if err == nil {
		dismissed, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[User])
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return dismissed, ErrNotFound
	} else if err != nil {
		return dismissed, fmt.Errorf("access: dismiss a user: %w", err)
	}
	return dismissed, nil
}

// Users lists a tenant's in the order of their ids, after the given one, at most limit of them.
func Users(ctx context.Context, door *tenantdb.Door, tenant, after uuid.UUID, limit int) (users []User, err error) {
	err = door.Query(ctx, tenant,
		`SELECT `+userColumns+` FROM access_users WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3`,
		[]any{tenant, after, min(limit, MaxList)}, func(rows pgx.Rows) error {
			users, err = pgx.CollectRows(rows, pgx.RowToStructByPos[User])
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("access: list users: %w", err)
	}
	return users, nil
}

// findUser returns who a subject is in a tenant, or ErrUnknown. It is looked up each time: who is dismissed is out at
// once.
func findUser(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	issuer, subject string) (w Principal, err error) {
	err = door.Query(ctx, tenant,
		`SELECT id, name, role, labels FROM access_users WHERE tenant_id = $1 AND issuer = $2 AND subject = $3`,
		[]any{tenant, issuer, subject}, func(rows pgx.Rows) error {
			w = Principal{Tenant: tenant}
			var labels []string
			_, err := pgx.ForEachRow(rows, []any{&w.Credential, &w.Name, &w.Role, &labels}, func() error {
				w.labels = tenantdb.LabelsOf(labels...)
				return nil
			})
			return err
		})
	if err != nil {
		return Principal{}, fmt.Errorf("access: look a user up: %w", err)
	}
	if w.Credential == uuid.Nil {
		return Principal{}, ErrUnauthenticated
	}
	w.may = w.Role.Permissions()
	return w, nil
}
