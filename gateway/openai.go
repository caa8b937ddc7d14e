package gateway

import (
	"encoding/json"

	"github.com/konstruct/konstruct/pgtext"
)

// dialect is how the responses of an operation are read.
type dialect struct {
	whole []member // of a whole body
	event []member // of an event of a stream
	// readWhole and readEvent take what was found. readEvent returns whether the event is a stream's last.
	readWhole func(*answer, *scanner)
	readEvent func(a *answer, name string, s *scanner) (last bool)
}

// Limits on members of responses in bytes.
const (
	small = 4 << 10
	large = 512 << 10
)

func (o Operation) dialect() dialect {
	switch o {
	case ChatCompletions:
		all := []member{{"", "id", small}, {"", "model", small}, {"", "service_tier", small},
			{"", "system_fingerprint", small}, {"", "choices", large}, {"", "usage", small}, {"", "error", small}}
		return dialect{all, all, readChat, func(a *answer, _ string, s *scanner) bool { readChat(a, s); return false }}
	case Responses:
		return dialect{[]member{{"", "id", small}, {"", "model", small}, {"", "service_tier", small},
			{"", "status", small}, {"", "output", large}, {"", "usage", small}, {"", "error", small},
			{"incomplete_details", "reason", small}}, responseEvents(), readResponse, readResponseEvent}
	case Messages:
		return dialect{[]member{{"", "id", small}, {"", "model", small}, {"", "content", large},
			{"", "stop_reason", small}, {"", "usage", small}, {"", "error", small}}, messageEvents(), readMessageBody,
			readMessageEvent}
	case Embeddings:
		return dialect{whole: []member{{"", "model", small}, {"", "usage", small}, {"", "error", small}},
			readWhole: readChat}
	}
	return dialect{whole: []member{{"", "input_tokens", small}, {"", "error", small}}, readWhole: readChat}
}

// wireChoice is a choice of a chat completion, or of a chunk of one.
type wireChoice struct {
	Index        int       `json:"index"`
	Message      *wireText `json:"message"`
	Delta        *wireText `json:"delta"`
	FinishReason string    `json:"finish_reason"`
}

type wireText struct {
	Content   json.RawMessage `json:"content"`
	Refusal   json.RawMessage `json:"refusal"`
	Reasoning json.RawMessage `json:"reasoning_content"`
	ToolCalls []wireToolCall  `json:"tool_calls"`
}

// readHead reads what all of OpenAI's responses have.
func (a *answer) readHead(outer string, s *scanner) {
	for _, f := range []struct {
		to   *string
		name string
	}{{&a.id, "id"}, {&a.model, "model"}, {&a.tier, "service_tier"}, {&a.fingerprint, "system_fingerprint"}} {
		if v, _ := clean(pgtext.Head(s.text(outer, f.name), maxName)); v != "" {
			*f.to = v
		}
	}
	a.usage.add(OpenAI, s.value(outer, "usage"))
	a.readError(s.value(outer, "error"))
}

// readChat reads a chat completion, or a chunk of one: what it says is added to what was said before.
func readChat(a *answer, s *scanner) {
	a.readHead("", s)
	raw := s.get("choices")
	if len(raw) == 0 {
		return
	}
	var choices []wireChoice
	if err := json.Unmarshal(raw, &choices); err != nil {
		a.unread++
	}
	for i := range choices {
		w := &choices[i]
		c := a.choice(w.Index)
		if c == nil {
			continue
		}
		if w.FinishReason != "" {
			c.reason = w.FinishReason
		}
		for _, t := range []*wireText{w.Message, w.Delta} {
			if t == nil {
				continue
			}
			a.readText(c, t)
			for n, call := range t.ToolCalls {
				if t == w.Message {
					call.Index = n
				}
				a.readToolCall(c, &call)
			}
		}
	}
}

func (a *answer) readText(c *choice, t *wireText) {
	if len(t.Reasoning) > 2 {
		a.add(c.part(reasoningPart, 0), t.Reasoning)
	}
	if len(t.Content) > 2 && t.Content[0] == '"' {
		a.add(c.part(textPart, 0), t.Content)
	}
	for n, one := range elements(t.Content) { // a list of parts
		var p struct {
			Text json.RawMessage `json:"text"`
		}
		if json.Unmarshal(one, &p) == nil {
			a.add(c.part(textPart, n), p.Text)
		}
	}
	if len(t.Refusal) > 2 {
		a.add(c.part("refusal", 0), t.Refusal)
	}
}

func (a *answer) readToolCall(c *choice, w *wireToolCall) {
	p := c.part(callPart, w.Index)
	if p == nil {
		return
	}
	if w.ID != "" {
		p.id = w.ID
	}
	p.name = pgtext.Head(p.name+w.Function.Name+w.Custom.Name, maxName)
	a.add(p, w.Function.Arguments)
	a.add(p, w.Custom.Input)
}

// responseEvents are the members of events of the Responses API.
func responseEvents() []member {
	return []member{{"", "type", small}, {"", "delta", maxString + small}, {"", "output_index", small},
		{"", "item", large}, {"", "code", small}, {"", "message", small}, {"", "error", small},
		{"response", "id", small}, {"response", "model", small}, {"response", "service_tier", small},
		{"response", "status", small}, {"response", "output", large}, {"response", "usage", small},
		{"response", "error", small}, {"response", "incomplete_details", small}}
}

// readResponse reads a whole response of the Responses API.
func readResponse(a *answer, s *scanner) {
	a.readHead("", s)
	a.readOutput(s.get("output"))
	a.endResponse(s.text("", "status"), s.text("incomplete_details", "reason"))
}

// endResponse takes a response's status; an incomplete response has a reason.
func (a *answer) endResponse(status, reason string) {
	if status == "" {
		return
	}
	if reason == "" {
		reason = status
	}
	if c := a.choice(0); c != nil {
		c.reason = reason
	}
}

// readOutput reads the whole output, in the place of what was added up until then.
func (a *answer) readOutput(raw json.RawMessage) {
	items := elements(raw)
	if len(items) == 0 {
		return
	}
	a.choices, a.size, a.lost = nil, 0, 0
	for i, item := range items {
		a.readItem(i, item)
	}
}

// readItem reads an item of an output.
func (a *answer) readItem(index int, raw json.RawMessage) {
	var w struct {
		Type      string          `json:"type"`
		CallID    string          `json:"call_id"`
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
		Input     json.RawMessage `json:"input"`
		Content   []struct {
			Type    string          `json:"type"`
			Text    json.RawMessage `json:"text"`
			Refusal json.RawMessage `json:"refusal"`
		} `json:"content"`
		Summary []struct {
			Text json.RawMessage `json:"text"`
		} `json:"summary"`
	}
	if json.Unmarshal(raw, &w) != nil {
		a.unread++
	}
	c := a.choice(0)
	switch w.Type {
	case "message":
		for _, t := range w.Content {
			a.add(c.part(textPart, index), t.Text)
			if len(t.Refusal) > 0 {
				a.add(c.part("refusal", index), t.Refusal)
			}
		}
	case "reasoning":
		for _, t := range w.Summary {
			a.add(c.part(reasoningPart, index), t.Text)
		}
	case "function_call", "custom_tool_call", "mcp_call":
		p := c.part(callPart, index)
		if p == nil {
			return
		}
		p.id, p.name, p.raw = w.CallID, w.Name, nil
		a.add(p, w.Arguments)
		a.add(p, w.Input)
	default:
		if p := c.part(callPart, index); p != nil && w.Type != "" { // a tool that the vendor runs
			p.name = w.Type
		}
	}
}

// readResponseEvent reads an event of the Responses API. The last one has the whole response, where it is not too long.
func readResponseEvent(a *answer, _ string, s *scanner) (last bool) {
	index := 0
	_ = json.Unmarshal(s.get("output_index"), &index)
	kind := s.text("", "type")
	switch kind {
	case "response.created", "response.in_progress", "response.queued":
		a.readHead("response", s)
	case "response.output_text.delta":
		a.add(a.choice(0).part(textPart, index), s.get("delta"))
	case "response.refusal.delta":
		a.add(a.choice(0).part("refusal", index), s.get("delta"))
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		a.add(a.choice(0).part(reasoningPart, index), s.get("delta"))
	case "response.function_call_arguments.delta", "response.custom_tool_call_input.delta",
		"response.mcp_call_arguments.delta":
		a.add(a.choice(0).part(callPart, index), s.get("delta"))
	case "response.output_item.added", "response.output_item.done":
		a.readItemHead(index, s.get("item"))
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled":
		a.readHead("response", s)
		a.readOutput(s.value("response", "output"))
		var why struct {
			Reason string `json:"reason"`
		}
		_ = json.Unmarshal(s.value("response", "incomplete_details"), &why)
		a.endResponse(s.text("response", "status"), why.Reason)
		return true
	case "error":
		a.readError(s.get("error"))
		if a.errorType == "" {
			a.errorType, a.errorText = s.text("", "code"), s.text("", "message")
		}
		return true
	}
	return false
}

// readItemHead reads which tool an item calls.
func (a *answer) readItemHead(index int, raw json.RawMessage) {
	var w struct {
		Type   string `json:"type"`
		CallID string `json:"call_id"`
		Name   string `json:"name"`
	}
	if json.Unmarshal(raw, &w) != nil {
		a.unread++
		return
	}
	switch w.Type {
	case "function_call", "custom_tool_call", "mcp_call":
		if p := a.choice(0).part(callPart, index); p != nil {
			p.id, p.name = w.CallID, w.Name
		}
	}
}
