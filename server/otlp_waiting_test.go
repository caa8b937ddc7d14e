package server_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/server"
)

// logDue logs what waits of a tenant and is due, as the worker does.
func (w *world) logDue(tenant uuid.UUID) {
	w.t.Helper()
	worker := audit.LogDue{Trail: w.k.Trail(), Further: otel.Further}
	for {
		worked, err := worker.Work(w.t.Context(), tenant)
		if err != nil {
			w.t.Fatal(err)
		}
		if !worked {
			return
		}
	}
}

// TestASpanAndItsLogRecordAreOneEvent sends the recordings of calls that their library reports by a span and by a log
// record, in both orders.
func TestASpanAndItsLogRecordAreOneEvent(t *testing.T) {
	w := serve(t, func(c *server.Config) { c.ReportWait = time.Hour })
	cases, _ := recordings(t)
	tried := 0
	for name, files := range cases {
		isLogs := func(f string) bool { return strings.Contains(f, ".logs.") }
		both := strings.Contains(name, "/span-and-event")
		if !both && !strings.Contains(name, "/event-only") || !slices.ContainsFunc(files, isLogs) {
			continue
		}
		tried++
		for _, logsFirst := range []bool{true, false} {
			if !both && !logsFirst {
				continue // the span of a call without its content is a whole event; the log record then adds to it
			}
			tenant := uuid.New()
			key := w.key(tenant, access.EventsWrite)
			ordered := slices.Clone(files)
			slices.SortStableFunc(ordered, func(a, b string) int {
				switch {
				case isLogs(a) == isLogs(b):
					return strings.Compare(a, b)
				case isLogs(a) == logsFirst:
					return -1
				}
				return 1
			})
			for range 2 { // the second time nothing is new
				for _, f := range ordered {
					w.sendRecording(key, f)
				}
			}
			all, err := w.k.Tenant(tenant).Events().List(t.Context(), audit.Filter{Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			for _, e := range all {
				switch e.Action {
				case audit.ActionLLMCall:
					calls++
					if e.LatencyMS == nil {
						t.Errorf("%s, logs first %v: a call without its duration, which its span has", name, logsFirst)
					}
					if e.Input == nil && !strings.Contains(name, "embeddings") {
						t.Errorf("%s, logs first %v: a call without its messages", name, logsFirst)
					}
				case otel.ActionDetails:
					t.Errorf("%s, logs first %v: %s %s", name, logsFirst, e.Action, e.Metadata)
				}
			}
			if calls == 0 {
				t.Errorf("%s, logs first %v: no call", name, logsFirst)
			}
			if waiting, err := (audit.LogDue{Trail: w.k.Trail()}).Prepare(t.Context(), tenant); err != nil || waiting {
				t.Errorf("%s, logs first %v: a report still waits: %v", name, logsFirst, err)
			}
		}
	}
	if tried < 5 {
		t.Errorf("only %d recordings have both", tried)
	}
}

// detailsOf returns an export of the log records of calls, as their library writes them beside their spans.
func detailsOf(t *testing.T, spans ptrace.Traces, more func(plog.LogRecord)) []byte {
	t.Helper()
	logs := plog.NewLogs()
	records := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for _, s := range spans.ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
		l := records.AppendEmpty()
		l.SetTraceID(s.TraceID())
		l.SetSpanID(s.SpanID())
		l.SetTimestamp(s.EndTimestamp())
		l.SetEventName("gen_ai.client.inference.operation.details")
		s.Attributes().CopyTo(l.Attributes())
		more(l)
	}
	raw, err := plogotlp.NewExportRequestFromLogs(logs).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// actionsOf counts a tenant's events by action.
func (w *world) actionsOf(tenant uuid.UUID) map[string]int {
	w.t.Helper()
	n := map[string]int{}
	for e, err := range w.k.Tenant(tenant).Events().All(w.t.Context(), audit.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		n[e.Action]++
	}
	return n
}

// TestWhatWaitsIsBounded holds that records which wait for one span, however many and large, are read a few at a time,
// and that a span that stands twice in an export is one event with its log record.
func TestWhatWaitsIsBounded(t *testing.T) {
	w := serve(t, func(c *server.Config) { c.ReportWait = time.Hour })
	tenant := uuid.New()
	key := w.key(tenant, access.EventsWrite)
	send := func(path string, body []byte) {
		t.Helper()
		if status, answer := w.export(key, path, body); status != 200 {
			t.Fatalf("%s: %d %s", path, status, answer)
		}
	}
	twice := llmfake.Spans(1, true)
	twice.ResourceSpans().At(0).CopyTo(twice.ResourceSpans().AppendEmpty())
	send("/v1/logs", detailsOf(t, twice, func(l plog.LogRecord) { l.Attributes().PutStr("more", "of the record") }))
	send("/v1/traces", body(t, twice))
	if n := w.actionsOf(tenant); n[audit.ActionLLMCall] != 1 || n[otel.ActionDetails] != 0 {
		t.Errorf("a span twice in an export, after its log record: %v", n)
	}

	spans := llmfake.Spans(1, true)
	large := strings.Repeat("large ", 10_000)
	const records = 300 // 18 MB
	for i := range records {
		send("/v1/logs", detailsOf(t, spans, func(l plog.LogRecord) {
			l.Attributes().PutInt("number", int64(i))
			l.Attributes().PutStr("more", large)
		}))
	}
	id := otel.SpanEventID(spans.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).TraceID(),
		spans.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).SpanID(), uuid.Nil)
	size, err := w.k.Tenant(tenant).WaitingSize(t.Context(), []uuid.UUID{id})
	if err != nil || size < int64(len(large)) || size > 2*int64(len(large)) {
		t.Errorf("%d bytes are read for one span: %v", size, err)
	}
	send("/v1/traces", body(t, spans))
	if n := w.actionsOf(tenant); n[audit.ActionLLMCall] != 2 || n[otel.ActionDetails] != 0 {
		t.Errorf("after the span: %v", n)
	}
	db := testkit.Connect(t, w.d.SuperuserURL())
	if _, err := db.Exec(t.Context(), `UPDATE audit_reports SET due = now()`); err != nil {
		t.Fatal(err)
	}
	w.logDue(tenant)
	if n := w.actionsOf(tenant); n[audit.ActionLLMCall] != 2 || n[otel.ActionDetails] != records-1 {
		t.Errorf("when all are due: %v", n)
	}
}
