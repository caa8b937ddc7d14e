// Package tenantdb is the only way to SQL: a door that opens one tenant's transaction. It knows
// roles, policies and the self-check; it knows nothing of events or chunks.
package tenantdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNoTenant says that a call named the zero UUID as its tenant.
var ErrNoTenant = errors.New("tenant: the zero UUID is no tenant")

// ErrNested means that a transaction was opened inside another one.
var ErrNested = errors.New("tenant: a transaction is open already: use the one you have")

// Door opens transactions for one tenant at a time, as konstruct_app.
type Door struct {
	pool   *pgxpool.Pool
	strict bool // see GrantLabels

	mu    sync.Mutex
	check func(context.Context) error // what must pass before anything is let through; nil: nothing
}

// Open connects lazily to the database at url.
func Open(ctx context.Context, url string) (*Door, error) {
	pool, err := openPool(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return &Door{pool: pool}, nil
}

// Close closes every connection, waiting for those in use.
func (d *Door) Close() { d.pool.Close() }

// Require lets nothing through the door until check has passed once: for a program that starts while its
// database is unavailable. Whoever comes first runs it.
func (d *Door) Require(check func(context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.check = check
}

// acquire takes a connection from the pool; lost says that another try may get one.
func (d *Door) acquire(ctx context.Context) (conn *pgxpool.Conn, lost bool, err error) {
	d.mu.Lock()
	check := d.check
	d.mu.Unlock()
	if check != nil {
		if err := check(ctx); err != nil {
			return nil, false, err
		}
		d.Require(nil)
	}
	conn, err = d.pool.Acquire(ctx)
	return conn, err != nil && !isRefused(err), err
}

// Ping asks whether the database answers.
func (d *Door) Ping(ctx context.Context) error {
	conn, _, err := d.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return conn.Ping(ctx)
}

// Unreachable reports whether an error says that the database could not be asked, rather than what it answered.
func Unreachable(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) && !isRefused(err)
}

type nestedKey struct{}

// Tx runs fn in a transaction that sees tenant's rows and no others, and commits when fn returns nil.
// The context given to fn is marked, so that another door call inside is refused. After a serialization
// failure, a deadlock, or a connection lost before COMMIT was sent, fn runs again in a new transaction;
// what may have been committed is never tried again.
func (d *Door) Tx(ctx context.Context, tenant uuid.UUID, fn func(context.Context, pgx.Tx) error) error {
	if err := CanOpen(ctx, tenant); err != nil {
		return err
	}
	return retriable(ctx, func() (bool, error) { return d.once(ctx, tenant, fn) })
}

// CanOpen returns the error that every call with this context and tenant gets before any SQL: ErrNoTenant,
// ErrNested, or nil.
func CanOpen(ctx context.Context, tenant uuid.UUID) error {
	if tenant == uuid.Nil {
		return ErrNoTenant
	}
	if ctx.Value(nestedKey{}) != nil {
		return ErrNested
	}
	return nil
}

// once runs fn in one transaction; lost says that the connection went away before COMMIT was sent.
func (d *Door) once(ctx context.Context, tenant uuid.UUID,
	fn func(context.Context, pgx.Tx) error) (lost bool, err error) {
	conn, lost, err := d.acquire(ctx)
	if err != nil {
		return lost, err
	}
	defer conn.Release()
	// SET LOCAL and not set_config: it ends with the transaction and reaches Citus workers. A UUID's
	// canonical form needs no quoting.
	sees := d.CanSee(ctx)
	tx, err := conn.BeginTx(ctx,
		pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL app.current_tenant = '" + tenant.String() + "'; " + sees.set()})
	if err != nil {
		return conn.Conn().IsClosed(), err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit)
		defer cancel()
		_ = tx.Rollback(ctx) // after a commit it does nothing
	}()
	inside := context.WithValue(context.WithValue(ctx, nestedKey{}, tenant), labelsKey{}, sees)
	if err := fn(inside, tx); err != nil {
		return conn.Conn().IsClosed(), err
	}
	return false, tx.Commit(ctx)
}

// Evidence reads every tenant's events and seals, as konstruct_notary, and writes nothing.
type Evidence struct{ pool *pgxpool.Pool }

// evidenceBuffer is how much is read of a connection at once.
const evidenceBuffer = 128 << 10

// notaryConns is how many connections a notary needs at least: two for its lease, those that verify, and those that
// witnesses' answers are written with.
const notaryConns = 8

// OpenEvidence connects lazily to the database at the notary's url.
func OpenEvidence(ctx context.Context, url string) (*Evidence, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("open the notary's database: %w", err)
	}
	// Who verifies reads whole tables: a call to the system for each 8 kB costs a twentieth of that.
	config.ConnConfig.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, evidenceBuffer), w)
	}
	config.MaxConns = max(config.MaxConns, notaryConns)
	pool, err := newPool(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the notary's database: %w", err)
	}
	return &Evidence{pool: pool}, nil
}

// Close closes every connection.
func (e *Evidence) Close() { e.pool.Close() }

// Snapshot runs fn in a read-only transaction that sees one instant of all tenants' evidence.
func (e *Evidence) Snapshot(ctx context.Context, fn func(pgx.Tx) error) error {
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, e.pool, opts, fn)
}

// Snapshots is Snapshot for work that is shared out: n read-only transactions that all see the same instant.
func (e *Evidence) Snapshots(ctx context.Context, n int, fn func([]pgx.Tx) error) error {
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, e.pool, opts, func(first pgx.Tx) error {
		var instant string
		if err := first.QueryRow(ctx, `SELECT pg_export_snapshot()`).Scan(&instant); err != nil {
			return err
		}
		all := []pgx.Tx{first}
		defer func() {
			for _, tx := range all[1:] {
				_ = tx.Rollback(context.WithoutCancel(ctx))
			}
		}()
		for len(all) < n {
			tx, err := e.pool.BeginTx(ctx, opts)
			if err != nil {
				return err
			}
			all = append(all, tx)
			if _, err := tx.Exec(ctx, `SET TRANSACTION SNAPSHOT '`+instant+`'`); err != nil {
				// as PostgreSQL wrote it: hex and dashes
				return err
			}
		}
		return fn(all)
	})
}
