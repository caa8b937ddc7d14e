package tenantdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Compliance calls the compliance functions as konstruct_compliance, or as a person's own role that is a member of it.
// It reads and writes no table.
type Compliance struct{ pool *pgxpool.Pool }

// OpenCompliance connects lazily to the database at the compliance role's url.
func OpenCompliance(ctx context.Context, url string) (*Compliance, error) {
	pool, err := openPool(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open the compliance role's database: %w", err)
	}
	return &Compliance{pool: pool}, nil
}

// Close closes every connection.
func (c *Compliance) Close() { c.pool.Close() }

// Call runs one statement, which names its tenant itself, and hands its rows on. It is one transaction.
func (c *Compliance) Call(ctx context.Context, sql string, args []any, fn func(pgx.Rows) error) error {
	rows, err := c.pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if err := fn(rows); err != nil {
		return err
	}
	return rows.Err()
}
