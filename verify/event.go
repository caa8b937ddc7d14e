package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// EventCheck is the result of the verification of one event.
type EventCheck struct {
	Event      uuid.UUID   `json:"event_id"`
	Leaf       ledger.Hash `json:"leaf_hash"`
	RecordedAt time.Time   `json:"recorded_at,omitzero"`
	// InLog says that the leaf at Index leads to the root of the tenant's log at Size, which the notary signed: Note is
	// that checkpoint.
	InLog bool   `json:"in_log"`
	Index int64  `json:"leaf_index"`
	Size  int64  `json:"log_size"`
	Note  string `json:"checkpoint,omitempty"`
	// Waiting: the event is sealed, and not in a signed log yet, for which it has time.
	Waiting bool `json:"waiting,omitempty"`
	// Problem says what does not hold; empty where the event is as it was recorded.
	Problem string `json:"problem,omitempty"`
}

// OK reports whether the event is as it was recorded, and in the signed log.
func (c *EventCheck) OK() bool { return c.Problem == "" && c.InLog }

// Steps is how many steps CheckEvent reports.
const Steps = 4

// CheckEvent recomputes an event's leaf from what is stored, compares it with its seal, proves that the leaf is in the
// tenant's log, and verifies the signature of the log's checkpoint with the notary's keys as they are in the database.
// It returns audit.ErrNotFound if there is no such event. step, when not nil, is called after each step with what was
// done.
func CheckEvent(ctx context.Context, db *tenantdb.Evidence, tenant, event uuid.UUID,
	step func(done int, what string)) (c EventCheck, err error) {
	if step == nil {
		step = func(int, string) {}
	}
	c.Event = event
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		s, err := readSeal(ctx, tx, tenant, event)
		if err != nil {
			return err
		}
		step(1, "read the event and its seal")
		c.Leaf, c.RecordedAt = s.Leaf, s.RecordedAt.Time()
		if what := s.Difference(); what != "" {
			c.Problem = "it " + what
			return nil
		}
		step(2, "compared the event with its seal")
		head, note, err := logstore.LastSigned(ctx, tx, tenant, 0)
		var index int64
		if err == nil {
			index, err = indexOf(ctx, tx, &s, head)
		}
		if errors.Is(err, logstore.ErrNotInLog) {
			return c.notInLog(ctx, tx)
		}
		if err != nil {
			return err
		}
		r := tlog.TileHashReader(tlog.Tree{N: head.Size, Hash: tlog.Hash(head.Root)},
			logstore.NewReader(ctx, tx, tenant, head.Size))
		c.Index, c.Size, c.Note = index, head.Size, note
		p, err := tlog.ProveRecord(head.Size, index, r)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.Problem = fmt.Sprintf("the log does not lead from its leaf %d to the root at size %d: %v", index,
				head.Size, err)
			return nil
		}
		if err := tlog.CheckRecord(p, head.Size, tlog.Hash(head.Root), index, tlog.Hash(s.Leaf)); err != nil {
			c.Problem = fmt.Sprintf("its seal is not leaf %d of the log", index)
			return nil
		}
		step(3, "proved that the log has the leaf")
		if err := checkSignature(ctx, tx, tenant, head, note); err != nil {
			c.Problem = "the log's checkpoint: " + err.Error()
			return nil
		}
		c.InLog = true
		step(Steps, "verified the signature of the log's checkpoint")
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("verify event %s: %w", event, err)
	}
	return c, nil
}

// notInLog says whether an event that is not in the log may still be on its way there.
func (c *EventCheck) notInLog(ctx context.Context, tx pgx.Tx) error {
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	if late := now.Sub(c.RecordedAt) - ledger.IntegrateWithin; late > 0 {
		c.Problem = fmt.Sprintf("it is not in the signed log, %s after it should be", late.Round(time.Second))
		return nil
	}
	c.Waiting = true
	return nil
}

// checkSignature verifies a head's checkpoint with a key that was not retired at that point.
func checkSignature(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, head logstore.Head, note string) error {
	keys, err := logstore.ReadKeys(ctx, tx)
	if err != nil {
		return fmt.Errorf("read the notary's keys: %w", err)
	}
	err = errors.New("it is signed, and the database has no key for it")
	for _, k := range slices.Backward(logstore.NotRetired(keys, head.Anchor)) {
		if tenant != logstore.Operator {
			k.Key = k.OfTenant(tenant)
		}
		signed, openErr := ledger.OpenCheckpoint(note, k.Key)
		if openErr == nil && (signed.Size != head.Size || signed.Root != head.Root) {
			return errors.New("it is of another size or root than the log's head")
		}
		if openErr == nil {
			return nil
		}
		err = openErr
	}
	return err
}
