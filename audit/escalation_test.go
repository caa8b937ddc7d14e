package audit_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

func TestAnEscalationIsOpenedAcknowledgedAndResolved(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	trail, err := audit.OpenTrail(door, audit.TrailConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	ctx, agent := t.Context(), uuid.New()
	open := func(tenant uuid.UUID, reason string, at time.Time) uuid.UUID {
		t.Helper()
		id, err := audit.LogEscalation(ctx, door, tenant,
			audit.Escalation{AgentID: agent, Reason: reason, Question: "may I?", To: "finance",
				ConversationID: "c-1", At: at, Extra: audit.Metadata{"trace_id": "0af7651916cd43dd8448eb211c80319c"}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	began := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	first, second, foreign := open(tenantA, "refund above the limit", began), open(tenantA, "angry customer",
		began.Add(time.Second)), open(tenantB, "theirs", began)
	list := func(f audit.EscalationFilter) []audit.EscalationRecord {
		t.Helper()
		cases, err := audit.Escalations(ctx, door, tenantA, f)
		if err != nil {
			t.Fatal(err)
		}
		return cases
	}
	if cases := list(audit.EscalationFilter{State: audit.StateOpen}); len(cases) != 2 || cases[0].ID != second ||
		*cases[1].Recipient != "finance" || cases[1].WaitTime != 0 {
		t.Fatalf("%+v", cases)
	}
	if _, err := trail.Acknowledge(ctx, tenantA, first, "ada"); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.Acknowledge(ctx, tenantA, first, "bob"); !errors.Is(err, audit.ErrAcknowledged) {
		t.Errorf("acknowledged twice: %v", err)
	}
	if cases := list(audit.EscalationFilter{State: audit.StateAcknowledged}); len(cases) != 1 ||
		*cases[0].AcknowledgedBy != "ada" || cases[0].WaitTime < time.Minute {
		t.Errorf("%+v", cases)
	}
	id, err := trail.Resolve(ctx, tenantA, first, "ada", "refund it")
	if err != nil {
		t.Fatal(err)
	}
	e, err := audit.Get(ctx, door, tenantA, id)
	if err != nil || e.Action != audit.ActionResolved || *e.AgentID != agent ||
		!strings.Contains(string(e.Metadata), first.String()) || !strings.Contains(string(e.Metadata), "c-1") {
		t.Errorf("%+v, %v", e, err)
	}
	run, err := audit.GetRun(ctx, door, tenantA, "0af7651916cd43dd8448eb211c80319c")
	if err != nil || len(run.Steps) != 2 || len(run.Steps[0].Steps) != 2 ||
		run.Steps[0].Steps[1].Action != audit.ActionResolved {
		t.Errorf("the trace has not the answer below its escalation: %+v, %v", run, err)
	}
	for name, try := range map[string]func() (uuid.UUID, error){
		"resolve again":     func() (uuid.UUID, error) { return trail.Resolve(ctx, tenantA, first, "bob", "no") },
		"acknowledge again": func() (uuid.UUID, error) { return trail.Acknowledge(ctx, tenantA, first, "bob") },
	} {
		if _, err := try(); !errors.Is(err, audit.ErrResolved) {
			t.Errorf("%s: %v", name, err)
		}
	}
	resolved := list(audit.EscalationFilter{State: audit.StateResolved})
	if len(resolved) != 1 || *resolved[0].Decision != "refund it" || *resolved[0].ResolvedBy != "ada" ||
		!resolved[0].AcknowledgedAt.Before(*resolved[0].ResolvedAt) ||
		resolved[0].WaitTime != resolved[0].AcknowledgedAt.Sub(began) {
		t.Errorf("%+v", resolved)
	}
	// Concurrently: one decision is logged.
	errs := make([]error, 6)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { _, errs[i] = trail.Resolve(ctx, tenantA, second, fmt.Sprint("person ", i), "decision") })
	}
	group.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else if !errors.Is(err, audit.ErrResolved) {
			t.Error(err)
		}
	}
	if done != 1 {
		t.Errorf("%d decisions stand", done)
	}
	// Other tenants see and change nothing.
	for _, id := range []uuid.UUID{foreign, uuid.New(), e.ID} {
		if _, err := trail.Resolve(ctx, tenantA, id, "ada", "mine now"); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("what is no escalation of this tenant: %v", err)
		}
	}
	if cases, err := audit.Escalations(ctx, door, tenantB, audit.EscalationFilter{}); err != nil || len(cases) != 1 ||
		cases[0].ID != foreign || cases[0].State != audit.StateOpen {
		t.Errorf("%+v, %v", cases, err)
	}
	if cases, err := audit.Escalations(ctx, door, uuid.New(), audit.EscalationFilter{}); err != nil || len(cases) != 0 {
		t.Errorf("%+v, %v", cases, err)
	}
	for _, f := range []audit.EscalationFilter{{State: "done"}, {Limit: -1}, {After: "x"},
		{Since: time.Now(), Until: time.Now().Add(-time.Hour)}} {
		var field *audit.FieldError
		if _, err := audit.Escalations(ctx, door, tenantA, f); !errors.As(err, &field) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	var field *audit.FieldError
	if _, err := trail.Resolve(ctx, tenantA, first, "", "x"); !errors.As(err, &field) || field.Field != "by" {
		t.Errorf("nobody decides: %v", err)
	}
	if _, err := trail.Resolve(ctx, tenantA, first, "ada", ""); !errors.As(err, &field) || field.Field != "decision" {
		t.Errorf("nothing is decided: %v", err)
	}
	// Pages: each begins after the last one's cursor.
	var all []uuid.UUID
	for after := ""; ; {
		page := list(audit.EscalationFilter{Limit: 1, After: after})
		if len(page) == 0 {
			break
		}
		all, after = append(all, page[0].ID), page[0].Cursor
	}
	if len(all) != 2 || all[0] != second || all[1] != first {
		t.Errorf("%v", all)
	}
}
