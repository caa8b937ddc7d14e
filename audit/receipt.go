package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
)

// Receipt returns an unsigned receipt for a written event: it will be in the log within a duration from now, by the
// database's clock. It fails with ErrNotFound if the event has no seal.
func Receipt(ctx context.Context, door *tenantdb.Door, tenant, event uuid.UUID,
	within time.Duration) (r ledger.Receipt, err error) {
	r.TenantID, r.EventID = tenant, event
	var leaf []byte
	var recorded, now time.Time
	err = door.Query(ctx, tenant,
		`SELECT leaf_hash, recorded_at, clock_timestamp() FROM audit_seals WHERE tenant_id = $1 AND event_id = $2`,
		[]any{tenant, event}, func(rows pgx.Rows) error {
			_, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
				return struct{}{}, row.Scan(&leaf, &recorded, &now)
			})
			return err
		})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err == nil && len(leaf) != len(r.Leaf) {
		err = errors.New("its seal is malformed")
	}
	if err != nil {
		return r, fmt.Errorf("audit: a receipt for event %s: %w", event, err)
	}
	copy(r.Leaf[:], leaf)
	r.RecordedAt, r.IntegrateBy = ledger.MicrosOf(recorded), ledger.MicrosOf(now.Add(within))
	return r, nil
}
