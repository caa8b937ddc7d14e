package tenantdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// IndexBuilder makes and drops indexes as the owner of the schema, who under forced row security sees no tenant's rows.
// It must not run through a pooler that shares connections between transactions.
type IndexBuilder struct{ pool *pgxpool.Pool }

// OpenIndexBuilder connects lazily to the database at the owner's url.
func OpenIndexBuilder(ctx context.Context, url string) (*IndexBuilder, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("open the owner's database: %w", err)
	}
	config.MinConns, config.MaxConns = 0, 2
	pool, err := newPool(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the owner's database: %w", err)
	}
	return &IndexBuilder{pool: pool}, nil
}

// Close closes every connection.
func (b *IndexBuilder) Close() { b.pool.Close() }

// Exclusive runs fn on a connection outside of any transaction while nobody else runs one under the same name; it
// returns false at once where somebody does. The connection is not used again, and what was set on it goes with it.
func (b *IndexBuilder) Exclusive(ctx context.Context, name string, fn func(*pgx.Conn) error) (alone bool, err error) {
	pooled, err := b.pool.Acquire(ctx)
	if err != nil {
		return false, fmt.Errorf("open the owner's database: %w", err)
	}
	conn := pooled.Hijack()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
		defer cancel()
		_ = conn.Close(ctx) // and the lock with it
	}()
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, 0))`, name).
		Scan(&alone); err != nil || !alone {
		return false, err
	}
	return true, fn(conn)
}
