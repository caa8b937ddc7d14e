package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/migrations"
)

// createDatabase returns the statement that creates the database. If the template has another encoding, template0 is
// used.
func createDatabase(name, encoding string) string {
	sql := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + " OWNER " + migrations.Owner + " ENCODING 'UTF8'"
	if encoding != "UTF8" {
		sql += " TEMPLATE template0"
	}
	return sql
}

// EnsureDatabase creates the database.
func (s *Server) EnsureDatabase(ctx context.Context) (Step, error) {
	name := s.Target.Database
	step := Step{Name: "database " + name, State: Exists, Detail: "owned by " + migrations.Owner}
	var owner, encoding string
	err := s.conn.QueryRow(ctx, `SELECT pg_get_userbyid(datdba)::text, pg_encoding_to_char(encoding)
		FROM pg_database WHERE datname = $1`, name).Scan(&owner, &encoding)
	if err == nil && encoding != "UTF8" {
		return step, fmt.Errorf("%w: database %s has the encoding %s, which can't hold every text: name another by "+
			"--database, and init creates it with UTF8", ErrUnfit, name, encoding)
	}
	if err == nil && owner != migrations.Owner {
		// It may hold what is somebody else's, so a person decides.
		step.State, step.Database = Denied, name
		step.Detail = fmt.Sprintf("it belongs to %s, and %s must own it", owner, migrations.Owner)
		step.SQL = []string{"ALTER DATABASE " + pgx.Identifier{name}.Sanitize() + " OWNER TO " + migrations.Owner + ";"}
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return step, wrap("look up database "+name, err)
	}
	err = s.conn.QueryRow(ctx, `SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'template1'`).
		Scan(&encoding)
	if err != nil {
		return step, fmt.Errorf("read the encoding of template1: %w", err)
	}
	sql := createDatabase(name, encoding)
	err = s.asOwner(ctx, func() error { _, err := s.conn.Exec(ctx, sql); return err })
	if denied(err) {
		return refused(step.Name, err, "postgres", sql+";"), nil
	}
	step.State = Created
	return step, wrap("create database "+name, err)
}

// asOwner runs fn while the administrator is a member of the owner's role, as PostgreSQL requires of roles that are not
// superusers and give the owner objects.
func (s *Server) asOwner(ctx context.Context, fn func() error) error {
	privilege := "MEMBER"
	if s.version >= 160000 {
		privilege = "SET"
	}
	var member bool
	err := s.conn.QueryRow(ctx, `SELECT $1::boolean OR pg_has_role(current_user, $2, $3)`,
		s.super, migrations.Owner, privilege).Scan(&member)
	if err != nil {
		return err
	}
	if member {
		return fn()
	}
	if _, err := s.conn.Exec(ctx, "GRANT "+migrations.Owner+" TO CURRENT_USER"); err != nil {
		return err
	}
	err = fn()
	_, revoked := s.conn.Exec(context.WithoutCancel(ctx), "REVOKE "+migrations.Owner+" FROM CURRENT_USER")
	return errors.Join(err, wrap("take the membership of "+migrations.Owner+" back", revoked))
}

// EnsureExtension installs pgvector: as the administrator, or as the owner where the server trusts the extension.
func (s *Server) EnsureExtension(ctx context.Context, ownerURL string) (Step, error) {
	step := Step{Name: "extension vector", State: Exists, Detail: s.vector}
	admin, err := pgx.Connect(ctx, WithDatabase(s.url, s.Target.Database))
	if err != nil {
		return step, fmt.Errorf("connect to database %s as the administrator: %w", s.Target.Database, err)
	}
	defer admin.Close(context.WithoutCancel(ctx))
	var version string
	err = admin.QueryRow(ctx, `SELECT extversion FROM pg_extension WHERE extname = 'vector'`).Scan(&version)
	sql := "CREATE EXTENSION IF NOT EXISTS vector"
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		step.State = Created
	case err != nil:
		return step, fmt.Errorf("look up extension vector: %w", err)
	default:
		var enough bool
		if err := admin.QueryRow(ctx, newEnough, version).Scan(&enough); err != nil {
			return step, fmt.Errorf("compare pgvector's version: %w", err)
		}
		if step.Detail = version; enough {
			return step, nil
		}
		step.State, sql = Changed, "ALTER EXTENSION vector UPDATE"
	}
	if _, err = admin.Exec(ctx, sql); denied(err) {
		if ownErr := run(ctx, ownerURL, sql); denied(ownErr) {
			return refused(step.Name, err, s.Target.Database, sql+";"), nil
		} else {
			err = ownErr
		}
	}
	return step, wrap("install extension vector", err)
}

// run runs one statement on a connection of its own.
func run(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// wrap adds to an error what was being done.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
