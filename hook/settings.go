package hook

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// settingsTimeout is what the printed settings give a hook: an hour, so that a person has time to answer.
const settingsTimeout = time.Hour

// programHooks are the hooks that the settings of a program name, and the unit of its timeout.
var programHooks = map[string]struct {
	events []string
	tools  string        // the matcher of hooks about tools
	unit   time.Duration // of timeout
}{
	ClaudeCode: {[]string{"SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure",
		"PostToolBatch", "PermissionRequest", "SubagentStart", "SubagentStop", "Stop", "Notification", "PreCompact",
		"SessionEnd"}, "*", time.Second},
	Codex: {[]string{"SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PermissionRequest",
		"SubagentStart", "SubagentStop", "Stop", "PreCompact"}, "", time.Second},
	GeminiCLI: {[]string{"SessionStart", "BeforeAgent", "BeforeTool", "AfterTool", "AfterAgent", "Notification",
		"PreCompress", "SessionEnd"}, "*", time.Millisecond},
}

// settingsFiles is where each program reads them.
var settingsFiles = map[string]string{ClaudeCode: "~/.claude/settings.json", Codex: "~/.codex/hooks.json",
	GeminiCLI: "~/.gemini/settings.json"}

type hookSettings struct {
	Type    string `json:"type"`
	Command string `json:"command"`
	Timeout int64  `json:"timeout"`
}

type hookGroup struct {
	Matcher string         `json:"matcher,omitempty"`
	Hooks   []hookSettings `json:"hooks"`
}

// settings prints the settings that make a program run this one.
func (c Command) settings(program string, o options) error {
	p, ok := programHooks[program]
	if !ok {
		return fmt.Errorf("settings: %.40q is none of claude-code, codex, gemini-cli", program)
	}
	words := append(c.Self[:len(c.Self):len(c.Self)], "--program", program)
	for _, f := range []struct{ flag, value string }{{"--url", o.URL}, {"--key-file", absolute(o.keyFile)},
		{"--rules", absolute(o.RulesFile)}, {"--redact-key-file", absolute(o.redactFile)}, {"--agent", o.agent},
		{"--user", o.UserID}} {
		if f.value != "" {
			words = append(words, f.flag, f.value)
		}
	}
	if o.FailClosed {
		words = append(words, "--fail-closed")
	}
	timeout := settingsTimeout
	if o.timeout != DefaultTimeout {
		timeout = o.timeout
	}
	words = append(words, "--timeout", timeout.String())
	for i, w := range words {
		words[i] = quote(w)
	}
	hooks := map[string][]hookGroup{}
	for _, event := range p.events {
		group := hookGroup{Hooks: []hookSettings{{"command", strings.Join(words, " "), int64(timeout / p.unit)}}}
		if strings.Contains(event, "Tool") {
			group.Matcher = p.tools
		}
		hooks[event] = []hookGroup{group}
	}
	fmt.Fprintf(c.Err, "Merge this into %s:\n", settingsFiles[program])
	return c.json(map[string]any{"hooks": hooks})
}

func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// quote quotes a word for a POSIX shell.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' ||
			strings.ContainsRune("-_./:=@%+,", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
