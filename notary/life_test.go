package notary_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// leaves is how many leaves a tenant's log has.
func (o *office) leaves(tenant uuid.UUID) (n int64) {
	return one[int64](o, `SELECT coalesce(max(size), 0) FROM audit_heads WHERE tenant_id = $1`, tenant)
}

func TestALateCommitterIsPutInOrderAndNotMissed(t *testing.T) {
	d := testkit.Own(t)
	super := testkit.Connect(t, d.SuperuserURL())
	if _, err := super.Exec(t.Context(), `ALTER SYSTEM SET max_prepared_transactions = 4`); err != nil {
		t.Fatal(err)
	}
	super.Close(t.Context())
	d.Cluster.Stop()
	in, err := devpg.Find(devpg.AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	if d.Cluster, err = devpg.Start(t.Context(), in, d.Dir); err != nil {
		t.Fatal(err)
	}
	o := openOn(t, d)
	var said bytes.Buffer
	o.c.Logger = slog.New(slog.NewTextHandler(&said, nil))
	insert := func(conn *pgx.Conn, what string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), `BEGIN; SET LOCAL app.current_tenant = '`+tenantA.String()+
			`'; INSERT INTO audit_events (tenant_id, action_type) VALUES ('`+tenantA.String()+`', '`+what+
			`')`); err != nil {
			t.Fatal(err)
		}
	}
	o.log(tenantA, 2)
	late, prepared := testkit.Connect(t, d.URL("konstruct_app")), testkit.Connect(t, d.URL("konstruct_app"))
	insert(late, "late")
	insert(prepared, "prepared")
	if _, err := prepared.Exec(t.Context(), `PREPARE TRANSACTION 'forgotten'`); err != nil {
		t.Fatal(err)
	}
	for range 3 { // these commit behind the two that are open
		o.log(tenantA, 2)
		o.log(tenantB, 1)
		o.round()
	}
	if n := o.leaves(tenantA); n != 2 {
		t.Errorf("%d leaves while a transaction is open, want the 2 before it", n)
	}
	if r := o.honest(); r.Waiting.Events != 9 {
		t.Errorf("%d events wait, want 9: %+v", r.Waiting.Events, r)
	}
	if _, err := late.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	o.round()
	if n := o.leaves(tenantA); n != 3 {
		t.Errorf("%d leaves while a prepared transaction is open, want 3", n)
	}
	if _, err := prepared.Exec(t.Context(), `COMMIT PREPARED 'forgotten'`); err != nil {
		t.Fatal(err)
	}
	o.round()
	if r := o.honest(); o.leaves(tenantA) != 10 || o.leaves(tenantB) != 3 || r.Waiting.Events != 0 {
		t.Errorf("%d and %d leaves, want 10 and 3: %+v", o.leaves(tenantA), o.leaves(tenantB), r)
	}
}

func TestADatabaseTakenBackIsNotSigned(t *testing.T) {
	o := open(t)
	o.log(tenantA, 10)
	o.round()
	yesterday := mustClone(t, o.idle())
	o.log(tenantA, 10)
	o.round()
	o.honest()
	restored := openOn(t, yesterday)
	restored.c.Keys, restored.c.Anchor = o.c.Keys, o.c.Anchor
	if r, found := restored.verify(); r.OK() || !strings.Contains(lines(found), "restored to an earlier state") {
		t.Errorf("verify: %+v\n%s", r, lines(found))
	}
	restored.log(tenantA, 30)
	for range 2 {
		if err := restored.tryRound(); !errors.Is(err, logstore.ErrRefused) ||
			!strings.Contains(err.Error(), "restored to an earlier state") {
			t.Errorf("a round: %v", err)
		}
	}
	s, err := notary.ReadStatus(t.Context(), restored.db, restored.c.Anchor)
	if err != nil || s.Anchor != notary.AnchorAhead || s.Ready() {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := notary.Resume(t.Context(), restored.c, true); !errors.Is(err, logstore.ErrRefused) {
		t.Errorf("resume: %v", err)
	}
	o.log(tenantA, 1)
	o.round() // the other one goes on
	o.honest()
}

// mustClone copies a database.
func mustClone(t *testing.T, from string) *testkit.DB {
	t.Helper()
	d, err := testkit.Clone(from)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// idle closes the office's connections, so that its database can be copied, and returns its name.
func (o *office) idle() string {
	o.t.Helper()
	o.db.Close()
	o.door.Close()
	conn := testkit.Connect(o.t, o.Cluster.SuperuserURL("postgres"))
	if _, err := conn.Exec(o.t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`,
		o.Name); err != nil {
		o.t.Fatal(err)
	}
	o.db, o.door = o.evidence(), testkit.DoorOf(o.t, o.DB)
	o.c.DB = o.db
	return o.Name
}

// TestAForkIsNeverSigned has a second notary with the same key, on a copy of the database, sign another history.
func TestAForkIsNeverSigned(t *testing.T) {
	o := open(t)
	o.log(tenantA, 10)
	o.round()
	fork := openOn(t, mustClone(t, o.idle()))
	fork.c.Keys, fork.c.Anchor = o.c.Keys, o.c.Anchor
	second, err := notary.New(fork.c)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Round(t.Context()); err != nil { // it has seen the copy outside, and nothing is new
		t.Fatal(err)
	}
	o.log(tenantA, 1)
	o.round()
	fork.log(tenantA, 1)
	if _, err := second.Round(t.Context()); !errors.Is(err, notary.ErrChanged) {
		t.Errorf("signing the same size: %v", err)
	}
	if _, err := second.Round(t.Context()); !errors.Is(err, logstore.ErrRefused) ||
		!strings.Contains(err.Error(), "rewritten") {
		t.Errorf("a fork of the same size: %v", err)
	}
	if n := one[int](fork, `SELECT count(*) FROM audit_checkpoints WHERE tenant_id = $1 AND size = 11`,
		tenantA); n != 0 {
		t.Error("the fork has a signature")
	}
	if r, found := fork.verify(); r.OK() || !strings.Contains(lines(found), "rewritten") {
		t.Errorf("verify: %+v\n%s", r, lines(found))
	}
	o.honest()
	missing := *o
	missing.c.Anchor = notary.FileAnchor(filepath.Join(t.TempDir(), "nothing"))
	o.log(tenantA, 1)
	if err := missing.tryRound(); !errors.Is(err, logstore.ErrRefused) ||
		!strings.Contains(err.Error(), "nothing is kept outside") {
		t.Errorf("without the copy outside: %v", err)
	}
	if _, err := notary.Resume(t.Context(), missing.c, false); !errors.Is(err, logstore.ErrRefused) {
		t.Errorf("resume that believes nothing: %v", err)
	}
	if _, err := notary.Resume(t.Context(), missing.c, true); err != nil {
		t.Errorf("resume that believes the database: %v", err)
	}
	missing.round()
	missing.honest()
}

func TestAMovedDatabaseWaitsForResume(t *testing.T) {
	o := open(t)
	ids := o.log(tenantA, 300)
	o.round()
	ids = append(ids, o.log(tenantA, 5)...) // these are in no log when the database moves
	there := testkit.Own(t)
	move(t, o.DB, there)
	n := openOn(t, there)
	n.c.Keys, n.c.Anchor = o.c.Keys, o.c.Anchor
	ids = append(ids, n.log(tenantA, 4)...) // with the new cluster's transaction ids, lower than the old one's
	if err := n.tryRound(); !errors.Is(err, logstore.ErrRefused) ||
		!strings.Contains(err.Error(), "moved or restored") {
		t.Fatalf("a round after the move: %v", err)
	}
	s, err := notary.Resume(t.Context(), n.c, false)
	if err != nil || !s.Moved || s.Epoch != 2 || s.Anchor != notary.AnchorAgrees {
		t.Fatalf("resume: %+v, %v", s, err)
	}
	ids = append(ids, n.log(tenantA, 6)...)
	n.round()
	if r := n.honest(); r.Leaves != int64(len(ids)) || r.Waiting.Events != 0 {
		t.Errorf("%+v, want %d leaves", r, len(ids))
	}
	for _, i := range []int{0, 299, 300, 304, 305, 309, len(ids) - 1} {
		if _, err := verify.Prove(t.Context(), n.db, tenantA, ids[i], nil); err != nil {
			t.Errorf("event %d: %v", i, err)
		}
	}
	ids = append(ids, n.log(tenantA, 600)...)
	n.round()
	n.honest()
	for _, i := range []int{299, 301, 306, 312, 500} {
		if _, err := verify.Prove(t.Context(), n.db, tenantA, ids[i], nil); err != nil {
			t.Errorf("event %d, when its tile is full: %v", i, err)
		}
	}
	if r := n.check(n.bundle(tenantA, evidence.Filter{})); !r.OK() || r.Matching != int64(len(ids)) {
		t.Errorf("evidence over both clusters: %d of %d\n%s", r.Matching, len(ids), problems(r))
	}
}

// move dumps a database and restores it in another cluster, as PostgreSQL's own tools do.
func move(t *testing.T, from, to *testkit.DB) {
	t.Helper()
	in, err := devpg.Find(devpg.AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(t.TempDir(), "dump")
	conn := testkit.Connect(t, to.Cluster.SuperuserURL("postgres"))
	for _, sql := range []string{`DROP DATABASE konstruct WITH (FORCE)`,
		`CREATE DATABASE konstruct OWNER konstruct_owner`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"pg_dump", "-Fc", "-f", dump, from.SuperuserURL()},
		{"pg_restore", "-d", to.SuperuserURL(), dump}} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(in.Bin, args[0]), args[1:]...)
		cmd.Env = append(os.Environ(), "PGOPTIONS=-c konstruct.allow_ddl=on")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("%s: %v\n%s", args[0], err, out) // the extension is there already, in template1
			if args[0] == "pg_dump" {
				t.FailNow()
			}
		}
	}
}

func TestTwoNotariesAtOnceDoNoHarm(t *testing.T) {
	o := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := notary.New(o.c)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := first.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.tryRound(); !errors.Is(err, tenantdb.ErrLeased) {
		t.Errorf("a second notary: %v", err)
	}
	// And without the lease between them: each believes that it is the only one.
	var both sync.WaitGroup
	made, failed := make([]int, 2), make([]error, 2)
	for i := range made {
		n, err := notary.New(o.c)
		if err != nil {
			t.Fatal(err)
		}
		n.Unlease()
		both.Go(func() {
			defer n.Close()
			for ctx.Err() == nil {
				if _, err := n.Round(ctx); err == nil {
					made[i]++
				} else if ctx.Err() == nil {
					failed[i] = err
				}
			}
		})
	}
	for range 40 {
		o.log(tenantA, 20)
		o.log(tenantB, 1)
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	both.Wait()
	first.Close()
	o.round()
	if made[0]+made[1] == 0 {
		t.Errorf("no round succeeded: %v", failed)
	}
	for _, err := range failed {
		if errors.Is(err, logstore.ErrRefused) {
			t.Errorf("a notary refused: %v", err)
		}
	}
	t.Logf("rounds that succeeded: %v; failed last: %v", made, failed)
	if r := o.honest(); r.Leaves != 840 {
		t.Errorf("%+v", r)
	}
}

func TestKeysRotate(t *testing.T) {
	o := open(t)
	o.log(tenantA, 3)
	o.round()
	old := o.key()
	before := o.bundle(tenantA, evidence.Filter{})
	if _, err := o.c.Keys.Rotate(); err != nil {
		t.Fatal(err)
	}
	if o.key().Equal(old) != true {
		t.Error("the key changed before the log knew the next one")
	}
	o.log(tenantA, 3)
	o.round()
	now := o.key()
	if now.Equal(old) {
		t.Fatal("the key did not change")
	}
	o.log(tenantA, 3)
	o.round()
	o.honest()
	after := o.bundle(tenantA, evidence.Filter{})
	for _, c := range []struct {
		name   string
		bundle []byte
		key    ledger.Key
		ok     bool
	}{{"old bundle, old key", before, old, true}, {"new bundle, new key", after, now, true},
		{"new bundle, old key, which leads on", after, old, true}, {"old bundle, new key", before, now, false}} {
		r := o.check(c.bundle, func(t *evidence.Trust) { t.Key = c.key })
		if r.OK() != c.ok {
			t.Errorf("%s: %v\n%s", c.name, r.OK(), problems(r))
		}
	}
	info, err := os.Stat(o.c.Keys.File)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info.Mode(), err)
	}
	other := o.c
	other.Keys.File = filepath.Join(t.TempDir(), "another")
	o.log(tenantA, 1)
	o2 := *o
	o2.c = other
	if err := o2.tryRound(); !errors.Is(err, logstore.ErrRefused) ||
		!strings.Contains(err.Error(), "give the notary its own key") {
		t.Errorf("with another key: %v", err)
	}
	if err := os.Chmod(o.c.Keys.File, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := o.tryRound(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}

func TestSilentLogsGetAHeartbeat(t *testing.T) {
	o := open(t)
	o.c.Every, o.c.Heartbeat = 10*time.Millisecond, 50*time.Millisecond
	o.log(tenantA, 3)
	o.round()
	time.Sleep(80 * time.Millisecond)
	o.round()
	if n := one[int](o, `SELECT count(*) FROM audit_checkpoints WHERE tenant_id = $1 AND size = 3`, tenantA); n != 2 {
		t.Errorf("%d checkpoints of size 3, want the first and a heartbeat", n)
	}
	o.honest()
	r := o.check(o.bundle(tenantA, evidence.Filter{}))
	if !r.OK() || time.Since(r.Signed) > 5*time.Second {
		t.Errorf("%+v", r)
	}
}

// dying is a copy outside whose notary is killed as it takes a checkpoint: before it did, or after.
type dying struct {
	notary.Anchor
	after bool
}

var errKilled = errors.New("killed")

func (d dying) Swap(ctx context.Context, version, note string) (string, error) {
	if d.after {
		if _, err := d.Anchor.Swap(ctx, version, note); err != nil {
			return "", err
		}
	}
	return "", errKilled
}

// TestARotationSurvivesAKill kills the notary between the steps in which a new key takes over.
func TestARotationSurvivesAKill(t *testing.T) {
	for _, after := range []bool{false, true} {
		o := open(t)
		o.log(tenantA, 3)
		o.round()
		old, outside := o.key(), o.c.Anchor
		if _, err := o.c.Keys.Rotate(); err != nil {
			t.Fatal(err)
		}
		o.log(tenantA, 3)
		o.c.Anchor = dying{outside, after}
		if err := o.tryRound(); !errors.Is(err, errKilled) {
			t.Fatalf("a round that is killed: %v", err)
		}
		o.c.Anchor = outside
		o.round()
		if o.key().Equal(old) {
			t.Error("the key did not change")
		}
		o.log(tenantA, 1)
		o.round()
		o.honest()
		if r := o.check(o.bundle(tenantA, evidence.Filter{}), func(t *evidence.Trust) { t.Key = old }); !r.OK() {
			t.Errorf("with the old key, which leads on: %s", problems(r))
		}
	}
}
