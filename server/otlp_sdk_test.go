package server_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/server"
)

// ran runs a program of a client's, with settings beside its environment.
func ran(t *testing.T, cmd *exec.Cmd, settings ...string) {
	t.Helper()
	cmd.Env = append(cmd.Env, settings...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	} else if strings.Contains(string(out), "rror") {
		t.Errorf("it says: %s", out)
	}
}

// landed counts a tenant's events by type, and holds the tokens of its calls against the provider's total.
func (w *world) landed(tenant uuid.UUID, in, out int64) map[string]int {
	w.t.Helper()
	actions := map[string]int{}
	for _, e := range w.listed(tenant) {
		actions[e.Action]++
	}
	stats, err := w.k.Tenant(tenant).Events().Stats(w.t.Context(), audit.StatsFilter{})
	if err != nil {
		w.t.Fatal(err)
	}
	if stats[0].InputTokens != in || stats[0].OutputTokens != out {
		w.t.Errorf("the trail has %d+%d tokens, the provider answered %d+%d", stats[0].InputTokens,
			stats[0].OutputTokens, in, out)
	}
	return actions
}

// TestAnUnmodifiedPythonAgentLands runs an agent of OpenAI's SDK and OpenTelemetry's, over HTTP and gRPC, with content
// in spans, in log records, and in both.
func TestAnUnmodifiedPythonAgentLands(t *testing.T) {
	w := serve(t, func(c *server.Config) { c.ReportWait = time.Hour })
	model := testkit.LLM(t)
	grpc := "http://" + w.serveOTLP()
	for _, c := range []struct{ protocol, endpoint, content string }{
		{"http/protobuf", w.url, "span_and_event"}, {"http/protobuf", w.url, "event_only"}, {"grpc", grpc, "span_only"},
	} {
		tenant := uuid.New()
		ran(t, testkit.Python(t, testkit.NewestSDKs, "testdata/otlp/agent.py"),
			"OPENAI_API_KEY="+llmfake.Key, "OPENAI_BASE_URL="+model.URL+"/openai/v1",
			"OTEL_EXPORTER_OTLP_PROTOCOL="+c.protocol, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.endpoint,
			"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20"+w.key(tenant, access.EventsWrite),
			"OTEL_SERVICE_NAME=shop", "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental",
			"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="+c.content)
		var embedded int64
		for _, e := range w.listed(tenant) {
			var m struct {
				Operation string `json:"gen_ai.operation.name"`
				Input     int64  `json:"gen_ai.usage.input_tokens"`
			}
			if err := json.Unmarshal(e.Metadata, &m); err != nil {
				t.Fatal(err)
			}
			if m.Operation == "embeddings" {
				embedded = m.Input
			}
		}
		got := w.landed(tenant, 2*llmfake.Input+embedded, 2*llmfake.Output)
		if got[audit.ActionLLMCall] != 3 || got[otel.ActionAgentRun] != 1 {
			t.Errorf("%s, %s: %v", c.protocol, c.content, got)
		}
		// A script that ends sends its spans first: what only a log record has is then added to the call.
		if c.content != "event_only" && len(got) != 2 {
			t.Errorf("%s, %s: one call became more than one event: %v", c.protocol, c.content, got)
		}
	}
}

// TestATracedCallThroughTheGatewayIsCountedOnce runs the agent through the gateway while it is traced too.
func TestATracedCallThroughTheGatewayIsCountedOnce(t *testing.T) {
	w := serve(t, withGateway(t, testkit.LLM(t)))
	key := w.key(acme, access.EventsWrite, access.GatewayUse)
	ran(t, testkit.Python(t, testkit.NewestSDKs, "testdata/otlp/agent.py"), "EMBEDDING_MODEL=embed-1",
		"OPENAI_API_KEY="+key, "OPENAI_BASE_URL="+w.url+"/openai/v1", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+w.url, "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20"+key,
		"OTEL_SERVICE_NAME=shop", "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental")
	var in, out int64
	calls := map[string]int{}
	for _, e := range w.listed(acme) {
		var m struct {
			Upstream  string `json:"konstruct.gateway.upstream"`
			Operation string `json:"gen_ai.operation.name"`
			Input     int64  `json:"gen_ai.usage.input_tokens"`
			Output    int64  `json:"gen_ai.usage.output_tokens"`
		}
		if err := json.Unmarshal(e.Metadata, &m); err != nil {
			t.Fatal(err)
		}
		if e.Action == audit.ActionLLMCall {
			calls[m.Operation]++
			if m.Operation == "chat" {
				in, out = in+m.Input, out+m.Output
			}
		}
	}
	// An answer with embeddings has no id, so that nothing says that its two reports are of one call.
	if calls["chat"] != 2 || calls["embeddings"] != 2 || in != 2*llmfake.Input || out != 2*llmfake.Output {
		t.Errorf("%v with %d+%d tokens", calls, in, out)
	}
}

// TestLangfuseNeedsAnotherHostAlone runs an agent of Langfuse's SDK with LANGFUSE_HOST changed.
func TestLangfuseNeedsAnotherHostAlone(t *testing.T) {
	w := serve(t)
	ran(t, testkit.Python(t, testkit.NewestSDKs, "testdata/otlp/langfuse_agent.py"), "LANGFUSE_HOST="+w.url,
		"LANGFUSE_PUBLIC_KEY=pk-lf-any", "LANGFUSE_SECRET_KEY="+w.key(acme, access.EventsWrite))
	got := w.landed(acme, 106, 300)
	if got[audit.ActionLLMCall] != 1 || got[audit.ActionToolCall] != 1 || got[otel.ActionAgentRun] != 1 ||
		len(got) != 3 {
		t.Errorf("%v", got)
	}
	for _, e := range w.listed(acme) {
		if e.UserID == nil || *e.UserID != "ann" {
			t.Errorf("%s is of user %v", e.Action, e.UserID)
		}
	}
	if run, err := w.k.Tenant(acme).Events().Run(t.Context(), "session-7"); err != nil || run.Events != 3 ||
		len(run.Steps) != 1 || len(run.Steps[0].Steps) != 2 {
		t.Errorf("%v: %+v", err, run)
	}
}

// TestAnUnmodifiedNodeAgentLands runs an agent of the Vercel AI SDK.
func TestAnUnmodifiedNodeAgentLands(t *testing.T) {
	w := serve(t)
	model := testkit.LLM(t)
	ran(t, testkit.Node(t, testkit.NewestSDKs, "testdata/otlp/agent.mjs"),
		"OPENAI_API_KEY="+llmfake.Key, "OPENAI_BASE_URL="+model.URL+"/openai/v1", "OTEL_EXPORTER_OTLP_ENDPOINT="+w.url,
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer "+w.key(acme, access.EventsWrite), "OTEL_SERVICE_NAME=shop")
	if got := w.landed(acme, llmfake.Input, llmfake.Output); got[audit.ActionLLMCall] != 1 {
		t.Errorf("%v", got)
	}
}
