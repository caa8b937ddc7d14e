package notary

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
	"github.com/konstruct/konstruct/tenantdb"
)

// Evidence writes a bundle of a tenant's events that the filter names, complete for it. progress, when not nil, hears
// how many leaves were written, of how many. Memory stays flat.
func Evidence(ctx context.Context, db *tenantdb.Evidence, tenant uuid.UUID, f evidence.Filter, withheld []string,
	to io.Writer, progress func(done, total int64)) (made evidence.Written, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		m, r, err := planBundle(ctx, tx, tenant, f)
		if err != nil {
			return err
		}
		m.Withheld = withheld
		waits, err := waitingBehind(ctx, tx, r.scanned, &tenant, ledger.IntegrateWithin)
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

// logSpan is the part of a tenant's log that a bundle holds, and the newest head, in which it is proven.
type logSpan struct {
	tx       pgx.Tx
	tenant   uuid.UUID
	from, to int64
	last     head
	super    *superTree
	scanned  resumePoint // up to where the notary has put seals in order
	gone     deletedLeaves
}

// planBundle chooses the checkpoints around the time asked for, and proves each in the super-log.
func planBundle(ctx context.Context, tx pgx.Tx, tenant uuid.UUID,
	f evidence.Filter) (m *evidence.Manifest, s *logSpan, err error) {
	super, last, note, err := chooseHead(ctx, tx, tenant, f.Until)
	if err != nil {
		return nil, nil, err
	}
	m = &evidence.Manifest{Tenant: tenant.String(), Filter: f, Super: super.note}
	if m.LastSigned, err = disclosedHead(super, last, note); err != nil {
		return nil, nil, err
	}
	first := head{}
	if !f.Since.IsZero() {
		h, note, err := headAt(ctx, tx, tenant, super.size, `h.at <= $3 ORDER BY h.size DESC, h.anchor DESC`,
			f.Since.Add(-evidence.ClockSlack))
		if err == nil {
			first = h
			begin, err := disclosedHead(super, h, note)
			if err != nil {
				return nil, nil, err
			}
			m.From = &begin
		} else if !errors.Is(err, ErrNotInLog) {
			return nil, nil, err
		}
	}
	end := last
	m.To = m.LastSigned
	if !f.Until.IsZero() {
		h, note, err := headAt(ctx, tx, tenant, super.size, `h.at >= $3 ORDER BY h.size, h.anchor`,
			f.Until.Add(evidence.ClockSlack))
		if err == nil {
			end = h
			if m.To, err = disclosedHead(super, h, note); err != nil {
				return nil, nil, err
			}
		} else if !errors.Is(err, ErrNotInLog) {
			return nil, nil, err
		}
	}
	r := &reader{ctx, tx, tenant, last.size}
	if m.Before, err = joinProof(r, last, 0, first.size); err == nil {
		m.After, err = joinProof(r, last, end.size, last.size)
	}
	if err == nil {
		m.Keys, err = keysOf(ctx, tx, super)
	}
	if err == nil {
		m.Stamp, err = stampFor(ctx, tx, super, end.anchor)
	}
	s = &logSpan{tx: tx, tenant: tenant, from: first.size, to: end.size, last: last, super: super}
	if err == nil {
		s.gone, err = readDeletedLeaves(ctx, tx, tenant, s.from, s.to)
	}
	if err == nil {
		var newest head
		newest, err = lastHead(ctx, tx, Operator)
		s.scanned = newest.last
	}
	return m, s, err
}

// chooseHead takes the newest signed super-log, or an older one that witnesses cosigned where that covers as much.
func chooseHead(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, until time.Time) (*superTree, head, string, error) {
	super, err := openSuper(ctx, tx, 0)
	if err != nil {
		return nil, head{}, "", err
	}
	newest, note, err := lastSigned(ctx, tx, tenant, super.size)
	if err != nil {
		return nil, head{}, "", err
	}
	var size int64
	if err := tx.QueryRow(ctx,
		`SELECT coalesce(max(size), 0) FROM audit_witnesses WHERE tenant_id = $1 AND kind = 'cosignature'`, Operator).
		Scan(&size); err != nil {
		return nil, head{}, "", err
	}
	if size == 0 || size == super.size {
		return super, newest, note, nil
	}
	h, witnessed, err := lastSigned(ctx, tx, tenant, size)
	var acts bool // that the older one does not cover
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM audit_seals s WHERE s.tenant_id = $1 AND s.recorded_at > $2
		  AND s.event_id IN (SELECT record_id FROM audit_erasures WHERE tenant_id = $1 UNION SELECT record_id FROM audit_gone WHERE tenant_id = $1))`, tenant, h.at.Add(-evidence.ClockSlack)).Scan(&acts)
	}
	if acts || errors.Is(err, ErrNotInLog) || err == nil && h.size != newest.size &&
		(until.IsZero() || h.at.Before(until.Add(evidence.ClockSlack))) {
		return super, newest, note, nil
	}
	if err == nil {
		super, err = openSuper(ctx, tx, size)
	}
	return super, h, witnessed, err
}

// headAt is a tenant's signed head by time, in the super-log of a size.
func headAt(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, size int64, where string,
	at time.Time) (head, string, error) {
	rows, err := tx.Query(ctx,
		`SELECT `+headSQL+`, c.note FROM audit_heads h JOIN audit_checkpoints c USING (tenant_id, size, anchor)
	  WHERE h.tenant_id = $1 AND h.anchor < $2 AND `+where+` LIMIT 1`, tenant, size, at)
	if err != nil {
		return head{}, "", err
	}
	return signedHead(rows)
}

func disclosedHead(super *superTree, h head, note string) (evidence.Head, error) {
	p, err := super.prove(h.anchor)
	return evidence.Head{Checkpoint: note, At: ledger.MicrosOf(h.at), Salt: h.salt, Index: h.anchor, Proof: p}, err
}

// joinProof are the hashes that stand for the leaves [begin, end).
func joinProof(r *reader, last head, begin, end int64) ([]evidence.Hash, error) {
	hashes, err := r.subtrees(last, begin, end)
	if err != nil {
		return nil, fmt.Errorf("leaves %d to %d: %w", begin, end, err)
	}
	out := make([]evidence.Hash, len(hashes))
	for i, h := range hashes {
		out[i] = evidence.Hash(h)
	}
	return out, nil
}

// keysOf proves the notary's keys in the super-log, and how each was handed on.
func keysOf(ctx context.Context, tx pgx.Tx, super *superTree) ([]evidence.Key, error) {
	keys, err := keyHistory(ctx, tx)
	if err != nil {
		return nil, err
	}
	var out []evidence.Key
	for i, k := range keys {
		if k.anchor >= super.size {
			break
		}
		shown := evidence.Key{Key: k.String(), At: k.at, Index: k.anchor}
		if shown.Proof, err = super.prove(k.anchor); err != nil {
			return nil, err
		}
		if i > 0 {
			var size int64
			if err := tx.QueryRow(ctx, `SELECT min(size) FROM audit_checkpoints WHERE tenant_id = $1 AND size > $2`,
				Operator, k.anchor).Scan(&size); err != nil {
				return nil, err
			}
			at, err := openSuper(ctx, tx, size)
			if err != nil {
				return nil, err
			}
			shown.Rotation = at.note
			if shown.RotationProof, err = at.prove(k.anchor); err != nil {
				return nil, err
			}
		}
		out = append(out, shown)
	}
	return out, nil
}

// stampFor is the first time-stamp that covers a head's leaf in the super-log, or else the last before it; nil where
// there is none.
func stampFor(ctx context.Context, tx pgx.Tx, super *superTree, anchor int64) (*evidence.Stamp, error) {
	var s evidence.Stamp
	var root []byte
	err := tx.QueryRow(ctx,
		`SELECT w.size, w.said, h.root FROM audit_witnesses w JOIN audit_heads h USING (tenant_id, size)
	  WHERE w.tenant_id = $1 AND w.kind = 'timestamp' AND w.size <= $2 ORDER BY w.size > $3 DESC, CASE WHEN w.size > $3 THEN w.size ELSE -w.size END LIMIT 1`,
		Operator, super.size, anchor).Scan(&s.Size, &s.Token, &root)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read time-stamps: %w", err)
	}
	copy(s.Root[:], root)
	p, err := tlog.ProveTree(super.size, s.Size, super.hashes)
	if err != nil {
		return nil, fmt.Errorf("the super-log at size %d: %w", s.Size, err)
	}
	for _, h := range p {
		s.Proof = append(s.Proof, evidence.Hash(h))
	}
	return &s, nil
}
