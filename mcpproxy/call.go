package mcpproxy

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/strictjson"
	"github.com/konstruct/konstruct/toolrule"
)

// Action types of what is recorded beside tool_invocation, which tools/call is.
const (
	ActionResourceRead = "resource_read" // resources/read
	ActionPromptGet    = "prompt_get"    // prompts/get
	ActionTaskResult   = "task_result"   // tasks/result: the result of a tool call that was made a task
)

// error.type of calls that have no response of their own. "tool_error" and JSON-RPC codes are OpenTelemetry's.
const (
	errTool       = "tool_error"
	errDenied     = "denied"        // by a rule or a person, or nobody answered in time
	errCancelled  = "cancelled"     // the client cancelled it
	errClientLeft = "client_left"   // the client closed the connection
	errServerGone = "server_exited" // the server ended
	errNoResponse = "no_response"   // the response was lost
	errSessionEnd = "session_ended"
)

// methods are the requests that are recorded, with the field of params that names what is asked for.
var methods = map[string]struct{ action, field string }{
	"tools/call":     {audit.ActionToolCall, "name"},
	"resources/read": {ActionResourceRead, "uri"},
	"prompts/get":    {ActionPromptGet, "name"},
	"tasks/result":   {ActionTaskResult, "taskId"},
}

// Implementation is the name and version that a client or a server gives of itself. Nobody has verified it.
type Implementation struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// call is a recorded request in progress, or one whose response tells who the server is.
type call struct {
	key     string // of its id
	id      []byte
	method  string
	name    string // tool, prompt, URI or task
	args    []byte // JSON
	inputs  []byte // inputResponses of a retry
	state   string // requestState of a retry
	token   []byte // progressToken
	callID  string // of the model's tool call, where the client says it
	parent  traceContext
	span    string
	event   uuid.UUID
	began   time.Time
	client  Implementation
	version string // protocol version

	decision  toolrule.Decision
	approval  *approval
	reused    bool          // another call with this id was in progress
	held      bool          // it waits for a person, and the server has not seen it
	stopped   chan struct{} // closed when a held call's wait must end
	why       string        // error.type of a stopped or cancelled call
	cancelled *time.Timer   // of a call that the client cancelled at the server
}

// size is what the call holds in memory, in bytes.
func (c *call) size() int { return len(c.args) + len(c.inputs) + 1<<10 }

// approval is what a person answered, or that nobody did.
type approval struct {
	escalation uuid.UUID
	decision   string // allow, deny, expired, nobody
	by, words  string
	waited     time.Duration
	before     bool // it was given to an earlier round of the same call
}

// traceContext is W3C Trace Context.
type traceContext struct{ trace, span string }

var traceparent = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$`)

// parseTraceparent reads a traceparent; zero for what is none.
func parseTraceparent(s string) (t traceContext) {
	if m := traceparent.FindStringSubmatch(s); m != nil && !strings.HasPrefix(s, "ff") &&
		strings.Trim(m[1], "0") != "" && strings.Trim(m[2], "0") != "" {
		t = traceContext{m[1], m[2]}
	}
	return t
}

// callIDNames are the names in _meta under which clients send the id of the model's tool call.
var callIDNames = []string{"gen_ai.tool.call.id", "claudecode/toolUseId"}

// readCall reads a recorded request.
func readCall(m *message) (*call, error) {
	field := methods[m.method].field
	c := &call{id: bytes.Clone(m.id), key: idKey(m.id), method: m.method, began: time.Now(), span: newSpan()}
	if c.key == "" {
		return nil, &frameError{codeInvalid, "id: " + m.method + " needs one, a text or a number"}
	}
	if len(m.params) == 0 || m.params[0] != '{' {
		return nil, &frameError{codeParams, "params: " + m.method + " needs an object"}
	}
	var meta []byte
	for name, value := range members(m.params) {
		switch name {
		case field:
			c.name, _ = text(value)
		case "arguments":
			c.args = bytes.Clone(value) // the frame can go
		case "inputResponses":
			c.inputs = bytes.Clone(value)
		case "requestState":
			c.state, _ = text(value)
		case "_meta":
			meta = value
		}
	}
	limit := maxName
	if field == "uri" {
		limit = maxURI
	}
	if err := storable("params."+field, c.name, limit); err != nil {
		return nil, err
	}
	var err error
	if c.event, err = uuid.NewV7(); err != nil {
		return nil, &frameError{codeInternal, "the proxy can't draw an event id: " + err.Error()}
	}
	for name, value := range members(meta) {
		switch name {
		case "traceparent":
			s, _ := text(value)
			c.parent = parseTraceparent(s)
		case "progressToken":
			if idKey(value) != "" {
				c.token = bytes.Clone(value)
			}
		}
		for _, known := range callIDNames {
			if s, ok := text(value); ok && name == known {
				c.callID = plain(s, maxName)
			}
		}
	}
	return c, nil
}

func newSpan() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// stateless reports whether the call is of revision 2026-07-28 or later: revisions are dates.
func (c *call) stateless() bool { return c.version >= "2026-07-28" }

// plain returns a text that the trail can hold: peers send what they like.
func plain(s string, limit int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// outcome is how a call ended.
type outcome struct {
	output string
	err    string // error.type
	code   string // JSON-RPC error code
	kind   string // resultType, where it is not "complete"
	server *Implementation
}

// readOutcome reads a response.
func readOutcome(m *message) (o outcome) {
	if m.error != nil {
		code := string(member(m.error, "code"))
		if n, err := strconv.Atoi(code); err != nil || strconv.Itoa(n) != code {
			code = ""
		}
		o = outcome{output: plain(string(m.error), MaxFrame), code: code, err: code}
		if code == "" {
			o.err = "_OTHER" // OpenTelemetry's for an error without a name
		}
		return o
	}
	o.output = plain(string(m.result), MaxFrame)
	if string(member(m.result, "isError")) == "true" {
		o.err = errTool
	}
	if kind, ok := text(member(m.result, "resultType")); ok && kind != "complete" {
		o.kind = plain(kind, maxName)
	}
	o.server = readImplementation(member(member(m.result, "_meta"), "io.modelcontextprotocol/serverInfo"))
	return o
}

// readImplementation reads a name and version; nil where there is none.
func readImplementation(raw []byte) *Implementation {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	name, _ := text(member(raw, "name"))
	version, _ := text(member(raw, "version"))
	return &Implementation{plain(name, maxName), plain(version, maxName)}
}

// makeEvent returns the event that records a call.
func (s *Session) makeEvent(c *call, o outcome) (audit.Event, error) {
	m := s.metadata(c)
	set := func(key, value string) {
		if value != "" {
			m[key] = value
		}
	}
	set("rpc.response.status_code", o.code)
	set("mcp.result.type", o.kind)
	if server := o.server; server != nil {
		set("mcp.server.name", server.Name)
		set("mcp.server.version", server.Version)
	}
	if c.reused {
		m["jsonrpc.request.id.reused"] = true
	}
	if len(c.inputs) > 0 {
		m["mcp.input_responses"] = plain(string(c.inputs), maxKept) // as text: metadata has limits that JSON has not
	}
	if a := c.approval; a != nil {
		m["tool_approval.decision"] = a.decision
		m["tool_approval.waited_ms"] = a.waited.Milliseconds()
		set("tool_approval.by", a.by)
		set("tool_approval.words", plain(a.words, 4*maxName))
		if a.escalation != uuid.Nil {
			set("tool_approval.escalation_id", a.escalation.String())
		}
		if a.before {
			m["tool_approval.before"] = true
		}
	}
	conversation, _ := m["gen_ai.conversation.id"].(string)
	delete(m, "gen_ai.conversation.id")
	latency := time.Since(c.began)
	if c.method == "tools/call" {
		if c.decision.Rule >= 0 && c.decision.Action != "" {
			m["tool_rule.action"], m["tool_rule.index"] = c.decision.Action, c.decision.Rule
			set("tool_rule.reason", c.decision.Reason)
		}
		return audit.ToolCall{ID: c.event, AgentID: s.c.AgentID, UserID: s.c.UserID, At: c.began, Latency: latency,
			Name: c.name, CallID: c.callID, Error: o.err, ConversationID: conversation, Arguments: string(c.args),
			Result: o.output, Extra: m}.Event()
	}
	set("gen_ai.conversation.id", conversation)
	set("error.type", o.err)
	input := string(c.args)
	switch c.method {
	case "resources/read":
		set("mcp.resource.uri", c.name)
		input = c.name
	case "prompts/get":
		set("gen_ai.prompt.name", c.name)
	case "tasks/result":
		set("mcp.task.id", c.name)
	}
	raw, err := strictjson.Marshal(m)
	return audit.Event{ID: c.event, AgentID: s.c.AgentID, UserID: s.c.UserID, At: c.began, Latency: latency,
		Action: methods[c.method].action, Input: input, Output: o.output, Metadata: raw}, err
}

// metadata returns what all events about a call have: OpenTelemetry's names for MCP, and mcp.server.*, mcp.client.* and
// tool_server, for which it has none.
func (s *Session) metadata(c *call) audit.Metadata {
	m := audit.Metadata{"mcp.method.name": c.method, audit.MetadataToolServer: s.c.Server,
		"network.transport": s.c.Transport, "span_id": c.span}
	set := func(key, value string) {
		if value != "" {
			m[key] = value
		}
	}
	if id, ok := text(c.id); ok {
		set("jsonrpc.request.id", plain(id, maxID))
	} else {
		set("jsonrpc.request.id", string(c.id))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	set("mcp.session.id", s.id)
	set("mcp.protocol.version", cmp.Or(c.version, s.version)) // a client may not wait for the answer to initialize
	set("mcp.client.name", c.client.Name)
	set("mcp.client.version", c.client.Version)
	set("mcp.server.name", s.server.Name)
	set("mcp.server.version", s.server.Version)
	set("trace_id", c.parent.trace)
	set("parent_span_id", c.parent.span)
	if c.parent.trace == "" {
		set("gen_ai.conversation.id", s.conversation)
	}
	return m
}
