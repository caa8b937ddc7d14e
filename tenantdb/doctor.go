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
	Name   string `json:"check"`
	Found  string `json:"found"`
	Wanted string `json:"wanted"`
	Fix    string `json:"fix,omitempty"` // what to run
	OK     bool   `json:"ok"`
}

//go:embed doctor.sql
var doctorSQL string

// Schema is the version of the schema that this program speaks: its newest migration.
const Schema = 17

// Doctor asks the catalog whether this role and this database hold the promises. It returns every
// check, in a fixed order; an error means that the database could not be asked. The event triggers that guard against quiet DDL are
// reported, and may be absent: only a superuser can install them.
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
		err = r.Scan(&c.Name, &c.Found, &c.Wanted, &c.Fix)
		c.OK = c.Found == c.Wanted
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("ask the catalog: %w", err)
	}
	return append([]Check{version}, checks...), nil
}

func (d *Door) schemaCheck(ctx context.Context) (Check, error) {
	c := Check{Name: "schema version", Found: "none", Wanted: strconv.Itoa(Schema), Fix: "konstruct migrate up"}
	var there bool
	if err := d.pool.QueryRow(ctx, `SELECT to_regprocedure('public.konstruct_schema()') IS NOT NULL`).Scan(&there); err != nil {
		return c, err
	}
	if there {
		var at int64
		if err := d.pool.QueryRow(ctx, `SELECT public.konstruct_schema()`).Scan(&at); err != nil {
			return c, err
		}
		c.Found, c.OK = strconv.FormatInt(at, 10), at == Schema
		if at > Schema {
			c.Fix = "install the newer konstruct: this one is older than the schema"
		}
	}
	return c, nil
}
