package webhook

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// How much is sent at one time. A slow endpoint holds its own requests alone.
const (
	perEndpoint = 4   // of all processes; 1 while the endpoint fails
	perTenant   = 32  // of this process
	perProcess  = 256 // of all tenants
)

const (
	// leaseTime is when somebody else sends what a worker claimed: longer than an attempt and its settling take.
	leaseTime = attemptTime + 15*time.Second
	// workTime is how long a turn claims more.
	workTime = 2 * time.Second
	// settleTime bounds the transaction that notes an attempt, also when the service stops.
	settleTime = 10 * time.Second
	// tidyEvery is how often a tenant's old messages are deleted, and maxTidied of how many tenants that is known.
	tidyEvery = 10 * time.Minute
	maxTidied = 10_000
)

// Worker sends what is queued. It is the worker of fairqueue.Webhooks: a turn claims deliveries and sends them in the
// background, so that a slow endpoint holds up neither the queue nor the tenant's other endpoints.
type Worker struct {
	endpoints *Endpoints
	metrics   *Metrics
	logger    *slog.Logger
	// disabled records that the service disabled an endpoint, in the same transaction.
	disabled func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, e Endpoint) error

	waits    []time.Duration // between attempts
	lifetime context.Context
	sending  sync.WaitGroup

	mu      sync.Mutex
	all     int                         // requests in progress
	tenants map[uuid.UUID]*tenantWorker // those with requests in progress
	tidied  map[uuid.UUID]time.Time
}

// tenantWorker are a tenant's requests in progress.
type tenantWorker struct {
	n    int
	done chan struct{} // gets a value when one is settled, if there is room
}

// NewWorker returns a worker that sends until ctx ends. disabled is called when it disables an endpoint.
func (e *Endpoints) NewWorker(ctx context.Context, m *Metrics, logger *slog.Logger,
	disabled func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, e Endpoint) error) *Worker {
	return &Worker{endpoints: e, metrics: m, logger: logger, disabled: disabled, lifetime: ctx,
		waits: retryWaits(), tenants: map[uuid.UUID]*tenantWorker{}, tidied: map[uuid.UUID]time.Time{}}
}

// Wait waits for requests in progress, which end when the worker's context does.
func (w *Worker) Wait() { w.sending.Wait() }

//go:embed sql/claim.sql
var claimSQL string

// Work sends, for a short while, what is due of a tenant. It returns false where nothing could be claimed. It
// implements fairqueue.Worker.
func (w *Worker) Work(ctx context.Context, tenant uuid.UUID) (worked bool, err error) {
	for until := time.Now().Add(workTime); w.lifetime.Err() == nil; {
		n := w.reserve(tenant)
		claims, err := w.claim(ctx, tenant, n)
		w.release(tenant, n-len(claims), false)
		if err != nil {
			return worked, err
		}
		for _, c := range claims {
			worked = true
			w.sending.Go(func() {
				defer w.release(tenant, 1, true)
				w.deliver(c)
			})
		}
		if len(claims) == 0 && !worked || !w.settledOne(ctx, tenant, len(claims), until) {
			return worked, nil
		}
	}
	return worked, nil
}

// reserve takes room for a tenant's requests, and returns for how many.
func (w *Worker) reserve(tenant uuid.UUID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tenants[tenant]
	if t == nil {
		t = &tenantWorker{done: make(chan struct{}, 1)}
		w.tenants[tenant] = t
	}
	n := max(0, min(perTenant-t.n, perProcess-w.all))
	t.n, w.all = t.n+n, w.all+n
	return n
}

// release gives room back; settled says that a request used it.
func (w *Worker) release(tenant uuid.UUID, n int, settled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tenants[tenant]
	if t.n, w.all = t.n-n, w.all-n; t.n == 0 {
		delete(w.tenants, tenant)
	}
	w.metrics.inFlight.Set(float64(w.all))
	if !settled {
		return
	}
	select {
	case t.done <- struct{}{}:
	default:
	}
}

// settledOne waits until one of the tenant's requests is settled, and reports whether more may be claimed. It does not
// wait where none is in progress: then more may be claimed if some were.
func (w *Worker) settledOne(ctx context.Context, tenant uuid.UUID, claimed int, until time.Time) bool {
	w.mu.Lock()
	t := w.tenants[tenant]
	w.mu.Unlock()
	if t == nil {
		return claimed > 0 && time.Now().Before(until)
	}
	select {
	case <-t.done:
		return time.Now().Before(until)
	case <-time.After(time.Until(until)):
	case <-ctx.Done():
	}
	return false
}

// claim claims up to n deliveries.
func (w *Worker) claim(ctx context.Context, tenant uuid.UUID, n int) (claims []*claim, err error) {
	if n == 0 {
		return nil, nil
	}
	err = w.endpoints.door.Query(ctx, tenant, claimSQL, []any{tenant, n, perEndpoint, leaseTime, maxAttempts},
		func(rows pgx.Rows) error {
			claims, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*claim, error) {
				c := &claim{tenant: tenant}
				err := row.Scan(&c.endpoint, (*uuid.UUID)(&c.message), &c.attempt, &c.tries, &c.url, &c.Type,
					&c.Timestamp, &c.Data, &c.sealed)
				c.Timestamp = c.Timestamp.UTC()
				return c, err
			})
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("webhook: claim deliveries: %w", err)
	}
	return claims, nil
}

// deliver makes an attempt and notes it. An attempt that can't be noted is made again: at least once.
func (w *Worker) deliver(c *claim) {
	begin := time.Now()
	o := outcome{err: "each worker that sent it died"}
	if c.tries <= len(w.waits)+1 {
		o = w.endpoints.send(w.lifetime, c)
	}
	if o.cut && w.lifetime.Err() == nil {
		w.logger.Error("a webhook could not be sent", "tenant", c.tenant, "webhook", c.endpoint, "error", o.err)
	}
	state, err := w.settle(c, o)
	w.metrics.settled(state, o, time.Since(begin))
	if err != nil {
		w.logger.Error("an attempt of a webhook could not be noted: it is made again", "tenant", c.tenant,
			"webhook", c.endpoint, "message", c.message, "error", err)
	}
}

//go:embed sql/settle.sql
var settleSQL string

// settle notes what became of an attempt, and disables the endpoint where that is due.
func (w *Worker) settle(c *claim, o outcome) (State, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.lifetime), settleTime)
	defer cancel()
	state, wait, reason := Delivered, time.Duration(0), o.err
	if o.err != "" {
		var more bool
		switch wait, more = nextWait(w.waits, c.tries, o.retryAfter); {
		case o.cut:
			state, wait = Queued, o.retryAfter
		case o.gone || !more:
			state = Dead
		default:
			state = Queued
		}
	}
	err := w.endpoints.door.Tx(ctx, c.tenant, func(ctx context.Context, tx pgx.Tx) error {
		// Who disables the endpoint meanwhile waits, and finds the delivery queued.
		if state == Queued {
			found, err := getEndpoint(ctx, tx, c.tenant, c.endpoint, ` FOR NO KEY UPDATE`)
			if errors.Is(err, ErrNotFound) {
				return nil // it was deleted, and its deliveries with it
			} else if err != nil {
				return err
			}
			if !found.Enabled {
				state = Dead
			}
		}
		var since *time.Time
		var ours bool
		if err := tx.QueryRow(ctx, settleSQL, c.tenant, c.endpoint, uuid.UUID(c.message), c.attempt, state, wait,
			reason, o.status, o.response, o.cut).Scan(&since, &ours); err != nil {
			return err
		}
		switch {
		case !ours || o.err == "" || o.cut:
			return nil
		case o.gone:
			return w.disable(ctx, tx, c, "it answered 410 Gone")
		case since != nil && time.Since(*since) > disableAfter:
			return w.disable(ctx, tx, c, "every attempt failed since "+since.UTC().Format(time.RFC3339))
		}
		return nil
	})
	return state, err
}

// disable disables an endpoint that wants no more messages, or answers none.
func (w *Worker) disable(ctx context.Context, tx pgx.Tx, c *claim, reason string) error {
	found, err := getEndpoint(ctx, tx, c.tenant, c.endpoint, ` FOR NO KEY UPDATE`)
	if err != nil || !found.Enabled {
		return err
	}
	if err := disable(ctx, tx, c.tenant, c.endpoint, reason); err != nil {
		return err
	}
	if found, err = getEndpoint(ctx, tx, c.tenant, c.endpoint, ``); err != nil {
		return err
	}
	w.metrics.disabled.Inc()
	w.logger.Warn("a webhook was disabled", "tenant", c.tenant, "webhook", c.endpoint, "reason", reason)
	return w.disabled(ctx, tx, c.tenant, found)
}

// Prepare implements fairqueue.Worker.
func (w *Worker) Prepare(ctx context.Context, tenant uuid.UUID) (bool, error) {
	_, open, err := w.Next(ctx, tenant)
	return open, err
}

// Next returns in what time something of the tenant's is due. It implements fairqueue.Scheduler.
func (w *Worker) Next(ctx context.Context, tenant uuid.UUID) (wait time.Duration, open bool, err error) {
	if err := w.tidy(ctx, tenant); err != nil {
		return 0, false, err
	}
	var next *time.Duration
	err = w.endpoints.door.Query(ctx, tenant, `SELECT min(d.due) - now() FROM webhook_endpoints e
		CROSS JOIN LATERAL (SELECT due FROM webhook_deliveries w
		  WHERE w.tenant_id = $1 AND w.endpoint_id = e.id AND w.state IN ('queued', 'running')
		  ORDER BY due LIMIT 1) d WHERE e.tenant_id = $1 AND e.enabled`, []any{tenant}, func(rows pgx.Rows) error {
		next, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[*time.Duration])
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("webhook: look for deliveries: %w", err)
	}
	if next == nil {
		return 0, false, nil
	}
	return max(0, *next), true, nil
}

// tidy deletes what is no longer kept of a tenant, now and then: deliveries, and then messages that have none.
func (w *Worker) tidy(ctx context.Context, tenant uuid.UUID) error {
	w.mu.Lock()
	due := time.Since(w.tidied[tenant]) > tidyEvery
	if due {
		if len(w.tidied) >= maxTidied {
			clear(w.tidied)
		}
		w.tidied[tenant] = time.Now()
	}
	w.mu.Unlock()
	if !due {
		return nil
	}
	err := w.endpoints.door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM webhook_deliveries WHERE tenant_id = $1
			AND (state = 'delivered' AND finished_at < now() - $2::interval
			  OR state = 'dead' AND finished_at < now() - $3::interval)`, tenant, DeliveredTTL, DeadTTL); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM webhook_messages m WHERE m.tenant_id = $1
			AND m.created_at < now() - $2::interval AND NOT EXISTS (SELECT FROM webhook_deliveries d
			  WHERE d.tenant_id = $1 AND d.message_id = m.id)`, tenant, DeliveredTTL)
		return err
	})
	if err != nil {
		return fmt.Errorf("webhook: delete what is no longer kept: %w", err)
	}
	return nil
}
