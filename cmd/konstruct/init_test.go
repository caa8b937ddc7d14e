package main

import (
	"os"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/provision"
)

func TestInitMakesABareServerWorkAndASecondRunChangesNothing(t *testing.T) {
	bin, b := binary(t), newBare(t)
	out := b.init(0, "--notary-name", "example.com/audit")
	for _, want := range []string{"created", "role konstruct_worker", "database konstruct", "extension vector",
		"guard against DDL", "konstruct doctor"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q: %s", want, out)
		}
	}
	if st, err := os.Stat(defaultEnvFile); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	env := b.env()
	if strings.Contains(env, "SUPERUSER") || line(env, "KONSTRUCT_NOTARY_NAME=example.com/audit") == "none" {
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
	after := b.env()
	if !strings.HasSuffix(after, "KONSTRUCT_LISTEN=127.0.0.1:9\n") ||
		strings.Contains(after, line(before, "KONSTRUCT_APP_PASSWORD=")) ||
		line(after, "KONSTRUCT_DATABASE_URL=") != line(before, "KONSTRUCT_DATABASE_URL=") {
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
	steps = initSteps(t, b.init(0, "--json", "--reset-passwords"))
	if steps["role konstruct_app"].State != provision.Created {
		t.Error(steps)
	}
	if got := line(b.env(), "KONSTRUCT_APP_PASSWORD="); got == "none" || got != line(old, "KONSTRUCT_APP_PASSWORD=") {
		t.Error("a role that is created does not get the password that was drawn for it")
	}
}
