package gateway

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/strictjson"
)

// message is a message as the GenAI conventions have it (gen_ai.input.messages, gen_ai.output.messages).
type message struct {
	Role         string `json:"role"`
	Parts        []part `json:"parts"`
	FinishReason string `json:"finish_reason,omitempty"`
}

// part is a part of a message: text, reasoning, tool_call, tool_call_response, blob, uri, file, or another kind.
type part struct {
	Type      string `json:"type"`
	Content   string `json:"content,omitempty"`
	ID        string `json:"id,omitempty"`
	Name      string `json:"name,omitempty"`
	Arguments any    `json:"arguments,omitempty"`
	Response  any    `json:"response,omitempty"`
	Modality  string `json:"modality,omitempty"`
	MIMEType  string `json:"mime_type,omitempty"`
	URI       string `json:"uri,omitempty"`
	FileID    string `json:"file_id,omitempty"`
	Messages  int    `json:"messages,omitempty"` // of omitted messages
}

// Kinds of parts.
const (
	textPart      = "text"
	reasoningPart = "reasoning"
	callPart      = "tool_call"
	responsePart  = "tool_call_response"
	omittedPart   = "konstruct.omitted" // earlier messages, which are not recorded again
)

// notRecorded stands for binary data, which is not recorded.
const notRecorded = "[not recorded]"

// wireItem is a message, an item of the Responses API, or a part of either, as the vendors' APIs have them.
type wireItem struct {
	Type    string          `json:"type"`
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
	Text    string          `json:"text"`
	Refusal string          `json:"refusal"`

	ID         string          `json:"id"`
	CallID     string          `json:"call_id"`
	ToolCallID string          `json:"tool_call_id"`
	ToolUseID  string          `json:"tool_use_id"`
	Name       string          `json:"name"`
	Arguments  json.RawMessage `json:"arguments"`
	Input      json.RawMessage `json:"input"`
	Output     json.RawMessage `json:"output"`
	ToolCalls  []wireToolCall  `json:"tool_calls"`

	Thinking  string          `json:"thinking"`
	Reasoning string          `json:"reasoning_content"`
	Summary   json.RawMessage `json:"summary"`
	ImageURL  json.RawMessage `json:"image_url"`
	FileID    string          `json:"file_id"`
	Source    struct {
		Type      string `json:"type"`
		MediaType string `json:"media_type"`
		URL       string `json:"url"`
		FileID    string `json:"file_id"`
	} `json:"source"`
}

// wireToolCall is a tool call of the Chat Completions API; arguments of a stream's chunk are a part of them.
type wireToolCall struct {
	Index    int    `json:"index"`
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"function"`
	Custom struct {
		Name  string          `json:"name"`
		Input json.RawMessage `json:"input"`
	} `json:"custom"`
}

// message converts an item of a request. Items that are no messages have the role of who made them.
func (w *wireItem) message() message {
	m := message{Role: w.Role}
	switch w.Type {
	case "function_call", "custom_tool_call", "reasoning", "web_search_call", "file_search_call", "mcp_call":
		m.Role = "assistant"
		m.Parts = append(m.Parts, w.part())
		return m
	case "function_call_output", "custom_tool_call_output":
		m.Role = "tool"
		m.Parts = append(m.Parts, w.part())
		return m
	}
	if w.Reasoning != "" {
		m.Parts = append(m.Parts, part{Type: reasoningPart, Content: w.Reasoning})
	}
	if w.Role == "tool" || w.ToolCallID != "" {
		m.Parts = append(m.Parts, part{Type: responsePart, ID: w.ToolCallID, Response: plainText(w.Content)})
	} else {
		m.Parts = append(m.Parts, parts(w.Content)...)
	}
	if w.Refusal != "" {
		m.Parts = append(m.Parts, part{Type: "refusal", Content: w.Refusal})
	}
	for i := range w.ToolCalls {
		c := &w.ToolCalls[i]
		p := part{Type: callPart, ID: c.ID, Name: c.Function.Name, Arguments: arguments(unquote(c.Function.Arguments))}
		if c.Custom.Name != "" {
			p.Name, p.Arguments = c.Custom.Name, unquote(c.Custom.Input)
		}
		m.Parts = append(m.Parts, p)
	}
	if len(m.Parts) > 0 && m.Role == "user" && !contains(m.Parts, func(p part) bool { return p.Type != responsePart }) {
		m.Role = "tool" // Anthropic's tool results are a user's message
	}
	return m
}

func contains(all []part, is func(part) bool) bool {
	for _, p := range all {
		if is(p) {
			return true
		}
	}
	return false
}

// part converts a part of a message.
func (w *wireItem) part() part {
	switch w.Type {
	case "text", "input_text", "output_text":
		return part{Type: textPart, Content: w.Text}
	case "refusal":
		return part{Type: "refusal", Content: w.Refusal}
	case "thinking":
		return part{Type: reasoningPart, Content: w.Thinking}
	case "reasoning":
		return part{Type: reasoningPart, Content: plainText(w.Summary)}
	case "tool_use", "server_tool_use", "mcp_tool_use":
		return part{Type: callPart, ID: w.ID, Name: w.Name, Arguments: arguments(string(w.Input))}
	case "function_call":
		return part{Type: callPart, ID: w.CallID, Name: w.Name, Arguments: arguments(unquote(w.Arguments))}
	case "custom_tool_call":
		return part{Type: callPart, ID: w.CallID, Name: w.Name, Arguments: unquote(w.Input)}
	case "tool_result":
		return part{Type: responsePart, ID: w.ToolUseID, Response: plainText(w.Content)}
	case "function_call_output", "custom_tool_call_output":
		return part{Type: responsePart, ID: w.CallID, Response: plainText(w.Output)}
	case "image_url", "input_image":
		return imagePart(w)
	case "image", "document":
		p := part{Type: "blob", Modality: w.Type, MIMEType: w.Source.MediaType, Content: notRecorded}
		switch {
		case w.Source.URL != "":
			p = part{Type: "uri", Modality: w.Type, URI: w.Source.URL}
		case w.Source.FileID != "":
			p = part{Type: "file", Modality: w.Type, FileID: w.Source.FileID}
		}
		return p
	case "input_audio":
		return part{Type: "blob", Modality: "audio", Content: notRecorded}
	case "file", "input_file":
		if w.FileID != "" {
			return part{Type: "file", Modality: "document", FileID: w.FileID}
		}
		return part{Type: "blob", Modality: "document", Content: notRecorded}
	}
	return part{Type: w.Type, ID: w.ID, Name: w.Name}
}

// imagePart is an image by its address, or one within the message.
func imagePart(w *wireItem) part {
	var at string
	var object struct {
		URL string `json:"url"`
	}
	if json.Unmarshal(w.ImageURL, &at) != nil && json.Unmarshal(w.ImageURL, &object) == nil {
		at = object.URL
	}
	switch {
	case w.FileID != "":
		return part{Type: "file", Modality: "image", FileID: w.FileID}
	case strings.HasPrefix(at, "data:"):
		kind, _, _ := strings.Cut(strings.TrimPrefix(at, "data:"), ";")
		return part{Type: "blob", Modality: "image", MIMEType: pgtext.Head(kind, 100), Content: notRecorded}
	}
	return part{Type: "uri", Modality: "image", URI: pgtext.Head(at, 8<<10)}
}

// parts converts content, which is a text or a list of parts.
func parts(content json.RawMessage) (all []part) {
	content = bytes.TrimSpace(content)
	if len(content) == 0 || string(content) == "null" {
		return nil
	}
	if content[0] == '"' {
		return []part{{Type: textPart, Content: unquote(content)}}
	}
	for _, raw := range elements(content) {
		var w wireItem
		if len(raw) > 0 && raw[0] == '"' {
			all = append(all, part{Type: textPart, Content: unquote(raw)})
			continue
		}
		_ = json.Unmarshal(raw, &w) // what has another type is left out
		all = append(all, w.part())
	}
	return all
}

// plainText returns content's text: that of its text parts, or the JSON of what has none.
func plainText(content json.RawMessage) string {
	var b strings.Builder
	for _, p := range parts(content) {
		switch {
		case p.Content != "" && p.Content != notRecorded:
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(p.Content)
		case p.Type == "summary_text":
		default:
			raw, _ := strictjson.Marshal(p)
			b.Write(raw)
		}
	}
	return b.String()
}

// elements splits a JSON array; nil where it is none. It looks at brackets and quotes only: who decodes an element
// finds what else is wrong.
func elements(raw json.RawMessage) (all []json.RawMessage) {
	raw = bytes.TrimSpace(raw)
	if len(raw) < 2 || raw[0] != '[' || raw[len(raw)-1] != ']' {
		return nil
	}
	depth, from := 0, 1
	take := func(end int) {
		if one := bytes.TrimSpace(raw[from:end]); len(one) > 0 {
			all = append(all, one)
		}
		from = end + 1
	}
	for i := 1; i < len(raw)-1; i++ {
		switch raw[i] {
		case '"':
			if i = closingQuote(raw, i+1); i < 0 {
				return nil
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 0 {
				take(i)
			}
		}
	}
	take(len(raw) - 1)
	return all
}

// closingQuote returns where a string ends whose first character is at i; -1 where it does not.
func closingQuote(raw []byte, i int) int {
	for {
		end := bytes.IndexByte(raw[i:], '"')
		if end < 0 {
			return -1
		}
		escape := bytes.IndexByte(raw[i:i+end], '\\')
		if escape < 0 {
			return i + end
		}
		if i += escape + 2; i >= len(raw) {
			return -1
		}
	}
}

// unquote returns a JSON string's text, or other JSON as it is.
func unquote(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// arguments returns a tool call's arguments: an object where they are one that an event can hold, otherwise the text.
func arguments(text string) any {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" {
		return nil
	}
	if trimmed[0] == '{' && storable([]byte(trimmed)) {
		return json.RawMessage(trimmed)
	}
	return text
}
