package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// leaseKey is the advisory lock of a database's active notary.
const leaseKey = 0x6b6f6e73_6e6f7472 // "konsnotr"

// ErrLeased says that another notary is active on this database.
var ErrLeased = errors.New("another notary is active on this database")

// Lease is one connection of the notary's that writes. Held, it makes its notary the only active one: the
// lock is the connection's and goes with it, whatever becomes of the process. It must not run through a pooler that
// shares connections between transactions.
type Lease struct{ conn *pgxpool.Conn }

// Lease takes the lease, or returns ErrLeased at once.
func (e *Evidence) Lease(ctx context.Context) (*Lease, error) {
	l, err := e.Unleased(ctx)
	if err != nil {
		return nil, err
	}
	var got bool
	if err := l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(leaseKey)).Scan(&got); err != nil {
		l.Release()
		return nil, fmt.Errorf("take the notary's lease: %w", err)
	}
	if !got {
		l.Release()
		return nil, ErrLeased
	}
	return l, nil
}

// Unleased returns a connection that writes without holding the lease: for one-off commands, and to show that two
// notaries at once do no harm.
func (e *Evidence) Unleased(ctx context.Context) (*Lease, error) {
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("take the notary's lease: %w", err)
	}
	return &Lease{conn}, nil
}

// releaseLimit bounds the round trip that gives the lease back.
const releaseLimit = 5 * time.Second

// Release gives the lease back and closes its connection. The server would give it back by itself, a little after it notices that the connection is gone.
func (l *Lease) Release() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	conn := l.conn.Hijack()
	_, _ = conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	_ = conn.Close(ctx)
}

// Nested makes a transaction join by looking each row up: whoever reads a part of a large table in order knows what the
// planner does not, that the part is small or that it lies together.
const Nested = `SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL work_mem = '32MB'; SET LOCAL jit = off`

// Tx runs fn in a transaction that sees one instant of all tenants' evidence, and commits when it returns nil.
func (l *Lease) Tx(ctx context.Context, fn func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, l.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, fn)
}
