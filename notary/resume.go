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

// State of the anchor, beside the database.
const (
	AnchorAgrees        = "agrees"
	AnchorAhead         = "ahead"     // the database was taken back
	AnchorDiffers       = "differs"   // history was rewritten, or it is another log's
	AnchorMissing       = "missing"   // something was signed, and nothing is kept
	AnchorNotConfigured = "untouched" // nothing was signed yet
)

// Status is what stands between a notary and its work.
type Status struct {
	Cluster   int64            `json:"cluster"` // this one's system identifier
	Before    int64            `json:"cluster_before"`
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

// Ready reports whether the notary can work.
func (s Status) Ready() bool {
	return !s.Moved && (s.Anchor == AnchorAgrees || s.Anchor == AnchorNotConfigured)
}

// ReadStatus finds out how things stand, and changes nothing.
func ReadStatus(ctx context.Context, db *tenantdb.Evidence, o Anchor) (s Status, err error) {
	kept, _, err := o.Load(ctx) // before the database is looked at: it can't be behind what was kept then
	if err != nil {
		return s, fmt.Errorf("read the checkpoint kept in the anchor (%s): %w", o, err)
	}
	err = db.Snapshot(ctx, func(tx pgx.Tx) error { s, err = readStatus(ctx, tx, o, kept); return err })
	return s, err
}

//go:embed sql/status.sql
var statusSQL string

func readStatus(ctx context.Context, tx pgx.Tx, o Anchor, kept string) (s Status, err error) {
	if err := tx.QueryRow(ctx, statusSQL, logstore.Operator).
		Scan(&s.Cluster, &s.Before, &s.Epoch, &s.Signed, &s.Witnesses); err != nil {
		return s, fmt.Errorf("look at the notary's state: %w", err)
	}
	s.Moved = s.Cluster != s.Before
	head, err := logstore.LastHead(ctx, tx, logstore.Operator)
	if err := logstore.IgnoreNoRows(err); err != nil {
		return s, fmt.Errorf("look at the super-log: %w", err)
	}
	s.Size, s.SignedAt = head.Size, head.At
	if s.Waiting, err = logstore.CountWaiting(ctx, tx, head.Last, nil, ledger.IntegrateWithin); err != nil {
		return s, err
	}
	return s, s.readAnchor(ctx, tx, o, kept, head)
}

func (s *Status) readAnchor(ctx context.Context, tx pgx.Tx, o Anchor, kept string, head logstore.Head) error {
	switch {
	case kept == "" && s.Signed == 0:
		s.Anchor = AnchorNotConfigured
		return nil
	case kept == "":
		s.Anchor, s.Reason = AnchorMissing, fmt.Sprintf("nothing is kept in %s, and a checkpoint of size %d was signed",
			o, s.Signed)
		return nil
	}
	keys, err := logstore.ReadKeys(ctx, tx)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		s.Anchor, s.Reason = AnchorAhead, "the anchor holds a checkpoint, and this database knows no key: it was "+
			"taken back to before the first one, or is another one"
		return nil
	}
	_, err = logstore.CheckAnchor(ctx, tx, kept, keys[len(keys)-1].Name, head)
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

// Resume begins a new epoch in the cluster that the database was moved or restored to, so that events of both
// enter their logs; with believe it also keeps the database's last signed checkpoint in the anchor where nothing is
// kept. A database that was taken back, or rewritten, is not resumed: whoever has seen the later checkpoints would hold
// two histories of one name.
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
			return s, fmt.Errorf("keep the last signed checkpoint in the anchor: %w", err)
		}
	}
	if s.Moved {
		if err := l.Tx(ctx, func(tx pgx.Tx) error {
			// Writers are held off for a moment; a long transaction of theirs is not waited for.
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

// leftSQL are the seals of earlier epochs that stand in no log.
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

// earlier appends what a new epoch found left of earlier ones, in the segment behind theirs.
func (r *roundState) earlier(ctx context.Context, tx pgx.Tx) error {
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
