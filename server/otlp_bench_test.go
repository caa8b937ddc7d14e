package server_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/server"
)

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
			raw, err := ptraceotlp.NewExportRequestFromTraces(llmfake.Spans(size, messages)).MarshalProto()
			if err != nil {
				b.Fatal(err)
			}
			bodies[c] = raw
			for m := range otel.Spans(llmfake.Spans(size, messages), otel.Options{}) {
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
