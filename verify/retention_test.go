package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/verify"
)

// aged returns a trail whose database and notary have a settable clock: at sets it to days ago.
func aged(t *testing.T) (o *trailkit.Trail, at func(days int)) {
	t.Helper()
	step := testkit.FakeClock(t)
	o = trailkit.OpenOn(t, testkit.Own(t))
	var back time.Duration
	o.Config.Clock = func() time.Time { return time.Now().Add(-back) }
	return o, func(days int) {
		back = time.Duration(days) * 24 * time.Hour
		step(fmt.Sprintf("-%dd", days))
	}
}

// fill writes n events of a tenant at the database's own time, every tenth an escalation.
func fill(o *trailkit.Trail, tenant uuid.UUID, n int) {
	o.T.Helper()
	super := o.Super()
	defer super.Close(context.Background())
	if _, err := super.Exec(o.T.Context(), `SELECT set_config('app.current_tenant', $1, false)`,
		tenant.String()); err != nil {
		o.T.Fatal(err)
	}
	if _, err := super.Exec(o.T.Context(),
		`INSERT INTO audit_events (id, tenant_id, user_id, action_type, input_summary, created_at)
	    SELECT gen_random_uuid(), $1, 'ada', CASE WHEN i % 10 = 0 THEN 'escalation' ELSE 'llm_call' END,
	    'question ' || i, now() FROM generate_series(0, $2::int - 1) i`, tenant, n); err != nil {
		o.T.Fatal(err)
	}
}

// year gives tenants n events each, in twenty parts of the year that ends now, the oldest 360 days ago, each signed
// when it was written.
func year(o *trailkit.Trail, at func(int), tenants map[uuid.UUID]int) {
	o.T.Helper()
	for i := range 20 {
		at(360 - 18*i)
		for tenant, n := range tenants {
			fill(o, tenant, n/20)
		}
		o.Round()
	}
	at(0)
}

func count(o *trailkit.Trail, tenant uuid.UUID, where string) int {
	o.T.Helper()
	return trailkit.One[int](o, `SELECT count(*) FROM audit_events WHERE tenant_id = $1 AND `+where, tenant)
}

func TestAnOldQuarterGoesAndTheRestVerifies(t *testing.T) {
	o, at := aged(t)
	court := o.Compliance()
	ctx := t.Context()
	year(o, at, map[uuid.UUID]int{trailkit.TenantA: 4000, trailkit.TenantB: 100}) // of which one has fewer than a tile
	o.Log(trailkit.TenantA, 10)
	o.Round()
	whole := o.Bundle(trailkit.TenantA, evidence.Filter{})
	oldest := trailkit.One[uuid.UUID](o, `SELECT id FROM audit_events WHERE tenant_id = $1 AND action_type = 'llm_call'
		AND created_at > now() - interval '340 days' ORDER BY created_at LIMIT 1`, trailkit.TenantA)
	promised := map[uuid.UUID]string{}
	for _, id := range []uuid.UUID{oldest,
		trailkit.One[uuid.UUID](o, `SELECT id FROM audit_events WHERE tenant_id = $1 ORDER BY created_at DESC LIMIT 1`,
			trailkit.TenantA)} {
		s, err := o.Config.Keys.Load()
		if err != nil {
			t.Fatal(err)
		}
		r, err := audit.Receipt(ctx, o.Door, trailkit.TenantA, id, time.Minute)
		if err == nil {
			promised[id], err = s.Sign(s.Name, r.Text())
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	retire := func(tenant uuid.UUID, try bool) compliance.Expired {
		t.Helper()
		r, err := compliance.Expire(ctx, court, tenant, "policy 7", try, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := retire(trailkit.TenantA, false); r.Events != 0 {
		t.Fatalf("without a rule %+v went", r)
	}
	if _, err := compliance.SetRule(ctx, court, trailkit.TenantA, "", 183, "x"); !errors.Is(err,
		compliance.ErrInvalid) ||
		!strings.Contains(err.Error(), "keep: 183 days is less than the floor of 184 days") {
		t.Errorf("under the floor: %v", err)
	}
	if _, err := compliance.SetRule(ctx, court, trailkit.TenantA, "erasure", 365, "x"); !errors.Is(err,
		compliance.ErrInvalid) {
		t.Errorf("a rule for compliance acts: %v", err)
	}
	for _, tenant := range []uuid.UUID{trailkit.TenantA, trailkit.TenantB} {
		if _, err := compliance.SetRule(ctx, court, tenant, "", 274, "policy 7"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := compliance.SetRule(ctx, court, trailkit.TenantA, "escalation", 330,
		"they are looked at longer"); err != nil {
		t.Fatal(err)
	}
	rules, floor, err := compliance.Rules(ctx, court, trailkit.TenantA)
	if err != nil || len(rules) != 2 || rules[1].Action != "escalation" || rules[1].Days != 330 || floor != 184 {
		t.Fatalf("%+v, %d, %v", rules, floor, err)
	}
	if others, _, err := compliance.Rules(ctx, court, uuid.New()); err != nil || len(others) != 0 {
		t.Errorf("another tenant sees %+v, %v", others, err)
	}
	old := func(days int) string { return fmt.Sprintf(`created_at < now() - interval '%d days'`, days) }
	want := count(o, trailkit.TenantA, old(274)+` AND action_type = 'llm_call'`) +
		count(o, trailkit.TenantA, old(330)+` AND action_type = 'escalation'`)

	try := retire(trailkit.TenantA, true)
	if try.Events != int64(want) || try.Bytes == 0 || count(o, trailkit.TenantA, old(274)) < want {
		t.Fatalf("a trial: %+v, want %d", try, want)
	}
	hold, err := compliance.Place(ctx, court, trailkit.TenantA, compliance.Hold{Reason: "case 9"})
	if err != nil {
		t.Fatal(err)
	}
	if r := retire(trailkit.TenantA, false); r.Events != 0 || r.Held != int64(want) {
		t.Fatalf("under a hold: %+v", r)
	}
	if _, err := compliance.Release(ctx, court, trailkit.TenantA, hold, "closed"); err != nil {
		t.Fatal(err)
	}
	part := time.Now().AddDate(0, 0, -350)
	if _, err := compliance.Place(ctx, court, trailkit.TenantA,
		compliance.Hold{Reason: "case 10", Until: &part}); err != nil {
		t.Fatal(err)
	}
	held := count(o, trailkit.TenantA, old(350))
	if r := retire(trailkit.TenantA, false); r.Events != int64(want-held) || r.Held != int64(held) || held == 0 {
		t.Fatalf("%+v, want %d deleted and %d held", r, want-held, held)
	}
	if n := count(o, trailkit.TenantA, old(274)+` AND action_type = 'llm_call'`); n != count(o, trailkit.TenantA,
		old(350)+` AND action_type = 'llm_call'`) {
		t.Errorf("%d old calls are left", n)
	}
	if r := retire(trailkit.TenantB, false); r.Events != 25 {
		t.Errorf("of a small tenant: %+v", r)
	}
	if r := retire(trailkit.TenantA, false); r.Events != 0 {
		t.Errorf("a second time: %+v", r)
	}
	if n := trailkit.One[int](o, `SELECT count(*) FROM audit_seals s WHERE NOT EXISTS (SELECT FROM audit_events e
		WHERE e.tenant_id = s.tenant_id AND e.id = s.event_id)`); n != 0 {
		t.Errorf("%d seals are left of deleted events", n)
	}
	o.Log(trailkit.TenantA, 5)
	o.Round()
	if r := o.MustHold(); r.Deleted != int64(want-held)+25 {
		t.Errorf("%+v", r)
	}
	for id, receipt := range promised {
		p, err := verify.CheckReceipt(ctx, o.Logs, receipt, nil, evidence.DefaultFloor)
		if err != nil || !p.Kept || strings.Contains(p.What, "deleted under retention") != (id == oldest) {
			t.Errorf("the receipt of event %s: %+v, %v", id, p, err)
		}
	}
	if r := o.Check(whole); !r.OK() || r.Matching != 4010 {
		t.Errorf("a bundle made before: %s", trailkit.Problems(r))
	}
	r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{Action: text("escalation")}))
	words := strings.Join(r.Holds, "\n")
	if !r.OK() || r.Deleted != int64(want-held) ||
		!strings.Contains(words, fmt.Sprintf("%d were deleted under retention", want-held)) ||
		!strings.Contains(words, "deleted under retention on 20") || !strings.Contains(words, "for: policy 7") {
		t.Errorf("%+v\n%s\n%s", r, words, trailkit.Problems(r))
	}
	// The act altered in the database, and a deleted event that comes back.
	id := trailkit.One[uuid.UUID](o, `SELECT record_id FROM audit_gone WHERE tenant_id = $1`, trailkit.TenantB)
	o.Attack(`UPDATE audit_gone SET bits = '\xffffffffffffffff' WHERE record_id = $1`, id)
	if r, found := o.Verify(); r.OK() ||
		!strings.Contains(trailkit.Lines(found), "they were deleted, and no act of retention in the trail says so") {
		t.Errorf("a deletion made wider:\n%s", trailkit.Lines(found))
	}
}

// TestRetentionCanBeKilled kills retention half way and runs it again.
func TestRetentionCanBeKilled(t *testing.T) {
	o, at := aged(t)
	court := o.Compliance()
	year(o, at, map[uuid.UUID]int{trailkit.TenantA: 40_000})
	if _, err := compliance.SetRule(t.Context(), court, trailkit.TenantA, "", 184, "policy"); err != nil {
		t.Fatal(err)
	}
	want := count(o, trailkit.TenantA, `created_at < now() - interval '184 days'`)
	ctx, kill := context.WithCancel(t.Context())
	r, err := compliance.Expire(ctx, court, trailkit.TenantA, "policy", false, func(int64, int64) { kill() })
	if !errors.Is(err, context.Canceled) || r.Events == 0 || r.Events >= int64(want) {
		t.Fatalf("%+v, %v: nothing was left to do", r, err)
	}
	o.Round()
	o.MustHold()
	again, err := compliance.Expire(t.Context(), court, trailkit.TenantA, "policy", false, nil)
	if err != nil || r.Events+again.Events < int64(want) {
		t.Fatalf("%+v and then %+v, %v; want %d", r, again, err, want)
	}
	o.Round()
	o.MustHold()
	b := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}))
	if !b.OK() || b.Deleted != r.Events+again.Events {
		t.Errorf("%+v\n%s", b, trailkit.Problems(b))
	}
}

// TestRetentionWaitsForTheLog checks that retention deletes nothing before a signed checkpoint proves its age.
func TestRetentionWaitsForTheLog(t *testing.T) {
	o, at := aged(t)
	court := o.Compliance()
	at(300)
	fill(o, trailkit.TenantB, 300)
	o.Round()
	fill(o, trailkit.TenantA, 300)
	at(0)
	retire := func(tenant uuid.UUID) compliance.Expired {
		t.Helper()
		r, err := compliance.Expire(t.Context(), court, tenant, "policy", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tenant := range []uuid.UUID{trailkit.TenantA, trailkit.TenantB} {
		if _, err := compliance.SetRule(t.Context(), court, tenant, "", 184, "policy"); err != nil {
			t.Fatal(err)
		}
	}
	if r := retire(trailkit.TenantA); r != (compliance.Expired{}) {
		t.Errorf("in no log: %+v", r)
	}
	o.Round()
	if r := retire(trailkit.TenantA); r != (compliance.Expired{}) {
		t.Errorf("recorded long ago, and signed today: %+v", r)
	}
	// Erased first, deleted later.
	id := trailkit.One[uuid.UUID](o,
		`SELECT id FROM audit_events WHERE action_type = 'llm_call' AND tenant_id = $1 ORDER BY created_at LIMIT 1`,
		trailkit.TenantB)
	if _, err := compliance.Erase(t.Context(), court, trailkit.TenantB,
		compliance.Erasure{Events: []uuid.UUID{id}, Fields: []ledger.Field{ledger.UserID},
			Reason: "request"}); err != nil {
		t.Fatal(err)
	}
	o.Round()
	if r := retire(trailkit.TenantB); r.Events != 300 {
		t.Errorf("%+v", r)
	}
	o.Round()
	o.MustHold()
	if _, err := audit.Get(t.Context(), o.Door, trailkit.TenantB, id); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("a deleted event: %v", err)
	}
	if r := o.Check(o.Bundle(trailkit.TenantB, evidence.Filter{})); !r.OK() {
		t.Error(trailkit.Problems(r))
	}
}
