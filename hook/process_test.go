package hook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// hookInput is the input of one hook about a call.
func hookInput(event string, n int, more string) string {
	return fmt.Sprintf(`{"session_id":"s1","cwd":"/w","hook_event_name":%q,"tool_name":"Bash",`+
		`"tool_input":{"command":"echo %d"},"tool_use_id":"toolu_%d"%s}`, event, n, n, more)
}

// start runs the built program; the error is an *exec.ExitError where it did not end with 0.
func start(ctx context.Context, bin, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if said.Len() > 0 {
		err = errors.Join(err, errors.New(said.String()))
	}
	return out.String(), err
}

// calls counts the calls on a tenant's trail by their arguments.
func (w *service) calls() map[string]int {
	w.t.Helper()
	n := map[string]int{}
	for _, e := range w.events(acme) {
		if e.Action == audit.ActionToolCall {
			n[*e.Input]++
		}
	}
	return n
}

// stopFlush ends the process that delivers from a spool, by the lock that it has.
func stopFlush(t testing.TB, dir string, how syscall.Signal) bool {
	t.Helper()
	link, _ := filepath.EvalSymlinks(dir)
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	stopped := false
	for _, path := range all {
		raw, err := os.ReadFile(path)
		args := strings.Split(string(raw), "\x00")
		if err != nil || !slices.Contains(args, "flush") ||
			!slices.Contains(args, dir) && !slices.Contains(args, link) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err == nil && syscall.Kill(pid, how) == nil {
			stopped = true
		}
	}
	return stopped
}

// TestFiftyHooksAtOnceLoseNothing while the service is unavailable and back, and the process that delivers is killed.
func TestFiftyHooksAtOnceLoseNothing(t *testing.T) {
	bin := build(t)
	w := serve(t, `{}`)
	dir, key := t.TempDir(), w.keyFile(acme)
	args := []string{"--url", w.url, "--key-file", key, "--capture-dir", dir, "--program", "claude-code"}
	t.Cleanup(func() { stopFlush(t, dir, syscall.SIGTERM) })
	const rounds, at = 4, 50
	for round := range rounds {
		w.away.Store(round%2 == 0)
		var all sync.WaitGroup
		for i := range at {
			all.Go(func() {
				n := round*at + i
				for _, event := range []string{"PreToolUse", "PostToolUse"} {
					out, err := start(t.Context(), bin, hookInput(event, n, `,"tool_response":"ok"`), args...)
					if out != "" || err != nil && !strings.Contains(err.Error(), "rules on tools are not known") {
						t.Errorf("%s %d: %q, %v", event, n, out, err)
					}
				}
			})
		}
		all.Wait()
		stopFlush(t, dir, syscall.SIGKILL) // in the middle of delivery
	}
	w.away.Store(false)
	testkit.Until(t, "nothing waits", func() bool {
		out, err := start(t.Context(), bin, "", append([]string{"deliver"}, args...)...)
		return err == nil && strings.Contains(out, " 0 rejected") && spooled(t, dir) == ""
	})
	got := w.calls()
	if len(got) != rounds*at {
		t.Errorf("%d calls of %d", len(got), rounds*at)
	}
	for call, n := range got {
		if n != 1 {
			t.Errorf("%s is there %d times", call, n)
		}
	}
}

// TestAKilledHookLosesNoCallThatRan: the hook after the tool is killed at any moment, and the call is on the trail once
// the session ends: with its result, or as one without.
func TestAKilledHookLosesNoCallThatRan(t *testing.T) {
	bin := build(t)
	w := serve(t, `{}`)
	dir := t.TempDir()
	args := []string{"--url", w.url, "--key-file", w.keyFile(acme), "--capture-dir", dir, "--program", "claude-code"}
	t.Cleanup(func() { stopFlush(t, dir, syscall.SIGTERM) })
	const n = 40
	for i := range n {
		if out, err := start(t.Context(), bin, hookInput("PreToolUse", i, ""), args...); out != "" || err != nil {
			t.Fatalf("%q, %v", out, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*300*time.Microsecond)
		_, _ = start(ctx, bin, hookInput("PostToolUse", i, `,"tool_response":"ok"`), args...) // SIGKILL
		cancel()
	}
	if _, err := start(t.Context(), bin, `{"session_id":"s1","hook_event_name":"SessionEnd"}`, args...); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "nothing waits", func() bool {
		_, _ = start(t.Context(), bin, "", append([]string{"deliver"}, args...)...)
		return spooled(t, dir) == ""
	})
	got := w.calls()
	if len(got) != n {
		t.Errorf("%d calls of %d", len(got), n)
	}
	for call, n := range got {
		if n != 1 {
			t.Errorf("%s is there %d times", call, n)
		}
	}
}

// TestTheHookStartsAProcessThatDelivers and does not wait for it.
func TestTheHookStartsAProcessThatDelivers(t *testing.T) {
	bin := build(t)
	w := serve(t, `{"tenants":{"`+acme.String()+`":{"tools":[{"tool":"Bash","action":"deny"}]}}}`)
	dir := t.TempDir()
	args := []string{"--url", w.url, "--key-file", w.keyFile(acme), "--capture-dir", dir, "--program", "claude-code"}
	t.Cleanup(func() { stopFlush(t, dir, syscall.SIGTERM) })
	out, err := start(t.Context(), bin, hookInput("PreToolUse", 1, ""), args...)
	if err != nil || !strings.Contains(out, `"deny"`) {
		t.Fatalf("%s, %v", out, err)
	}
	testkit.Until(t, "the denied call lands by itself", func() bool { return len(w.calls()) == 1 })
	// While the service hangs, a hook does not.
	w.away.Store(true)
	begin := time.Now()
	if _, err := start(t.Context(), bin, hookInput("PostToolUse", 2, ""), args...); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v", took)
	}
	w.away.Store(false)
	testkit.Until(t, "what waited lands by itself", func() bool { return len(w.calls()) == 2 })
	if !stopFlush(t, dir, syscall.SIGTERM) {
		t.Error("no process delivers")
	}
}

// TestAColdCallIsFast: 20 ms is the promise on a quiet machine; this one may be busy, so the program is compared with
// one that does nothing.
func TestAColdCallIsFast(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures")
	}
	bin := build(t)
	w := serve(t, `{"tenants":{"`+acme.String()+`":{"tools":[{"tool":"Write","arguments":{"/file_path":"*.env"},`+
		`"action":"deny"}]}}}`)
	dir := t.TempDir()
	args := []string{"--url", w.url, "--key-file", w.keyFile(acme), "--capture-dir", dir, "--program", "claude-code"}
	t.Cleanup(func() { stopFlush(t, dir, syscall.SIGTERM) })
	const n = 200
	var nothing, pre, post []time.Duration
	measure := func(to *[]time.Duration, bin, input string, args ...string) {
		begin := time.Now()
		if _, err := start(t.Context(), bin, input, args...); err != nil {
			t.Fatal(err)
		}
		*to = append(*to, time.Since(begin))
	}
	for i := range n {
		measure(&nothing, "/bin/true", "")
		measure(&pre, bin, hookInput("PreToolUse", i, ""), args...)
		measure(&post, bin, hookInput("PostToolUse", i, `,"tool_response":"ok"`), args...)
	}
	for _, d := range [][]time.Duration{nothing, pre, post} {
		slices.Sort(d)
	}
	t.Logf("p50, p99 of %d cold calls: /bin/true %v, %v; before a tool %v, %v; after it %v, %v", n, nothing[n/2],
		nothing[n*99/100], pre[n/2], pre[n*99/100], post[n/2], post[n*99/100])
	if pre[n/2] > 20*time.Millisecond+nothing[n/2] || post[n/2] > 20*time.Millisecond+nothing[n/2] {
		t.Errorf("the median of a cold call is above 20 ms")
	}
}
