package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
)

// configured is what konstruct config says of each setting.
func configured(t *testing.T, env ...string) map[string]struct{ Name, Value, From string } {
	t.Helper()
	for _, kv := range env {
		key, value, _ := strings.Cut(kv, "=")
		t.Setenv(key, value)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"config", "--json"}, &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	var lines []struct{ Name, Value, From string }
	if err := json.Unmarshal(out.Bytes(), &lines); err != nil {
		t.Fatal(err)
	}
	settings := map[string]struct{ Name, Value, From string }{}
	for _, l := range lines {
		settings[l.Name] = l
	}
	return settings
}

func TestOneURLAndPasswordsAreEnough(t *testing.T) {
	alone(t)
	got := configured(t, "KONSTRUCT_DATABASE_URL=postgres://db:5432/k?sslmode=require", "KONSTRUCT_APP_PASSWORD=apple",
		"KONSTRUCT_NOTARY_PASSWORD=nut/@", "KONSTRUCT_WORKER_DATABASE_URL=postgres://own:pw@elsewhere/k")
	for name, want := range map[string][2]string{
		"KONSTRUCT_DATABASE_URL": {"postgres://konstruct_app:…@db:5432/k?sslmode=require", "derived from " +
			"KONSTRUCT_DATABASE_URL (environment) with KONSTRUCT_APP_PASSWORD (environment)"},
		"KONSTRUCT_NOTARY_DATABASE_URL": {"postgres://konstruct_notary:…@db:5432/k?sslmode=require", "derived from " +
			"KONSTRUCT_DATABASE_URL (environment) with KONSTRUCT_NOTARY_PASSWORD (environment)"},
		"KONSTRUCT_WORKER_DATABASE_URL":     {"postgres://own:…@elsewhere/k", "environment"},
		"KONSTRUCT_OWNER_DATABASE_URL":      {"", "not derived: no password of konstruct_owner is known"},
		"KONSTRUCT_COMPLIANCE_DATABASE_URL": {"", "not derived: no password of konstruct_compliance is known"},
		"KONSTRUCT_SUPERUSER_DATABASE_URL":  {"", "default"},
		"KONSTRUCT_NOTARY_PASSWORD":         {"…", "environment"},
	} {
		if got[name].Value != want[0] || got[name].From != want[1] {
			t.Errorf("%s is %s, from %s", name, got[name].Value, got[name].From)
		}
	}
}

// TestNoRoleIsReachedAsAnother: a user in the base is the application's alone, and what is set to nothing stays so.
func TestNoRoleIsReachedAsAnother(t *testing.T) {
	for _, base := range []string{"postgres://konstruct_app:pw@db/k", "postgres://db/k?user=konstruct_app&password=pw",
		"host=db dbname=k user=konstruct_app password=pw"} {
		t.Run(base, func(t *testing.T) {
			alone(t)
			got := configured(t, "KONSTRUCT_DATABASE_URL="+base, "KONSTRUCT_NOTARY_PASSWORD=nut")
			if v := got["KONSTRUCT_NOTARY_DATABASE_URL"].Value; !strings.Contains(v, "konstruct_notary") ||
				strings.Contains(v, "konstruct_app") {
				t.Errorf("the notary connects by %s", v)
			}
			for _, role := range []string{"OWNER", "WORKER", "COMPLIANCE"} {
				if v := got["KONSTRUCT_"+role+"_DATABASE_URL"].Value; v != "" {
					t.Errorf("%s connects by %s", role, v)
				}
			}
			if got["KONSTRUCT_DATABASE_URL"].From != "environment" {
				t.Errorf("the application's URL is from %s", got["KONSTRUCT_DATABASE_URL"].From)
			}
			got = configured(t, "KONSTRUCT_NOTARY_DATABASE_URL=")
			if v := got["KONSTRUCT_NOTARY_DATABASE_URL"].Value; v != "" {
				t.Errorf("set to nothing, the notary connects by %s", v)
			}
		})
	}
}

func TestASocketOrACertificateNeedsNoPassword(t *testing.T) {
	for _, base := range []string{"postgres:///k?host=/run/postgresql", "host=/run/postgresql dbname=k"} {
		t.Run(base, func(t *testing.T) {
			alone(t)
			got := configured(t, "KONSTRUCT_DATABASE_URL="+base)["KONSTRUCT_OWNER_DATABASE_URL"]
			if !strings.Contains(got.Value, "konstruct_owner") || !strings.HasSuffix(got.From, "authentication") {
				t.Errorf("%s, from %s", got.Value, got.From)
			}
			// Whoever gives passwords gives those that shall be used.
			got = configured(t, "KONSTRUCT_APP_PASSWORD=apple")["KONSTRUCT_OWNER_DATABASE_URL"]
			if got.Value != "" {
				t.Errorf("%s, from %s", got.Value, got.From)
			}
		})
	}
}

// alone is a folder without an env file, and an environment without what pgx reads by itself.
func alone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("PGPASSFILE", filepath.Join(dir, "pgpass"))
	for _, name := range []string{"PGUSER", "PGPASSWORD", "PGSERVICE", "PGSSLCERT"} {
		t.Setenv(name, "")
	}
	return dir
}

// TestOneURLAndAPasswordFileWork: on a real database, each command as its own role.
func TestOneURLAndAPasswordFileWork(t *testing.T) {
	d, dir := testkit.Database(t), alone(t)
	base, password := baseOf(d.URL(appRole))
	t.Setenv("KONSTRUCT_DATABASE_URL", base)
	t.Setenv("KONSTRUCT_DATA_DIR", dir)
	do := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != want {
			t.Fatalf("%v: %d: %s%s", args, code, &out, &errs)
		}
		if strings.Contains(out.String()+errs.String(), password) {
			t.Errorf("%v prints a password", args)
		}
		return out.String() + errs.String()
	}
	write := func(roles ...string) {
		t.Helper()
		text := ""
		for _, role := range roles {
			text += "127.0.0.1:*:*:" + role + ":" + password + "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, "pgpass"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(appRole)
	do(0, "audit", "log", "--tenant", tenantOfInit, "--action", "llm_call")
	for command, role := range map[string]string{"notary run --once": "NOTARY", "migrate status": "OWNER",
		"audit hold list --tenant " + tenantOfInit: "COMPLIANCE", "kb work": "WORKER"} {
		out := do(exitUsage, strings.Fields(command)...)
		if !strings.Contains(out, "needs KONSTRUCT_"+role+"_DATABASE_URL") ||
			!strings.Contains(out, "KONSTRUCT_"+role+"_PASSWORD") {
			t.Errorf("%s without its role: %s", command, out)
		}
	}
	write(appRole, "konstruct_notary", "konstruct_owner", "konstruct_compliance", "konstruct_worker")
	do(0, "notary", "run", "--once")
	do(0, "migrate", "status")
	do(0, "audit", "hold", "list", "--tenant", tenantOfInit)
	if out := do(0, "audit", "verify"); !strings.Contains(out, "1 event matches") {
		t.Error(out)
	}
	if out := do(0, "config"); !strings.Contains(out, filepath.Join(dir, "pgpass")) {
		t.Error(out)
	}
	t.Setenv("KONSTRUCT_DATABASE_URL", "")
	t.Setenv("KONSTRUCT_APP_PASSWORD", "apple")
	out := do(exitUsage, "doctor")
	if !strings.Contains(out, "KONSTRUCT_APP_PASSWORD is set, and KONSTRUCT_DATABASE_URL") {
		t.Error(out)
	}
}

// TestAnOlderEnvFileStaysAsItIs: one with a URL for each role is read, and init keeps its form.
func TestAnOlderEnvFileStaysAsItIs(t *testing.T) {
	b := newBare(t)
	b.init(0)
	env, err := openInitEnv(defaultEnvFile)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(b.env(), "://") != 1 || strings.Count(b.env(), "_PASSWORD=") != len(roleSettings()) {
		t.Errorf("it is not one URL and the roles' passwords: %s", b.env())
	}
	old := ""
	for role, setting := range roleSettings() {
		old += setting + "=" + env.url(role) + "\n"
	}
	for line := range strings.Lines(b.env()) {
		if !strings.Contains(line, "://") && !strings.Contains(line, "_PASSWORD=") {
			old += line
		}
	}
	if err := os.WriteFile(defaultEnvFile, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	b.init(0)
	if b.env() != old {
		t.Errorf("init changed %s to %s", old, b.env())
	}
	b.works()
	b.init(0, "--reset-passwords")
	if strings.Contains(b.env(), "_PASSWORD=") || b.env() == old {
		t.Errorf("new passwords changed its form: %s", b.env())
	}
	b.works()
}

func TestAStringOfKeywordsIsABaseToo(t *testing.T) {
	for base, want := range map[string]string{
		`host=h user = a password = 'p\' q' dbname=d`: `host=h dbname=d user=konstruct_notary password='n\'t'`,
		"user=a host=h password=p":                    `host=h user=konstruct_notary password='n\'t'`,
		"host=h dbname=d":                             `host=h dbname=d user=konstruct_notary password='n\'t'`,
	} {
		if got := asRole(base, "konstruct_notary", "n't"); got != want {
			t.Errorf("%s becomes %s", base, got)
		}
	}
}
