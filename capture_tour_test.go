package konstruct_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/testkit"
)

// captureTour runs docs/capture-tour/tour.sh as a reader who types an answer, or who gives arguments, and returns what
// it prints. It is skipped where the agent's SDKs are missing.
func captureTour(t *testing.T, answer string, args ...string) string {
	t.Helper()
	testkit.NeedSDKs(t, testkit.NewestSDKs)
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "docs", "capture-tour"), os.DirFS("docs/capture-tour")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(testkit.Build(t), filepath.Join(dir, "bin", "konstruct")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tour := exec.CommandContext(ctx, "bash", append([]string{filepath.Join(dir, "docs/capture-tour/tour.sh")},
		args...)...)
	tour.Env = append(environment(), "TMPDIR="+dir)
	tour.Cancel = func() error { return tour.Process.Signal(os.Interrupt) } // so that it stops what it started
	tour.WaitDelay = 10 * time.Second
	tour.Stdin = strings.NewReader(answer)
	out, err := tour.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "tmp.*")); err != nil || len(left) > 0 {
		t.Errorf("the tour leaves %v: %v", left, err)
	}
	return string(out)
}

// tourKinds are what changes from one capture tour to the next, before the kinds of all sessions.
var tourKinds = []struct {
	pattern *regexp.Regexp
	is      string
}{
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "TRACE"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`/\S+(/data/notary/checkpoint)`), "FOLDER$1"},
	{regexp.MustCompile(`(\d\d:\d\d:\d\d\.\d{3}Z)( +\d+ ms)?`), "$1"}, // what takes no millisecond has no latency
	// Latencies of statistics.
	{regexp.MustCompile(`(?m)^( +\S* +\w+ +\d+ +\d+)( +\d+){3}( +\d+ +\d+)$`), "$1 MS$3"},
}

// TestTheCaptureTour runs it for real: a person's answer stands before the tool's call, the run is a tree, and a
// stranger verifies it. docs/capture.md shows what it prints.
func TestTheCaptureTour(t *testing.T) {
	out := captureTour(t, "", "--yes")
	inOrder(t, out, `open +\S+ +people decide about money +support`, `refunds\.txt: No such file`,
		`agent says: You get 129\.00 EUR back`, `(?m)^order 17: 129\.00 EUR$`,
		`agent_run support`, `llm_call gpt-5-mini .*look_up_order\(\{"order":17\}\)`,
		`tool_invocation look_up_order +\{"order":17\} → .*Order 17: one pump`, `call_details`,
		`llm_call gpt-5-mini .*refund_order\(\{"amount":129,"order":17\}\)`,
		`tool_invocation refund_order +\{"order":17,"amount":129\} → .*Refunded 129`, `call_details`,
		`escalation refund_order`, `escalation_resolved by ada .*allow, the customer sent a photo`,
		`llm_call gpt-5-mini .*You get 129\.00 EUR back`,
		`gpt-5-mini +llm_call +3 +0 .* 481 +63\b`, // what the fake model counts
		`10 events that match`, `This bundle holds\.`, `✓ authentic`, `✓ unaltered: each of the 10 events`,
		`✓ complete`)
	answered, ran := timeOf(t, out, "escalation_resolved by ada"), timeOf(t, out, "tool_invocation refund_order")
	if answered >= ran {
		t.Errorf("the tool ran at %s, and was allowed at %s", ran, answered)
	}

	page, err := os.ReadFile("docs/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```\n(1\\. Start the service.*?)\n```").FindSubmatch(page)
	if shown == nil {
		t.Fatal("docs/capture.md does not show the tour")
	}
	if page, printed := tourLines(string(shown[1])), tourLines(out); !matches(page, printed) {
		t.Errorf("docs/capture.md shows\n%s\nand the tour prints\n%s", strings.Join(page, "\n"),
			strings.Join(printed, "\n"))
	}
}

// TestTheCaptureTourIsDenied: the reader may say no, and then the shop pays nothing.
func TestTheCaptureTourIsDenied(t *testing.T) {
	out := captureTour(t, "deny, he has had one\n")
	inOrder(t, out, `agent says: I may not refund it`, `refunds\.txt: No such file`,
		`tool_invocation refund_order denied`, `escalation_resolved by ada .*deny, he has had one`,
		`This bundle holds\.`)
}

// timeOf returns when the tree of a run says that something happened.
func timeOf(t *testing.T, tree, what string) string {
	t.Helper()
	at := regexp.MustCompile(`(\d\d:\d\d:\d\d\.\d{3})Z  (\d+ ms  )?` + what).FindStringSubmatch(tree)
	if at == nil {
		t.Fatalf("the tree has no %s:\n%s", what, tree)
	}
	return at[1]
}

// inOrder holds that a text has what patterns say, each behind the one before.
func inOrder(t *testing.T, text string, patterns ...string) {
	t.Helper()
	rest := text
	for _, p := range patterns {
		at := regexp.MustCompile(p).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("there is no %q, or not in this order, in\n%s", p, text)
		}
		rest = rest[at[1]:]
	}
}

// tourLines are the lines of what the tour prints, without empty ones and without what changes.
func tourLines(text string) []string {
	for _, k := range tourKinds {
		text = k.pattern.ReplaceAllString(text, k.is)
	}
	return slices.DeleteFunc(normal(linesOf(text)), func(line string) bool { return line == "" })
}
