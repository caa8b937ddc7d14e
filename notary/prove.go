package notary

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
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
)

// ErrNotInLog says that an event is sealed, and that no signed checkpoint covers it yet.
var ErrNotInLog = errors.New("the event is in no signed checkpoint yet: the notary puts it there within a second or " +
	"two when it runs (konstruct notary run)")

// Prove returns a C2SP tlog-proof that an event stands in its tenant's log. Its extra data is the event's record with
// the given fields opened; nil opens all.
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
		head, note, err := lastSigned(ctx, tx, tenant, 0)
		if err != nil {
			return err
		}
		index, err := indexOf(ctx, tx, &s, head)
		if err != nil {
			return err
		}
		r := tlog.TileHashReader(tlog.Tree{N: head.size, Hash: tlog.Hash(head.root)},
			&reader{ctx, tx, tenant, head.size})
		p, err := tlog.ProveRecord(head.size, index, r)
		if err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		if err := tlog.CheckRecord(p, head.size, tlog.Hash(head.root), index, tlog.Hash(s.Leaf)); err != nil {
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

// Sample returns some events of a tenant, spread over its log: for who measures.
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

// sealedLeaf reads one event with its seal, which must match.
func sealedLeaf(ctx context.Context, tx pgx.Tx, tenant, event uuid.UUID) (s audit.SealedEvent, err error) {
	if s, err = readSeal(ctx, tx, tenant, event); err != nil {
		return s, err
	}
	if what := s.Difference(); what != "" {
		return s, errors.New("it " + what)
	}
	return s, nil
}

// readSeal reads one event with its seal, or returns audit.ErrNotFound.
func readSeal(ctx context.Context, tx pgx.Tx, tenant, event uuid.UUID) (s audit.SealedEvent, err error) {
	rows, err := tx.Query(ctx,
		`SELECT `+audit.SealedColumns+
			` FROM audit_seals s LEFT JOIN audit_events e ON e.tenant_id = s.tenant_id AND e.id = s.event_id
	  WHERE s.tenant_id = $1 AND s.event_id = $2`, audit.Binary(), tenant, event)
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

// provenLeaf returns a leaf's hash, proven in a head's root.
func provenLeaf(r *reader, h head, index int64) (ledger.Hash, error) {
	hashes, err := r.prove(h, []int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return ledger.Hash{}, fmt.Errorf("leaf %d of log %s: %w", index, r.tenant, err)
	}
	return hashes[0], nil
}

// headCovering is the first signed head that a leaf is in.
func headCovering(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, index int64) (head, string, error) {
	return firstSigned(ctx, tx, `c.tenant_id = $1 AND c.size > $2 ORDER BY c.size, c.anchor`, tenant, index)
}

// lastSigned is a log's newest signed head, below an anchor of the super-log where one is given.
func lastSigned(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, below int64) (h head, note string, err error) {
	return firstSigned(ctx, tx, `c.tenant_id = $1 AND ($2 = 0 OR c.anchor < $2) ORDER BY c.size DESC, c.anchor DESC`,
		tenant, below)
}

// firstSigned is the first checkpoint of those asked for, with its head. It is chosen before heads are looked at:
// joined first, all of a log's checkpoints and heads were read for one.
func firstSigned(ctx context.Context, tx pgx.Tx, which string, args ...any) (h head, note string, err error) {
	rows, err := tx.Query(ctx, `SELECT `+headSQL+`, c.note FROM (SELECT * FROM audit_checkpoints c WHERE `+which+
		` LIMIT 1) c JOIN audit_heads h USING (tenant_id, size, anchor)`, args...)
	if err != nil {
		return h, "", err
	}
	return signedHead(rows)
}

func signedHead(rows pgx.Rows) (h head, note string, err error) {
	_, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
		h, err = scanHead(withLast{row, &note})
		return struct{}{}, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotInLog
	}
	return h, note, err
}

// withLast scans a row's last column into one place and those before it as they are asked for.
type withLast struct {
	pgx.CollectableRow
	last any
}

// Scan implements pgx.CollectableRow.
func (r withLast) Scan(dest ...any) error { return r.CollectableRow.Scan(append(dest, r.last)...) }

// indexOf finds an event's leaf: the first tile that ends at or behind the event's place holds it, or the open tile
// does.
func indexOf(ctx context.Context, tx pgx.Tx, s *audit.SealedEvent, h head) (int64, error) {
	size := h.size
	// An event that a resumed notary found left stands in a segment behind its epoch's.
	for segment := segmentOf(s.Epoch); segment <= h.last.segment; segment++ {
		if segment%2 == 0 && segment != segmentOf(s.Epoch) {
			continue
		}
		var tile int64
		var ids []byte
		err := tx.QueryRow(ctx,
			`SELECT tile, event_ids FROM audit_tiles WHERE tenant_id = $1 AND level = 0 AND (segment, xid, event_id) >= ($2, $3::text::xid8, $4)
		  ORDER BY segment, xid, event_id LIMIT 1`, uuid.UUID(s.TenantID), segment, fmt.Sprint(s.XID), uuid.UUID(s.ID)).
			Scan(&tile, &ids)
		if err := ignoreNone(err); err != nil {
			return 0, err
		}
		if i := findID(ids, s.ID); err == nil && i >= 0 {
			if index := tile*ledger.TileWidth + i; index < size {
				return index, nil
			}
			return 0, ErrNotInLog
		}
	}
	full := size / ledger.TileWidth * ledger.TileWidth
	_, ids, err := (&reader{ctx, tx, s.TenantID, size}).open(full)
	if err != nil {
		return 0, err
	}
	if i := findID(ids, s.ID); i >= 0 {
		return full + i, nil
	}
	return 0, ErrNotInLog
}

func findID(ids []byte, id [16]byte) int64 {
	for i := 0; i+16 <= len(ids); i += 16 {
		if bytes.Equal(ids[i:i+16], id[:]) {
			return int64(i / 16)
		}
	}
	return -1
}

// superTree is the super-log at a signed size, to prove leaves in.
type superTree struct {
	size   int64
	signed string // as the notary signed it
	note   string // with what witnesses said
	hashes tlog.HashReader
}

func openSuper(ctx context.Context, tx pgx.Tx, size int64) (*superTree, error) {
	h, note, err := firstSigned(ctx, tx, `c.tenant_id = $1 AND ($2 = 0 OR c.size = $2) ORDER BY c.size DESC`,
		Operator, size)
	if err != nil {
		return nil, err
	}
	s := &superTree{size: h.size, signed: note,
		hashes: tlog.TileHashReader(tlog.Tree{N: h.size, Hash: tlog.Hash(h.root)}, &reader{ctx, tx, Operator, h.size})}
	s.note, err = cosigned(ctx, tx, note, h.size)
	return s, err
}

// cosigned adds what witnesses said to a super-log's checkpoint.
func cosigned(ctx context.Context, tx pgx.Tx, note string, size int64) (string, error) {
	rows, err := tx.Query(ctx,
		`SELECT said FROM audit_witnesses WHERE tenant_id = $1 AND size = $2 AND kind = 'cosignature' ORDER BY name`,
		Operator, size)
	if err != nil {
		return "", err
	}
	var line []byte
	_, err = pgx.ForEachRow(rows, []any{&line}, func() error { note += string(line); return nil })
	return note, err
}

func (s *superTree) prove(index int64) ([]evidence.Hash, error) {
	p, err := tlog.ProveRecord(s.size, index, s.hashes)
	if err != nil {
		return nil, fmt.Errorf("leaf %d of the super-log: %w", index, err)
	}
	out := make([]evidence.Hash, len(p))
	for i, h := range p {
		out[i] = evidence.Hash(h)
	}
	return out, nil
}
