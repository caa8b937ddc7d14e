package otel

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/konstruct/konstruct/audit"
)

// codingEvent says what a coding agent's log record becomes.
type codingEvent struct {
	action string
	fields map[string]place // attributes that have another name in the conventions
	took   string           // attribute with the duration in ms
	failed string           // attribute that is there, and not empty, if it failed
	works  string           // attribute that is "false" if it failed
	status string           // attribute with an HTTP status; 400 and above is a failure
	only   func(*record) bool
	beside bool // cached tokens are counted beside input
}

var (
	claudeTokens = map[string]place{"model": {requestModel, 0}, "input_tokens": {inputTokens, 0},
		"output_tokens": {outputTokens, 0}, "cache_read_tokens": {cacheRead, 0}, "cache_creation_tokens": {cacheWrite,
			0},
		"cost_usd": {cost, 0}, "request_id": {responseID, 0}, "agent.name": {agentName, 0}}
	claudeTool = map[string]place{"tool_name": {toolName, 0}, "tool_use_id": {toolCallID, 0},
		"tool_input":      {toolArguments, 0},
		"tool_parameters": {toolArguments, 1}, "tool_output": {toolResult, 0}, "agent.name": {agentName, 0}}
	codexTokens = map[string]place{"model": {requestModel, 0}, "input_token_count": {inputTokens, 0},
		"output_token_count": {outputTokens, 0}, "cached_token_count": {cacheRead, 0},
		"reasoning_token_count": {reasoning, 0},
		"conversation.id":       {conversation, 0}}
	codexTool = map[string]place{"tool_name": {toolName, 0}, "call_id": {toolCallID, 0}, "arguments": {toolArguments,
		0},
		"output": {toolResult, 0}, "conversation.id": {conversation, 0}}
	geminiTokens = map[string]place{"model": {requestModel, 0}, "input_token_count": {inputTokens, 0},
		"output_token_count": {outputTokens, 0}, "cached_content_token_count": {cacheRead, 0},
		"thoughts_token_count": {reasoning, 0}, "total_token_count": {totalTokens, 0}, "response_text": {output, 0},
		"request_text": {input, 0}}
	geminiTool = map[string]place{"function_name": {toolName, 0}, "function_args": {toolArguments, 0}}
	prompt     = map[string]place{"prompt": {input, 0}, "conversation.id": {conversation, 0}, "model": {requestModel,
		0}}
)

// codingEvents are the log records of Claude Code, Codex CLI and Gemini CLI that are actions. Others only announce
// these, or are about the program itself.
var codingEvents = map[string]*codingEvent{
	"claude_code.user_prompt": {action: ActionPrompt, fields: prompt},
	"claude_code.api_request": {action: audit.ActionLLMCall, fields: claudeTokens, took: "duration_ms", beside: true},
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
	r.coding = c
	r.readLog(l)
	rest := r.rest
	r.rest = make([]attribute, 0, len(rest))
	for _, a := range rest {
		if at, known := c.fields[a.name]; known {
			r.fill(at, a.name, a.value)
			continue
		}
		r.rest = append(r.rest, a)
	}
	if r.fieldText(agentName) == "/root" { // Codex's name for the agent that is no sub-agent
		r.restore(agentName)
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
	if !e.At.IsZero() {
		e.At = e.At.Add(-e.Latency) // it is logged at the end
	}
}

// fails reports whether the record says that what it reports failed.
func (c *codingEvent) fails(r *record) bool {
	if c.works != "" && r.text(c.works) == "false" || c.failed != "" && r.text(c.failed) != "" {
		return true
	}
	return c.status != "" && r.text(c.status) >= "400" && len(r.text(c.status)) == 3
}
