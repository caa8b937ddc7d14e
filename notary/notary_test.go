package notary_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

func TestLogsGrowInOrderAndAreSigned(t *testing.T) {
	o := trailkit.Open(t)
	var ids []uuid.UUID
	for _, n := range []int{1, 3, 700, 1, 255, 70_000} {
		ids = append(ids, o.Log(trailkit.TenantA, n)...)
		o.Log(trailkit.TenantB, 2)
		o.Round()
		size := int64(len(ids))
		note := trailkit.One[string](o, `SELECT note FROM audit_checkpoints WHERE tenant_id = $1 ORDER BY size DESC
			LIMIT 1`,
			trailkit.TenantA)
		c, err := ledger.OpenCheckpoint(note, o.Key().OfTenant(trailkit.TenantA))
		if err != nil || c.Size != size {
			t.Fatalf("a checkpoint of size %d, %v; want %d", c.Size, err, size)
		}
		kept, _, err := o.Config.Anchor.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if stored := trailkit.One[string](o,
			`SELECT note FROM audit_checkpoints WHERE tenant_id = $1 ORDER BY size DESC LIMIT 1`,
			logstore.Operator); stored != kept {
			t.Errorf("outside: %q, stored: %q", kept, stored)
		}
		if _, err := ledger.OpenCheckpoint(kept, o.Key()); err != nil {
			t.Error(err)
		}
		// The root over the seals in the order of (xid, id), made by the plainest means.
		plain := ledger.NewRange(0)
		rows, err := o.Super().
			Query(context.Background(), `SELECT leaf_hash FROM audit_seals WHERE tenant_id = $1 ORDER BY xid, event_id`,
				trailkit.TenantA)
		if err != nil {
			t.Fatal(err)
		}
		var leaf []byte
		if _, err := pgx.ForEachRow(rows, []any{&leaf}, func() error {
			return plain.Append(ledger.Hash(leaf))
		}); err != nil {
			t.Fatal(err)
		}
		if root, err := plain.Root(); err != nil || root != c.Root {
			t.Errorf("size %d: root %x, want %x", size, c.Root, root)
		}
	}
	if n := trailkit.One[int](o, `SELECT count(*) FROM audit_tiles WHERE tenant_id = $1
		AND level = 1`, trailkit.TenantA); n != 1 {
		t.Errorf("%d tiles of level 1", n)
	}
	before := trailkit.One[int](o, `SELECT count(*) FROM audit_heads`)
	o.Round() // nothing new
	if after := trailkit.One[int](o, `SELECT count(*) FROM audit_heads`); after != before {
		t.Errorf("an idle round made %d heads", after-before)
	}
}
