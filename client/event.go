// Package client is the Go client of the service for programs that run beside an agent: the hook of coding agents and
// the MCP proxy. It keeps events on disk until the service has them, applies the operator's rules on calls of tools,
// and asks people. It has a key that may write events, and no key that seals. It knows no database.
package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/strictjson"
)

// Action types that this package's users write, beside those that package audit names.
const (
	ActionToolCall = "tool_invocation" // a call of a tool with its result; package audit's ActionToolCall
	ActionGap      = "capture_gap"     // events that could not be kept on this machine's disk
)

// Denied is the error.type of a call that was denied before its tool ran.
const Denied = "denied"

// Metadata names beside OpenTelemetry's. Callers of the service may not use names that begin with "konstruct.".
const (
	MetadataServer     = "tool_server"                 // the MCP server, or the agent's program for its own tools
	MetadataAction     = "tool_rule.action"            // of the rule that matched: allow, deny or ask
	MetadataRule       = "tool_rule.index"             // its place in the operator's policy or the local file
	MetadataReason     = "tool_rule.reason"            // its reason, or why no rule is known
	MetadataApproval   = "tool_approval.decision"      // allow, deny, expired, nobody or prompt
	MetadataApprovedBy = "tool_approval.by"            // the person who answered
	MetadataWords      = "tool_approval.words"         // the person's own words, or why nobody was asked
	MetadataEscalation = "tool_approval.escalation_id" // the escalation that was answered
	MetadataWaited     = "tool_approval.waited_ms"     // for the answer
	metadataRedactions = "redactions"                  // rule, field and count of what was redacted on this machine
	metadataReplaced   = "text_replaced"               // true if characters that PostgreSQL can't hold were replaced
)

// Limits on one event. The service cuts texts at 64 KiB, after it has redacted them, so that no half of a secret stays
// at the cut.
const (
	MaxText     = 1 << 20   // bytes of Input and Output; longer ones are cut, with a mark
	MaxMetadata = 256 << 10 // bytes of metadata as JSON
	maxName     = 1 << 10   // bytes of an action type or user
	maxLine     = 4 << 20   // bytes of an event as JSON, in which a character may take six
)

// Event is one action of an agent.
type Event struct {
	ID       uuid.UUID // zero: drawn when the event is logged; a retry with the same id has no second effect
	AgentID  uuid.UUID // zero: the Config's
	UserID   string    // empty: the Config's
	Action   string    // the action type
	Input    string    // what it was given; for a tool its arguments as JSON
	Output   string    // what came out
	Latency  time.Duration
	At       time.Time      // zero: now
	Metadata map[string]any // OpenTelemetry names, and the constants above
}

// ToolCall is one call of a tool.
type ToolCall struct {
	ID             uuid.UUID
	AgentID        uuid.UUID
	UserID         string
	Server         string // the MCP server, or the agent's program for its own tools
	Name           string // gen_ai.tool.name
	CallID         string // gen_ai.tool.call.id
	ConversationID string // gen_ai.conversation.id
	Arguments      string // JSON as it was sent
	Result         string
	Error          string // error.type; empty when the tool succeeded
	Latency        time.Duration
	At             time.Time      // when the call began
	Extra          map[string]any // further metadata
}

// Event returns the event that records the call.
func (t ToolCall) Event() Event {
	m := map[string]any{}
	maps.Copy(m, t.Extra)
	m["gen_ai.operation.name"], m["gen_ai.tool.name"] = "execute_tool", t.Name
	for name, value := range map[string]string{"gen_ai.tool.call.id": t.CallID, MetadataServer: t.Server,
		"gen_ai.conversation.id": t.ConversationID, "error.type": t.Error} {
		if value != "" {
			m[name] = value
		}
	}
	return Event{ID: t.ID, AgentID: t.AgentID, UserID: t.UserID, Action: ActionToolCall, Input: t.Arguments,
		Output: t.Result, Latency: t.Latency, At: t.At, Metadata: m}
}

// wireEvent is an event as POST /v1/events/batch takes it.
type wireEvent struct {
	ID        uuid.UUID       `json:"id"`
	AgentID   *uuid.UUID      `json:"agent_id,omitempty"`
	UserID    string          `json:"user_id,omitempty"`
	Action    string          `json:"action_type"`
	Input     string          `json:"input_summary,omitempty"`
	Output    string          `json:"output_summary,omitempty"`
	LatencyMS int64           `json:"latency_ms,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
}

// encode returns the event's JSON, with what PostgreSQL can't hold replaced and long texts cut.
func (e Event) encode(now time.Time) ([]byte, error) {
	w := wireEvent{ID: e.ID, UserID: e.UserID, Action: e.Action, LatencyMS: max(0, e.Latency.Milliseconds())}
	if w.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("draw an event's id: %w", err)
		}
		w.ID = id
	}
	if e.AgentID != uuid.Nil {
		w.AgentID = &e.AgentID
	}
	if w.CreatedAt = e.At.UTC().Truncate(time.Microsecond); e.At.IsZero() {
		w.CreatedAt = now.UTC().Truncate(time.Microsecond)
	}
	if e.Action == "" || len(e.Action) > maxName || len(e.UserID) > maxName {
		return nil, fmt.Errorf("an event needs an action type, and it and the user are at most %d bytes", maxName)
	}
	replaced := false
	for _, f := range []struct {
		from string
		to   *string
	}{{e.Input, &w.Input}, {e.Output, &w.Output}, {e.UserID, &w.UserID}, {e.Action, &w.Action}} {
		text, changed := storable(f.from)
		replaced, *f.to = replaced || changed, text
	}
	raw, err := storableMetadata(e.Metadata, replaced)
	if err != nil {
		return nil, fmt.Errorf("an event's metadata: %w", err)
	}
	if len(raw) > MaxMetadata {
		return nil, fmt.Errorf("an event's metadata is %d bytes long, the limit is %d", len(raw), MaxMetadata)
	}
	w.Metadata = raw
	input, output := w.Input, w.Output
	for limit := MaxText; ; limit /= 2 {
		w.Input, w.Output = pgtext.Cut(input, limit), pgtext.Cut(output, limit)
		line, err := strictjson.Marshal(w)
		if err != nil || len(line) <= maxLine {
			return line, err
		}
	}
}

// storable returns a text that PostgreSQL holds: NUL is shown as U+2400, and what is not UTF-8 as U+FFFD.
func storable(s string) (text string, changed bool) {
	if pgtext.Holds(s) {
		return s, false
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\u2400"), true
}

// storableMetadata returns metadata as JSON in which every text is storable. replaced is true if another text of the
// event was replaced.
func storableMetadata(m map[string]any, replaced bool) ([]byte, error) {
	raw, err := strictjson.Marshal(m) // replaces what is not UTF-8
	if err != nil {
		return nil, err
	}
	hasNUL := bytes.Contains(raw, []byte(`\u0000`))
	if m == nil {
		raw = []byte("{}")
	}
	if !hasNUL && !replaced {
		return raw, nil
	}
	out := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, err
	}
	out, _ = withoutNUL(out).(map[string]any)
	out[metadataReplaced] = true
	return strictjson.Marshal(out)
}

// withoutNUL shows NUL as U+2400 in every text of decoded JSON.
func withoutNUL(v any) any {
	switch v := v.(type) {
	case string:
		s, _ := storable(v)
		return s
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			name, _ = storable(name)
			out[name] = withoutNUL(value)
		}
		return out
	case []any:
		for i := range v {
			v[i] = withoutNUL(v[i])
		}
	}
	return v
}

// errTooLarge is returned for events that don't fit a file of the spool.
var errTooLarge = errors.New("the events are too large to be kept together")
