package hook_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/hook"
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
	t    testing.TB
	k    *konstruct.Konstruct
	url  string
	away atomic.Bool
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

// keyFile returns a file of a tenant's key that may write events, and nothing else.
func (w *service) keyFile(tenant uuid.UUID) string {
	w.t.Helper()
	key, _, err := w.k.Tenant(tenant).Keys().Create(w.t.Context(), access.LocalOperator(tenant, "test"),
		access.KeyRequest{Name: "a hook", Permissions: []access.Permission{access.EventsWrite}})
	if err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// events are what a tenant's agents did, oldest first.
func (w *service) events(tenant uuid.UUID) (all []audit.StoredEvent) {
	w.t.Helper()
	for e, err := range w.k.Tenant(tenant).Events().All(w.t.Context(), audit.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if !strings.HasPrefix(e.Action, "access_") {
			all = append(all, *e)
		}
	}
	return all
}

// program runs the hook in this process.
type program struct {
	t    testing.TB
	dir  string
	args []string
}

// run handles one input; it returns standard output, standard error and the exit code.
func (p program) run(input string, args ...string) (out, said string, code int) {
	p.t.Helper()
	var o, e bytes.Buffer
	c := hook.Command{In: strings.NewReader(input), Out: &o, Err: &e, Version: "test",
		Getenv: func(string) string { return "" }}
	args = slices.Concat(args, []string{"--capture-dir", p.dir}, p.args)
	code = c.Run(context.WithoutCancel(p.t.Context()), args)
	return o.String(), e.String(), code
}

func (p program) deliver() {
	p.t.Helper()
	if out, said, code := p.run("", "deliver"); code != 0 {
		p.t.Fatalf("deliver: %d %s %s", code, out, said)
	}
}

// program returns the hook of a tenant's agent.
func (w *service) program(tenant uuid.UUID, args ...string) program {
	return program{w.t, w.t.TempDir(), append([]string{"--url", w.url, "--key-file", w.keyFile(tenant)}, args...)}
}

// build builds the program.
func build(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "konstruct-hook")
	cmd := exec.Command("go", "build", "-o", path, "../cmd/konstruct-hook")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func spooled(t testing.TB, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "new", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) { // delivered since it was listed
			return spooled(t, dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	return all.String()
}
