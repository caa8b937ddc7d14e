package notary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/logstore"
)

// heldAfter is for how long a transaction may hold committed events back before it is said.
const heldAfter = 30 * time.Second

// held notes for how long committed events have been waiting behind a transaction that has not ended, and
// says which one that is. They are not lost: they enter their logs when it ends.
func (r *roundState) held(ctx context.Context, tx pgx.Tx) error {
	var recorded time.Time
	err := tx.QueryRow(ctx,
		`SELECT recorded_at FROM audit_seals WHERE epoch = $1 AND xid >= $2::text::xid8 ORDER BY epoch, xid LIMIT 1`,
		r.n.scanned.Segment/2, fmt.Sprint(r.horizon)).Scan(&recorded)
	if errors.Is(err, pgx.ErrNoRows) {
		r.n.figures.held.Store(0)
		return nil
	}
	if err != nil {
		return err
	}
	by := r.at.Sub(recorded)
	r.n.figures.held.Store(max(0, by.Microseconds()))
	if by < heldAfter || r.at.Sub(r.n.heldLogged) < heldAfter {
		return nil
	}
	r.n.heldLogged = r.at
	who, err := logstore.FindBlocker(ctx, tx)
	if err != nil {
		return err
	}
	r.n.c.Logger.Warn("notary: committed events wait behind a transaction that does not end", "for",
		by.Round(time.Second), "transaction", who)
	return nil
}
