package notary

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// States of the anchor, compared with the database.
const (
	AnchorAgrees  = "agrees"
	AnchorAhead   = "ahead"   // the database was rolled back
	AnchorDiffers = "differs" // history was rewritten, or the anchor is another log's
	AnchorMissing = "missing" // a checkpoint was signed, and the anchor is empty
	AnchorEmpty   = "empty"   // and nothing was signed yet
)

// Status is a notary's state as stored, with whatever prevents it from working.
type Status struct {
	Cluster   int64            `json:"cluster,string"`        // system identifier of this cluster
	Before    int64            `json:"cluster_before,string"` // and of the current epoch's cluster
	Epoch     int16            `json:"epoch"`
	Moved     bool             `json:"moved"`
	Anchor    string           `json:"anchor"`
	Reason    string           `json:"why,omitempty"`
	Size      int64            `json:"super_log_size"`
	Signed    int64            `json:"signed_size"` // of the super-log, in the database
	SignedAt  time.Time        `json:"signed_at,omitzero"`
	Waiting   logstore.Waiting `json:"waiting"`
	Witnesses int64            `json:"witnessed_size"`
}

// Ready reports whether the notary may sign.
func (s Status) Ready() bool {
	return !s.Moved && (s.Anchor == AnchorAgrees || s.Anchor == AnchorEmpty)
}

// ReadStatus reads the notary's status and changes nothing.
func ReadStatus(ctx context.Context, db *tenantdb.Evidence, o Anchor) (s Status, err error) {
	anchored, _, err := o.Load(ctx) // before the database is read, which then can't be behind the anchor
	if err != nil {
		return s, fmt.Errorf("read the anchor (%s): %w", o, err)
	}
	err = db.Snapshot(ctx, func(tx pgx.Tx) error { s, err = readStatus(ctx, tx, o, anchored); return err })
	return s, err
}

//go:embed sql/status.sql
var statusSQL string

func readStatus(ctx context.Context, tx pgx.Tx, o Anchor, anchored string) (s Status, err error) {
	if err := tx.QueryRow(ctx, statusSQL, logstore.Operator).
		Scan(&s.Cluster, &s.Before, &s.Epoch, &s.Signed, &s.Witnesses); err != nil {
		return s, fmt.Errorf("read the notary's state: %w", err)
	}
	s.Moved = s.Cluster != s.Before
	head, err := logstore.LastHead(ctx, tx, logstore.Operator)
	if err := logstore.IgnoreNoRows(err); err != nil {
		return s, fmt.Errorf("read the super-log: %w", err)
	}
	s.Size, s.SignedAt = head.Size, head.At
	if s.Waiting, err = logstore.CountWaiting(ctx, tx, head.Last, nil, ledger.IntegrateWithin); err != nil {
		return s, err
	}
	return s, s.readAnchor(ctx, tx, o, anchored, head)
}

func (s *Status) readAnchor(ctx context.Context, tx pgx.Tx, o Anchor, anchored string, head logstore.Head) error {
	switch {
	case anchored == "" && s.Signed == 0:
		s.Anchor = AnchorEmpty
		return nil
	case anchored == "":
		s.Anchor, s.Reason = AnchorMissing, fmt.Sprintf("the anchor %s is empty, and the database signed size %d",
			o, s.Signed)
		return nil
	}
	keys, err := logstore.ReadKeys(ctx, tx)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		s.Anchor, s.Reason = AnchorAhead, "the anchor holds a checkpoint, and this database has no key: it was "+
			"rolled back to before the first checkpoint, or is another database"
		return nil
	}
	_, err = logstore.CheckAnchor(ctx, tx, anchored, keys[len(keys)-1].Name, head)
	var back *logstore.RolledBackError
	switch {
	case err == nil:
		s.Anchor = AnchorAgrees
	case errors.As(err, &back):
		s.Anchor, s.Reason = AnchorAhead, err.Error()
	case errors.Is(err, logstore.ErrRefused):
		s.Anchor, s.Reason = AnchorDiffers, err.Error()
	default:
		return err
	}
	return nil
}

// Resume begins a new epoch in the cluster to which the database was moved or restored, so that events of both clusters
// enter their logs. With believe it also stores the database's last signed checkpoint in an empty anchor. It refuses a
// database that was rolled back or rewritten: those who have seen later checkpoints would have two histories of one
// log.
func Resume(ctx context.Context, c Config, believe bool) (s Status, err error) {
	if s, err = ReadStatus(ctx, c.DB, c.Anchor); err != nil {
		return s, err
	}
	switch {
	case s.Anchor == AnchorAhead || s.Anchor == AnchorDiffers:
		return s, fmt.Errorf("%w: %s", logstore.ErrRefused, s.Reason)
	case s.Anchor == AnchorMissing && !believe:
		return s, fmt.Errorf("%w: %s", logstore.ErrRefused, s.Reason)
	}
	l, err := c.DB.Lease(ctx)
	if err != nil {
		return s, err
	}
	defer l.Release()
	if s.Anchor == AnchorMissing {
		var note string
		if err := l.Tx(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx,
				`SELECT note FROM audit_checkpoints WHERE tenant_id = $1 ORDER BY size DESC LIMIT 1`,
				logstore.Operator).Scan(&note)
		}); err != nil {
			return s, err
		}
		if _, err := c.Anchor.Swap(ctx, "", note); err != nil {
			return s, fmt.Errorf("store the last signed checkpoint in the anchor: %w", err)
		}
	}
	if s.Moved {
		if err := l.Tx(ctx, func(tx pgx.Tx) error {
			// The epoch blocks writers for a moment; wait at most 10 s for their open transactions.
			if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '10s'`); err != nil {
				return err
			}
			return tx.QueryRow(ctx, `SELECT audit_begin_epoch($1)`, logstore.Operator).Scan(&s.Epoch)
		}); err != nil {
			return s, fmt.Errorf("begin a new epoch (a transaction that writes events must end first): %w", err)
		}
	}
	return s, nil
}

// leftSQL selects seals of earlier epochs that are in no log.
const leftSQL = `
WITH logged AS (
       SELECT tenant_id, encode(substr(ids, n * 16 + 1, 16), 'hex')::uuid AS id
         FROM (SELECT tenant_id, event_ids AS ids FROM audit_tiles WHERE level = 0
               UNION ALL
               SELECT tenant_id, added_ids FROM audit_heads) i, generate_series(0, octet_length(ids) / 16 - 1) n)
SELECT ` + logstore.SealedColumns + `
  FROM (SELECT *
          FROM audit_seals s
         WHERE s.epoch < $1 AND (s.xid, s.event_id) > ($2::text::xid8, $3)
           AND NOT EXISTS (SELECT FROM logged l WHERE l.tenant_id = s.tenant_id AND l.id = s.event_id)
         ORDER BY s.xid, s.event_id FETCH FIRST $4 ROWS WITH TIES) s
  LEFT JOIN audit_events e ON e.tenant_id = s.tenant_id AND e.id = s.event_id
 ORDER BY s.xid, s.event_id`

// readEarlierEpochs appends seals of earlier epochs that are in no log, in the segment after their epoch's own.
func (r *roundState) readEarlierEpochs(ctx context.Context, tx pgx.Tx) error {
	n := r.n
	epoch := n.epochNow
	segment := logstore.SegmentOf(epoch) - 1
	if n.scanned.Segment != segment {
		n.scanned = logstore.Position{Segment: segment}
	}
	rows, err := tx.Query(ctx, leftSQL, logstore.Binary(), epoch, fmt.Sprint(n.scanned.XID), n.scanned.ID, maxRound)
	if err != nil {
		return err
	}
	batch, err := r.collect(rows)
	if err != nil {
		return err
	}
	for i := range batch {
		batch[i].at.Segment = segment
	}
	if err := r.append(ctx, tx, batch); err != nil {
		return err
	}
	if r.more = len(batch) >= maxRound; !r.more {
		n.scanned = logstore.Position{Segment: logstore.SegmentOf(epoch)}
	}
	return nil
}
