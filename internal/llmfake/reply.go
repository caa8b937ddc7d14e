package llmfake

import (
	"encoding/json"
	"fmt"
	"strings"
)

// reply is what the model answers: a text in pieces, calls of functions, or both.
type reply struct {
	pieces []string
	calls  []call
}

// call is a call of a function; its arguments are in pieces.
type call struct {
	id, name string
	pieces   []string
}

func (r *reply) text() string { return strings.Join(r.pieces, "") }

func (c *call) arguments() string { return strings.Join(c.pieces, "") }

// SearchTool begins the name of a function that the model calls to search files before it answers.
const SearchTool = "file_search"

// weather is the call with which a model answers that has other tools.
func weather() call { return call{"call_1", "get_weather", Arguments()} }

// reply decides what the model answers. It searches where it can and has no result at hand, and then tells what it
// found: the first two passages, each with the cite that it was given. It is gullible: it repeats passages as they are.
// X-Fake has it do more: "mixed" calls another function beside the search, "again" never stops to search, "invent"
// cites what it was not given, "wordy" says something before it searches, "empty" searches for nothing.
func (s *script) reply() reply {
	tool := s.q.searchTool()
	if tool == "" {
		if s.q.callsTool() {
			return reply{calls: []call{weather()}}
		}
		return reply{pieces: words()}
	}
	results, answered := s.q.results()
	if s.q.choice() != `"none"` && (!answered || s.how == "again") {
		arguments := `{"queries":[` + quoted(s.q.question()) + `]}`
		if s.how == "empty" {
			arguments = `{"queries":17}`
		}
		r := reply{calls: []call{{fmt.Sprintf("call_%d", len(s.u.Requests())), tool, pieces(arguments, 7)}}}
		switch s.how {
		case "mixed":
			r.calls = append([]call{weather()}, r.calls...)
		case "wordy":
			r.pieces = []string{"Let me ", "look."}
		}
		return r
	}
	if s.how == "mixed" && len(s.q.Tools) > 1 {
		return reply{calls: []call{weather()}}
	}
	text := "The files say: "
	if len(results) == 0 {
		text = "The files say nothing."
	}
	for i, r := range results {
		if i < 2 {
			text += r.quote() + " " + r.Cite + ". "
		}
	}
	if s.how == "invent" {
		text += "So it is [[cite:zzzzzzzz]][[cite:]]; see [[cite:1, 2]] and [a list] too 🚰."
	}
	return reply{pieces: pieces(text, 5)}
}

// pieces cuts a text after each n bytes, or as soon as a character allows it.
func pieces(s string, n int) (all []string) {
	from := 0
	for i := range s {
		if i-from >= n {
			all, from = append(all, s[from:i]), i
		}
	}
	return append(all, s[from:])
}

// result is a passage as the model is given it.
type result struct {
	Cite     string `json:"cite"`
	Filename string `json:"filename"`
	Text     string `json:"text"`
	boundary string
}

// quote is the passage between its boundaries.
func (r *result) quote() string {
	return strings.TrimSpace(strings.ReplaceAll(r.Text, r.boundary, ""))
}

// searchTool is the name of the function that searches files, or "".
func (q *asked) searchTool() string {
	for _, raw := range q.Tools {
		var t struct {
			Type     string `json:"type"`
			Name     string `json:"name"`
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		}
		_ = json.Unmarshal(raw, &t) // otherwise it is no function
		for _, name := range []string{t.Name, t.Function.Name} {
			if t.Type == "function" && strings.HasPrefix(name, SearchTool) {
				return name
			}
		}
	}
	return ""
}

func (q *asked) choice() string { return string(q.ToolChoice) }

// items are the messages, or the items of the input.
func (q *asked) items() (all []json.RawMessage) {
	if len(q.Messages) > 0 {
		return q.Messages
	}
	_ = json.Unmarshal(q.Input, &all) // otherwise it is a text
	return all
}

// results are those with which the model was called, and whether it was called with any.
func (q *asked) results() (all []result, answered bool) {
	items := q.items()
	for i := len(items) - 1; i >= 0; i-- {
		var m struct {
			Role    string          `json:"role"`
			Type    string          `json:"type"`
			Content json.RawMessage `json:"content"`
			Output  json.RawMessage `json:"output"`
		}
		_ = json.Unmarshal(items[i], &m) // otherwise it is no result
		if m.Role != "tool" && m.Type != "function_call_output" {
			break
		}
		answered = true
		var said string
		for _, raw := range []json.RawMessage{m.Content, m.Output} {
			if json.Unmarshal(raw, &said) == nil {
				break
			}
		}
		var found struct {
			Boundary string   `json:"boundary"`
			Results  []result `json:"results"`
		}
		_ = json.Unmarshal([]byte(said), &found) // otherwise it says that there are none
		for _, r := range found.Results {
			r.boundary = found.Boundary
			all = append(all, r)
		}
	}
	return all, answered
}

// question is the last text of the user.
func (q *asked) question() (text string) {
	_ = json.Unmarshal(q.Input, &text) // otherwise it is a list
	for _, raw := range q.items() {
		var m struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		}
		if json.Unmarshal(raw, &m) == nil && m.Role == "user" {
			text = m.Content
		}
	}
	return text
}
