package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// object is a JSON object whose members are kept as they are.
type object = map[string]json.RawMessage

// responsesAnswer makes a response of the Responses API of several.
type responsesAnswer struct {
	f        *fileRun
	name     string // the response's id
	sequence int
	first    object // the response as the client knows it, without what is not told yet
	output   []json.RawMessage
	usage    json.RawMessage

	// Of the answer that arrives:
	items   map[int]int           // indexes of its items: the client's
	calls   map[int]*fileCall     // searches, by the items' indexes
	order   []*fileCall           // these, in their order
	held    map[int]bool          // calls of the client's functions: they wait until it is known that none searches
	waiting []object              // their events
	texts   map[[2]int]*textPiece // by the item's index and the part's
	history []json.RawMessage     // what the model is given again
	ending  object                // the last event
}

// textPiece is a text of a message, and its annotations.
type textPiece struct {
	citer
	annotations []json.RawMessage
	over        bool
}

func newResponsesAnswer(f *fileRun) *responsesAnswer {
	a := &responsesAnswer{f: f, name: responsePrefix + randomHex(16)}
	a.begin()
	return a
}

// begin begins another answer of the model.
func (a *responsesAnswer) begin() {
	a.items, a.calls, a.held, a.texts = map[int]int{}, map[int]*fileCall{}, map[int]bool{}, map[[2]int]*textPiece{}
	a.order, a.waiting, a.history, a.ending = nil, nil, nil, nil
}

func (a *responsesAnswer) id() string { return a.name }

func quote(s string) json.RawMessage { return encode(s) }

func number(n int) json.RawMessage { return encode(n) }

func numberOf(raw json.RawMessage) (n int) {
	_ = json.Unmarshal(raw, &n) // otherwise it is the first one
	return n
}

// send sends an event.
func (a *responsesAnswer) send(e object) error { return a.f.x.send(a.write(e)) }

func (a *responsesAnswer) write(e object) []byte {
	e["sequence_number"] = number(a.sequence)
	a.sequence++
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", unquote(e["type"]), encode(e))
}

// patch has a response say what the client asked for, and not what the upstream was asked for.
func (a *responsesAnswer) patch(response object) object {
	response["id"], response["tools"] = quote(a.name), a.f.request.tools
	if response["tool_choice"] = json.RawMessage(`"auto"`); a.f.request.choice != nil {
		response["tool_choice"] = a.f.request.choice
	}
	return response
}

// place returns the index that an item has in the client's response.
func (a *responsesAnswer) place(index int) int {
	at, there := a.items[index]
	if !there {
		at = len(a.output)
		a.items[index], a.output = at, append(a.output, nil)
	}
	return at
}

// event implements fileAnswer.
func (a *responsesAnswer) event(data []byte) error {
	var e object
	if string(data) == "[DONE]" {
		return nil
	}
	if json.Unmarshal(data, &e) != nil || e == nil {
		return errUnreadable
	}
	kind := unquote(e["type"])
	switch kind {
	case "response.created", "response.in_progress", "response.queued":
		var response object
		if json.Unmarshal(e["response"], &response) != nil || response == nil {
			return errUnreadable
		}
		if a.first != nil && kind == "response.created" || len(a.output) > 0 || a.f.calls > 0 {
			return nil
		}
		a.first = a.patch(response)
		e["response"] = encode(a.first)
		return a.send(e)
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled", "error":
		a.ending = e
		return nil
	}
	index, there := e["output_index"]
	if !there {
		return a.send(e)
	}
	return a.itemEvent(kind, numberOf(index), e)
}

// itemEvent takes an event of an item.
func (a *responsesAnswer) itemEvent(kind string, index int, e object) error {
	if kind == "response.output_item.added" {
		switch what, name := kindOf(e["item"]); {
		case what == "function_call" && name == a.f.request.tool.function:
			return a.added(index)
		case what == "function_call" || what == "custom_tool_call":
			a.held[index] = true
		}
	}
	if kind == "response.output_item.done" {
		a.keep(e["item"])
	}
	switch c := a.calls[index]; {
	case c != nil:
		if kind == "response.output_item.done" {
			c.read(e["item"])
		}
		return nil
	case a.held[index]:
		a.waiting = append(a.waiting, e)
		return nil
	}
	e["output_index"] = number(a.place(index))
	switch kind {
	case "response.output_text.delta", "response.output_text.done", "response.output_text.annotation.added",
		"response.content_part.done":
		return a.textEvent(kind, index, e)
	case "response.output_item.done":
		item, err := a.message(index, e)
		if err != nil {
			return err
		}
		e["item"], a.output[a.place(index)] = item, item
	}
	return a.send(e)
}

func kindOf(item json.RawMessage) (kind, name string) {
	var w struct {
		Type string `json:"type"`
		Name string `json:"name"`
	}
	_ = json.Unmarshal(item, &w) // otherwise it is of no kind
	return w.Type, w.Name
}

// added tells the client that there will be a search.
func (a *responsesAnswer) added(index int) error {
	c := &fileCall{id: callPrefix + randomHex(16), index: a.place(index)}
	a.calls[index], a.order = c, append(a.order, c)
	if !a.f.begun {
		return nil
	}
	if err := a.send(object{"type": quote("response.output_item.added"), "output_index": number(c.index),
		"item": c.search("in_progress", false)}); err != nil {
		return err
	}
	return a.searchEvent(c, "in_progress")
}

func (a *responsesAnswer) searchEvent(c *fileCall, what string) error {
	if !a.f.begun {
		return nil
	}
	return a.send(object{"type": quote("response.file_search_call." + what), "output_index": number(c.index),
		"item_id": quote(c.id)})
}

// read takes the call from the upstream's item.
func (c *fileCall) read(item json.RawMessage) {
	var w struct {
		CallID    string `json:"call_id"`
		Arguments string `json:"arguments"`
	}
	_ = json.Unmarshal(item, &w) // what has another type is left out
	if c.call, c.arguments = w.CallID, w.Arguments; c.call == "" {
		c.call = "call_" + c.id
	}
}

// item is the call as the upstream's model made it, and output what it is given.
func (c *fileCall) item(function string) json.RawMessage {
	return encode(object{"type": quote("function_call"), "call_id": quote(c.call), "name": quote(function),
		"arguments": quote(c.arguments)})
}

func (c *fileCall) output(said string) json.RawMessage {
	return encode(object{"type": quote("function_call_output"), "call_id": quote(c.call), "output": quote(said)})
}

// search is the item that the client knows.
func (c *fileCall) search(status string, include bool) json.RawMessage {
	type result struct {
		FileID     string         `json:"file_id"`
		Filename   string         `json:"filename"`
		Score      float64        `json:"score"`
		Attributes map[string]any `json:"attributes"`
		Text       string         `json:"text"`
	}
	asked := c.queries
	if asked == nil {
		asked = []string{}
	}
	item := object{"id": quote(c.id), "type": quote("file_search_call"), "status": quote(status),
		"queries": encode(asked), "results": json.RawMessage("null")}
	if include {
		all := make([]result, len(c.results))
		for i, r := range c.results {
			if all[i] = result(r); r.Attributes == nil {
				all[i].Attributes = map[string]any{}
			}
		}
		item["results"] = encode(all)
	}
	return encode(item)
}

// keep keeps an item for the model's next call. What nothing stores must be whole; calls of the client's functions are
// put aside, since the model makes them again once it knows the results.
func (a *responsesAnswer) keep(item json.RawMessage) {
	var m object
	if json.Unmarshal(item, &m) != nil || m == nil {
		return
	}
	switch kind, name := kindOf(item); kind {
	case "function_call":
		if name != a.f.request.tool.function {
			return
		}
		c := &fileCall{id: randomHex(4)}
		c.read(item)
		a.history = append(a.history, c.item(name))
	case "custom_tool_call":
	case "reasoning":
		if len(m["encrypted_content"]) > 4 { // and not null
			a.history = append(a.history, item)
		}
	case "message":
		text := ""
		for _, one := range elements(m["content"]) {
			var part struct {
				Text string `json:"text"`
			}
			_ = json.Unmarshal(one, &part) // what has another type is left out
			text += part.Text
		}
		if text != "" {
			a.history = append(a.history, encode(object{"role": quote("assistant"), "content": quote(text)}))
		}
	default:
		a.history = append(a.history, item)
	}
}

// whole implements fileAnswer.
func (a *responsesAnswer) whole(body []byte) error {
	var response object
	if json.Unmarshal(body, &response) != nil || response == nil {
		return errUnreadable
	}
	status := "completed" // some servers leave it out
	if raw := response["status"]; len(raw) > 0 {
		status = unquote(raw)
	}
	a.ending = object{"type": quote("response." + status), "response": body}
	for i, item := range elements(response["output"]) {
		a.keep(item)
		switch what, name := kindOf(item); {
		case what == "function_call" && name == a.f.request.tool.function:
			if err := a.added(i); err != nil {
				return err
			}
			a.calls[i].read(item)
			continue
		case what == "function_call" || what == "custom_tool_call":
			a.held[i] = true
			a.waiting = append(a.waiting, object{"type": quote("response.output_item.done"), "item": item,
				"output_index": number(i)})
			continue
		}
		made, err := a.message(i, object{"item": item})
		if err != nil {
			return err
		}
		a.output[a.place(i)] = made
	}
	return nil
}

// end implements fileAnswer.
func (a *responsesAnswer) end() (calls []*fileCall, err error) {
	var response object
	_ = json.Unmarshal(a.ending["response"], &response) // an error event has none
	a.usage = sum(a.usage, response["usage"])
	calls = a.order
	if kind := unquote(a.ending["type"]); kind != "response.completed" {
		for _, c := range calls { // the model did not come to its end
			if err := a.done(c, "incomplete"); err != nil {
				return nil, err
			}
		}
		calls = nil
	}
	if len(calls) > 0 {
		a.f.request.history = append(a.f.request.history, a.history...)
		a.begin()
		return calls, nil
	}
	for _, e := range a.waiting {
		index := numberOf(e["output_index"])
		at := a.place(index)
		e["output_index"] = number(at)
		if unquote(e["type"]) == "response.output_item.done" {
			a.output[at] = e["item"]
		}
		if !a.f.begun {
			continue
		}
		if err := a.send(e); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// searching implements fileAnswer.
func (a *responsesAnswer) searching(c *fileCall) error { return a.searchEvent(c, "searching") }

// searched implements fileAnswer.
func (a *responsesAnswer) searched(c *fileCall, said string) error {
	a.f.request.history = append(a.f.request.history, c.output(said))
	if err := a.searchEvent(c, "completed"); err != nil {
		return err
	}
	return a.done(c, "completed")
}

func (a *responsesAnswer) done(c *fileCall, status string) error {
	item := c.search(status, a.f.request.tool.include)
	if a.output[c.index] = item; !a.f.begun {
		return nil
	}
	return a.send(object{"type": quote("response.output_item.done"), "output_index": number(c.index), "item": item})
}

// response is the whole response, with what its end says.
func (a *responsesAnswer) response(end object) object {
	response := maps.Clone(end)
	if response == nil {
		response = object{}
	}
	output := append([]json.RawMessage{}, a.output...)
	output = slices.DeleteFunc(output, func(r json.RawMessage) bool { return r == nil })
	response["output"] = encode(output)
	if a.usage != nil {
		response["usage"] = a.usage
	}
	return a.patch(response)
}

// last implements fileAnswer.
func (a *responsesAnswer) last() []byte {
	var end object
	_ = json.Unmarshal(a.ending["response"], &end) // an error event has none
	switch {
	case !a.f.begun:
		return encode(a.response(end))
	case a.ending == nil: // the upstream's stream ended early
		return nil
	case end != nil:
		a.ending["response"] = encode(a.response(end))
	}
	return a.write(a.ending)
}

// failed implements fileAnswer.
func (a *responsesAnswer) failed(refusal *Refusal) []byte {
	if a.first == nil {
		return refusal.event(Responses)
	}
	response := a.response(a.first)
	response["status"] = quote("failed")
	response["error"] = encode(object{"code": quote(refusal.Code), "message": quote(refusal.Message)})
	return a.write(object{"type": quote("response.failed"), "response": encode(response)})
}
