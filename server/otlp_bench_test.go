package server_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/server"
)

// spans returns n spans as the OpenTelemetry project's OpenAI instrumentation writes them, with new ids. Messages are
// what it leaves out unless it is told otherwise.
func spans(t testing.TB, n int, messages bool) ptrace.Traces {
	t.Helper()
	traces := ptrace.NewTraces()
	of := traces.ResourceSpans().AppendEmpty()
	of.Resource().Attributes().PutStr("service.name", "shop")
	of.Resource().Attributes().PutStr("telemetry.sdk.language", "python")
	scoped := of.ScopeSpans().AppendEmpty()
	scoped.Scope().SetName("opentelemetry.instrumentation.openai_v2")
	var trace pcommon.TraceID
	for i := range n {
		if i%8 == 0 {
			if _, err := rand.Read(trace[:]); err != nil {
				t.Fatal(err)
			}
		}
		s := scoped.Spans().AppendEmpty()
		var id pcommon.SpanID
		if _, err := rand.Read(id[:]); err != nil {
			t.Fatal(err)
		}
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

// BenchmarkOTLP measures exports of 512 spans by four clients over HTTP until they are sealed, and beside them in the
// same run the same events in the library's batches. "ratio" is the first's spans/s by the second's events/s.
func BenchmarkOTLP(b *testing.B) {
	for name, messages := range map[string]bool{"without messages": false, "with messages": true} {
		b.Run(name, func(b *testing.B) { benchmarkOTLP(b, messages) })
	}
}

func benchmarkOTLP(b *testing.B, messages bool) {
	server.TuneGC(server.DefaultRequestMemory)
	w := serveFor(b, testkit.Database(b), func(c *server.Config) { c.ReportWait = 10 * time.Second })
	key := w.key(acme, access.EventsWrite)
	const size, clients = 512, 4
	var served, logged time.Duration
	spent := func(do func(c int)) time.Duration {
		begin := time.Now()
		done := make(chan struct{})
		for c := range clients {
			go func() {
				do(c)
				done <- struct{}{}
			}()
		}
		for range clients {
			<-done
		}
		return time.Since(begin)
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		var bodies [clients][]byte
		var events [clients][]audit.Event
		for c := range clients {
			raw, err := ptraceotlp.NewExportRequestFromTraces(spans(b, size, messages)).MarshalProto()
			if err != nil {
				b.Fatal(err)
			}
			bodies[c] = raw
			for m := range otel.Spans(spans(b, size, messages), otel.Options{}) {
				events[c] = append(events[c], m.Event)
			}
		}
		b.StartTimer()
		served += spent(func(c int) {
			r, err := http.NewRequestWithContext(b.Context(), "POST", w.url+"/v1/traces", bytes.NewReader(bodies[c]))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Content-Type", "application/x-protobuf")
			r.Header.Set("Authorization", "Bearer "+key)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != 200 {
				b.Errorf("answered %d", answer.StatusCode)
			}
		})
		logged += spent(func(c int) {
			if _, err := w.k.Tenant(globex).LogBatch(b.Context(), events[c]); err != nil {
				b.Error(err)
			}
		})
		n += size * clients
	}
	b.ReportMetric(float64(n)/served.Seconds(), "spans/s")
	b.ReportMetric(float64(n)/logged.Seconds(), "events/s")
	b.ReportMetric(logged.Seconds()/served.Seconds(), "ratio")
}
