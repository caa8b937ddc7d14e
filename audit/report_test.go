package audit_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// further logs what a second report says as an event of its own type, and notes what it was shown.
type further struct{ shown []audit.StoredEvent }

func (f *further) decide(stored audit.StoredEvent, e audit.Event) (audit.Event, bool) {
	f.shown = append(f.shown, stored)
	e.ID, e.Action = uuid.NewSHA1(e.ID, []byte(e.Input)), "further"
	return e, true
}

// TestAReportIsLoggedOnceAndAFurtherOneBesideIt holds retries, two reports of one id in one batch and in two, and that
// an erased event is not brought back.
func TestAReportIsLoggedOnceAndAFurtherOneBesideIt(t *testing.T) {
	d := testkit.Database(t)
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	trail, err := audit.OpenTrail(door, audit.TrailConfig{Policy: policy(t,
		`{"default":{"redact":[{"name":"mail","pattern":"[a-z]+@[a-z.]+"}]}}`)})
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	first := audit.Event{ID: uuid.New(), Action: "llm_call", Input: "ask ann@example.com", Metadata: []byte(`{"a": 1}`)}
	second := first
	second.Input = "ask bob@example.com" // so that what is redacted already is logged
	other := audit.Event{ID: uuid.New(), Action: "llm_call", Input: "other"}
	var f further
	for range 3 { // the third finds all that it says
		if err := trail.LogReports(t.Context(), tenantA, []audit.Event{first, second, other}, f.decide); err != nil {
			t.Fatal(err)
		}
	}
	count := func(tenant uuid.UUID) map[string]int {
		t.Helper()
		n := map[string]int{}
		events, err := audit.List(t.Context(), door, tenant, audit.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			n[e.Action]++
		}
		return n
	}
	if n := count(tenantA); n["llm_call"] != 2 || n["further"] != 1 {
		t.Errorf("%v", n)
	}
	for _, s := range f.shown {
		if s.ID != first.ID || *s.Input == first.Input {
			t.Errorf("shown %s with %q, which is not as it was redacted", s.ID, *s.Input)
		}
	}

	// The same ids of another tenant are other events, and the decision is shown none of this tenant's.
	var g further
	if err := trail.LogReports(t.Context(), tenantB, []audit.Event{second, other}, g.decide); err != nil {
		t.Fatal(err)
	}
	if n := count(tenantB); n["llm_call"] != 2 || len(n) != 1 || len(g.shown) != 0 {
		t.Errorf("another tenant: %v, shown %d", n, len(g.shown))
	}
	if err := trail.LogReports(t.Context(), uuid.Nil, []audit.Event{other}, g.decide); !errors.Is(err,
		tenantdb.ErrNoTenant) {
		t.Errorf("no tenant: %v", err)
	}

	run(t, testkit.Connect(t, d.URL("konstruct_compliance")),
		`SELECT audit_erase($1, ARRAY[$2::uuid], NULL, '{1,6,7}', 'asked for')`, tenantA, other.ID)
	if err := trail.LogReports(t.Context(), tenantA, []audit.Event{other}, f.decide); err != nil {
		t.Fatal(err)
	}
	if n := count(tenantA); n["further"] != 1 {
		t.Errorf("an erased event came back: %v", n)
	}
}
