package trailkit

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// Attack runs SQL as a superuser who has switched every trigger of ours off.
func (o *Trail) Attack(sql string, args ...any) {
	o.T.Helper()
	conn := o.Super()
	defer conn.Close(context.Background())
	tx, err := conn.Begin(o.T.Context())
	if err != nil {
		o.T.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(o.T.Context(), `SET LOCAL konstruct.allow_ddl = on`); err != nil {
		o.T.Fatal(err)
	}
	const disable = `DO $$ DECLARE t text; BEGIN FOR t IN SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger
		WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'audit\_%' LOOP
	  EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', t); END LOOP; END $$`
	const enable = `DO $$ DECLARE r record; BEGIN FOR r IN SELECT tgrelid::regclass AS tbl, tgname FROM pg_trigger
		WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'audit\_%' LOOP
	  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', r.tbl, r.tgname); END LOOP; END $$`
	if _, err := tx.Exec(o.T.Context(), disable); err != nil {
		o.T.Fatal(err)
	}
	if tag, err := tx.Exec(o.T.Context(), sql, args...); err != nil || tag.RowsAffected() == 0 {
		o.T.Fatalf("%s: %v, %s", sql, err, tag)
	}
	if _, err := tx.Exec(o.T.Context(), enable); err != nil {
		o.T.Fatal(err)
	}
	if err := tx.Commit(o.T.Context()); err != nil {
		o.T.Fatal(err)
	}
}

// Verify verifies everything, against the key and the anchor, and returns what was found.
func (o *Trail) Verify(change ...func(*verify.Options)) (*verify.Result, []verify.Finding) {
	o.T.Helper()
	key := o.Key()
	var found []verify.Finding
	v := verify.Options{Key: &key, Anchor: o.Config.Anchor, IntegrateWithin: time.Hour, Floor: evidence.DefaultFloor,
		OnFinding: func(f verify.Finding) {
			found = append(found, f)
		}}
	for _, c := range change {
		c(&v)
	}
	r, err := verify.Run(o.T.Context(), o.Logs, v)
	if err != nil {
		o.T.Fatal(err)
	}
	return r, found
}

// MustHold holds that everything verifies.
func (o *Trail) MustHold() *verify.Result {
	o.T.Helper()
	r, found := o.Verify()
	if !r.OK() || len(found) > 0 {
		o.T.Fatalf("an honest log: %+v\n%s", r, Lines(found))
	}
	return r
}

func Lines(found []verify.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "tenant %s event %s place %q: %s\n", f.Tenant, f.Event, f.Location, f.Problem)
	}
	return b.String()
}

// Bundle makes evidence of a tenant.
func (o *Trail) Bundle(tenant uuid.UUID, f evidence.Filter, withheld ...string) []byte {
	o.T.Helper()
	var b bytes.Buffer
	if _, err := verify.WriteBundle(o.T.Context(), o.Logs, tenant, f, withheld, &b, nil); err != nil {
		o.T.Fatal(err)
	}
	return b.Bytes()
}

// Check verifies a bundle with the office's key.
func (o *Trail) Check(bundle []byte, change ...func(*evidence.Trust)) *evidence.Result {
	o.T.Helper()
	t := evidence.Trust{Key: o.Key(), Floor: evidence.DefaultFloor}
	for _, c := range change {
		c(&t)
	}
	r, err := evidence.Verify(bytes.NewReader(bundle), int64(len(bundle)), t)
	if err != nil {
		return &evidence.Result{Count: 1, Problems: []evidence.Problem{{Description: err.Error()}}}
	}
	return r
}

func Problems(r *evidence.Result) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "event %s place %q: %s\n", p.Event, p.Location, p.Description)
	}
	return b.String()
}

// Compliance is the law's role on the office's database.
func (o *Trail) Compliance() *tenantdb.Compliance {
	o.T.Helper()
	c, err := tenantdb.OpenCompliance(o.T.Context(), o.URL("konstruct_compliance"))
	if err != nil {
		o.T.Fatal(err)
	}
	o.T.Cleanup(c.Close)
	return c
}

// Leaves is how many leaves a tenant's log has.
func (o *Trail) Leaves(tenant uuid.UUID) (n int64) {
	return One[int64](o, `SELECT coalesce(max(size), 0) FROM audit_heads WHERE tenant_id = $1`, tenant)
}

// IdleConnections closes the office's connections, so that its database can be copied, and returns its name.
func (o *Trail) IdleConnections() string {
	o.T.Helper()
	o.Logs.Close()
	o.Door.Close()
	conn := testkit.Connect(o.T, o.Cluster.SuperuserURL("postgres"))
	if _, err := conn.Exec(o.T.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`,
		o.Name); err != nil {
		o.T.Fatal(err)
	}
	o.Logs, o.Door = o.OpenLogs(), testkit.DoorOf(o.T, o.DB)
	o.Config.DB = o.Logs
	return o.Name
}

// Reseal is what somebody with all our code, and every right in the database, makes of an event's seal after a change.
const Reseal = `UPDATE audit_seals s SET (salt, commitments, leaf_hash) = (SELECT n.salt, n.c, audit_leaf(n.c, s.mode,
	s.recorded_at, e.tenant_id, e.id, e.created_at)
   FROM (SELECT e.*, uuid_send(gen_random_uuid()) AS newsalt) e,
   LATERAL (SELECT e.newsalt AS salt, audit_commitments(e.newsalt, e.agent_id, e.user_id, e.action_type,
   e.input_summary, e.output_summary, e.latency_ms, e.metadata) AS c) n)
  FROM audit_events e WHERE e.tenant_id = s.tenant_id AND e.id = s.event_id AND s.event_id = $1`

// EditManifest rewrites a bundle's manifest.
func EditManifest(t *testing.T, bundle []byte, how func(*evidence.Manifest)) []byte {
	t.Helper()
	return EditFile(t, bundle, "manifest.json", func(raw []byte) []byte {
		var m evidence.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		how(&m)
		raw, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return raw
	})
}

// EditFile rewrites one file of a bundle.
func EditFile(t *testing.T, bundle []byte, file string, how func([]byte) []byte) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(bundle), int64(len(bundle)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range in.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == file {
			raw = how(raw)
		}
		to, err := w.CreateHeader(&zip.FileHeader{Name: f.Name, Method: f.Method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
