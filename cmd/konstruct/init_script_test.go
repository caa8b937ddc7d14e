package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/provision"
	"github.com/konstruct/konstruct/internal/testkit"
)

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
	code := run(t.Context(), []string{"init", "--print-sql", "--address", address}, &again, &errs)
	if code != 0 || b.env() != before {
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
	if len(b.passwords()) < len(roleSettings()) {
		b.t.Error("the env file lacks passwords")
	}
	for _, password := range b.passwords() {
		if strings.Contains(script, password) {
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
	b.super("postgres", "CREATE ROLE cloud LOGIN CREATEROLE CREATEDB PASSWORD 'cloudword'",
		"CREATE ROLE weak LOGIN PASSWORD 'weakword'")
	as := func(role string) string {
		host := strings.Split(b.cluster.SuperuserURL("postgres"), "@")[1]
		return fmt.Sprintf("postgres://%s:%sword@%s", role, role, host)
	}
	// Who may do nothing is told all that has to be run, and no password is in it.
	out := b.do(exitDenied, "init", "--superuser-database-url", as("weak"))
	if !strings.Contains(out, "CREATE ROLE konstruct_app LOGIN") || !strings.Contains(out, "SCRAM-SHA-256$") ||
		strings.Contains(out, "weakword") {
		t.Error(out)
	}
	// The administrator gets as far as the extension, and says what is to be run where.
	out = b.do(exitDenied, "init", "--superuser-database-url", as("cloud"))
	if !strings.Contains(out, "\\connect konstruct\n  CREATE EXTENSION IF NOT EXISTS vector;") ||
		strings.Contains(out, "cloudword") {
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
	err := conn.QueryRow(t.Context(), `SELECT pg_has_role('cloud', 'konstruct_owner', 'USAGE')`).Scan(&member)
	if err != nil || member {
		t.Errorf("member: %v, %v", member, err)
	}
}
