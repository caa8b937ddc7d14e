package hook_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/audit"
)

// recorded runs the inputs of a recorded session in the order in which the program gave them.
func (p program) recorded(folder string, answers func(event, out string)) {
	p.t.Helper()
	order, err := os.ReadFile(filepath.Join("testdata", "recorded", folder, "order.txt"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, name := range strings.Fields(string(order)) {
		if strings.Contains(name, "Model") || strings.Contains(name, "ToolSelection") { // not in our settings
			continue
		}
		raw, err := os.ReadFile(filepath.Join("testdata", "recorded", folder, name))
		if err != nil {
			p.t.Fatal(err)
		}
		out, said, code := p.run(string(raw))
		if code != 0 || said != "" {
			p.t.Errorf("%s/%s: %d %s", folder, name, code, said)
		}
		answers(name, out)
	}
}

// line is an event in short.
func line(e audit.StoredEvent) string {
	var m struct {
		Tool    string `json:"gen_ai.tool.name"`
		Server  string `json:"tool_server"`
		Error   string `json:"error.type"`
		Agent   string `json:"gen_ai.agent.name"`
		Call    string `json:"gen_ai.tool.call.id"`
		Program string `json:"service.name"`
		Session string `json:"gen_ai.conversation.id"`
		Folder  string `json:"process.working_directory"`
	}
	if err := json.Unmarshal(e.Metadata, &m); err != nil {
		return err.Error()
	}
	s := e.Action
	if m.Tool != "" {
		s += fmt.Sprintf(" %s/%s", m.Server, m.Tool)
	}
	if m.Error != "" {
		s += " !" + m.Error
	}
	if m.Agent != "" {
		s += " of " + m.Agent
	}
	if m.Session == "" || m.Folder == "" || m.Program == "" {
		s += " WITHOUT session, folder or program"
	}
	for _, text := range []*string{e.Input, e.Output} {
		most := map[string]int{audit.ActionToolCall: 40, "user_prompt": 20}[e.Action]
		if text != nil && most > 0 {
			s += " | " + strings.TrimSpace(fmt.Sprintf("%.*s", most, strings.Join(strings.Fields(*text), " ")))
		}
	}
	return s
}

// TestRecordedSessionsLandAsWhatTheyWere: what the real programs gave their hooks becomes these events, in this order.
func TestRecordedSessionsLandAsWhatTheyWere(t *testing.T) {
	w := serve(t, `{}`)
	for folder, want := range map[string][]string{
		"claude-code/hooks-bash": {"session_started", `user_prompt | Say the word. [[Bash`,
			`tool_invocation claude-code/Bash` +
				` | {"command":"echo konstruct","description | {"stdout":"konstruct","stderr":"","inter`,
			"agent_run", "session_ended"},
		"claude-code/hooks-failed": {"session_started", `user_prompt | Look. [[Bash {"comma`,
			`tool_invocation claude-code/Bash !tool_error` +
				` | {"command":"cat missing.txt","descriptio | Exit code 1 cat: missing.txt: No such fi`,
			"agent_run", "session_ended"},
		"claude-code/hooks-denied": {"session_started", `user_prompt | Clean up. [[Bash {"c`,
			`tool_invocation claude-code/Bash !denied` +
				` | {"command":"rm hours.txt","description": | rm in '/tmp/konstruct-record/home-claude`,
			"permission_request claude-code/Bash",
			"agent_run", "session_ended"},
		"claude-code/hooks-files": {"session_started", `user_prompt | Look at the hours an`,
			`tool_invocation claude-code/Read` +
				` | {"file_path":"/tmp/konstruct-record/home | {"type":"text","file":{"filePath":"/tmp/`,
			`tool_invocation claude-code/Edit` +
				` | {"file_path":"/tmp/konstruct-record/home | {"filePath":"/tmp/konstruct-record/home-`,
			`tool_invocation claude-code/Write` +
				` | {"file_path":"/tmp/konstruct-record/home | {"type":"create","filePath":"/tmp/konstr`,
			"agent_run", "session_ended"},
		"claude-code/hooks-subagent": {"session_started", `user_prompt | Ask the reader. [[Ag`,
			`tool_invocation claude-code/Agent` +
				` | {"description":"Read the hours","prompt" | {"isAsync":true,"status":"async_launched`,
			"agent_started of reader",
			`tool_invocation claude-code/Bash of reader` +
				` | {"command":"cat hours.txt"} | {"stdout":"Open from nine to five.","std`,
			"agent_run", "agent_run of reader", `user_prompt | <task-notification>`,
			"agent_run", "session_ended"},
		"claude-code/hooks-error": {"session_started", "user_prompt | Say a word. [[fail 4", "session_ended"},
		"claude-code/hooks-mcp": {"session_started", "user_prompt | Ask the shop. [[mcp_",
			`tool_invocation shop/opening_hours | {"city":"Paris"} | [{"type":"text","text":"Open from nine t`,
			"agent_run", "session_ended"},
		// The hook asked, and nobody was there.
		"claude-code/hooks-ask": {"session_started", "user_prompt | Say. [[Bash {\"comman",
			`tool_invocation claude-code/Bash !denied | {"command":"echo konstruct","description | A rule says so.`,
			"agent_run", "session_ended"},
		"claude-code/hooks-rewrite": {"session_started", "user_prompt | Say. [[Bash {\"comman",
			`tool_invocation claude-code/Bash` +
				` | {"command":"echo rewritten","description | {"stdout":"rewritten","stderr":"","inter`,
			"agent_run", "session_ended"},
		"codex/hooks-mcp": {"session_started", "user_prompt | Ask the shop. [[mcp_",
			`tool_invocation shop/opening_hours` +
				` | {"city":"Paris"} | {"content":[{"type":"text","text":"Open`, "agent_run"},
		"gemini-cli/hooks-mcp": {"session_started", "user_prompt | Ask the shop. [[mcp_", "context_compaction",
			`tool_invocation shop/opening_hours | {"city":"Paris"} | {"llmContent":[{"text":"<untrusted_conte`,
			"context_compaction", "agent_run", "session_ended"},
		"gemini-cli/hooks-rewrite": {"session_started", "user_prompt | Say the word. [[run_", "context_compaction",
			`tool_invocation gemini-cli/run_shell_command` +
				` | {"command":"echo rewritten"} | {"llmContent":"<untrusted_context>\nOutp`,
			"context_compaction", "agent_run", "session_ended"},
		"codex/hooks-shell": {"session_started", `user_prompt | Say the word. [[exec`,
			`tool_invocation codex/Bash | {"command":"echo konstruct"} | konstruct`, "agent_run"},
		"codex/hooks-failed": {"session_started", `user_prompt | Look. [[exec_command`,
			`tool_invocation codex/Bash | {"command":"cat missing.txt"} | cat: missing.txt: No such file or direct`,
			"agent_run"},
		// Codex CLI gives its hooks no result of a patch made in the shell.
		"codex/hooks-patch": {"session_started", `user_prompt | Change the hours. [[`,
			`tool_invocation codex/Bash !no_result | {"command":"apply_patch <<'EOF'\n*** Beg`, "agent_run"},
		"gemini-cli/hooks-shell": {"session_started", `user_prompt | Say the word. [[run_`,
			"context_compaction",
			`tool_invocation gemini-cli/run_shell_command` +
				` | {"command":"echo konstruct","description | {"llmContent":"<untrusted_context>\nOutp`,
			"context_compaction", "agent_run", "session_ended"},
		"gemini-cli/hooks-failed": {"session_started", `user_prompt | Look. [[read_file {"`,
			"context_compaction",
			`tool_invocation gemini-cli/read_file !file_not_found` +
				` | {"file_path":"missing.txt"} | {"llmContent":"Could not read file becau`,
			"context_compaction", "agent_run", "session_ended"},
	} {
		for _, flag := range []string{"", "--program"} {
			p := w.program(acme)
			if name, _, _ := strings.Cut(folder, "/"); flag != "" {
				p.args = append(p.args, flag, name)
			}
			before := len(w.events(acme))
			p.recorded(folder, func(event, out string) {
				if out != "" {
					t.Errorf("%s/%s: a call that no rule is about is answered: %s", folder, event, out)
				}
			})
			p.deliver()
			var got []string
			for _, e := range w.events(acme) {
				got = append(got, line(e))
				changed := strings.Contains(string(e.Metadata), `"requested_arguments": "{\"command\":\"echo konstruct`)
				if rewritten := e.Input != nil && strings.Contains(*e.Input, "echo rewritten"); rewritten != changed {
					t.Errorf("%s: what the model asked for: %s", got[len(got)-1], e.Metadata)
				}
			}
			if got = got[before:]; fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("%s %s:\n got %s\nwant %s", folder, flag, strings.Join(got, "\n     "),
					strings.Join(want, "\n     "))
			}
			if left, _ := filepath.Glob(filepath.Join(p.dir, "*", "calls", "*")); len(left) > 0 {
				t.Errorf("%s: calls are left: %v", folder, left)
			}
		}
	}
}

// TestTheProgramsOwnDurationIsRecorded where it says one.
func TestTheProgramsOwnDurationIsRecorded(t *testing.T) {
	const folder = "claude-code/hooks-bash"
	raw, err := os.ReadFile(filepath.Join("testdata", "recorded", folder, "PostToolUse.1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Duration int64 `json:"duration_ms"`
	}
	if err := json.Unmarshal(raw, &said); err != nil || said.Duration == 0 {
		t.Fatalf("%d ms, %v", said.Duration, err)
	}
	p := program{t, t.TempDir(), nil}
	p.recorded(folder, func(string, string) {})
	if want := fmt.Sprintf(`"latency_ms":%d`, said.Duration); !strings.Contains(spooled(t, p.dir), want) {
		t.Errorf("no %s in %s", want, spooled(t, p.dir))
	}
}

// TestADeniedCallIsAnsweredInEachProgramsOwnForm for the recorded calls.
func TestADeniedCallIsAnsweredInEachProgramsOwnForm(t *testing.T) {
	w := serve(t, `{"tenants":{"`+acme.String()+`":{"tools":[
		{"tool":"Bash","arguments":{"/command":"echo *"},"action":"deny","reason":"say nothing"},
		{"server":"gemini-cli","tool":"run_shell_command","action":"deny","reason":"say nothing"}]}}}`)
	claude := `{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"deny",` +
		`"permissionDecisionReason":"say nothing"}}` + "\n"
	for folder, want := range map[string]string{"claude-code/hooks-deny": claude, "codex/hooks-deny": claude,
		"gemini-cli/hooks-deny": `{"decision":"deny","reason":"say nothing"}` + "\n"} {
		p := w.program(acme)
		before := len(w.events(acme))
		p.recorded(folder, func(event, out string) {
			if asked := strings.HasPrefix(event, "PreToolUse") || strings.HasPrefix(event, "BeforeTool"); asked &&
				out != want || !asked && out != "" {
				t.Errorf("%s/%s: %s", folder, event, out)
			}
		})
		p.deliver()
		denied := 0
		for _, e := range w.events(acme)[before:] {
			if e.Action == audit.ActionToolCall && strings.Contains(line(e), "!denied") {
				denied++
				if !strings.Contains(string(e.Metadata), `"tool_rule.action": "deny"`) || *e.Output != "say nothing" {
					t.Errorf("%s: %s %s", folder, e.Metadata, *e.Output)
				}
			}
		}
		if denied != 1 {
			t.Errorf("%s: %d denied calls", folder, denied)
		}
		// Another tenant's agent is not denied.
		w.program(globex).recorded(folder, func(event, out string) {
			if out != "" {
				t.Errorf("%s/%s of another tenant: %s", folder, event, out)
			}
		})
	}
}
