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

// ReceiptCheck is what became of a receipt.
type ReceiptCheck struct {
	ledger.Receipt `json:"-"`
	Tenant         string    `json:"tenant_id"`
	Event          string    `json:"event_id"`
	Kept           bool      `json:"kept"`
	Due            bool      `json:"due"` // whether its time is up, by more than ClockSlack
	Index          int64     `json:"leaf_index,omitempty"`
	SignedAt       time.Time `json:"signed_at,omitzero"` // of the first checkpoint that covers the event
	What           string    `json:"what"`               // in words
}

// OK reports whether nothing was broken: the promise is kept, or not due yet.
func (p ReceiptCheck) OK() bool { return p.Kept || !p.Due }

// CheckReceipt finds out whether a receipt's event made it into its tenant's log in time. The key is the notary's;
// nil believes those that the database names.
// floor is below how many days no retention rule may go, as in [evidence.Judge].
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
		err := errors.New("the receipt: the database names no key of a notary")
		for i := len(keys) - 1; i >= 0; i-- {
			if p.Receipt, err = ledger.ReadReceipt(signed, keys[i]); err == nil {
				break
			}
		}
		if err != nil {
			return err
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
	// A signed checkpoint of a later time should hold it; without one, our clock counts.
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
				fmt.Sprintf("the event is not there: it was removed after %s, when it was recorded, and no lawful "+
					"act says so", p.RecordedAt.Time().Format(time.RFC3339Nano))
			p.Due = true
			return nil
		}
		deleted = "; it was deleted under retention since, and an act in the log says so"
	case err != nil:
		return err
	default:
		if p.Index, err = indexOf(ctx, tx, &s, last); errors.Is(err, logstore.ErrNotInLog) {
			p.What = fmt.Sprintf("the event is in no signed checkpoint; the promise is for %s", by.Format(time.RFC3339))
			if p.Due {
				p.What = fmt.Sprintf("the event is in no signed checkpoint, and should be since %s",
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
