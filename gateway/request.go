package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/pgtext"
)

// Limits on what is recorded of a request, in bytes. The trail cuts a summary that is longer than audit.MaxSummary.
const (
	maxPrompt   = 32 << 10 // of messages, the newest first
	maxParts    = 200      // of a message
	maxText     = 1 << 20  // of what is new; the trail cuts it after it is redacted
	overhead    = 64       // of a part: names and quotes
	maxSystem   = 32 << 10
	maxTools    = 100 // tools whose names are recorded
	maxToolName = 200
)

// request is what a call asks for, as far as it is routed, counted and recorded by.
type request struct {
	model  string
	stream bool
	// user and conversation are the body's own; headers are stronger.
	user, conversation string
	prompt             string
	metadata           audit.Metadata
	maxTokens          int64 // that the response may have; 0 where the body does not say
	fallbacks          bool  // it names further models, which some upstreams try
	usageWanted        bool  // a stream of chat completions tells usage only where it is asked for
	bytes              int

	found *scanner // until readPrompt
}

// requestMembers are the members of any request's body that are read.
func requestMembers(size int) []member {
	var all []member
	for _, name := range []string{"model", "models", "stream", "messages", "input", "system", "instructions", "tools",
		"user",
		"safety_identifier", "conversation", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens",
		"max_output_tokens", "stop", "stop_sequences", "seed", "frequency_penalty", "presence_penalty", "n",
		"reasoning_effort", "previous_response_id", "service_tier", "dimensions", "encoding_format"} {
		all = append(all, member{"", name, size})
	}
	return append(all, member{"metadata", "user_id", 64 << 10}, member{"stream_options", "include_usage", 10},
		member{"reasoning", "effort", 100}, member{"output_config", "effort", 100},
		member{"response_format", "type", 100}, member{"text", "format", 64 << 10}, member{"thinking", "type", 100})
}

// readRequest reads a request's body once.
func readRequest(o Operation, body []byte) (q request, err error) {
	s := newScanner(requestMembers(len(body)))
	s.longest = len(body)
	s.write(body)
	q.bytes = len(body)
	switch {
	case len(body) == 0 || !s.ended():
		return q, &Refusal{Status: http.StatusBadRequest, Code: "invalid_json",
			Message: "The body is not a whole JSON object."}
	case s.repeated() != "":
		return q, &Refusal{Status: http.StatusBadRequest, Code: "invalid_json",
			Message: "The body has " + s.repeated() + " twice: two readers could read it differently."}
	}
	if q.model = s.text("", "model"); q.model == "" || len(q.model) > maxName {
		return q, &Refusal{Status: http.StatusBadRequest, Code: "model_missing",
			Message: "The body is a JSON object whose member model names a model, in at most 256 bytes."}
	}
	if i := strings.IndexFunc(q.model, func(c rune) bool {
		return c <= ' ' || c == 0x7f ||
			c == utf8.RuneError
	}); i >= 0 {
		return q, &Refusal{Status: http.StatusBadRequest, Code: "model_missing",
			Message: "The body's model has a space or a character that no model's name has."}
	}
	if s.folded != "" {
		return q, &Refusal{Status: http.StatusBadRequest, Code: "invalid_json", Message: fmt.Sprintf(
			"The body has %.40q beside model: two readers could read it differently.", s.folded)}
	}
	q.fallbacks = len(s.get("models")) > 0 && string(s.get("models")) != "null"
	_ = json.Unmarshal(s.get("stream"), &q.stream)
	_ = json.Unmarshal(s.value("stream_options", "include_usage"), &q.usageWanted)
	q.usageWanted = q.usageWanted || o != ChatCompletions
	for _, v := range []string{s.text("", "safety_identifier"), s.text("", "user"), s.text("metadata", "user_id")} {
		if q.user == "" && len(v) <= audit.MaxName {
			q.user, _ = clean(v)
		}
	}
	q.readConversation(s)
	q.readParameters(o, s)
	q.found = s
	return q, nil
}

func (q *request) readConversation(s *scanner) {
	var object struct {
		ID string `json:"id"`
	}
	if q.conversation = s.text("", "conversation"); q.conversation == "" &&
		json.Unmarshal(s.get("conversation"), &object) == nil {
		q.conversation = object.ID
	}
	if q.conversation, _ = clean(q.conversation); len(q.conversation) > audit.MaxName {
		q.conversation = ""
	}
}

// readParameters reads what the conventions name gen_ai.request.*.
func (q *request) readParameters(o Operation, s *scanner) {
	m := audit.Metadata{}
	number := func(key string, names ...string) {
		for _, name := range names {
			if n := s.get(name); len(n) > 0 && len(n) < 40 && (n[0] == '-' || n[0] >= '0' && n[0] <= '9') &&
				json.Valid(n) {
				m[key] = json.Number(n)
			}
		}
	}
	text := func(key string, values ...string) {
		for _, v := range values {
			if v, _ = clean(v); v != "" && len(v) <= audit.MaxName {
				m[key] = v
			}
		}
	}
	number("gen_ai.request.temperature", "temperature")
	number("gen_ai.request.top_p", "top_p")
	number("gen_ai.request.top_k", "top_k")
	number("gen_ai.request.max_tokens", "max_tokens", "max_completion_tokens", "max_output_tokens")
	number("gen_ai.request.seed", "seed")
	number("gen_ai.request.frequency_penalty", "frequency_penalty")
	number("gen_ai.request.presence_penalty", "presence_penalty")
	if string(s.get("n")) != "1" {
		number("gen_ai.request.choice.count", "n")
	}
	if n, ok := m["gen_ai.request.max_tokens"].(json.Number); ok {
		q.maxTokens, _ = n.Int64()
	}
	if q.stream {
		m["gen_ai.request.stream"] = true
	}
	var stops []string
	if one := s.text("", "stop"); one != "" {
		stops = []string{one}
	} else if json.Unmarshal(s.get("stop"), &stops) != nil || len(stops) == 0 {
		_ = json.Unmarshal(s.get("stop_sequences"), &stops)
	}
	if len(stops) > 0 && len(stops) <= 16 {
		for i := range stops {
			stops[i], _ = clean(pgtext.Head(stops[i], audit.MaxName))
		}
		m["gen_ai.request.stop_sequences"] = stops
	}
	text("gen_ai.request.reasoning.level", s.text("", "reasoning_effort"), s.text("reasoning", "effort"),
		s.text("output_config", "effort"))
	text("gen_ai.request.previous_response.id", s.text("", "previous_response_id"))
	text("openai.request.service_tier", s.text("", "service_tier"))
	format := s.text("response_format", "type")
	var inText struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(s.value("text", "format"), &inText) == nil && format == "" {
		format = inText.Type
	}
	switch format {
	case "json_object", "json_schema":
		m["gen_ai.output.type"] = "json"
	case "text":
		m["gen_ai.output.type"] = "text"
	}
	if o == Embeddings {
		number("gen_ai.embeddings.dimension.count", "dimensions")
		if f := s.text("", "encoding_format"); f != "" && len(f) < 100 {
			f, _ = clean(f)
			m["gen_ai.request.encoding_formats"] = []string{f}
		}
	}
	q.metadata = m
}

// toolDefinition is a tool that a model may call.
type toolDefinition struct {
	Type string `json:"type"`
	Name string `json:"name,omitempty"`
}

// toolNames returns the tools of a request, without their descriptions and schemas.
func toolNames(raw json.RawMessage) (all []toolDefinition) {
	for _, one := range elements(raw) {
		var w struct {
			Type     string `json:"type"`
			Name     string `json:"name"`
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		}
		if json.Unmarshal(one, &w) != nil || len(all) == maxTools {
			continue
		}
		d := toolDefinition{w.Type, w.Name}
		if w.Function.Name != "" {
			d.Name = w.Function.Name
		}
		if d.Type == "" {
			d.Type = "function"
		}
		d.Type, _ = clean(pgtext.Head(d.Type, maxToolName))
		d.Name, _ = clean(pgtext.Head(d.Name, maxToolName))
		all = append(all, d)
	}
	return all
}

// readPrompt reads what the model is given: the messages, and as a text what is new in them. It is not needed before
// the call is logged.
func (q *request) readPrompt(o Operation) {
	s := q.found
	q.found = nil
	if names := toolNames(s.get("tools")); len(names) > 0 {
		q.metadata["gen_ai.tool.definitions"] = names
	}
	system := s.get("system")
	if o == Responses {
		system = s.get("instructions")
	}
	if instructions := systemParts(system); len(instructions) > 0 {
		q.metadata["gen_ai.system_instructions"] = instructions
	}
	list := s.get("messages")
	if o == Responses || o == Embeddings {
		list = s.get("input")
	}
	if o == Embeddings || len(list) > 0 && list[0] == '"' {
		q.prompt = cut(embedded(list), maxText)
		return
	}
	messages, omitted := newest(elements(list))
	q.prompt = cut(newText(messages), maxText)
	for i := range messages {
		messages[i].shorten(maxPrompt)
	}
	if len(messages) > 1 || omitted > 0 || len(messages) == 1 && !isText(messages[0]) {
		if omitted > 0 {
			messages = append([]message{{Role: "omitted", Parts: []part{{Type: omittedPart, Messages: omitted}}}},
				messages...)
		}
		q.metadata["gen_ai.input.messages"] = messages
	}
}

// embedded returns the texts that are embedded, a line each; tokens as they are.
func embedded(list json.RawMessage) string {
	if all := elements(list); len(all) == 0 || all[0][0] == '"' {
		return plainText(list)
	}
	return string(list)
}

// cut shortens a text that is longer than the trail takes, and says how long it was.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return pgtext.Head(s, limit) + fmt.Sprintf("… [cut: %d bytes]", len(s))
}

// isText reports whether a message is one text of a user.
func isText(m message) bool {
	return m.Role == "user" && len(m.Parts) == 1 && m.Parts[0].Type == textPart
}

// newText returns the text that the model has not seen before: of the messages after its own last one.
func newText(messages []message) string {
	from := len(messages)
	for from > 0 && messages[from-1].Role != "assistant" {
		from--
	}
	var texts []string
	for _, m := range messages[from:] {
		for _, p := range m.Parts {
			text, _ := p.Response.(string)
			if p.Type == textPart {
				text = p.Content
			}
			if text != "" && m.Role != "system" && m.Role != "developer" {
				texts = append(texts, text)
			}
		}
	}
	return strings.Join(texts, "\n")
}

func readMessage(raw json.RawMessage) message {
	var w wireItem
	_ = json.Unmarshal(raw, &w) // what has another type is left out
	return w.message()
}

func systemParts(raw json.RawMessage) (all []part) {
	size := 0
	for _, p := range parts(raw) {
		if p.Type != textPart || size >= maxSystem {
			continue
		}
		p.Content, _ = clean(pgtext.Head(p.Content, maxSystem-size))
		size += len(p.Content)
		all = append(all, p)
	}
	return all
}

// newest returns as many messages as are recorded, the newest of them, and how many are left out. An agent sends all
// earlier messages with every call, and they are in the events of the earlier calls.
func newest(all []json.RawMessage) (recorded []message, omitted int) {
	size, from := 0, len(all)
	for from > 0 {
		m := readMessage(all[from-1])
		n := m.size()
		if size+n > maxPrompt && from < len(all) {
			break
		}
		from--
		size += n
		recorded = append(recorded, m)
	}
	slices.Reverse(recorded)
	return recorded, from
}

// size is about how many bytes a message has.
func (m *message) size() (n int) {
	for _, p := range m.Parts {
		response, _ := p.Response.(string)
		given, _ := p.Arguments.(string)
		raw, _ := p.Arguments.(json.RawMessage)
		n += len(p.Content) + len(p.URI) + len(response) + len(given) + len(raw) + overhead
	}
	return n
}

// shorten cuts a message's texts to so many bytes together, with a mark, and replaces what can't be stored.
func (m *message) shorten(limit int) {
	size := 0
	m.Role, _ = clean(pgtext.Head(m.Role, maxToolName))
	m.Parts = m.Parts[:min(len(m.Parts), maxParts)]
	for i := range m.Parts {
		p := &m.Parts[i]
		texts := []*string{&p.Type, &p.ID, &p.Name, &p.MIMEType, &p.FileID, &p.URI, &p.Content}
		response, isText := p.Response.(string)
		given, isArguments := p.Arguments.(string)
		for _, s := range append(texts, &response, &given) {
			*s, _ = clean(cut(*s, max(0, limit-size)))
			size += len(*s)
		}
		if isText {
			p.Response = response
		}
		if isArguments {
			p.Arguments = given
		}
		if raw, is := p.Arguments.(json.RawMessage); is {
			if size+len(raw) > limit {
				p.Arguments, raw = notRecorded, nil
			}
			size += len(raw)
		}
		size += overhead
	}
}
