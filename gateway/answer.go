package gateway

import (
	"encoding/json"
	"strings"

	"github.com/konstruct/konstruct/pgtext"
)

// Limits on what is kept of a response, for its event.
const (
	maxAnswer  = 160 << 10 // bytes of texts and arguments together
	maxChoices = 128
	maxError   = 4 << 10 // bytes of an error's body
)

// answer is what a response says, as far as it is recorded.
type answer struct {
	id, model   string
	tier        string // openai.response.service_tier
	fingerprint string
	choices     []*choice
	usage       usage
	errorType   string // of an error that the vendor told
	errorText   string
	size        int   // bytes that are kept
	lost        int64 // bytes that are not
	unread      int   // events that could not be read
	finished    bool  // the response is over, by its own account
}

// choice is one of the messages that a model answers with.
type choice struct {
	index  int
	reason string
	parts  []*collected
}

// collected is a part of a message as it arrives. A text is kept as the inside of JSON strings, joined: a character
// that is split over two of them is whole again.
type collected struct {
	kind     string
	index    int // of the vendor
	id, name string
	raw      []byte
	object   json.RawMessage // whole arguments
}

// choice returns a choice by its index; nil where there are too many.
func (a *answer) choice(index int) *choice {
	for _, c := range a.choices {
		if c.index == index {
			return c
		}
	}
	if len(a.choices) == maxChoices {
		return nil
	}
	c := &choice{index: index}
	a.choices = append(a.choices, c)
	return c
}

// part returns a part by its kind and index; nil where there are too many. Reasoning and text have one index each.
func (c *choice) part(kind string, index int) *collected {
	if c == nil {
		return nil
	}
	for _, p := range c.parts {
		if p.kind == kind && p.index == index {
			return p
		}
	}
	if len(c.parts) == maxParts {
		return nil
	}
	p := &collected{kind: kind, index: index}
	c.parts = append(c.parts, p)
	return p
}

// add appends a JSON string to a part.
func (a *answer) add(p *collected, quoted json.RawMessage) {
	if len(quoted) < 2 || quoted[0] != '"' {
		return
	}
	inside := quoted[1 : len(quoted)-1]
	if p == nil || a.size+len(inside) > maxAnswer {
		a.lost += int64(len(inside))
		return
	}
	a.size += len(inside)
	p.raw = append(p.raw, inside...)
}

// addObject takes a tool call's arguments that are given as JSON.
func (a *answer) addObject(p *collected, raw json.RawMessage) {
	if len(raw) == 0 || string(raw) == "{}" && p != nil && p.object != nil {
		return
	}
	if p == nil || a.size+len(raw) > maxAnswer {
		a.lost += int64(len(raw))
		return
	}
	a.size += len(raw)
	p.object = append(json.RawMessage(nil), raw...)
}

// text returns the text of a part.
func (p *collected) text() (s string) {
	raw := make([]byte, 0, len(p.raw)+2)
	raw = append(append(append(raw, '"'), p.raw...), '"')
	if json.Unmarshal(raw, &s) != nil {
		return string(p.raw)
	}
	return s
}

// part returns the part as it is recorded.
func (p *collected) part() part {
	out := part{Type: p.kind, ID: p.id, Name: p.name}
	if p.kind != callPart {
		out.Content = p.text()
		return out
	}
	if len(p.raw) > 0 {
		out.Arguments = arguments(p.text())
	} else if len(p.object) > 0 {
		out.Arguments = arguments(string(p.object))
	}
	return out
}

// messages returns what the model answered, one message a choice.
func (a *answer) messages() (all []message) {
	for _, c := range a.choices {
		m := message{Role: "assistant", FinishReason: c.reason, Parts: []part{}}
		for _, p := range c.parts {
			if len(p.raw) > 0 || p.kind == callPart {
				m.Parts = append(m.Parts, p.part())
			}
		}
		m.shorten(maxAnswer)
		all = append(all, m)
	}
	return all
}

// summary returns the messages' text, and the names of the tools that they call where there is none.
func summary(all []message) string {
	var texts, calls []string
	for _, m := range all {
		for _, p := range m.Parts {
			switch p.Type {
			case textPart, "refusal":
				texts = append(texts, p.Content)
			case callPart:
				calls = append(calls, p.Name)
			}
		}
	}
	if len(texts) == 0 && len(calls) > 0 {
		return "[calls " + strings.Join(calls, ", ") + "]"
	}
	return strings.Join(texts, "\n")
}

// reasons returns why each choice ended; error where it was to be told and was not.
func (a *answer) reasons() (all []string) {
	for _, c := range a.choices {
		reason := c.reason
		if reason == "" {
			reason = "error"
		}
		reason, _ = clean(pgtext.Head(reason, maxToolName))
		all = append(all, reason)
	}
	return all
}

// readError reads a vendor's error object, {"error": {...}} or its inside.
func (a *answer) readError(raw json.RawMessage) {
	var e struct {
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
		Message string          `json:"message"`
	}
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &e) != nil && e.Type == "" && e.Message == "" {
		return
	}
	a.errorType = e.Type
	if code := ""; json.Unmarshal(e.Code, &code) == nil && code != "" {
		a.errorType = code
	}
	if a.errorType == "" {
		a.errorType = "error"
	}
	a.errorType, _ = clean(pgtext.Head(a.errorType, maxToolName))
	a.errorText, _ = clean(pgtext.Head(e.Message, maxError))
}
