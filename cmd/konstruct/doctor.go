package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/tenantdb"
)

type doctorCmd struct {
	All bool `help:"Print each check of a kind that holds, instead of their number."`
}

// Run prints the self-check's table and fails when a check does.
func (r doctorCmd) Run(ctx context.Context, a *app) error {
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	url, err := requireURL(u.app, "KONSTRUCT_DATABASE_URL", "doctor")
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
	if u.notary != "" && checks[0].OK { // an older schema has no notary
		more, err := a.notaryChecks(ctx, u.notary)
		if err != nil {
			return err
		}
		checks = append(checks, more...)
	}
	if u.worker != "" && checks[0].OK {
		late, err := tenantdb.ReportsCheck(ctx, u.worker)
		if err != nil {
			return err
		}
		hooks, err := tenantdb.WebhookChecks(ctx, u.worker)
		if err != nil {
			return err
		}
		checks = append(append(checks, late), hooks...)
	}
	if checks, err = guardOnRecord(ctx, door, checks); err != nil {
		return err
	}
	failed := 0
	for _, c := range checks {
		if !c.OK {
			failed++
		}
	}
	shown := checks
	if !r.All && !a.JSON {
		shown = summarize(checks)
	}
	err = printTable(a, shown, []string{"", "CHECK", "FOUND", "WANTED", "WHAT TO RUN"},
		func(c tenantdb.Check) []string {
			if c.OK {
				return []string{"ok", c.Name, c.Actual, c.Expected}
			}
			return []string{"FAIL", c.Name, c.Actual, c.Expected, c.Fix}
		})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d checks failed", failed, len(checks))
	} else if err == nil && !a.JSON {
		fmt.Fprintf(a.out, "\nall %d checks hold\n", len(checks))
	}
	return err
}

// summarize replaces checks that hold by their number, where there are several of a kind: tables, policies, functions.
func summarize(checks []tenantdb.Check) (shown []tenantdb.Check) {
	kind := func(c tenantdb.Check) string { first, _, _ := strings.Cut(c.Name, " "); return first }
	held := map[string]int{}
	for _, c := range checks {
		if c.OK {
			held[kind(c)]++
		}
	}
	for _, c := range checks {
		k := kind(c)
		switch n := held[k]; {
		case !c.OK || n >= 0 && n < severalOfAKind:
			shown = append(shown, c)
		case n > 0:
			held[k] = -1
			shown = append(shown, tenantdb.Check{Name: c.Name + ", and " + strconv.Itoa(n-1) + " more", OK: true})
		}
	}
	return shown
}

// severalOfAKind is from how many checks of a kind on their number is enough.
const severalOfAKind = 6

// notaryChecks say whether the notary can work, and does.
func (a *app) notaryChecks(ctx context.Context, url string) ([]tenantdb.Check, error) {
	c, err := a.notaryConfig()
	if err != nil {
		return nil, err
	}
	if c.DB, err = tenantdb.OpenEvidence(ctx, url); err != nil {
		return nil, err
	}
	defer c.DB.Close()
	s, err := notary.ReadStatus(ctx, c.DB, c.Anchor)
	if err != nil {
		return nil, err
	}
	check := func(name, found, wanted, fix string) tenantdb.Check {
		return tenantdb.Check{Name: name, Actual: found, Expected: wanted, Fix: fix, OK: found == wanted}
	}
	moved, behind := "this one", "no"
	if s.Moved {
		moved = "another"
	}
	if !s.Waiting.OK() {
		behind = s.Waiting.String()
	}
	anchor := notary.AnchorAgrees
	if s.Signed == 0 && s.Anchor == notary.AnchorEmpty {
		anchor = notary.AnchorEmpty
	}
	return []tenantdb.Check{
		check("notary: anchor", s.Anchor, anchor, "konstruct notary resume"),
		check("notary: cluster of the transaction ids", moved, "this one", "konstruct notary resume"),
		check("notary: sealed events in no log after their time", behind, "no",
			"konstruct notary run; it says what holds it back"),
	}, nil
}

// guardOnRecord fails the check of a guard that is not there, where the operator's trail says that it once was.
func guardOnRecord(ctx context.Context, door *tenantdb.Door, checks []tenantdb.Check) ([]tenantdb.Check, error) {
	for i := range checks {
		if c := &checks[i]; c.Name == tenantdb.GuardCheck && c.OK {
			found, err := audit.List(ctx, door, audit.Operator, audit.Filter{Action: audit.ActionGuard, Limit: 1})
			if err != nil {
				return nil, err
			}
			if len(found) > 0 {
				c.OK, c.Actual = false, "gone: it was installed at "+found[0].CreatedAt.UTC().Format(time.RFC3339)
				c.Expected, c.Fix = "installed", "find out who removed it, then konstruct migrate guard"
			}
		}
	}
	return checks, nil
}
