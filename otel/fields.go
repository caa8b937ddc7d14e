package otel

// field is what an attribute says, whatever its name.
type field int

// The fields, in no order that matters.
const (
	none field = iota
	operation
	provider
	requestModel
	responseModel
	responseID
	finishReasons
	inputTokens
	outputTokens
	totalTokens
	cacheRead
	cacheWrite
	reasoning
	cost
	conversation
	user
	agentName
	agentID
	toolName
	toolCallID
	toolArguments
	toolResult
	systemText
	inputMessages
	outputMessages
	input  // of whatever kind
	output // of whatever kind
	query
	documents
	errorType
	fields
)

// canonical is the metadata name of each field; those without one are written elsewhere.
var canonical = [fields]string{
	operation: "gen_ai.operation.name", provider: "gen_ai.provider.name", requestModel: "gen_ai.request.model",
	responseModel: "gen_ai.response.model", responseID: "gen_ai.response.id",
	finishReasons: "gen_ai.response.finish_reasons", inputTokens: "gen_ai.usage.input_tokens",
	outputTokens: "gen_ai.usage.output_tokens", totalTokens: "gen_ai.usage.total_tokens",
	cacheRead: "gen_ai.usage.cache_read.input_tokens", cacheWrite: "gen_ai.usage.cache_creation.input_tokens",
	reasoning: "gen_ai.usage.reasoning.output_tokens", cost: "gen_ai.usage.cost",
	conversation: "gen_ai.conversation.id", agentName: "gen_ai.agent.name", agentID: "gen_ai.agent.id",
	toolName: "gen_ai.tool.name", toolCallID: "gen_ai.tool.call.id", systemText: "gen_ai.system_instructions",
	inputMessages: "gen_ai.input.messages", outputMessages: "gen_ai.output.messages",
	query: "gen_ai.retrieval.query.text", documents: "gen_ai.retrieval.documents", errorType: "error.type",
}

// Source is one row of the table: where a field is found, the preferred name first.
type Source struct {
	Field string   // the metadata name, or column, that the field becomes
	Names []string // attributes
}

// names lists the attributes of each field, the preferred first. Where two of them differ, the first counts, and the
// other stays under its own name.
var names = [fields][]string{
	operation: {"gen_ai.operation.name"},
	provider:  {"gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"},
	requestModel: {"gen_ai.request.model", "llm.request.model_name", "llm.request.model", "llm.model_name",
		"embedding.model_name", "reranker.model_name", "langfuse.observation.model.name", "ai.model.id"},
	responseModel: {"gen_ai.response.model", "llm.response.model_name", "llm.response.model", "ai.response.model"},
	responseID:    {"gen_ai.response.id", "llm.response.id", "ai.response.id"},
	finishReasons: {"gen_ai.response.finish_reasons", "gen_ai.response.finish_reason", "llm.response.finish_reason",
		"llm.finish_reason", "gen_ai.response.stop_reason", "llm.response.stop_reason", "ai.response.finishReason"},
	inputTokens: {"gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens",
		"llm.token_count.prompt", "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"},
	outputTokens: {"gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens",
		"llm.token_count.completion", "ai.usage.outputTokens", "ai.usage.completionTokens"},
	totalTokens: {"gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total",
		"ai.usage.totalTokens"},
	cacheRead: {"gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
		"llm.usage.cache_read_input_tokens", "llm.token_count.prompt_details.cache_read",
		"gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cache_read_input_tokens",
		"ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"},
	cacheWrite: {"gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens",
		"gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_input_tokens",
		"llm.usage.cache_creation_input_tokens",
		"llm.token_count.prompt_details.cache_write", "gen_ai.usage.details.cache_write_tokens",
		"gen_ai.usage.details.cache_creation_input_tokens", "ai.usage.inputTokenDetails.cacheWriteTokens"},
	reasoning: {"gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens",
		"gen_ai.usage.experimental.reasoning_tokens", "llm.usage.reasoning_tokens",
		"llm.token_count.completion_details.reasoning", "gen_ai.usage.details.reasoning_tokens",
		"ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"},
	cost: {"gen_ai.usage.cost", "gen_ai.cost.total_cost", "llm.cost.total", "operation.cost"},
	conversation: {"gen_ai.conversation.id", "session.id", "langfuse.session.id",
		"traceloop.association.properties.session_id", "traceloop.association.properties.conversation_id",
		"traceloop.association.properties.thread_id", "traceloop.association.properties.chat_id",
		"gcp.vertex.agent.session_id", "ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.conversationId",
		"ai.telemetry.metadata.threadId", "conversation.id"},
	user: {"user.id", "enduser.id", "langfuse.user.id", "gen_ai.user", "llm.user",
		"traceloop.association.properties.user_id", "ai.telemetry.metadata.userId"},
	agentName:  {"gen_ai.agent.name", "agent.name", "agent_name", "gen_ai.workflow.name"},
	agentID:    {"gen_ai.agent.id"},
	toolName:   {"gen_ai.tool.name", "tool.name", "ai.toolCall.name"},
	toolCallID: {"gen_ai.tool.call.id", "gen_ai.tool.call_id", "tool_call.id", "ai.toolCall.id", "tool.id"},
	toolArguments: {"gen_ai.tool.call.arguments", "tool_arguments", "ai.toolCall.args",
		"gcp.vertex.agent.tool_call_args", "full_command"},
	toolResult: {"gen_ai.tool.call.result", "tool_response", "ai.toolCall.result", "gcp.vertex.agent.tool_response"},
	systemText: {"gen_ai.system_instructions"},
	inputMessages: {"gen_ai.input.messages", "ai.prompt.messages", "pydantic_ai.all_messages",
		"all_messages_events"},
	outputMessages: {"gen_ai.output.messages"},
	input: {"langfuse.observation.input", "traceloop.entity.input", "input.value", "gen_ai.prompt", "ai.prompt",
		"gcp.vertex.agent.llm_request", "gen_ai.task.input", "ai.value", "ai.values", "user_prompt"},
	output: {"langfuse.observation.output", "traceloop.entity.output", "output.value", "gen_ai.completion",
		"ai.response.text", "ai.response.object", "gcp.vertex.agent.llm_response", "final_result",
		"gen_ai.task.output"},
	query:     {"gen_ai.retrieval.query.text", "db.query.text", "reranker.query"},
	documents: {"gen_ai.retrieval.documents"},
	errorType: {"error.type", "exception.type"},
}

// place is a name's field and its rank among the field's names, the preferred 0.
type place struct {
	field field
	rank  int
}

// places finds a name's place.
var places = func() map[string]place {
	m := map[string]place{}
	for f := range names {
		for rank, name := range names[f] {
			m[name] = place{field(f), rank}
		}
	}
	return m
}()

// columns are the fields that become a column of the event.
var columns = map[field]string{user: "user_id", toolArguments: "input_summary", toolResult: "output_summary",
	input: "input_summary", output: "output_summary"}

// Sources returns the table of attributes, as docs/capture.md shows it.
func Sources() (all []Source) {
	for f := range names {
		name := canonical[f]
		if name == "" {
			name = columns[field(f)]
		}
		if len(names[f]) > 0 {
			all = append(all, Source{name, names[f]})
		}
	}
	return all
}
