package otel

import (
	"strings"

	"github.com/konstruct/konstruct/audit"
)

// operations are the values of gen_ai.operation.name, of the registry and of libraries that have more.
var operations = map[string]string{
	"chat": audit.ActionLLMCall, "text_completion": audit.ActionLLMCall, "generate_content": audit.ActionLLMCall,
	"completion": audit.ActionLLMCall, "compaction": audit.ActionLLMCall, "fetch_response": audit.ActionLLMCall,
	"response": audit.ActionLLMCall, "responses": audit.ActionLLMCall, "messages": audit.ActionLLMCall,
	"embeddings": audit.ActionLLMCall, "embedding": audit.ActionLLMCall,
	"execute_tool": audit.ActionToolCall, "tool_call": audit.ActionToolCall, "execute_command": audit.ActionToolCall,
	"retrieval": audit.ActionRetrieval, "retrieve": audit.ActionRetrieval,
	"vector_db_retrieve": audit.ActionRetrieval,
	"invoke_agent":       ActionAgentRun, "create_agent": ActionAgentRun, "invoke_workflow": ActionAgentRun,
	"plan": ActionAgentRun, "execute_task": ActionStep, "invoke_node": ActionStep,
	"execute_event_loop_cycle": ActionStep,
	"search_memory":            ActionMemory, "create_memory": ActionMemory, "update_memory": ActionMemory,
	"upsert_memory": ActionMemory, "delete_memory": ActionMemory, "create_memory_store": ActionMemory,
	"delete_memory_store": ActionMemory,
	"rerank":              ActionRerank, "guardrail": ActionGuardrail, "apply_guardrail": ActionGuardrail,
	"guardrail_check": ActionGuardrail, "agent_handoff": ActionHandoff,
	"handoff": ActionHandoff, "human_input": ActionHumanInput, "evaluate": ActionEvaluation,
}

// openInference are the values of openinference.span.kind.
var openInference = map[string]string{"LLM": audit.ActionLLMCall, "EMBEDDING": audit.ActionLLMCall,
	"TOOL": audit.ActionToolCall, "RETRIEVER": audit.ActionRetrieval, "RERANKER": ActionRerank,
	"AGENT": ActionAgentRun, "CHAIN": ActionStep, "GUARDRAIL": ActionGuardrail, "EVALUATOR": ActionEvaluation,
	"PROMPT": ActionStep, "DECISION": ActionStep}

// traceloop are the values of traceloop.span.kind, and requests those of llm.request.type.
var (
	traceloop = map[string]string{"workflow": ActionAgentRun, "agent": ActionAgentRun, "task": ActionStep,
		"tool": audit.ActionToolCall}
	requests = map[string]string{"chat": audit.ActionLLMCall, "completion": audit.ActionLLMCall,
		"embedding": audit.ActionLLMCall, "rerank": ActionRerank}
)

// langfuse are the values of langfuse.observation.type.
var langfuse = map[string]string{"generation": audit.ActionLLMCall, "embedding": audit.ActionLLMCall,
	"agent": ActionAgentRun, "tool": audit.ActionToolCall, "chain": ActionStep, "span": ActionStep,
	"event": ActionStep, "retriever": audit.ActionRetrieval, "evaluator": ActionEvaluation,
	"guardrail": ActionGuardrail}

// vercel are the values of ai.operationId. A generateText is the loop around its calls, which have spans of their own.
var vercel = map[string]string{"ai.generateText": ActionAgentRun, "ai.streamText": ActionAgentRun,
	"ai.generateObject": ActionAgentRun, "ai.streamObject": ActionAgentRun,
	"ai.generateText.doGenerate": audit.ActionLLMCall, "ai.streamText.doStream": audit.ActionLLMCall,
	"ai.generateObject.doGenerate": audit.ActionLLMCall, "ai.streamObject.doStream": audit.ActionLLMCall,
	"ai.embed": ActionStep, "ai.embedMany": ActionStep, "ai.embed.doEmbed": audit.ActionLLMCall,
	"ai.embedMany.doEmbed": audit.ActionLLMCall, "ai.rerank": ActionStep, "ai.rerank.doRerank": ActionRerank,
	"ai.toolCall": audit.ActionToolCall}

// mcpMethods are the values of mcp.method.name that are actions.
var mcpMethods = map[string]string{"tools/call": audit.ActionToolCall, "resources/read": ActionResourceRead,
	"prompts/get": ActionPromptGet}

// adk are the first words of Google ADK's span names, which have no attribute for what they are.
var adk = map[string]string{"invocation": ActionStep, "agent_run": ActionAgentRun, "call_llm": audit.ActionLLMCall,
	"execute_tool": audit.ActionToolCall, "send_data": ActionStep}

// logfireAgents are the first words of logfire.msg_template, by which Logfire's spans of the OpenAI Agents SDK differ.
var logfireAgents = map[string]string{"Guardrail": ActionGuardrail, "Handoff:": ActionHandoff,
	"Function:": audit.ActionToolCall, "Agent": ActionAgentRun, "Turn": ActionStep, "Custom": ActionStep}

// geminiScope is Gemini CLI's. It reports each call of a model and a tool by a log record of its own, which alone has
// all tokens, and again by spans and by records of the conventions: those are steps and details.
const geminiScope = "gemini-cli"

// kind returns the action type of a span, or "" if no rule knows it. What a framework says of its own span goes before
// the operation, which some set on a span of another kind.
func (r *record) kind() string {
	switch r.from.scopeName {
	case geminiScope:
		return ActionStep
	case "logfire.openai_agents":
		first, _, _ := strings.Cut(r.text("logfire.msg_template"), " ")
		if action, known := logfireAgents[first]; known {
			return action
		}
	case "openinference.instrumentation.openai_agents":
		if strings.HasPrefix(r.name, "handoff to ") {
			return ActionHandoff
		}
	}
	for _, rule := range [...]struct {
		attribute string
		values    map[string]string
	}{{"ai.operationId", vercel}, {"langfuse.observation.type", langfuse}} {
		if v := r.text(rule.attribute); v != "" {
			if action, known := rule.values[v]; known {
				return action
			}
		}
	}
	if op := r.fieldText(operation); op != "" {
		if action, known := operations[op]; known {
			return action
		}
	}
	if v := r.text("openinference.span.kind"); v != "" {
		if action, known := openInference[strings.ToUpper(v)]; known {
			return action
		}
	}
	if action, known := requests[r.text("llm.request.type")]; known {
		return action
	}
	if action, known := traceloop[r.text("traceloop.span.kind")]; known {
		return action
	}
	if action, known := mcpMethods[r.text("mcp.method.name")]; known {
		return action
	}
	if r.from.scopeName == "gcp.vertex.agent" {
		first, _, _ := strings.Cut(r.name, " ")
		if action, known := adk[first]; known {
			return action
		}
	}
	switch {
	case r.has(toolName) && (r.has(toolCallID) || r.has(toolArguments) || r.has(toolResult)):
		return audit.ActionToolCall
	case (r.has(requestModel) || r.has(responseModel)) && (r.has(inputTokens) || r.has(outputTokens) ||
		r.has(inputMessages) || r.has(outputMessages) || len(r.lists) > 0):
		return audit.ActionLLMCall
	case r.has(agentName) && (r.has(inputMessages) || r.has(output)):
		return ActionAgentRun
	case r.from.scopeName == "com.anthropic.claude_code.tracing", strings.HasPrefix(r.from.scopeName, "langfuse"):
		return ActionStep // of these scopes every span is the agent's, and others hang below it
	}
	return ""
}
