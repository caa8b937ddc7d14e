package verify

import (
	"context"
	_ "embed"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

// erasureSet collects events with erased fields, to be compared with the acts that record erasures.
type erasureSet struct {
	tenants, events []uuid.UUID
	fields          []ledger.FieldSet
}

func (e *erasureSet) add(s *logstore.SealedEvent, fields ledger.FieldSet) {
	e.tenants, e.events, e.fields = append(e.tenants, s.TenantID), append(e.events, s.ID), append(e.fields, fields)
}

//go:embed sql/erasure_acts.sql
var erasureActsSQL string

// checkActs reports each event with an erased field that no erasure act names.
func (e *erasureSet) checkActs(ctx context.Context, tx pgx.Tx, found func(Finding)) error {
	if len(e.events) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, erasureActsSQL, e.tenants, e.events)
	if err != nil {
		return err
	}
	var n int64
	var acts int32
	_, err = pgx.ForEachRow(rows, []any{&n, &acts}, func() error {
		if unrecorded := e.fields[n-1] &^ ledger.FieldSet(acts); unrecorded != 0 {
			found(Finding{Tenant: e.tenants[n-1], Event: e.events[n-1],
				Problem: "lacks its " + unrecorded.String() + ", and no erasure in the trail says so"})
		}
		return nil
	})
	return err
}
