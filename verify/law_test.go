package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// inFiles counts the files below a folder that hold a text.
func inFiles(t *testing.T, dir, text string) (where []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files come and go
		}
		raw, err := os.ReadFile(path)
		if err == nil && bytes.Contains(raw, []byte(text)) {
			where = append(where, strings.TrimPrefix(path, dir))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}

// TestErasedEventsStillProve erases one field of one event, and one person whole.
func TestErasedEventsStillProve(t *testing.T) {
	d := testkit.Own(t)
	o := trailkit.OpenOn(t, d)
	court := o.Compliance()
	events := make([]audit.Event, 2500)
	for i := range events {
		events[i] = audit.Event{Action: "llm_call", UserID: "ada", Input: "harmless", Metadata: []byte(`{"model":"m"}`)}
		if i%2 == 1 {
			events[i].UserID, events[i].Output = "grace-the-forgotten",
				fmt.Sprintf("grace-lives-in-%d-nowhere-street", i)
		}
	}
	events[0].Input = "the-only-slip"
	ids, err := audit.LogBatch(t.Context(), o.Door, trailkit.TenantA, events)
	if err != nil {
		t.Fatal(err)
	}
	o.Round()
	old := o.Bundle(trailkit.TenantA, evidence.Filter{})
	o.Super().Exec(t.Context(), `ANALYZE`) // statistics hold values too

	one, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{Events: ids[:1], Fields: []ledger.Field{ledger.InputSummary},
			Reason: "ticket 17: typed by mistake"})
	if err != nil || one.Events != 1 || one.Request != nil {
		t.Fatalf("%+v, %v", one, err)
	}
	all, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{User: "grace-the-forgotten",
			Fields: []ledger.Field{ledger.UserID, ledger.OutputSummary, ledger.Metadata},
			Reason: "request 18, GDPR article 17"})
	if err != nil || all.Events != 1250 {
		t.Fatalf("%+v, %v", all, err)
	}
	// A row of which fields went at two times, and one that the notary has not seen yet.
	if _, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{Events: ids[1:2], Fields: []ledger.Field{ledger.InputSummary, ledger.OutputSummary},
			Reason: "ticket 19"}); err != nil {
		t.Fatal(err)
	}
	late, err := audit.Log(t.Context(), o.Door, trailkit.TenantA,
		audit.Event{Action: "llm_call", UserID: "late", Input: "late-and-secret"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{Events: []uuid.UUID{late}, Fields: []ledger.Field{ledger.InputSummary},
			Reason: "ticket 20"}); err != nil {
		t.Fatal(err)
	}
	var unready *bytes.Buffer = &bytes.Buffer{}
	if _, err := verify.WriteBundle(t.Context(), o.Logs, trailkit.TenantA, evidence.Filter{}, nil, unready,
		nil); err == nil ||
		!strings.Contains(err.Error(), "in no signed checkpoint yet") {
		t.Errorf("evidence before the acts are signed: %v", err)
	}
	o.Round()
	o.MustHold()
	if r := o.Check(old); !r.OK() {
		t.Errorf("a bundle made before: %s", trailkit.Problems(r))
	}

	shown := map[uuid.UUID]ledger.FieldSet{}
	b := o.Bundle(trailkit.TenantA, evidence.Filter{})
	r := o.Check(b, func(t *evidence.Trust) {
		t.Event = func(r *ledger.Record) error { shown[r.ID] = r.Erased; return nil }
	})
	words := strings.Join(r.Holds, "\n")
	if !r.OK() || r.Matching != 2506 || len(r.Acts) != 5 || shown[ids[0]].String() != "input_summary" ||
		shown[ids[1]].String() != "user_id, input_summary, output_summary, metadata" {
		t.Fatalf("%d acts, %d match, %q, %q\n%s\n%s", len(r.Acts), r.Matching, shown[ids[0]], shown[ids[1]], words,
			trailkit.Problems(r))
	}
	for _, want := range []string{"of 1 event: input_summary erased on 20",
		"by konstruct_compliance, for: ticket 17: typed by mistake",
		"of 1000 events: user_id, output_summary, metadata erased on", "for: request 18, GDPR article 17"} {
		if !strings.Contains(words, want) {
			t.Errorf("it does not say %q:\n%s", want, words)
		}
	}
	for _, gone := range []string{"the-only-slip", "nowhere-street", "grace"} {
		if bytes.Contains(b, []byte(gone)) {
			t.Errorf("the new bundle holds %q", gone)
		}
	}
	page := string(fileOf(t, b, "summary.html"))
	if !strings.Contains(page, "(erased)") || !strings.Contains(page, "request 18") {
		t.Error("the page for people does not say what was erased")
	}
	// Nobody can tell whether an event with an erased user was ada's.
	of := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{User: text("ada")}))
	if !of.OK() || of.Matching != 1250 || of.Undecided != 1250 ||
		!strings.Contains(strings.Join(of.Holds, "\n"), "of 1250 nobody can tell") {
		t.Errorf("%+v\n%s", of, trailkit.Problems(of))
	}
	raw, err := verify.Prove(t.Context(), o.Logs, trailkit.TenantA, ids[1], nil)
	if err != nil || bytes.Contains(raw, []byte("street")) {
		t.Errorf("a proof of an erased event: %v", err)
	}

	t.Run("nothing is left on disk", func(t *testing.T) {
		if len(inFiles(t, d.Dir, "nowhere-street")) == 0 {
			t.Fatal("the text can't be found before it is scrubbed either: the test proves nothing")
		}
		s, err := migrations.Open(o.SuperuserURL())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		// Old segments of the server's log are used again as they are, unless it is told to remove them.
		for _, sql := range []string{`ALTER SYSTEM SET wal_recycle = off`, `SELECT pg_reload_conf()`} {
			if _, err := o.Super().Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		if left, err := s.Scrub(t.Context(), "", nil); err != nil || len(left) > 0 {
			t.Fatal(left, err)
		}
		for _, text := range []string{"nowhere-street", "the-only-slip", "grace-the-forgotten", "late-and-secret"} {
			if where := inFiles(t, d.Dir, text); len(where) > 0 {
				t.Errorf("%q is still in %v", text, where)
			}
		}
		o.MustHold()
	})
}

func TestErasureIsRefusedAndChangesNothing(t *testing.T) {
	o := trailkit.Open(t)
	court := o.Compliance()
	ids := o.Log(trailkit.TenantA, 3)
	foreign := o.Log(trailkit.TenantB, 1)
	hold, err := compliance.Place(t.Context(), court, trailkit.TenantA,
		compliance.Hold{Reason: "case 9", User: text("nobody")})
	if err != nil {
		t.Fatal(err)
	}
	fields := []ledger.Field{ledger.InputSummary}
	if _, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{Events: ids[:1], Fields: fields, Reason: "first"}); err != nil {
		t.Fatal(err)
	}
	act := trailkit.One[uuid.UUID](o, `SELECT id FROM audit_events WHERE tenant_id = $1
		AND action_type = 'erasure'`, trailkit.TenantA)
	state := func() string {
		return trailkit.One[string](o, `SELECT md5(string_agg(e::text, ','
			ORDER BY id)) || (SELECT md5(string_agg(s::text, ','
			ORDER BY event_id)) FROM audit_seals s) || (SELECT count(*) FROM audit_erasures) FROM audit_events e`)
	}
	before := state()
	for name, c := range map[string]struct {
		tenant uuid.UUID
		e      compliance.Erasure
		want   error
		says   string
	}{
		"erased already": {trailkit.TenantA, compliance.Erasure{Events: ids[:1], Fields: fields, Reason: "again"},
			compliance.ErrErased, ids[0].String() + ": input_summary was erased at 20"},
		"another tenant's": {trailkit.TenantA, compliance.Erasure{Events: foreign, Fields: fields, Reason: "x"},
			compliance.ErrNotFound, "has no event " + foreign[0].String()},
		"one of them another tenant's": {trailkit.TenantA,
			compliance.Erasure{Events: []uuid.UUID{ids[1], foreign[0]}, Fields: fields, Reason: "x"},
			compliance.ErrNotFound, "has no event " + foreign[0].String()},
		"a tenant that is not there": {uuid.New(), compliance.Erasure{Events: ids[:1], Fields: fields, Reason: "x"},
			compliance.ErrNotFound, "has no events"},
		"a user that is not there": {trailkit.TenantA, compliance.Erasure{User: "bob", Fields: fields, Reason: "x"},
			compliance.ErrNotFound, "user_id: tenant"},
		"another tenant's user": {uuid.MustParse("cccccccc-0000-4000-8000-000000000001"),
			compliance.Erasure{User: "ada", Fields: fields, Reason: "x"}, compliance.ErrNotFound, "has no events"},
		"nobody": {trailkit.TenantA, compliance.Erasure{Fields: fields, Reason: "x"},
			compliance.ErrInvalid, "event: name events or a user_id"},
		"both": {trailkit.TenantA,
			compliance.Erasure{Events: ids[1:2], User: "ada", Fields: fields, Reason: "x"}, compliance.ErrInvalid,
			"and not both"},
		"no field": {trailkit.TenantA, compliance.Erasure{Events: ids[1:2], Reason: "x"},
			compliance.ErrInvalid, "field: must name some of"},
		"the action type": {trailkit.TenantA,
			compliance.Erasure{Events: ids[1:2], Fields: []ledger.Field{ledger.ActionType}, Reason: "x"},
			compliance.ErrInvalid, "action_type can't be erased"},
		"no reason": {trailkit.TenantA, compliance.Erasure{Events: ids[1:2], Fields: fields, Reason: "  "},
			compliance.ErrInvalid, "reason: must be there"},
		"a reason that is too long": {trailkit.TenantA,
			compliance.Erasure{Events: ids[1:2], Fields: fields, Reason: strings.Repeat("x", 2001)},
			compliance.ErrInvalid, "at most 2000"},
		"too many": {trailkit.TenantA, compliance.Erasure{Events: many(1001), Fields: fields, Reason: "x"},
			compliance.ErrInvalid, "1001 events at once, the limit is 1000"},
		"the record of another erasure": {trailkit.TenantA,
			compliance.Erasure{Events: []uuid.UUID{act}, Fields: fields, Reason: "x"}, compliance.ErrRefused,
			"records a compliance act"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compliance.Erase(t.Context(), court, c.tenant, c.e)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
	for _, role := range []string{"konstruct_app", "konstruct_notary"} {
		as, err := tenantdb.OpenCompliance(t.Context(), o.URL(role))
		if err != nil {
			t.Fatal(err)
		}
		defer as.Close()
		if _, err := compliance.Erase(t.Context(), as, trailkit.TenantA,
			compliance.Erasure{Events: ids[1:2], Fields: fields, Reason: "x"}); !errors.Is(err, compliance.ErrRefused) {
			t.Errorf("as %s: %v", role, err)
		}
		if _, err := compliance.Release(t.Context(), as, trailkit.TenantA, hold, "x"); !errors.Is(err,
			compliance.ErrRefused) {
			t.Errorf("release as %s: %v", role, err)
		}
	}
	// The functions inside are nobody's to call, and the announcement that lets a change through helps nobody but the
	// owner.
	for _, role := range []string{"konstruct_app", "konstruct_notary", "konstruct_compliance"} {
		conn := testkit.Connect(t, o.URL(role))
		for _, sql := range []string{
			`SELECT audit_erase_now('` + trailkit.TenantA.String() + `', ARRAY['` + ids[1].String() +
				`'::uuid], '{4}', 'r', 'me', NULL, NULL, false)`,
			`SELECT audit_record('` + trailkit.TenantA.String() + `', 'erasure', 'r', 'me', '{}')`,
			`SELECT set_config('app.current_tenant', '` + trailkit.TenantA.String() +
				`', true); INSERT INTO audit_events (tenant_id, action_type) VALUES ('` + trailkit.TenantA.String() +
				`', 'erasure')`,
			`SELECT set_config('app.current_tenant', '` + trailkit.TenantA.String() +
				`', true), set_config('konstruct.act', 'UPDATE audit_events ' || pg_current_xact_id(), true); UPDATE ` +
				`audit_events SET input_summary = NULL`,
		} {
			if _, err := conn.Exec(t.Context(), sql); err == nil ||
				!strings.Contains(err.Error(), "permission denied") &&
					!strings.Contains(err.Error(), "records a compliance act") {
				t.Errorf("as %s: %s: %v", role, sql, err)
			}
		}
	}
	var field *audit.FieldError
	if _, err := audit.Log(t.Context(), o.Door, trailkit.TenantA,
		audit.Event{Action: "erasure"}); !errors.As(err, &field) ||
		field.Field != "action_type" {
		t.Errorf("an act that the service writes: %v", err)
	}
	if state() != before {
		t.Error("a refused erasure changed something")
	}
	if _, err := compliance.Place(t.Context(), court, trailkit.TenantA,
		compliance.Hold{Reason: "case 10", User: text("ada")}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []compliance.Erasure{{Events: ids[1:2], Fields: fields, Reason: "x"},
		{User: "ada", Fields: fields, Reason: "x"}} {
		if _, err := compliance.Erase(t.Context(), court, trailkit.TenantA, e); !errors.Is(err, compliance.ErrHeld) ||
			!strings.Contains(err.Error(), "(case 10)") {
			t.Errorf("under hold: %v", err)
		}
	}
	holds, err := compliance.Holds(t.Context(), court, trailkit.TenantA)
	if err != nil || len(holds) != 2 || *holds[0].User != "ada" {
		t.Fatalf("%+v, %v", holds, err)
	}
	if others, err := compliance.Holds(t.Context(), court, trailkit.TenantB); err != nil || len(others) != 0 {
		t.Errorf("another tenant sees %+v, %v", others, err)
	}
	if _, err := compliance.Release(t.Context(), court, trailkit.TenantB, holds[0].ID, "not mine"); !errors.Is(err,
		compliance.ErrNotFound) {
		t.Errorf("another tenant's hold: %v", err)
	}
	if _, err := compliance.Release(t.Context(), court, trailkit.TenantA, holds[0].ID, "closed"); err != nil {
		t.Fatal(err)
	}
	if _, err := compliance.Release(t.Context(), court, trailkit.TenantA, holds[0].ID, "closed"); !errors.Is(err,
		compliance.ErrNotFound) {
		t.Errorf("released twice: %v", err)
	}
	if all, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{User: "ada", Fields: fields, Reason: "now"}); err != nil || all.Events != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	since := time.Now()
	before2 := since.Add(-time.Hour)
	if _, err := compliance.Place(t.Context(), court, trailkit.TenantA,
		compliance.Hold{Reason: "x", Since: &since, Until: &before2}); !errors.Is(err, compliance.ErrInvalid) ||
		!strings.Contains(err.Error(), "since:") {
		t.Errorf("a time range reversed: %v", err)
	}
}

// TestActsStayWithTheirTenant has the schema owned by a superuser, whom row security does not bind, and one id and one
// user in two tenants.
func TestActsStayWithTheirTenant(t *testing.T) {
	o := trailkit.Open(t)
	court := o.Compliance()
	id := uuid.New()
	for _, tenant := range []uuid.UUID{trailkit.TenantA, trailkit.TenantB} {
		if _, err := audit.Log(t.Context(), o.Door, tenant,
			audit.Event{ID: id, Action: "x", UserID: "ada", Input: "words", Output: "more"}); err != nil {
			t.Fatal(err)
		}
	}
	super := o.Super()
	ownedBy := func(role string) {
		for _, sql := range []string{`SET konstruct.allow_ddl = on`, `DO $$ DECLARE f record; BEGIN
		  FOR f IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		  AND proname LIKE 'audit\_%' AND proname NOT LIKE 'audit\_find%'
		  AND proname <> 'audit_guard' LOOP EXECUTE format('ALTER FUNCTION %s OWNER TO ` + role + `', f.name); END LOOP;
		  FOR f IN SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
		  AND relkind = 'r' AND relname LIKE 'audit\_%'
		  LOOP EXECUTE format('ALTER TABLE %s OWNER TO ` + role + `', f.name); END LOOP; END $$`} {
			if _, err := super.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	ownedBy("postgres")
	holdB, err := compliance.Place(t.Context(), court, trailkit.TenantB,
		compliance.Hold{Reason: "theirs", Action: text("nothing")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{Events: []uuid.UUID{id}, Fields: []ledger.Field{ledger.InputSummary},
			Reason: "r"}); err != nil {
		t.Fatal(err)
	}
	if n, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{User: "ada", Fields: []ledger.Field{ledger.UserID, ledger.OutputSummary},
			Reason: "r"}); err != nil || n.Events != 1 {
		t.Fatal(n, err)
	}
	if _, err := compliance.Release(t.Context(), court, trailkit.TenantA, holdB, "not mine"); !errors.Is(err,
		compliance.ErrNotFound) {
		t.Errorf("another tenant's hold: %v", err)
	}
	if holds, err := compliance.Holds(t.Context(), court, trailkit.TenantA); err != nil || len(holds) != 0 {
		t.Errorf("%+v, %v", holds, err)
	}
	if _, err := compliance.SetRule(t.Context(), court, trailkit.TenantB, "", 365, "r"); err != nil {
		t.Fatal(err)
	}
	if rules, _, err := compliance.Rules(t.Context(), court, trailkit.TenantA); err != nil || len(rules) != 0 {
		t.Errorf("%+v, %v", rules, err)
	}
	if _, err := compliance.SetRule(t.Context(), court, trailkit.TenantA, "", 0, "r"); !errors.Is(err,
		compliance.ErrNotFound) {
		t.Errorf("another tenant's rule: %v", err)
	}
	o.Round()
	if _, err := compliance.Expire(t.Context(), court, trailkit.TenantA, "r", false, nil); err != nil {
		t.Fatal(err)
	}
	if got := trailkit.One[string](o, `SELECT concat_ws(' ', user_id, input_summary, output_summary) FROM audit_events
		WHERE tenant_id = $1 AND id = $2`, trailkit.TenantB, id); got != "ada words more" {
		t.Errorf("of the other tenant's event %q is left", got)
	}
	if n := trailkit.One[int](o, `SELECT count(*) FROM audit_seals WHERE tenant_id = $1 AND octet_length(salt) <> 16`,
		trailkit.TenantB); n != 0 {
		t.Errorf("%d salts of the other tenant's are gone", n)
	}
	ownedBy("konstruct_owner") // as the catalog should be
	o.MustHold()
}

func many(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	return ids
}

// TestALateRetryOfAnErasedEvent holds that it brings nothing back, and is no other event.
func TestALateRetryOfAnErasedEvent(t *testing.T) {
	o := trailkit.Open(t)
	e := audit.Event{ID: uuid.New(), Action: "x", UserID: "ada", Input: "words", Output: "more",
		Metadata: []byte(`{"a":1}`), At: time.Now()}
	for _, again := range []bool{false, true} {
		if id, err := audit.Log(t.Context(), o.Door, trailkit.TenantA, e); err != nil || id != e.ID {
			t.Fatalf("logged again (%t): %s, %v", again, id, err)
		}
		if !again {
			if _, err := compliance.Erase(t.Context(), o.Compliance(), trailkit.TenantA,
				compliance.Erasure{Events: []uuid.UUID{e.ID},
					Fields: []ledger.Field{ledger.UserID, ledger.InputSummary, ledger.Metadata},
					Reason: "r"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ids, err := audit.LogBatch(t.Context(), o.Door, trailkit.TenantA, []audit.Event{e}); err != nil ||
		ids[0] != e.ID {
		t.Errorf("in a batch: %v, %v", ids, err)
	}
	if got := trailkit.One[string](o,
		`SELECT concat_ws(' ', user_id, input_summary, output_summary, metadata) FROM audit_events WHERE id = $1`,
		e.ID); got != "more {}" {
		t.Errorf("%q came back", got)
	}
	e.Output = "other"
	if _, err := audit.Log(t.Context(), o.Door, trailkit.TenantA, e); !errors.Is(err, audit.ErrIDTaken) {
		t.Errorf("another event of the same id: %v", err)
	}
	o.Round()
	o.MustHold()
}

func TestTwoErasuresAtOnceAreOne(t *testing.T) {
	o := trailkit.Open(t)
	court := o.Compliance()
	ids := o.Log(trailkit.TenantA, 1)
	errs := make([]error, 8)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			_, errs[i] = compliance.Erase(context.Background(), court, trailkit.TenantA,
				compliance.Erasure{Events: ids, Fields: []ledger.Field{ledger.InputSummary}, Reason: "race"})
		})
	}
	group.Wait()
	done := 0
	for _, err := range errs {
		switch {
		case err == nil:
			done++
		case !errors.Is(err, compliance.ErrErased):
			t.Error(err)
		}
	}
	if n := trailkit.One[int](o, `SELECT count(*) FROM audit_events
		WHERE action_type = 'erasure'`); done != 1 || n != 1 {
		t.Errorf("%d erasures succeeded, and %d are recorded", done, n)
	}
	o.Round()
	o.MustHold()
}

func TestTwoPeopleMustAgree(t *testing.T) {
	o := trailkit.Open(t)
	court := o.Compliance()
	ids := o.Log(trailkit.TenantA, 2)
	if _, err := o.Super().
		Exec(t.Context(),
			`DROP ROLE IF EXISTS judge;
			CREATE ROLE judge LOGIN PASSWORD 'judge' IN ROLE konstruct_compliance`); err != nil {
		t.Fatal(err)
	}
	conn := o.URL("konstruct_compliance")
	judge, err := tenantdb.OpenCompliance(t.Context(), as(conn, "judge"))
	if err != nil {
		t.Fatal(err)
	}
	defer judge.Close()
	if err := compliance.RequireTwo(t.Context(), court, trailkit.TenantA, "policy 3"); err != nil {
		t.Fatal(err)
	}
	ask := func(e compliance.Erasure) uuid.UUID {
		t.Helper()
		e.Fields, e.Reason = []ledger.Field{ledger.InputSummary, ledger.UserID}, "ticket 21"
		r, err := compliance.Erase(t.Context(), court, trailkit.TenantA, e)
		if err != nil || r.Request == nil || r.Events != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		return *r.Request
	}
	request := ask(compliance.Erasure{Events: ids[:1]})
	if n := trailkit.One[int](o,
		`SELECT count(*) FROM audit_events WHERE input_summary IS NULL AND action_type = 'llm_call'`); n != 0 {
		t.Fatal("it was erased before anybody agreed")
	}
	if _, err := compliance.Approve(t.Context(), court, trailkit.TenantA, request, "me too"); !errors.Is(err,
		compliance.ErrRefused) || !strings.Contains(err.Error(), "another person must approve") {
		t.Errorf("approving one's own: %v", err)
	}
	if _, err := compliance.Approve(t.Context(), judge, trailkit.TenantB, request, "x"); !errors.Is(err,
		compliance.ErrNotFound) {
		t.Errorf("another tenant's request: %v", err)
	}
	if all, err := compliance.Pending(t.Context(), judge, trailkit.TenantA); err != nil || len(all) != 1 ||
		all[0].RequestedBy != "konstruct_compliance" || strings.Join(all[0].Fields, ",") != "input_summary,user_id" {
		t.Errorf("%+v, %v", all, err)
	}
	if n, err := compliance.Approve(t.Context(), judge, trailkit.TenantA, request, "agreed"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if _, err := compliance.Approve(t.Context(), judge, trailkit.TenantA, request, "agreed"); !errors.Is(err,
		compliance.ErrNotFound) {
		t.Errorf("approved twice: %v", err)
	}
	declined := ask(compliance.Erasure{User: "ada"})
	if err := compliance.Decline(t.Context(), judge, trailkit.TenantA, declined, "not founded"); err != nil {
		t.Fatal(err)
	}
	if all, err := compliance.Pending(t.Context(), judge, trailkit.TenantA); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	if n := trailkit.One[int](o, `SELECT count(*) FROM audit_events WHERE user_id = 'ada'`); n != 1 {
		t.Errorf("%d events of ada's are left", n)
	}
	o.Round()
	o.MustHold()
	r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}))
	if words := strings.Join(r.Holds, "\n"); !r.OK() ||
		!strings.Contains(words, "by konstruct_compliance, approved by judge, for: ticket 21") {
		t.Errorf("%s\n%s", words, trailkit.Problems(r))
	}
	act := forgeAct(o, "erasure", "konstruct_compliance", fmt.Sprintf(
		`{"events":[%q],"fields":["input_summary","user_id"],"approved_by":"judge","request":%q}`, ids[1], declined))
	o.Attack(`INSERT INTO audit_erasures VALUES ($1, $2, 2, $3), ($1, $2, 4, $3)`, trailkit.TenantA, ids[1], act)
	o.Attack(`UPDATE audit_events SET input_summary = NULL, user_id = NULL WHERE id = $1`, ids[1])
	o.Attack(`UPDATE audit_seals SET salt = audit_forget(salt, '{2,4}') WHERE event_id = $1`, ids[1])
	o.Round()
	if _, found := o.Verify(); len(found) != 1 || found[0].Event != act ||
		!strings.Contains(found[0].Problem, "what was asked for was decided before") {
		t.Errorf("a declined request carried out:\n%s", trailkit.Lines(found))
	}
	if r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{})); r.Count != 1 ||
		!strings.Contains(trailkit.Problems(r), "what was asked for was decided before") {
		t.Errorf("a declined request carried out, in a bundle: %s", trailkit.Problems(r))
	}
}

// as returns a URL with another user, whose password is their name.
func as(raw, user string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	u.User = url.UserPassword(user, user)
	return u.String()
}
