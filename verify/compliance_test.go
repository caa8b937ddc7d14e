package verify_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
)

// person creates a member of konstruct_compliance in the test's own cluster.
func person(o *trailkit.Trail, name string) *tenantdb.Compliance {
	o.T.Helper()
	testkit.Super(o.T, o.DB, `CREATE ROLE `+name+` LOGIN PASSWORD 'p' IN ROLE konstruct_compliance`)
	_, host, _ := strings.Cut(o.URL("konstruct_app"), "@")
	c, err := tenantdb.OpenCompliance(o.T.Context(), "postgres://"+name+":p@"+host)
	if err != nil {
		o.T.Fatal(err)
	}
	o.T.Cleanup(c.Close)
	return c
}

// TestTwoPeopleAgree has each act that needs two be asked for by one person and approved by another.
func TestTwoPeopleAgree(t *testing.T) {
	o := trailkit.OpenOn(t, testkit.Own(t))
	ann, ben, ctx := person(o, "ann"), person(o, "ben"), t.Context()
	ids := o.Log(trailkit.TenantA, 3)
	if err := compliance.RequireTwo(ctx, ann, trailkit.TenantA, "policy"); err != nil {
		t.Fatal(err)
	}
	hold, err := compliance.Place(ctx, ann, trailkit.TenantA, compliance.Hold{Reason: "case"})
	if err != nil {
		t.Fatal(err)
	}
	ask := map[string]func() (*uuid.UUID, error){
		"a hold's release": func() (*uuid.UUID, error) {
			return compliance.Release(ctx, ann, trailkit.TenantA, hold, "r")
		},
		"an erasure": func() (*uuid.UUID, error) {
			e, err := compliance.Erase(ctx, ann, trailkit.TenantA,
				compliance.Erasure{Events: ids[:1], Fields: []ledger.Field{ledger.InputSummary}, Reason: "r"})
			return e.Request, err
		},
		"a first rule": func() (*uuid.UUID, error) {
			return compliance.SetRule(ctx, ann, trailkit.TenantA, "", 365, "r")
		},
		"a rule that keeps less": func() (*uuid.UUID, error) {
			return compliance.SetRule(ctx, ann, trailkit.TenantA, "", 200, "r")
		},
		"a rule taken back": func() (*uuid.UUID, error) {
			return compliance.SetRule(ctx, ann, trailkit.TenantA, "", 0, "r")
		},
		"one person": func() (*uuid.UUID, error) {
			r, err := compliance.RequireOne(ctx, ann, trailkit.TenantA, "r")
			return &r, err
		},
	}
	state := func() string {
		return trailkit.One[string](o,
			`SELECT (SELECT string_agg(coalesce(input_summary, '-'), ',' ORDER BY id) FROM audit_events
				WHERE tenant_id = $1 AND action_type = 'llm_call') || (SELECT count(*) FROM audit_holds
				WHERE released_at IS NULL)
		  || coalesce((SELECT string_agg(action_type || keep_days, ',') FROM audit_retention), '') || (SELECT count(*)
		  FROM audit_two_people)`, trailkit.TenantA)
	}
	for _, what := range []string{"a hold's release", "an erasure", "a first rule", "a rule that keeps less",
		"a rule taken back", "one person"} {
		before := state()
		request, err := ask[what]()
		if err != nil || request == nil || state() != before {
			t.Fatalf("%s: %v, %v; changed: %v", what, request, err, state() != before)
		}
		if _, err := compliance.Approve(ctx, ann, trailkit.TenantA, *request, "mine"); !errors.Is(err,
			compliance.ErrRefused) ||
			state() != before {
			t.Errorf("%s, approved by who asked: %v", what, err)
		}
		waiting, err := compliance.Pending(ctx, ben, trailkit.TenantA)
		if err != nil || len(waiting) != 1 || waiting[0].ID != *request || waiting[0].RequestedBy != "ann" {
			t.Errorf("%s waits as %+v, %v", what, waiting, err)
		}
		if _, err := compliance.Approve(ctx, ben, trailkit.TenantA, *request, "yes"); err != nil || state() == before {
			t.Errorf("%s, approved: %v; changed: %v", what, err, state() != before)
		}
		if by := trailkit.One[string](o, `SELECT user_id || ' ' || (metadata->>'approved_by') FROM audit_events
			WHERE tenant_id = $1 AND metadata->>'request' = $2 AND metadata ? 'approved_by'`, trailkit.TenantA,
			request.String()); by != "ann ben" {
			t.Errorf("%s is recorded as by %q", what, by)
		}
		if n := trailkit.One[int](o, `SELECT count(*) FROM audit_events WHERE tenant_id = $1
			AND action_type = 'compliance_request'
			AND metadata->>'request' = $2`, trailkit.TenantA, request.String()); n != 1 {
			t.Errorf("%s was asked for %d times on the record", what, n)
		}
	}
	for keep, two := range map[int]bool{300: false, 400: false} { // one is enough again
		if request, err := compliance.SetRule(ctx, ann, trailkit.TenantA, "", keep, "r"); err != nil ||
			(request != nil) != two {
			t.Errorf("keeping for %d days: %v, %v", keep, request, err)
		}
	}
	if err := compliance.RequireTwo(ctx, ann, trailkit.TenantA, "policy"); err != nil {
		t.Fatal(err)
	}
	if request, err := compliance.SetRule(ctx, ann, trailkit.TenantA, "", 36500, "longer needs one"); err != nil ||
		request != nil {
		t.Errorf("keeping for longer: %v, %v", request, err)
	}
	request, err := compliance.Release(ctx, ann, trailkit.TenantA,
		trailkit.One[uuid.UUID](o, `SELECT id FROM audit_holds LIMIT 1`), "r")
	if !errors.Is(err, compliance.ErrNotFound) {
		t.Errorf("a released hold: %v, %v", request, err)
	}
	o.Round()
	o.MustHold()
}

// TestNobodyElsePerformsAnAct calls and writes, as the owner and as a superuser, what is konstruct_compliance's alone.
func TestNobodyElsePerformsAnAct(t *testing.T) {
	o := trailkit.Open(t)
	ids := o.Log(trailkit.TenantA, 3)
	court := o.Compliance()
	if _, err := compliance.Place(t.Context(), court, trailkit.TenantA,
		compliance.Hold{Reason: "case", Action: text("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := compliance.SetRule(t.Context(), court, trailkit.TenantA, "", 365, "r"); err != nil {
		t.Fatal(err)
	}
	o.Round()
	state := func() string {
		return trailkit.One[string](o,
			`SELECT md5(concat((SELECT string_agg(e::text, '' ORDER BY id) FROM audit_events e),
				(SELECT string_agg(s::text, '' ORDER BY event_id) FROM audit_seals s), (SELECT string_agg(h::text, '')
				FROM audit_holds h),
		  (SELECT string_agg(r::text, '') FROM audit_retention r), (SELECT count(*) FROM audit_erasures),
		  (SELECT count(*) FROM audit_gone), (SELECT count(*) FROM audit_two_people), (SELECT count(*)
		  FROM audit_requests), (SELECT count(*) FROM audit_heads), (SELECT count(*) FROM audit_adoptions)))`)
	}
	before, a, id := state(), trailkit.TenantA.String(), ids[0].String()
	for role, url := range map[string]string{"the owner": o.URL("konstruct_owner"), "a superuser": o.SuperuserURL()} {
		for _, sql := range []string{
			`SELECT audit_erase('` + a + `', '{` + id + `}', NULL, '{4}', 'r')`, `SELECT audit_erase_now('` + a +
				`', '{` + id + `}', '{4}', 'r', 'me', 'you', NULL, false)`,
			`SELECT audit_record('` + a + `', 'erasure', 'r', 'me', '{}')`, `SELECT audit_retain('` + a +
				`', '', 200, 'r')`, `SELECT audit_retain_now('` + a + `', '', 1, 'r', 'me', NULL, NULL)`,
			`SELECT audit_retire('` + a + `', 0, 100, 'r', false)`, `SELECT audit_require_two('` + a + `', 'r')`,
			`SELECT audit_hold('` + a + `', 'r', NULL, NULL, NULL, NULL, NULL)`,
			`SELECT audit_release('` + a + `', (SELECT id FROM audit_holds LIMIT 1), 'r')`,
			`SELECT audit_release_now('` + a + `', (SELECT id FROM audit_holds LIMIT 1), 'r', 'me', NULL, NULL)`,
			`SELECT audit_ask('` + a + `', 'erasure', NULL, 'ada', '{4}', NULL, NULL, NULL, 'r')`,
			`SELECT audit_act('` + a + `', 'r')`,
			`SET ROLE konstruct_compliance; SELECT audit_hold('` + a + `', 'r', NULL, NULL, NULL, NULL, NULL)`,
			`INSERT INTO audit_events (tenant_id, action_type) VALUES ('` + a + `', 'erasure')`,
			`INSERT INTO audit_events (tenant_id, action_type) VALUES ('` + a + `', 'compliance_request')`,
			`UPDATE audit_events SET input_summary = NULL`, `DELETE FROM audit_events`,
			`UPDATE audit_seals SET salt = ''`, `DELETE FROM audit_seals`,
			`INSERT INTO audit_erasures VALUES ('` + a + `', '` + id + `', 4, '` + id + `')`, `DELETE FROM audit_holds`,
			`UPDATE audit_holds SET released_at = now()`, `UPDATE audit_retention SET keep_days = 1`,
			`DELETE FROM audit_retention`,
			`INSERT INTO audit_gone VALUES ('` + a + `', 0, '` + id + `', '\x01')`, `DELETE FROM audit_two_people`,
			`INSERT INTO audit_requests (tenant_id, id, events, fields, reason, requested_by) VALUES ('` + a +
				`', gen_random_uuid(), '{}', '{4}', 'r', 'x')`,
			`INSERT INTO audit_adoptions VALUES ('` + a + `')`, `TRUNCATE audit_holds`,
			`SELECT set_config('konstruct.act', 'TRUNCATE audit_events ' || pg_current_xact_id(),
				true); TRUNCATE audit_events`,
			`SELECT set_config('konstruct.act', 'TRUNCATE audit_heads ' || pg_current_xact_id(),
					true); TRUNCATE audit_heads`,
			`SELECT set_config('konstruct.act', 'DELETE audit_events ' || pg_current_xact_id(), true); DELETE
				FROM audit_events`,
		} {
			conn := testkit.Connect(t, url)
			if _, err := conn.Exec(t.Context(), `SET app.current_tenant = '`+a+`'`); err != nil {
				t.Fatal(err)
			}
			var pg *pgconn.PgError
			if _, err := conn.Exec(t.Context(), sql); !errors.As(err, &pg) || pg.Code != "42501" {
				t.Errorf("%s: %s: %v", role, sql, err)
			}
			conn.Close(context.Background())
		}
	}
	if state() != before {
		t.Error("something was changed")
	}
}

// TestAnActNeedsItsSeal has the sealing trigger off: nothing is done.
func TestAnActNeedsItsSeal(t *testing.T) {
	o := trailkit.Open(t)
	ids := o.Log(trailkit.TenantA, 1)
	testkit.Super(t, o.DB, `SET konstruct.allow_ddl = on; ALTER TABLE audit_events DISABLE TRIGGER audit_seal`)
	if _, err := compliance.Erase(t.Context(), o.Compliance(), trailkit.TenantA,
		compliance.Erasure{Events: ids, Fields: []ledger.Field{ledger.InputSummary}, Reason: "r"}); err == nil ||
		!strings.Contains(err.Error(), "is not sealed: nothing is done") {
		t.Errorf("an erasure without a seal: %v", err)
	}
	if n := trailkit.One[int](o, `SELECT count(*) FROM audit_events WHERE input_summary IS NULL`); n != 0 {
		t.Error("it was erased")
	}
}

// TestActsWaitForNoStranger takes the locks that another role can take, and performs an act.
func TestActsWaitForNoStranger(t *testing.T) {
	o := trailkit.Open(t)
	ids := o.Log(trailkit.TenantA, 1)
	app := testkit.Connect(t, o.URL("konstruct_app"))
	if _, err := app.Exec(t.Context(), `SELECT pg_advisory_lock(hashtextextended('konstruct law `+
		trailkit.TenantA.String()+
		`', 0))`); err != nil {
		// once the lock
		t.Fatal(err)
	}
	for _, sql := range []string{`LOCK TABLE audit_logs IN ACCESS SHARE MODE`, `SELECT FROM audit_logs FOR UPDATE`,
		`SELECT FROM audit_logs FOR KEY SHARE`} {
		if _, err := app.Exec(t.Context(), `BEGIN; `+sql); err == nil {
			t.Errorf("the application may %s", sql)
		}
		if _, err := app.Exec(t.Context(), `ROLLBACK`); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := compliance.Erase(t.Context(), o.Compliance(), trailkit.TenantA,
		compliance.Erasure{Events: ids, Fields: []ledger.Field{ledger.InputSummary}, Reason: "r"}); err != nil {
		t.Error(err)
	}
}

// argumentsOf are what a stranger would try, by type.
func argumentsOf(typ, event, hold, request string) []string {
	long := strings.Repeat("x", 5000)
	many := make([]string, 1001)
	for i := range many {
		many[i] = uuid.NewString()
	}
	quoted := func(values ...string) []string {
		all := []string{"NULL"}
		for _, v := range values {
			all = append(all, "'"+v+"'::"+typ)
		}
		return all
	}
	switch typ {
	case "uuid":
		return quoted(trailkit.TenantA.String(), trailkit.TenantA.String(), trailkit.TenantB.String(),
			uuid.Nil.String(), event, hold, request)
	case "text":
		return quoted("", "x", "r", long, "erasure", "llm_call", "ada", "%", `\`)
	case "smallint", "integer":
		return quoted("0", "-1", "1", "183", "184", "365", "32767", "-32768")
	case "bigint":
		return quoted("0", "-1", "1", "9223372036854775807", "-9223372036854775808", "4611686018427387904")
	case "boolean":
		return quoted("true", "false")
	case "timestamp with time zone":
		return quoted("2026-01-01", "infinity", "-infinity", "4713-01-01 BC", "294276-12-31")
	case "uuid[]":
		return quoted("{}", "{NULL}", "{"+event+"}", "{"+event+","+event+"}", "{{"+event+"}}", "{"+event+",NULL}",
			"["+"5:5]={"+event+"}", "{"+strings.Join(many, ",")+"}")
	case "smallint[]":
		return quoted("{}", "{NULL}", "{4}", "{4,4}", "{4,NULL}", "{{4}}", "{3}", "{-1}", "{1,2,4,5,6,7}", "[0:0]={4}",
			"{"+strings.Repeat("4,", 9999)+"4}")
	case "date[]":
		return quoted("{}", "{NULL}", "{infinity}", "{-infinity}", "{2020-01-01}", "{4713-01-01 BC}", "{5874897-12-31}")
	case "interval":
		return quoted("-100 years 36184 days", "-1 days", "infinity", "-infinity", "0")
	}
	return quoted("")
}

// TestLimitedRolesStayInTheirLimits calls every function that a limited role may call with what no caller would mean.
// One person can't erase where two must agree, release a hold, or keep less; nothing is deleted; and nothing fails
// inside or goes on for long.
func TestLimitedRolesStayInTheirLimits(t *testing.T) {
	o := trailkit.Open(t)
	court, ctx := o.Compliance(), t.Context()
	event := o.Log(trailkit.TenantA, 5)[0].String()
	o.Log(trailkit.TenantB, 5)
	o.Round()
	hold, err := compliance.Place(ctx, court, trailkit.TenantA,
		compliance.Hold{Reason: "case", Action: text("nothing")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []uuid.UUID{trailkit.TenantA, trailkit.TenantB} {
		if _, err := compliance.SetRule(ctx, court, tenant, "", 365, "r"); err != nil {
			t.Fatal(err)
		}
	}
	if err := compliance.RequireTwo(ctx, court, trailkit.TenantA, "r"); err != nil {
		t.Fatal(err)
	}
	asked, err := compliance.Release(ctx, court, trailkit.TenantA, hold, "r")
	if err != nil {
		t.Fatal(err)
	}
	super := o.Super()
	state := func() (s string) {
		if err := super.QueryRow(ctx,
			`SELECT concat((SELECT md5(string_agg(e::text, '' ORDER BY id)) FROM audit_events e WHERE tenant_id = $1
				AND action_type = 'llm_call'), (SELECT count(*) FROM audit_events WHERE tenant_id = $2
				AND action_type = 'llm_call'),
		  (SELECT released_at FROM audit_holds WHERE tenant_id = $1 AND id = $3), (SELECT bool_and(keep_days >= 365)
		  FROM audit_retention WHERE tenant_id = $1 AND action_type = ''), (SELECT bool_and(keep_days >= 184)
		  FROM audit_retention), (SELECT count(*) FROM audit_two_people WHERE tenant_id = $1), (SELECT count(*)
		  FROM audit_gone))`, trailkit.TenantA, trailkit.TenantB, hold).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before, calls := state(), 0
	random := rand.New(rand.NewPCG(21, 18)) // the same each time
	for _, role := range []string{"konstruct_compliance", "konstruct_app", "konstruct_notary", "konstruct_worker"} {
		rows, err := super.Query(ctx,
			`SELECT proname::text, coalesce((SELECT array_agg(format_type(t, NULL) ORDER BY n)
				FROM unnest(proargtypes) WITH ORDINALITY u (t, n)), '{}') FROM pg_proc p
		   WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype
		   AND has_function_privilege($1, oid, 'EXECUTE') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid
		   AND d.deptype = 'e') ORDER BY 1`, role)
		if err != nil {
			t.Fatal(err)
		}
		type function struct {
			Name string
			Args []string
		}
		functions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[function])
		if err != nil || len(functions) == 0 {
			t.Fatalf("%s: %d functions, %v", role, len(functions), err)
		}
		conn := testkit.Connect(t, testkit.With(o.URL(role), "statement_timeout", "30s"))
		for _, f := range functions {
			if f.Name == "audit_begin_epoch" {
				continue // the notary's own, which begins what is begun already
			}
			for range 40 {
				args := make([]string, len(f.Args))
				for i, typ := range f.Args {
					all := argumentsOf(typ, event, hold.String(), asked.String())
					args[i] = all[random.IntN(len(all))]
				}
				tenant := []string{trailkit.TenantA.String(), trailkit.TenantB.String(), ""}[random.IntN(3)]
				sql := fmt.Sprintf("SELECT * FROM %s(%s)", f.Name, strings.Join(args, ", "))
				if _, err := conn.Exec(ctx, "SELECT set_config('app.current_tenant', '"+tenant+
					"', false)"); err != nil {
					t.Fatal(err)
				}
				calls++
				var pg *pgconn.PgError
				if _, err := conn.Exec(ctx, sql); err != nil &&
					(!errors.As(err, &pg) || strings.HasPrefix(pg.Code, "XX") || pg.Code == "57014") {
					t.Fatalf("as %s: %.300s: %v", role, sql, err)
				}
				if now := state(); now != before {
					t.Fatalf("as %s: %.300s: it was %s, and is %s", role, sql, before, now)
				}
			}
		}
	}
	t.Logf("%d calls", calls)
	o.Round()
	if r, found := o.Verify(); !r.OK() {
		t.Errorf("%+v\n%s", r, trailkit.Lines(found))
	}
}
