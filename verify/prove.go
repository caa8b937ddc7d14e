package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// Prove returns a C2SP tlog-proof of an event's inclusion in its tenant's log. Its extra data is the event's record
// with the fields disclosed that open selects; nil discloses all.
func Prove(ctx context.Context, db *tenantdb.Evidence, tenant, event uuid.UUID,
	open func(ledger.Field) bool) (out []byte, err error) {
	if open == nil {
		open = func(ledger.Field) bool { return true }
	}
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		s, err := sealedLeaf(ctx, tx, tenant, event)
		if err != nil {
			return err
		}
		head, note, err := logstore.LastSigned(ctx, tx, tenant, 0)
		if err != nil {
			return err
		}
		index, err := indexOf(ctx, tx, &s, head)
		if err != nil {
			return err
		}
		r := tlog.TileHashReader(tlog.Tree{N: head.Size, Hash: tlog.Hash(head.Root)},
			logstore.NewReader(ctx, tx, tenant, head.Size))
		p, err := tlog.ProveRecord(head.Size, index, r)
		if err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		if err := tlog.CheckRecord(p, head.Size, tlog.Hash(head.Root), index, tlog.Hash(s.Leaf)); err != nil {
			return fmt.Errorf("its seal is not leaf %d of the log: run `konstruct audit verify`", index)
		}
		rec := s.Record()
		rec.Show(&s.Values, &s.Salts, &s.Commitments, open)
		tp := proof.TLogProof{Index: uint64(index), Checkpoint: []byte(note), ExtraData: rec.AppendBinary(tenant[:])}
		for _, h := range p {
			tp.Hashes = append(tp.Hashes, h)
		}
		out = tp.Marshal()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("prove event %s: %w", event, err)
	}
	return out, nil
}

// Sample returns up to n events of a tenant, spread over the full tiles of its log, for benchmarks.
func Sample(ctx context.Context, db *tenantdb.Evidence, tenant uuid.UUID, n int) (ids []uuid.UUID, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx,
			`SELECT event_id FROM audit_tiles WHERE tenant_id = $1 AND level = 0 ORDER BY tile * 7919 % 10007
			LIMIT $2`, tenant, n)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	return ids, err
}

// sealedLeaf reads an event with its seal, and returns an error if they differ.
func sealedLeaf(ctx context.Context, tx pgx.Tx, tenant, event uuid.UUID) (s logstore.SealedEvent, err error) {
	if s, err = readSeal(ctx, tx, tenant, event); err != nil {
		return s, err
	}
	if what := s.Difference(); what != "" {
		return s, errors.New("it " + what)
	}
	return s, nil
}

// readSeal reads an event with its seal, or returns audit.ErrNotFound.
func readSeal(ctx context.Context, tx pgx.Tx, tenant, event uuid.UUID) (s logstore.SealedEvent, err error) {
	rows, err := tx.Query(ctx,
		`SELECT `+logstore.SealedColumns+
			` FROM audit_seals s LEFT JOIN audit_events e ON e.tenant_id = s.tenant_id AND e.id = s.event_id
	  WHERE s.tenant_id = $1 AND s.event_id = $2`, logstore.Binary(), tenant, event)
	if err != nil {
		return s, err
	}
	defer rows.Close()
	if !rows.Next() {
		return s, errors.Join(rows.Err(), audit.ErrNotFound)
	}
	if err := s.Scan(rows); err != nil {
		return s, err
	}
	s.Apply()
	return s, nil
}

// indexOf returns the index of an event's leaf. It is in the first tile that ends at or after the event's position, or
// in the open tile.
func indexOf(ctx context.Context, tx pgx.Tx, s *logstore.SealedEvent, h logstore.Head) (int64, error) {
	size := h.Size
	// An event that a resumed notary appended is in the segment after its epoch's.
	for segment := logstore.SegmentOf(s.Epoch); segment <= h.Last.Segment; segment++ {
		if segment%2 == 0 && segment != logstore.SegmentOf(s.Epoch) {
			continue
		}
		var tile int64
		var ids []byte
		err := tx.QueryRow(ctx,
			`SELECT tile, event_ids FROM audit_tiles
			WHERE tenant_id = $1 AND level = 0 AND (segment, xid, event_id) >= ($2, $3::text::xid8, $4)
			ORDER BY segment, xid, event_id
			LIMIT 1`, uuid.UUID(s.TenantID), segment, fmt.Sprint(s.XID), uuid.UUID(s.ID)).
			Scan(&tile, &ids)
		if err := logstore.IgnoreNoRows(err); err != nil {
			return 0, err
		}
		if i := findID(ids, s.ID); err == nil && i >= 0 {
			if index := tile*ledger.TileWidth + i; index < size {
				return index, nil
			}
			return 0, logstore.ErrNotInLog
		}
	}
	full := size / ledger.TileWidth * ledger.TileWidth
	_, ids, err := logstore.NewReader(ctx, tx, s.TenantID, size).OpenLeaves(full)
	if err != nil {
		return 0, err
	}
	if i := findID(ids, s.ID); i >= 0 {
		return full + i, nil
	}
	return 0, logstore.ErrNotInLog
}

func findID(ids []byte, id [16]byte) int64 {
	for i := 0; i+16 <= len(ids); i += 16 {
		if bytes.Equal(ids[i:i+16], id[:]) {
			return int64(i / 16)
		}
	}
	return -1
}
