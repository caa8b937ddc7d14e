package gateway_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/llmfake"
)

const (
	chatPath      = "/openai/v1/chat/completions"
	responsesPath = "/openai/v1/responses"
	messagesPath  = "/anthropic/v1/messages"

	question = "How long may a customer return a pump?"
	tools    = `"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object"}}}]`
	flatTool = `"tools":[{"type":"function","name":"get_weather","parameters":{"type":"object"}}]`
	antTool  = `"tools":[{"name":"get_weather","input_schema":{"type":"object"}}]`
)

// operation is an operation with its request.
type operation struct {
	name, path, body, tools string
}

func operations() []operation {
	chat := `{"model":"gpt-fake-5","messages":[{"role":"user","content":"` + question + `"}]`
	usage := `,"stream":true,"stream_options":{"include_usage":true}`
	response := `{"model":"gpt-fake-5","input":"` + question + `"`
	message := `{"model":"claude-fake-5","max_tokens":1024,"messages":[{"role":"user","content":"` + question + `"}]`
	return []operation{
		{"chat", chatPath, chat, tools}, {"chat stream", chatPath, chat + usage, tools},
		{"responses", responsesPath, response, flatTool},
		{"responses stream", responsesPath, response + `,"stream":true`, flatTool},
		{"messages", messagesPath, message, antTool},
		{"messages stream", messagesPath, message + `,"stream":true`, antTool},
	}
}

func (o operation) streams() bool { return strings.HasSuffix(o.name, "stream") }

func (o operation) model() string {
	if o.path == messagesPath {
		return "claude-fake-5"
	}
	return "gpt-fake-5"
}

// provider is who answers.
func (o operation) provider() string {
	if o.path == messagesPath {
		return "anthropic"
	}
	return "openai"
}

// TestResponsesPassByteForByte: the client gets what the upstream sent, and the upstream what the client sent.
func TestResponsesPassByteForByte(t *testing.T) {
	w := start(t, settings{})
	for _, o := range operations() {
		for _, how := range []string{"", "bytes", "slow", "429", "500", "html", "html200", "error-event", "end-early"} {
			body := o.body + " , \"extra\" : \"\\u00e9 ü\"\n}"
			got, want := w.post(o.path, body, "X-Fake", how), w.direct(o.path, body, "X-Fake", how)
			if got.err != nil || want.err != nil || got.StatusCode != want.StatusCode || got.body != want.body {
				t.Errorf("%s %s: %d %v %q, want %d %q", o.name, how, got.StatusCode, got.err, got.body, want.StatusCode,
					want.body)
			}
			for _, name := range []string{"Content-Type", "Retry-After", "X-Request-Id"} {
				if got.Header.Get(name) != want.Header.Get(name) {
					t.Errorf("%s %s: %s is %q", o.name, how, name, got.Header.Get(name))
				}
			}
			if got.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s %s: the upstream sets a cookie of this service", o.name, how)
			}
			if sent := w.up.Requests(); string(sent[len(sent)-2].Body) != body {
				t.Errorf("%s %s: the upstream got %q", o.name, how, sent[len(sent)-2].Body)
			}
		}
	}
}

// TestCallsAreRecorded: text, tokens, reasons and identity of each operation.
func TestCallsAreRecorded(t *testing.T) {
	w := start(t, settings{})
	for i, o := range operations() {
		if r := w.post(o.path, o.body+`,"temperature":0.25,"user":"ada"}`); r.StatusCode != 200 || r.err != nil {
			t.Fatalf("%s: %d %s %v", o.name, r.StatusCode, r.body, r.err)
		}
		e := w.call(i + 1) // it is there at once: see TestStreamsEndAfterTheirEvent
		if text(e.Input) != question || text(e.Output) != llmfake.Text || *e.AgentID != bot ||
			text(e.UserID) != "ada" || e.LatencyMS == nil && o.streams() {
			t.Errorf("%s: %s %s %v %v", o.name, text(e.Input), text(e.Output), e.AgentID, text(e.UserID))
		}
		want := map[string]any{"gen_ai.operation.name": "chat", "gen_ai.request.model": o.model(),
			"gen_ai.provider.name": o.provider(), "konstruct.gateway.upstream": o.provider(),
			"gen_ai.usage.input_tokens": llmfake.Input, "gen_ai.usage.output_tokens": llmfake.Output,
			"gen_ai.usage.cache_read.input_tokens":     llmfake.CacheRead,
			"gen_ai.usage.cache_creation.input_tokens": llmfake.Written,
			"gen_ai.usage.reasoning.output_tokens":     llmfake.Reasoning, "http.response.status_code": 200,
			"gen_ai.request.temperature": 0.25, "error.type": nil, "konstruct.gateway.usage": nil,
			"gen_ai.output.messages": nil, "gen_ai.input.messages": nil, "server.address": "127.0.0.1",
			"konstruct.gateway.tokens": llmfake.Input + llmfake.Output, "konstruct.gateway.lost": nil,
			"konstruct.gateway.unread": nil}
		if o.streams() {
			want["gen_ai.request.stream"] = true
			if v, is := e.meta["gen_ai.response.time_to_first_chunk"].(float64); !is || v <= 0 {
				t.Errorf("%s: time to first chunk %v", o.name, e.meta["gen_ai.response.time_to_first_chunk"])
			}
		}
		if o.path != messagesPath { // 2006 × 1000 + 300 × 10,000 a million
			want["konstruct.gateway.cost"], want["gen_ai.usage.cost"] = 5.006, 5.006
		}
		e.has(t, want)
		reasons := map[string]string{chatPath: "stop", responsesPath: "completed", messagesPath: "end_turn"}[o.path]
		e.has(t, map[string]any{"gen_ai.response.finish_reasons": []string{reasons}})
		if id, _ := e.meta["gen_ai.response.id"].(string); !strings.HasSuffix(id, "fake") {
			t.Errorf("%s: response id %q", o.name, id)
		}
	}
	stats, err := audit.ComputeStats(t.Context(), w.door, acme, audit.StatsFilter{})
	if n := int64(len(operations())); err != nil || stats[0].InputTokens != n*llmfake.Input ||
		stats[0].OutputTokens != n*llmfake.Output || stats[0].Errors != 0 {
		t.Errorf("%+v %v", stats, err)
	}
}

// TestToolCallsAreWholeHoweverTheyArrive: names, ids and arguments, split over chunks or bytes.
func TestToolCallsAreWholeHoweverTheyArrive(t *testing.T) {
	w := start(t, settings{})
	n := 0
	for _, o := range operations() {
		for _, how := range []string{"", "bytes"} {
			if r := w.post(o.path, o.body+","+o.tools+"}", "X-Fake", how); r.StatusCode != 200 {
				t.Fatalf("%s: %d %s", o.name, r.StatusCode, r.body)
			}
			n++
			e := w.call(n)
			id := "call_1"
			reason := map[string]string{chatPath: "tool_calls", responsesPath: "completed"}[o.path]
			if o.path == messagesPath {
				id, reason = "toolu_1", "tool_use"
			}
			e.has(t, map[string]any{"gen_ai.output.messages": []any{map[string]any{"role": "assistant",
				"finish_reason": reason, "parts": []any{map[string]any{"type": "tool_call", "id": id,
					"name": "get_weather", "arguments": map[string]any{"city": "Köln", "days": 30}}}}},
				"gen_ai.tool.definitions": []any{map[string]any{"type": "function", "name": "get_weather"}}})
			if text(e.Output) != "[calls get_weather]" {
				t.Errorf("%s %s: %q", o.name, how, text(e.Output))
			}
		}
	}
}

// TestConversationsAreRecorded: earlier messages, tools' results and instructions, in one form.
func TestConversationsAreRecorded(t *testing.T) {
	w := start(t, settings{})
	result := "21 degrees"
	for i, c := range []struct{ path, body string }{
		{chatPath, `{"model":"gpt-fake-5","messages":[{"role":"user","content":"Weather?"},
			{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
			"function":{"name":"get_weather","arguments":"{\"city\":\"Köln\"}"}}]},
			{"role":"tool","tool_call_id":"c1","content":"21 degrees"}]}`},
		{responsesPath, `{"model":"gpt-fake-5","input":[{"role":"user",
			"content":[{"type":"input_text","text":"Weather?"}]},
			{"type":"function_call","call_id":"c1","name":"get_weather","arguments":"{\"city\":\"Köln\"}"},
			{"type":"function_call_output","call_id":"c1","output":"21 degrees"}]}`},
		{messagesPath, `{"model":"claude-fake-5","max_tokens":9,"messages":[{"role":"user","content":"Weather?"},
			{"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"get_weather","input":{"city":"Köln"}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":[{"type":"text",
			"text":"21 degrees"}]}]}]}`},
	} {
		if r := w.post(c.path, c.body); r.StatusCode != 200 {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		e := w.call(i + 1)
		e.has(t, map[string]any{"gen_ai.input.messages": []any{
			map[string]any{"role": "user", "parts": []any{map[string]any{"type": "text", "content": "Weather?"}}},
			map[string]any{"role": "assistant", "parts": []any{map[string]any{"type": "tool_call", "id": "c1",
				"name": "get_weather", "arguments": map[string]any{"city": "Köln"}}}},
			map[string]any{"role": "tool", "parts": []any{map[string]any{"type": "tool_call_response", "id": "c1",
				"response": result}}}}})
		if text(e.Input) != result {
			t.Errorf("%s: what is new is %q", c.path, text(e.Input))
		}
	}
}

// TestLongConversationsKeepTheNewestMessages: an event is bounded, and says what it leaves out.
func TestLongConversationsKeepTheNewestMessages(t *testing.T) {
	w := start(t, settings{})
	var messages []string
	for i := range 400 {
		messages = append(messages, fmt.Sprintf(`{"role":"user","content":"%d %s"}`, i, strings.Repeat("x", 1000)))
	}
	r := w.post(chatPath, `{"model":"gpt-fake-5","messages":[`+strings.Join(messages, ",")+`]}`)
	if r.StatusCode != 200 {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	e := w.call(1)
	list, _ := e.meta["gen_ai.input.messages"].([]any)
	if len(list) < 20 || len(list) > 50 || len(e.Metadata) > audit.MaxMetadata {
		t.Fatalf("%d messages, %d bytes", len(list), len(e.Metadata))
	}
	first := fmt.Sprint(list[0])
	if want := fmt.Sprint(400 - (len(list) - 1)); !strings.Contains(first, "konstruct.omitted") ||
		!strings.Contains(first, want) {
		t.Errorf("%s, want %s", first, want)
	}
	if last := fmt.Sprint(list[len(list)-1]); !strings.Contains(last, "399 x") {
		t.Errorf("the last is %.100s", last)
	}
}

// TestLongTextsAreCutWithAMark: the trail says how long it was, and nothing of the call is refused.
func TestLongTextsAreCutWithAMark(t *testing.T) {
	w := start(t, settings{})
	for i, list := range []string{`{"role":"user","content":"` + strings.Repeat("é", 100_000) + `"}`,
		`{"role":"user","content":"a"},{"role":"user","content":"` + strings.Repeat("é", 2_000_000) + `"}`} {
		r := w.post(chatPath, `{"model":"gpt-fake-5","messages":[`+list+`]}`)
		if r.StatusCode != 200 {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		e := w.call(i + 1)
		if in := text(e.Input); len(in) > audit.MaxSummary || !strings.Contains(in, "… [cut: ") ||
			strings.Contains(string(e.Metadata), strings.Repeat("é", 20_000)) {
			t.Errorf("%d bytes: …%s", len(in), in[max(0, len(in)-120):])
		}
	}
	r := w.post("/openai/v1/embeddings", `{"model":"embed-fake","input":[[1,2],[3]]}`)
	if e := w.call(3); r.StatusCode != 200 || text(e.Input) != "[[1,2],[3]]" {
		t.Errorf("%d %q", r.StatusCode, text(e.Input))
	}
}

// TestStreamsEndAfterTheirEvent: whoever has the last event of a stream, or a response, finds the call on the trail.
func TestStreamsEndAfterTheirEvent(t *testing.T) {
	w := start(t, settings{})
	for i, o := range operations() {
		res, err := http.Post(w.url+o.path, "application/json", strings.NewReader(o.body+"}"))
		if err != nil {
			t.Fatal(err)
		}
		in, before := bufio.NewScanner(res.Body), 0
		for in.Scan() { // until the last event, and not until the end of the response
			line := in.Text()
			if !o.streams() || line == "data: [DONE]" || strings.HasPrefix(line, "event: message_stop") ||
				strings.HasPrefix(line, "event: response.completed") {
				break
			}
			before++
		}
		if n := len(w.events(acme, audit.ActionLLMCall)); n != i+1 || o.streams() && before < 4 {
			t.Errorf("%s: %d events are there when its last event is", o.name, n)
		}
		res.Body.Close()
	}
}

// TestAnotherTenantSeesNoCalls: another tenant and no tenant.
func TestAnotherTenantSeesNoCalls(t *testing.T) {
	w := start(t, settings{})
	w.post(chatPath, operations()[0].body+"}")
	w.post(chatPath, operations()[0].body+"}", "Tenant", "globex")
	if a, g := w.events(acme, ""), w.events(globex, ""); len(a) != 1 || len(g) != 1 || a[0].ID == g[0].ID {
		t.Errorf("%d and %d events", len(a), len(g))
	}
}
