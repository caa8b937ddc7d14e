package audit

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
)

// erasureSet are events of which fields are erased, to be verified against the acts that should say so.
type erasureSet struct {
	tenants, events []uuid.UUID
	fields          []ledger.FieldSet
}

func (e *erasureSet) add(s *SealedEvent, fields ledger.FieldSet) {
	e.tenants, e.events, e.fields = append(e.tenants, s.TenantID), append(e.events, s.ID), append(e.fields, fields)
}

// An act is an event that names the event and the field; that it is sealed itself, the reading of all rows shows.
const complianceActsSQL = `SELECT k.n, coalesce(bit_or(1 << (x.field - 1)) FILTER (WHERE a.id IS NOT NULL), 0)
  FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY k (tenant, id, n) LEFT JOIN audit_erasures x ON x.tenant_id = k.tenant AND x.event_id = k.id
  LEFT JOIN audit_events a ON a.tenant_id = x.tenant_id AND a.id = x.record_id AND a.action_type = 'erasure' AND a.metadata @> jsonb_build_object('events', jsonb_build_array(x.event_id),
    'fields', jsonb_build_array(('{agent_id,user_id,action_type,input_summary,output_summary,latency_ms,metadata}'::text[])[x.field]))
 GROUP BY k.n`

// contains tells of each event of which a field is erased that no act names.
func (e *erasureSet) contains(ctx context.Context, tx pgx.Tx, found func(Finding)) error {
	if len(e.events) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, complianceActsSQL, e.tenants, e.events)
	if err != nil {
		return err
	}
	var n int64
	var acts int32
	_, err = pgx.ForEachRow(rows, []any{&n, &acts}, func() error {
		if unlawful := e.fields[n-1] &^ ledger.FieldSet(acts); unlawful != 0 {
			found(Finding{Tenant: e.tenants[n-1], Event: e.events[n-1],
				Problem: "lacks its " + unlawful.String() + ", and no erasure in the trail says so"})
		}
		return nil
	})
	return err
}
