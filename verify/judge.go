package verify

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/logstore"
)

// actsWhere must equal the condition of the partial index over acts.
const actsWhere = `action_type IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule',
	'compliance_request', 'compliance_declined')`

// judge verifies a tenant's acts against its log, and returns the unlawful ones.
func judge(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, floor int) ([]evidence.Ruling, error) {
	rows, err := tx.Query(ctx,
		`SELECT e.id::text, s.recorded_at, coalesce(e.user_id, ''), e.action_type, coalesce(e.input_summary, ''),
		  e.metadata::text FROM audit_events e
	    JOIN audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id
	   WHERE e.tenant_id = $1 AND e.`+actsWhere+` ORDER BY s.epoch, s.xid, s.event_id`, tenant)
	if err != nil {
		return nil, err
	}
	var found []evidence.Ruling
	var acts []*evidence.Act
	var id, by, action, reason, metadata string
	var at time.Time
	if _, err := pgx.ForEachRow(rows, []any{&id, &at, &by, &action, &reason, &metadata}, func() error {
		a, err := evidence.NewAct(id, at.UTC(), by, action, reason, []byte(metadata))
		if err != nil {
			found = append(found,
				evidence.Ruling{Event: id, Verdict: "records an act that can't be parsed: " + err.Error()})
			return nil
		}
		acts = append(acts, a)
		return nil
	}); err != nil || len(acts) == 0 {
		return found, err
	}
	var failed error
	j := evidence.ComplianceJudge{Floor: floor, Signed: func(leaf int64) (time.Time, error) {
		h, _, err := logstore.HeadCovering(ctx, tx, tenant, leaf)
		if err != nil {
			if failed == nil && !errors.Is(err, logstore.ErrNotInLog) {
				failed = err
			}
			return time.Time{}, errors.New("no signed checkpoint covers it")
		}
		return h.At, nil
	}}
	found = append(found, j.Rule(acts)...)
	return found, failed
}
