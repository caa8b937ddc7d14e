package otel

import (
	"slices"
	"strconv"
	"strings"

	"github.com/konstruct/konstruct/strictjson"
)

// inOrder returns an object's values in the order of its names as numbers.
func inOrder(m map[string]any) []any {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX != nil || errY != nil || x == y {
			return strings.Compare(a, b)
		}
		return x - y
	})
	all := make([]any, len(names))
	for i, name := range names {
		all[i] = m[name]
	}
	return all
}

// messages returns what v says as messages of the GenAI conventions: objects with a role and parts. It knows the shapes
// of OpenAI, Anthropic, the Vercel AI SDK, OpenInference and OpenLLMetry; it renames what has another name there, and
// keeps what it does not know. It returns nil for anything else.
func messages(v any) []any {
	if one, is := v.(map[string]any); is {
		for _, wrapper := range []string{"messages", "choices"} {
			if list, is := one[wrapper].([]any); is {
				return messages(list)
			}
		}
		v = []any{one}
	}
	list, is := v.([]any)
	if !is || len(list) == 0 {
		return nil
	}
	all := make([]any, 0, len(list))
	for _, item := range list {
		m, is := item.(map[string]any)
		if !is {
			return nil
		}
		if inner, is := m["message"].(map[string]any); is { // OpenInference, and the choices of OpenAI
			for name, value := range m {
				if _, taken := inner[name]; !taken && name != "message" {
					inner[name] = value
				}
			}
			m = inner
		}
		if m = message(m); m == nil {
			return nil
		}
		all = append(all, m)
	}
	return all
}

// message returns one message with parts, or nil.
func message(m map[string]any) map[string]any {
	if _, has := m["parts"].([]any); has {
		return m
	}
	_, role := m["role"].(string)
	content, hasContent := m["content"]
	contents, hasContents := m["contents"]
	calls, hasCalls := m["tool_calls"]
	_, hasCall := m["function_call"]
	if !role && !hasContent && !hasContents && !hasCalls && !hasCall {
		return nil
	}
	var parts []any
	if id, is := m["tool_call_id"].(string); is && m["role"] == "tool" {
		parts = append(parts, map[string]any{"type": "tool_call_response", "id": id, "response": content})
		delete(m, "tool_call_id")
		hasContent = false
	}
	if hasContent {
		parts = append(parts, contentParts(content)...)
	}
	if hasContents {
		parts = append(parts, contentParts(contents)...)
	}
	if list, is := calls.([]any); is {
		for _, c := range list {
			parts = append(parts, toolCall(c))
		}
		delete(m, "tool_calls")
	}
	if call, is := m["function_call"].(map[string]any); is {
		parts = append(parts, toolCall(call))
		delete(m, "function_call")
	}
	delete(m, "content")
	delete(m, "contents")
	m["parts"] = parts
	if parts == nil {
		m["parts"] = []any{}
	}
	return m
}

// contentParts returns a message's content as parts.
func contentParts(content any) []any {
	if s, is := content.(string); is {
		if strings.HasPrefix(s, "[{") { // OpenLLMetry writes parts as JSON
			if list, is := decodedText(s).([]any); is && typed(list) {
				return contentParts(list)
			}
		}
		return []any{map[string]any{"type": "text", "content": s}}
	}
	list, is := content.([]any)
	if !is {
		if content == nil {
			return nil
		}
		list = []any{content}
	}
	parts := make([]any, 0, len(list))
	for _, item := range list {
		switch p := item.(type) {
		case string:
			parts = append(parts, map[string]any{"type": "text", "content": p})
		case map[string]any:
			parts = append(parts, part(p))
		default:
			parts = append(parts, map[string]any{"type": "value", "content": p})
		}
	}
	return parts
}

// typed reports whether every item is an object with a type.
func typed(list []any) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool {
		m, is := v.(map[string]any)
		_, has := m["type"].(string)
		return !is || !has
	})
}

// renamed moves a value to its name in the GenAI conventions.
func renamed(m map[string]any, to string, from ...string) {
	for _, name := range from {
		if v, there := m[name]; there {
			if _, taken := m[to]; !taken {
				m[to] = v
				delete(m, name)
			}
			return
		}
	}
}

// part returns a part of a message's content as the conventions have it.
func part(p map[string]any) map[string]any {
	if inner, is := p["message_content"].(map[string]any); is { // OpenInference
		p = inner
	}
	kind, _ := p["type"].(string)
	switch kind {
	case "text", "input_text", "output_text", "":
		if _, is := p["text"]; is {
			p["type"] = "text"
			renamed(p, "content", "text")
		}
	case "thinking", "reasoning":
		p["type"] = "reasoning"
		renamed(p, "content", "thinking", "text")
	case "tool_use", "tool-call", "function_call":
		p["type"] = "tool_call"
		renamed(p, "id", "toolCallId", "call_id")
		renamed(p, "name", "toolName")
		renamed(p, "arguments", "input", "args")
	case "tool_result", "tool-result", "function_call_output":
		p["type"] = "tool_call_response"
		renamed(p, "id", "tool_use_id", "toolCallId", "call_id")
		renamed(p, "name", "toolName")
		renamed(p, "response", "content", "output", "result")
	}
	return p
}

// toolCall returns a tool call of an assistant's message as a part.
func toolCall(v any) any {
	m, is := v.(map[string]any)
	if !is {
		return map[string]any{"type": "tool_call", "content": v}
	}
	if inner, is := m["tool_call"].(map[string]any); is { // OpenInference
		m = inner
	}
	if f, is := m["function"].(map[string]any); is {
		for name, value := range f {
			if _, taken := m[name]; !taken {
				m[name] = value
			}
		}
		delete(m, "function")
	}
	m["type"] = "tool_call"
	renamed(m, "id", "toolCallId")
	renamed(m, "name", "toolName")
	renamed(m, "arguments", "input", "args")
	if s, is := m["arguments"].(string); is {
		m["arguments"] = decodedText(s)
	}
	return m
}

// readable returns messages as a text for people: the text of one message, or each with its role.
func readable(all []any) string {
	var b strings.Builder
	for _, item := range all {
		m, is := item.(map[string]any)
		if !is {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\n\n")
		}
		if role, _ := m["role"].(string); len(all) > 1 && role != "" {
			b.WriteString(role + ": ")
		}
		parts, _ := m["parts"].([]any)
		readableParts(&b, parts)
	}
	return b.String()
}

// readableParts writes the text of parts. Reasoning stays in the metadata.
func readableParts(b *strings.Builder, parts []any) {
	begun := false
	for _, item := range parts {
		p, is := item.(map[string]any)
		if !is {
			continue
		}
		var s string
		switch kind, _ := p["type"].(string); kind {
		case "reasoning":
			continue
		case "tool_call":
			name, _ := p["name"].(string)
			s = name + "(" + asText(p["arguments"]) + ")"
		case "tool_call_response":
			s = asText(p["response"])
		case "text":
			s = asText(p["content"])
		default:
			if s, is = p["content"].(string); !is || kind == "blob" {
				s = "[" + kind + "]"
			}
		}
		if begun {
			b.WriteByte('\n')
		}
		b.WriteString(s)
		begun = true
	}
}

// asText returns a text as it is, and other values as JSON.
func asText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	raw, err := strictjson.Marshal(v)
	if err != nil {
		return ""
	}
	return string(raw)
}
