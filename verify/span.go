package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// evidenceStride is the number of tiles whose events are read at a time.
const evidenceStride = 16

// leaves writes the span's leaves in the log's order. It returns the events that record erasures and deletions of them.
func (s *logSpan) leaves(ctx context.Context, w *evidence.Writer,
	progress func(done, total int64)) (acts map[uuid.UUID]bool, err error) {
	if _, err := s.tx.Exec(ctx, tenantdb.Nested); err != nil {
		return nil, err
	}
	acts = map[uuid.UUID]bool{}
	for _, d := range s.deletions {
		acts[d.record] = true
	}
	for at := s.from; at < s.to; {
		end := min(s.to, (at/ledger.TileWidth+evidenceStride)*ledger.TileWidth)
		ids, hashes, err := s.ids(ctx, at, end)
		if err != nil {
			return nil, err
		}
		erased, err := s.events(ctx, at, ids, hashes, w)
		if err != nil {
			return nil, err
		}
		if err := s.erasures(ctx, erased, acts); err != nil {
			return nil, err
		}
		at = end
		if progress != nil {
			progress(at-s.from, s.to-s.from)
		}
	}
	return acts, nil
}

// ids returns the event ids of the leaves [at, end), and the leaves' hashes if the span has deletions.
func (s *logSpan) ids(ctx context.Context, at, end int64) (ids []uuid.UUID, hashes []byte, err error) {
	first := at / ledger.TileWidth
	rows, err := s.tx.Query(ctx, `SELECT tile, event_ids, CASE WHEN $4 THEN hashes END FROM audit_tiles
		WHERE tenant_id = $1 AND level = 0 AND tile >= $2 AND tile * 256 < $3 ORDER BY tile`,
		s.tenant, first, end, len(s.deletions) > 0)
	if err != nil {
		return nil, nil, err
	}
	var all, id, hash []byte
	var tile int64
	next := first
	if _, err := pgx.ForEachRow(rows, []any{&tile, &id, &hash}, func() error {
		if tile != next || len(id) != ledger.TileWidth*16 {
			return fmt.Errorf("tile %d of the log is missing: run `konstruct audit verify`", next)
		}
		next, all, hashes = next+1, append(all, id...), append(hashes, hash...)
		return nil
	}); err != nil {
		return nil, nil, err
	}
	if have := next * ledger.TileWidth; have < end {
		hash, id, err := logstore.NewReader(ctx, s.tx, s.tenant, s.to).OpenLeaves(have)
		if err != nil {
			return nil, nil, err
		}
		all, hashes = append(all, id...), append(hashes, hash...)
	}
	skip := at - first*ledger.TileWidth
	all = all[skip*16:]
	if int64(len(all)) < (end-at)*16 {
		return nil, nil, fmt.Errorf("leaves %d to %d of the log are missing: run `konstruct audit verify`", at, end-1)
	}
	if len(s.deletions) > 0 {
		hashes = hashes[skip*tlog.HashSize:]
	}
	ids = make([]uuid.UUID, end-at)
	for i := range ids {
		copy(ids[i][:], all[16*i:])
	}
	return ids, hashes, nil
}

// events writes the leaves from first on, and returns the events with erased fields.
func (s *logSpan) events(ctx context.Context, first int64, ids []uuid.UUID, hashes []byte,
	w *evidence.Writer) (erased []uuid.UUID, err error) {
	present := ids
	if len(s.deletions) > 0 {
		present = nil
		for i, id := range ids {
			if !s.deletions.contains(first + int64(i)) {
				present = append(present, id)
			}
		}
	}
	rows, err := s.tx.Query(ctx, `SELECT `+logstore.SealedColumns+` FROM unnest($2::uuid[]) WITH ORDINALITY u (id, n)
		JOIN audit_seals s ON s.tenant_id = $1 AND s.event_id = u.id
		LEFT JOIN audit_events e ON e.tenant_id = $1 AND e.id = u.id
		ORDER BY u.n`,
		logstore.Binary(), s.tenant, present)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var row logstore.SealedEvent
	for i, id := range ids {
		leaf := first + int64(i)
		if s.deletions.contains(leaf) {
			if err := w.Deleted(id, ledger.Hash(hashes[i*tlog.HashSize:])); err != nil {
				return nil, err
			}
			continue
		}
		if !rows.Next() {
			return nil, errors.Join(rows.Err(), missingLeafError(id, leaf))
		}
		if err := row.Scan(rows); err != nil {
			return nil, err
		}
		if row.ID != id {
			return nil, missingLeafError(id, leaf)
		}
		if what := row.Difference(); what != "" {
			return nil, fmt.Errorf("event %s, leaf %d of the log, %s: no valid evidence can be made of this range",
				id, leaf, what)
		}
		if row.Salts.Erased() != 0 {
			erased = append(erased, id)
		}
		r := row.Record()
		if err := w.Add(&r, &row.Values, &row.Salts, &row.Commitments); err != nil {
			return nil, err
		}
	}
	return erased, nil
}

func missingLeafError(id uuid.UUID, leaf int64) error {
	return fmt.Errorf("event %s, leaf %d of the log, is missing with its seal, and no act of retention records it: no "+
		"valid evidence can be made of this range", id, leaf)
}

// erasures adds the events that record the erasures of the given events.
func (s *logSpan) erasures(ctx context.Context, erased []uuid.UUID, acts map[uuid.UUID]bool) error {
	if len(erased) == 0 {
		return nil
	}
	rows, err := s.tx.Query(ctx,
		`SELECT DISTINCT record_id FROM audit_erasures WHERE tenant_id = $1 AND event_id = ANY ($2)`, s.tenant, erased)
	if err != nil {
		return err
	}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error { acts[id] = true; return nil })
	return err
}

// acts writes the events that record erasures and deletions, each proven in the newest head, with the rules, holds,
// requests and refusals that bind them, and checkpoints that prove the age of what was deleted.
func (s *logSpan) acts(ctx context.Context, acts map[uuid.UUID]bool, w *evidence.Writer) error {
	if len(acts) == 0 {
		return nil
	}
	hashes := tlog.TileHashReader(tlog.Tree{N: s.last.Size, Hash: tlog.Hash(s.last.Root)},
		logstore.NewReader(ctx, s.tx, s.tenant, s.last.Size))
	rows, err := s.tx.Query(ctx, `SELECT id FROM audit_events WHERE tenant_id = $1 AND (id = ANY ($2) OR `+actsWhere+
		` AND action_type IN ('retention_rule', 'legal_hold', 'compliance_request', 'compliance_declined',
		'erasure_declined')) ORDER BY created_at, id`,
		s.tenant, slices.Collect(maps.Keys(acts)))
	if err != nil {
		return err
	}
	inOrder, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}
	for _, id := range inOrder {
		row, err := sealedLeaf(ctx, s.tx, s.tenant, id)
		if err != nil {
			return fmt.Errorf("event %s, which records an erasure or deletion: %w", id, err)
		}
		index, err := indexOf(ctx, s.tx, &row, s.last)
		if errors.Is(err, logstore.ErrNotInLog) && !acts[id] {
			continue // it is too recent to bind any of these acts
		}
		if errors.Is(err, logstore.ErrNotInLog) {
			return fmt.Errorf("something in this range was just erased or deleted, and event %s, which records it, "+
				"is in no signed checkpoint yet: try again in a second or two while the notary runs (konstruct "+
				"notary run)", id)
		}
		if err != nil {
			return err
		}
		p, err := tlog.ProveRecord(s.last.Size, index, hashes)
		if err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		proof := make([]ledger.Hash, len(p))
		for i, h := range p {
			proof[i] = ledger.Hash(h)
		}
		if erased := row.Salts.Erased(); erased != 0 {
			return fmt.Errorf("event %s records an act itself, and its %s was erased: no valid evidence can be "+
				"made of this range", id, erased)
		}
		r := row.Record()
		r.Show(&row.Values, &row.Salts, &row.Commitments, func(ledger.Field) bool { return true })
		if err := w.Act(index, proof, &r); err != nil {
			return err
		}
	}
	return s.writeAges(ctx, acts, hashes, w)
}

// writeAges adds, for each act of retention, the first checkpoint that covers everything it deleted.
func (s *logSpan) writeAges(ctx context.Context, acts map[uuid.UUID]bool, hashes tlog.HashReader,
	w *evidence.Writer) error {
	shown := map[int64]bool{}
	for _, d := range s.deletions {
		if !acts[d.record] || d.last() < 0 {
			continue
		}
		h, note, err := logstore.HeadCovering(ctx, s.tx, s.tenant, d.last())
		if err != nil {
			return fmt.Errorf("the checkpoint over leaf %d: %w", d.last(), err)
		}
		if shown[h.Anchor] || h.Anchor >= s.super.Size {
			continue
		}
		shown[h.Anchor] = true
		age := evidence.TreeSize{Consistency: []evidence.Hash{}}
		if age.Head, err = disclosedHead(s.super, h, note); err != nil {
			return err
		}
		if h.Size < s.last.Size {
			p, err := tlog.ProveTree(s.last.Size, h.Size, hashes)
			if err != nil {
				return fmt.Errorf("from size %d to %d: %w", h.Size, s.last.Size, err)
			}
			for _, hash := range p {
				age.Consistency = append(age.Consistency, evidence.Hash(hash))
			}
		}
		w.Age(age)
	}
	return nil
}
