package webhook_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/fairqueue"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/webhook"
)

var (
	acme   = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	globex = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	key    = []byte("the secret that keys are hashed with")
	local  = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} // where receivers are
)

// world is a database with a worker.
type world struct {
	t         testing.TB
	d         *testkit.DB
	door      *tenantdb.Door
	endpoints *webhook.Endpoints
}

// newWorld returns one whose worker waits between attempts as given, or as usual.
func newWorld(t *testing.T, waits ...time.Duration) *world {
	t.Helper()
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	w := &world{t: t, d: d, door: door, endpoints: newEndpoints(door)}
	w.work(waits...)
	return w
}

func newEndpoints(door *tenantdb.Door) *webhook.Endpoints {
	e, err := webhook.NewEndpoints(door, key, local)
	if err != nil {
		panic(err)
	}
	return e
}

// work runs a worker until the test ends.
func (w *world) work(waits ...time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := runWorker(ctx, w.door, w.d.URL("konstruct_worker"), w.endpoints, waits); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(func() { cancel(); done.Wait() })
}

func runWorker(ctx context.Context, _ *tenantdb.Door, url string, e *webhook.Endpoints, waits []time.Duration) error {
	worker := e.NewWorker(ctx, webhook.NewMetrics(), slog.New(slog.DiscardHandler),
		func(context.Context, pgx.Tx, uuid.UUID, webhook.Endpoint) error { return nil })
	defer worker.Wait()
	if waits != nil {
		worker.SetWaits(waits...)
	}
	return fairqueue.Run(ctx, fairqueue.Config{DatabaseURL: url, Logger: slog.New(slog.DiscardHandler),
		Queues: []fairqueue.Queue{{Name: fairqueue.Webhooks, Concurrency: 16, Worker: worker}}})
}

// tx runs fn in a transaction of a tenant's.
func (w *world) tx(tenant uuid.UUID, fn func(ctx context.Context, tx pgx.Tx) error) {
	w.t.Helper()
	if err := w.door.Tx(w.t.Context(), tenant, fn); err != nil {
		w.t.Fatal(err)
	}
}

// endpoint makes an endpoint of a tenant's.
func (w *world) endpoint(tenant uuid.UUID, url string, types ...webhook.Type) (secret string, made webhook.Endpoint) {
	w.t.Helper()
	if types == nil {
		types = []webhook.Type{webhook.AllTypes}
	}
	w.tx(tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		secret, made, err = w.endpoints.Create(ctx, tx, tenant, "ada", webhook.EndpointRequest{URL: url, Types: types})
		return err
	})
	return secret, made
}

// emit writes a message.
func (w *world) emit(tenant uuid.UUID, kind webhook.Type) {
	w.t.Helper()
	w.tx(tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT webhook_emit($1, $2, now(), NULL, '{"k": 1}')`, tenant, kind)
		return err
	})
}

// test sends a test message to an endpoint.
func (w *world) test(tenant uuid.UUID, e webhook.Endpoint) (d webhook.Delivery) {
	w.t.Helper()
	w.tx(tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = w.endpoints.SendTest(ctx, tx, tenant, e.ID)
		return err
	})
	return d
}

// super runs SQL as a superuser.
func (w *world) super(sql string, args ...any) {
	w.t.Helper()
	if _, err := testkit.Connect(w.t, w.d.SuperuserURL()).Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// count is what a query that counts returns, of all tenants.
func (w *world) count(sql string, args ...any) (n int) {
	w.t.Helper()
	if err := testkit.Connect(w.t, w.d.SuperuserURL()).QueryRow(w.t.Context(), sql, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// delivery returns a delivery, with its attempts, the last one first.
func (w *world) delivery(tenant uuid.UUID, d webhook.Delivery) (webhook.Delivery, []webhook.Attempt) {
	w.t.Helper()
	found, attempts, err := w.endpoints.Delivery(w.t.Context(), tenant, d.EndpointID, d.Message)
	if err != nil {
		w.t.Fatal(err)
	}
	return found, attempts
}

// until waits until a delivery is in a state.
func (w *world) until(tenant uuid.UUID, d webhook.Delivery, s webhook.State) (webhook.Delivery, []webhook.Attempt) {
	w.t.Helper()
	testkit.Until(w.t, "the delivery is "+string(s), func() bool {
		found, _ := w.delivery(tenant, d)
		return found.State == s
	})
	return w.delivery(tenant, d)
}

// received is a request that a receiver got.
type received struct {
	header http.Header
	body   []byte
}

// receiver is a target at this machine that keeps what it gets.
type receiver struct {
	url string
	mu  sync.Mutex
	all []received
}

// receive returns a receiver that answers with h, or 204.
func receive(t testing.TB, h http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.all = append(r.all, received{in.Header.Clone(), body})
		r.mu.Unlock()
		if h == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h(w, in)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	r.url = s.URL
	return r
}

func (r *receiver) got() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.all...)
}
