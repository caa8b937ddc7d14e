package webhook_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/webhook"
)

// verify returns an error where a secret's owner would not believe a request.
func verify(secret string, r received) error {
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return wh.Verify(r.body, r.header)
}

func TestAMessageIsSignedAndDelivered(t *testing.T) {
	w, r := newWorld(t), receive(t, nil)
	secret, e := w.endpoint(acme, r.url, webhook.EscalationOpened, webhook.IngestFinished)
	_, other := w.endpoint(acme, r.url+"/other", webhook.ExportFinished)
	began := time.Now()
	w.emit(acme, webhook.EscalationOpened)
	testkit.Until(t, "a message", func() bool { return len(r.got()) == 1 })
	t.Logf("delivered %s after it was committed", time.Since(began).Round(time.Millisecond))
	got := r.got()[0]
	if err := verify(secret, got); err != nil {
		t.Error(err)
	}
	var body struct {
		Type      webhook.Type
		Timestamp time.Time
		Data      map[string]int
	}
	if err := json.Unmarshal(got.body, &body); err != nil || body.Type != webhook.EscalationOpened ||
		body.Data["k"] != 1 || time.Since(body.Timestamp) > time.Minute {
		t.Errorf("%s %v", got.body, err)
	}
	all, err := w.endpoints.Deliveries(t.Context(), acme, webhook.DeliveryFilter{Endpoint: e.ID})
	if err != nil || len(all) != 1 || all[0].Message.String() != got.header.Get("webhook-id") {
		t.Fatalf("%+v, %v", all, err)
	}
	d, attempts := w.until(acme, all[0], webhook.Delivered)
	if len(attempts) != 1 || *attempts[0].Status != 204 || attempts[0].FinishedAt == nil || d.Attempts != 1 {
		t.Errorf("%+v %+v", d, attempts)
	}
	if all, err := w.endpoints.Deliveries(t.Context(), acme, webhook.DeliveryFilter{Endpoint: other.ID}); err != nil ||
		len(all) != 0 {
		t.Errorf("what does not subscribe got %+v, %v", all, err)
	}
	for name, forge := range map[string]func(received) received{
		"another body":      func(r received) received { r.body = bytes.ToUpper(r.body); return r },
		"another id":        func(r received) received { r.header.Set("webhook-id", "msg_1"); return r },
		"another timestamp": func(r received) received { r.header.Set("webhook-timestamp", "1"); return r },
	} {
		if verify(secret, forge(received{got.header.Clone(), got.body})) == nil {
			t.Errorf("%s verifies", name)
		}
	}
}

// TestWithoutASubscriberNothingIsWritten: neither a message nor a ticket.
func TestWithoutASubscriberNothingIsWritten(t *testing.T) {
	w := newWorld(t)
	w.endpoint(globex, "https://example.com")
	w.endpoint(acme, "https://example.com", webhook.ExportFinished)
	_, off := w.endpoint(acme, "https://example.com", webhook.EscalationOpened)
	w.tx(acme, func(ctx context.Context, tx pgx.Tx) error {
		no := false
		_, err := w.endpoints.Update(ctx, tx, acme, off.ID, "ada", webhook.EndpointUpdate{Enabled: &no})
		return err
	})
	w.emit(acme, webhook.EscalationOpened)
	if n := w.count(`SELECT (SELECT count(*) FROM webhook_messages) + (SELECT count(*) FROM webhook_deliveries) +
		(SELECT count(*) FROM river_job)`); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}

// TestAnEndpointThatIsDeletedFailsNothing: an event commits while its tenant's endpoint is being deleted.
func TestAnEndpointThatIsDeletedFailsNothing(t *testing.T) {
	w := newWorld(t)
	_, e := w.endpoint(acme, "https://example.com")
	app := testkit.Connect(t, w.d.URL("konstruct_app"))
	deleting, err := app.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deleting.Exec(t.Context(), `SET LOCAL app.current_tenant = '`+acme.String()+`'`); err != nil {
		t.Fatal(err)
	}
	if _, err := w.endpoints.Delete(t.Context(), deleting, acme, e.ID); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- w.door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO audit_events (tenant_id, action_type) VALUES ($1, 'escalation')`, acme)
			return err
		})
	}()
	testkit.Until(t, "the event waits for the deletion", func() bool {
		return w.count(`SELECT count(*) FROM pg_locks WHERE NOT granted`) > 0
	})
	if err := deleting.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the event was lost: %v", err)
	}
	if n := w.count(`SELECT count(*) FROM webhook_deliveries`); n != 0 {
		t.Errorf("%d deliveries of an endpoint that is gone", n)
	}
}

func TestFailedAttemptsAreRepeatedAndThenDead(t *testing.T) {
	w := newWorld(t, 50*time.Millisecond, 50*time.Millisecond)
	var heals atomic.Bool
	r := receive(t, func(out http.ResponseWriter, _ *http.Request) {
		if !heals.Load() {
			out.WriteHeader(http.StatusInternalServerError)
			_, _ = out.Write([]byte("bad \x00 day \xff" + strings.Repeat("x", 5000)))
		}
	})
	secret, e := w.endpoint(acme, r.url)
	sent := w.test(acme, e)
	d, attempts := w.until(acme, sent, webhook.Dead)
	if len(attempts) != 3 || *attempts[0].Status != 500 || !strings.HasPrefix(attempts[0].Response, "bad � day �x") ||
		len(attempts[0].Response) > 600 || !strings.Contains(d.Reason, "500") {
		t.Errorf("%+v %+v", d, attempts)
	}
	if found, err := w.endpoints.Get(t.Context(), acme, e.ID); err != nil || found.FailingSince == nil ||
		!found.Enabled {
		t.Errorf("%+v %v", found, err)
	}
	heals.Store(true)
	another := w.test(acme, e)
	w.until(acme, another, webhook.Delivered)
	if found, err := w.endpoints.Get(t.Context(), acme, e.ID); err != nil || found.FailingSince != nil {
		t.Errorf("%+v %v", found, err)
	}
	var n int
	w.tx(acme, func(ctx context.Context, tx pgx.Tx) (err error) {
		n, err = w.endpoints.ResendDead(ctx, tx, acme, e.ID, time.Now().Add(-time.Hour))
		return err
	})
	if n != 1 {
		t.Errorf("%d dead letters were sent again", n)
	}
	if _, attempts = w.until(acme, sent, webhook.Delivered); len(attempts) != 4 || attempts[0].Number != 4 {
		t.Errorf("%+v", attempts)
	}
	ids := map[string]int{}
	for _, got := range r.got() {
		ids[got.header.Get("webhook-id")]++
		if err := verify(secret, got); err != nil {
			t.Error(err)
		}
	}
	if len(ids) != 2 || ids[sent.Message.String()] != 4 || ids[another.Message.String()] != 1 {
		t.Errorf("%v", ids)
	}
	w.tx(acme, func(ctx context.Context, tx pgx.Tx) error { // one that was delivered, by its id
		_, err := w.endpoints.Resend(ctx, tx, acme, e.ID, another.Message)
		return err
	})
	testkit.Until(t, "it comes again", func() bool { return len(r.got()) == 6 })
}

func TestRetryAfterIsHonoured(t *testing.T) {
	w := newWorld(t, time.Millisecond)
	var times atomic.Int64
	r := receive(t, func(out http.ResponseWriter, _ *http.Request) {
		if times.Add(1) == 1 {
			out.Header().Set("Retry-After", "3")
			out.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	_, e := w.endpoint(acme, r.url)
	_, attempts := w.until(acme, w.test(acme, e), webhook.Delivered)
	if len(attempts) != 2 || attempts[0].StartedAt.Sub(*attempts[1].FinishedAt) < 3*time.Second {
		t.Errorf("%+v", attempts)
	}
}

func TestTheScheduleIsBounded(t *testing.T) {
	waits := webhook.RetryWaits()
	var all time.Duration
	for n := 1; n <= len(waits); n++ {
		wait, more := webhook.NextWait(waits, n, 0)
		if !more || wait < waits[n-1]*9/10 || wait > waits[n-1]*11/10 {
			t.Errorf("after %d: %s", n, wait)
		}
		all += waits[n-1]
	}
	if _, more := webhook.NextWait(waits, len(waits)+1, time.Hour); more || all < 72*time.Hour {
		t.Errorf("it never ends, or too soon: %s", all)
	}
	if wait, _ := webhook.NextWait(waits, 1, 1000*time.Hour); wait > 24*time.Hour {
		t.Errorf("a target has us wait %s", wait)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "5": 5 * time.Second, "-5": 0, "soon": 0,
		"99999999999999999999": 0, "Thu, 01 Jan 2026 00:01:00 GMT": time.Minute,
		"Wed, 31 Dec 2025 00:00:00 GMT": 0} {
		if got := webhook.RetryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestGoneDisablesTheEndpoint, as Standard Webhooks asks; what waits can be sent again later.
func TestGoneDisablesTheEndpoint(t *testing.T) {
	w := newWorld(t)
	var back atomic.Bool
	r := receive(t, func(out http.ResponseWriter, _ *http.Request) {
		if !back.Load() {
			out.WriteHeader(http.StatusGone)
		}
	})
	_, e := w.endpoint(acme, r.url)
	d := w.test(acme, e)
	w.super(`UPDATE webhook_deliveries SET due = now() + interval '1 hour'`)
	waiting := d
	d = w.test(acme, e)
	w.until(acme, d, webhook.Dead)
	w.until(acme, waiting, webhook.Dead)
	found, err := w.endpoints.Get(t.Context(), acme, e.ID)
	if err != nil || found.Enabled || !strings.Contains(found.DisabledReason, "410") || found.DisabledAt == nil {
		t.Errorf("%+v %v", found, err)
	}
	w.emit(acme, webhook.EscalationOpened)
	if n := w.count(`SELECT count(*) FROM webhook_messages`); n != 2 {
		t.Errorf("%d messages: a disabled webhook gets new ones", n)
	}
	if err := w.door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.endpoints.Resend(ctx, tx, acme, e.ID, d.Message)
		return err
	}); !errors.Is(err, webhook.ErrDisabled) {
		t.Errorf("sent again to a disabled webhook: %v", err)
	}
	back.Store(true)
	w.tx(acme, func(ctx context.Context, tx pgx.Tx) error {
		yes := true
		if _, err := w.endpoints.Update(ctx, tx, acme, e.ID, "ada", webhook.EndpointUpdate{Enabled: &yes}); err != nil {
			return err
		}
		n, err := w.endpoints.ResendDead(ctx, tx, acme, e.ID, time.Time{})
		if n != 2 {
			t.Errorf("%d sent again", n)
		}
		return err
	})
	w.until(acme, d, webhook.Delivered)
	w.until(acme, waiting, webhook.Delivered)
}

func TestAnEndpointThatFailsForDaysIsDisabled(t *testing.T) {
	w := newWorld(t)
	r := receive(t, func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusTeapot) })
	_, e := w.endpoint(acme, r.url)
	w.super(`UPDATE webhook_endpoints SET failing_since = now() - interval '121 hours'`)
	w.until(acme, w.test(acme, e), webhook.Dead)
	if found, err := w.endpoints.Get(t.Context(), acme, e.ID); err != nil || found.Enabled ||
		!strings.Contains(found.DisabledReason, "every attempt failed since") {
		t.Errorf("%+v %v", found, err)
	}
}

// TestBothSecretsSignDuringTheOverlap, and only the new one after it.
func TestBothSecretsSignDuringTheOverlap(t *testing.T) {
	w, r := newWorld(t), receive(t, nil)
	first, e := w.endpoint(acme, r.url)
	rotate := func(overlap time.Duration) (secret string) {
		w.tx(acme, func(ctx context.Context, tx pgx.Tx) (err error) {
			secret, _, err = w.endpoints.Rotate(ctx, tx, acme, e.ID, overlap)
			return err
		})
		return secret
	}
	next := func() received {
		w.until(acme, w.test(acme, e), webhook.Delivered)
		all := r.got()
		return all[len(all)-1]
	}
	second := rotate(time.Hour)
	if got := next(); verify(first, got) != nil || verify(second, got) != nil ||
		len(strings.Fields(got.header.Get("webhook-signature"))) != 2 {
		t.Errorf("during the overlap: %s", got.header.Get("webhook-signature"))
	}
	third := rotate(0)
	if got := next(); verify(first, got) == nil || verify(second, got) == nil || verify(third, got) != nil {
		t.Errorf("after it: %s", got.header.Get("webhook-signature"))
	}
	for range webhook.MaxSecrets - 1 {
		rotate(time.Hour)
	}
	var field *webhook.FieldError
	if err := w.door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
		_, _, err := w.endpoints.Rotate(ctx, tx, acme, e.ID, time.Hour)
		return err
	}); !errors.As(err, &field) {
		t.Errorf("one secret too many: %v", err)
	}
	rotate(0)
}

// TestSecretsAreEncrypted: the database holds none in the clear, and a process with another key sends nothing and takes
// no try away.
func TestSecretsAreEncrypted(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	w := &world{t: t, d: d, door: door, endpoints: newEndpoints(door)}
	r := receive(t, nil)
	secret, e := w.endpoint(acme, r.url)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(raw) != 32 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	if n := w.count(`SELECT count(*) FROM webhook_secrets WHERE position($1 IN sealed) > 0`, raw); n != 0 {
		t.Error("the secret is stored in the clear")
	}
	other, err := webhook.NewEndpoints(door, []byte("another secret, that keys are hashed with"), local)
	if err != nil {
		t.Fatal(err)
	}
	w.endpoints = other
	w.work()
	sent := w.test(acme, e)
	testkit.Until(t, "it is tried", func() bool {
		_, a := w.delivery(acme, sent)
		return len(a) > 0 && a[0].Error != ""
	})
	d1, _ := w.delivery(acme, sent)
	if n := w.count(`SELECT tries FROM webhook_deliveries`); d1.State != webhook.Queued || n != 0 || len(r.got()) != 0 {
		t.Errorf("%+v, %d tries", d1, n)
	}
	// Nor does a secret open that was copied from another tenant.
	_, theirs := w.endpoint(globex, r.url)
	w.super(`UPDATE webhook_secrets SET sealed = (SELECT sealed FROM webhook_secrets WHERE tenant_id = $1)
		WHERE tenant_id = $2`, acme, globex)
	w.endpoints = newEndpoints(door)
	w.work()
	sent = w.test(globex, theirs)
	testkit.Until(t, "it is tried", func() bool {
		_, a := w.delivery(globex, sent)
		return len(a) > 0 && strings.Contains(a[0].Error, "can't be decrypted")
	})
}

func TestOtherTenantsSeeNothing(t *testing.T) {
	w, r := newWorld(t), receive(t, nil)
	_, e := w.endpoint(acme, r.url)
	d := w.test(acme, e)
	w.until(acme, d, webhook.Delivered)
	yes := true
	for name, call := range map[string]func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error{
		"update": func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error {
			_, err := w.endpoints.Update(ctx, tx, tenant, e.ID, "eve", webhook.EndpointUpdate{Enabled: &yes})
			return err
		},
		"rotate": func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error {
			_, _, err := w.endpoints.Rotate(ctx, tx, tenant, e.ID, 0)
			return err
		},
		"delete": func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error {
			_, err := w.endpoints.Delete(ctx, tx, tenant, e.ID)
			return err
		},
		"test": func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error {
			_, err := w.endpoints.SendTest(ctx, tx, tenant, e.ID)
			return err
		},
		"resend": func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error {
			_, err := w.endpoints.Resend(ctx, tx, tenant, e.ID, d.Message)
			return err
		},
		"resend all": func(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error {
			_, err := w.endpoints.ResendDead(ctx, tx, tenant, e.ID, time.Time{})
			return err
		},
	} {
		// As another tenant; and as another that claims to be this one, which row-level security does not believe.
		for _, claims := range []uuid.UUID{globex, acme} {
			if err := w.door.Tx(t.Context(), globex, func(ctx context.Context, tx pgx.Tx) error {
				return call(ctx, tx, claims)
			}); !errors.Is(err, webhook.ErrNotFound) {
				t.Errorf("%s as another tenant, of %s: %v", name, claims, err)
			}
		}
		if err := w.door.Tx(t.Context(), uuid.Nil, func(ctx context.Context, tx pgx.Tx) error {
			return call(ctx, tx, acme)
		}); !errors.Is(err, tenantdb.ErrNoTenant) {
			t.Errorf("%s without a tenant: %v", name, err)
		}
	}
	if _, err := w.endpoints.Get(t.Context(), globex, e.ID); !errors.Is(err, webhook.ErrNotFound) {
		t.Error(err)
	}
	if _, _, err := w.endpoints.Delivery(t.Context(), globex, e.ID, d.Message); !errors.Is(err, webhook.ErrNotFound) {
		t.Error(err)
	}
	if _, err := w.endpoints.Deliveries(t.Context(), globex,
		webhook.DeliveryFilter{Endpoint: e.ID}); !errors.Is(err, webhook.ErrNotFound) {
		t.Error(err)
	}
	if all, err := w.endpoints.List(t.Context(), globex, uuid.Nil, 10); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
	w.endpoint(globex, r.url)
	w.emit(globex, webhook.EscalationOpened)
	if n := w.count(`SELECT count(*) FROM webhook_deliveries WHERE tenant_id = $1`, acme); n != 1 {
		t.Errorf("another tenant's event made %d deliveries", n-1)
	}
}

// TestWhatIsOldIsDeleted: delivered ones after a week, dead ones after a month, and messages that have neither.
func TestWhatIsOldIsDeleted(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	w := &world{t: t, d: d, door: door, endpoints: newEndpoints(door)}
	_, e := w.endpoint(acme, "https://example.com")
	for _, c := range []struct {
		state webhook.State
		days  int
	}{{webhook.Delivered, 6}, {webhook.Delivered, 8}, {webhook.Dead, 8}, {webhook.Dead, 31}, {webhook.Queued, 40}} {
		m := w.test(acme, e)
		w.super(`UPDATE webhook_deliveries SET state = $2, due = now() + interval '1 hour',
			finished_at = CASE WHEN $2 <> 'queued' THEN now() - make_interval(days => $3) END WHERE message_id = $1`,
			uuid.UUID(m.Message), c.state, c.days)
		w.super(`UPDATE webhook_messages SET created_at = now() - make_interval(days => $2) WHERE id = $1`,
			uuid.UUID(m.Message), c.days)
	}
	worker := w.endpoints.NewWorker(t.Context(), webhook.NewMetrics(), testkit.Logger(t), nil)
	wait, open, err := worker.Next(t.Context(), acme)
	if err != nil || !open || wait < 59*time.Minute || wait > time.Hour {
		t.Errorf("%s %v %v", wait, open, err)
	}
	if n := w.count(`SELECT count(*) FROM webhook_messages`); n != 3 {
		t.Errorf("%d messages are left", n)
	}
	if n := w.count(`SELECT count(*) FROM webhook_deliveries`); n != 3 {
		t.Errorf("%d deliveries are left", n)
	}
}

func TestMessageIDsAreReadAsTheyAreWritten(t *testing.T) {
	id := webhook.MessageID(uuid.MustParse("019aa0b1-c2d3-7e4f-8a9b-0c1d2e3f4a5b"))
	var back webhook.MessageID
	if err := back.UnmarshalText([]byte(id.String())); err != nil || back != id {
		t.Errorf("%s %v", back, err)
	}
	for _, bad := range []string{"", "msg_", "019aa0b1c2d37e4f8a9b0c1d2e3f4a5b",
		"msg_019aa0b1-c2d3-7e4f-8a9b-0c1d2e3f4a5b",
		"msg_019AA0B1C2D37E4F8A9B0C1D2E3F4A5B", "msg_019aa0b1c2d37e4f8a9b0c1d2e3f4a5bb"} {
		if back.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestWhatAnEndpointMayBe(t *testing.T) {
	w := newWorld(t)
	for _, good := range []string{"https://example.com/hook?x=1", "https://example.com:8443/", "http://127.0.0.1:9/",
		"http://localhost:9/", "https://127.0.0.1:1234/"} {
		if err := w.endpoints.CheckURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "example.com", "http://example.com/", "ftp://example.com/", "https://",
		"https://u:p@example.com/", "https://example.com/#f", "https://10.0.0.1/", "https://[::1]/", "http://[::1]/",
		"https://127.0.0.2/", "http://127.0.0.2/", "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/",
		"https://[fd00::1]/", "https://0.0.0.0/", "https://exa mple.com/", "https://example.com/\x00", "https:example",
		"https://exämple.com/", "https://example.com/" + strings.Repeat("x", 2000)} {
		if err := w.endpoints.CheckURL(bad); err == nil {
			t.Errorf("%.60q is let through", bad)
		}
	}
	for name, r := range map[string]webhook.EndpointRequest{
		"no type":        {URL: "https://example.com"},
		"a strange type": {URL: "https://example.com", Types: []webhook.Type{"x"}},
		"the test's":     {URL: "https://example.com", Types: []webhook.Type{webhook.Test}},
		"twice": {URL: "https://example.com",
			Types: []webhook.Type{webhook.QuotaExceeded, webhook.QuotaExceeded}},
		"all and one": {URL: "https://example.com", Types: []webhook.Type{webhook.AllTypes, webhook.QuotaExceeded}},
		"a long text": {URL: "https://example.com", Types: []webhook.Type{webhook.AllTypes},
			Description: strings.Repeat("x", 201)},
	} {
		var field *webhook.FieldError
		if err := w.door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := w.endpoints.Create(ctx, tx, acme, "ada", r)
			return err
		}); !errors.As(err, &field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range webhook.MaxEndpoints {
		w.endpoint(acme, "https://example.com")
	}
	if err := w.door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
		_, _, err := w.endpoints.Create(ctx, tx, acme, "ada",
			webhook.EndpointRequest{URL: "https://example.com", Types: []webhook.Type{webhook.AllTypes}})
		return err
	}); err == nil {
		t.Error("a tenant has webhooks without end")
	}
}

// TestDoctorNamesOverdueDeliveries, and shows dead letters and disabled webhooks without failing for them.
func TestDoctorNamesOverdueDeliveries(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	w := &world{t: t, d: d, door: door, endpoints: newEndpoints(door)}
	_, e := w.endpoint(acme, "https://example.com")
	checks := func() (all []tenantdb.Check) {
		all, err := tenantdb.WebhookChecks(t.Context(), d.URL("konstruct_worker"))
		if err != nil || len(all) != 3 {
			t.Fatalf("%+v %v", all, err)
		}
		return all
	}
	w.test(acme, e)
	if c := checks(); !c[0].OK || c[1].Actual != "none" || c[2].Actual != "0" {
		t.Errorf("%+v", c)
	}
	w.super(`UPDATE webhook_deliveries SET due = now() - interval '6 minutes'`)
	if c := checks(); c[0].OK || c[0].Actual != "1 message of 1 tenant" {
		t.Errorf("%+v", c)
	}
	w.super(`UPDATE webhook_deliveries SET state = 'dead'`)
	w.super(`UPDATE webhook_endpoints SET enabled = false`)
	if c := checks(); !c[0].OK || !c[1].OK || c[1].Actual != "1 message of 1 tenant" || c[2].Actual != "1" {
		t.Errorf("%+v", c)
	}
}
