// Package audit is the trail: it logs events and verifies what is stored. It does not know kb.
package audit

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Finding is one event that does not stand as it was sealed.
type Finding struct {
	Tenant uuid.UUID `json:"tenant_id"`
	Event  uuid.UUID `json:"event_id"`
	What   string    `json:"what"`
}

// Report is what a verification read.
type Report struct {
	Events  int64 `json:"events"`  // events that match their seal
	Differ  int64 `json:"differ"`  // events whose content is not what was sealed
	Missing int64 `json:"missing"` // seals whose event is gone
	Extra   int64 `json:"extra"`   // events that have no seal
}

// OK reports whether nothing was found.
func (r Report) OK() bool { return r.Differ+r.Missing+r.Extra == 0 }

const verifySQL = `SELECT ` + SealedColumns + `
  FROM audit_events e FULL JOIN audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id`

// Verify re-reads every stored event, of one tenant or of all when tenant is nil, recomputes every
// commitment and leaf, and calls found for each event that differs. Memory stays flat.
func Verify(ctx context.Context, db *tenantdb.Evidence, tenant *uuid.UUID, found func(Finding)) (r Report, err error) {
	sql, args := verifySQL, []any{Binary()}
	if tenant != nil {
		sql += ` WHERE coalesce(e.tenant_id, s.tenant_id) = $1`
		args = append(args, *tenant)
	}
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		var s Sealed
		for rows.Next() {
			if err := s.Scan(rows); err != nil {
				return err
			}
			r.take(&s, found)
		}
		return rows.Err()
	})
	if err != nil {
		return r, fmt.Errorf("verify the trail: %w", err)
	}
	return r, nil
}

// take counts an event and says what was found of it.
func (r *Report) take(s *Sealed, found func(Finding)) {
	what := s.Difference()
	switch {
	case what == "":
		r.Events++
		return
	case !s.HasSeal:
		r.Extra++
	case !s.Stored:
		r.Missing++
	default:
		r.Differ++
	}
	found(Finding{Tenant: s.TenantID, Event: s.ID, What: what})
}
