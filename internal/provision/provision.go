// Package provision prepares a PostgreSQL server for Konstruct: roles, database, extension, schema and guard, each
// where it is missing. It knows nothing of configuration files; what it may not do itself it returns as the
// statement that a superuser has to run.
package provision

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// State says what became of a step.
type State string

// The states of a step.
const (
	Created State = "created"
	Changed State = "changed"
	Exists  State = "exists" // as it should be: nothing was done
	Denied  State = "permission denied"
	Skipped State = "skipped" // nobody asked for it, or what it needs was denied
)

// Step is one thing that a server needs.
type Step struct {
	Name   string `json:"step"`
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
	// SQL is what a superuser has to run where permission was denied, in Database.
	SQL      []string `json:"sql,omitempty"`
	Database string   `json:"database,omitempty"`
}

// denied reports that PostgreSQL refused a statement for lack of privileges.
func denied(err error) bool { return code(err) == "42501" }

// code is PostgreSQL's code of an error, empty where it is none of PostgreSQL's.
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// refused is the step that was denied, with what to run instead, in which database.
func refused(name string, err error, database string, sql ...string) Step {
	var pg *pgconn.PgError
	errors.As(err, &pg)
	return Step{Name: name, State: Denied, Detail: pg.Message, SQL: sql, Database: database}
}
