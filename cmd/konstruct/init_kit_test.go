package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/provision"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/migrations"
)

// bare is a cluster without anything of ours, as a stranger's is, with a working folder for init.
type bare struct {
	t       *testing.T
	install devpg.Installation
	cluster *devpg.Cluster
	dir     string
}

func newBare(t *testing.T) *bare {
	t.Helper()
	b := &bare{t: t, dir: t.TempDir()}
	var err error
	if b.install, err = devpg.Find(devpg.AssetsDir()); err != nil {
		t.Fatal(err)
	}
	if b.cluster, err = devpg.Start(t.Context(), b.install, filepath.Join(passable(t), "cluster")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.cluster.Stop)
	b.super("template1", "DROP EXTENSION vector")
	b.super("postgres", "DROP DATABASE konstruct")
	for _, role := range migrations.Roles() {
		b.super("postgres", "DROP ROLE "+role.Name)
	}
	for _, setting := range roleSettings() {
		for _, name := range []string{setting, passwordSetting(setting)} {
			if _, ok := os.LookupEnv(name); ok {
				t.Fatalf("%s is set", name)
			}
		}
	}
	t.Chdir(b.dir)
	return b
}

// super runs statements as the superuser.
func (b *bare) super(database string, statements ...string) {
	b.t.Helper()
	conn := testkit.Connect(b.t, b.cluster.SuperuserURL(database))
	defer conn.Close(context.Background())
	for _, sql := range statements {
		if _, err := conn.Exec(b.t.Context(), sql); err != nil {
			b.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// do runs a command that must end with a code, and returns what it printed.
func (b *bare) do(want int, args ...string) string {
	b.t.Helper()
	var out, errs bytes.Buffer
	if code := run(b.t.Context(), args, &out, &errs); code != want {
		b.t.Fatalf("konstruct %s: exit code %d, not %d: %s%s", strings.Join(args, " "), code, want, &out, &errs)
	}
	all := out.String() + errs.String()
	for _, password := range b.passwords() { // printed nowhere
		if len(password) > 9 && strings.Contains(all, password) {
			b.t.Errorf("konstruct %s prints a password: %s", strings.Join(args, " "), all)
		}
	}
	return all
}

// passwords are those of the env file: in settings of their own, or in URLs.
func (b *bare) passwords() (all []string) {
	b.t.Helper()
	for line := range strings.Lines(b.env()) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if strings.HasSuffix(key, "_PASSWORD") {
			all = append(all, value)
		} else if u, err := url.Parse(value); err == nil && u.User != nil {
			password, ok := u.User.Password()
			if !ok {
				b.t.Errorf("%s names a user without a password", key)
			}
			all = append(all, password)
		}
	}
	return all
}

func (b *bare) init(want int, args ...string) string {
	b.t.Helper()
	return b.do(want, append([]string{"init", "--superuser-database-url", b.cluster.SuperuserURL("postgres")},
		args...)...)
}

func (b *bare) env() string {
	raw, err := os.ReadFile(defaultEnvFile)
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	return string(raw)
}

// initSteps are the steps of init --json by name.
func initSteps(t *testing.T, out string) map[string]provision.Step {
	t.Helper()
	var report struct{ Steps []provision.Step }
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	steps := map[string]provision.Step{}
	for _, s := range report.Steps {
		steps[s.Name] = s
	}
	return steps
}

// works runs what somebody does first on a database that was prepared: by the env file alone.
func (b *bare) works() {
	b.t.Helper()
	if out := b.do(0, "doctor"); strings.Contains(out, "FAIL") || strings.Contains(out, "private database") {
		b.t.Error(out)
	}
	b.do(0, "audit", "log", "--tenant", tenantOfInit, "--action", "llm_call", "--input", "Where is order 17?")
	b.do(0, "notary", "run", "--once")
	if out := b.do(0, "audit", "verify"); !strings.Contains(out, "0 differ") {
		b.t.Error(out)
	}
}

// serves takes a file in and finds it; files are read by the program itself in another process.
func (b *bare) serves(bin string) {
	b.t.Helper()
	text := "# Pumps\n\nA pump can be returned within thirty days."
	if err := os.WriteFile("pumps.md", []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	kb := func(args ...string) string {
		b.t.Helper()
		args = append(append([]string{"kb"}, args...), "--tenant", tenantOfInit)
		out, err := exec.CommandContext(b.t.Context(), bin, args...).CombinedOutput()
		if err != nil {
			b.t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	kb("ingest", "pumps.md")
	if out := kb("search", "How long can a pump be returned?"); !strings.Contains(out, "thirty days") {
		b.t.Error(out)
	}
}

const tenantOfInit = "11111111-1111-4111-8111-111111111111"
