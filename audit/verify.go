// Package audit is the trail: it logs events and verifies what is stored. It does not know kb.
package audit

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
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

const verifySQL = `
SELECT coalesce(e.tenant_id, s.tenant_id), coalesce(e.id, s.event_id), e.id IS NOT NULL, s.event_id IS NOT NULL,
       timestamptz_send(e.created_at), e.agent_id, e.user_id, coalesce(e.action_type, ''), e.input_summary, e.output_summary, e.latency_ms,
       coalesce(e.metadata::text, ''), coalesce(s.mode, 0), s.salt, s.commitments, s.leaf_hash, timestamptz_send(s.recorded_at)
  FROM audit_events e FULL JOIN audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id`

// Verify re-reads every stored event, of one tenant or of all when tenant is nil, recomputes every
// commitment and leaf, and calls found for each event that differs. Memory stays flat.
func Verify(ctx context.Context, db *tenantdb.Evidence, tenant *uuid.UUID, found func(Finding)) (r Report, err error) {
	sql, args := verifySQL, []any{}
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
		for rows.Next() {
			if err := verifyRow(rows, &r, found); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return r, fmt.Errorf("verify the trail: %w", err)
	}
	return r, nil
}

func verifyRow(row pgx.CollectableRow, r *Report, found func(Finding)) error {
	var e ledger.Event
	var there, sealed bool
	var mode ledger.Mode
	var created, salt, commitments, leaf, recorded []byte
	if err := row.Scan(&e.TenantID, &e.ID, &there, &sealed, &created, &e.AgentID, &e.UserID, &e.ActionType, &e.InputSummary, &e.OutputSummary,
		&e.LatencyMS, &e.Metadata, &mode, &salt, &commitments, &leaf, &recorded); err != nil {
		return err
	}
	what := ""
	switch {
	case !sealed:
		r.Extra++
		what = "has no seal"
	case !there:
		r.Missing++
		what = "was sealed and is gone"
	default:
		e.CreatedAt = ledger.Micros(binary.BigEndian.Uint64(created))
		what = difference(&e, mode, ledger.Micros(binary.BigEndian.Uint64(recorded)), salt, commitments, leaf)
		if what == "" {
			r.Events++
			return nil
		}
		r.Differ++
	}
	found(Finding{Tenant: e.TenantID, Event: e.ID, What: what})
	return nil
}

// difference names what does not match the seal; empty when all does.
func difference(e *ledger.Event, mode ledger.Mode, recorded ledger.Micros, salt, stored, leaf []byte) string {
	if len(salt) != 16 || len(stored) != ledger.Fields*32 {
		return "does not match its seal: the seal itself is malformed"
	}
	now := e.Commitments([16]byte(salt))
	for i, c := range now {
		if c != [32]byte(stored[i*32:]) {
			return fmt.Sprintf("does not match its seal: %s was changed after %s", ledger.Field(i+1), recorded.Time().Format("2006-01-02T15:04:05.999999Z07:00"))
		}
	}
	if h := ledger.LeafHash(e.Leaf(mode, recorded, now)); string(h[:]) != string(leaf) {
		return "does not match its seal: created_at, recorded_at, mode or the leaf hash was changed"
	}
	return ""
}
