package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// State is how far a delivery is.
type State string

// The states.
const (
	Queued    State = "queued"    // it is sent when it is due
	Running   State = "running"   // it is sent right now
	Delivered State = "delivered" // the endpoint answered 2xx
	Dead      State = "dead"      // it is not sent again, unless a person says so
)

// Delivery is a message to one endpoint. There is at least one attempt of each, and all have the same id.
type Delivery struct {
	EndpointID uuid.UUID       `json:"webhook_id"`
	Message    MessageID       `json:"message_id" doc:"The webhook-id header"`
	Type       Type            `json:"type"`
	Timestamp  time.Time       `json:"timestamp" doc:"When it happened"`
	Data       json.RawMessage `json:"data" doc:"Of the payload"`
	State      State           `json:"state" enum:"queued,running,delivered,dead"`
	Due        *time.Time      `json:"due,omitempty" doc:"Of one that is queued: when it is sent"`
	Attempts   int             `json:"attempts" doc:"So far"`
	FinishedAt *time.Time      `json:"finished_at,omitempty"`
	Reason     string          `json:"reason,omitempty" doc:"Why the last attempt failed, or why none follows"`
}

const deliveryColumns = `d.endpoint_id, d.message_id, m.type, m.at, m.data, d.state,
	CASE WHEN d.state = 'queued' THEN d.due END, d.attempts, d.finished_at, d.reason`

// deliveriesFrom is what deliveryColumns are selected from.
const deliveriesFrom = ` FROM webhook_deliveries d
	JOIN webhook_messages m ON m.tenant_id = d.tenant_id AND m.id = d.message_id`

// Attempt is one request to an endpoint.
type Attempt struct {
	Number     int        `json:"attempt"`
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty" doc:"Missing while it is sent, or where its worker died"`
	Status     *int       `json:"status,omitempty" doc:"Of the HTTP response; missing where none came"`
	Response   string     `json:"response,omitempty" doc:"The first bytes of the response's body"`
	Error      string     `json:"error,omitempty"`
}

// DeliveryFilter selects deliveries; zero fields don't filter.
type DeliveryFilter struct {
	Endpoint uuid.UUID
	State    State
	After    MessageID // the last one of the page before
	Limit    int       // 50 when zero, at most MaxList
}

// Deliveries lists deliveries of an endpoint, the newest message first.
func (e *Endpoints) Deliveries(ctx context.Context, tenant uuid.UUID, f DeliveryFilter) (all []Delivery, err error) {
	switch f.State {
	case "", Queued, Running, Delivered, Dead:
	default:
		return nil, &FieldError{"state", fmt.Sprintf("%.40q is none of queued, running, delivered, dead", f.State)}
	}
	if f.Limit == 0 {
		f.Limit = 50
	}
	if _, err := e.Get(ctx, tenant, f.Endpoint); err != nil {
		return nil, err
	}
	after := uuid.Max
	if uuid.UUID(f.After) != uuid.Nil {
		after = uuid.UUID(f.After)
	}
	err = e.door.Query(ctx, tenant, `SELECT `+deliveryColumns+deliveriesFrom+`
		WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND ($3 = '' OR d.state = $3) AND d.message_id < $4
		ORDER BY d.message_id DESC LIMIT $5`,
		[]any{tenant, f.Endpoint, f.State, after, min(f.Limit, MaxList)}, func(rows pgx.Rows) error {
			all, err = pgx.CollectRows(rows, scanDelivery)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("webhook: list deliveries: %w", err)
	}
	return all, nil
}

func scanDelivery(row pgx.CollectableRow) (d Delivery, err error) {
	err = row.Scan(&d.EndpointID, (*uuid.UUID)(&d.Message), &d.Type, &d.Timestamp, &d.Data, &d.State, &d.Due,
		&d.Attempts, &d.FinishedAt, &d.Reason)
	return d, err
}

// Delivery returns a delivery and its attempts, the last one first, or ErrNotFound.
func (e *Endpoints) Delivery(ctx context.Context, tenant, endpoint uuid.UUID,
	message MessageID) (d Delivery, attempts []Attempt, err error) {
	err = e.door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if d, err = getDelivery(ctx, tx, tenant, endpoint, message); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT attempt, started_at, finished_at, status, response, error
			FROM webhook_attempts WHERE tenant_id = $1 AND endpoint_id = $2 AND message_id = $3
			ORDER BY attempt DESC LIMIT $4`, tenant, endpoint, uuid.UUID(message), maxAttempts)
		if err == nil {
			attempts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Attempt])
		}
		if err != nil {
			return fmt.Errorf("webhook: list attempts: %w", err)
		}
		return nil
	})
	return d, attempts, err
}

func getDelivery(ctx context.Context, tx pgx.Tx, tenant, endpoint uuid.UUID, message MessageID) (Delivery, error) {
	rows, err := tx.Query(ctx, `SELECT `+deliveryColumns+deliveriesFrom+`
		WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND d.message_id = $3`, tenant, endpoint, uuid.UUID(message))
	var d Delivery
	if err == nil {
		d, err = pgx.CollectExactlyOneRow(rows, scanDelivery)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return d, ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("webhook: look a delivery up: %w", err)
	}
	return d, nil
}

// SendTest queues a message of type Test for an endpoint alone.
func (e *Endpoints) SendTest(ctx context.Context, tx pgx.Tx, tenant, endpoint uuid.UUID) (d Delivery, err error) {
	if err := requireEnabled(ctx, tx, tenant, endpoint); err != nil {
		return d, err
	}
	var message uuid.UUID
	err = tx.QueryRow(ctx, `WITH made AS (
		  INSERT INTO webhook_messages (tenant_id, id, type, at, data)
		  VALUES ($1, webhook_message_id(), $3, now(), jsonb_build_object('webhook_id', $2::uuid)) RETURNING id)
		INSERT INTO webhook_deliveries (tenant_id, endpoint_id, message_id) SELECT $1, $2, id FROM made
		RETURNING message_id`, tenant, endpoint, Test).Scan(&message)
	if err != nil {
		return d, fmt.Errorf("webhook: queue a test: %w", err)
	}
	return getDelivery(ctx, tx, tenant, endpoint, MessageID(message))
}

// requireEnabled returns an error where nothing is sent to an endpoint. It keeps it from being deleted or disabled
// meanwhile.
func requireEnabled(ctx context.Context, tx pgx.Tx, tenant, endpoint uuid.UUID) error {
	found, err := getEndpoint(ctx, tx, tenant, endpoint, ` FOR SHARE`)
	if err == nil && !found.Enabled {
		err = ErrDisabled
	}
	return err
}

// Resend queues a dead letter, or a message that was delivered, again, with its first id. It fails with ErrNotFound,
// ErrDisabled or ErrQueued.
func (e *Endpoints) Resend(ctx context.Context, tx pgx.Tx, tenant, endpoint uuid.UUID,
	message MessageID) (d Delivery, err error) {
	if err := requireEnabled(ctx, tx, tenant, endpoint); err != nil {
		return d, err
	}
	if _, err := getDelivery(ctx, tx, tenant, endpoint, message); err != nil {
		return d, err
	}
	done, err := tx.Exec(ctx, `UPDATE webhook_deliveries SET state = 'queued', due = now(), tries = 0,
		finished_at = NULL, reason = ''
		WHERE tenant_id = $1 AND endpoint_id = $2 AND message_id = $3 AND state IN ('delivered', 'dead')`, tenant,
		endpoint, uuid.UUID(message))
	if err != nil {
		return d, fmt.Errorf("webhook: send a message again: %w", err)
	}
	if done.RowsAffected() == 0 {
		return d, ErrQueued
	}
	return getDelivery(ctx, tx, tenant, endpoint, message)
}

// ResendDead queues an endpoint's dead letters again whose messages were written since a time, the oldest first, at
// most MaxResend of them, and returns how many.
func (e *Endpoints) ResendDead(ctx context.Context, tx pgx.Tx, tenant, endpoint uuid.UUID,
	since time.Time) (int, error) {
	if err := requireEnabled(ctx, tx, tenant, endpoint); err != nil {
		return 0, err
	}
	done, err := tx.Exec(ctx, `UPDATE webhook_deliveries d SET state = 'queued', due = now(), tries = 0,
		finished_at = NULL, reason = ''
		FROM (SELECT d.message_id FROM webhook_deliveries d
		        JOIN webhook_messages m ON m.tenant_id = d.tenant_id AND m.id = d.message_id
		       WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND d.state = 'dead' AND m.created_at >= $3
		       ORDER BY d.message_id LIMIT $4 FOR NO KEY UPDATE OF d) dead
		WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND d.message_id = dead.message_id`, tenant, endpoint, since,
		MaxResend)
	if err != nil {
		return 0, fmt.Errorf("webhook: send dead letters again: %w", err)
	}
	return int(done.RowsAffected()), nil
}

// QuotaRefused queues a message that a tenant used up a quota: at most one of a quota in an hour.
func QuotaRefused(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, quota string) error {
	_, err := tx.Exec(ctx, `SELECT webhook_emit($1, $2, now(),
		'quota.exceeded ' || $3::text || to_char(now() AT TIME ZONE 'UTC', '" "YYYY-MM-DD"T"HH24'),
		jsonb_build_object('quota', $3::text))`, tenant, QuotaExceeded, quota)
	if err != nil {
		return fmt.Errorf("webhook: report a quota: %w", err)
	}
	return nil
}
