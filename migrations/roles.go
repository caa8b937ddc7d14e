package migrations

import (
	_ "embed"
	"strings"
)

//go:embed superuser/roles.sql
var rolesSQL string

// Owner is the role that owns the schema.
const Owner = "konstruct_owner"

// Role is a login role of our programs.
type Role struct {
	Name    string
	Purpose string // what the role is for, in words
	options string // LOGIN NOSUPERUSER …
}

// Roles lists the login roles in the order in which they are created.
func Roles() (roles []Role) {
	purpose := ""
	for line := range strings.Lines(rolesSQL) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "-- for: "); ok {
			purpose = text
		}
		if rest, ok := strings.CutPrefix(line, "CREATE ROLE "); ok {
			name, options, _ := strings.Cut(strings.TrimSuffix(rest, ";"), " ")
			roles = append(roles, Role{Name: name, Purpose: purpose, options: options})
		}
	}
	return roles
}

// Create returns the statement that creates the role. The password is a SCRAM verifier or plain text, and must not
// contain quotes. If it is empty, the role has no password.
func (r Role) Create(password string) string {
	sql := "CREATE ROLE " + r.Name + " " + r.options
	if password != "" {
		sql += " PASSWORD '" + password + "'"
	}
	return sql
}

// Alter returns the statement that resets the role's attributes and password. Only a superuser may run it.
func (r Role) Alter(password string) string {
	return "ALTER ROLE " + r.Name + " " + r.options + " PASSWORD '" + password + "'"
}

// SetPassword returns the statement that lets the role log in with a password. The role's creator may run it.
func (r Role) SetPassword(password string) string {
	return "ALTER ROLE " + r.Name + " LOGIN PASSWORD '" + password + "'"
}
