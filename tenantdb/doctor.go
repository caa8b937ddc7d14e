package tenantdb

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Check is one line of the self-check.
type Check struct {
	Name     string `json:"check"`
	Actual   string `json:"found"`
	Expected string `json:"wanted"`
	Fix      string `json:"fix,omitempty"` // what to run
	OK       bool   `json:"ok"`
}

//go:embed doctor.sql
var doctorSQL string

// Schema is the version of the schema that this program speaks: its newest migration.
const Schema = 19

// Doctor asks the catalog whether this role and this database hold the promises. It returns every
// check, in a fixed order; an error means that the database could not be asked. The guard against quiet DDL is
// reported, and may never have been installed: only a superuser can.
func (d *Door) Doctor(ctx context.Context) ([]Check, error) {
	version, err := d.schemaCheck(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the catalog: %w", err)
	}
	rows, err := d.pool.Query(ctx, doctorSQL, time.Now())
	if err != nil {
		return nil, fmt.Errorf("ask the catalog: %w", err)
	}
	checks, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c Check, err error) {
		err = r.Scan(&c.Name, &c.Actual, &c.Expected, &c.Fix)
		c.OK = c.Actual == c.Expected
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("ask the catalog: %w", err)
	}
	checks = append([]Check{version}, checks...)
	if !version.OK {
		return checks, nil // another version's catalog is another
	}
	catalog, err := d.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	return append(checks, catalog.checks()...), nil
}

// GuardCheck is the name of the check that says that the guard against quiet DDL was never installed.
const GuardCheck = "guard against quiet DDL"

// shown is how much of a definition a check shows.
const shown = 60

// checks are what the catalog says, a line for each difference.
func (c *Catalog) checks() (all []Check) {
	short := func(s, none string) string {
		if s == "" {
			return none
		}
		return fmt.Sprintf("%.*s", shown, s)
	}
	for _, d := range c.Differences {
		fix := "find out who changed it; docs/operations.md says how to put it back"
		if d.Kind == guardKind || d.Kind == finderKind {
			fix = "konstruct migrate guard, as a superuser"
		}
		all = append(all, Check{Name: short("catalog: "+d.Kind+" "+d.Name, ""), Actual: short(d.Actual, "gone"),
			Expected: short(d.Expected, "not there"), Fix: fix})
	}
	if len(all) == 0 {
		all = append(all,
			Check{Name: "catalog: tables, functions, triggers, rules, policies, grants", Actual: "as migrated",
				Expected: "as migrated", OK: true})
	}
	if !c.Guarded {
		all = append(all,
			Check{Name: GuardCheck, Actual: "never installed: what DDL changes is seen here, and not refused",
				Expected: "installed, where a superuser can be had: konstruct migrate guard", OK: true})
	}
	return all
}

func (d *Door) schemaCheck(ctx context.Context) (Check, error) {
	c := Check{Name: "schema version", Actual: "none", Expected: strconv.Itoa(Schema), Fix: "konstruct migrate up"}
	var there bool
	if err := d.pool.QueryRow(ctx, `SELECT to_regprocedure('public.konstruct_schema()') IS NOT NULL`).
		Scan(&there); err != nil {
		return c, err
	}
	if there {
		var at int64
		if err := d.pool.QueryRow(ctx, `SELECT public.konstruct_schema()`).Scan(&at); err != nil {
			return c, err
		}
		c.Actual, c.OK = strconv.FormatInt(at, 10), at == Schema
		if at > Schema {
			c.Fix = "install the newer konstruct: this one is older than the schema"
		}
	}
	return c, nil
}
