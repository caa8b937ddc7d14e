package gateway_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/gateway"
)

const fileBody = `{"model":"gpt-fake-5","input":"When is 4111 1111 1111 1111 sent back?","tools":[{"type":` +
	`"file_search","vector_store_ids":["vs_01980000000070008000000000000000"]}]`

// searching has a gateway find one passage.
func (w *world) searching() {
	w.g.SearchFiles(gateway.FileSearch{
		Check: func(context.Context, gateway.FileQuery) error { return nil },
		Search: func(_ context.Context, q gateway.FileQuery) (r gateway.FileResults, err error) {
			r.Results = []gateway.FileResult{{FileID: "file-1", Filename: "a.md", Text: "In thirty days."}}
			r.Events = []uuid.UUID{uuid.New()}
			return r, nil
		}})
}

// TestBudgetsHoldInEachRound: the first call of the model uses the budget up, so that there is no second one.
func TestBudgetsHoldInEachRound(t *testing.T) {
	w := start(t, settings{policy: `{"tenants":{"` + acme.String() + `":{"models":{"tokens_per_day":2306}}}}`})
	w.searching()
	r := w.post("/openai/v1/responses", fileBody+`}`)
	if r.StatusCode != 429 || !strings.Contains(r.body, `"insufficient_quota"`) || len(w.up.Requests()) != 1 {
		t.Errorf("%d %s, %d calls", r.StatusCode, r.body, len(w.up.Requests()))
	}
	w.call(1).has(t, map[string]any{"konstruct.gateway.round": 1, "konstruct.gateway.tokens": 2306})

	w = start(t, settings{policy: `{"tenants":{"` + acme.String() + `":{"models":{"tokens_per_day":2306}}}}`})
	w.searching()
	r = w.post("/openai/v1/responses", fileBody+`,"stream":true}`)
	if r.StatusCode != 200 || !strings.Contains(r.body, `"type":"response.failed"`) ||
		!strings.Contains(r.body, `"code":"budget_exceeded"`) || strings.Contains(r.body, "response.completed") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

// TestRedactionHoldsInEachRound: a card's number is in no event, and the upstream gets the request as it is.
func TestRedactionHoldsInEachRound(t *testing.T) {
	w := start(t, settings{policy: `{"tenants":{"` + acme.String() + `":{"redact":[{"detect":"card"}]}}}`})
	w.searching()
	if r := w.post("/openai/v1/responses", fileBody+`}`); r.StatusCode != 200 ||
		!strings.Contains(r.body, "4111 1111") || !strings.Contains(r.body, `"file_id":"file-1"`) {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	for _, e := range w.events(acme, audit.ActionLLMCall) {
		if strings.Contains(string(e.Metadata)+text(e.Input)+text(e.Output), "4111") {
			t.Errorf("%s %s", text(e.Input), e.Metadata)
		}
	}
	w.call(2).has(t, map[string]any{"konstruct.gateway.round": 2})
}

// TestFileSearchKeepsIdempotencyKeysApart: the second request to the upstream is another one than the first.
func TestFileSearchKeepsIdempotencyKeysApart(t *testing.T) {
	w := start(t, settings{})
	w.searching()
	if r := w.post("/openai/v1/responses", fileBody+`}`, "Idempotency-Key", "once"); r.StatusCode != 200 {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	all := w.up.Requests()
	if len(all) != 2 || all[0].Header.Get("Idempotency-Key") != "once" || all[1].Header.Get("Idempotency-Key") != "" {
		t.Errorf("%d requests, %v", len(all), all[1].Header)
	}
}
