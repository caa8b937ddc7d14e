package logstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
)

// ErrOverdue means that sealed events are not in the log within the promised time.
var ErrOverdue = errors.New("sealed events are not in the log within the promised time")

// Waiting counts sealed events that are in no log yet: all of them, of any epoch and for any reason.
type Waiting struct {
	Events  int64     `json:"events"`                 // at most a million are counted
	Since   time.Time `json:"since,omitzero"`         // when the oldest of them was recorded
	Overdue int64     `json:"overdue"`                // of them, those past their promised time
	Unknown int64     `json:"unknown_epoch"`          // of them, those that claim an epoch which the notary never began
	Reason  string    `json:"why,omitempty"`          // what delays them, if known
	Epoch   int16     `json:"claimed_epoch,omitzero"` // an epoch that the unknown ones claim
}

// OK reports whether no event is overdue, and all can enter the log.
func (w *Waiting) OK() bool { return w.Overdue == 0 && w.Unknown == 0 }

// String describes how many events wait, since when, and why.
func (w *Waiting) String() string {
	if w.Events == 0 {
		return "0 events"
	}
	s := plural.Of(w.Events, "event", "events")
	if !w.OK() {
		s = fmt.Sprintf("%s in no log, the oldest since %s",
			plural.Of(w.Events, "sealed event is", "sealed events are"), w.Since.UTC().Format(time.RFC3339))
	}
	if w.Overdue > 0 {
		s += fmt.Sprintf("; %d should be by now", w.Overdue)
	}
	if w.Reason != "" {
		s += ": " + w.Reason
	}
	return s
}

// Err returns ErrOverdue with the description, or nil.
func (w *Waiting) Err() error {
	if w.OK() {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrOverdue, w)
}

// waitingLimit is the largest number of events counted.
const waitingLimit = 1_000_000

//go:embed sql/waiting.sql
var waitingSQL string

// CountWaiting counts the seals after a position, of one tenant or of all (nil). within is the promised time.
func CountWaiting(ctx context.Context, tx pgx.Tx, scanned Position, tenant *uuid.UUID,
	within time.Duration) (w Waiting, err error) {
	known, err := knownEpoch(ctx, tx)
	if err != nil {
		return w, err
	}
	var since, unknownSince *time.Time
	var unknownOverdue int64
	if err := tx.QueryRow(ctx, waitingSQL, scanned.Segment/2, fmt.Sprint(scanned.XID), scanned.ID, known, tenant,
		within, waitingLimit).
		Scan(&w.Events, &since, &w.Overdue, &w.Unknown, &unknownSince, &unknownOverdue, &w.Epoch); err != nil {
		return w, fmt.Errorf("count waiting events: %w", err)
	}
	for _, t := range []*time.Time{since, unknownSince} {
		if t != nil && (w.Since.IsZero() || t.Before(w.Since)) {
			w.Since = t.UTC()
		}
	}
	w.Events, w.Overdue = w.Events+w.Unknown, w.Overdue+unknownOverdue
	switch {
	case w.Unknown > 0:
		w.Reason = fmt.Sprintf("%d claim epoch %d, and the notary's is %d: they were forged, or the default of "+
			"audit_seals.epoch was changed by hand", w.Unknown, w.Epoch, known)
	case w.Overdue > 0:
		w.Reason, err = waitingReason(ctx, tx, scanned, known)
	}
	return w, err
}

// knownEpoch returns the epoch that the notary began last, or without one the database's current epoch.
func knownEpoch(ctx context.Context, tx pgx.Tx) (epoch int16, err error) {
	err = tx.QueryRow(ctx,
		`SELECT coalesce((SELECT max(epoch) FROM audit_epochs WHERE tenant_id = $1), audit_epoch_now())`, Operator).
		Scan(&epoch)
	if err != nil {
		return 0, fmt.Errorf("read the current epoch: %w", err)
	}
	return epoch, nil
}

// waitingReason returns why seals of a known epoch wait: an open transaction, or no running notary.
func waitingReason(ctx context.Context, tx pgx.Tx, scanned Position, known int16) (string, error) {
	var held bool
	if err := tx.QueryRow(ctx, `SELECT coalesce((SELECT xid >= pg_snapshot_xmin(pg_current_snapshot())
	   FROM audit_seals
	  WHERE (epoch, xid) >= ($1, $2::text::xid8) AND (epoch, xid, event_id) > ($1, $2::text::xid8, $3) AND epoch <= $4
	  ORDER BY epoch, xid LIMIT 1), false)`,
		scanned.Segment/2, fmt.Sprint(scanned.XID), scanned.ID, known).Scan(&held); err != nil {
		return "", fmt.Errorf("why events wait: %w", err)
	}
	if held {
		who, err := FindBlocker(ctx, tx)
		return "they wait behind a transaction that does not end: " + who, err
	}
	return "no notary has sequenced them: start konstruct notary run", nil
}

// CountAllWaiting counts sealed events that are in no log, of all tenants.
func CountAllWaiting(ctx context.Context, db *tenantdb.Evidence) (w Waiting, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		head, err := LastHead(ctx, tx, Operator)
		if err := IgnoreNoRows(err); err != nil {
			return fmt.Errorf("read the super-log: %w", err)
		}
		w, err = CountWaiting(ctx, tx, head.Last, nil, ledger.IntegrateWithin)
		return err
	})
	return w, err
}

//go:embed sql/blocker.sql
var blockerSQL string

// FindBlocker describes the oldest open transaction.
func FindBlocker(ctx context.Context, tx pgx.Tx) (who string, err error) {
	err = tx.QueryRow(ctx, blockerSQL).Scan(&who)
	return who, err
}
