package main

import (
	"context"
	"fmt"

	"github.com/konstruct/konstruct/tenantdb"
)

type doctorCmd struct{}

// Run prints the self-check's table and fails when a check does.
func (doctorCmd) Run(ctx context.Context, a *app) error {
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	url, err := need(u.app, "KONSTRUCT_DATABASE_URL", "doctor")
	if err != nil {
		return err
	}
	door, err := tenantdb.Open(ctx, url)
	if err != nil {
		return err
	}
	defer door.Close()
	checks, err := door.Doctor(ctx)
	if err != nil {
		return err
	}
	failed := 0
	for _, c := range checks {
		if !c.OK {
			failed++
		}
	}
	err = printTable(a, checks, []string{"", "CHECK", "FOUND", "WANTED", "WHAT TO RUN"}, func(c tenantdb.Check) []string {
		if c.OK {
			return []string{"ok", c.Name, c.Found, c.Wanted}
		}
		return []string{"FAIL", c.Name, c.Found, c.Wanted, c.Fix}
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return err
}
