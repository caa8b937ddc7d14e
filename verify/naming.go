package verify

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

//go:embed sql/overlooked.sql
var overlookedSQL string

// nameLeaves finds the events that make a tenant's seals differ from its log; it is slower than finding that some do.
func (v *verifier) nameLeaves(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) error {
	named := 0
	name := func(id uuid.UUID, what string) {
		named++
		v.Broken++
		v.OnFinding(Finding{Tenant: tenant, Event: id, Problem: what})
	}
	if err := v.leavesWithoutSeals(ctx, tx, tenant, name); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, overlookedSQL, tenant, v.scanned.Segment/2, fmt.Sprint(v.scanned.XID),
		v.scanned.ID)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var recorded time.Time
	if _, err := pgx.ForEachRow(rows, []any{&id, &recorded}, func() error {
		name(id, fmt.Sprintf("is in no log, although its transaction ended before the last checkpoint: it was "+
			"inserted later and claims to be recorded at %s", recorded.UTC().Format(time.RFC3339Nano)))
		return nil
	}); err != nil {
		return err
	}
	if named == 0 {
		v.addProblem(tenant, "log", "its leaves differ from its seals, and no event could be identified")
	}
	return nil
}

// leavesWithoutSeals reports leaves whose seal is missing or differs.
func (v *verifier) leavesWithoutSeals(ctx context.Context, tx pgx.Tx, tenant uuid.UUID,
	name func(uuid.UUID, string)) error {
	last, err := logstore.LastHead(ctx, tx, tenant)
	if err != nil {
		return logstore.IgnoreNoRows(err)
	}
	deletions, err := readDeletedLeaves(ctx, tx, tenant, 0, last.Size)
	if err != nil {
		return err
	}
	full := last.Size / ledger.TileWidth
	for t := int64(0); t <= full; t++ {
		var hashes, ids []byte
		if t < full {
			err = tx.QueryRow(ctx,
				`SELECT hashes, event_ids FROM audit_tiles WHERE tenant_id = $1 AND level = 0 AND tile = $2`, tenant,
				t).Scan(&hashes, &ids)
		} else {
			hashes, ids, err = logstore.NewReader(ctx, tx, tenant, last.Size).OpenLeaves(t * ledger.TileWidth)
		}
		if err != nil || len(ids)*2 != len(hashes) {
			return nil // the walk reports a missing or malformed tile
		}
		list := make([]uuid.UUID, len(ids)/16)
		for i := range list {
			copy(list[i][:], ids[16*i:])
		}
		rows, err := tx.Query(ctx,
			`SELECT event_id, leaf_hash FROM audit_seals WHERE tenant_id = $1 AND event_id = ANY ($2)`, tenant, list)
		if err != nil {
			return err
		}
		sealed := map[uuid.UUID]string{}
		var id uuid.UUID
		var leaf []byte
		if _, err := pgx.ForEachRow(rows, []any{&id, &leaf}, func() error {
			sealed[id] = string(leaf)
			return nil
		}); err != nil {
			return err
		}
		for i, id := range list {
			at := t*ledger.TileWidth + int64(i)
			switch leaf, there := sealed[id]; {
			case deletions.contains(at):
			case !there:
				name(id, fmt.Sprintf("is leaf %d of the log, and its seal is gone: it was removed", at))
			case leaf != string(hashes[i*tlog.HashSize:(i+1)*tlog.HashSize]):
				name(id, fmt.Sprintf("is leaf %d of the log with another hash than its seal has: it was rewritten "+
					"together with its seal, or the log was", at))
			}
		}
	}
	return nil
}

// signed records the newest checkpoint's time.
func (v *verifier) signed(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at.After(v.SignedAt) {
		v.SignedAt = at.UTC()
	}
}
