package tenantdb

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// attempts is how often a transaction is tried, firstPause what is waited before the second, doubling.
const (
	attempts   = 4
	firstPause = 20 * time.Millisecond
)

// retriable runs try until it succeeds, fails for good, or was tried often enough. try says beside its error
// whether the connection was lost before anything could have been committed.
func retriable(ctx context.Context, try func() (lost bool, err error)) error {
	for n := 0; ; n++ {
		lost, err := try()
		if err == nil || ctx.Err() != nil || n+1 == attempts || !lost && !isRolledBack(err) {
			return err
		}
		pause := firstPause << n
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// isRolledBack reports errors by which PostgreSQL says that it rolled back and that another try may succeed:
// serialization_failure and deadlock_detected.
func isRolledBack(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

// isRefused reports that the server answered and would not let us in: trying again changes nothing.
func isRefused(err error) bool {
	var pg *pgconn.PgError
	var encoding *EncodingError
	return errors.As(err, &encoding) || errors.As(err, &pg) && pg.Code != "57P03" // cannot_connect_now: it is starting
}
