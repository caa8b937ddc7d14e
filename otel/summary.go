package otel

import (
	"strings"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/pgtext"
)

// summaries sets what went in and what came out, and adds messages in the shape of the conventions.
func (r *record) summaries(e *audit.Event) {
	in := r.messageList("gen_ai.input.messages", inputMessages, input, e.Action, "llm.input_messages",
		"gen_ai.prompt")
	out := r.messageList("gen_ai.output.messages", outputMessages, output, e.Action, "llm.output_messages",
		"gen_ai.completion")
	out = r.vercelCalls(out)
	for _, item := range out {
		m, _ := item.(map[string]any)
		if reason, is := m["finish_reason"].(string); is && reason != "" {
			r.ended = append(r.ended, reason)
		}
	}
	r.systemSummary()
	switch e.Action {
	case audit.ActionToolCall:
		e.Input, e.Output = r.taken(toolArguments, input), r.taken(toolResult, output)
	case audit.ActionRetrieval, ActionRerank:
		e.Input, e.Output = r.fieldText(query), r.documentList()
		if e.Input == "" {
			e.Input = r.taken(input)
		}
		if e.Output == "" {
			e.Output = r.taken(output)
		}
	}
	if e.Input == "" {
		if e.Input = readable(in); e.Input == "" {
			e.Input = r.taken(input, toolArguments)
		}
	}
	if e.Output == "" {
		if e.Output = readable(out); e.Output == "" {
			e.Output = r.taken(output, toolResult)
		}
	}
	for _, f := range []field{input, output, toolArguments, toolResult, inputMessages, outputMessages} {
		r.restore(f)
	}
	if !pgtext.Holds(e.Input) {
		e.Input = pgtext.Clean(e.Input)
		r.note("input_summary")
	}
	if !pgtext.Holds(e.Output) {
		e.Output = pgtext.Clean(e.Output)
		r.note("output_summary")
	}
}

// taken returns the first of the fields that is set, as text; it then is in a column.
func (r *record) taken(all ...field) string {
	for _, f := range all {
		if r.has(f) {
			s := r.fieldText(f)
			r.ranks[f] = 0
			return s
		}
	}
	return ""
}

// messageList returns the messages of a record and adds them to its metadata. They are in an attribute of their own, in
// flattened lists, or what went in or out is one.
func (r *record) messageList(name string, f, whatever field, action string, prefixes ...string) []any {
	var all []any
	if r.has(f) {
		if all = messages(decoded(r.slots[f])); all != nil {
			r.ranks[f] = 0
		}
	}
	if events, is := r.lists[name].([]any); is {
		delete(r.lists, name)
		if all == nil {
			all = events
		} else {
			r.add("otel."+name, func(e *encoder) { e.any(events, 0) })
		}
	}
	for _, prefix := range prefixes {
		if all != nil && readable(all) != "" || r.lists[prefix] == nil {
			continue
		}
		// LiteLLM has a tool's call in the flattened list alone.
		spread := r.list(prefix)
		if list := messages(spread); list != nil {
			if all != nil {
				first := all
				r.add("otel."+name, func(e *encoder) { e.any(first, 0) })
			}
			all = list
		} else {
			r.lists[prefix] = spread
		}
	}
	if all == nil && r.has(whatever) && (action == audit.ActionLLMCall || action == ActionAgentRun) {
		if all = messages(decoded(r.slots[whatever])); all != nil {
			r.ranks[whatever] = 0
		}
	}
	if all != nil {
		r.add(name, func(e *encoder) { e.any(all, 0) })
	}
	return all
}

// vercelCalls adds the tool calls that the Vercel AI SDK has in an attribute of their own to its answer.
func (r *record) vercelCalls(out []any) []any {
	calls, is := decodedText(r.text("ai.response.toolCalls")).([]any)
	if !is || out != nil {
		return out
	}
	r.take("ai.response.toolCalls")
	parts := []any{}
	if s := r.taken(output); s != "" {
		parts = append(parts, map[string]any{"type": "text", "content": s})
	}
	for _, c := range calls {
		parts = append(parts, toolCall(c))
	}
	out = []any{map[string]any{"role": "assistant", "parts": parts}}
	r.add("gen_ai.output.messages", func(e *encoder) { e.any(out, 0) })
	return out
}

// systemSummary decodes system instructions that came as text.
func (r *record) systemSummary() {
	if !r.has(systemText) {
		return
	}
	v := decoded(r.slots[systemText])
	r.ranks[systemText] = 0
	if s, is := v.(string); is {
		v = []any{map[string]any{"type": "text", "content": s}}
	}
	r.add(canonical[systemText], func(e *encoder) { e.any(v, 0) })
}

// documentList adds the documents that a retrieval returned, and returns their texts.
func (r *record) documentList() string {
	var all []any
	if r.has(documents) {
		all, _ = decoded(r.slots[documents]).([]any)
	}
	for _, prefix := range []string{"retrieval.documents", "reranker.output_documents"} {
		if all == nil {
			all = r.list(prefix)
		}
	}
	if all == nil {
		return ""
	}
	r.ranks[documents] = 0
	var texts []string
	for i, item := range all {
		m, is := item.(map[string]any)
		if !is {
			continue
		}
		if inner, is := m["document"].(map[string]any); is {
			m = inner
			all[i] = m
		}
		for _, name := range []string{"content", "text", "page_content"} {
			if s, is := m[name].(string); is {
				texts = append(texts, s)
				break
			}
		}
	}
	r.add(canonical[documents], func(e *encoder) { e.any(all, 0) })
	return strings.Join(texts, "\n\n")
}

// finishReasons adds why the model ended, as a list and in the provider's own words: some libraries write OpenAI's
// tool_calls otherwise.
func (r *record) finishReasons() {
	var all []any
	if r.has(finishReasons) {
		switch v := decoded(r.slots[finishReasons]).(type) {
		case []any:
			all = v
		case string:
			all = []any{v}
		}
	} else {
		all = r.ended
	}
	for i, v := range all {
		if s, is := v.(string); is && (s == "tool_call" || s == "tool-calls") {
			all[i] = "tool_calls"
		}
	}
	if len(all) > 0 {
		r.add(canonical[finishReasons], func(e *encoder) { e.any(all, 0) })
	}
}
