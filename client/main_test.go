package client_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/client"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	acme   = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	globex = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	pepper = []byte("the secret that keys are hashed with")
)

// service is a running service that can be made unavailable.
type service struct {
	t     testing.TB
	k     *konstruct.Konstruct
	url   string
	away  atomic.Bool  // connections are cut
	asked atomic.Int64 // requests that arrived
}

func serve(t testing.TB, policy string) *service {
	t.Helper()
	d := testkit.Database(t)
	p, err := audit.ParsePolicy([]byte(policy), pepper)
	if err != nil {
		t.Fatal(err)
	}
	w := &service{t: t}
	quiet := slog.New(slog.DiscardHandler)
	if w.k, err = konstruct.Open(t.Context(), konstruct.Config{DatabaseURL: d.URL("konstruct_app"),
		AssetsDir: devpg.AssetsDir(), KeySecret: pepper, Policy: p, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Konstruct: w.k, Version: "test", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		if w.away.Load() {
			panic(http.ErrAbortHandler)
		}
		s.Handler().ServeHTTP(rw, r)
	}))
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.url = h.URL
	t.Cleanup(func() {
		h.Close()
		s.Close()
		if err := w.k.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *service) key(tenant uuid.UUID) string {
	w.t.Helper()
	key, _, err := w.k.Tenant(tenant).Keys().Create(w.t.Context(), access.LocalOperator(tenant, "test"),
		access.KeyRequest{Name: "a test", Permissions: []access.Permission{access.EventsWrite}})
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// events are a tenant's of one kind, oldest first.
func (w *service) events(tenant uuid.UUID, action string) (all []audit.StoredEvent) {
	w.t.Helper()
	for e, err := range w.k.Tenant(tenant).Events().All(w.t.Context(), audit.Filter{Action: action}) {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, *e)
	}
	return all
}

// open opens a client of a tenant's.
func (w *service) open(tenant uuid.UUID, change ...func(*client.Config)) *client.Client {
	w.t.Helper()
	return open(w.t, append([]func(*client.Config){func(c *client.Config) {
		c.URL, c.Key = w.url, w.key(tenant)
	}}, change...)...)
}

func open(t testing.TB, change ...func(*client.Config)) *client.Client {
	t.Helper()
	c := client.Config{SpoolDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, f := range change {
		f(&c)
	}
	k, err := client.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
