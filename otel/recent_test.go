package otel_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/otel"
)

// TestReportsOfOneCallAreOneAndOthersApart tries what instrumentations report: each line is a report, and which of the
// lines before it repeats, or -1.
func TestReportsOfOneCallAreOneAndOthersApart(t *testing.T) {
	begin := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	model := func(span, parent, response string, in int64, after time.Duration) otel.Call {
		return otel.Call{Trace: "t", Span: span, Parent: parent, Response: response, InputTokens: in, OutputTokens: in,
			Begin: begin.Add(after), End: begin.Add(after + 50*time.Millisecond), Reportable: true, Scope: "a"}
	}
	of := func(c otel.Call, change func(*otel.Call)) otel.Call {
		change(&c)
		return c
	}
	point := func(span string, ms time.Duration) otel.Call { // a log record
		return of(model(span, "", "r", 5, ms*time.Millisecond), func(c *otel.Call) { c.End = c.Begin })
	}
	other := func(c *otel.Call) { c.Scope = "b" }
	for name, reports := range map[string][]struct {
		call    otel.Call
		repeats int
	}{
		"two instrumentations": {{model("1", "", "r", 5, 0), -1}, {of(model("2", "", "r", 5, 0), other), 0}},
		"one id for all responses": {{model("1", "", "r", 5, 0), -1}, {model("2", "", "r", 5, 100*time.Millisecond),
			-1}},
		"a gateway and a client, one id for all responses": {{of(model("", "", "r", 5, 0), other), -1},
			{of(model("", "", "r", 5, 3*time.Second), other), -1}, {model("1", "", "r", 5, 0), 0},
			{model("2", "", "r", 5, 3*time.Second), 1}},
		"two callbacks of one library": {{model("1", "", "r", 5, 0), -1}, {model("2", "", "r", 5, time.Millisecond),
			0}},
		"spans and log records within a moment, one id for all responses": {{model("1", "", "r", 5, 0), -1},
			{model("2", "", "r", 5, 8*time.Millisecond), -1}, {point("1", 8), -1}, {point("2", 11), -1}},
		"log records first, one id for all responses": {{point("1", 1), -1}, {point("2", 3), -1},
			{model("1", "", "r", 5, -49*time.Millisecond), -1}, {model("2", "", "r", 5, -47*time.Millisecond), -1}},
		"the second has tokens, the first none": {{model("1", "", "r", -1, 0), -1}, {of(model("2", "", "r", 5, 0),
			other), -1}},
		"another conversation": {{of(model("1", "", "r", 5, 0), func(c *otel.Call) { c.Conversation = "x" }), -1},
			{of(model("2", "", "r", 5, 0), func(c *otel.Call) { c.Scope, c.Conversation = "b", "y" }), -1}},
		"a span around a call":  {{model("2", "1", "", 5, 0), -1}, {model("1", "", "", 5, 0), 0}},
		"the span around first": {{model("1", "", "", 5, 0), -1}, {model("2", "1", "", 5, 0), 0}},
		"three spans of one": {{model("3", "2", "", 5, 0), -1}, {model("2", "1", "", 5, 0), 0}, {model("1", "", "",
			5, 0), 0}},
		"three, the outer first": {{model("1", "", "", 5, 0), -1}, {model("2", "1", "", 5, 0), 0}, {model("3", "2", "",
			5, 0), 0}},
		"a span around three calls, first": {{model("1", "", "", 5, 0), -1}, {model("2", "1", "r2", 5, 0), 0},
			{model("3", "1", "r3", 5, 0), -1}, {model("4", "1", "r4", 5, 0), -1}},
		"a call sent again": {{model("1", "", "", 5, 0), -1}, {model("2", "1", "", 5, 0), 0}, {model("2", "1", "", 5,
			0), 0}},
		"a sum around calls": {{model("2", "1", "", 5, 0), -1}, {model("3", "1", "", 6, 0), -1}, {model("1", "", "",
			11, 0), -1}},
		"an embedding below a call": {{of(model("2", "1", "", 5, 0), func(c *otel.Call) { c.Embedding = true }), -1},
			{model("1", "", "", -1, 0), -1}},
		"hours apart": {{model("1", "", "r", 5, 0), -1}, {of(model("2", "", "r", 5, time.Hour), other), -1}},
	} {
		t.Run(name, func(t *testing.T) {
			r, by := otel.NewRecent(), otel.Reporter{Tenant: uuid.New()}
			ids := map[string]uuid.UUID{}
			events := make([]uuid.UUID, len(reports))
			for i, report := range reports {
				c := report.call
				if ids[c.Span] == uuid.Nil || c.Span == "" {
					ids[c.Span] = uuid.New()
				}
				c.Event = ids[c.Span]
				events[i] = c.Event
				got := r.Reported(by, &c)
				want := uuid.Nil
				if report.repeats >= 0 {
					want = events[report.repeats]
				}
				if got != want {
					t.Errorf("report %d repeats %v, want %v", i, got, want)
				}
				if got != uuid.Nil {
					c.Event = got
				}
				r.Add(by, c)
				for _, stranger := range []otel.Reporter{{Tenant: uuid.New()}, {Tenant: by.Tenant, Agent: uuid.New()}} {
					if o := report.call; r.Reported(stranger, &o) != uuid.Nil {
						t.Errorf("report %d is recognized for another tenant or agent", i)
					}
				}
			}
		})
	}
}
