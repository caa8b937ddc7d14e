package server_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
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

// waitingUnder serves under a policy, with log records that wait.
func waitingUnder(t *testing.T, d *testkit.DB, policy string, wait time.Duration) (w *world, trail *audit.Trail) {
	t.Helper()
	w = serveOn(t, d, withPolicy(t, d, policy), func(c *server.Config) {
		c.ReportWait, trail = wait, c.Konstruct.Trail()
	})
	return w, trail
}

// logDue logs what waits of a tenant and is due, as the worker does.
func (w *world) logDue(trail *audit.Trail, tenant uuid.UUID) {
	w.t.Helper()
	worker := audit.LogDue{Trail: trail, Further: otel.Further}
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
	size, err := w.k.Trail().WaitingSize(t.Context(), tenant, []uuid.UUID{id})
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
	w.logDue(w.k.Trail(), tenant)
	if n := w.actionsOf(tenant); n[audit.ActionLLMCall] != 2 || n[otel.ActionDetails] != records-1 {
		t.Errorf("when all are due: %v", n)
	}
}

// TestNothingIsLostOfWhatWaits sends a call's log record, then its span, by kinds of contents that make the event of
// both larger, or another, than either: all that the record said is on the trail, and no record waits.
func TestNothingIsLostOfWhatWaits(t *testing.T) {
	d := testkit.Database(t)
	for name, c := range map[string]struct {
		policy  string
		record  func(pcommon.Map)
		span    func(pcommon.Map)
		details int // events beside the call
		// redactions are those that the event of both notes
		redactions int
		want       string
	}{
		"the record has an address that is redacted": {
			policy: `{"default": {"redact": [{"detect": "email"}]}}`,
			record: func(m pcommon.Map) { m.PutStr("note", "ask bob@example.com and the rest") },
			want:   "and the rest", redactions: 1},
		"both have it": {
			policy: `{"default": {"redact": [{"detect": "email"}]}}`,
			record: func(m pcommon.Map) { m.PutStr("note", "ask bob@example.com and the rest") },
			span: func(m pcommon.Map) {
				m.PutStr("more", "of ann@example.com")
				m.PutStr("other", "and of eve@example.com")
			}, want: "and the rest", redactions: 2},
		"HTML": {record: func(m pcommon.Map) {
			for i := range 3 {
				m.PutStr(fmt.Sprint("page ", i), strings.Repeat("<p>&nbsp;</p>", 4600))
			}
			m.PutStr("end", "the last word")
		}, want: "the last word"},
		"numbers that grow": {record: func(m pcommon.Map) {
			for i := range 10 {
				list := m.PutEmptySlice(fmt.Sprint("numbers ", i))
				for range 2000 {
					list.AppendEmpty().SetDouble(1.2345678901234567e-40)
				}
			}
			m.PutStr("end", "the last word")
		}, want: "the last word"},
		"a contradiction": {record: func(m pcommon.Map) { m.PutStr("color", "the record says red") },
			span: func(m pcommon.Map) { m.PutStr("color", "blue") }, details: 1, want: "the record says red"},
	} {
		t.Run(name, func(t *testing.T) {
			w, trail := waitingUnder(t, d, cmp.Or(c.policy, "{}"), time.Hour)
			for _, spanComes := range []bool{true, false} {
				tenant := uuid.New()
				key := w.key(tenant, access.EventsWrite)
				spans := llmfake.Spans(1, false)
				status, answer := w.export(key, "/v1/logs", detailsOf(t, spans, func(l plog.LogRecord) {
					c.record(l.Attributes())
				}))
				if status != 200 || len(answer) > 0 {
					t.Fatalf("the record: %d %s", status, answer)
				}
				details := 0
				if spanComes {
					details = c.details
					if c.span != nil {
						c.span(spans.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes())
					}
					if status, answer := w.export(key, "/v1/traces", body(t, spans)); status != 200 || len(answer) > 0 {
						t.Fatalf("the span: %d %s", status, answer)
					}
				} else {
					db := testkit.Connect(t, d.SuperuserURL())
					if _, err := db.Exec(t.Context(), `UPDATE audit_reports SET due = now()`); err != nil {
						t.Fatal(err)
					}
					w.logDue(trail, tenant)
				}
				if n := w.actionsOf(tenant); n[audit.ActionLLMCall] != 1 || n[otel.ActionDetails] != details {
					t.Errorf("span comes %v: %v", spanComes, n)
				}
				found := false
				for _, e := range w.listed(tenant) {
					if c.policy != "" && spanComes && strings.Count(string(e.Metadata), `"rule"`) != c.redactions {
						t.Errorf("%d redactions are noted: %s", c.redactions, e.Metadata)
					}
					found = found || strings.Contains(string(e.Metadata), c.want)
					if strings.Contains(string(e.Metadata), "@example.com") {
						t.Errorf("span comes %v: not redacted: %.300s", spanComes, e.Metadata)
					}
				}
				if !found {
					t.Errorf("span comes %v: %q is not on the trail", spanComes, c.want)
				}
				waits, err := audit.LogDue{Trail: w.k.Trail()}.Prepare(t.Context(), tenant)
				if err != nil || waits {
					t.Errorf("span comes %v: a record still waits: %v", spanComes, err)
				}
			}
		})
	}
}

// TestWhatWaitsOutlivesATrailThatCantBeWritten holds that a policy that goes on when the trail can't be written gives
// up no record that waits.
func TestWhatWaitsOutlivesATrailThatCantBeWritten(t *testing.T) {
	d := testkit.Database(t)
	w, trail := waitingUnder(t, d, `{"default": {"when_unwritable": "go_on", "wait": "300ms"}}`, time.Nanosecond)
	tenant := uuid.New()
	key := w.key(tenant, access.EventsWrite)
	spans := llmfake.Spans(1, true)
	if status, answer := w.export(key, "/v1/logs", detailsOf(t, spans, func(plog.LogRecord) {})); status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	db := testkit.Connect(t, d.SuperuserURL())
	lock, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback(t.Context()) }()
	if _, err := lock.Exec(t.Context(), `LOCK TABLE audit_events IN EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	worker := audit.LogDue{Trail: trail, Further: otel.Further}
	if worked, err := worker.Work(t.Context(), tenant); err == nil || worked {
		t.Errorf("the worker logs where nothing can be written: %v", err)
	}
	if status, _ := w.export(key, "/v1/traces", body(t, spans)); status != 503 {
		t.Errorf("a span whose record waits is answered with %d", status)
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.logDue(trail, tenant)
	if n := w.actionsOf(tenant); n[audit.ActionLLMCall] != 1 {
		t.Errorf("afterwards: %v", n)
	}
}

// TestLogRecordsOfTwoCallsInOneSpan has two responses below one span, which reports the second.
func TestLogRecordsOfTwoCallsInOneSpan(t *testing.T) {
	w := serve(t, func(c *server.Config) { c.ReportWait = time.Hour })
	tenant := uuid.New()
	key := w.key(tenant, access.EventsWrite)
	spans := llmfake.Spans(1, true)
	for _, id := range []string{"first", "second"} {
		raw := detailsOf(t, spans, func(l plog.LogRecord) { l.Attributes().PutStr("gen_ai.response.id", id) })
		if status, answer := w.export(key, "/v1/logs", raw); status != 200 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	spans.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes().PutStr("gen_ai.response.id", "second")
	if status, answer := w.export(key, "/v1/traces", body(t, spans)); status != 200 || len(answer) > 0 {
		t.Fatalf("%d %s", status, answer)
	}
	db := testkit.Connect(t, w.d.SuperuserURL())
	if _, err := db.Exec(t.Context(), `UPDATE audit_reports SET due = now()`); err != nil {
		t.Fatal(err)
	}
	w.logDue(w.k.Trail(), tenant)
	seen := map[string]int{}
	for _, e := range w.listed(tenant) {
		var m struct {
			Response string `json:"gen_ai.response.id"`
		}
		if err := json.Unmarshal(e.Metadata, &m); err != nil {
			t.Fatal(err)
		}
		seen[e.Action+" "+m.Response]++
	}
	if len(seen) != 2 || seen["llm_call first"] != 1 || seen["llm_call second"] != 1 {
		t.Errorf("%v", seen)
	}
}
