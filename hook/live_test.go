package hook_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// agent is a real coding agent, headless, with a home of its own and a fake provider.
type agent struct {
	t                  testing.TB
	program            string // as in rules
	folder, home, work string
	hookBin, service   string
	keyFile, upstream  string
	captureDir         string
}

// settings writes what the hook prints to where the program reads it.
func (a agent) settings(path string, more map[string]any) {
	a.t.Helper()
	cmd := exec.Command(a.hookBin, "settings", a.program, "--url", a.service, "--key-file", a.keyFile,
		"--timeout", "20s")
	out, err := cmd.Output()
	if err != nil {
		a.t.Fatal(err)
	}
	all := map[string]any{}
	if err := json.Unmarshal(out, &all); err != nil {
		a.t.Fatal(err)
	}
	for name, value := range more {
		all[name] = value
	}
	raw, err := json.Marshal(all)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// run runs the program with a prompt for the fake model: [[TOOL ARGUMENTS]] makes it call the tool.
func (a agent) run(prompt string) string {
	a.t.Helper()
	bin := func(name string) string { return filepath.Join(a.folder, "node_modules", ".bin", name) }
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + a.home, "LANG=C.UTF-8", "TERM=dumb", "USER=ann",
		"KONSTRUCT_CAPTURE_DIR=" + a.captureDir}
	var cmd *exec.Cmd
	switch a.program {
	case "claude-code":
		a.settings(filepath.Join(a.home, ".claude", "settings.json"), nil)
		cmd = exec.CommandContext(a.t.Context(), bin("claude"), "-p", prompt, "--model", "claude-sonnet-4-5",
			"--max-turns", "4", "--allowedTools", "Bash(echo:*)")
		env = append(env, "ANTHROPIC_BASE_URL="+a.upstream, "ANTHROPIC_API_KEY=sk-ant-x",
			"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1")
	case "codex":
		a.settings(filepath.Join(a.home, ".codex", "hooks.json"), nil)
		config := fmt.Sprintf("model = \"gpt-5\"\nmodel_provider = \"fake\"\ncheck_for_update_on_startup = false\n"+
			"[model_providers.fake]\nname = \"Fake\"\nbase_url = \"%s/v1\"\nenv_key = \"OPENAI_API_KEY\"\n"+
			"wire_api = \"responses\"\nsupports_websockets = false\n[analytics]\nenabled = false\n"+
			"[projects.%q]\ntrust_level = \"trusted\"\n", a.upstream, a.work)
		if err := os.WriteFile(filepath.Join(a.home, ".codex", "config.toml"), []byte(config), 0o600); err != nil {
			a.t.Fatal(err)
		}
		cmd = exec.CommandContext(a.t.Context(), bin("codex"), "exec", "--skip-git-repo-check",
			"--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust", prompt)
		env = append(env, "OPENAI_API_KEY=sk-x", "CODEX_HOME="+filepath.Join(a.home, ".codex"))
	case "gemini-cli":
		a.settings(filepath.Join(a.home, ".gemini", "settings.json"), map[string]any{
			"security": map[string]any{"auth": map[string]any{"selectedType": "gemini-api-key"},
				"folderTrust": map[string]any{"enabled": false}},
			"general": map[string]any{"enableAutoUpdate": false},
			"privacy": map[string]any{"usageStatisticsEnabled": false}})
		cmd = exec.CommandContext(a.t.Context(), bin("gemini"), "-p", prompt, "--approval-mode", "yolo", "--skip-trust",
			"-m", "gemini-2.5-flash")
		env = append(env, "GEMINI_API_KEY=x", "GOOGLE_GEMINI_BASE_URL="+a.upstream, "GEMINI_CLI_TRUST_WORKSPACE=true",
			"NO_BROWSER=1")
	}
	cmd.Env, cmd.Dir = env, a.work
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Logf("%s: %v\n%.3000s", a.program, err, out)
	}
	return string(out)
}

// TestTheRealProgramsRunTheHook: Claude Code, Codex CLI and Gemini CLI with the printed settings and no other change.
// KONSTRUCT_TEST_CODING_AGENTS is a folder in which npm has installed them.
func TestTheRealProgramsRunTheHook(t *testing.T) {
	folder := os.Getenv("KONSTRUCT_TEST_CODING_AGENTS")
	if folder == "" {
		t.Skip("KONSTRUCT_TEST_CODING_AGENTS is not set: install the programs into a folder with npm, and name it")
	}
	upstream := exec.CommandContext(t.Context(), "python3", "-u", "upstream.py", "0")
	upstream.Dir = "../otel/testdata/record"
	out, err := upstream.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	upstream.Stderr = upstream.Stdout
	if err := upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Process.Kill(); _ = upstream.Wait() })
	first, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var port int // "fake provider on ('127.0.0.1', PORT)"
	if _, err := fmt.Sscanf(first[strings.LastIndex(first, " ")+1:], "%d)", &port); err != nil {
		t.Fatalf("%q: %v", first, err)
	}
	w := serve(t, `{"tenants":{"`+acme.String()+`":{"tools":[
		{"arguments":{"/command":"echo forbidden*"},"action":"deny","reason":"A rule of the operator's forbids it."},
		{"arguments":{"/command":"echo person*"},"action":"ask","to":"ops","reason":"A person must allow it."}]}}}`)
	bin := build(t)
	for program, tool := range map[string]string{"claude-code": `Bash {"command": "echo %s", "description": "Say it"}`,
		"codex":      `exec_command {"cmd": "echo %s"}`,
		"gemini-cli": `run_shell_command {"command": "echo %s", "description": "Say it"}`} {
		t.Run(program, func(t *testing.T) {
			home := t.TempDir()
			a := agent{t: t, program: program, folder: folder, home: home, work: filepath.Join(home, "shop"),
				hookBin: bin, service: w.url, keyFile: w.keyFile(acme),
				upstream:   fmt.Sprintf("http://127.0.0.1:%d", port),
				captureDir: filepath.Join(home, "capture")}
			if err := os.MkdirAll(a.work, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { stopFlush(t, a.captureDir, syscall.SIGTERM) })
			before := len(w.events(acme))
			landed := func(what string) (found audit.StoredEvent) {
				t.Helper()
				testkit.Until(t, program+": "+what+" lands", func() bool {
					for _, e := range w.events(acme)[before:] {
						if e.Action == audit.ActionToolCall && strings.Contains(*e.Input, "echo "+what) {
							found = e
							return true
						}
					}
					return false
				})
				return found
			}
			a.run("Say the word. [[" + fmt.Sprintf(tool, "konstruct") + "]]")
			if e := landed("konstruct"); e.Output == nil || !strings.Contains(*e.Output, "konstruct") ||
				strings.Contains(string(e.Metadata), "error.type") {
				t.Errorf("%s %v", line(e), e.Metadata)
			}
			said := a.run("Say the word. [[" + fmt.Sprintf(tool, "forbidden") + "]]")
			if e := landed("forbidden"); !strings.Contains(line(e), "!denied") ||
				!strings.Contains(said, "A rule of the operator's forbids it.") {
				t.Errorf("%s; the agent knows %.1000s", line(e), said)
			}
			answered := make(chan bool)
			go func() {
				defer close(answered)
				testkit.Until(t, program+": a person is asked", func() bool {
					open, err := w.k.Tenant(acme).Escalations().List(t.Context(),
						audit.EscalationFilter{State: audit.StateOpen})
					if err != nil || len(open) == 0 {
						return false
					}
					_, err = w.k.Tenant(acme).Escalations().Resolve(t.Context(), open[0].ID, "ada", "allow")
					return err == nil
				})
			}()
			a.run("Say the word. [[" + fmt.Sprintf(tool, "person") + "]]")
			<-answered
			if e := landed("person"); !strings.Contains(string(e.Metadata), `"tool_approval.by": "ada"`) ||
				!strings.Contains(*e.Output, "person") {
				t.Errorf("%s %s", line(e), e.Metadata)
			}
			testkit.Until(t, program+": the session's end lands", func() bool {
				for _, e := range w.events(acme)[before:] {
					if strings.Contains(string(e.Metadata), program) && e.Action == "agent_run" {
						return true
					}
				}
				return false
			})
			for _, e := range w.events(acme)[before:] {
				t.Log(line(e))
			}
		})
	}
}
