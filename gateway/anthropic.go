package gateway

import (
	"encoding/json"

	"github.com/konstruct/konstruct/pgtext"
)

// messageEvents are the members of events of Anthropic's Messages API.
func messageEvents() []member {
	return []member{{"", "type", small}, {"", "index", small}, {"", "delta", maxString + small},
		{"", "content_block", large}, {"", "usage", small}, {"", "error", small}, {"message", "id", small},
		{"message", "model", small}, {"message", "usage", small}}
}

// wireBlock is a block of content.
type wireBlock struct {
	Type     string          `json:"type"`
	Text     json.RawMessage `json:"text"`
	Thinking json.RawMessage `json:"thinking"`
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Input    json.RawMessage `json:"input"`
}

// readMessageBody reads a whole message of Anthropic's.
func readMessageBody(a *answer, s *scanner) {
	a.id, _ = clean(pgtext.Head(s.text("", "id"), maxName))
	a.model, _ = clean(pgtext.Head(s.text("", "model"), maxName))
	a.usage.add(Anthropic, s.get("usage"))
	a.readError(s.get("error"))
	for i, raw := range elements(s.get("content")) {
		a.readBlock(i, raw)
	}
	if reason := s.text("", "stop_reason"); reason != "" {
		a.choice(0).reason = reason
	}
}

// readBlock reads a block, or the beginning of one.
func (a *answer) readBlock(index int, raw json.RawMessage) {
	var w wireBlock
	if json.Unmarshal(raw, &w) != nil {
		a.unread++
	}
	c := a.choice(0)
	switch w.Type {
	case "text":
		a.add(c.part(textPart, index), w.Text)
	case "thinking":
		a.add(c.part(reasoningPart, index), w.Thinking)
	case "tool_use", "server_tool_use", "mcp_tool_use":
		if p := c.part(callPart, index); p != nil {
			p.id, p.name = w.ID, w.Name
			a.addObject(p, w.Input)
		}
	}
}

// readMessageEvent reads an event of a stream of Anthropic's.
func readMessageEvent(a *answer, name string, s *scanner) (last bool) {
	kind := s.text("", "type")
	if kind == "" {
		kind = name
	}
	index := 0
	_ = json.Unmarshal(s.get("index"), &index)
	switch kind {
	case "message_start":
		a.id, _ = clean(pgtext.Head(s.text("message", "id"), maxName))
		a.model, _ = clean(pgtext.Head(s.text("message", "model"), maxName))
		a.usage.add(Anthropic, s.value("message", "usage"))
		a.usage.hasOutput = false // what it says of the output is not the output's
		a.choice(0)
	case "content_block_start":
		a.readBlock(index, s.get("content_block"))
	case "content_block_delta":
		a.readDelta(index, s.get("delta"))
	case "message_delta":
		var d struct {
			StopReason string `json:"stop_reason"`
		}
		_ = json.Unmarshal(s.get("delta"), &d)
		if c := a.choice(0); c != nil && d.StopReason != "" {
			c.reason = d.StopReason
		}
		a.usage.add(Anthropic, s.get("usage"))
	case "error":
		a.readError(s.get("error"))
		return true
	case "message_stop":
		return true
	}
	return false
}

// readDelta adds a part of a block.
func (a *answer) readDelta(index int, raw json.RawMessage) {
	var d struct {
		Type        string          `json:"type"`
		Text        json.RawMessage `json:"text"`
		Thinking    json.RawMessage `json:"thinking"`
		PartialJSON json.RawMessage `json:"partial_json"`
	}
	if json.Unmarshal(raw, &d) != nil {
		a.unread++
		return
	}
	c := a.choice(0)
	switch d.Type {
	case "text_delta":
		a.add(c.part(textPart, index), d.Text)
	case "thinking_delta":
		a.add(c.part(reasoningPart, index), d.Thinking)
	case "input_json_delta":
		a.add(c.part(callPart, index), d.PartialJSON)
	}
}
