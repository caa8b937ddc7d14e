package audit_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// manyDays logs events over the last five days and today, enough of them for days to be cached.
func manyDays(t *testing.T, door *tenantdb.Door, n int) []audit.Event {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	events := make([]audit.Event, n)
	for i := range events {
		e := audit.Event{ID: uuid.New(), Action: []string{"llm_call", "tool_invocation"}[r.IntN(2)],
			At: time.Now().Add(-time.Duration(r.Int64N(int64(120 * time.Hour)))).UTC()}
		if r.IntN(5) > 0 {
			e.AgentID = []uuid.UUID{agentOne, agentTwo}[r.IntN(2)]
		}
		if r.IntN(5) > 0 {
			e.Latency = time.Duration(r.IntN(1000)) * time.Millisecond
		}
		e.Metadata = meta("gen_ai.usage.input_tokens", r.IntN(100))
		if r.IntN(3) > 0 {
			e.Metadata = meta("gen_ai.request.model", fmt.Sprint("m", r.IntN(3)), "gen_ai.usage.output_tokens",
				r.IntN(100), "error.type", "x")
		}
		events[i] = e
	}
	logAll(t, door, tenantA, events...)
	return events
}

// directStats returns what ComputeStats should return, by a separate query over the events.
func directStats(t *testing.T, super *pgx.Conn, f audit.StatsFilter) (all []audit.Stats) {
	t.Helper()
	column := func(by, expression, none string) string {
		if slices.Contains(f.By, by) {
			return expression
		}
		return none
	}
	rows, err := super.Query(t.Context(),
		`SELECT day, agent, model, action, count(*), count(*) FILTER (WHERE metadata ? 'error.type'),
			percentile_disc('{0.5,0.95,0.99}'::float8[]) WITHIN GROUP (ORDER BY latency_ms),
	    coalesce(sum((metadata->>'gen_ai.usage.input_tokens')::int), 0),
	    coalesce(sum((metadata->>'gen_ai.usage.output_tokens')::int), 0)
	  FROM (SELECT *, `+column("day", "(created_at AT TIME ZONE 'UTC')::date", "NULL::date")+` AS day, `+
			column("agent", "agent_id", "NULL::uuid")+` AS agent, `+
			column("model", "metadata->>'gen_ai.request.model'", "NULL::text")+` AS model, `+
			column("action", "action_type", "NULL::text")+` AS action FROM audit_events) e
	 WHERE tenant_id = $1 AND created_at >= coalesce($2::timestamptz, '-infinity')
	   AND ($3::timestamptz IS NULL OR created_at < $3) AND ($4::text = '' OR action_type = $4)
	   AND ($5::uuid IS NULL OR agent_id = $5)
	 GROUP BY 1, 2, 3, 4 ORDER BY 1 DESC NULLS LAST, 5 DESC, 3 NULLS FIRST, 4 NULLS FIRST, 2 NULLS FIRST`, tenantA,
		orNil(f.Since), orNil(f.Until), f.Action, uuid.NullUUID{UUID: f.AgentID, Valid: f.AgentID != uuid.Nil})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var g audit.Stats
		var ms []*int32
		if err := rows.Scan(&g.Day, &g.AgentID, &g.Model, &g.Action, &g.Events, &g.Errors, &ms, &g.InputTokens,
			&g.OutputTokens); err != nil {
			t.Fatal(err)
		}
		if len(ms) == 3 {
			g.P50, g.P95, g.P99 = ms[0], ms[1], ms[2]
		}
		all = append(all, g)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

func orNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

func TestDaysAreCountedOnce(t *testing.T) {
	db := testkit.Database(t)
	door, super := testkit.DoorOf(t, db), testkit.Connect(t, db.SuperuserURL())
	events := manyDays(t, door, 6000)
	midnight := time.Now().UTC().Truncate(24 * time.Hour)
	asked := []audit.StatsFilter{
		{}, {By: []string{"day"}}, {By: []string{"day", "agent", "model", "action"}}, {By: []string{"model"},
			Action: "llm_call"}, {By: []string{"agent", "day"}, AgentID: agentOne},
		{By: []string{"day"}, Since: midnight.Add(-50 * time.Hour), Until: midnight.Add(-3 * time.Hour)},
		{Since: midnight.Add(-48 * time.Hour), Until: midnight},
		{By: []string{"action"}, Since: midnight.Add(-5 * time.Hour), Until: midnight.Add(-time.Hour)},
		{By: []string{"day"}, Until: midnight.Add(-72 * time.Hour)},
		{By: []string{"model"}, Since: midnight.Add(-24 * time.Hour)},
	}
	agree := func(when string) {
		t.Helper()
		for _, f := range asked {
			got, err := audit.ComputeStats(t.Context(), door, tenantA, f)
			if err != nil {
				t.Fatalf("%s, %+v: %v", when, f, err)
			}
			if diff := cmp.Diff(directStats(t, super, f), got); diff != "" {
				t.Errorf("%s, %+v (-directStats +got):\n%s", when, f, diff)
			}
		}
	}
	counted := func() (n int) {
		t.Helper()
		if err := super.QueryRow(t.Context(), `SELECT count(DISTINCT day) FROM audit_days WHERE tenant_id = $1`,
			tenantA).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := counted(); n != 0 {
		t.Fatalf("%d days are counted before anybody asked", n)
	}
	agree("first")
	if n := counted(); n < 4 || n > 5 {
		t.Errorf("%d days are counted, of the five that have passed", n)
	}
	agree("again")

	// Cached days are read from the cache: a superuser's change of one shows in the result.
	run(t, super, `UPDATE audit_days SET input_tokens = input_tokens + 1000000
		WHERE tenant_id = $1 AND (day, part) = (SELECT day, part FROM audit_days WHERE tenant_id = $1 LIMIT 1)`,
		tenantA)
	was := directStats(t, super, asked[0])[0].InputTokens
	if got, err := audit.ComputeStats(t.Context(), door, tenantA, asked[0]); err != nil ||
		got[0].InputTokens != was+1000000 {
		t.Errorf("%+v, %v: the counted days are not used", got, err)
	}
	run(t, super,
		`UPDATE audit_days SET input_tokens = input_tokens - 1000000 WHERE tenant_id = $1 AND input_tokens >= 1000000`,
		tenantA)

	// A late event is counted on its day.
	logAll(t, door, tenantA, audit.Event{Action: "late", At: midnight.Add(-30 * time.Hour)})
	agree("a late event")

	// An erasure of an event's fields changes the statistics of its day.
	victim := events[slices.IndexFunc(events, func(e audit.Event) bool {
		return e.Latency > 0 && e.At.Before(midnight) && e.At.After(midnight.Add(-96*time.Hour))
	})]
	before := counted()
	compliance := testkit.Connect(t, db.URL("konstruct_compliance"))
	run(t, compliance, `SELECT audit_erase($1, ARRAY[$2::uuid], NULL, '{1,6,7}', 'asked for')`, tenantA, victim.ID)
	if n := counted(); n != before-1 {
		t.Errorf("%d of %d days are still counted after an erasure in one", n, before)
	}
	agree("an erasure")

	// So does a deletion, also if another event was logged meanwhile.
	run(t, super,
		`SET konstruct.allow_ddl = on; ALTER TABLE audit_events DISABLE TRIGGER audit_refuse,
			DISABLE TRIGGER audit_hold_deletion`)
	run(t, super, `DELETE FROM audit_events WHERE tenant_id = $1 AND id = $2`, tenantA, victim.ID)
	logAll(t, door, tenantA, audit.Event{Action: "instead", At: victim.At})
	agree("a deletion")
}

func run(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// A day that is cached during an erasure must not keep what was erased.
func TestADayIsNotCountedBesideAnErasure(t *testing.T) {
	db := testkit.Database(t)
	door, super := testkit.DoorOf(t, db), testkit.Connect(t, db.SuperuserURL())
	events := manyDays(t, door, 3000)
	midnight := time.Now().UTC().Truncate(24 * time.Hour)
	var past []audit.Event
	for _, e := range events {
		if e.At.Before(midnight) {
			past = append(past, e)
		}
	}
	var all sync.WaitGroup
	all.Go(func() {
		compliance := testkit.Connect(t, db.URL("konstruct_compliance"))
		for _, e := range past[:60] {
			if _, err := compliance.Exec(t.Context(),
				`SELECT audit_erase($1, ARRAY[$2::uuid], NULL, '{1,6,7}', 'asked for')`, tenantA, e.ID); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2 {
		all.Go(func() {
			for range 40 {
				if _, err := audit.ComputeStats(t.Context(), door, tenantA, audit.StatsFilter{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	f := audit.StatsFilter{By: []string{"day", "agent", "model"}}
	got, err := audit.ComputeStats(t.Context(), door, tenantA, f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(directStats(t, super, f), got); diff != "" {
		t.Errorf("-directStats +got:\n%s", diff)
	}
}

func TestCountedDaysAreTheirTenants(t *testing.T) {
	db := testkit.Database(t)
	door, app := testkit.DoorOf(t, db), testkit.Connect(t, db.URL("konstruct_app"))
	manyDays(t, door, 4000)
	if _, err := audit.ComputeStats(t.Context(), door, tenantA, audit.StatsFilter{}); err != nil {
		t.Fatal(err)
	}
	yesterday := time.Now().UTC().AddDate(0, 0, -1)
	for name, k := range map[string]struct {
		tenant  string
		mayRead bool
	}{"its own": {tenantA.String(), true}, "another": {tenantB.String(), false}, "none": {"", false},
		"forged": {"99999999-9999-4999-8999-999999999999", false}} {
		for _, sql := range []string{`SELECT count(*) FROM audit_days WHERE tenant_id = '` + tenantA.String() + `'`,
			`SELECT count(*) FROM audit_figures(NULL, NULL)`} {
			var n int
			if err := inTenant(t, app, k.tenant, sql, &n); err != nil || n > 0 != k.mayRead {
				t.Errorf("%s: %s: %d, %v", name, sql, n, err)
			}
		}
	}
	// Caching as another tenant neither reads nor changes this tenant's days.
	var before, after int
	count := `SELECT count(*) FROM audit_days`
	if err := inTenant(t, app, tenantA.String(), count, &before); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{tenantB.String(), "99999999-9999-4999-8999-999999999999"} {
		var n int
		if err := inTenant(t, app, tenant,
			`WITH c AS (SELECT audit_count_days(ARRAY[$1::date])) SELECT count(*) FROM c`, &n, yesterday); err != nil {
			t.Error(err)
		}
		if err := inTenant(t, app, tenant, count, &n); err != nil || n != 0 {
			t.Errorf("tenant %s: %d, %v", tenant, n, err)
		}
	}
	if err := inTenant(t, app, tenantA.String(), count, &after); err != nil || after != before {
		t.Errorf("%d parts, %d before, %v", after, before, err)
	}
	for what, sql := range map[string]string{
		"a day that has not passed": `SELECT audit_count_days(ARRAY[(now() AT TIME ZONE 'UTC')::date])`,
		"no day":                    `SELECT audit_count_days('{infinity}')`,
		"NULL":                      `SELECT audit_count_days('{NULL}')`,
		"too many":                  `SELECT audit_count_days(array_fill('2020-01-01'::date, '{367}'))`,
		"figures of one's own":      `INSERT INTO audit_days SELECT * FROM audit_days LIMIT 1`,
		"changed":                   `UPDATE audit_days SET events = 0`, "deleted": `DELETE FROM audit_days`,
	} {
		if err := inTenant(t, app, tenantA.String(), sql, nil); err == nil {
			t.Errorf("%s is let through", what)
		}
	}
	if err := inTenant(t, app, "", `SELECT audit_count_days('{2020-01-01}')`, nil); err == nil {
		t.Error("no tenant is let through")
	}
	tx, err := app.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `SET LOCAL app.current_tenant = '`+tenantA.String()+
		`'; SELECT audit_count_days('{2020-01-01}')`); err == nil {
		t.Error("an old snapshot is let through")
	}
}

// inTenant runs one statement with a tenant set, or without a tenant.
func inTenant(t *testing.T, conn *pgx.Conn, tenant, sql string, into *int, args ...any) error {
	t.Helper()
	return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL app.current_tenant = '`+tenant+`'`); err != nil {
			return err
		}
		if into == nil {
			_, err := tx.Exec(t.Context(), sql, args...)
			return err
		}
		return tx.QueryRow(t.Context(), sql, args...).Scan(into)
	})
}
