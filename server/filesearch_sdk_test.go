package server_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"

	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
)

// sdkSearch is an answer with searched files, as an SDK returned it.
type sdkSearch struct {
	Name      string   `json:"name"`
	Text      string   `json:"text"`
	Citations [][]any  `json:"citations"`
	Queries   []string `json:"queries"`
	Results   []string `json:"results"`
	Input     int64    `json:"input"`
}

const (
	returnsSaid  = "The files say: " + returnsText + ". The impeller is covered by a warranty of two years.. "
	warrantySaid = "The files say: The impeller is covered by a warranty of two years.. " + returnsText + ". "
)

// wantSearch checks what a question about returns, or about the warranty, was answered.
func wantSearch(t *testing.T, got sdkSearch, text string, searched bool) {
	t.Helper()
	files := []string{"returns.md", "warranty.md"}
	if text == warrantySaid {
		files = []string{"warranty.md", "returns.md"}
	}
	if got.Text != text || len(got.Citations) != 2 || got.Input != 2*llmfake.Input {
		t.Errorf("%+v", got)
		return
	}
	for i, c := range got.Citations {
		at, _ := c[2].(float64)
		chars := []rune(text)
		if c[0] != "file_citation" || c[1] != files[i] || at < 1 || int(at) >= len(chars) || chars[int(at)] != '.' ||
			chars[int(at)-1] != '.' {
			t.Errorf("%s: %v in %q", got.Name, c, text)
		}
	}
	if searched && (len(got.Queries) != 1 || !slices.Equal(got.Results, files)) {
		t.Errorf("%+v", got)
	}
}

// runSearches runs a script with an SDK, and returns its answers by name.
func (w *world) runSearches(cmd *exec.Cmd, store, key string) map[string]sdkSearch {
	w.t.Helper()
	cmd.Env = append(cmd.Env, "OPENAI_BASE_URL="+w.url+"/openai/v1", "OPENAI_API_KEY="+key, "VECTOR_STORE="+store)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%v: %s", err, stderr.String())
	}
	all := map[string]sdkSearch{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		one := decodeTo[sdkSearch](w.t, lines.Text())
		all[one.Name] = one
	}
	return all
}

func TestFileSearchWithOpenAISDKForPython(t *testing.T) {
	cmd := testkit.Python(t, testkit.NewestSDKs, "testdata/gateway/file_search.py")
	w, _, store, key := fileWorld(t)
	got := w.runSearches(cmd, store, key)
	for name, text := range map[string]string{"responses": returnsSaid, "responses stream": returnsSaid,
		"responses again": warrantySaid, "chat": returnsSaid, "chat again": warrantySaid, "chat stream": returnsSaid,
		"chat helper": returnsSaid} {
		wantSearch(t, got[name], text, name[0] == 'r')
	}
	if want := `{"gone": "NotFoundError vector_store_not_found tools[0].vector_store_ids[0]", "unknown": ` +
		`"BadRequestError unknown_parameter tools[0].colour"}`; got["errors"].Text != want {
		t.Errorf("%s", got["errors"].Text)
	}
}

func TestFileSearchWithOpenAISDKForNode(t *testing.T) {
	cmd := testkit.Node(t, testkit.NewestSDKs, "testdata/gateway/file_search.mjs")
	w, _, store, key := fileWorld(t)
	got := w.runSearches(cmd, store, key)
	for _, name := range []string{"responses", "responses stream", "chat", "chat stream"} {
		wantSearch(t, got[name], returnsSaid, name[0] == 'r')
	}
	if want := "BadRequestError unknown_parameter tools[0].colour"; got["error"].Text != want {
		t.Errorf("%s", got["error"].Text)
	}
}

func TestFileSearchWithOpenAISDKForGo(t *testing.T) {
	w, _, store, key := fileWorld(t)
	client := openai.NewClient(option.WithBaseURL(w.url+"/openai/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
	tool := responses.FileSearchToolParam{VectorStoreIDs: []string{store}, MaxNumResults: openai.Int(2),
		Filters: responses.FileSearchToolFiltersUnionParam{OfComparisonFilter: &openai.ComparisonFilterParam{
			Type: "ne", Key: "file",
			Value: openai.ComparisonFilterValueUnionParam{OfString: openai.String("hostile.txt")}}}}
	ask := responses.ResponseNewParams{Model: "gpt-fake-5",
		Input:   responses.ResponseNewParamsInputUnion{OfString: openai.String("When is a pump sent back?")},
		Include: []responses.ResponseIncludable{responses.ResponseIncludableFileSearchCallResults},
		Tools:   []responses.ToolUnionParam{{OfFileSearch: &tool}}}
	shown := func(name string, r *responses.Response) sdkSearch {
		if len(r.Output) != 2 {
			t.Fatalf("%s", r.RawJSON())
		}
		s := sdkSearch{Name: name, Text: r.OutputText(), Input: r.Usage.InputTokens}
		search := r.Output[0].AsFileSearchCall()
		s.Queries = search.Queries
		for _, one := range search.Results {
			s.Results = append(s.Results, one.Filename)
		}
		for _, a := range r.Output[1].AsMessage().Content[0].Annotations {
			c := a.AsFileCitation()
			s.Citations = append(s.Citations, []any{string(c.Type), c.Filename, float64(c.Index)})
		}
		return s
	}
	r, err := client.Responses.New(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	wantSearch(t, shown("responses", r), returnsSaid, true)
	stream := client.Responses.NewStreaming(t.Context(), ask)
	text, added := "", 0
	var final responses.Response
	for stream.Next() {
		switch e := stream.Current().AsAny().(type) {
		case responses.ResponseTextDeltaEvent:
			text += e.Delta
		case responses.ResponseOutputTextAnnotationAddedEvent:
			added++
		case responses.ResponseCompletedEvent:
			final = e.Response
		}
	}
	if err := stream.Err(); err != nil || text != returnsSaid || added != 2 {
		t.Errorf("%v %q %d", err, text, added)
	}
	wantSearch(t, shown("responses stream", &final), returnsSaid, true)

	// Chat completions have no such tool in their types: it is given as JSON.
	raw, err := json.Marshal(tool)
	if err != nil {
		t.Fatal(err)
	}
	chatAsk := openai.ChatCompletionNewParams{Model: "gpt-fake-5", Messages: []openai.ChatCompletionMessageParamUnion{
		openai.UserMessage("When is a pump sent back?")},
		Tools: []openai.ChatCompletionToolUnionParam{param.Override[openai.ChatCompletionToolUnionParam](
			json.RawMessage(raw))}}
	chatShown := func(name, content, message string, input int64) sdkSearch {
		s := sdkSearch{Name: name, Text: content, Input: input}
		for _, a := range decodeTo[chatMessage](t, message).Annotations {
			s.Citations = append(s.Citations, []any{a.Type, a.Inside.Filename, float64(a.Inside.Index)})
		}
		return s
	}
	chat, err := client.Chat.Completions.New(t.Context(), chatAsk)
	if err != nil {
		t.Fatal(err)
	}
	message := chat.Choices[0].Message
	if len(message.Annotations) != 2 || string(message.Annotations[0].Type) != "file_citation" {
		t.Errorf("%+v", message.Annotations)
	}
	wantSearch(t, chatShown("chat", message.Content, message.RawJSON(), chat.Usage.PromptTokens), returnsSaid, false)
	chatAsk.StreamOptions.IncludeUsage = openai.Bool(true)
	chunks := client.Chat.Completions.NewStreaming(t.Context(), chatAsk)
	whole, got := openai.ChatCompletionAccumulator{}, sdkSearch{Name: "chat stream"}
	for chunks.Next() {
		if chunk := chunks.Current(); whole.AddChunk(chunk) && len(chunk.Choices) > 0 {
			delta := chunk.Choices[0].Delta
			got.Citations = append(got.Citations, chatShown("", "", delta.RawJSON(), 0).Citations...)
		}
	}
	if err := chunks.Err(); err != nil {
		t.Fatal(err)
	}
	got.Text, got.Input = whole.Choices[0].Message.Content, whole.Usage.PromptTokens
	wantSearch(t, got, returnsSaid, false)
	tool.VectorStoreIDs = []string{"vs_01980000000070008000000000000000"}
	var refused *openai.Error
	if _, err := client.Responses.New(t.Context(), ask); !errors.As(err, &refused) || refused.StatusCode != 404 ||
		refused.Code != "vector_store_not_found" || refused.Param != "tools[0].vector_store_ids[0]" {
		t.Errorf("%v", err)
	}
}
