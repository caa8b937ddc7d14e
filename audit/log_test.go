package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

var (
	tenantA = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	tenantB = uuid.MustParse("22222222-2222-4222-8222-222222222222")
)

// TestLoggedEventsAreSealedOnce checks the logger's promises on one database, and then verifies the trail.
func TestLoggedEventsAreSealedOnce(t *testing.T) {
	c := testkit.Database(t)
	door := testkit.DoorOf(t, c)
	ctx := t.Context()
	full := audit.Event{AgentID: tenantB, UserID: "ada", Action: audit.ActionLLMCall, Input: "what is 漢字?",
		Output:  "characters",
		Latency: 1500 * time.Microsecond, Metadata: json.RawMessage(`{"gen_ai.request.model": "m", "n": 1e400}`),
		At: time.Now()}

	id, err := audit.Log(ctx, door, tenantA, full)
	if err != nil {
		t.Fatal(err)
	}
	full.ID = id
	for range 2 { // a retry is success and adds nothing
		if again, err := audit.Log(ctx, door, tenantA, full); err != nil || again != id {
			t.Fatalf("retry: %v, %v", again, err)
		}
	}
	other := full
	other.Output = "something else"
	if _, err := audit.Log(ctx, door, tenantA, other); !errors.Is(err, audit.ErrIDTaken) {
		t.Errorf("the same id with other content: %v", err)
	}
	if _, err := audit.Log(ctx, door, tenantB, other); err != nil {
		t.Errorf("another tenant's id reveals itself: %v", err)
	}

	batch := make([]audit.Event, 1500)
	for i := range batch {
		batch[i] = audit.Event{Action: audit.ActionToolCall, Input: strings.Repeat("x", i%50)}
	}
	if ids, err := audit.LogBatch(ctx, door, tenantA, batch); err != nil || len(ids) != len(batch) {
		t.Fatalf("batch: %d ids, %v", len(ids), err)
	}
	batch[1400].Action = ""
	if _, err := audit.LogBatch(ctx, door, tenantA, batch); err == nil {
		t.Error("a batch with a bad event landed")
	}
	batch[1400] = other // conflicts with a stored event: the whole batch is rolled back
	if _, err := audit.LogBatch(ctx, door, tenantA, batch); !errors.Is(err, audit.ErrIDTaken) {
		t.Errorf("a batch with a taken id: %v", err)
	}
	sentinel := errors.New("the business change fails")
	err = door.Tx(ctx, tenantA, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := audit.InTx(ctx, tx, tenantA, audit.Event{Action: audit.ActionEscalation}); err != nil {
			return err
		}
		return sentinel
	})
	if !errors.Is(err, sentinel) {
		t.Errorf("InTx: %v", err)
	}

	db, err := tenantdb.OpenEvidence(ctx, c.URL("konstruct_notary"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for tenant, want := range map[*uuid.UUID]int64{nil: 1502, &tenantA: 1501, &tenantB: 1} {
		r, err := verify.Events(ctx, db, tenant, func(f verify.Finding) { t.Errorf("%+v", f) })
		if err != nil || r.Events != want || !r.OK() {
			t.Errorf("verify: %+v, %v; want %d events", r, err, want)
		}
	}
}

// TestAnotherTenantCountsNoIDs of a tenant's events.
func TestAnotherTenantCountsNoIDs(t *testing.T) {
	door := testkit.Door(t)
	id, err := audit.Log(t.Context(), door, tenantA, audit.Event{Action: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for tenant, want := range map[uuid.UUID]int{tenantA: 1, tenantB: 0, uuid.New(): 0} {
		if n, err := audit.CountIDs(t.Context(), door, tenant, []uuid.UUID{id, uuid.New()}); err != nil || n != want {
			t.Errorf("tenant %s: %d, %v; want %d", tenant, n, err, want)
		}
	}
	if n, err := audit.CountIDs(t.Context(), door, uuid.Nil, []uuid.UUID{id}); !errors.Is(err,
		tenantdb.ErrNoTenant) || n != 0 {
		t.Errorf("no tenant: %d, %v", n, err)
	}
}

// TestBadEventsNameTheField checks that an invalid event's error names the field, and that nothing is logged.
func TestBadEventsNameTheField(t *testing.T) {
	door := testkit.Door(t)
	meta := func(s string) audit.Event { return audit.Event{Action: "x", Metadata: json.RawMessage(s)} }
	for _, c := range []struct {
		name, field string
		e           audit.Event
	}{
		{"no action", "action_type", audit.Event{}},
		{"invalid UTF-8", "input_summary", audit.Event{Action: "x", Input: "\xff"}},
		{"NUL", "output_summary", audit.Event{Action: "x", Output: "a\x00"}},
		{"long user", "user_id", audit.Event{Action: "x", UserID: strings.Repeat("u", audit.MaxName+1)}},
		{"negative latency", "latency_ms", audit.Event{Action: "x", Latency: -1}},
		{"latency overflows", "latency_ms", audit.Event{Action: "x", Latency: (math.MaxInt32 + 1) * time.Millisecond}},
		{"array", "metadata", meta(`[]`)},
		{"not JSON", "metadata", meta(`{`)},
		{"trailing", "metadata", meta(`{} {}`)},
		{"NUL in JSON", "metadata.a", meta(`{"a":"\u0000"}`)},
		{"half a surrogate pair", "metadata.a[1]", meta(`{"a":[1,"\ud800"]}`)},
		{"a name twice", "metadata", meta(`{"a":{"b":1,"\u0062":2}}`)},
		{"a small number", "metadata.a.n", meta(`{"a":{"n":1e-16384}}`)},
		{"a smaller number", "metadata.n", meta(`{"n":1e-99999999}`)},
		{"a large number", "metadata.n", meta(`{"n":1e131072}`)},
		{"year 0", "created_at", audit.Event{Action: "x", At: time.Date(0, 6, 1, 0, 0, 0, 0, time.UTC)}},
		{"nearly the zero time", "created_at", audit.Event{Action: "x", At: time.Time{}.Add(999)}},
		{"deep", "metadata", meta(`{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`)},
		{"large", "metadata", meta(`{"a":"` + strings.Repeat("x", audit.MaxMetadata) + `"}`)},
		{"far year", "created_at", audit.Event{Action: "x", At: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}},
	} {
		var fe *audit.FieldError
		if _, err := audit.Log(t.Context(), door, tenantA, c.e); !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%s: %v, want a complaint about %s", c.name, err, c.field)
		}
	}
	for _, number := range []string{"1e131071", "1e-16383", "-0.5e-300"} { // and PostgreSQL holds what is accepted
		if _, err := audit.Log(t.Context(), door, tenantA, meta(`{"n":`+number+`}`)); err != nil {
			t.Errorf("%s: %v", number, err)
		}
	}
	_, err := audit.LogLLMCall(t.Context(), door, tenantA, audit.LLMCall{Model: "m", FinishReasons: []string{"\xff"},
		Extra: audit.Metadata{"a": 1}})
	if fe := (*audit.FieldError)(nil); !errors.As(err, &fe) ||
		fe.Field != "metadata.gen_ai.response.finish_reasons[0]" {
		t.Errorf("a reason that is not UTF-8: %v", err)
	}
	for _, bad := range []string{`a="\ud800"`, `a={"b":1,"b":2}`, `a=1e-16384`, "a=\x00", "\xff=1"} {
		if err := (audit.Metadata{}).Put(bad); err == nil {
			t.Errorf("%q is a condition", bad)
		}
	}
	long := strings.Repeat("é", audit.MaxSummary)
	id, err := audit.Log(t.Context(), door, tenantA,
		audit.Event{Action: "x", Input: long,
			Metadata: json.RawMessage(`{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`)})
	if err != nil {
		t.Fatal(err)
	}
	var stored string
	if err := door.Query(t.Context(), tenantA, `SELECT input_summary FROM audit_events WHERE id = $1`, []any{id},
		func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&stored); err != nil {
					return err
				}
			}
			return rows.Err()
		}); err != nil {
		t.Fatal(err)
	}
	if len(stored) > audit.MaxSummary || !strings.Contains(stored, "… [cut: 131072 bytes, sha256 ") {
		t.Errorf("a long summary is stored as %d bytes ending in %q", len(stored), stored[max(0, len(stored)-120):])
	}
}
