// Package compliance erases fields, places legal holds and deletes events that are past their retention. It calls the
// database's functions as konstruct_compliance. Every act is an event of the tenant's trail that says who did what, and
// why. The package must not know how events are read, logged or proved. See docs/compliance.md.
package compliance

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/tenantdb"
)

// Errors of acts; the wrapped *Error has the database's message. After an error nothing was changed.
var (
	ErrInvalid  = errors.New("the request is not acceptable")
	ErrNotFound = errors.New("the tenant has no such event, hold or request")
	ErrHeld     = errors.New("a legal hold forbids it")
	ErrErased   = errors.New("the fields are already erased")
	ErrRefused  = errors.New("permission denied")
	ErrBusy     = errors.New("another act, or a computation of statistics, locks the tenant for more than ten seconds")
)

// kinds maps the SQLSTATEs that the functions of migrations/00007_compliance.sql raise to this package's errors.
var kinds = map[string]error{
	"22023": ErrInvalid, "P0002": ErrNotFound, "55006": ErrHeld, "55000": ErrErased, "42501": ErrRefused,
	"55P03": ErrBusy,
}

// Error is the database's message, with a hint on what to do.
type Error struct {
	Message, Hint string
	kind          error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + ": " + e.Hint
}

// Unwrap returns which of this package's errors it is.
func (e *Error) Unwrap() error { return e.kind }

// asError wraps an error of the database with what was being done.
func asError(doing string, err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && kinds[pg.Code] != nil {
		err = &Error{Message: pg.Message, Hint: pg.Hint, kind: kinds[pg.Code]}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// queryOne calls a database function that returns one row.
func queryOne(ctx context.Context, db *tenantdb.Compliance, doing, sql string, args []any, to ...any) error {
	err := db.Call(ctx, sql, args, func(rows pgx.Rows) error {
		if !rows.Next() {
			return rows.Err()
		}
		return rows.Scan(to...)
	})
	if err != nil {
		return asError(doing, err)
	}
	return nil
}
