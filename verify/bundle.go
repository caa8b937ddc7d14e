package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// WriteBundle writes an evidence bundle of a tenant: all events that match the filter. progress, when not nil, is
// called with the number of leaves written and their total. Memory use is constant.
func WriteBundle(ctx context.Context, db *tenantdb.Evidence, tenant uuid.UUID, f evidence.Filter, withheld []string,
	to io.Writer, progress func(done, total int64)) (made evidence.Written, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		m, r, err := planBundle(ctx, tx, tenant, f)
		if err != nil {
			return err
		}
		m.Withheld = withheld
		waits, err := logstore.CountWaiting(ctx, tx, r.scanned, &tenant, ledger.IntegrateWithin)
		if err != nil {
			return err
		}
		m.Waiting, m.Overdue = waits.Events, waits.Overdue
		if m.Overdue == 0 {
			m.Overdue = waits.Unknown
		}
		w, err := evidence.NewWriter(to, *m)
		if err != nil {
			return err
		}
		acts, err := r.leaves(ctx, w, progress)
		if err != nil {
			return err
		}
		if err := r.acts(ctx, acts, w); err != nil {
			return err
		}
		made, err = w.Close()
		return err
	})
	if err != nil {
		return made, fmt.Errorf("evidence for tenant %s: %w", tenant, err)
	}
	return made, nil
}

// logSpan is the part of a tenant's log that a bundle covers, and the newest head, against which it is proven.
type logSpan struct {
	tx        pgx.Tx
	tenant    uuid.UUID
	from, to  int64
	last      logstore.Head
	super     *logstore.SuperLog
	scanned   logstore.Position // the position up to which the notary has sequenced seals
	deletions deletedLeaves
}

// planBundle selects the checkpoints around the filter's period, and proves each in the super-log.
func planBundle(ctx context.Context, tx pgx.Tx, tenant uuid.UUID,
	f evidence.Filter) (m *evidence.Manifest, s *logSpan, err error) {
	super, last, note, err := chooseHead(ctx, tx, tenant, f.Until)
	if err != nil {
		return nil, nil, err
	}
	m = &evidence.Manifest{Tenant: tenant.String(), Filter: f, Super: super.Note}
	if m.LastSigned, err = disclosedHead(super, last, note); err != nil {
		return nil, nil, err
	}
	first := logstore.Head{}
	if !f.Since.IsZero() {
		h, note, err := headAt(ctx, tx, tenant, super.Size, `h.at <= $3 ORDER BY h.size DESC, h.anchor DESC`,
			f.Since.Add(-evidence.ClockSlack))
		if err == nil {
			first = h
			begin, err := disclosedHead(super, h, note)
			if err != nil {
				return nil, nil, err
			}
			m.From = &begin
		} else if !errors.Is(err, logstore.ErrNotInLog) {
			return nil, nil, err
		}
	}
	end := last
	m.To = m.LastSigned
	if !f.Until.IsZero() {
		h, note, err := headAt(ctx, tx, tenant, super.Size, `h.at >= $3 ORDER BY h.size, h.anchor`,
			f.Until.Add(evidence.ClockSlack))
		if err == nil {
			end = h
			if m.To, err = disclosedHead(super, h, note); err != nil {
				return nil, nil, err
			}
		} else if !errors.Is(err, logstore.ErrNotInLog) {
			return nil, nil, err
		}
	}
	r := logstore.NewReader(ctx, tx, tenant, last.Size)
	if m.Before, err = joinProof(r, last, 0, first.Size); err == nil {
		m.After, err = joinProof(r, last, end.Size, last.Size)
	}
	if err == nil {
		m.Keys, err = keysOf(ctx, tx, super)
	}
	if err == nil {
		m.Stamp, err = stampFor(ctx, tx, super, end.Anchor)
	}
	s = &logSpan{tx: tx, tenant: tenant, from: first.Size, to: end.Size, last: last, super: super}
	if err == nil {
		s.deletions, err = readDeletedLeaves(ctx, tx, tenant, s.from, s.to)
	}
	if err == nil {
		var newest logstore.Head
		newest, err = logstore.LastHead(ctx, tx, logstore.Operator)
		s.scanned = newest.Last
	}
	return m, s, err
}

// chooseHead returns the newest signed super-log, or an older cosigned one that covers the same events.
func chooseHead(ctx context.Context, tx pgx.Tx, tenant uuid.UUID,
	until time.Time) (*logstore.SuperLog, logstore.Head, string, error) {
	super, err := logstore.OpenSuperLog(ctx, tx, 0)
	if err != nil {
		return nil, logstore.Head{}, "", err
	}
	newest, note, err := logstore.LastSigned(ctx, tx, tenant, super.Size)
	if err != nil {
		return nil, logstore.Head{}, "", err
	}
	var size int64
	if err := tx.QueryRow(ctx,
		`SELECT coalesce(max(size), 0) FROM audit_witnesses WHERE tenant_id = $1 AND kind = 'cosignature'`,
		logstore.Operator).
		Scan(&size); err != nil {
		return nil, logstore.Head{}, "", err
	}
	if size == 0 || size == super.Size {
		return super, newest, note, nil
	}
	h, witnessed, err := logstore.LastSigned(ctx, tx, tenant, size)
	var acts bool // acts that the older one does not cover
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM audit_seals s WHERE s.tenant_id = $1 AND s.recorded_at > $2
			AND s.event_id IN (SELECT record_id FROM audit_erasures WHERE tenant_id = $1
			                   UNION SELECT record_id FROM audit_gone WHERE tenant_id = $1))`,
			tenant, h.At.Add(-evidence.ClockSlack)).Scan(&acts)
	}
	if acts || errors.Is(err, logstore.ErrNotInLog) || err == nil && h.Size != newest.Size &&
		(until.IsZero() || h.At.Before(until.Add(evidence.ClockSlack))) {
		return super, newest, note, nil
	}
	if err == nil {
		super, err = logstore.OpenSuperLog(ctx, tx, size)
	}
	return super, h, witnessed, err
}

// headAt returns a tenant's signed head by time, in the super-log of a size.
func headAt(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, size int64, where string,
	at time.Time) (logstore.Head, string, error) {
	rows, err := tx.Query(ctx,
		`SELECT `+logstore.HeadColumns+
			`, c.note FROM audit_heads h JOIN audit_checkpoints c USING (tenant_id, size, anchor)
	  WHERE h.tenant_id = $1 AND h.anchor < $2 AND `+where+` LIMIT 1`, tenant, size, at)
	if err != nil {
		return logstore.Head{}, "", err
	}
	return logstore.ScanSignedHead(rows)
}

func disclosedHead(super *logstore.SuperLog, h logstore.Head, note string) (evidence.Head, error) {
	p, err := super.Prove(h.Anchor)
	return evidence.Head{Checkpoint: note, At: ledger.MicrosOf(h.At), Salt: h.Salt, Index: h.Anchor, Proof: p}, err
}

// joinProof returns the subtree roots that cover the leaves [begin, end).
func joinProof(r *logstore.Reader, last logstore.Head, begin, end int64) ([]evidence.Hash, error) {
	hashes, err := r.Subtrees(last, begin, end)
	if err != nil {
		return nil, fmt.Errorf("leaves %d to %d: %w", begin, end, err)
	}
	out := make([]evidence.Hash, len(hashes))
	for i, h := range hashes {
		out[i] = evidence.Hash(h)
	}
	return out, nil
}

// keysOf returns the notary's keys with their inclusion in the super-log, and each rotation.
func keysOf(ctx context.Context, tx pgx.Tx, super *logstore.SuperLog) ([]evidence.Key, error) {
	keys, err := logstore.ReadKeys(ctx, tx)
	if err != nil {
		return nil, err
	}
	var out []evidence.Key
	for i, k := range keys {
		if k.Anchor >= super.Size {
			break
		}
		shown := evidence.Key{Key: k.String(), At: k.At, Index: k.Anchor}
		if shown.Proof, err = super.Prove(k.Anchor); err != nil {
			return nil, err
		}
		if i > 0 {
			var size int64
			if err := tx.QueryRow(ctx, `SELECT min(size) FROM audit_checkpoints WHERE tenant_id = $1 AND size > $2`,
				logstore.Operator, k.Anchor).Scan(&size); err != nil {
				return nil, err
			}
			at, err := logstore.OpenSuperLog(ctx, tx, size)
			if err != nil {
				return nil, err
			}
			shown.Rotation = at.Note
			if shown.RotationProof, err = at.Prove(k.Anchor); err != nil {
				return nil, err
			}
		}
		out = append(out, shown)
	}
	return out, nil
}

// stampFor returns the first time-stamp that covers a head's leaf in the super-log, or else the last before it, or nil.
func stampFor(ctx context.Context, tx pgx.Tx, super *logstore.SuperLog, anchor int64) (*evidence.Stamp, error) {
	var s evidence.Stamp
	var root []byte
	err := tx.QueryRow(ctx,
		`SELECT w.size, w.said, h.root FROM audit_witnesses w JOIN audit_heads h USING (tenant_id, size)
		WHERE w.tenant_id = $1 AND w.kind = 'timestamp' AND w.size <= $2
		ORDER BY w.size > $3 DESC, CASE WHEN w.size > $3 THEN w.size ELSE -w.size END LIMIT 1`,
		logstore.Operator, super.Size, anchor).Scan(&s.Size, &s.Token, &root)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read time-stamps: %w", err)
	}
	copy(s.Root[:], root)
	p, err := tlog.ProveTree(super.Size, s.Size, super.Hashes)
	if err != nil {
		return nil, fmt.Errorf("the super-log at size %d: %w", s.Size, err)
	}
	for _, h := range p {
		s.Proof = append(s.Proof, evidence.Hash(h))
	}
	return &s, nil
}
