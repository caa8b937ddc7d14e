package audit_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

func countStored(t *testing.T, door *tenantdb.Door, tenant uuid.UUID) int {
	t.Helper()
	n, after := 0, ""
	for {
		events, err := audit.List(t.Context(), door, tenant, audit.Filter{Limit: audit.MaxList, After: after})
		if err != nil {
			t.Fatal(err)
		}
		if n += len(events); len(events) < audit.MaxList {
			return n
		}
		after = events[len(events)-1].Cursor
	}
}

// TestManyCallersShareCommitsAndNotTenants has 64 callers of two tenants log at once.
func TestManyCallersShareCommitsAndNotTenants(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	super := testkit.Connect(t, d.SuperuserURL())
	group := audit.NewGroup(door)
	defer group.Close()
	const callers, each = 64, 25
	var all sync.WaitGroup
	for c := range callers {
		tenant := []uuid.UUID{tenantA, tenantB}[c%2]
		all.Go(func() {
			for range each {
				if _, err := group.Log(t.Context(), tenant,
					audit.Event{Action: "x", UserID: tenant.String()}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, tenant := range []uuid.UUID{tenantA, tenantB} {
		if n := countStored(t, door, tenant); n != callers*each/2 {
			t.Errorf("tenant %s has %d events, want %d", tenant, n, callers*each/2)
		}
	}
	var foreign, commits int
	if err := super.QueryRow(t.Context(),
		`SELECT count(*) FILTER (WHERE user_id <> tenant_id::text), (SELECT count(DISTINCT xid::text)
		FROM audit_seals) FROM audit_events`).Scan(&foreign, &commits); err != nil {
		t.Fatal(err)
	}
	if foreign > 0 || commits > callers*each/2 {
		t.Errorf("%d events under another tenant; %d commits for %d events", foreign, commits, callers*each)
	}
}

// TestABadEventFailsAlone logs events among which some are refused by the program and some by the database.
func TestABadEventFailsAlone(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	testkit.Owner(t, d,
		`CREATE FUNCTION refuse_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	    IF NEW.action_type = 'bad' THEN RAISE EXCEPTION 'a bad event'; END IF; RETURN NEW; END $$;
	  CREATE TRIGGER refuse_bad BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_bad()`)
	taken := uuid.New()
	if _, err := audit.Log(t.Context(), door, tenantA, audit.Event{ID: taken, Action: "first"}); err != nil {
		t.Fatal(err)
	}
	group := audit.NewGroup(door)
	defer group.Close()
	const n = 200
	var all sync.WaitGroup
	var mu sync.Mutex
	results := map[string][]error{}
	for i := range n {
		e := audit.Event{Action: "good"}
		switch i % 5 {
		case 1:
			e.Action = "bad"
		case 2:
			e = audit.Event{Action: "taken", ID: taken}
		case 3:
			e = audit.Event{Action: "first", ID: taken} // a retry
		case 4:
			e.Latency = -1
		}
		kind := []string{"good", "bad", "taken", "retry", "invalid"}[i%5]
		all.Go(func() {
			_, err := group.Log(t.Context(), tenantA, e)
			mu.Lock()
			defer mu.Unlock()
			results[kind] = append(results[kind], err)
		})
	}
	all.Wait()
	for kind, errs := range results {
		for _, err := range errs {
			var field *audit.FieldError
			ok := map[string]bool{"good": err == nil, "retry": err == nil,
				"bad":   err != nil && strings.Contains(err.Error(), "a bad event"),
				"taken": errors.Is(err, audit.ErrIDTaken), "invalid": errors.As(err, &field)}[kind]
			if !ok {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	if got := countStored(t, door, tenantA); got != n/5+1 {
		t.Errorf("%d events, want %d", got, n/5+1)
	}
}

func TestAFullQueueWaitsAsLongAsItsCallerSays(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	group := audit.NewGroup(door)
	// A lock that keeps every insert waiting.
	holder := testkit.Connect(t, testkit.With(d.URL("konstruct_owner"), "konstruct.allow_ddl", "on"))
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE audit_events IN EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	const more = audit.MaxWaiting + 2*512 + 64
	results := make(chan error, more)
	for range more {
		waiting.Go(func() {
			_, err := group.Log(t.Context(), tenantA, audit.Event{Action: "x"})
			results <- err
		})
	}
	full := false
	for range 200 { // until there is no room
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := group.Log(ctx, tenantA, audit.Event{Action: "late"})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v, want the context's", err)
		}
		if full = strings.Contains(err.Error(), "no room in time"); full {
			break
		}
	}
	if !full {
		t.Error("the queue takes events without end")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	waiting.Wait()
	for range more {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	group.Close()
	if _, err := group.Log(t.Context(), tenantA, audit.Event{Action: "x"}); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	n := 0
	if err := door.Query(t.Context(), tenantA, `SELECT count(*) FROM audit_events WHERE action_type = 'x'`, nil,
		func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&n); err != nil {
					return err
				}
			}
			return rows.Err()
		}); err != nil || n != more {
		t.Errorf("%d of %d acknowledged events are there, %v", n, more, err)
	}
}

func TestAGroupRefusesWhatTheDoorDoes(t *testing.T) {
	door := testkit.Door(t)
	before := goleak.IgnoreCurrent()
	group := audit.NewGroup(door)
	if _, err := group.Log(t.Context(), uuid.Nil, audit.Event{Action: "x"}); !errors.Is(err, tenantdb.ErrNoTenant) {
		t.Errorf("no tenant: %v", err)
	}
	if err := door.Tx(t.Context(), tenantA, func(ctx context.Context, _ pgx.Tx) error {
		_, err := group.Log(ctx, tenantA, audit.Event{Action: "x"})
		return err
	}); !errors.Is(err, tenantdb.ErrNested) {
		t.Errorf("inside a transaction: %v", err)
	}
	group.Close()
	group.Close()
	if err := goleak.Find(before,
		goleak.IgnoreTopFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck")); err != nil {
		t.Error(err)
	}
}
