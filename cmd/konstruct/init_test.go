package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
		if _, ok := os.LookupEnv(setting); ok {
			t.Fatalf("%s is set", setting)
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
		b.t.Fatalf("konstruct %s: exit code %d, not %d: %s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
	}
	all := out.String() + errs.String()
	for line := range strings.Lines(b.env()) { // a password is printed nowhere
		if _, rest, ok := strings.Cut(line, "://"); ok {
			if password, _, ok := strings.Cut(rest[strings.Index(rest, ":")+1:], "@"); !ok || len(password) > 9 && strings.Contains(all, password) {
				b.t.Errorf("konstruct %s prints a password: %s", strings.Join(args, " "), all)
			}
		}
	}
	return all
}

func (b *bare) init(want int, args ...string) string {
	b.t.Helper()
	return b.do(want, append([]string{"init", "--superuser-database-url", b.cluster.SuperuserURL("postgres")}, args...)...)
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
	if err := os.WriteFile("pumps.md", []byte("# Pumps\n\nA pump can be returned within thirty days."), 0o600); err != nil {
		b.t.Fatal(err)
	}
	kb := func(args ...string) string {
		b.t.Helper()
		out, err := exec.CommandContext(b.t.Context(), bin, append(append([]string{"kb"}, args...), "--tenant", tenantOfInit)...).CombinedOutput()
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

func TestInitMakesABareServerWorkAndASecondRunChangesNothing(t *testing.T) {
	bin, b := binary(t), newBare(t)
	out := b.init(0, "--notary-name", "example.com/audit")
	for _, want := range []string{"created", "role konstruct_worker", "database konstruct", "extension vector", "guard against DDL", "konstruct doctor"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q: %s", want, out)
		}
	}
	if st, err := os.Stat(defaultEnvFile); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if env := b.env(); strings.Contains(env, "SUPERUSER") || !strings.Contains(env, "KONSTRUCT_NOTARY_NAME=example.com/audit") {
		t.Error(env)
	}
	b.works()
	b.serves(bin)
	if out := b.do(0, "notary", "status"); !strings.Contains(out, "agrees") {
		t.Error(out)
	}
	before := b.env()
	for name, step := range initSteps(t, b.init(0, "--json")) {
		if step.State != provision.Exists {
			t.Errorf("the second run: %s is %s", name, step.State)
		}
	}
	if b.env() != before {
		t.Error("the second run changed the env file")
	}
	// Settings of the operator's own stay.
	if err := os.WriteFile(defaultEnvFile, []byte(before+"KONSTRUCT_LISTEN=127.0.0.1:9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.init(0, "--reset-passwords")
	if after := b.env(); !strings.HasSuffix(after, "KONSTRUCT_LISTEN=127.0.0.1:9\n") || strings.Contains(after, line(before, "KONSTRUCT_DATABASE_URL=")) {
		t.Error(after)
	}
	b.do(0, "doctor")
}

// line is the line of a text that begins with something.
func line(text, prefix string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, prefix) {
			return strings.TrimSpace(l)
		}
	}
	return "none"
}

func TestInitSaysThatTheEnvFileIsLost(t *testing.T) {
	b := newBare(t)
	b.init(0)
	old := b.env()
	if err := os.Remove(defaultEnvFile); err != nil {
		t.Fatal(err)
	}
	out := b.init(1)
	if !strings.Contains(out, "these roles exist") || !strings.Contains(out, "--reset-passwords") || b.env() != "" {
		t.Error(out, b.env())
	}
	steps := initSteps(t, b.init(0, "--reset-passwords", "--json"))
	if got := steps["role konstruct_app"].State; got != provision.Changed {
		t.Errorf("the role is %s", got)
	}
	if got := steps["schema"].State; got != provision.Exists {
		t.Errorf("the schema is %s", got)
	}
	b.do(0, "doctor")
	// The old file comes back: its passwords don't work, and are not taken for ones that do.
	if err := os.WriteFile(defaultEnvFile, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := b.init(1); !strings.Contains(out, "no password that works") {
		t.Error(out)
	}
	// A run that was killed after it wrote the file, and before it created the roles.
	b.super("postgres", "DROP DATABASE konstruct", "DROP ROLE konstruct_app")
	if steps := initSteps(t, b.init(0, "--json", "--reset-passwords")); steps["role konstruct_app"].State != provision.Created {
		t.Error(steps)
	}
	if line(b.env(), "KONSTRUCT_DATABASE_URL=") != line(old, "KONSTRUCT_DATABASE_URL=") {
		t.Error("a role that is created does not get the password that was drawn for it")
	}
}

func TestInitRefusesAnotherClustersEnvFile(t *testing.T) {
	b := newBare(t)
	foreign := "# cluster 42, database konstruct\nKONSTRUCT_DATABASE_URL=postgres://konstruct_app:x@127.0.0.1:1/konstruct\n"
	if err := os.WriteFile(defaultEnvFile, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := b.init(exitUsage); !strings.Contains(out, "is of cluster 42, database konstruct") || b.env() != foreign {
		t.Error(out)
	}
	b.init(0, "--env-file", "other.env")
	if b.env() != foreign {
		t.Error("it was changed")
	}
	b.do(0, "doctor", "--env-file", "other.env")
	t.Setenv("KONSTRUCT_ENV_FILE", "other.env")
	b.do(0, "doctor")
	b.init(exitUsage, "--database", "another")
	// Another database of the cluster: the roles keep their passwords, and the notary gets a folder of its own.
	t.Setenv("KONSTRUCT_ENV_FILE", "")
	b.init(0, "--database", "another", "--env-file", "another.env", "--config", "other.env")
	raw, err := os.ReadFile("another.env")
	if err != nil || !strings.Contains(string(raw), "/another\n") || !strings.Contains(string(raw), "another-data") || strings.Contains(string(raw), "/konstruct\n") {
		t.Errorf("%s, %v", raw, err)
	}
	b.do(0, "doctor", "--env-file", "another.env")
	b.do(0, "doctor", "--env-file", "other.env")
}

func TestTheEnvFileIsYoursAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	var out, errs bytes.Buffer
	try := func(want int, args ...string) string {
		t.Helper()
		out.Reset()
		errs.Reset()
		if code := run(t.Context(), args, &out, &errs); code != want {
			t.Errorf("%v: exit code %d: %s%s", args, code, out.String(), errs.String())
		}
		return out.String() + errs.String()
	}
	if err := os.WriteFile(defaultEnvFile, []byte("KONSTRUCT_LISTEN=127.0.0.1:9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := try(0, "config"); !strings.Contains(got, "127.0.0.1:9") || !strings.Contains(got, defaultEnvFile) {
		t.Error(got)
	}
	if got := try(0, "config", "--listen", "127.0.0.1:10"); !strings.Contains(got, "127.0.0.1:10") {
		t.Error(got)
	}
	if err := os.WriteFile("other.conf", []byte("KONSTRUCT_HOSTS=h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := try(0, "config", "--config", "other.conf"); strings.Contains(got, "127.0.0.1:9") {
		t.Error("two configurations are mixed: " + got)
	}
	for _, mode := range []os.FileMode{0o644, 0o640, 0o620} {
		if err := os.Chmod(defaultEnvFile, mode); err != nil {
			t.Fatal(err)
		}
		if got := try(exitUsage, "config"); !strings.Contains(got, "chmod 600 konstruct.env") {
			t.Error(got)
		}
		try(0, "version")
	}
	if err := os.Chmod(defaultEnvFile, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(defaultEnvFile, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if got := try(exitUsage, "config"); !strings.Contains(got, "belongs to user 65534") {
			t.Error(got)
		}
		if err := os.Chown(defaultEnvFile, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("KONSTRUCT_LISTEN", "127.0.0.1:11")
	if got := try(0, "config"); !strings.Contains(got, "127.0.0.1:11") {
		t.Error(got)
	}
	if got := try(exitUsage, "config", "--env-file", "nowhere.env"); !strings.Contains(got, "konstruct init writes it") {
		t.Error(got)
	}
}

func TestInitPrintsAScriptThatDoesTheSame(t *testing.T) {
	b := newBare(t)
	b.super("postgres", "SELECT 1")
	address := strings.Split(strings.Split(b.cluster.SuperuserURL("postgres"), "@")[1], "/")[0]
	var script, errs bytes.Buffer
	if code := run(t.Context(), []string{"init", "--print-sql", "--address", address}, &script, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	b.psql(script.String(), b.cluster.SuperuserURL("postgres"))
	b.works()
	if out := b.do(0, "doctor"); strings.Contains(out, "never installed") {
		t.Error(out)
	}
	if out := b.do(0, "migrate", "up"); !strings.Contains(out, "up to date") {
		t.Error(out)
	}
	// Again, and then init, which finds nothing to do.
	before := b.env()
	var again bytes.Buffer
	if code := run(t.Context(), []string{"init", "--print-sql", "--address", address}, &again, &errs); code != 0 || b.env() != before {
		t.Fatal(errs.String())
	}
	b.psql(again.String(), b.cluster.SuperuserURL("postgres"))
	for name, step := range initSteps(t, b.init(0, "--json")) {
		ours := strings.HasPrefix(name, "env file") || name == "secret of API keys" // of this machine
		if step.State != provision.Exists && !ours {
			t.Errorf("%s is %s", name, step.State)
		}
	}
}

func (b *bare) psql(script, url string) {
	b.t.Helper()
	for l := range strings.Lines(b.env()) {
		if _, rest, ok := strings.Cut(l, "://"); ok && strings.Contains(script, strings.Split(strings.Split(rest, ":")[1], "@")[0]) {
			b.t.Error("the script has a password")
		}
	}
	cmd := exec.CommandContext(b.t.Context(), filepath.Join(b.install.Bin, "psql"), "-X", "-q", url)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "ERROR") {
		b.t.Fatalf("%v: %s", err, out)
	}
}

// TestInitAsACloudsAdministrator: a role that may create roles and databases, and is no superuser.
func TestInitAsACloudsAdministrator(t *testing.T) {
	b := newBare(t)
	b.super("postgres", "CREATE ROLE cloud LOGIN CREATEROLE CREATEDB PASSWORD 'cloudword'", "CREATE ROLE weak LOGIN PASSWORD 'weakword'")
	as := func(role string) string {
		host := strings.Split(b.cluster.SuperuserURL("postgres"), "@")[1]
		return fmt.Sprintf("postgres://%s:%sword@%s", role, role, host)
	}
	// Who may do nothing is told all that has to be run, and no password is in it.
	out := b.do(exitDenied, "init", "--superuser-database-url", as("weak"))
	if !strings.Contains(out, "CREATE ROLE konstruct_app LOGIN") || !strings.Contains(out, "SCRAM-SHA-256$") || strings.Contains(out, "weakword") {
		t.Error(out)
	}
	// The administrator gets as far as the extension, and says what is to be run where.
	out = b.do(exitDenied, "init", "--superuser-database-url", as("cloud"))
	if !strings.Contains(out, "\\connect konstruct\n  CREATE EXTENSION IF NOT EXISTS vector;") || strings.Contains(out, "cloudword") {
		t.Error(out)
	}
	b.super("konstruct", "CREATE EXTENSION vector")
	out = b.do(exitDenied, "init", "--superuser-database-url", as("cloud"))
	if !strings.Contains(out, "migrate guard --print-sql") {
		t.Error(out)
	}
	b.do(0, "init", "--superuser-database-url", as("cloud"), "--no-guard")
	b.works()
	guard := b.do(0, "migrate", "guard", "--print-sql")
	b.psql(guard, b.cluster.SuperuserURL("konstruct"))
	steps := initSteps(t, b.do(0, "init", "--superuser-database-url", as("cloud"), "--json"))
	if steps["guard against DDL"].State != provision.Exists {
		t.Error(steps)
	}
	// It is no member of what it created.
	var member bool
	conn := testkit.Connect(t, b.cluster.SuperuserURL("postgres"))
	if err := conn.QueryRow(t.Context(), `SELECT pg_has_role('cloud', 'konstruct_owner', 'SET') OR pg_has_role('cloud', 'konstruct_owner', 'USAGE')`).Scan(&member); err != nil || member {
		t.Errorf("member: %v, %v", member, err)
	}
}
