package otel

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/konstruct/konstruct/audit"
)

// codingEvent says what a coding agent's log record becomes.
type codingEvent struct {
	action string
	fields map[string]field // attributes that have another name in the conventions
	took   string           // attribute with the duration in ms
	failed string           // attribute that is there, and not empty, if it failed
	works  string           // attribute that is "false" if it failed
	status string           // attribute with an HTTP status; 400 and above is a failure
	only   func(*record) bool
}

var (
	claudeTokens = map[string]field{"model": requestModel, "input_tokens": inputTokens,
		"output_tokens": outputTokens, "cache_read_tokens": cacheRead, "cache_creation_tokens": cacheWrite,
		"cost_usd": cost, "request_id": responseID, "agent.name": agentName}
	claudeTool = map[string]field{"tool_name": toolName, "tool_use_id": toolCallID, "tool_input": toolArguments,
		"tool_parameters": toolArguments, "tool_output": toolResult, "agent.name": agentName}
	codexTokens = map[string]field{"model": requestModel, "input_token_count": inputTokens,
		"output_token_count": outputTokens, "cached_token_count": cacheRead, "reasoning_token_count": reasoning,
		"conversation.id": conversation}
	codexTool = map[string]field{"tool_name": toolName, "call_id": toolCallID, "arguments": toolArguments,
		"output": toolResult, "conversation.id": conversation}
	geminiTokens = map[string]field{"model": requestModel, "input_token_count": inputTokens,
		"output_token_count": outputTokens, "cached_content_token_count": cacheRead,
		"thoughts_token_count": reasoning, "total_token_count": totalTokens, "response_text": output,
		"request_text": input}
	geminiTool = map[string]field{"function_name": toolName, "function_args": toolArguments}
	prompt     = map[string]field{"prompt": input, "conversation.id": conversation, "model": requestModel}
)

// codingEvents are the log records of Claude Code, Codex CLI and Gemini CLI that are actions. Others only announce
// these, or are about the program itself.
var codingEvents = map[string]*codingEvent{
	"claude_code.user_prompt": {action: ActionPrompt, fields: prompt},
	"claude_code.api_request": {action: audit.ActionLLMCall, fields: claudeTokens, took: "duration_ms"},
	"claude_code.api_error": {action: audit.ActionLLMCall, fields: claudeTokens, took: "duration_ms",
		failed: "error"},
	"claude_code.tool_decision": {action: ActionToolDecision, fields: claudeTool},
	"claude_code.tool_result": {action: audit.ActionToolCall, fields: claudeTool, took: "duration_ms",
		failed: "error", works: "success"},

	"codex.user_prompt":     {action: ActionPrompt, fields: prompt},
	"codex.sse_event":       {action: audit.ActionLLMCall, fields: codexTokens, took: "duration_ms", only: completed},
	"codex.websocket_event": {action: audit.ActionLLMCall, fields: codexTokens, took: "duration_ms", only: completed},
	"codex.api_request": {action: audit.ActionLLMCall, fields: codexTokens, took: "duration_ms",
		failed: "error.message", status: "http.response.status_code", only: refused},
	"codex.tool_decision": {action: ActionToolDecision, fields: codexTool},
	"codex.tool_result": {action: audit.ActionToolCall, fields: codexTool, took: "duration_ms",
		works: "success"},

	"gemini_cli.user_prompt": {action: ActionPrompt, fields: prompt},
	"gemini_cli.api_response": {action: audit.ActionLLMCall, fields: geminiTokens, took: "duration_ms",
		failed: "error", status: "status_code"},
	"gemini_cli.api_error": {action: audit.ActionLLMCall, fields: geminiTokens, took: "duration_ms",
		failed: "error", status: "status_code"},
	"gemini_cli.tool_call": {action: audit.ActionToolCall, fields: geminiTool, took: "duration_ms",
		failed: "error", works: "success"},
}

// completed reports whether an event of Codex's stream is the one that has the call's usage.
func completed(r *record) bool {
	return r.text("event.kind") == "response.completed" && (r.has(inputTokens) || r.has(outputTokens))
}

// refused reports whether a request of Codex failed: one that succeeds is reported by its stream.
func refused(r *record) bool { return r.has(errorType) }

// read reads the record, and sets the event's action; it stays empty for a record that only announces another.
func (c *codingEvent) read(r *record, e *audit.Event, l plog.LogRecord) {
	r.readLog(l)
	rest := r.rest
	r.rest = make([]attribute, 0, len(rest))
	for _, a := range rest {
		if f, known := c.fields[a.name]; known && a.value.AsString() != "" && !r.has(f) {
			r.set(f, a.name, a.value, 1)
			continue
		}
		r.rest = append(r.rest, a)
	}
	if c.fails(r) && !r.has(errorType) {
		kind := r.text("error_type")
		if kind == "" {
			kind = r.text(c.status)
		}
		if kind == "" {
			kind = "_OTHER"
		}
		r.set(errorType, "error.type", pcommon.NewValueStr(kind), 1)
	}
	if c.only != nil && !c.only(r) {
		return
	}
	e.Action, e.Latency = c.action, r.milliseconds(c.took)
}

// fails reports whether the record says that what it reports failed.
func (c *codingEvent) fails(r *record) bool {
	if c.works != "" && r.text(c.works) == "false" || c.failed != "" && r.text(c.failed) != "" {
		return true
	}
	return c.status != "" && r.text(c.status) >= "400" && len(r.text(c.status)) == 3
}
