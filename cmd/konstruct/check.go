package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/tenantdb"
)

type doctorCmd struct {
	URL string `name:"database-url" help:"The application's connection URL." env:"KONSTRUCT_DATABASE_URL" required:""`
}

// Run prints the self-check's table and fails when a check does.
func (c *doctorCmd) Run(ctx context.Context) error {
	door, err := tenantdb.Open(ctx, c.URL)
	if err != nil {
		return err
	}
	defer door.Close()
	checks, err := door.Doctor(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\tCHECK\tFOUND\tWANTED\tWHAT TO RUN")
	failed := 0
	for _, ch := range checks {
		mark, fix := "ok", ""
		if !ch.OK {
			mark, fix = "FAIL", ch.Fix
			failed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", mark, ch.Name, ch.Found, ch.Wanted, fix)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return nil
}

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Re-read every event and hold it against its seal."`
}

type auditVerifyCmd struct {
	Tenant *uuid.UUID `help:"Only this tenant's events."`
	URL    string     `name:"notary-database-url" help:"The notary's connection URL." env:"KONSTRUCT_NOTARY_DATABASE_URL" required:""`
}

// Run verifies, names each event that differs, and fails on any.
func (c *auditVerifyCmd) Run(ctx context.Context) error {
	db, err := tenantdb.OpenEvidence(ctx, c.URL)
	if err != nil {
		return err
	}
	defer db.Close()
	r, err := audit.Verify(ctx, db, c.Tenant, func(f audit.Finding) {
		fmt.Printf("event %s of tenant %s %s\n", f.Event, f.Tenant, f.What)
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d events match their seals; %d differ, %d missing, %d extra\n", r.Events, r.Differ, r.Missing, r.Extra)
	if !r.OK() {
		return errors.New("the trail does not verify")
	}
	return nil
}
