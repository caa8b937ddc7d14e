package webhook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Endpoint is a URL that gets a tenant's messages. Its secrets are not shown.
type Endpoint struct {
	ID             uuid.UUID  `json:"id"`
	URL            string     `json:"url"`
	Description    string     `json:"description"`
	Types          []Type     `json:"types" doc:"The types of messages it gets; * is every type"`
	Enabled        bool       `json:"enabled"`
	DisabledReason string     `json:"disabled_reason,omitempty"`
	DisabledAt     *time.Time `json:"disabled_at,omitempty"`
	FailingSince   *time.Time `json:"failing_since,omitempty" doc:"The first failure since an attempt succeeded"`
	CreatedAt      time.Time  `json:"created_at"`
	CreatedBy      string     `json:"created_by"`
	UpdatedAt      time.Time  `json:"updated_at"`
}

const endpointColumns = `id, url, description, types, enabled, disabled_reason, disabled_at, failing_since, created_at,
	created_by, updated_at`

// EndpointRequest says what endpoint is wanted.
type EndpointRequest struct {
	URL         string
	Description string
	Types       []Type
}

// EndpointUpdate are the changes of an endpoint; what is nil stays. To enable an endpoint forgets that it failed; to
// disable it makes its queued deliveries dead letters.
type EndpointUpdate struct {
	URL         *string
	Description *string
	Types       []Type
	Enabled     *bool
}

func checkDescription(s string) error {
	switch n := utf8.RuneCountInString(s); {
	case n > MaxDescription:
		return &FieldError{"description", fmt.Sprintf("has %d characters, the limit is %d", n, MaxDescription)}
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return &FieldError{"description", "has a control character"}
	}
	return nil
}

// Create makes an endpoint in a transaction of the tenant's, and returns its signing secret: it is shown once.
func (e *Endpoints) Create(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, by string,
	r EndpointRequest) (secret string, made Endpoint, err error) {
	if err := errors.Join(e.targets.check(r.URL), checkTypes(r.Types), checkDescription(r.Description)); err != nil {
		return "", made, err
	}
	var there int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM webhook_endpoints WHERE tenant_id = $1`, tenant).
		Scan(&there); err != nil {
		return "", made, fmt.Errorf("webhook: count endpoints: %w", err)
	}
	if there >= MaxEndpoints {
		return "", made, &FieldError{"url",
			fmt.Sprintf("is one too many: the tenant has %d webhooks; delete some", there)}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", made, err
	}
	rows, err := tx.Query(ctx, `INSERT INTO webhook_endpoints (tenant_id, id, url, description, types, created_by)
		VALUES ($1, $2, $3, $4, $5, $6) RETURNING `+endpointColumns, tenant, id, r.URL, r.Description, r.Types, by)
	if err == nil {
		made, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Endpoint])
	}
	if err != nil {
		return "", made, fmt.Errorf("webhook: make an endpoint: %w", err)
	}
	secret, err = e.addSecret(ctx, tx, tenant, id)
	return secret, made, err
}

// addSecret draws a secret for an endpoint.
func (e *Endpoints) addSecret(ctx context.Context, tx pgx.Tx, tenant, endpoint uuid.UUID) (string, error) {
	raw, text := newSecret()
	if _, err := tx.Exec(ctx, `INSERT INTO webhook_secrets (tenant_id, endpoint_id, id, sealed)
		VALUES ($1, $2, gen_random_uuid(), $3)`, tenant, endpoint, e.sealer.seal(tenant, endpoint, raw)); err != nil {
		return "", fmt.Errorf("webhook: store a secret: %w", err)
	}
	return text, nil
}

// MaxOverlap is how long a rotated secret may sign beside its successor, and DefaultOverlap how long it usually does.
const (
	MaxOverlap     = 30 * 24 * time.Hour
	DefaultOverlap = 24 * time.Hour
)

// Rotate draws a new secret for an endpoint. Messages are signed with both for the overlap, and then with the new one.
func (e *Endpoints) Rotate(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID,
	overlap time.Duration) (secret string, found Endpoint, err error) {
	if overlap < 0 || overlap > MaxOverlap {
		return "", found, &FieldError{"overlap_seconds", fmt.Sprintf("is %s: it is 0 to %s", overlap, MaxOverlap)}
	}
	if found, err = getEndpoint(ctx, tx, tenant, id, ` FOR NO KEY UPDATE`); err != nil {
		return "", found, err
	}
	var n int
	if err := tx.QueryRow(ctx, `WITH gone AS (DELETE FROM webhook_secrets
		  WHERE tenant_id = $1 AND endpoint_id = $2 AND expires_at <= now())
		SELECT count(*) FROM webhook_secrets
		 WHERE tenant_id = $1 AND endpoint_id = $2 AND (expires_at IS NULL OR expires_at > now())`, tenant, id).
		Scan(&n); err != nil {
		return "", found, fmt.Errorf("webhook: rotate a secret: %w", err)
	}
	if n >= MaxSecrets && overlap > 0 {
		return "", found, &FieldError{"overlap_seconds",
			fmt.Sprintf("must be 0: %d secrets sign for this webhook already, and 0 ends them", n)}
	}
	// With no overlap all earlier ones end; otherwise those that end sooner still do.
	if _, err := tx.Exec(ctx, `UPDATE webhook_secrets SET expires_at = least(expires_at, now() + $3::interval)
		WHERE tenant_id = $1 AND endpoint_id = $2`, tenant, id, overlap); err != nil {
		return "", found, fmt.Errorf("webhook: rotate a secret: %w", err)
	}
	secret, err = e.addSecret(ctx, tx, tenant, id)
	return secret, found, err
}

// Update changes an endpoint. by is who says so where it is disabled.
func (e *Endpoints) Update(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, by string,
	u EndpointUpdate) (changed Endpoint, err error) {
	if u.URL != nil {
		err = e.targets.check(*u.URL)
	}
	if u.Types != nil {
		err = errors.Join(err, checkTypes(u.Types))
	}
	if u.Description != nil {
		err = errors.Join(err, checkDescription(*u.Description))
	}
	if err != nil {
		return changed, err
	}
	before, err := getEndpoint(ctx, tx, tenant, id, ` FOR NO KEY UPDATE`)
	if err != nil {
		return changed, err
	}
	if _, err := tx.Exec(ctx, `UPDATE webhook_endpoints SET url = coalesce($3, url),
		description = coalesce($4, description), types = coalesce($5, types), updated_at = now()
		WHERE tenant_id = $1 AND id = $2`, tenant, id, u.URL, u.Description, u.Types); err != nil {
		return changed, fmt.Errorf("webhook: change an endpoint: %w", err)
	}
	switch {
	case u.Enabled == nil || *u.Enabled == before.Enabled:
	case *u.Enabled:
		if _, err := tx.Exec(ctx, `UPDATE webhook_endpoints SET enabled = true, disabled_reason = '',
			disabled_at = NULL, failing_since = NULL WHERE tenant_id = $1 AND id = $2`, tenant, id); err != nil {
			return changed, fmt.Errorf("webhook: enable an endpoint: %w", err)
		}
		// those whose worker died while it was disabled
		if _, err := tx.Exec(ctx, `UPDATE webhook_deliveries SET state = 'queued', due = greatest(due, now())
			WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'running'`, tenant, id); err != nil {
			return changed, fmt.Errorf("webhook: queue what was left of an endpoint: %w", err)
		}
	default:
		if err := disable(ctx, tx, tenant, id, "by "+by); err != nil {
			return changed, err
		}
	}
	return getEndpoint(ctx, tx, tenant, id, ``)
}

// disable has nothing be sent to an endpoint: what is queued becomes dead letters, which can be sent again later.
func disable(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, reason string) error {
	if _, err := tx.Exec(ctx, `UPDATE webhook_endpoints SET enabled = false, disabled_reason = $3, disabled_at = now()
		WHERE tenant_id = $1 AND id = $2`, tenant, id, reason); err != nil {
		return fmt.Errorf("webhook: disable an endpoint: %w", err)
	}
	if _, err := tx.Exec(ctx, `UPDATE webhook_deliveries SET state = 'dead', finished_at = now(),
		reason = 'the webhook is disabled: ' || $3
		WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'queued'`, tenant, id, reason); err != nil {
		return fmt.Errorf("webhook: end the deliveries of an endpoint: %w", err)
	}
	return nil
}

// Delete removes an endpoint, its secrets and its deliveries.
func (e *Endpoints) Delete(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (gone Endpoint, err error) {
	rows, err := tx.Query(ctx, `DELETE FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2
		RETURNING `+endpointColumns, tenant, id)
	return oneEndpoint(rows, err)
}

// Get returns an endpoint, or ErrNotFound.
func (e *Endpoints) Get(ctx context.Context, tenant, id uuid.UUID) (found Endpoint, err error) {
	err = e.door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		found, err = getEndpoint(ctx, tx, tenant, id, ``)
		return err
	})
	return found, err
}

// List returns a tenant's endpoints in the order of their ids, after the given one, at most limit of them.
func (e *Endpoints) List(ctx context.Context, tenant, after uuid.UUID, limit int) (all []Endpoint, err error) {
	err = e.door.Query(ctx, tenant, `SELECT `+endpointColumns+` FROM webhook_endpoints
		WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3`, []any{tenant, after, min(limit, MaxList)},
		func(rows pgx.Rows) error {
			all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Endpoint])
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("webhook: list endpoints: %w", err)
	}
	return all, nil
}

func getEndpoint(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, lock string) (Endpoint, error) {
	rows, err := tx.Query(ctx, `SELECT `+endpointColumns+` FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2`+
		lock, tenant, id)
	return oneEndpoint(rows, err)
}

func oneEndpoint(rows pgx.Rows, err error) (found Endpoint, _ error) {
	if err == nil {
		found, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Endpoint])
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return found, ErrNotFound
	}
	if err != nil {
		return found, fmt.Errorf("webhook: look an endpoint up: %w", err)
	}
	return found, nil
}
