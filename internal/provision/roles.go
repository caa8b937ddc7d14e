package provision

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/migrations"
)

// RoleState is what the server knows of a role.
type RoleState struct {
	Exists, Login bool
	Powers        string // that no role of ours may have, as SUPERUSER; empty for none
}

// Roles looks up which of our roles exist.
func (s *Server) Roles(ctx context.Context) (map[string]RoleState, error) {
	states := map[string]RoleState{}
	for _, role := range migrations.Roles() {
		var state RoleState
		err := s.conn.QueryRow(ctx, `SELECT true, rolcanlogin, concat_ws(' ', CASE WHEN rolsuper THEN 'SUPERUSER' END,
			CASE WHEN rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
			CASE WHEN rolreplication THEN 'REPLICATION' END) FROM pg_roles WHERE rolname = $1`, role.Name).
			Scan(&state.Exists, &state.Login, &state.Powers)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("look up role %s: %w", role.Name, err)
		}
		states[role.Name] = state
	}
	return states, nil
}

// EnsureRole creates the role with a password. An existing role gets the password only if set is true.
func (s *Server) EnsureRole(ctx context.Context, role migrations.Role, state RoleState, password string,
	set bool) (Step, error) {
	step := Step{Name: "role " + role.Name, State: Exists, Detail: "its password works"}
	if state.Exists && !set {
		return step, nil
	}
	secret, err := Verifier(password)
	if err != nil {
		return step, err
	}
	sql := role.Create(secret)
	if step.State, step.Detail = Created, role.Purpose; state.Exists {
		step.State, step.Detail, sql = Changed, "it has a new password", role.SetPassword(secret)
	}
	if _, err := s.conn.Exec(ctx, sql); denied(err) {
		return refused(step.Name, err, "postgres", sql+";"), nil
	} else if err != nil {
		return step, fmt.Errorf("create role %s: %w", role.Name, err)
	}
	return step, nil
}

// ErrPassword means that a role has another password.
var ErrPassword = errors.New("the password is another")

// CheckLogin connects with a role's URL. It is no error if the database does not exist yet or the role may not connect
// to it: PostgreSQL has accepted the password by then.
func CheckLogin(ctx context.Context, roleURL string) error {
	conn, err := pgx.Connect(ctx, roleURL)
	if err == nil {
		return conn.Close(ctx)
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Errorf("connect: %w", err)
	}
	switch pg.Code {
	case "3D000", "42501", "53300", "57P03": // the last two: busy, starting
		return nil
	case "28P01":
		return ErrPassword
	}
	return &LoginError{Role: userOf(roleURL), Reason: pg.Message}
}

// LoginError means that the server rejected a role before it checked the password.
type LoginError struct{ Role, Reason string }

// Error says what to do next.
func (e *LoginError) Error() string {
	return fmt.Sprintf("the server refuses the login of role %s (%s): allow it in pg_hba.conf "+
		"(host DATABASE %s ADDRESS scram-sha-256), or say by --address where the roles can connect", e.Role,
		e.Reason, e.Role)
}

func userOf(roleURL string) string {
	u, err := url.Parse(roleURL)
	if err != nil {
		return "?"
	}
	return u.User.Username()
}
