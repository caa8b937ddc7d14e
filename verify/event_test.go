package verify_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/verify"
)

// TestOneEventIsVerified: as it was recorded, on its way to the log, changed by a superuser, under a checkpoint that
// nobody signed; and never of another tenant.
func TestOneEventIsVerified(t *testing.T) {
	o := trailkit.Open(t)
	ids := o.Log(trailkit.TenantA, 3)
	check := func(tenant, id uuid.UUID) verify.EventCheck {
		t.Helper()
		steps := 0
		c, err := verify.CheckEvent(t.Context(), o.Logs, tenant, id, func(done int, what string) {
			if steps++; done != steps || what == "" {
				t.Errorf("step %d is %d: %q", steps, done, what)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if c.OK() != (steps == verify.Steps) {
			t.Errorf("%+v after %d steps", c, steps)
		}
		return c
	}
	if c := check(trailkit.TenantA, ids[0]); c.OK() || !c.Waiting || c.Problem != "" {
		t.Errorf("before the notary: %+v", c)
	}
	o.Round()
	if c := check(trailkit.TenantA, ids[1]); !c.OK() || c.Waiting || c.Size != 3 ||
		!strings.Contains(c.Note, "/tenant/") {
		t.Errorf("signed: %+v", c)
	}
	for _, tenant := range []uuid.UUID{trailkit.TenantB, uuid.New(), uuid.Nil} {
		if _, err := verify.CheckEvent(t.Context(), o.Logs, tenant, ids[0], nil); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("tenant %s: %v", tenant, err)
		}
	}
	o.Attack(`UPDATE audit_events SET input_summary = 'forged' WHERE id = '` + ids[1].String() + `'`)
	if c := check(trailkit.TenantA, ids[1]); c.OK() || !strings.Contains(c.Problem, "does not match its seal") {
		t.Errorf("changed: %+v", c)
	}
	o.Attack(`UPDATE audit_checkpoints SET note = replace(note, E'\n\n', E'\n') WHERE tenant_id = '` +
		trailkit.TenantA.String() + `'`)
	if c := check(trailkit.TenantA, ids[2]); c.OK() || !strings.Contains(c.Problem, "checkpoint") {
		t.Errorf("under another checkpoint: %+v", c)
	}
}
