package hook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/konstruct/konstruct/client"
	"github.com/konstruct/konstruct/strictjson"
)

// kind is what a hook tells.
type kind int

const (
	other kind = iota
	before
	after
	afterFailed
	batch
	prompted
	turnEnded
	agentStarted
	agentEnded
	sessionStarted
	sessionEnded
	permission
	compaction
	notification
)

// kinds are the hooks that are known: of Claude Code and Codex CLI, which share names, and of Gemini CLI.
var kinds = map[string]kind{
	"PreToolUse": before, "PostToolUse": after, "PostToolUseFailure": afterFailed, "PostToolBatch": batch,
	"UserPromptSubmit": prompted, "Stop": turnEnded, "StopFailure": turnEnded,
	"SubagentStart": agentStarted, "SubagentStop": agentEnded,
	"SessionStart": sessionStarted, "SessionEnd": sessionEnded, "PermissionRequest": permission,
	"PreCompact": compaction, "PostCompact": compaction, "Notification": notification,
	"BeforeTool": before, "AfterTool": after, "BeforeAgent": prompted, "AfterAgent": turnEnded,
	"PreCompress": compaction,
	notifyTurn:    turnEnded,
}

// notifyTurn is the type of Codex CLI's notify, whose names have hyphens.
const notifyTurn = "agent-turn-complete"

// actions are the action types of events about them.
var actions = map[kind]string{other: actionHook, batch: actionHook, prompted: actionPrompt, turnEnded: actionRun,
	agentStarted: actionAgentStarted, agentEnded: actionRun, sessionStarted: actionSessionStarted,
	sessionEnded: actionSessionEnded, permission: actionPermission, compaction: actionCompaction,
	notification: actionNotification}

// input is a hook's input. Its fields may have any type: a program's next version is recorded too.
type input struct {
	event  string
	fields map[string]json.RawMessage
}

// parse reads a hook's input.
func parse(raw []byte) (in input, err error) {
	raw = bytes.TrimPrefix(bytes.TrimSpace(raw), []byte("\ufeff"))
	switch {
	case len(raw) == 0:
		return in, errors.New("it is empty")
	case raw[0] != '{':
		return in, errors.New("it is no JSON object")
	}
	if err := json.Unmarshal(raw, &in.fields); err != nil {
		return in, err
	}
	if name, twice := duplicate(raw, len(in.fields)); twice {
		return in, fmt.Errorf("%.40q occurs twice", name) // the program could mean the other one
	}
	in.event = in.text("hook_event_name", "type")
	return in, nil
}

// duplicate returns a field of an object that occurs twice. n is how many different ones it has.
func duplicate(raw []byte, n int) (name string, twice bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return "", false
	}
	seen := make(map[string]bool, n)
	for d.More() {
		t, err := d.Token()
		name, is := t.(string)
		if err != nil || !is {
			return "", false
		}
		if seen[name] {
			return name, true
		}
		seen[name] = true
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return "", false
		}
	}
	return "", false
}

// with returns the input of one call of a batch.
func (in input) with(fields map[string]json.RawMessage) input {
	one := input{event: in.event, fields: map[string]json.RawMessage{}}
	for name, value := range in.fields {
		if name != "tool_calls" {
			one.fields[name] = value
		}
	}
	for name, value := range fields {
		one.fields[name] = value
	}
	return one
}

// text returns the first field of these that is there: a string as it is, anything else as compact JSON.
func (in input) text(names ...string) string {
	for _, name := range names {
		raw := bytes.TrimSpace(in.fields[name])
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		return plain(raw)
	}
	return ""
}

// plain returns a JSON string's text, and anything else as compact JSON.
func plain(raw json.RawMessage) string {
	var s string
	if raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// name returns a field of at most maxField bytes.
func (in input) name(names ...string) string {
	s := in.text(names...)
	if len(s) <= maxField {
		return s
	}
	end := maxField - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

func (in input) session() string { return in.name("session_id", "thread-id") }
func (in input) agent() string   { return in.name("agent_id") }

// program recognizes the program by what its inputs alone have.
func (in input) program() string {
	_, time := in.fields["timestamp"]
	_, turn := in.fields["turn_id"]
	_, model := in.fields["model"]
	_, prompt := in.fields["prompt_id"]
	switch {
	case strings.HasPrefix(in.event, "Before") || strings.HasPrefix(in.event, "After") || in.event == "PreCompress" ||
		time && !turn && !prompt:
		return GeminiCLI
	case turn || in.event == notifyTurn || model && !prompt && in.event != "SessionStart" ||
		model && strings.Contains(in.text("transcript_path"), ".codex"):
		return Codex
	}
	return ClaudeCode
}

// tool returns the server and the name of the tool. A program's MCP tools are named mcp__SERVER__TOOL.
func (in input) tool(program string) (server, name string) {
	name = in.name("tool_name")
	var of struct {
		Server string `json:"server_name"`
		Tool   string `json:"tool_name"`
	}
	if json.Unmarshal(in.fields["mcp_context"], &of) == nil && of.Server != "" && of.Tool != "" {
		return of.Server, of.Tool
	}
	if rest, ok := strings.CutPrefix(name, "mcp__"); ok {
		var of struct { // Claude Code: the name as it is configured
			Name string `json:"name"`
		}
		if json.Unmarshal(in.fields["mcp_server"], &of) == nil && of.Name != "" && len(of.Name) <= maxField {
			if tool, ok := strings.CutPrefix(rest, notInName.ReplaceAllString(of.Name, "_")+"__"); ok && tool != "" {
				return of.Name, tool
			}
		}
		if server, tool, ok := strings.Cut(rest, "__"); ok && server != "" && tool != "" {
			return server, tool
		}
	}
	return program, name
}

// notInName are the characters that a program replaces in the name of a tool's server.
var notInName = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// result returns what a tool answered, and its error.type.
func (in input) result(failed bool) (result, errorType string) {
	if failed {
		if in.text("is_interrupt") == "true" {
			return in.text("error"), errorInterrupted
		}
		return in.text("error"), errorTool
	}
	var of struct {
		Error   json.RawMessage `json:"error"`
		IsError bool            `json:"isError"` // of MCP
	}
	result = in.text("tool_response", "tool_output", "tool_result")
	if raw := in.fields["tool_response"]; json.Unmarshal(raw, &of) == nil && len(of.Error) > 0 &&
		string(of.Error) != "null" { // Gemini CLI
		var typed struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(of.Error, &typed) == nil && typed.Type != "" && len(typed.Type) <= maxField {
			return result, typed.Type
		}
		return result, errorTool
	}
	if of.IsError {
		return result, errorTool
	}
	return result, ""
}

// duration returns how long the tool ran, if the program says it.
func (in input) duration() (time.Duration, bool) {
	ms, err := strconv.ParseFloat(in.text("duration_ms"), 64)
	if err != nil || ms < 0 || ms > 1e10 {
		return 0, false
	}
	return time.Duration(ms * float64(time.Millisecond)), true
}

// key names a call. Where the program gives calls no id, it is that of the tool, a hyphen, and that of its arguments.
func (h *Handler) key(in input) string {
	if id := in.text("tool_use_id"); id != "" {
		return "i" + digest(h.Program, in.session(), id)
	}
	return "n" + digest(h.Program, in.session(), in.agent(), in.text("tool_name")) + "-" + digest(in.text("tool_input"))
}

func digest(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// call returns the call that a hook is about, without its result.
func (h *Handler) call(in input) client.ToolCall {
	server, name := in.tool(h.Program)
	arguments := in.fields["tool_input"]
	c := client.ToolCall{Server: server, Name: name, CallID: in.name("tool_use_id"), ConversationID: in.session(),
		Arguments: string(bytes.TrimSpace(arguments)), Extra: h.context(in)}
	delete(c.Extra, metadataConversation)
	if name == "" {
		c.Name = "unknown"
	}
	return c
}

// context is what all events of a program have.
func (h *Handler) context(in input) map[string]any {
	m := map[string]any{}
	for name, value := range map[string]string{metadataProgram: h.Program, metadataConversation: in.session(),
		metadataAgent: in.agent(), metadataAgentName: in.name("agent_type"), metadataFolder: in.name("cwd"),
		metadataTurn: in.name("turn_id", "prompt_id", "turn-id"), metadataMode: in.name("permission_mode"),
		metadataModel: in.name("model"), metadataTranscript: in.name("transcript_path")} {
		if value != "" {
			m[name] = value
		}
	}
	return m
}

// told are the fields that context and the events themselves have.
var told = map[string]bool{
	"session_id": true, "thread-id": true, "agent_id": true, "agent_type": true, "cwd": true, "turn_id": true,
	"prompt_id": true, "turn-id": true, "permission_mode": true, "model": true, "transcript_path": true,
	"hook_event_name": true, "type": true, "timestamp": true, "tool_name": true, "tool_input": true,
	"mcp_context": true, "prompt": true,
	"mcp_server": true, "last_assistant_message": true, "last-assistant-message": true,
	"prompt_response": true, "message": true, "stop_hook_active": true,
}

// event returns the event about a hook that is no call of a tool.
func (h *Handler) event(in input) client.Event {
	k := kinds[in.event]
	e := client.Event{Action: actions[k], Metadata: h.context(in)}
	if in.event != "" {
		e.Metadata[metadataHook] = in.name("hook_event_name", "type")
	}
	rest := map[string]json.RawMessage{}
	for name, value := range in.fields {
		if !told[name] || k == other || k == batch {
			rest[name] = value
		}
	}
	fields, _ := strictjson.Marshal(rest)
	switch k {
	case prompted:
		e.Input = in.text("prompt")
	case turnEnded, agentEnded:
		e.Input, e.Output = in.text("prompt"), in.text("last_assistant_message", "last-assistant-message",
			"prompt_response")
		e.Metadata["gen_ai.operation.name"] = "invoke_agent"
	case permission:
		server, name := in.tool(h.Program)
		e.Metadata[client.MetadataServer], e.Metadata[metadataTool] = server, name
		e.Input = in.text("tool_input")
	case notification:
		e.Input = in.text("message")
	default:
		e.Input, rest = string(fields), nil
	}
	if len(rest) > 0 {
		e.Metadata[metadataFields] = string(fields[:min(len(fields), maxFields)])
	}
	return e
}
