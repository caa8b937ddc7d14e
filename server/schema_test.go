package server_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/konstruct/konstruct/internal/devpg"
)

// TestTheDescriptionHolds: schemathesis asks every operation, as its description says and as it does not, with a key
// and without, and in sequences. No answer is one of 5xx, none is outside of the description.
func TestTheDescriptionHolds(t *testing.T) {
	from := filepath.Join(devpg.AssetsDir(), "schemathesis")
	if _, err := os.Stat(from); err != nil {
		t.Fatalf("%v: run scripts/setup test", err)
	}
	w := serve(t)
	checks :=
		"not_a_server_error,status_code_conformance,content_type_conformance," +
			"response_headers_conformance,response_schema_conformance,unsupported_method,ignored_auth," +
			"missing_required_header"
	run := func(name string, args ...string) {
		args = slices.Concat([]string{"-m", "schemathesis.cli", "run", w.url + "/openapi.json", "--exclude-path",
			"/v1/events/stream", "--continue-on-failure", "--no-color", "--seed", "20261126", "--checks", checks}, args)
		cmd := exec.CommandContext(t.Context(), "python3", args...)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "PYTHONPATH="+from)
		out, err := cmd.CombinedOutput()
		summary := string(out[max(0, strings.Index(string(out), "= SUMMARY")):])
		tested := regexp.MustCompile(`(\d+) generated`).FindString(summary)
		t.Logf("%s: %s", name, tested)
		if err != nil || tested == "" {
			t.Errorf("%s: %v\n%.20000s", name, err, out)
		}
	}
	key := "Authorization: Bearer " + w.key(acme)
	// A key that ends itself, and what ends other people's, are asked apart: else everything after is refused.
	ends := []string{"--include-operation-id", "revokeKey", "--include-operation-id", "rotateKey"}
	var both sync.WaitGroup
	both.Go(func() {
		run("with a key", "-H", key, "--exclude-operation-id", "revokeKey", "--exclude-operation-id", "rotateKey",
			"--max-time", "40")
		run("with a key, of keys",
			slices.Concat(ends, []string{"-H", key, "--phases", "coverage,fuzzing", "--max-time", "15"})...)
	})
	both.Go(func() { run("without a key", "--phases", "examples,coverage", "--max-time", "20") })
	both.Wait()
}
