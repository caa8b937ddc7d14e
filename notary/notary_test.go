package notary_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/tenantdb"
)

var (
	tenantA = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	tenantB = uuid.MustParse("22222222-2222-4222-8222-222222222222")
)

const name = "konstruct.example/test"

// office is a notary with its database, key and outside copy.
type office struct {
	*testkit.DB
	t    testing.TB
	dir  string
	db   *tenantdb.Evidence
	door *tenantdb.Door
	c    notary.Config
}

func open(t testing.TB) *office { return openOn(t, testkit.Database(t)) }

func openOn(t testing.TB, d *testkit.DB) *office {
	t.Helper()
	o := &office{DB: d, t: t, dir: t.TempDir(), door: testkit.DoorOf(t, d)}
	o.db = o.evidence()
	o.c = notary.Config{DB: o.db, Keys: notary.Keys{File: filepath.Join(o.dir, "key"), Name: name},
		Anchor: notary.FileAnchor(filepath.Join(o.dir, "checkpoint")),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	return o
}

func (o *office) evidence() *tenantdb.Evidence {
	o.t.Helper()
	db, err := tenantdb.OpenEvidence(o.t.Context(), o.URL("konstruct_notary"))
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(db.Close)
	return db
}

// log writes n events of a tenant.
func (o *office) log(tenant uuid.UUID, n int) []uuid.UUID {
	o.t.Helper()
	events := make([]audit.Event, n)
	for i := range events {
		events[i] = audit.Event{Action: "llm_call", UserID: "ada", Input: fmt.Sprintf("question %d", i),
			Output: "answer", Latency: time.Millisecond, Metadata: []byte(fmt.Sprintf(`{"n":%d}`, i))}
	}
	var ids []uuid.UUID
	for part := range slices.Chunk(events, audit.MaxBatch) {
		some, err := audit.LogBatch(o.t.Context(), o.door, tenant, part)
		if err != nil {
			o.t.Fatal(err)
		}
		ids = append(ids, some...)
	}
	return ids
}

// round runs a new notary until nothing more waits.
func (o *office) round() {
	o.t.Helper()
	if err := o.tryRound(); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) tryRound() error {
	n, err := notary.New(o.c)
	if err != nil {
		return err
	}
	defer n.Close()
	for more := true; more; {
		if more, err = n.Round(o.t.Context()); err != nil {
			return err
		}
	}
	return nil
}

// one asks the database for one value, as a superuser.
func one[T any](o *office, sql string, args ...any) (v T) {
	o.t.Helper()
	if err := o.super().QueryRow(o.t.Context(), sql, args...).Scan(&v); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (o *office) super() *pgx.Conn { return testkit.Connect(o.t, o.SuperuserURL()) }

func (o *office) key() ledger.Key {
	o.t.Helper()
	s, err := o.c.Keys.Load()
	if err != nil {
		o.t.Fatal(err)
	}
	return s.Key
}

func TestLogsGrowInOrderAndAreSigned(t *testing.T) {
	o := open(t)
	var ids []uuid.UUID
	for _, n := range []int{1, 3, 700, 1, 255, 70_000} {
		ids = append(ids, o.log(tenantA, n)...)
		o.log(tenantB, 2)
		o.round()
		size := int64(len(ids))
		note := one[string](o, `SELECT note FROM audit_checkpoints WHERE tenant_id = $1 ORDER BY size DESC LIMIT 1`,
			tenantA)
		c, err := ledger.OpenCheckpoint(note, o.key().OfTenant(tenantA))
		if err != nil || c.Size != size {
			t.Fatalf("a checkpoint of size %d, %v; want %d", c.Size, err, size)
		}
		kept, _, err := o.c.Anchor.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if stored := one[string](o,
			`SELECT note FROM audit_checkpoints WHERE tenant_id = $1 ORDER BY size DESC LIMIT 1`,
			logstore.Operator); stored != kept {
			t.Errorf("outside: %q, stored: %q", kept, stored)
		}
		if _, err := ledger.OpenCheckpoint(kept, o.key()); err != nil {
			t.Error(err)
		}
		// The root over the seals in the order of (xid, id), made by the plainest means.
		plain := ledger.NewRange(0)
		rows, err := o.super().
			Query(context.Background(), `SELECT leaf_hash FROM audit_seals WHERE tenant_id = $1 ORDER BY xid, event_id`,
				tenantA)
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
	if n := one[int](o, `SELECT count(*) FROM audit_tiles WHERE tenant_id = $1 AND level = 1`, tenantA); n != 1 {
		t.Errorf("%d tiles of level 1", n)
	}
	before := one[int](o, `SELECT count(*) FROM audit_heads`)
	o.round() // nothing new
	if after := one[int](o, `SELECT count(*) FROM audit_heads`); after != before {
		t.Errorf("an idle round made %d heads", after-before)
	}
}
