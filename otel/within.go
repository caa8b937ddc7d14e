package otel

import (
	"encoding/json"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/audit"
)

// readWithin fills fields from JSON that libraries have in an attribute: LangChain's metadata, through OpenInference,
// and the provider's answer, which has the id of the response.
func (r *record) readWithin(isCall bool) {
	if m, is := decodedText(r.text("metadata")).(map[string]any); is {
		for f, names := range map[field][]string{conversation: {"session_id", "thread_id", "conversation_id"},
			user: {"user_id"}, agentName: {"lc_agent_name"}} {
			r.fillWithin(f, m, names...)
		}
	}
	if !isCall || r.has(responseID) || !r.has(output) {
		return
	}
	if m, is := decodedText(r.fieldText(output)).(map[string]any); is {
		if inner := langchainMetadata(m); inner != nil {
			m = inner
		} else if m["model"] == nil {
			return // not the provider's answer
		}
		r.fillWithin(responseID, m, "id")
	}
}

// readName fills the name of a tool or an agent that has no attribute of its own: from the attribute that the library
// has for whatever it is, or from the span's name where a library uses that.
func (r *record) readName(action string) {
	f := none
	switch {
	case action == audit.ActionToolCall && !r.has(toolName):
		f = toolName
	case action == ActionAgentRun && !r.has(agentName):
		f = agentName
	}
	if f == none {
		return
	}
	for _, name := range []string{"traceloop.entity.name", "name"} {
		if s := r.take(name); s != "" {
			r.set(f, name, pcommon.NewValueStr(s), len(r.named))
			return
		}
	}
	if f == toolName || r.text("langfuse.observation.type") != "" {
		name := r.name
		// The conventions for MCP name a span "tools/call NAME"; its SDK for Python has words before that.
		if _, after, is := strings.Cut(name, "tools/call "); is && r.text("mcp.method.name") == "tools/call" {
			name = after
		}
		r.set(f, "", pcommon.NewValueStr(name), len(r.named))
	}
}

// readClaudeSession makes Claude Code's session the conversation: within a sub-agent it has that one's id there.
func (r *record) readClaudeSession() {
	if !strings.HasPrefix(r.from.scopeName, "com.anthropic.claude_code") {
		return
	}
	if s := r.take("session.id"); s != "" {
		r.restore(conversation)
		r.set(conversation, "session.id", pcommon.NewValueStr(s), 1)
	}
}

// readClaudeTool reads what Claude Code's span of a tool has in an event and in attributes of its own.
func (r *record) readClaudeTool(events []ptrace.SpanEvent) {
	if r.name != "claude_code.tool" {
		return
	}
	if s := r.take("file_path"); s != "" && !r.has(toolArguments) {
		r.set(toolArguments, "file_path", pcommon.NewValueStr(s), len(r.named))
	}
	for _, event := range events {
		for _, name := range []string{"output", "content", "diff"} {
			if v, ok := event.Attributes().Get(name); ok && event.Name() == "tool.output" && !r.has(toolResult) {
				r.set(toolResult, name, v, len(r.named))
			}
		}
	}
}

// readLogfireEvents reads messages that Pydantic's instrumentations have as one list of events in JSON.
func (r *record) readLogfireEvents() {
	list, is := decodedText(r.text("events")).([]any)
	if !is {
		return
	}
	var in, out []any
	for _, item := range list {
		m, is := item.(map[string]any)
		name, named := m["event.name"].(string)
		if !is || !named {
			return
		}
		delete(m, "event.name")
		body := pcommon.NewValueMap()
		if body.FromRaw(plain(m)) != nil {
			return
		}
		if all, output := messageEvent(name, pcommon.NewMap(), body); output {
			out = append(out, all...)
		} else {
			in = append(in, all...)
		}
	}
	r.take("events")
	for name, all := range map[string][]any{"gen_ai.input.messages": in, "gen_ai.output.messages": out} {
		if len(all) > 0 && r.lists[name] == nil {
			r.addList(name, all)
		}
	}
}

// plain returns decoded JSON with numbers that pcommon takes.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, item := range v {
			v[name] = plain(item)
		}
	case []any:
		for i, item := range v {
			v[i] = plain(item)
		}
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return string(v)
		}
		return f
	}
	return v
}

// fillWithin fills an empty field with the first of the names that is a text.
func (r *record) fillWithin(f field, m map[string]any, names ...string) {
	if r.has(f) {
		return
	}
	for _, name := range names {
		if s, is := m[name].(string); is && s != "" {
			r.set(f, "metadata."+name, pcommon.NewValueStr(s), len(r.named))
			return
		}
	}
}

// langchainMetadata returns what LangChain's result has of the provider's answer.
func langchainMetadata(m map[string]any) map[string]any {
	v := any(m)
	for _, name := range []string{"generations", "", "", "message", "kwargs", "response_metadata"} {
		switch at := v.(type) {
		case []any:
			if name != "" || len(at) == 0 {
				return nil
			}
			v = at[0]
		case map[string]any:
			v = at[name]
		default:
			return nil
		}
	}
	inner, _ := v.(map[string]any)
	return inner
}

// embeds reports whether a call of a model makes vectors.
func (r *record) embeds() bool {
	for _, what := range []string{r.fieldText(operation), r.text("openinference.span.kind"),
		r.text("langfuse.observation.type"), r.text("llm.request.type"), r.text("ai.operationId")} {
		if strings.Contains(strings.ToLower(what), "embed") {
			return true
		}
	}
	return false
}
