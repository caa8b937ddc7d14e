package mcpserver

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/mcpproxy"
	"github.com/konstruct/konstruct/strictjson"
)

// Caller is who calls, as its connection says.
type Caller struct {
	Principal access.Principal
	AgentID   uuid.UUID // the agent that acts; zero: none
	UserID    string    // on whose behalf
	// Conversation is gen_ai.conversation.id of calls that name none and have no trace.
	Conversation string
	Transport    string // OpenTelemetry's network.transport: pipe or tcp
	// Life ends when the caller may no longer call, as when its key is revoked; nil: it does not end.
	Life context.Context
}

// connection is what a context says of the connection that a request came by. Over HTTP that is one request.
type connection struct {
	Caller
	client  implementation
	version string // of the protocol
	session string // Mcp-Session-Id
	request string // the request's id as JSON; empty where it is not known
	// life ends when the request must end: in older revisions its own context outlives the client's.
	life context.Context
}

type connectionKey struct{}

// callOf returns a context's connection.
func callOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	if c == nil {
		return &connection{life: ctx}
	}
	return c
}

// error.type of calls that have none of their own.
const (
	errTool      = "tool_error" // OpenTelemetry's, for a result that says that the tool failed
	errDenied    = "denied"     // the principal lacks the permission
	errCancelled = "cancelled"
	errOther     = "_OTHER"
)

// call is one call of a tool, or one reading of a resource or prompt, in progress.
type call struct {
	*connection
	s      *Server
	method string
	name   string // of the tool or prompt, or the resource's address
	began  time.Time
	span   string
	trace  traceContext
	callID string // of the model's tool call
	// conversation is the one that the call names.
	conversation string
	progress     func(done, total float64, what string)

	event    uuid.UUID // of the event that records the call
	recorded bool      // the tool has written it
	summary  any       // of the result, for the event: without texts of documents
}

// traceContext is W3C Trace Context.
type traceContext struct{ trace, parent string }

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

// tenant returns the caller's tenant.
func (c *call) tenant() *konstruct.Tenant { return c.s.c.Konstruct.Tenant(c.Principal.Tenant) }

// agent returns the caller's agent.
func (c *call) agent() *konstruct.Agent { return c.tenant().Agent(c.AgentID) }

// inConversation notes the conversation that a call's arguments name.
func (c *call) inConversation(id string) { c.conversation = id }

// run returns the conversation that the event names: the call's own, or the connection's where it has no trace.
func (c *call) run() string {
	if c.conversation != "" || c.trace.trace != "" {
		return c.conversation
	}
	return c.Conversation
}

// metadata returns what the event says of how the call came: OpenTelemetry's names for MCP, and mcp.client.*, for which
// it has none. It has no tool, which an event of the caller's own may have.
func (c *call) metadata() audit.Metadata {
	m := audit.Metadata{"mcp.method.name": c.method, audit.MetadataToolServer: "konstruct",
		"network.transport": c.Transport, "span_id": c.span}
	for name, value := range map[string]string{"jsonrpc.request.id": c.request, "mcp.session.id": c.session,
		"mcp.protocol.version": c.version, "mcp.client.name": c.client.Name, "mcp.client.version": c.client.Version,
		"trace_id": c.trace.trace, "parent_span_id": c.trace.parent} {
		if value != "" {
			m[name] = recordable(value)
		}
	}
	return m
}

// toolMetadata is metadata for events whose own kind says nothing of a tool.
func (c *call) toolMetadata() audit.Metadata {
	m := c.metadata()
	m["gen_ai.tool.name"] = c.name
	if c.callID != "" {
		m["gen_ai.tool.call.id"] = c.callID
	}
	return m
}

// record writes the event of the call, unless its tool has.
func (c *call) record(ctx context.Context, arguments, output, errorType string) error {
	if c.recorded {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime) // what was cancelled is recorded, too
	defer cancel()
	e, err := c.makeEvent(arguments, output, errorType)
	if err != nil {
		return err
	}
	if c.event, err = c.agent().Log(ctx, e); err != nil {
		return err
	}
	c.recorded = true
	if e.ID = c.event; c.event != uuid.Nil && c.s.c.Recorded != nil {
		c.s.c.Recorded(c.Principal, e)
	}
	return nil
}

// recordTime bounds the time to write one event, in which the trail's own policy may end it before.
const recordTime = 30 * time.Second

// makeEvent returns the event of the call.
func (c *call) makeEvent(arguments, output, errorType string) (audit.Event, error) {
	m, latency := c.metadata(), time.Since(c.began)
	if c.method == "tools/call" {
		return audit.ToolCall{ID: c.event, AgentID: c.AgentID, UserID: c.UserID, At: c.began, Latency: latency,
			Name: c.name, CallID: c.callID, Error: errorType, ConversationID: c.run(), Arguments: arguments,
			Result: output, Extra: m}.Event()
	}
	for name, value := range map[string]string{"gen_ai.conversation.id": c.run(), "error.type": errorType} {
		if value != "" {
			m[name] = value
		}
	}
	action := mcpproxy.ActionPromptGet
	if c.method == "resources/read" {
		action, m["mcp.resource.uri"], arguments = mcpproxy.ActionResourceRead, c.name, c.name
	} else {
		m["gen_ai.prompt.name"] = c.name
	}
	raw, err := strictjson.Marshal(m)
	return audit.Event{ID: c.event, AgentID: c.AgentID, UserID: c.UserID, At: c.began, Latency: latency, Action: action,
		Input: arguments, Output: output, Metadata: raw}, err
}

// summarize returns the JSON of what is recorded of a result.
func summarize(v any) string {
	if v == nil {
		return ""
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(raw)
}
