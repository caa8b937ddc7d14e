package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/server"
	"github.com/konstruct/konstruct/tenantdb"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	acme   = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	globex = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	bot    = uuid.MustParse("aaaaaaaa-0000-4000-8000-00000000000a")
	pepper = []byte("the secret that keys are hashed with")
)

// world is a service with its database.
type world struct {
	t   testing.TB
	d   *testkit.DB
	k   *konstruct.Konstruct
	s   *server.Server
	url string
	log *logBuffer
}

// logBuffer is what was logged so far.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts a service on a database of its own.
func serve(t *testing.T, change ...func(*server.Config)) *world {
	t.Helper()
	return serveOn(t, testkit.Database(t), change...)
}

func serveOn(t *testing.T, d *testkit.DB, change ...func(*server.Config)) *world {
	t.Helper()
	return serveFor(t, d, change...)
}

func serveFor(t testing.TB, d *testkit.DB, change ...func(*server.Config)) *world {
	t.Helper()
	w := &world{t: t, d: d, log: &logBuffer{}}
	logger := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	keys := notary.Keys{File: t.TempDir() + "/key", Name: "example.com/test"}
	signer, err := keys.Load()
	if err != nil {
		t.Fatal(err)
	}
	if w.k, err = konstruct.Open(t.Context(),
		konstruct.Config{DatabaseURL: d.URL("konstruct_app"), AssetsDir: devpg.AssetsDir(), KeySecret: pepper,
			WebhookNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
			Receipts:        signer, GrantLabels: true, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	evidence, err := tenantdb.OpenEvidence(t.Context(), d.URL("konstruct_notary"))
	if err != nil {
		t.Fatal(err)
	}
	law, err := tenantdb.OpenCompliance(t.Context(), d.URL("konstruct_compliance"))
	if err != nil {
		t.Fatal(err)
	}
	c := server.Config{Konstruct: w.k, Evidence: evidence, Compliance: law, Notary: &keys, Version: "test",
		Logger: logger}
	for _, f := range change {
		f(&c)
	}
	if w.s, err = server.New(c); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(w.s.Handler())
	w.url = h.URL
	t.Cleanup(func() {
		h.Close()
		w.s.Close()
		evidence.Close()
		law.Close()
		if err := w.k.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log := w.log.String()
			t.Log(log[max(0, len(log)-10_000):])
		}
	})
	return w
}

// key creates a key of a tenant; without actions it may do all, with every label.
func (w *world) key(tenant uuid.UUID, actions ...access.Permission) string {
	w.t.Helper()
	a := access.KeyRequest{Permissions: actions}
	if len(actions) == 0 {
		a.Labels = []string{tenantdb.AllLabelsName}
	}
	return w.keyOf(tenant, a)
}

func (w *world) keyOf(tenant uuid.UUID, a access.KeyRequest) string {
	w.t.Helper()
	if a.Name == "" {
		a.Name = "a test"
	}
	if len(a.Permissions) == 0 {
		a.Permissions = access.Admin.Permissions()
	}
	key, _, err := w.k.Tenant(tenant).Keys().Create(w.t.Context(), access.LocalOperator(tenant, "test"), a)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// reply is what was answered.
type reply struct {
	*http.Response
	body string
}

// ask asks with a key; header values follow in pairs.
func (w *world) ask(method, path, key, body string, headers ...string) reply {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return w.do(r)
}

func (w *world) do(r *http.Request) reply {
	w.t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{res, string(raw)}
}

// want asks, and holds the status against what is wanted.
func (w *world) want(status int, method, path, key, body string, headers ...string) reply {
	w.t.Helper()
	r := w.ask(method, path, key, body, headers...)
	if r.StatusCode != status {
		w.t.Fatalf("%s %s %.200s: %d %s, want %d", method, path, body, r.StatusCode, r.body, status)
	}
	if status >= 400 && r.Header.Get("Content-Type") != "application/problem+json" {
		w.t.Errorf("%s %s: %d is %s", method, path, status, r.Header.Get("Content-Type"))
	}
	return r
}

// field reads a value of a JSON object by its path.
func (r reply) field(path ...string) any {
	var v any
	if json.Unmarshal([]byte(r.body), &v) != nil {
		return nil
	}
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// items are a list's.
func (r reply) items() []any {
	all, _ := r.field("items").([]any)
	return all
}

func (r reply) text(path ...string) string {
	s, _ := r.field(path...).(string)
	return s
}

// soon waits until something holds.
func (w *world) soon(what string, holds func() bool) {
	w.t.Helper()
	testkit.Until(w.t, what, holds)
}

// sign has the notary, whose key is in a file, sign what is there.
func (w *world) sign(key string) {
	w.t.Helper()
	db, err := tenantdb.OpenEvidence(w.t.Context(), w.d.URL("konstruct_notary"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	n, err := notary.New(notary.Config{DB: db, Keys: notary.Keys{File: key, Name: "example.com/test"},
		Anchor: notary.FileAnchor(w.t.TempDir() + "/checkpoint"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	defer n.Close()
	for more := true; more; {
		if more, err = n.Round(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// writeFile puts text into a file of the test's.
func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// count counts a tenant's events.
func (w *world) count(tenant uuid.UUID, f audit.Filter) (n int) {
	w.t.Helper()
	for _, err := range w.k.Tenant(tenant).Events().All(w.t.Context(), f) {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// tenantOf is one of many tenants.
func tenantOf(i int) uuid.UUID { return uuid.NewSHA1(acme, fmt.Appendf(nil, "%d", i)) }

// untilClosed is a context that ends when a channel is closed.
func untilClosed(ctx context.Context, stop chan struct{}) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-stop:
		case <-ctx.Done():
		}
	}()
	return ctx
}
