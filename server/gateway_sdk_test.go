package server_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
)

// sdkCall is a call as an SDK returned it.
type sdkCall struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Input  *int64 `json:"input"`
	Output *int64 `json:"output"`
}

// runSDK runs a script with an SDK against the service, and returns its calls by name.
func (w *world) runSDK(cmd *exec.Cmd) map[string]sdkCall {
	w.t.Helper()
	key := w.key(acme, access.GatewayUse)
	cmd.Env = append(cmd.Env, "OPENAI_BASE_URL="+w.url+"/openai/v1", "OPENAI_API_KEY="+key,
		"ANTHROPIC_BASE_URL="+w.url+"/anthropic", "ANTHROPIC_API_KEY="+key)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%v: %s", err, stderr.String())
	}
	calls := map[string]sdkCall{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var c sdkCall
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			w.t.Fatalf("%v: %s", err, lines.Text())
		}
		calls[c.Name] = c
	}
	return calls
}

// wantCalls compares what an SDK returned with what the model said, and the tokens on the trail with those that the SDK
// was told. others are calls whose tokens the SDK does not show: errors, and streams without usage.
func (w *world) wantCalls(calls map[string]sdkCall, texts map[string]string, events, failed int) {
	w.t.Helper()
	var input, output int64
	for name, text := range texts {
		c, there := calls[name]
		if !there || c.Text != text {
			w.t.Errorf("%s: %q, want %q", name, c.Text, text)
		}
	}
	for _, c := range calls {
		if c.Input != nil {
			input, output = input+*c.Input, output+*c.Output
		}
	}
	stats, err := audit.ComputeStats(w.t.Context(), w.k.Door(), acme, audit.StatsFilter{Action: audit.ActionLLMCall})
	if err != nil || stats[0].Events != int64(events) || stats[0].Errors != int64(failed) ||
		stats[0].InputTokens != input || stats[0].OutputTokens != output {
		w.t.Errorf("%+v %v, want %d calls, %d and %d tokens", stats, err, events, input, output)
	}
}

const (
	arguments = `{"city":"Köln","days":30}`
	weather   = `{"city": "Köln", "days": 30}`
)

func TestOpenAISDKForPython(t *testing.T) {
	cmd := testkit.Python(t, testkit.NewestSDKs, "testdata/gateway/openai_calls.py")
	w := serve(t, withGateway(t, testkit.LLM(t)))
	w.wantCalls(w.runSDK(cmd), map[string]string{"chat": llmfake.Text, "chat stream": llmfake.Text,
		"chat tools": "get_weather " + arguments, "responses": llmfake.Text, "responses stream": llmfake.Text,
		"embeddings": "[0.25, -0.5, 1.0]", "models": "gpt-fake-5 embed-fake",
		"errors": `{"unknown model": "model_not_found", "no key": "invalid_api_key", "rate limit": ` +
			`"rate_limit_exceeded", "in the stream": "server_error"}`}, 8, 2)
}

func TestAnthropicSDKForPython(t *testing.T) {
	cmd := testkit.Python(t, testkit.NewestSDKs, "testdata/gateway/anthropic_calls.py")
	w := serve(t, withGateway(t, testkit.LLM(t)))
	calls := w.runSDK(cmd)
	// The stream that fails tells its input, which the SDK's error does not show.
	n := int64(llmfake.Input)
	zero := int64(0)
	calls["in the stream"] = sdkCall{Input: &n, Output: &zero}
	w.wantCalls(calls, map[string]string{"messages": llmfake.Text, "messages stream": llmfake.Text,
		"messages tools": "get_weather " + weather, "count": "14", "models": "claude-fake-5",
		"errors": `{"no key": "authentication_error", "rate limit": "rate_limit_exceeded", "in the stream": ` +
			`"overloaded_error"}`}, 6, 2)
}

func TestLangChainAndOpenAIAgents(t *testing.T) {
	cmd := testkit.Python(t, testkit.NewestSDKs, "testdata/gateway/frameworks.py")
	w := serve(t, withGateway(t, testkit.LLM(t)))
	w.wantCalls(w.runSDK(cmd), map[string]string{"langchain openai": llmfake.Text,
		"langchain openai stream": llmfake.Text, "langchain openai tools": weather, "langchain anthropic": llmfake.Text,
		"langchain anthropic stream": llmfake.Text, "langchain anthropic tools": weather, "agents": llmfake.Text}, 8, 0)
}

func TestLlamaIndex(t *testing.T) {
	cmd := testkit.Python(t, testkit.LlamaIndexSDKs, "testdata/gateway/llamaindex.py")
	w := serve(t, withGateway(t, testkit.LLM(t)))
	w.wantCalls(w.runSDK(cmd), map[string]string{"complete": llmfake.Text, "stream": llmfake.Text}, 2, 0)
}

func TestSDKsForNode(t *testing.T) {
	cmd := testkit.Node(t, testkit.NewestSDKs, "testdata/gateway/calls.mjs")
	w := serve(t, withGateway(t, testkit.LLM(t)))
	w.wantCalls(w.runSDK(cmd), map[string]string{"chat": llmfake.Text, "chat stream": llmfake.Text,
		"responses": llmfake.Text, "responses stream": llmfake.Text, "error": "NotFoundError model_not_found",
		"messages": llmfake.Text, "messages stream": llmfake.Text}, 6, 0)
}

func TestOpenAISDKForGo(t *testing.T) {
	w := serve(t, withGateway(t, testkit.LLM(t)))
	client := openai.NewClient(option.WithBaseURL(w.url+"/openai/v1"),
		option.WithAPIKey(w.key(acme, access.GatewayUse)), option.WithMaxRetries(0))
	ask := openai.ChatCompletionNewParams{Model: "gpt-fake-5", Messages: []openai.ChatCompletionMessageParamUnion{
		openai.UserMessage("How long?")}}
	calls := map[string]sdkCall{}
	chat, err := client.Chat.Completions.New(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	calls["chat"] = sdkCall{Text: chat.Choices[0].Message.Content, Input: &chat.Usage.PromptTokens,
		Output: &chat.Usage.CompletionTokens}
	ask.StreamOptions.IncludeUsage = openai.Bool(true)
	ask.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(
		openai.FunctionDefinitionParam{Name: "get_weather"})}
	stream := client.Chat.Completions.NewStreaming(t.Context(), ask)
	whole := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		whole.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	calls["tools"] = sdkCall{Text: whole.Choices[0].Message.ToolCalls[0].Function.Arguments,
		Input: &whole.Usage.PromptTokens, Output: &whole.Usage.CompletionTokens}
	r, err := client.Responses.New(t.Context(), responses.ResponseNewParams{Model: "gpt-fake-5",
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("How long?")}})
	if err != nil {
		t.Fatal(err)
	}
	calls["responses"] = sdkCall{Text: r.OutputText(), Input: &r.Usage.InputTokens, Output: &r.Usage.OutputTokens}
	ask.Model = "llama"
	var refused *openai.Error
	if _, err := client.Chat.Completions.New(t.Context(), ask); !errors.As(err, &refused) ||
		refused.Code != "model_not_found" || refused.StatusCode != 404 {
		t.Errorf("%v", err)
	}
	w.wantCalls(calls, map[string]string{"chat": llmfake.Text, "tools": arguments, "responses": llmfake.Text}, 3, 0)
}

func TestAnthropicSDKForGo(t *testing.T) {
	w := serve(t, withGateway(t, testkit.LLM(t)))
	client := anthropic.NewClient(anthropicoption.WithBaseURL(w.url+"/anthropic"),
		anthropicoption.WithAPIKey(w.key(acme, access.GatewayUse)), anthropicoption.WithMaxRetries(0))
	ask := anthropic.MessageNewParams{Model: "claude-fake-5", MaxTokens: 1024,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("How long?"))}}
	calls := map[string]sdkCall{}
	add := func(name string, m *anthropic.Message) {
		input := m.Usage.InputTokens + m.Usage.CacheReadInputTokens + m.Usage.CacheCreationInputTokens
		calls[name] = sdkCall{Text: m.Content[0].Text, Input: &input, Output: &m.Usage.OutputTokens}
	}
	m, err := client.Messages.New(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	add("messages", m)
	stream := client.Messages.NewStreaming(t.Context(), ask)
	whole := anthropic.Message{}
	for stream.Next() {
		if err := whole.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	add("stream", &whole)
	var refused *anthropic.Error
	bad := anthropic.NewClient(anthropicoption.WithBaseURL(w.url+"/anthropic"),
		anthropicoption.WithAPIKey("sk-not-ours"), anthropicoption.WithMaxRetries(0))
	if _, err := bad.Messages.New(t.Context(), ask); !errors.As(err, &refused) || refused.StatusCode != 401 ||
		!strings.Contains(refused.RawJSON(), "authentication_error") {
		t.Errorf("%v", err)
	}
	w.wantCalls(calls, map[string]string{"messages": llmfake.Text, "stream": llmfake.Text}, 2, 0)
}
