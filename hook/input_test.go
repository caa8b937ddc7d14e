package hook_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/client"
	"github.com/konstruct/konstruct/hook"
	"github.com/konstruct/konstruct/internal/testkit"
)

// TestInputThatNobodyExpectsBreaksNoAgent and is on the trail as what it was, or said.
func TestInputThatNobodyExpectsBreaksNoAgent(t *testing.T) {
	w := serve(t, `{}`)
	for name, c := range map[string]struct {
		input string
		want  string // the event in short
		code  int
	}{
		"nothing":       {"", "hook_event !unreadable_input", 1},
		"no JSON":       {"hello", "hook_event !unreadable_input", 1},
		"cut":           {`{"hook_event_name":"PreToolUse","tool_na`, "hook_event !unreadable_input", 1},
		"a list":        {`[1,2]`, "hook_event !unreadable_input", 1},
		"no UTF-8, NUL": {"\xff\xfe\x00{", "hook_event !unreadable_input", 1},
		"an empty one":  {`{}`, "hook_event", 0},
		"a new hook": {`{"session_id":"s","cwd":"/w","hook_event_name":"WorktreeCreate","x":{"konstruct.a":1}}`,
			"hook_event", 0},
		"wrong types": {`{"session_id":7,"cwd":["/w"],"hook_event_name":"PostToolUse","tool_name":{"a":1},` +
			`"tool_input":"x","tool_response":null,"tool_use_id":12,"duration_ms":"soon"}`, `tool_invocation`, 0},
		"no names":       {`{"hook_event_name":"PostToolUse"}`, "tool_invocation", 0},
		"an object name": {`{"hook_event_name":{"a":1}}`, "hook_event", 0},
		"a byte mark": {"\ufeff" + `{"hook_event_name":"Notification","message":"hi","cwd":"/w","session_id":"s"}`,
			"notification", 0},
		"deep": {`{"hook_event_name":"Notification","a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
			"notification", 0},
		"half a surrogate": {`{"hook_event_name":"UserPromptSubmit","prompt":"a\ud800b\u0000c","cwd":"/w"}`,
			"user_prompt", 0},
		"long names": {`{"hook_event_name":"PostToolUse","session_id":"` + strings.Repeat("s", 1e5) +
			`","tool_name":"` + strings.Repeat("é", 1e5) + `"}`, "tool_invocation", 0},
	} {
		p := w.program(acme)
		before := len(w.events(acme))
		out, said, code := p.run(c.input)
		if out != "" || code != c.code || (said != "") != (code != 0) {
			t.Errorf("%s: %d, %q, %q", name, code, out, said)
		}
		p.deliver()
		all := w.events(acme)[before:]
		if len(all) != 1 {
			t.Fatalf("%s: %d events; rejected: %s", name, len(all), rejected(p))
		}
		if got := line(all[0]); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", name, got)
		}
		if strings.HasPrefix(c.want, "hook_event !") && c.input != "" && all[0].Input == nil {
			t.Errorf("%s: the input is not there", name)
		}
	}
}

func rejected(p program) string {
	out, _, _ := p.run("", "rejected")
	return out
}

// TestFiftyMegabytesAreDecidedConservatively: rules deny what they can't read, and the agent gets an answer.
func TestFiftyMegabytesAreDecidedConservatively(t *testing.T) {
	w := serve(t, `{"tenants":{"`+acme.String()+`":{"tools":[
		{"tool":"Write","arguments":{"/file_path":"*.env"},"action":"deny"}]}}}`)
	p := w.program(acme)
	big := `{"session_id":"s","cwd":"/w","hook_event_name":%q,"tool_name":%q,"tool_use_id":%[2]q,"tool_input":` +
		`{"file_path":"a.txt","content":"` + strings.Repeat("x", 50<<20) + `"},"tool_response":"` +
		strings.Repeat("y", 5<<20) + `"}`
	begin := time.Now()
	out, said, code := p.run(fmt.Sprintf(big, "PreToolUse", "Write"))
	if !strings.Contains(out, `"deny"`) || code != 0 {
		t.Errorf("%s %s %d", out, said, code)
	}
	if out, said, code := p.run(fmt.Sprintf(big, "PostToolUse", "Other")); out+said != "" || code != 0 {
		t.Errorf("%s %s %d", out, said, code)
	}
	if out, said, code := p.run(strings.Repeat("x", 65<<20)); out != "" || !strings.Contains(said, "longer than") ||
		code != 1 {
		t.Errorf("%s %s %d", out, said, code)
	}
	t.Logf("three inputs of 50 MB and more took %v", time.Since(begin))
	p.deliver()
	all := w.events(acme)
	if len(all) != 3 || !strings.Contains(*all[0].Input, "[cut: ") {
		t.Errorf("%d events; rejected: %.500s", len(all), rejected(p))
	}
}

// TestAPersonIsAskedAndTheAgentGetsTheAnswer, before the tool runs.
func TestAPersonIsAskedAndTheAgentGetsTheAnswer(t *testing.T) {
	w := serve(t, `{"tenants":{"`+acme.String()+`":{"tools":[
		{"server":"github","tool":"delete_*","action":"ask","to":"ops","reason":"it deletes"},
		{"tool":"WebFetch","action":"ask","via":"prompt","reason":"look at the address"}]}}}`)
	for _, decision := range []string{"allow", "deny: never"} {
		p := w.program(acme, "--program", "claude-code")
		go testkit.Until(t, "somebody answers", func() bool {
			open, err := w.k.Tenant(acme).Escalations().List(t.Context(),
				audit.EscalationFilter{State: audit.StateOpen})
			if err != nil || len(open) == 0 {
				return false
			}
			_, err = w.k.Tenant(acme).Escalations().Resolve(t.Context(), open[0].ID, "ada", decision)
			return err == nil
		})
		call := `{"session_id":"s1","cwd":"/w","hook_event_name":%q,"tool_name":"mcp__github__delete_file",` +
			`"tool_input":{"path":"a"},"tool_use_id":"t%s","tool_response":"gone"}`
		out, said, code := p.run(fmt.Sprintf(call, "PreToolUse", decision[:1]))
		word, _, _ := strings.Cut(decision, ":")
		want := fmt.Sprintf(`"permissionDecision":%q,"permissionDecisionReason":"ada decided: %s"`, word, decision)
		if code != 0 || !strings.Contains(out, want) {
			t.Fatalf("%s %s %d", out, said, code)
		}
		if decision == "allow" {
			p.run(fmt.Sprintf(call, "PostToolUse", decision[:1]))
		}
		p.deliver()
		all := w.events(acme)
		last := all[len(all)-1]
		if got := string(last.Metadata); last.Action != audit.ActionToolCall ||
			!strings.Contains(got, `"tool_approval.by": "ada"`) ||
			!strings.Contains(got, `"tool_approval.decision": "`+word+`"`) ||
			!strings.Contains(got, `"tool_approval.escalation_id"`) {
			t.Errorf("%s %s", last.Action, got)
		}
		resolved := false // before the call's event
		for _, e := range all[:len(all)-1] {
			resolved = resolved || e.Action == audit.ActionResolved
		}
		if !resolved {
			t.Errorf("%s: the answer is not on the trail before the call", decision)
		}
	}
	fetch := `{"session_id":"s1","cwd":"/w","hook_event_name":%q,"tool_name":"WebFetch","tool_input":{"url":"u"}%s}`
	p := w.program(acme, "--program", "claude-code")
	if out, said, code := p.run(fmt.Sprintf(fetch, "PreToolUse", `,"tool_use_id":"t3"`)); code != 0 ||
		!strings.Contains(out, `"permissionDecision":"ask","permissionDecisionReason":"look at the address"`) {
		t.Errorf("%s %s %d", out, said, code)
	}
	// Codex CLI would ignore ask, and run the tool: there a person is asked, and nobody answers in time.
	p = w.program(acme, "--program", "codex", "--timeout", "4s")
	if out, said, code := p.run(fmt.Sprintf(fetch, "PreToolUse", `,"tool_use_id":"t4"`)); code != 0 ||
		!strings.Contains(out, `"permissionDecision":"deny"`) || !strings.Contains(out, "nobody answered within") {
		t.Errorf("%s %s %d", out, said, code)
	}
}

// TestWhoWantsItIsStoppedWhenNothingCanBeRecorded, and nobody else.
func TestWhoWantsItIsStoppedWhenNothingCanBeRecorded(t *testing.T) {
	w := serve(t, `{}`)
	input := hookInput("PreToolUse", 1, "")
	disk := testkit.SmallDisk(t, 1<<20)
	p := w.program(acme, "--program", "claude-code")
	p.dir = filepath.Join(disk, "spool")
	if out, said, code := p.run(hookInput("PreToolUse", 0, "")); out+said != "" || code != 0 {
		t.Fatalf("%s %s %d", out, said, code)
	}
	empty := testkit.Fill(t, disk, 0)
	defer empty()
	if out, said, code := p.run(input); out != "" || code != 0 || !strings.Contains(said, "may not be recorded") {
		t.Errorf("%q %q %d", out, said, code)
	}
	if out, said, code := p.run(hookInput("PostToolUse", 1, "")); out != "" || code != 1 ||
		!strings.Contains(said, "could not be recorded") {
		t.Errorf("%q %q %d", out, said, code)
	}
	p.args = append(p.args, "--fail-closed")
	if out, _, code := p.run(input); code != 0 || !strings.Contains(out, `"deny"`) ||
		!strings.Contains(out, "the call can't be recorded") {
		t.Errorf("%q %d", out, code)
	}
	// Rules that were never fetched, because the service was never there.
	w.away.Store(true)
	p = w.program(acme, "--program", "gemini-cli", "--fail-closed")
	if out, _, code := p.run(input); code != 0 || !strings.Contains(out, `"decision":"deny"`) {
		t.Errorf("%q %d", out, code)
	}
	p.args = p.args[:len(p.args)-1]
	if out, said, code := p.run(input); code != 0 || out != "" ||
		!strings.Contains(said, "rules on tools are not known") {
		t.Errorf("%q %q %d", out, said, code)
	}
}

// TestTwoHooksOfOneCallMakeOneEvent: the same hook in two settings files.
func TestTwoHooksOfOneCallMakeOneEvent(t *testing.T) {
	w := serve(t, `{}`)
	p := w.program(acme)
	for _, event := range []string{"PreToolUse", "PreToolUse", "PostToolUse", "PostToolUse"} {
		if _, said, code := p.run(hookInput(event, 1, `,"tool_response":"ok"`)); code != 0 || said != "" {
			t.Errorf("%d %s", code, said)
		}
	}
	// A result that comes after the session's end is recorded too, and names the call.
	p.run(hookInput("PreToolUse", 2, ""))
	p.run(`{"session_id":"s1","hook_event_name":"SessionEnd"}`)
	p.run(hookInput("PostToolUse", 2, `,"tool_response":"late"`))
	p.deliver()
	n := w.calls()
	if n[`{"command":"echo 1"}`] != 1 || n[`{"command":"echo 2"}`] != 2 {
		t.Errorf("%v", n)
	}
	late := 0
	for _, e := range w.events(acme) {
		if strings.Contains(string(e.Metadata), "late_result_of") {
			late++
		}
	}
	if late != 1 {
		t.Errorf("%d late results", late)
	}
	if _, err := os.Stat(p.dir); err != nil {
		t.Error(err)
	}
	if said := rejected(p); said != "" {
		t.Errorf("rejected: %s", said)
	}
}

// TestAnUnreadableCallDoesNotEscapeARuleThatForbids writes a call so that it can't be read, or in two ways: where rules
// deny or ask it is denied, and otherwise the agent goes on.
func TestAnUnreadableCallDoesNotEscapeARuleThatForbids(t *testing.T) {
	const call = `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash",` +
		`"tool_input":{"command":"rm -rf /"`
	inputs := map[string]string{"too deep": call + `,"z":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) +
		`}}`,
		"no JSON": call + `,"n":NaN}}`, "two documents": call + `}}{}`,
		"two tools": call + `},"tool_name":"Read"}`}
	for _, rules := range []string{`{"tools":[{"tool":"Bash","action":"deny"}]}`,
		`{"tools":[{"tool":"x","action":"redact"}]}`} {
		file := filepath.Join(t.TempDir(), "rules.json")
		if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := client.Open(client.Config{SpoolDir: t.TempDir(), RulesFile: file})
		if err != nil {
			t.Fatal(err)
		}
		h := hook.New(c)
		h.Program = hook.ClaudeCode
		for name, raw := range inputs {
			want := 1
			if strings.Contains(rules, "deny") {
				want = 2
			}
			if r := h.Handle(t.Context(), []byte(raw)); r.Code != want {
				t.Errorf("%s with %s: exit code %d, want %d: %s", name, rules, r.Code, want, r.Note)
			}
		}
		stop := strings.ReplaceAll(call, "PreToolUse", "Stop") + `,"n":NaN}}`
		if r := h.Handle(t.Context(), []byte(stop)); r.Code != 1 {
			t.Errorf("a hook of another kind is answered %d", r.Code)
		}
	}
}
