package konstruct_test

import (
	"context"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// Erase what a person typed by mistake. The text is deleted for good; the trail records the erasure, and everything
// still verifies.
func Example_erasure() {
	ctx := context.Background()
	d, err := testkit.Clone("konstruct")
	if err != nil {
		log.Fatal(err)
	}
	k, err := konstruct.Open(ctx, konstruct.Config{DatabaseURL: d.URL("konstruct_app")})
	if err != nil {
		log.Fatal(err)
	}
	defer k.Close()
	acme := k.Tenant(acmeID)
	id, err := acme.Agent(supportID).
		LogLLMCall(ctx,
			konstruct.LLMCall{Model: "claude-opus-4-5", Prompt: "I live at 5 Elm Street", Completion: "Noted."})
	if err != nil {
		log.Fatal(err)
	}

	court, err := tenantdb.OpenCompliance(ctx, d.URL("konstruct_compliance"))
	if err != nil {
		log.Fatal(err)
	}
	defer court.Close()
	done, err := compliance.Erase(ctx, court, acmeID,
		compliance.Erasure{Events: []uuid.UUID{id}, Fields: []ledger.Field{ledger.InputSummary}, Reason: "ticket 17"})
	if err != nil {
		log.Fatal(err)
	}
	e, err := acme.Events().Get(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(done.Events, e.Input == nil, e.Erased)

	db, err := tenantdb.OpenEvidence(ctx, d.URL("konstruct_notary"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	report, err := verify.Events(ctx, db, nil, func(verify.Finding) {})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.OK(), report.Events)
	// Output:
	// 1 true [input_summary]
	// true 2
}

// Escalate a decision to a person, and record the answer on the trail.
func ExampleTenant_Escalations() {
	ctx := context.Background()
	d, err := testkit.Clone("konstruct")
	if err != nil {
		log.Fatal(err)
	}
	k, err := konstruct.Open(ctx, konstruct.Config{DatabaseURL: d.URL("konstruct_app")})
	if err != nil {
		log.Fatal(err)
	}
	defer k.Close()
	acme := k.Tenant(acmeID)
	id, err := acme.Agent(supportID).
		LogEscalation(ctx, konstruct.Escalation{Reason: "a refund above the limit", To: "finance"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := acme.Escalations().Acknowledge(ctx, id, "ada"); err != nil {
		log.Fatal(err)
	}
	if _, err := acme.Escalations().Resolve(ctx, id, "ada", "refund it"); err != nil {
		log.Fatal(err)
	}
	cases, err := acme.Escalations().List(ctx, konstruct.EscalationFilter{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cases[0].State, *cases[0].ResolvedBy, *cases[0].Decision)
	// Output: resolved ada refund it
}
