package konstruct_test

import (
	"context"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
)

// Read every event with an action, page by page.
func ExampleEvents_All() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()

	tenant := k.Tenant(uuid.New())
	for i := range 3 {
		e := konstruct.Event{Action: audit.ActionToolCall, Input: fmt.Sprintf("order %d", i)}
		if _, err := tenant.Agent(supportID).Log(ctx, e); err != nil {
			log.Fatal(err)
		}
	}
	for event, err := range tenant.Events().All(ctx, konstruct.Filter{Action: audit.ActionToolCall}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(*event.Input)
	}
	// Output:
	// order 0
	// order 1
	// order 2
}

// List the documents and the ingest jobs.
func ExampleTenant_documents() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()

	tenant := k.Tenant(uuid.New())
	n := 0
	for _, err := range tenant.Documents().All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		n++
	}
	jobs, err := tenant.Jobs().Count(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "documents,", len(jobs), "jobs")
	// Output: 0 documents, 0 jobs
}
