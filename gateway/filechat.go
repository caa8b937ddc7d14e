package gateway

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// chatAnswer makes a chat completion of several. Chat completions know no file_search of their own: a message has its
// citations as annotations of type file_citation, in the form in which that API has those of type url_citation.
type chatAnswer struct {
	f     *fileRun
	head  object // id, object, created, model and what else each chunk has
	text  citer  // of the message, over all answers
	role  bool   // is sent
	usage json.RawMessage
	calls []*fileCall // all of them
	// annotations are those sent until now.
	annotations int

	// Of the answer that arrives:
	order   []*toolCall
	said    strings.Builder // its text, with marks
	waiting []json.RawMessage
	reason  json.RawMessage
	counted json.RawMessage // its usage
	message object
	choice  object
	failure object // an error that the upstream told
	told    bool   // usage is to be told in a chunk of its own
	done    bool
}

// toolCall is a call of a function as it arrives.
type toolCall struct {
	index    int
	id, name string
	given    strings.Builder
}

func newChatAnswer(f *fileRun) *chatAnswer { return &chatAnswer{f: f, text: citer{known: f.known}} }

func (a *chatAnswer) id() string { return unquote(a.head["id"]) }

// event implements fileAnswer.
func (a *chatAnswer) event(data []byte) error {
	if string(data) == "[DONE]" {
		a.done = true
		return nil
	}
	var chunk object
	if json.Unmarshal(data, &chunk) != nil || chunk == nil {
		return errUnreadable
	}
	if raw := chunk["error"]; len(raw) > 0 && string(raw) != "null" {
		a.failure = chunk
		return nil
	}
	choices := elements(chunk["choices"])
	delete(chunk, "choices")
	if raw := chunk["usage"]; len(raw) > 0 && string(raw) != "null" {
		a.counted, a.told = bytes.Clone(raw), a.told || len(choices) == 0
		chunk["usage"] = json.RawMessage("null")
	}
	if a.head == nil {
		a.head = chunk
	}
	for _, raw := range choices {
		var choice object
		if json.Unmarshal(raw, &choice) != nil || choice == nil {
			return errUnreadable
		}
		if numberOf(choice["index"]) != 0 {
			continue
		}
		if err := a.delta(choice); err != nil {
			return err
		}
	}
	return nil
}

// delta takes a piece of the message.
func (a *chatAnswer) delta(choice object) error {
	if reason := choice["finish_reason"]; len(reason) > 0 && string(reason) != "null" {
		a.reason = reason
	}
	var delta object
	if json.Unmarshal(choice["delta"], &delta) != nil {
		return errUnreadable
	}
	if calls := delta["tool_calls"]; len(calls) > 0 && string(calls) != "null" {
		a.readCalls(calls)
		a.waiting = append(a.waiting, calls)
	}
	delete(delta, "tool_calls")
	if a.role || string(delta["role"]) == "null" {
		delete(delta, "role")
	}
	if content := delta["content"]; len(content) > 0 && content[0] == '"' {
		text, cited := a.take(content)
		if delta["content"] = quote(text); text == "" && (a.role || len(cited) > 0) {
			delete(delta, "content")
		}
		a.annotate(delta, cited)
	} else if a.role && string(content) == "null" {
		delete(delta, "content")
	}
	if a.role = a.role || delta["role"] != nil; len(delta) == 0 {
		return nil
	}
	return a.f.x.send(a.chunk(delta, nil, nil))
}

// take takes a piece of the text. Texts of several answers are paragraphs.
func (a *chatAnswer) take(content json.RawMessage) (text string, cited []citation) {
	if a.said.Len() == 0 && a.text.chars > 0 && len(content) > len(`""`) {
		text, _ = a.text.write("\n\n")
	}
	a.said.WriteString(unquote(content))
	more, cited := a.text.writeJSON(content)
	return text + more, cited
}

// annotate adds citations to a delta. In a stream, each has its place in the list.
func (a *chatAnswer) annotate(delta object, cited []citation) {
	if len(cited) == 0 {
		return
	}
	all := make([]json.RawMessage, len(cited))
	for i, c := range cited {
		all[i] = c.chat(&a.annotations)
		a.annotations++
	}
	delta["annotations"] = encode(all)
}

// chat is a citation as an annotation of a chat completion's message; at is its place in the list in a stream.
func (c *citation) chat(at *int) json.RawMessage {
	annotation := object{"type": quote("file_citation"), "file_citation": encode(object{"file_id": quote(c.FileID),
		"filename": quote(c.Filename), "index": number(c.index)})}
	if at != nil {
		annotation["index"] = number(*at)
	}
	return encode(annotation)
}

// chunk is a chunk of the stream.
func (a *chatAnswer) chunk(delta object, reason, usage json.RawMessage) []byte {
	if reason == nil {
		reason = json.RawMessage("null")
	}
	return a.data(encode([]object{{"index": number(0), "delta": encode(delta), "logprobs": json.RawMessage("null"),
		"finish_reason": reason}}), usage)
}

func (a *chatAnswer) data(choices, usage json.RawMessage) []byte {
	chunk := maps.Clone(a.head)
	if chunk["choices"] = choices; usage != nil {
		chunk["usage"] = usage
	}
	return append(append([]byte("data: "), encode(chunk)...), "\n\n"...)
}

// readCalls takes pieces of calls.
func (a *chatAnswer) readCalls(raw json.RawMessage) {
	var all []struct {
		Index    *int   `json:"index"`
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	}
	_ = json.Unmarshal(raw, &all) // what has another type is left out
	for i, w := range all {
		at := i
		if w.Index != nil {
			at = *w.Index
		}
		n := slices.IndexFunc(a.order, func(c *toolCall) bool { return c.index == at })
		if n < 0 {
			n, a.order = len(a.order), append(a.order, &toolCall{index: at})
		}
		c := a.order[n]
		if c.name += w.Function.Name; w.ID != "" {
			c.id = w.ID
		}
		c.given.WriteString(w.Function.Arguments)
	}
}

// whole implements fileAnswer.
func (a *chatAnswer) whole(body []byte) error {
	var all object
	if json.Unmarshal(body, &all) != nil || all == nil {
		return errUnreadable
	}
	choices := elements(all["choices"])
	a.choice, a.message = nil, nil
	if len(choices) == 0 || json.Unmarshal(choices[0], &a.choice) != nil || a.choice == nil ||
		json.Unmarshal(a.choice["message"], &a.message) != nil || a.message == nil {
		return errUnreadable
	}
	a.counted, a.reason = all["usage"], a.choice["finish_reason"]
	delete(all, "choices")
	if a.head == nil {
		a.head = all
	}
	if content := a.message["content"]; len(content) > 0 && content[0] == '"' {
		a.take(content)
	}
	a.readCalls(a.message["tool_calls"])
	return nil
}

// end implements fileAnswer.
func (a *chatAnswer) end() (calls []*fileCall, err error) {
	a.usage = sum(a.usage, a.counted)
	var made []object
	for _, c := range a.order {
		if c.name != a.f.request.tool.function {
			continue // the model makes it again once it knows the results
		}
		if c.id == "" {
			c.id = "call_" + randomHex(8)
		}
		calls = append(calls, &fileCall{id: callPrefix + randomHex(16), call: c.id, arguments: c.given.String()})
		made = append(made, object{"id": quote(c.id), "type": quote("function"), "function": encode(object{
			"name": quote(c.name), "arguments": quote(c.given.String())})})
	}
	if text := a.text.flush(); text != "" && a.f.begun {
		if err := a.f.x.send(a.chunk(object{"content": quote(text)}, nil, nil)); err != nil {
			return nil, err
		}
	}
	if len(calls) > 0 && a.failure == nil {
		said := object{"role": quote("assistant"), "content": json.RawMessage("null"), "tool_calls": encode(made)}
		if a.said.Len() > 0 {
			said["content"] = quote(a.said.String())
		}
		a.f.request.history = append(a.f.request.history, encode(said))
		a.calls = append(a.calls, calls...)
		a.order, a.waiting, a.reason, a.counted, a.done = nil, nil, nil, nil, false
		a.said.Reset()
		return calls, nil
	}
	for _, calls := range a.waiting {
		if err := a.f.x.send(a.chunk(object{"tool_calls": calls}, nil, nil)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// searching implements fileAnswer.
func (a *chatAnswer) searching(*fileCall) error { return nil }

// searched implements fileAnswer.
func (a *chatAnswer) searched(c *fileCall, said string) error {
	a.f.request.history = append(a.f.request.history, encode(object{"role": quote("tool"),
		"tool_call_id": quote(c.call), "content": quote(said)}))
	return nil
}

// searches are those that were made, where the client wants their results.
func (a *chatAnswer) searches() json.RawMessage {
	all := make([]json.RawMessage, len(a.calls))
	for i, c := range a.calls {
		all[i] = c.search("completed", true)
	}
	return encode(all)
}

// last implements fileAnswer.
func (a *chatAnswer) last() (out []byte) {
	if !a.f.begun {
		return a.completion()
	}
	if a.failure != nil {
		return append(append([]byte("data: "), encode(a.failure)...), "\n\n"...)
	}
	if a.f.request.tool.include && len(a.calls) > 0 && a.reason != nil {
		out = append(out, a.chunk(object{"file_search_calls": a.searches()}, nil, nil)...)
	}
	if a.reason != nil {
		var usage json.RawMessage
		if !a.told { // where the upstream tells it with the end
			usage = a.usage
		}
		out = append(out, a.chunk(object{}, a.reason, usage)...)
	}
	if a.told && a.usage != nil {
		out = append(out, a.data(json.RawMessage("[]"), a.usage)...)
	}
	if a.done {
		out = append(out, "data: [DONE]\n\n"...)
	}
	return out
}

// completion is the whole chat completion.
func (a *chatAnswer) completion() []byte {
	if a.text.chars > 0 || a.text.began {
		a.message["content"] = quote(a.text.text.String())
	}
	all := make([]json.RawMessage, len(a.text.cited))
	for i := range a.text.cited {
		all[i] = a.text.cited[i].chat(nil)
	}
	a.message["annotations"] = encode(all)
	if a.f.request.tool.include {
		a.message["file_search_calls"] = a.searches()
	}
	a.choice["message"], a.choice["finish_reason"] = encode(a.message), a.reason
	whole := maps.Clone(a.head)
	if whole["choices"] = encode([]object{a.choice}); a.usage != nil {
		whole["usage"] = a.usage
	}
	return encode(whole)
}

// failed implements fileAnswer.
func (a *chatAnswer) failed(refusal *Refusal) []byte { return refusal.event(ChatCompletions) }
