package verify_test

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
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/verify"
)

// forgeAct writes an act's event, sealed as every event is, as a superuser with the triggers off can.
func forgeAct(o *trailkit.Trail, action, by, metadata string) uuid.UUID {
	o.T.Helper()
	id := uuid.New()
	o.Attack(`INSERT INTO audit_events (tenant_id, id, user_id, action_type, input_summary, metadata, created_at)
		VALUES ($1, $2, $3, $4, 'policy 7', $5, clock_timestamp())`, trailkit.TenantA, id, by, action, metadata)
	o.Attack(`INSERT INTO audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
	  VALUES ($1, $2, 0, substr(sha256('s'), 1, 16), '', '', pg_current_xact_id(),
	  clock_timestamp())`, trailkit.TenantA, id)
	o.Attack(trailkit.Reseal, id)
	return id
}

// TestForgedActsAreNamed forges acts that look like the compliance role's: verification, bundles and receipts verify
// each against the log.
func TestForgedActsAreNamed(t *testing.T) {
	type target struct {
		o   *trailkit.Trail
		ids []uuid.UUID
	}
	takeAway := func(x target, act uuid.UUID) { // leaves 1 and 2
		x.o.Attack(`INSERT INTO audit_gone VALUES ($1, 1, $2, '\x03')`, trailkit.TenantA, act)
		x.o.Attack(`DELETE FROM audit_seals WHERE event_id = ANY ($1)`, x.ids[1:3])
		x.o.Attack(`DELETE FROM audit_events WHERE id = ANY ($1)`, x.ids[1:3])
	}
	erase := func(x target, act, event uuid.UUID) {
		x.o.Attack(`INSERT INTO audit_erasures VALUES ($1, $2, 4, $3)`, trailkit.TenantA, event, act)
		x.o.Attack(`UPDATE audit_events SET input_summary = NULL WHERE id = $1`, event)
		x.o.Attack(`UPDATE audit_seals SET salt = audit_forget(salt, '{4}') WHERE event_id = $1`, event)
	}
	const retention = `{"first_leaf":1,"deleted":2,"leaves":"Aw==","kept_for":{"":184},"floor_days":184}`
	rule := func(x target) {
		if _, err := compliance.SetRule(t.Context(), x.o.Compliance(), trailkit.TenantA, "", 184,
			"policy 7"); err != nil {
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
			act := forgeAct(x.o, "retention", "konstruct_compliance", retention)
			takeAway(x, act)
			return act
		}, "leaf 2, the newest that it deleted, was first signed", true},
		"young events under no rule": {func(x target) uuid.UUID {
			act := forgeAct(x.o, "retention", "konstruct_compliance", retention)
			takeAway(x, act)
			return act
		}, "no rule says that events may go", true},
		"one person where two must": {func(x target) uuid.UUID {
			if err := compliance.RequireTwo(t.Context(), x.o.Compliance(), trailkit.TenantA, "policy"); err != nil {
				t.Fatal(err)
			}
			act := forgeAct(x.o, "erasure", "ann",
				fmt.Sprintf(`{"events":[%q],"fields":["input_summary"],"approved_by":"ben"}`, x.ids[1]))
			erase(x, act, x.ids[1])
			return act
		}, "no request of one stands before it in the log", false},
		"a hold's own fields": {func(x target) uuid.UUID {
			if _, err := compliance.Place(t.Context(), x.o.Compliance(), trailkit.TenantA,
				compliance.Hold{Reason: "case 9", Action: text("nothing")}); err != nil {
				t.Fatal(err)
			}
			hold := trailkit.One[uuid.UUID](x.o,
				`SELECT id FROM audit_events WHERE tenant_id = $1 AND action_type = 'legal_hold'`, trailkit.TenantA)
			act := forgeAct(x.o, "erasure", "konstruct_compliance",
				fmt.Sprintf(`{"events":[%q],"fields":["input_summary"]}`, hold))
			erase(x, act, hold)
			return act
		}, "which records an act itself", false},
		"a rule under the floor": {func(x target) uuid.UUID {
			act := forgeAct(x.o, "retention_rule", "konstruct_compliance", `{"action_type":"","keep_days":1}`)
			second := forgeAct(x.o, "retention", "konstruct_compliance", retention)
			takeAway(x, second)
			return act
		}, "it keeps events for 1 days, and the floor is 184", true},
	} {
		t.Run(name, func(t *testing.T) {
			x := target{o: trailkit.Open(t)}
			for range 4 {
				x.ids = append(x.ids, x.o.Log(trailkit.TenantA, 1)...)
				x.o.Round()
			}
			signer, err := x.o.Config.Keys.Load()
			if err != nil {
				t.Fatal(err)
			}
			r, err := audit.Receipt(t.Context(), x.o.Door, trailkit.TenantA, x.ids[1], time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			receipt, err := signer.Sign(signer.Name, r.Text())
			if err != nil {
				t.Fatal(err)
			}
			x.o.MustHold()
			act := c.do(x)
			x.o.Round()
			for _, tenant := range []*uuid.UUID{nil, &trailkit.TenantA} {
				v, found := x.o.Verify(func(v *verify.Options) { v.Tenant = tenant })
				said := false
				for _, f := range found {
					said = said || f.Event == act && strings.Contains(f.Problem, c.want)
				}
				if v.OK() || !said {
					t.Errorf("verify does not say of event %s %q: %+v\n%s", act, c.want, v, trailkit.Lines(found))
				}
			}
			var made bytes.Buffer
			if _, err := verify.WriteBundle(t.Context(), x.o.Logs, trailkit.TenantA, evidence.Filter{}, nil, &made,
				nil); err != nil {
				if !strings.Contains(err.Error(), "records an act itself") {
					t.Error(err)
				}
			} else if b := x.o.Check(made.Bytes()); b.OK() || !strings.Contains(trailkit.Problems(b), c.want) {
				t.Errorf("the bundle does not say %q: %s", c.want, trailkit.Problems(b))
			}
			if p, err := verify.CheckReceipt(t.Context(), x.o.Logs, receipt, nil, evidence.DefaultFloor); err != nil ||
				p.OK() == c.gone {
				t.Errorf("the receipt: %+v, %v", p, err)
			}
			if v, found := x.o.Verify(func(v *verify.Options) { v.Tenant = &trailkit.TenantB }); !v.OK() {
				t.Errorf("another tenant's: %+v\n%s", v, trailkit.Lines(found))
			}
		})
	}
}

// TestAnActInATrailIsJudgedInItsOrder places a hold after a deletion: the deletion was lawful.
func TestAnActInATrailIsJudgedInItsOrder(t *testing.T) {
	o, at := aged(t)
	at(200)
	fill(o, trailkit.TenantA, 300)
	o.Round()
	at(0)
	court, ctx := o.Compliance(), t.Context()
	if _, err := compliance.SetRule(ctx, court, trailkit.TenantA, "", 184, "policy 7"); err != nil {
		t.Fatal(err)
	}
	if r, err := compliance.Expire(ctx, court, trailkit.TenantA, "policy 7", false, nil); err != nil ||
		r.Events != 300 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := compliance.Place(ctx, court, trailkit.TenantA, compliance.Hold{Reason: "case 9"}); err != nil {
		t.Fatal(err)
	}
	id := o.Log(trailkit.TenantA, 1)
	if _, err := compliance.Erase(ctx, court, trailkit.TenantA,
		compliance.Erasure{Events: id, Fields: []ledger.Field{ledger.InputSummary}, Reason: "r"}); err == nil {
		t.Error("erased under a hold")
	}
	o.Round()
	o.MustHold()
	if b := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{})); !b.OK() || b.Deleted != 300 ||
		!strings.Contains(strings.Join(b.Holds, "\n"),
			"by the 2 rules, holds, requests and refusals that the bundle shows, and by a floor of 184 days") {
		t.Errorf("%s\n%s", trailkit.Problems(b), strings.Join(b.Holds, "\n"))
	}
	if b := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}), func(t *evidence.Trust) {
		t.Floor = 365
	}); b.OK() || !strings.Contains(trailkit.Problems(b), "kept for 365 days") {
		t.Errorf("a verifier with another floor: %s", trailkit.Problems(b))
	}
}
