package evidence

import (
	"time"

	"github.com/konstruct/konstruct/ledger"
)

// receiptPromise is a receipt, and whether the bundle has its leaf (kept) or another leaf for its event (other).
type receiptPromise struct {
	ledger.Receipt
	kept, other bool
}

// receipt compares a leaf with its receipt, if there is one.
func (c *bundleCheck) receipt(r *ledger.Record, hash ledger.Hash) {
	if c.promises == nil {
		c.openReceipts()
	}
	for _, p := range c.promises[r.ID] {
		p.kept, p.other = hash == p.Leaf, hash != p.Leaf
	}
}

func (c *bundleCheck) openReceipts() {
	c.promises = map[[16]byte][]*receiptPromise{}
	for _, signed := range c.t.Receipts {
		var r ledger.Receipt
		var err error
		for i := len(c.keys) - 1; i >= 0; i-- {
			if r, err = ledger.ReadReceipt(signed, c.keys[i]); err == nil {
				break
			}
		}
		switch {
		case err != nil:
			c.problem("", "receipt", "%v", err)
		case r.TenantID != c.tenant:
			c.problem(ledger.FormatID(r.EventID), "receipt", "it is of tenant %s, and the bundle of %s",
				ledger.FormatID(r.TenantID), c.Tenant)
		default:
			p := &receiptPromise{Receipt: r}
			c.promises[r.EventID], c.order = append(c.promises[r.EventID], p), append(c.order, p)
		}
	}
}

// receipts reports for each receipt whether the bundle keeps its promise.
func (c *bundleCheck) receipts() {
	if c.promises == nil {
		c.openReceipts()
	}
	for _, p := range c.order {
		id, by := ledger.FormatID(p.EventID), p.IntegrateBy.Time()
		switch {
		case p.kept:
			c.Holds = append(c.Holds, "the receipt for event "+id+" is kept: it stands in the log as it was promised")
		case p.other:
			c.problem(id, "receipt",
				"stands in the log with another hash than its receipt promised: it was changed after %s",
				p.RecordedAt.Time().Format(time.RFC3339Nano))
		case c.m.From != nil && p.RecordedAt < c.m.From.At:
			c.problem(id, "receipt", "was recorded before the range of this bundle: ask for one that covers %s",
				p.RecordedAt.Time().Format(time.RFC3339))
		case c.m.To.At < p.IntegrateBy:
			c.problem(id, "receipt",
				"is not in the range, and need not be yet: the promise is for %s, and the range ends at %s",
				by.Format(time.RFC3339), c.To.Format(time.RFC3339))
		default:
			c.problem(id, "receipt",
				"was left out: its receipt promised that it would stand in the log by %s, and it does not",
				by.Format(time.RFC3339))
		}
	}
}
