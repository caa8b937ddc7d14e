package notary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/logstore"
)

// heldAfter is how long a transaction may hold back committed events before the notary logs it.
const heldAfter = 30 * time.Second

// reportHeld measures how long committed events have waited behind an open transaction, and logs which one it is. The
// events are not lost: they enter their logs when it ends.
func (r *roundState) reportHeld(ctx context.Context, tx pgx.Tx) error {
	var recorded time.Time
	err := tx.QueryRow(ctx,
		`SELECT recorded_at FROM audit_seals WHERE epoch = $1 AND xid >= $2::text::xid8 ORDER BY epoch, xid LIMIT 1`,
		r.n.scanned.Segment/2, fmt.Sprint(r.horizon)).Scan(&recorded)
	if errors.Is(err, pgx.ErrNoRows) {
		r.n.metrics.held.Store(0)
		return nil
	}
	if err != nil {
		return err
	}
	by := r.at.Sub(recorded)
	r.n.metrics.held.Store(max(0, by.Microseconds()))
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
