package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrLeased says that another notary is active on this database.
var ErrLeased = errors.New("another notary is active on this database")

// ErrLeaseTaken says that somebody who is no notary holds what makes a notary the active one.
var ErrLeaseTaken = errors.New("somebody who is no notary holds the notary's lease")

// Lease is one connection of the notary's that writes, and another whose open transaction holds the lock that makes its
// notary the only active one: the lock ends with that connection, however the process ends. It is a lock on
// a view that only the notary's role may update, so no other role of ours can hold it. Neither may run through a
// pooler that shares connections between transactions.
type Lease struct{ conn, lock *pgxpool.Conn }

// takeLease waits for nothing. A transaction that has only this lock has no snapshot, and keeps no vacuum back.
const takeLease = `SELECT set_config(name, '0', false) FROM pg_settings
  WHERE name IN ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout');
  BEGIN; LOCK TABLE public.audit_lease IN EXCLUSIVE MODE NOWAIT`

// Lease takes the lease, or returns ErrLeased at once.
func (e *Evidence) Lease(ctx context.Context) (*Lease, error) {
	lock, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("take the notary's lease: %w", err)
	}
	l := &Lease{lock: lock}
	if _, err := lock.Exec(ctx, takeLease); err != nil {
		l.Release()
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "55P03" { // lock_not_available
			return nil, e.leaseHolder(ctx)
		}
		return nil, fmt.Errorf("take the notary's lease: %w", err)
	}
	if l.conn, err = e.pool.Acquire(ctx); err != nil {
		l.Release()
		return nil, fmt.Errorf("take the notary's lease: %w", err)
	}
	return l, nil
}

// leaseHolder says who holds the lease: ErrLeased where it is a notary or nobody any more, else ErrLeaseTaken.
func (e *Evidence) leaseHolder(ctx context.Context) error {
	var who string
	err := e.pool.QueryRow(ctx,
		`SELECT format('server process %s of role %s', a.pid, a.usename)
		   FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		  WHERE l.relation = 'public.audit_lease'::regclass AND l.granted
		    AND NOT EXISTS (SELECT FROM pg_auth_members m
		                     WHERE m.member = a.usesysid AND m.roleid = 'konstruct_notary'::regrole)
		    AND a.usename <> 'konstruct_notary' LIMIT 1`).Scan(&who)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrLeased
	}
	if err != nil {
		return fmt.Errorf("who holds the notary's lease: %w", err)
	}
	return fmt.Errorf("%w: %s: end that transaction (pg_terminate_backend)", ErrLeaseTaken, who)
}

// Held returns an error when the connection that holds the lock is gone.
func (l *Lease) Held(ctx context.Context) error {
	if l.lock == nil {
		return nil
	}
	if err := l.lock.Ping(ctx); err != nil {
		return fmt.Errorf("the notary's lease is lost: %w", err)
	}
	return nil
}

// Unleased returns a connection that writes without holding the lease: for one-off commands, and to show that two
// notaries at once do no harm.
func (e *Evidence) Unleased(ctx context.Context) (*Lease, error) {
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the notary's connection: %w", err)
	}
	return &Lease{conn: conn}, nil
}

// releaseLimit bounds the round trip that gives the lease back.
const releaseLimit = 5 * time.Second

// Release gives the lease back and closes its connections. The server would give it back by itself, a little after it
// notices that the connection is gone.
func (l *Lease) Release() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	for _, pooled := range []*pgxpool.Conn{l.conn, l.lock} {
		if pooled == nil {
			continue
		}
		conn := pooled.Hijack()
		_, _ = conn.Exec(ctx, `ROLLBACK`)
		_ = conn.Close(ctx)
	}
}

// Nested makes a transaction join by looking up each row: a caller who reads a part of a large table in order knows
// what the planner does not, that the part is small or stored together.
const Nested = `SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; ` +
	`SET LOCAL enable_bitmapscan = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL work_mem = '32MB'; ` +
	`SET LOCAL jit = off`

// Tx runs fn in a transaction that sees one instant of all tenants' evidence, and commits when it returns nil.
func (l *Lease) Tx(ctx context.Context, fn func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, l.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, fn)
}
