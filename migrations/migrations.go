// Package migrations has the schema as SQL, one file for each subject, and migrates a database to it. A database at the
// seed's revision is adopted in place. The package knows the owner's role; it must not know what the rows mean to the
// library.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib" // goose speaks database/sql
	"github.com/pressly/goose/v3"

	"github.com/konstruct/konstruct/tenantdb"
)

//go:embed *.sql
var files embed.FS

//go:embed superuser/guard.sql
var guardSQL string

//go:embed superuser/finder.sql
var finderSQL string

// sealBatch is how many adopted events one transaction seals at most.
const sealBatch = 5000

// Progress is called with the number of adopted events sealed so far and their total.
type Progress func(sealed, total int64)

// ErrNewer is returned if a newer program has migrated the database.
var ErrNewer = errors.New("the schema is newer than this program: install the newer konstruct")

// Schema is a connection to a database as the owner of its schema.
type Schema struct {
	db *sql.DB
	p  *goose.Provider
}

// Open connects to the database at the owner's URL and reads the migrations.
func Open(ownerURL string) (*Schema, error) {
	config, err := pgx.ParseConfig(ownerURL)
	if err != nil {
		return nil, fmt.Errorf("open the owner's database: %w", err)
	}
	config.RuntimeParams["konstruct.allow_ddl"] = "on" // the guard's switch; see superuser/guard.sql
	db := stdlib.OpenDB(*config)
	p, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", errors.Join(err, db.Close()))
	}
	return &Schema{db, p}, nil
}

// Close closes the connection.
func (s *Schema) Close() error { return s.db.Close() }

// Up migrates the database at the owner's URL to the newest version, like Schema.Up.
func Up(ctx context.Context, ownerURL string, progress Progress) error {
	s, err := Open(ownerURL)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Up(ctx, progress)
	return err
}

// Up migrates the database to the newest version, returns how many migrations it applied, and seals events that were
// written before the database had seals. It can be killed at any point and run again.
func (s *Schema) Up(ctx context.Context, progress Progress) (int, error) {
	if err := s.notNewer(ctx); err != nil {
		return 0, err
	}
	done, err := s.p.Up(ctx)
	if err != nil {
		return len(done), fmt.Errorf("migrate: %w", err)
	}
	return len(done), sealAdopted(ctx, s.db, progress)
}

// UpOne applies only the next migration, and reports whether there was one. It is for tests between two migrations.
func (s *Schema) UpOne(ctx context.Context) (bool, error) {
	_, err := s.p.UpByOne(ctx)
	if errors.Is(err, goose.ErrNoNextVersion) {
		return false, nil
	}
	return err == nil, err
}

func (s *Schema) notNewer(ctx context.Context) error {
	at, err := s.p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if at > tenantdb.Schema {
		return fmt.Errorf("%w (it stands at %d, this program speaks %d)", ErrNewer, at, tenantdb.Schema)
	}
	return nil
}

// Down reverts the newest migration and returns its file name; empty if none is left. From version 3 on it drops what
// the migration created, including evidence and the knowledge base. Version 1 drops the seed's own tables.
func (s *Schema) Down(ctx context.Context) (string, error) {
	r, err := s.p.Down(ctx)
	if errors.Is(err, goose.ErrNoNextVersion) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("migrate down: %w", err)
	}
	return path.Base(r.Source.Path), nil
}

// Step is a migration with the time when it was applied; zero if it was not.
type Step struct {
	Version int64     `json:"version"`
	Name    string    `json:"name"`
	Applied time.Time `json:"applied,omitzero"`
}

// Status lists all migrations in order.
func (s *Schema) Status(ctx context.Context) ([]Step, error) {
	status, err := s.p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the migrations' status: %w", err)
	}
	steps := make([]Step, len(status))
	for i, st := range status {
		steps[i] = Step{Version: st.Source.Version, Name: path.Base(st.Source.Path), Applied: st.AppliedAt}
	}
	return steps, nil
}

// Guard installs the event triggers that refuse DDL on the audit trail. The URL must be a superuser's: PostgreSQL lets
// no other role create event triggers.
func Guard(ctx context.Context, superuserURL string) error {
	conn, err := pgx.Connect(ctx, superuserURL)
	if err != nil {
		return fmt.Errorf("install the guard: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, GuardScript()); err != nil {
		return fmt.Errorf("install the guard: %w", err)
	}
	return nil
}

func sealAdopted(ctx context.Context, db *sql.DB, progress Progress) error {
	rows, err := db.QueryContext(ctx,
		`SELECT tenant_id::text FROM audit_adoptions WHERE finished_at IS NULL ORDER BY tenant_id`)
	if err != nil {
		return fmt.Errorf("list tenants to adopt: %w", err)
	}
	defer rows.Close()
	var tenants []string
	for rows.Next() {
		var t string
		if err := rows.Scan(&t); err != nil {
			return err
		}
		tenants = append(tenants, t)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	var sealed, total int64
	for _, t := range tenants {
		n, err := unsealed(ctx, db, t)
		if err != nil {
			return fmt.Errorf("count events of tenant %s to seal: %w", t, err)
		}
		total += n
	}
	for _, t := range tenants {
		for n := 1; n > 0; {
			if n, err = sealSome(ctx, db, t); err != nil {
				return fmt.Errorf("seal adopted events of tenant %s: %w", t, err)
			}
			sealed += int64(n)
			progress(sealed, max(sealed, total))
		}
	}
	return nil
}

// asTenant runs fn in a transaction with a tenant set: under forced row-level security the owner sees no rows without.
func asTenant(ctx context.Context, db *sql.DB, tenant string, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `SELECT set_config('app.current_tenant', $1, true)`, tenant); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func unsealed(ctx context.Context, db *sql.DB, tenant string) (n int64, err error) {
	err = asTenant(ctx, db, tenant, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx,
			`SELECT (SELECT count(*) FROM audit_events WHERE tenant_id = $1) - (SELECT count(*) FROM audit_seals
			WHERE tenant_id = $1)`, tenant).Scan(&n)
	})
	return n, err
}

func sealSome(ctx context.Context, db *sql.DB, tenant string) (n int, err error) {
	err = asTenant(ctx, db, tenant, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT audit_seal_adopted($1, $2)`, tenant, sealBatch).Scan(&n)
	})
	return n, err
}
