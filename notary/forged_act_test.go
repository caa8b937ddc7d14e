package notary_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/verify"
)

// forgeAct writes an act's event, sealed as every event is, as a superuser with the triggers off can.
func (o *office) forgeAct(action, by, metadata string) uuid.UUID {
	o.t.Helper()
	id := uuid.New()
	o.attack(`INSERT INTO audit_events (tenant_id, id, user_id, action_type, input_summary, metadata, created_at)
		VALUES ($1, $2, $3, $4, 'policy 7', $5, clock_timestamp())`, tenantA, id, by, action, metadata)
	o.attack(`INSERT INTO audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
	  VALUES ($1, $2, 0, substr(sha256('s'), 1, 16), '', '', pg_current_xact_id(), clock_timestamp())`, tenantA, id)
	o.attack(reseal, id)
	return id
}

// TestForgedActsAreNamed forges with the law's own marks: verification, bundles and receipts hold each act against the
// log.
func TestForgedActsAreNamed(t *testing.T) {
	type target struct {
		o   *office
		ids []uuid.UUID
	}
	takeAway := func(x target, act uuid.UUID) { // leaves 1 and 2
		x.o.attack(`INSERT INTO audit_gone VALUES ($1, 1, $2, '\x03')`, tenantA, act)
		x.o.attack(`DELETE FROM audit_seals WHERE event_id = ANY ($1)`, x.ids[1:3])
		x.o.attack(`DELETE FROM audit_events WHERE id = ANY ($1)`, x.ids[1:3])
	}
	erase := func(x target, act, event uuid.UUID) {
		x.o.attack(`INSERT INTO audit_erasures VALUES ($1, $2, 4, $3)`, tenantA, event, act)
		x.o.attack(`UPDATE audit_events SET input_summary = NULL WHERE id = $1`, event)
		x.o.attack(`UPDATE audit_seals SET salt = audit_forget(salt, '{4}') WHERE event_id = $1`, event)
	}
	const retention = `{"first_leaf":1,"deleted":2,"leaves":"Aw==","kept_for":{"":184},"floor_days":184}`
	rule := func(x target) {
		if _, err := compliance.SetRule(t.Context(), x.o.court(), tenantA, "", 184, "policy 7"); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		do   func(x target) uuid.UUID // the act
		want string
		gone bool // whether events were deleted
	}{
		"young events under a rule": {func(x target) uuid.UUID {
			rule(x)
			act := x.o.forgeAct("retention", "konstruct_compliance", retention)
			takeAway(x, act)
			return act
		}, "leaf 2, the newest that it deleted, was first signed", true},
		"young events under no rule": {func(x target) uuid.UUID {
			act := x.o.forgeAct("retention", "konstruct_compliance", retention)
			takeAway(x, act)
			return act
		}, "no rule says that events may go", true},
		"one person where two must": {func(x target) uuid.UUID {
			if err := compliance.RequireTwo(t.Context(), x.o.court(), tenantA, "policy"); err != nil {
				t.Fatal(err)
			}
			act := x.o.forgeAct("erasure", "ann",
				fmt.Sprintf(`{"events":[%q],"fields":["input_summary"],"approved_by":"ben"}`, x.ids[1]))
			erase(x, act, x.ids[1])
			return act
		}, "no request of one stands before it in the log", false},
		"a hold's own fields": {func(x target) uuid.UUID {
			if _, err := compliance.Place(t.Context(), x.o.court(), tenantA,
				compliance.Hold{Reason: "case 9", Action: text("nothing")}); err != nil {
				t.Fatal(err)
			}
			hold := one[uuid.UUID](x.o,
				`SELECT id FROM audit_events WHERE tenant_id = $1 AND action_type = 'legal_hold'`, tenantA)
			act := x.o.forgeAct("erasure", "konstruct_compliance",
				fmt.Sprintf(`{"events":[%q],"fields":["input_summary"]}`, hold))
			erase(x, act, hold)
			return act
		}, "which records an act itself", false},
		"a rule under the floor": {func(x target) uuid.UUID {
			act := x.o.forgeAct("retention_rule", "konstruct_compliance", `{"action_type":"","keep_days":1}`)
			second := x.o.forgeAct("retention", "konstruct_compliance", retention)
			takeAway(x, second)
			return act
		}, "it keeps events for 1 days, and the floor is 184", true},
	} {
		t.Run(name, func(t *testing.T) {
			x := target{o: open(t)}
			for range 4 {
				x.ids = append(x.ids, x.o.log(tenantA, 1)...)
				x.o.round()
			}
			signer, err := x.o.c.Keys.Load()
			if err != nil {
				t.Fatal(err)
			}
			r, err := audit.Receipt(t.Context(), x.o.door, tenantA, x.ids[1], time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			receipt, err := signer.Sign(signer.Name, r.Text())
			if err != nil {
				t.Fatal(err)
			}
			x.o.honest()
			act := c.do(x)
			x.o.round()
			for _, tenant := range []*uuid.UUID{nil, &tenantA} {
				v, found := x.o.verify(func(v *verify.Options) { v.Tenant = tenant })
				said := false
				for _, f := range found {
					said = said || f.Event == act && strings.Contains(f.Problem, c.want)
				}
				if v.OK() || !said {
					t.Errorf("verify does not say of event %s %q: %+v\n%s", act, c.want, v, lines(found))
				}
			}
			var made bytes.Buffer
			if _, err := verify.WriteBundle(t.Context(), x.o.db, tenantA, evidence.Filter{}, nil, &made,
				nil); err != nil {
				if !strings.Contains(err.Error(), "records an act itself") {
					t.Error(err)
				}
			} else if b := x.o.check(made.Bytes()); b.OK() || !strings.Contains(problems(b), c.want) {
				t.Errorf("the bundle does not say %q: %s", c.want, problems(b))
			}
			if p, err := verify.CheckReceipt(t.Context(), x.o.db, receipt, nil, evidence.DefaultFloor); err != nil ||
				p.OK() == c.gone {
				t.Errorf("the receipt: %+v, %v", p, err)
			}
			if v, found := x.o.verify(func(v *verify.Options) { v.Tenant = &tenantB }); !v.OK() {
				t.Errorf("another tenant's: %+v\n%s", v, lines(found))
			}
		})
	}
}

// TestAnActInATrailIsJudgedInItsOrder places a hold after a deletion: the deletion was lawful.
func TestAnActInATrailIsJudgedInItsOrder(t *testing.T) {
	o, at := aged(t)
	at(200)
	o.fill(tenantA, 300)
	o.round()
	at(0)
	court, ctx := o.court(), t.Context()
	if _, err := compliance.SetRule(ctx, court, tenantA, "", 184, "policy 7"); err != nil {
		t.Fatal(err)
	}
	if r, err := compliance.Expire(ctx, court, tenantA, "policy 7", false, nil); err != nil || r.Events != 300 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := compliance.Place(ctx, court, tenantA, compliance.Hold{Reason: "case 9"}); err != nil {
		t.Fatal(err)
	}
	id := o.log(tenantA, 1)
	if _, err := compliance.Erase(ctx, court, tenantA,
		compliance.Erasure{Events: id, Fields: []ledger.Field{ledger.InputSummary}, Reason: "r"}); err == nil {
		t.Error("erased under a hold")
	}
	o.round()
	o.honest()
	if b := o.check(o.bundle(tenantA, evidence.Filter{})); !b.OK() || b.Deleted != 300 ||
		!strings.Contains(strings.Join(b.Holds, "\n"),
			"by the 2 rules, holds and requests that the bundle shows, and by a floor of 184 days") {
		t.Errorf("%s\n%s", problems(b), strings.Join(b.Holds, "\n"))
	}
	if b := o.check(o.bundle(tenantA, evidence.Filter{}), func(t *evidence.Trust) {
		t.Floor = 365
	}); b.OK() || !strings.Contains(problems(b), "kept for 365 days") {
		t.Errorf("a verifier with another floor: %s", problems(b))
	}
}
