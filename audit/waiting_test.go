package audit_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

func alwaysMore(_ audit.StoredEvent, e audit.Event) (audit.Event, bool) { return e, false }

func waitingTrail(t *testing.T, door *tenantdb.Door, p *audit.Policy) *audit.Trail {
	t.Helper()
	trail, err := audit.OpenTrail(door, audit.TrailConfig{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := trail.Close(); err != nil {
			t.Error(err)
		}
	})
	return trail
}

func TestReportsWaitUntilTheyAreDue(t *testing.T) {
	door := testkit.Door(t)
	trail := waitingTrail(t, door, nil)
	worker := audit.LogDue{Trail: trail, Further: alwaysMore}
	e := audit.Event{ID: uuid.New(), AgentID: uuid.New(), UserID: "u", Action: audit.ActionLLMCall, Input: "Grüße",
		Output: "out", Latency: 1234 * time.Millisecond,
		Metadata: json.RawMessage(`{"n": 1.50, "konstruct.altered": ["x"]}`),
		At:       time.Date(2026, 11, 30, 1, 2, 3, 456789000, time.UTC)}.OfService()
	keep := func(wait time.Duration, events ...audit.Event) []audit.Event {
		t.Helper()
		now, err := trail.KeepWaiting(t.Context(), tenantA, events, wait)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	turn := func() bool {
		t.Helper()
		worked, err := worker.Work(t.Context(), tenantA)
		if err != nil {
			t.Fatal(err)
		}
		return worked
	}
	for range 2 { // sent twice, it waits once
		if now := keep(time.Hour, e); len(now) > 0 {
			t.Fatalf("%d do not wait", len(now))
		}
	}
	waiting, err := trail.Waiting(t.Context(), tenantA, []uuid.UUID{e.ID, uuid.New()})
	if err != nil || len(waiting) != 1 {
		t.Fatalf("%d wait: %v", len(waiting), err)
	}
	if turn() {
		t.Error("a report was logged before it was due")
	}
	for _, stranger := range []uuid.UUID{tenantB, uuid.New()} {
		if others, err := trail.Waiting(t.Context(), stranger, []uuid.UUID{e.ID}); err != nil || len(others) > 0 {
			t.Errorf("another tenant sees %d: %v", len(others), err)
		}
		if size, err := trail.WaitingSize(t.Context(), stranger, []uuid.UUID{e.ID}); err != nil || size != 0 {
			t.Errorf("another tenant sees %d bytes: %v", size, err)
		}
		other := []audit.Event{{Action: "x"}}
		if err := trail.LogWaiting(t.Context(), stranger, other, alwaysMore, waiting); err != nil {
			t.Error(err)
		}
		if worked, err := worker.Work(t.Context(), stranger); err != nil || worked {
			t.Errorf("another tenant's turn logs: %v", err)
		}
	}
	if _, err := trail.Waiting(t.Context(), uuid.Nil, []uuid.UUID{e.ID}); err == nil {
		t.Error("no tenant reads what waits")
	}
	if _, err := trail.KeepWaiting(t.Context(), uuid.Nil, []audit.Event{e}, 0); err == nil {
		t.Error("a report of no tenant waits")
	}
	if err := trail.LogWaiting(t.Context(), tenantA, []audit.Event{{Action: "x"}}, alwaysMore, waiting); err != nil {
		t.Fatal(err)
	}
	if waits, err := worker.Prepare(t.Context(), tenantA); err != nil || waits {
		t.Errorf("what was reported waits: %v", err)
	}

	keep(-time.Second, e)
	if !turn() || turn() {
		t.Error("what is due is not logged, or twice")
	}
	got, err := audit.Get(t.Context(), door, tenantA, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if *got.Input != e.Input || *got.Output != e.Output || *got.UserID != e.UserID || *got.AgentID != e.AgentID ||
		*got.LatencyMS != 1234 || !got.CreatedAt.Equal(e.At) || string(got.Metadata) !=
		`{"n": 1.50, "konstruct.altered": ["x"]}` {
		t.Errorf("logged as %+v", got)
	}
	if now := keep(time.Hour, e); len(now) != 1 || now[0].ID != e.ID {
		t.Errorf("a report of an event that is there waits: %v", now)
	}
}

// TestWhatWaitsIsRedacted holds that no text that the policy redacts is stored while a report waits.
func TestWhatWaitsIsRedacted(t *testing.T) {
	d := testkit.Database(t)
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	policy, err := audit.ParsePolicy([]byte(detectAll), redactKey)
	if err != nil {
		t.Fatal(err)
	}
	trail := waitingTrail(t, door, policy)
	e := audit.Event{ID: uuid.New(), Action: audit.ActionLLMCall, Input: "write to jane.doe@example.com",
		Metadata: json.RawMessage(`{"to": "jane.doe@example.com"}`)}.OfService()
	if _, err := trail.KeepWaiting(t.Context(), tenantA, []audit.Event{e}, -time.Second); err != nil {
		t.Fatal(err)
	}
	var stored string
	super := testkit.Connect(t, d.SuperuserURL())
	if err := super.QueryRow(t.Context(), `SELECT event::text FROM audit_reports`).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stored, "jane.doe") {
		t.Errorf("stored: %s", stored)
	}
	worker := audit.LogDue{Trail: trail, Further: alwaysMore}
	if worked, err := worker.Work(t.Context(), tenantA); err != nil || !worked {
		t.Fatalf("it is not logged: %v", err)
	}
	got, err := audit.Get(t.Context(), door, tenantA, e.ID)
	if err != nil || strings.Contains(*got.Input+string(got.Metadata), "jane.doe") ||
		!strings.Contains(string(got.Metadata), "redactions") {
		t.Errorf("logged as %+v: %v", got, err)
	}
}

// TestAReportThatCantBeLoggedStopsNoOther has a row among others that no writer of ours makes.
func TestAReportThatCantBeLoggedStopsNoOther(t *testing.T) {
	d := testkit.Database(t)
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	trail := waitingTrail(t, door, nil)
	super := testkit.Connect(t, d.SuperuserURL())
	if _, err := super.Exec(t.Context(), `SELECT set_config('app.current_tenant', $1, false)`,
		tenantA.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := super.Exec(t.Context(), `INSERT INTO audit_reports (tenant_id, event_id, digest, event, due)
		VALUES ($1, gen_random_uuid(), sha256(''), '{"metadata": {}}', now() - interval '1 hour')`,
		tenantA); err != nil {
		t.Fatal(err)
	}
	var good []audit.Event
	for range 3 {
		good = append(good, audit.Event{ID: uuid.New(), Action: "x"})
	}
	if _, err := trail.KeepWaiting(t.Context(), tenantA, good, -time.Second); err != nil {
		t.Fatal(err)
	}
	worker := audit.LogDue{Trail: trail, Further: alwaysMore}
	if worked, err := worker.Work(t.Context(), tenantA); !worked || err == nil ||
		!strings.Contains(err.Error(), "action_type") {
		t.Errorf("the turn worked %v: %v", worked, err)
	}
	all, err := audit.List(t.Context(), door, tenantA, audit.Filter{})
	if err != nil || len(all) != len(good) {
		t.Errorf("%d are logged: %v", len(all), err)
	}
	if worked, err := worker.Work(t.Context(), tenantA); worked || err != nil {
		t.Errorf("it is not put off: %v, %v", worked, err)
	}
	if waits, err := worker.Prepare(t.Context(), tenantA); err != nil || !waits {
		t.Errorf("it no longer waits: %v", err)
	}
}
