package konstruct

import (
	"context"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/webhook"
)

// Webhooks are the tenant's endpoints that are told what happens. Each change takes the principal that makes it, and
// records an event. Without Config.KeySecret every method fails with ErrNoKeys, because signing secrets are encrypted
// with it.
type Webhooks struct{ t *Tenant }

// Webhooks returns the tenant's webhooks.
func (t *Tenant) Webhooks() Webhooks { return Webhooks{t} }

// webhookRecord is what the trail has of a webhook: a URL's path and query may hold a credential.
func webhookRecord(e webhook.Endpoint) map[string]any {
	origin := ""
	if u, err := url.Parse(e.URL); err == nil {
		origin = u.Scheme + "://" + u.Host
	}
	m := map[string]any{"webhook_id": e.ID, "origin": origin, "types": e.Types, "enabled": e.Enabled}
	if e.DisabledReason != "" {
		m["disabled_reason"] = e.DisabledReason
	}
	return m
}

// change runs do, which changes a webhook, and records the event of it in the same transaction.
func (g Webhooks) change(ctx context.Context, by access.Principal, action string,
	do func(ctx context.Context, tx pgx.Tx, all *webhook.Endpoints) (details map[string]any, err error)) error {
	all := g.t.k.webhooks
	if all == nil {
		return ErrNoKeys
	}
	return g.t.recordChange(ctx, by, action, func(ctx context.Context, tx pgx.Tx) (any, error) {
		return do(ctx, tx, all)
	})
}

// Create makes an endpoint, and returns its signing secret (whsec_…): it is shown once.
func (g Webhooks) Create(ctx context.Context, by access.Principal,
	r webhook.EndpointRequest) (secret string, made webhook.Endpoint, err error) {
	err = g.change(ctx, by, audit.ActionWebhookCreated,
		func(ctx context.Context, tx pgx.Tx, all *webhook.Endpoints) (map[string]any, error) {
			secret, made, err = all.Create(ctx, tx, g.t.id, by.String(), r)
			return webhookRecord(made), err
		})
	return secret, made, err
}

// Update changes an endpoint, enables it or disables it.
func (g Webhooks) Update(ctx context.Context, by access.Principal, id uuid.UUID,
	u webhook.EndpointUpdate) (changed webhook.Endpoint, err error) {
	err = g.change(ctx, by, audit.ActionWebhookUpdated,
		func(ctx context.Context, tx pgx.Tx, all *webhook.Endpoints) (map[string]any, error) {
			changed, err = all.Update(ctx, tx, g.t.id, id, by.String(), u)
			return webhookRecord(changed), err
		})
	return changed, err
}

// Rotate draws a new signing secret, which is shown once. For the overlap messages are signed with the old one too.
func (g Webhooks) Rotate(ctx context.Context, by access.Principal, id uuid.UUID,
	overlap time.Duration) (secret string, found webhook.Endpoint, err error) {
	err = g.change(ctx, by, audit.ActionWebhookRotated,
		func(ctx context.Context, tx pgx.Tx, all *webhook.Endpoints) (map[string]any, error) {
			secret, found, err = all.Rotate(ctx, tx, g.t.id, id, overlap)
			return map[string]any{"webhook_id": id, "overlap_seconds": overlap.Seconds()}, err
		})
	return secret, found, err
}

// Delete removes an endpoint with its deliveries.
func (g Webhooks) Delete(ctx context.Context, by access.Principal, id uuid.UUID) error {
	return g.change(ctx, by, audit.ActionWebhookDeleted,
		func(ctx context.Context, tx pgx.Tx, all *webhook.Endpoints) (map[string]any, error) {
			gone, err := all.Delete(ctx, tx, g.t.id, id)
			return webhookRecord(gone), err
		})
}

// Test queues a message of type webhook.test for an endpoint.
func (g Webhooks) Test(ctx context.Context, by access.Principal, id uuid.UUID) (d webhook.Delivery, err error) {
	err = g.change(ctx, by, audit.ActionWebhookTested,
		func(ctx context.Context, tx pgx.Tx, all *webhook.Endpoints) (map[string]any, error) {
			d, err = all.SendTest(ctx, tx, g.t.id, id)
			return map[string]any{"webhook_id": id, "message_id": d.Message}, err
		})
	return d, err
}

// Resend queues one message for an endpoint again, with its id: a dead letter, or one that was delivered.
func (g Webhooks) Resend(ctx context.Context, by access.Principal, id uuid.UUID,
	message webhook.MessageID) (d webhook.Delivery, err error) {
	err = g.change(ctx, by, audit.ActionWebhookResent,
		func(ctx context.Context, tx pgx.Tx, all *webhook.Endpoints) (map[string]any, error) {
			d, err = all.Resend(ctx, tx, g.t.id, id, message)
			return map[string]any{"webhook_id": id, "message_id": message}, err
		})
	return d, err
}

// ResendDead queues an endpoint's dead letters since a time again, and returns how many: at most webhook.MaxResend.
func (g Webhooks) ResendDead(ctx context.Context, by access.Principal, id uuid.UUID,
	since time.Time) (n int, err error) {
	err = g.change(ctx, by, audit.ActionWebhookResent,
		func(ctx context.Context, tx pgx.Tx, all *webhook.Endpoints) (map[string]any, error) {
			n, err = all.ResendDead(ctx, tx, g.t.id, id, since)
			return map[string]any{"webhook_id": id, "since": since.UTC(), "messages": n}, err
		})
	return n, err
}

// Get returns an endpoint, or webhook.ErrNotFound.
func (g Webhooks) Get(ctx context.Context, id uuid.UUID) (webhook.Endpoint, error) {
	if g.t.k.webhooks == nil {
		return webhook.Endpoint{}, ErrNoKeys
	}
	return g.t.k.webhooks.Get(ctx, g.t.id, id)
}

// List lists endpoints in the order of their ids, after the given one, at most limit of them.
func (g Webhooks) List(ctx context.Context, after uuid.UUID, limit int) ([]webhook.Endpoint, error) {
	if g.t.k.webhooks == nil {
		return nil, ErrNoKeys
	}
	return g.t.k.webhooks.List(ctx, g.t.id, after, limit)
}

// Deliveries lists an endpoint's deliveries, the newest message first.
func (g Webhooks) Deliveries(ctx context.Context, f webhook.DeliveryFilter) ([]webhook.Delivery, error) {
	if g.t.k.webhooks == nil {
		return nil, ErrNoKeys
	}
	return g.t.k.webhooks.Deliveries(ctx, g.t.id, f)
}

// Delivery returns a delivery and its attempts, the last one first, or webhook.ErrNotFound.
func (g Webhooks) Delivery(ctx context.Context, id uuid.UUID,
	message webhook.MessageID) (webhook.Delivery, []webhook.Attempt, error) {
	if g.t.k.webhooks == nil {
		return webhook.Delivery{}, nil, ErrNoKeys
	}
	return g.t.k.webhooks.Delivery(ctx, g.t.id, id, message)
}

// QuotaRefused tells the tenant's webhooks that it used up a quota, at most once an hour for each quota.
func (g Webhooks) QuotaRefused(ctx context.Context, quota string) error {
	return g.t.k.door.Tx(ctx, g.t.id, func(ctx context.Context, tx pgx.Tx) error {
		return webhook.QuotaRefused(ctx, tx, g.t.id, quota)
	})
}

// webhookDisabled records that the service itself disabled an endpoint.
func (k *Konstruct) webhookDisabled(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, e webhook.Endpoint) error {
	return k.Tenant(tenant).record(ctx, tx, access.Principal{Tenant: tenant, Name: "the webhook worker"},
		audit.ActionWebhookUpdated, webhookRecord(e))
}
