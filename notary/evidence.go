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

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
)

// Evidence writes a bundle of a tenant's events that the filter names, complete for it. progress, when not nil, hears how many
// leaves were written, of how many. Memory stays flat.
func Evidence(ctx context.Context, db *tenantdb.Evidence, tenant uuid.UUID, f evidence.Filter, withheld []string, to io.Writer, progress func(done, total int64)) (made evidence.Made, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		m, from, upTo, err := plan(ctx, tx, tenant, f)
		if err != nil {
			return err
		}
		m.Withheld = withheld
		w, err := evidence.NewWriter(to, *m)
		if err != nil {
			return err
		}
		if err := leavesOf(ctx, tx, tenant, from, upTo, w, progress); err != nil {
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

// plan chooses the checkpoints around the time asked for, and proves each in the super-log.
func plan(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, f evidence.Filter) (m *evidence.Manifest, from, upTo int64, err error) {
	super, last, note, err := choose(ctx, tx, tenant, f.Until)
	if err != nil {
		return nil, 0, 0, err
	}
	m = &evidence.Manifest{Tenant: tenant.String(), Filter: f, Super: super.note}
	if m.Last, err = shownHead(super, last, note); err != nil {
		return nil, 0, 0, err
	}
	first := head{}
	if !f.Since.IsZero() {
		h, note, err := headAt(ctx, tx, tenant, super.size, `h.at <= $3 ORDER BY h.size DESC, h.anchor DESC`, f.Since.Add(-evidence.ClockSlack))
		if err == nil {
			first = h
			begin, err := shownHead(super, h, note)
			if err != nil {
				return nil, 0, 0, err
			}
			m.From = &begin
		} else if !errors.Is(err, ErrNotInLog) {
			return nil, 0, 0, err
		}
	}
	end := last
	m.To = m.Last
	if !f.Until.IsZero() {
		h, note, err := headAt(ctx, tx, tenant, super.size, `h.at >= $3 ORDER BY h.size, h.anchor`, f.Until.Add(evidence.ClockSlack))
		if err == nil {
			end = h
			if m.To, err = shownHead(super, h, note); err != nil {
				return nil, 0, 0, err
			}
		} else if !errors.Is(err, ErrNotInLog) {
			return nil, 0, 0, err
		}
	}
	r := &reader{ctx, tx, tenant, last.size}
	if m.Before, err = joining(r, last, 0, first.size); err == nil {
		m.After, err = joining(r, last, end.size, last.size)
	}
	if err == nil {
		m.Keys, err = keysOf(ctx, tx, super)
	}
	if err == nil {
		m.Stamp, err = stampFor(ctx, tx, super, end.anchor)
	}
	return m, first.size, end.size, err
}

// choose takes the newest signed super-log, or an older one that witnesses cosigned where that covers as much.
func choose(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, until time.Time) (*superTree, head, string, error) {
	super, err := openSuper(ctx, tx, 0)
	if err != nil {
		return nil, head{}, "", err
	}
	newest, note, err := lastSigned(ctx, tx, tenant, super.size)
	if err != nil {
		return nil, head{}, "", err
	}
	var size int64
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(size), 0) FROM audit_witnesses WHERE tenant_id = $1 AND kind = 'cosignature'`, Operator).Scan(&size); err != nil {
		return nil, head{}, "", err
	}
	if size == 0 || size == super.size {
		return super, newest, note, nil
	}
	h, witnessed, err := lastSigned(ctx, tx, tenant, size)
	if errors.Is(err, ErrNotInLog) || err == nil && h.size != newest.size && (until.IsZero() || h.at.Before(until.Add(evidence.ClockSlack))) {
		return super, newest, note, nil
	}
	if err == nil {
		super, err = openSuper(ctx, tx, size)
	}
	return super, h, witnessed, err
}

// headAt is a tenant's signed head by time, in the super-log of a size.
func headAt(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, size int64, where string, at time.Time) (head, string, error) {
	rows, err := tx.Query(ctx, `SELECT `+ofHead+`, c.note FROM audit_heads h JOIN audit_checkpoints c USING (tenant_id, size, anchor)
	  WHERE h.tenant_id = $1 AND h.anchor < $2 AND `+where+` LIMIT 1`, tenant, size, at)
	if err != nil {
		return head{}, "", err
	}
	return signedHead(rows)
}

func shownHead(super *superTree, h head, note string) (evidence.Head, error) {
	p, err := super.prove(h.anchor)
	return evidence.Head{Checkpoint: note, At: ledger.MicrosOf(h.at), Salt: h.salt, Index: h.anchor, Proof: p}, err
}

// joining are the hashes that stand for the leaves [begin, end).
func joining(r *reader, last head, begin, end int64) ([]evidence.Hash, error) {
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
			if err := tx.QueryRow(ctx, `SELECT min(size) FROM audit_checkpoints WHERE tenant_id = $1 AND size > $2`, Operator, k.anchor).Scan(&size); err != nil {
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

// stampFor is the first time-stamp that covers a head's leaf in the super-log, or else the last before it; nil where there is none.
func stampFor(ctx context.Context, tx pgx.Tx, super *superTree, anchor int64) (*evidence.Stamp, error) {
	var s evidence.Stamp
	var root []byte
	err := tx.QueryRow(ctx, `SELECT w.size, w.said, h.root FROM audit_witnesses w JOIN audit_heads h USING (tenant_id, size)
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

// evidenceStride is how many tiles' events are read at once.
const evidenceStride = 16

// leavesOf writes the leaves [from, to) in the log's order.
func leavesOf(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, from, to int64, w *evidence.Writer, progress func(done, total int64)) error {
	if _, err := tx.Exec(ctx, tenantdb.Nested); err != nil {
		return err
	}
	for at := from; at < to; {
		end := min(to, (at/ledger.TileWidth+evidenceStride)*ledger.TileWidth)
		ids, err := idsOf(ctx, tx, tenant, at, end, to)
		if err != nil {
			return err
		}
		if err := eventsOf(ctx, tx, tenant, at, ids, w); err != nil {
			return err
		}
		at = end
		if progress != nil {
			progress(at-from, to-from)
		}
	}
	return nil
}

// idsOf are the events of the leaves [at, end), in a log of which leaves up to size are asked for.
func idsOf(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, at, end, size int64) ([]uuid.UUID, error) {
	first := at / ledger.TileWidth
	rows, err := tx.Query(ctx, `SELECT tile, event_ids FROM audit_tiles WHERE tenant_id = $1 AND level = 0 AND tile >= $2 AND tile * 256 < $3 ORDER BY tile`, tenant, first, end)
	if err != nil {
		return nil, err
	}
	var all, ids []byte
	var tile int64
	next := first
	if _, err := pgx.ForEachRow(rows, []any{&tile, &ids}, func() error {
		if tile != next || len(ids) != ledger.TileWidth*16 {
			return fmt.Errorf("tile %d of the log is missing: run `konstruct audit verify`", next)
		}
		next, all = next+1, append(all, ids...)
		return nil
	}); err != nil {
		return nil, err
	}
	if have := next * ledger.TileWidth; have < end {
		_, open, err := (&reader{ctx, tx, tenant, size}).open(have)
		if err != nil {
			return nil, err
		}
		all = append(all, open...)
	}
	all = all[(at-first*ledger.TileWidth)*16:]
	if int64(len(all)) < (end-at)*16 {
		return nil, fmt.Errorf("leaves %d to %d of the log are missing: run `konstruct audit verify`", at, end-1)
	}
	out := make([]uuid.UUID, end-at)
	for i := range out {
		copy(out[i][:], all[16*i:])
	}
	return out, nil
}

func eventsOf(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, first int64, ids []uuid.UUID, w *evidence.Writer) error {
	rows, err := tx.Query(ctx, `SELECT `+audit.SealedColumns+` FROM unnest($2::uuid[]) WITH ORDINALITY u (id, n)
	   JOIN audit_seals s ON s.tenant_id = $1 AND s.event_id = u.id LEFT JOIN audit_events e ON e.tenant_id = $1 AND e.id = u.id ORDER BY u.n`, audit.Binary(), tenant, ids)
	if err != nil {
		return err
	}
	defer rows.Close()
	var s audit.Sealed
	var r ledger.Record
	n := 0
	for ; rows.Next(); n++ {
		if err := s.Scan(rows); err != nil {
			return err
		}
		if n >= len(ids) || ids[n] != s.ID {
			break
		}
		if what := s.Difference(); what != "" {
			return fmt.Errorf("event %s, leaf %d of the log, %s: no evidence that holds can be made of this range", ids[n], first+int64(n), what)
		}
		r = ledger.Record{TenantID: s.TenantID, ID: s.ID, CreatedAt: s.CreatedAt, RecordedAt: s.RecordedAt, Mode: s.Mode}
		if err := w.Add(&r, &s.Values, s.Salt, &s.Commitments); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n < len(ids) {
		return fmt.Errorf("event %s, leaf %d of the log, is gone with its seal: no evidence that holds can be made of this range", ids[n], first+int64(n))
	}
	return nil
}
