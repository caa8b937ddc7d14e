package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
)

// streams are those of the fake upstream, by a name that begins with their operation.
func streams(t testing.TB) map[string]string {
	t.Helper()
	up := testkit.LLM(t)
	all := map[string]string{}
	for name, path := range map[string]string{"chat": "/openai/v1/chat/completions",
		"responses": "/openai/v1/responses", "messages": "/anthropic/v1/messages"} {
		for kind, tools := range map[string]string{"text": "[]", "tools": "[{}]"} {
			body := `{"model":"m","stream":true,"stream_options":{"include_usage":true},"tools":` + tools + `}`
			r, err := http.NewRequest(http.MethodPost, up.URL+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+llmfake.Key)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatal(res.StatusCode, err)
			}
			res.Body.Close()
			all[name+" "+kind] = string(raw)
		}
	}
	return all
}

func operationOf(name string) Operation {
	switch {
	case strings.HasPrefix(name, "chat"):
		return ChatCompletions
	case strings.HasPrefix(name, "responses"):
		return Responses
	}
	return Messages
}

// readStream reads a stream in chunks, and returns what may be passed on before its last event is logged.
func readStream(o Operation, stream string, next func(left int) int) (a answer, passed string, last bool) {
	r := newEventReader(o.dialect(), &a)
	held := ""
	for len(stream) > 0 && !r.last {
		n := max(1, min(next(len(stream)), len(stream)))
		over := r.write([]byte(stream[:n]))
		if over > 0 {
			passed, held = passed+held+stream[:over], ""
		}
		held += stream[over:n]
		stream = stream[n:]
	}
	return a, passed, r.last
}

func shown(a *answer) string {
	raw, err := json.Marshal(map[string]any{"messages": a.messages(), "reasons": a.reasons(), "id": a.id,
		"model": a.model, "input": a.usage.input, "output": a.usage.output,
		"error": a.errorType, "lost": a.lost, "unread": a.unread})
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// TestStreamsAreReadAlikeInAnyChunking: bytes, halves, and a thousand random ways to cut, with each kind of line end.
func TestStreamsAreReadAlikeInAnyChunking(t *testing.T) {
	for name, stream := range streams(t) {
		o := operationOf(name)
		want, _, last := readStream(o, stream, func(left int) int { return left })
		if !last || want.unread > 0 || want.lost > 0 {
			t.Errorf("%s: last %v, %s", name, last, shown(&want))
		}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 1000 {
			in := stream
			switch i % 4 {
			case 1:
				in = strings.ReplaceAll(stream, "\n", "\r\n")
			case 2:
				in = strings.ReplaceAll(stream, "\n", "\r")
			}
			next := func(int) int { return 1 + random.IntN(1+i) }
			if i < 4 {
				next = func(int) int { return 1 }
			}
			got, passed, last := readStream(o, in, next)
			if shown(&got) != shown(&want) || !last {
				t.Fatalf("%s, way %d: %s, want %s", name, i, shown(&got), shown(&want))
			}
			if !strings.HasPrefix(in, passed) || strings.Contains(passed, "[DONE]") ||
				strings.Contains(passed, "message_stop") || strings.Contains(passed, `"type":"response.completed"`) {
				t.Fatalf("%s, way %d: %q passes before the call is logged", name, i, passed)
			}
			if end := in[len(passed):]; strings.Count(end, "data:") != 1 {
				t.Fatalf("%s, way %d: %q is held", name, i, end)
			}
		}
	}
}

// TestCharactersThatAreSplitAreWhole: halves of a surrogate pair in two deltas are one character.
func TestCharactersThatAreSplitAreWhole(t *testing.T) {
	stream := ""
	for _, piece := range []string{`a\ud83d`, `\udeb0b`, "\xc3", "\xbc", `\u0000`} {
		stream += fmt.Sprintf("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"}}]}\n\n", piece)
	}
	a, _, _ := readStream(ChatCompletions, stream, func(int) int { return 3 })
	if got := summary(a.messages()); got != "a🚰bü\ufffd" && got != "a🚰b\ufffd\ufffd\ufffd" {
		t.Errorf("%q", got)
	}
}

// FuzzStream reads anything as a stream of each API: nothing panics, what is kept is bounded, and what is recorded is
// UTF-8 without NUL, however the bytes are cut.
func FuzzStream(f *testing.F) {
	for name, stream := range streams(f) {
		for i := range 4 {
			f.Add(stream, uint8(i), uint8(len(name)))
		}
	}
	f.Add("data: {\"choices\":[{\"index\":99999999999999999999}]}\n\ndata: [DONE]\n\n", uint8(0), uint8(1))
	f.Add("event: content_block_delta\r"+`data:{"index":-1,"delta":{"type":"text_delta","text":"\u0000"}}`+"\r\r",
		uint8(2), uint8(1))
	f.Fuzz(func(t *testing.T, stream string, api, step uint8) {
		o := []Operation{ChatCompletions, Responses, Messages}[int(api)%3]
		a, passed, _ := readStream(o, stream, func(int) int { return int(step) })
		whole, _, _ := readStream(o, stream, func(left int) int { return left })
		if shown(&a) != shown(&whole) {
			t.Errorf("in steps of %d: %s, whole: %s", step, shown(&a), shown(&whole))
		}
		if !strings.HasPrefix(stream, passed) || a.size > maxAnswer {
			t.Errorf("%d bytes are kept", a.size)
		}
		for _, m := range a.messages() {
			for _, p := range m.Parts {
				if !utf8.ValidString(p.Content+p.Name+p.ID) || strings.Contains(p.Content+p.Name+p.ID, "\x00") {
					t.Errorf("%+v", p)
				}
			}
		}
	})
}

// FuzzRequest reads anything as a request: nothing panics, and the model that routes is the one that other readers see.
func FuzzRequest(f *testing.F) {
	f.Add(`{"model":"gpt-a","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}]}`)
	f.Add(`{"model":"claude","system":[{"type":"text","text":"x"}],"messages":[{"content":[{"type":"tool_result"}]}]}`)
	f.Add(`{"model":"gpt-a","input":[{"type":"function_call","arguments":"{"},{"type":"reasoning","summary":[{}]}]}`)
	f.Add(`{"model":"a","model":"b"}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, o := range []Operation{ChatCompletions, Responses, Embeddings, Messages, CountTokens} {
			q, err := readRequest(o, []byte(body))
			if err != nil {
				continue
			}
			q.readPrompt(o)
			var all map[string]json.RawMessage
			var model string
			if json.Unmarshal([]byte(body), &all) == nil && (json.Unmarshal(all["model"], &model) != nil ||
				model != q.model) {
				t.Errorf("%q routes by %q", body, q.model)
			}
			if raw, err := json.Marshal(q.metadata); err != nil || len(raw) > 2<<20 {
				t.Errorf("%d bytes, %v", len(raw), err)
			}
		}
	})
}
