package tenantdb

import (
	"context"
	_ "embed"
	"fmt"

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

// Doctor asks the catalog whether this role and this database hold the promises. It returns every
// check, in a fixed order; an error means that the database could not be asked.
func (d *Door) Doctor(ctx context.Context) ([]Check, error) {
	rows, err := d.pool.Query(ctx, doctorSQL)
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
	return checks, nil
}
