package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
)

// TestWhatTheDemoEndsWithCanBeRun runs the commands that the demonstration prints last, as they are printed: with the
// private database, and with one of the operator's own.
func TestWhatTheDemoEndsWithCanBeRun(t *testing.T) {
	bin := binary(t)
	clean := func(env []string) (kept []string) {
		for _, kv := range env {
			if !strings.HasPrefix(kv, "KONSTRUCT_") || strings.HasPrefix(kv, "KONSTRUCT_ASSETS_DIR=") {
				kept = append(kept, kv)
			}
		}
		return kept
	}
	t.Run("private", func(t *testing.T) {
		dir := passable(t)
		tryAll(t, bin, dir, clean(os.Environ()), 8)
	})
	t.Run("flags", func(t *testing.T) {
		dir := passable(t)
		tryAll(t, bin, dir, clean(os.Environ()), 8, "--data-dir", filepath.Join(dir, "else where"))
	})
	t.Run("env file", func(t *testing.T) {
		d, dir := testkit.Database(t), passable(t)
		base, password := baseOf(d.URL(appRole))
		text := "KONSTRUCT_DATABASE_URL=" + base + "\nKONSTRUCT_APP_PASSWORD=" + password +
			"\nKONSTRUCT_NOTARY_PASSWORD=" + password + "\n"
		if err := os.WriteFile(filepath.Join(dir, defaultEnvFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tryAll(t, bin, dir, clean(os.Environ()), 7, "--configured")
	})
	t.Run("environment", func(t *testing.T) {
		d, dir := testkit.Database(t), passable(t)
		env := append(clean(os.Environ()), "KONSTRUCT_DATABASE_URL="+d.URL(appRole),
			"KONSTRUCT_NOTARY_DATABASE_URL="+d.URL("konstruct_notary"))
		tryAll(t, bin, dir, env, 7)
	})
}

var gap = regexp.MustCompile(`^  (\S.*?) {2,}(\S.*)$`)

// tryAll runs the demonstration on a small folder, and what it prints at its end in one shell.
func tryAll(t *testing.T, bin, dir string, env []string, want int, flags ...string) {
	t.Helper()
	docs := filepath.Join(dir, "docs")
	if err := os.Mkdir(docs, 0o755); err != nil {
		t.Fatal(err)
	}
	text := "# Pumps\n\nA pump can be returned within thirty days."
	if err := os.WriteFile(filepath.Join(docs, "pumps.md"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	demo := exec.CommandContext(t.Context(), bin, append([]string{"demo", "--dir", docs}, flags...)...)
	demo.Dir, demo.Env = dir, env
	out, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, end, _ := strings.Cut(string(out), "Try this:")
	script, n := "", 0
	for line := range strings.Lines(end) {
		m := gap.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		n++
		script += m[2] + "\n"
		if strings.HasSuffix(m[2], "&") { // a person takes longer
			script += "until grep -qs SUPERUSER dev.env; do sleep 0.2; done\n"
		} else {
			script += "echo \"status $?\"\n"
		}
	}
	if n != want {
		t.Fatalf("%d commands, not %d: %s", n, want, end)
	}
	shell := exec.CommandContext(t.Context(), "bash", "-c", script+"kill %1 2>/dev/null; wait\n")
	shell.Dir, shell.Env = dir, env
	out, err = shell.CombinedOutput()
	got := regexp.MustCompile(`status (\d+)`).FindAllStringSubmatch(string(out), -1)
	if err != nil || len(got) < 7 {
		t.Fatalf("%v: %s\n%s", err, script, out)
	}
	for i, status := range got {
		if last := i == len(got)-1; last == (status[1] == "0") {
			t.Errorf("command %d ends with %s: %s\n%s", i+1, status[1], script, out)
		}
	}
	for _, said := range []string{"thirty days", "This bundle holds", "ERROR:"} {
		if !strings.Contains(string(out), said) {
			t.Errorf("it does not say %q: %s", said, out)
		}
	}
	if text := string(out); !strings.Contains(text, "is refused") && !strings.Contains(text, "permission denied") {
		t.Errorf("the trail was not defended: %s", text)
	}
}
