package tenantdb_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

var (
	tenantA = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	tenantB = uuid.MustParse("22222222-2222-4222-8222-222222222222")
)

// TestDoorShowsOneTenant holds that a row written through the door is seen through it by its tenant alone,
// also on the very connection that wrote it.
func TestDoorShowsOneTenant(t *testing.T) {
	door := testkit.Door(t)
	err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO audit_events (tenant_id, action_type) VALUES ($1, 'llm_call')`, tenantA)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for tenant, want := range map[uuid.UUID]int{tenantA: 1, tenantB: 0} {
		var got int
		if err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT count(*) FROM audit_events`).Scan(&got)
		}); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("tenant %s sees %d events, want %d", tenant, got, want)
		}
	}
}

// TestDoorRefuses holds that the zero tenant and a transaction inside another are refused before any SQL.
func TestDoorRefuses(t *testing.T) {
	door := testkit.Door(t)
	never := func(context.Context, pgx.Tx) error { t.Error("ran"); return nil }
	if err := door.Tx(t.Context(), uuid.Nil, never); !errors.Is(err, tenantdb.ErrNoTenant) {
		t.Errorf("zero tenant: %v", err)
	}
	err := door.Tx(t.Context(), tenantA, func(ctx context.Context, _ pgx.Tx) error {
		return door.Tx(ctx, tenantB, never)
	})
	if !errors.Is(err, tenantdb.ErrNested) {
		t.Errorf("nested tenant: %v", err)
	}
}

// TestDoctorHoldsAndSees holds that a fresh database passes and that a promise taken away is named.
func TestDoctorHoldsAndSees(t *testing.T) {
	c := testkit.Database(t)
	door := testkit.DoorOf(t, c)
	failed := func() (names []string) {
		checks, err := door.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range checks {
			if !ch.OK {
				names = append(names, ch.Name)
			}
		}
		return names
	}
	if names := failed(); len(names) > 0 {
		t.Fatalf("a fresh database fails: %v", names)
	}
	for _, taken := range []struct{ sql, undo, check string }{
		{"ALTER TABLE kb_chunks NO FORCE ROW LEVEL SECURITY", "ALTER TABLE kb_chunks FORCE ROW LEVEL SECURITY",
			"RLS on kb_chunks"},
		{"ALTER TABLE audit_events DISABLE TRIGGER audit_seal",
			"ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_seal", "trigger audit_seal on audit_events"},
		{"ALTER TABLE audit_events ENABLE TRIGGER audit_refuse",
			"ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_refuse", "trigger audit_refuse on audit_events"},
		{"ALTER FUNCTION audit_refuse() RESET search_path",
			"ALTER FUNCTION audit_refuse() SET search_path = pg_catalog, pg_temp", "function audit_refuse"},
		{"ALTER FUNCTION audit_seal() SECURITY INVOKER", "ALTER FUNCTION audit_seal() SECURITY DEFINER",
			"function audit_seal"},
		{"GRANT DELETE ON audit_events TO konstruct_app", "REVOKE DELETE ON audit_events FROM konstruct_app",
			"grants on audit_events"},
		{"CREATE POLICY open ON kb_documents USING (true)", "DROP POLICY open ON kb_documents",
			"no other policy reaches this role on kb_documents"},
	} {
		testkit.Owner(t, c, taken.sql)
		if names := failed(); len(names) != 2 || names[0] != taken.check || !strings.HasPrefix(names[1], "catalog: ") {
			t.Errorf("after %q the failed checks are %v, want %q", taken.sql, names, taken.check)
		}
		testkit.Owner(t, c, taken.undo)
	}
}
