package server_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
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
