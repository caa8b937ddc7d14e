package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

const (
	minServer = 150000 // PostgreSQL 15
	minVector = "0.8"
)

// Server is a connection of an administrator: a superuser, or a role that may create roles and databases.
type Server struct {
	Target  Target
	Cluster string // the system identifier; empty where it may not be read
	User    string // the administrator

	conn    *pgx.Conn
	url     string
	version int
	super   bool
	vector  string // the version of pgvector that the server has
}

// ErrUnfit means that Konstruct does not run on this server.
var ErrUnfit = errors.New("this server can't be used")

// Connect connects as the administrator and checks whether Konstruct can run on the server. A lock ensures that one
// program provisions the server at a time.
func Connect(ctx context.Context, adminURL, address, database string) (*Server, error) {
	t, err := NewTarget(adminURL, address, database)
	if err != nil {
		return nil, err
	}
	s := &Server{Target: t, url: adminURL}
	s.conn, err = pgx.Connect(ctx, adminURL)
	if code(err) == "3D000" { // the database that shall be created, most likely
		s.conn, err = pgx.Connect(ctx, WithDatabase(adminURL, "postgres"))
	}
	if err != nil {
		return nil, fmt.Errorf("connect as the administrator: %w", err)
	}
	if s.conn.Config().Database == database { // it is there already
		err = tenantdb.CheckEncoding(s.conn)
	}
	if err == nil {
		err = s.inspect(ctx, address)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends the connection.
func (s *Server) Close() { _ = s.conn.Close(context.Background()) }

func (s *Server) inspect(ctx context.Context, address string) error {
	var standby bool
	var listen string
	err := s.conn.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int, current_user::text, pg_is_in_recovery(),
		(SELECT rolsuper FROM pg_roles WHERE rolname = current_user), current_setting('listen_addresses'),
		coalesce((SELECT default_version FROM pg_available_extensions WHERE name = 'vector'), '')`).
		Scan(&s.version, &s.User, &standby, &s.super, &listen, &s.vector)
	if err != nil {
		return fmt.Errorf("ask the server what it is: %w", err)
	}
	switch {
	case s.version < minServer:
		return fmt.Errorf("%w: it is PostgreSQL %d, and 15 is the oldest that serves: upgrade it", ErrUnfit,
			s.version/10000)
	case standby:
		return fmt.Errorf("%w: it is a standby: connect to its primary", ErrUnfit)
	case s.vector == "":
		return fmt.Errorf("%w: it has no pgvector: install it on the server, then run this again "+
			"(Debian 13, Ubuntu and apt.postgresql.org: postgresql-%d-pgvector; "+
			"else github.com/pgvector/pgvector)", ErrUnfit, s.version/10000)
	}
	var enough bool
	if err := s.conn.QueryRow(ctx, newEnough, s.vector).Scan(&enough); err != nil {
		return fmt.Errorf("compare pgvector's version: %w", err)
	}
	if !enough {
		return fmt.Errorf("%w: its pgvector is %s, and %s is the oldest that serves: upgrade the server's package",
			ErrUnfit, s.vector, minVector)
	}
	// A hosted server may not show this.
	err = s.conn.QueryRow(ctx, `SELECT system_identifier::text FROM pg_control_system()`).Scan(&s.Cluster)
	if err != nil && !denied(err) {
		return fmt.Errorf("read the cluster's identifier: %w", err)
	}
	// Local connections by socket may use peer authentication, which needs an operating system account with the name of
	// the role.
	if address == "" && s.Target.socket() && listen != "" {
		s.Target.setAddress("127.0.0.1", s.Target.Port)
	}
	if _, err := s.conn.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended('konstruct init', 0))`); err != nil {
		return fmt.Errorf("wait for another konstruct init: %w", err)
	}
	return nil
}

// newEnough reports whether a version of pgvector is supported.
const newEnough = `SELECT string_to_array(regexp_replace($1::text, '[^0-9.].*', ''), '.')::int[] >=
	string_to_array('` + minVector + `', '.')::int[]`
