package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestInitRefusesAnotherClustersEnvFile(t *testing.T) {
	b := newBare(t)
	foreign := "# cluster 42, database konstruct\n" +
		"KONSTRUCT_DATABASE_URL=postgres://konstruct_app:x@127.0.0.1:1/konstruct\n"
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
	got := string(raw)
	if err != nil || !strings.Contains(got, "/another\n") || !strings.Contains(got, "another-data") ||
		strings.Contains(got, "/konstruct\n") {
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
	if got := try(exitUsage, "config", "--env-file", "nowhere.env"); !strings.Contains(got,
		"konstruct init writes it") {
		t.Error(got)
	}
}
