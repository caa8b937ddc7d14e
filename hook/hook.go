// Package hook records what coding agents do, from the hooks that they run: Claude Code, Codex CLI and Gemini CLI. It
// reads the input of one hook, keeps an event, and answers in the program's documented form; before a tool runs, the
// operator's rules decide. It never stops an agent because the service is unavailable. It knows no database.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/konstruct/konstruct/client"
)

// Programs whose hooks are known. The names are those of rules (server) and of events (service.name).
const (
	ClaudeCode = "claude-code"
	Codex      = "codex"
	GeminiCLI  = "gemini-cli"
)

// MaxInput is how many bytes of a hook's input are read.
const MaxInput = 64 << 20

// DefaultTimeout is after how long a hook must have answered: less than the programs' own default of 60 seconds.
const DefaultTimeout = 50 * time.Second

// margin is how long before the program's timeout a hook answers. A program that kills its hook runs the tool.
const margin = 3 * time.Second

// Action types of events beside tool_invocation, agent_run and user_prompt.
const (
	actionPrompt         = "user_prompt"
	actionRun            = "agent_run"
	actionAgentStarted   = "agent_started"
	actionSessionStarted = "session_started"
	actionSessionEnded   = "session_ended"
	actionPermission     = "permission_request"
	actionCompaction     = "context_compaction"
	actionNotification   = "notification"
	actionHook           = "hook_event" // any other hook, and input that can't be read
	errorTool            = "tool_error"
	errorInterrupted     = "interrupted"
	errorNoResult        = "no_result"
	errorUnreadable      = "unreadable_input"
	metadataProgram      = "service.name"
	metadataConversation = "gen_ai.conversation.id"
	metadataAgent        = "gen_ai.agent.id"
	metadataAgentName    = "gen_ai.agent.name"
	metadataFolder       = "process.working_directory"
	metadataTurn         = "turn_id"
	metadataMode         = "permission_mode"
	metadataModel        = "gen_ai.request.model"
	metadataTranscript   = "transcript_path"
	metadataHook         = "hook_event_name"
	metadataFields       = "hook_fields" // the input's further fields, as JSON in a text
	metadataLate         = "late_result_of"
	metadataTool         = "gen_ai.tool.name"
	metadataChanged      = "requested_arguments" // where another hook has changed them
	maxField             = 1 << 10               // bytes of a name, id or path
	maxFields            = 16 << 10              // bytes of hook_fields
	maxNote              = 2 << 10               // bytes of what is said on standard error
	rulesRefresh         = time.Minute
)

// Handler handles one hook.
type Handler struct {
	Client *client.Client
	// Program is one of the constants above; empty: it is recognized by the input.
	Program string
	// FailClosed denies what can't be read or recorded. Otherwise the agent goes on.
	FailClosed bool
	// Timeout is after how long the program kills the hook; 0 is DefaultTimeout.
	Timeout time.Duration
	Logger  *slog.Logger
	calls   calls
	begin   time.Time
}

// New returns a handler, which remembers calls in progress in the client's folder.
func New(c *client.Client) *Handler {
	return &Handler{Client: c, calls: calls{dir: c.Dir()}, begin: time.Now(), Logger: slog.New(slog.DiscardHandler)}
}

// Reply is what a hook answers.
type Reply struct {
	Stdout []byte // JSON, or nothing
	Note   string // for standard error
	Code   int    // exit status: 0, 1 (something could not be recorded; the agent goes on) or 2 (blocked)
}

// Handle handles the input of one hook.
func (h *Handler) Handle(ctx context.Context, raw []byte) Reply {
	in, err := parse(raw)
	if err != nil {
		return h.unreadable(ctx, raw, err)
	}
	if h.Program == "" {
		h.Program = in.program()
	}
	switch k := kinds[in.event]; k {
	case before:
		return h.before(ctx, in)
	case after, afterFailed:
		return h.noted(h.after(ctx, in, k == afterFailed))
	case batch:
		return h.noted(h.batch(ctx, in))
	case turnEnded, agentEnded, sessionEnded:
		// First what the calls came to, so that the order on the trail is that of the agent.
		err := h.closeCalls(ctx, in, k == sessionEnded)
		if other := h.Client.Log(ctx, h.event(in)); err == nil {
			err = other
		}
		return h.noted(err)
	}
	return h.noted(h.Client.Log(ctx, h.event(in)))
}

// noted is the reply of a hook that decides nothing.
func (h *Handler) noted(err error) Reply {
	if err == nil {
		return Reply{}
	}
	return Reply{Note: note("this hook could not be recorded: %v", err), Code: 1}
}

// beforeTool reports whether input that can't be read may be of a hook before a tool runs.
func beforeTool(raw []byte) bool {
	for event, k := range kinds {
		if k == before && bytes.Contains(raw, []byte(event)) {
			return true
		}
	}
	return false
}

// unreadable records input that is no JSON object.
func (h *Handler) unreadable(ctx context.Context, raw []byte, why error) Reply {
	e := client.Event{Action: actionHook, Input: string(raw), Metadata: map[string]any{"error.type": errorUnreadable}}
	if h.Program != "" {
		e.Metadata[metadataProgram] = h.Program
	}
	r := Reply{Note: note("the hook's input can't be read and is recorded as it is: %v", why), Code: 1}
	if err := h.Client.Log(ctx, e); err != nil {
		r.Note = note("the hook's input can't be read (%v), and could not be recorded: %v", why, err)
	}
	// A call that was written so that it can't be read does not escape rules that forbid or ask.
	if h.FailClosed || beforeTool(raw) && h.Client.Restricts(ctx) {
		r.Code = 2
		r.Note += "\nthe call is denied: rules forbid calls of tools, and this one can't be read"
	}
	return r
}

// before decides about a call of a tool.
func (h *Handler) before(ctx context.Context, in input) Reply {
	call := h.call(in)
	timeout := h.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	wait := max(time.Second, timeout-margin-time.Since(h.begin))
	v := h.Client.Authorize(ctx, call, client.Limits{Wait: wait, Prompt: h.Program == ClaudeCode})
	if v.Allowed || v.Prompt {
		err := h.remember(in, call, v)
		if err == nil {
			err = h.Client.Writable()
		}
		r := h.answer(in, v)
		if err != nil {
			if h.FailClosed {
				v = client.Verdict{Reason: "the call can't be recorded: " + err.Error()}
				return h.answer(in, v)
			}
			r.Note = note("this call may not be recorded: %v", err)
		}
		return r
	}
	call.Error, call.Result, call.At = client.Denied, v.Reason, time.Now()
	err := h.Client.LogCall(ctx, call, v)
	if err == nil {
		err = h.calls.finish(h.key(in))
	}
	r := h.answer(in, v)
	if err != nil {
		r.Note = note("this denial could not be recorded: %v", err)
	}
	return r
}

// remember keeps what is known of a call until its result comes.
func (h *Handler) remember(in input, call client.ToolCall, v client.Verdict) error {
	e, err := h.Client.CallEvent(call, v)
	if err != nil {
		return err
	}
	return h.calls.add(h.key(in), pending{Session: in.session(), Agent: in.agent(), At: time.Now().UTC(),
		Input: e.Input, Digest: digest(call.Arguments), UserID: e.UserID, Metadata: e.Metadata, Verdict: v.Metadata})
}

// after records a call with its result.
func (h *Handler) after(ctx context.Context, in input, failed bool) error {
	call := h.call(in)
	call.Result, call.Error = in.result(failed)
	p, key, state, err := h.calls.take(h.key(in))
	if err != nil {
		h.Logger.Warn("the beginning of a call can't be read", "error", err)
	}
	if state == finished {
		return nil // another hook has recorded it
	}
	took, given := in.duration()
	call.At = time.Now().Add(-took)
	if state == waiting {
		call.ID, call.At = p.ID, p.At
		if p.Digest != digest(call.Arguments) { // a rule decided about others
			call.Extra[metadataChanged] = p.Input[:min(len(p.Input), maxFields)]
		}
		if !given {
			took = time.Since(p.At)
		}
	}
	if state == closed { // it ended as no_result, and here is its result
		call.Extra[metadataLate] = p.ID.String()
	}
	call.Latency = took
	if err := h.Client.LogCall(ctx, call, client.Verdict{Metadata: p.Verdict}); err != nil {
		return err
	}
	return h.calls.finish(key)
}

// batch records the calls of a batch that ran no tool: the program's user, or its own rules, denied them.
func (h *Handler) batch(ctx context.Context, in input) error {
	var list []map[string]json.RawMessage
	if json.Unmarshal(in.fields["tool_calls"], &list) != nil {
		return h.Client.Log(ctx, h.event(in))
	}
	for _, fields := range list {
		one := in.with(fields)
		p, key, state, err := h.calls.take(h.key(one))
		if err != nil {
			return err
		}
		if state != waiting {
			continue
		}
		call := h.call(one)
		call.ID, call.At, call.Error = p.ID, p.At, client.Denied
		call.Result, _ = one.result(false)
		if err := h.Client.LogCall(ctx, call, client.Verdict{Metadata: p.Verdict}); err != nil {
			return err
		}
		if err := h.calls.finish(key); err != nil {
			return err
		}
	}
	return nil
}

// closeCalls records the calls of a turn, a sub-agent or a session that ended without their results.
func (h *Handler) closeCalls(ctx context.Context, in input, all bool) error {
	return h.calls.each(func(key string, p pending) error {
		if p.Session != in.session() || !all && p.Agent != in.agent() {
			return nil
		}
		return closeCall(ctx, h.Client, h.calls, key, p)
	})
}

// closeCall records a call without a result.
func closeCall(ctx context.Context, c *client.Client, in calls, key string, p pending) error {
	m := p.Metadata
	m["error.type"] = errorNoResult
	e := client.Event{ID: p.ID, At: p.At, Action: client.ActionToolCall, UserID: p.UserID, Input: p.Input, Metadata: m}
	if err := c.Log(ctx, e); err != nil {
		return err
	}
	return in.close(key)
}

// CloseOld records calls without a result that began a day ago, and forgets those that ended then.
func CloseOld(ctx context.Context, c *client.Client) error {
	in := calls{dir: c.Dir()}
	now := time.Now()
	in.sweep(now)
	return in.each(func(key string, p pending) error {
		if now.Sub(p.At) < keepCalls {
			return nil
		}
		return closeCall(ctx, c, in, key, p)
	})
}

func note(format string, args ...any) string {
	s := "konstruct hook: " + fmt.Sprintf(format, args...)
	return s[:min(len(s), maxNote)]
}
