package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// TestModelUsageIsItsTenantsOwn: another tenant, a forged one and none see nothing of it, and callers can't add to it.
func TestModelUsageIsItsTenantsOwn(t *testing.T) {
	door := testkit.Door(t)
	trail, err := audit.OpenTrail(door, audit.TrailConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	call := audit.Event{Action: audit.ActionLLMCall, Metadata: meta(audit.GatewayTokens, 1000, audit.GatewayCost, 0.25)}
	for _, e := range []audit.Event{call, call, {Action: audit.ActionLLMCall}, {Action: "x",
		Metadata: meta(audit.GatewayTokens, 7)}} {
		if _, err := trail.Log(t.Context(), tenantA, e.OfService()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := trail.Log(t.Context(), tenantA, call); err == nil {
		t.Error("a caller's event counts for the budget")
	}
	now := time.Now()
	since, until := now.Add(-time.Hour), now.Add(time.Hour)
	for tenant, want := range map[uuid.UUID]audit.ModelUsage{tenantA: {Calls: 2, Tokens: 2000, Cost: 0.5}, tenantB: {},
		uuid.MustParse("99999999-9999-4999-8999-999999999999"): {}} {
		if got, err := trail.ModelUsage(t.Context(), tenant, since, until); err != nil || got != want {
			t.Errorf("%s: %+v %v", tenant, got, err)
		}
	}
	if got, err := trail.ModelUsage(t.Context(), uuid.Nil, since, until); err == nil {
		t.Errorf("no tenant: %+v", got)
	}
	if got, err := trail.ModelUsage(t.Context(), tenantA, until, until.Add(time.Hour)); err != nil ||
		got != (audit.ModelUsage{}) {
		t.Errorf("another time: %+v %v", got, err)
	}
}

// TestModelUsageReadsAnIndex: a minute of a long trail is read by the index of tenant and time.
func TestModelUsageReadsAnIndex(t *testing.T) {
	db := testkit.Database(t)
	manyDays(t, testkit.DoorOf(t, db), 4000)
	testkit.Owner(t, db, "ANALYZE audit_events")
	app := testkit.Connect(t, db.URL("konstruct_app"))
	var plan []string
	err := pgx.BeginFunc(t.Context(), app, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL app.current_tenant = '`+tenantA.String()+`'`); err != nil {
			return err
		}
		rows, err := tx.Query(t.Context(), "EXPLAIN "+audit.ModelUsageSQL, tenantA, time.Now().Add(-time.Minute),
			time.Now())
		if err != nil {
			return err
		}
		plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	all := strings.Join(plan, "\n")
	if err != nil || !strings.Contains(all, "ix_audit_events_tenant_created") || strings.Contains(all, "Seq Scan") {
		t.Errorf("%v\n%s", err, all)
	}
}
