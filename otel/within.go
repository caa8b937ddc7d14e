package otel

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
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
