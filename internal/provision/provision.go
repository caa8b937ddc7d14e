// Package provision prepares a PostgreSQL server for Konstruct: it creates missing roles, database, extension, schema
// and guard. It knows nothing of configuration files. Statements for which it lacks permission are returned for a
// superuser to run.
package provision

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// State is the result of a step.
type State string

// The states of a step.
const (
	Created State = "created"
	Changed State = "changed"
	Exists  State = "exists" // as it should be: nothing was done
	Denied  State = "permission denied"
	Skipped State = "skipped" // nobody asked for it, or what it needs was denied
)

// Step is something that a server needs.
type Step struct {
	Name   string `json:"step"`
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
	// SQL is the statement that a superuser has to run in Database, if permission was denied.
	SQL      []string `json:"sql,omitempty"`
	Database string   `json:"database,omitempty"`
}

// denied reports whether PostgreSQL refused a statement for lack of privileges.
func denied(err error) bool { return code(err) == "42501" }

// code returns the SQLSTATE of an error; empty if it is not PostgreSQL's.
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// refused returns a step that was denied, with the statement to run instead and its database.
func refused(name string, err error, database string, sql ...string) Step {
	var pg *pgconn.PgError
	errors.As(err, &pg)
	return Step{Name: name, State: Denied, Detail: pg.Message, SQL: sql, Database: database}
}
