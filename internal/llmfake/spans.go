package llmfake

import (
	"crypto/rand"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Spans returns n spans of calls as the OpenTelemetry project's OpenAI instrumentation writes them, with new ids, eight
// in a trace. Messages are what it leaves out unless it is told otherwise.
func Spans(n int, messages bool) ptrace.Traces {
	traces := ptrace.NewTraces()
	of := traces.ResourceSpans().AppendEmpty()
	of.Resource().Attributes().PutStr("service.name", "shop")
	of.Resource().Attributes().PutStr("telemetry.sdk.language", "python")
	scoped := of.ScopeSpans().AppendEmpty()
	scoped.Scope().SetName("opentelemetry.instrumentation.openai_v2")
	var trace pcommon.TraceID
	for i := range n {
		if i%8 == 0 {
			_, _ = rand.Read(trace[:]) // never fails
		}
		var id pcommon.SpanID
		_, _ = rand.Read(id[:])
		s := scoped.Spans().AppendEmpty()
		s.SetTraceID(trace)
		s.SetSpanID(id)
		s.SetName("chat gpt-4o-mini")
		s.SetKind(ptrace.SpanKindClient)
		now := time.Now()
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-800 * time.Millisecond)))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
		a := s.Attributes()
		a.PutStr("gen_ai.operation.name", "chat")
		a.PutStr("gen_ai.provider.name", "openai")
		a.PutStr("gen_ai.request.model", "gpt-4o-mini")
		a.PutStr("gen_ai.response.model", "gpt-4o-mini-2026-08-01")
		a.PutStr("gen_ai.response.id", fmt.Sprintf("chatcmpl-%x", id[:]))
		a.PutEmptySlice("gen_ai.response.finish_reasons").AppendEmpty().SetStr("stop")
		a.PutInt("gen_ai.usage.input_tokens", 812)
		a.PutInt("gen_ai.usage.output_tokens", 96)
		a.PutStr("gen_ai.agent.name", "support")
		a.PutStr("gen_ai.conversation.id", fmt.Sprintf("%x", trace[:]))
		a.PutStr("server.address", "api.openai.com")
		a.PutInt("server.port", 443)
		if !messages {
			continue
		}
		a.PutStr("gen_ai.input.messages", `[{"role":"user","parts":[{"type":"text","content":`+
			`"What the agent was asked, in a sentence of the usual length."}]}]`)
		a.PutStr("gen_ai.output.messages", `[{"role":"assistant","parts":[{"type":"text","content":`+
			`"What it answered, in another such sentence, perhaps a little longer."}],"finish_reason":"stop"}]`)
	}
	return traces
}
