package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// ReceiptCheck is the result of verifying a receipt against the log.
type ReceiptCheck struct {
	ledger.Receipt `json:"-"`
	Tenant         string    `json:"tenant_id"`
	Event          string    `json:"event_id"`
	Kept           bool      `json:"kept"`
	Due            bool      `json:"due"` // whether the promised time has passed, by more than ClockSlack
	Index          int64     `json:"leaf_index,omitempty"`
	SignedAt       time.Time `json:"signed_at,omitzero"` // of the first checkpoint that covers the event
	What           string    `json:"what"`               // the result in words
}

// OK reports whether the promise is kept, or not due yet.
func (p ReceiptCheck) OK() bool { return p.Kept || !p.Due }

// ReceiptError means that the receipt itself is not valid, not that it could not be checked.
type ReceiptError struct{ err error }

// Error implements error.
func (e *ReceiptError) Error() string { return e.err.Error() }

// Unwrap returns the reason.
func (e *ReceiptError) Unwrap() error { return e.err }

// CheckReceipt verifies that a receipt's event entered its tenant's log in time. key is the notary's; nil trusts those
// in the database. floor is the least retention period in days, as in [evidence.ComplianceJudge].
// The error for a receipt that is not valid is a ReceiptError.
func CheckReceipt(ctx context.Context, db *tenantdb.Evidence, signed string, key *ledger.Key,
	floor int) (p ReceiptCheck, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		keys := []ledger.Key{}
		if key != nil {
			keys = append(keys, *key)
		} else {
			all, err := logstore.ReadKeys(ctx, tx)
			if err != nil {
				return err
			}
			for _, k := range all {
				keys = append(keys, k.Key)
			}
		}
		err := errors.New("the receipt: the database has no key of a notary")
		for i := len(keys) - 1; i >= 0; i-- {
			if p.Receipt, err = ledger.ReadReceipt(signed, keys[i]); err == nil {
				break
			}
		}
		if err != nil {
			return &ReceiptError{err}
		}
		return p.check(ctx, tx, floor)
	})
	return p, err
}

func (p *ReceiptCheck) check(ctx context.Context, tx pgx.Tx, floor int) error {
	p.Tenant, p.Event = ledger.FormatID(p.TenantID), ledger.FormatID(p.EventID)
	by := p.IntegrateBy.Time()
	last, _, err := logstore.LastSigned(ctx, tx, p.TenantID, 0)
	if err != nil && !errors.Is(err, logstore.ErrNotInLog) {
		return err
	}
	// A signed checkpoint of a later time must cover it; without one, this machine's clock decides.
	p.Due = err == nil && last.At.After(by) || time.Since(by) > logstore.ClockSlack
	deleted := ""
	switch s, err := readSeal(ctx, tx, p.TenantID, p.EventID); {
	case errors.Is(err, audit.ErrNotFound):
		var found bool
		if p.Index, found, err = deletedLeaf(ctx, tx, p.TenantID, p.EventID, last, floor); err != nil {
			return err
		}
		if !found {
			p.What =
				fmt.Sprintf("the event is missing: it was removed after %s, when it was recorded, and no lawful "+
					"act records it", p.RecordedAt.Time().Format(time.RFC3339Nano))
			p.Due = true
			return nil
		}
		deleted = "; it was deleted under retention since, as an act in the log records"
	case err != nil:
		return err
	default:
		if p.Index, err = indexOf(ctx, tx, &s, last); errors.Is(err, logstore.ErrNotInLog) {
			p.What = fmt.Sprintf("the event is in no signed checkpoint; the promise is for %s", by.Format(time.RFC3339))
			if p.Due {
				p.What = fmt.Sprintf("the event is in no signed checkpoint, and should have been by %s",
					by.Format(time.RFC3339))
			}
			return nil
		} else if err != nil {
			return err
		}
	}
	r := logstore.NewReader(ctx, tx, p.TenantID, last.Size)
	leaf, err := logstore.ProvenLeaf(r, last, p.Index)
	if err != nil {
		return err
	}
	first, _, err := logstore.HeadCovering(ctx, tx, p.TenantID, p.Index)
	if err != nil {
		return err
	}
	p.SignedAt = first.At.UTC()
	switch {
	case leaf != p.Leaf:
		p.Due, p.What = true,
			fmt.Sprintf("leaf %d of the log has another hash than the receipt promised: the event was changed after %s",
				p.Index, p.RecordedAt.Time().Format(time.RFC3339Nano))
	case p.SignedAt.After(by):
		p.Due, p.What = true, fmt.Sprintf("the event is leaf %d of the log, but late: signed at %s, promised for %s",
			p.Index, p.SignedAt.Format(time.RFC3339), by.Format(time.RFC3339))
	default:
		p.Kept, p.What = true, fmt.Sprintf("the event is leaf %d of the log, signed at %s, promised for %s%s", p.Index,
			p.SignedAt.Format(time.RFC3339), by.Format(time.RFC3339), deleted)
	}
	return nil
}
