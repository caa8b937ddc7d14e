package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

var cited = map[string]*FileResult{"aaaaaaaa": {FileID: "file-a", Filename: "a.md"},
	"bbbbbbbb": {FileID: "file-b", Filename: "b.md"}}

// citedText runs a text through a citer in pieces of n bytes, as JSON strings, and shows what came out.
func citedText(text string, n int) string {
	c := citer{known: cited}
	out, notes := "", []citation{}
	for len(text) > 0 {
		end := min(n, len(text))
		for end < len(text) && !utf8.RuneStart(text[end]) {
			end++
		}
		more, found := c.writeJSON(quote(text[:end]))
		out, notes, text = out+more, append(notes, found...), text[end:]
	}
	out += c.flush()
	if out != c.text.String() || len(notes) != len(c.cited) {
		return fmt.Sprintf("sent %q, kept %q", out, c.text.String())
	}
	for _, f := range notes {
		out += fmt.Sprintf("|%d%s", f.index, strings.TrimSuffix(strings.TrimPrefix(f.FileID, "file-"), ".md"))
	}
	return out
}

func TestMarksBecomeCitations(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"Thirty days [[cite:aaaaaaaa]].":       "Thirty days.|11a",
		"für 🚰[[cite:bbbbbbbb]]":               "für 🚰|5b",
		"x [[cite:aaaaaaaa]][[cite:bbbbbbbb]]": "x|1a|1b",
		"x [[cite:aaaaaaaa]] [[cite:bbbbbbbb]] y":       "x y|1a|1b",
		"x [[cite:aaaaaaaa, bbbbbbbb;cite:aaaaaaaa]]!":  "x!|1a|1b|1a",
		"x [[cite:zzzzzzzz]] y [[cite:]] z [[cite:1]].": "x y z.",
		"[[cite:aaaaaaaa":                                "[[cite:aaaaaaaa",
		"[[cite:aaaaaaaa]":                               "[[cite:aaaaaaaa]",
		"[[cite:aa\naaaaaa]]":                            "[[cite:aa\naaaaaa]]",
		"[[cite:[[cite:aaaaaaaa]]":                       "[[cite:|7a",
		"[ [[ [[c [[cite [list] a[0][1]]  ":              "[ [[ [[c [[cite [list] a[0][1]]  ",
		"[[cite:" + strings.Repeat("a", 300) + "]] ends": "[[cite:" + strings.Repeat("a", 300) + "]] ends",
		"[[Cite:aaaaaaaa]] [[ cite:aaaaaaaa]]":           "[[Cite:aaaaaaaa]] [[ cite:aaaaaaaa]]",
	} {
		for n := 1; n <= len(text)+1; n++ {
			if got := citedText(text, n); got != want {
				t.Errorf("%q in pieces of %d bytes is %q, want %q", text, n, got, want)
				break
			}
		}
	}
}

// TestHeldBackIsShort: what may be sent on is, as soon as it is no mark.
func TestHeldBackIsShort(t *testing.T) {
	c := citer{known: cited}
	sent := ""
	for _, piece := range []string{"Thirty", " days", " [[", "cite:aaaa", "aaaa]", "]", " and"} {
		text, _ := c.write(piece)
		sent += text
		if c.held != "" && !strings.HasPrefix(" "+markBegin, c.held) && !strings.HasPrefix(c.held, " "+markBegin) {
			t.Errorf("%q is held back", c.held)
		}
	}
	if sent != "Thirty days and" {
		t.Errorf("%q", sent)
	}
}

// TestSplitCharactersAreCited: halves of a surrogate pair in two pieces are one character.
func TestSplitCharactersAreCited(t *testing.T) {
	c := citer{known: cited}
	one, _ := c.writeJSON(json.RawMessage(`"a \\ud83d \ud83d"`))
	two, notes := c.writeJSON(json.RawMessage(`"\udeb0 [[cite:aaaaaaaa]]"`))
	if one+two != `a \ud83d 🚰` || len(notes) != 1 || notes[0].index != 10 {
		t.Errorf("%q %q %v", one, two, notes)
	}
	c = citer{}
	one, _ = c.writeJSON(json.RawMessage(`"a\ud83d"`))
	if got := one + c.flush(); got != "a\uFFFD" {
		t.Errorf("%q", got)
	}
}

// FuzzCitations: a text's pieces do not matter, nothing that is no mark is lost, and no mark stays.
func FuzzCitations(f *testing.F) {
	f.Add("x [[cite:aaaaaaaa]] y", 3)
	f.Add("[[cite:[[cite:aaaaaaaa]], [", 1)
	f.Fuzz(func(t *testing.T, text string, n int) {
		if !utf8.ValidString(text) || len(text) > 4<<10 || n < 1 {
			return
		}
		want := citedText(text, len(text)+1)
		if got := citedText(text, n); got != want {
			t.Errorf("%q in pieces of %d bytes is %q, want %q", text, n, got, want)
		}
		if !strings.Contains(text, markBegin) && !strings.HasPrefix(want, text) {
			t.Errorf("%q became %q", text, want)
		}
	})
}

// TestFramesAreSplitAlike: an event's data arrive once it is over, whatever ends its lines, and in any pieces.
func TestFramesAreSplitAlike(t *testing.T) {
	stream := "event: a\ndata: {\"x\":\ndata:1}\nid: 7\n\n: ping\n\ndata: [DONE]\n\ndata: late"
	for _, end := range []string{"\n", "\r\n", "\r"} {
		in := strings.ReplaceAll(stream, "\n", end)
		for n := 1; n <= len(in); n++ {
			var got []string
			f := frames{}
			for rest := in; len(rest) > 0; rest = rest[min(n, len(rest)):] {
				if err := f.write([]byte(rest[:min(n, len(rest))]), func(data []byte) error {
					got = append(got, string(data))
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			if strings.Join(got, "|") != "{\"x\":\n1}|[DONE]" {
				t.Fatalf("%q by %d: %q", end, n, got)
			}
		}
	}
	f := frames{}
	if err := f.write(make([]byte, maxRound+1), nil); err == nil {
		t.Error("a line without end is taken")
	}
}

// TestUsageIsSummed: numbers at any depth, and what only one has.
func TestUsageIsSummed(t *testing.T) {
	got := sum(json.RawMessage(`{"a":1,"b":{"c":2,"d":null},"e":5}`),
		json.RawMessage(`{"a":2,"b":{"c":3},"f":{"g":1}}`))
	if want := `{"a":3,"b":{"c":5,"d":null},"e":5,"f":{"g":1}}`; string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := sum(nil, json.RawMessage(`{"a":1}`)); string(got) != `{"a":1}` {
		t.Errorf("%s", got)
	}
	if got := sum(json.RawMessage(`{"a":1}`), json.RawMessage(`null`)); string(got) != `{"a":1}` {
		t.Errorf("%s", got)
	}
}

// BenchmarkAnotherRequest is what reading a request with twenty functions takes, and what the look for file_search
// adds.
func BenchmarkAnotherRequest(b *testing.B) {
	tools := make([]json.RawMessage, 20)
	for i := range tools {
		tools[i] = json.RawMessage(`{"type":"function","function":{"name":"f","description":"` +
			strings.Repeat("It does what it says. ", 20) + `","parameters":{"type":"object","properties":{}}}}`)
	}
	body := encode(map[string]any{"model": "gpt-fake-5", "tools": tools,
		"messages": []map[string]any{{"role": "user", "content": strings.Repeat("a pump ", 2000)}}})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if _, err := readRequest(ChatCompletions, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	q, err := readRequest(ChatCompletions, body)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("look", func(b *testing.B) {
		for b.Loop() {
			if t, err := readFileTool(q.found.get("tools")); t != nil || err != nil {
				b.Fatal(t, err)
			}
		}
	})
}
