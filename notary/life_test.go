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
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

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
	o := trailkit.OpenOn(t, d)
	var said bytes.Buffer
	o.Config.Logger = slog.New(slog.NewTextHandler(&said, nil))
	insert := func(conn *pgx.Conn, what string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), `BEGIN; SET LOCAL app.current_tenant = '`+trailkit.TenantA.String()+
			`'; INSERT INTO audit_events (tenant_id, action_type) VALUES ('`+trailkit.TenantA.String()+`', '`+what+
			`')`); err != nil {
			t.Fatal(err)
		}
	}
	o.Log(trailkit.TenantA, 2)
	late, prepared := testkit.Connect(t, d.URL("konstruct_app")), testkit.Connect(t, d.URL("konstruct_app"))
	insert(late, "late")
	insert(prepared, "prepared")
	if _, err := prepared.Exec(t.Context(), `PREPARE TRANSACTION 'forgotten'`); err != nil {
		t.Fatal(err)
	}
	for range 3 { // these commit behind the two that are open
		o.Log(trailkit.TenantA, 2)
		o.Log(trailkit.TenantB, 1)
		o.Round()
	}
	if n := o.Leaves(trailkit.TenantA); n != 2 {
		t.Errorf("%d leaves while a transaction is open, want the 2 before it", n)
	}
	if r := o.MustHold(); r.Waiting.Events != 9 {
		t.Errorf("%d events wait, want 9: %+v", r.Waiting.Events, r)
	}
	if _, err := late.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	o.Round()
	if n := o.Leaves(trailkit.TenantA); n != 3 {
		t.Errorf("%d leaves while a prepared transaction is open, want 3", n)
	}
	if _, err := prepared.Exec(t.Context(), `COMMIT PREPARED 'forgotten'`); err != nil {
		t.Fatal(err)
	}
	o.Round()
	if r := o.MustHold(); o.Leaves(trailkit.TenantA) != 10 || o.Leaves(trailkit.TenantB) != 3 || r.Waiting.Events != 0 {
		t.Errorf("%d and %d leaves, want 10 and 3: %+v", o.Leaves(trailkit.TenantA), o.Leaves(trailkit.TenantB), r)
	}
}

func TestADatabaseTakenBackIsNotSigned(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 10)
	o.Round()
	yesterday := mustClone(t, o.IdleConnections())
	o.Log(trailkit.TenantA, 10)
	o.Round()
	o.MustHold()
	restored := trailkit.OpenOn(t, yesterday)
	restored.Config.Keys, restored.Config.Anchor = o.Config.Keys, o.Config.Anchor
	if r, found := restored.Verify(); r.OK() ||
		!strings.Contains(trailkit.Lines(found), "restored to an earlier state") {
		t.Errorf("verify: %+v\n%s", r, trailkit.Lines(found))
	}
	restored.Log(trailkit.TenantA, 30)
	for range 2 {
		if err := restored.TryRound(); !errors.Is(err, logstore.ErrRefused) ||
			!strings.Contains(err.Error(), "restored to an earlier state") {
			t.Errorf("a round: %v", err)
		}
	}
	s, err := notary.ReadStatus(t.Context(), restored.Logs, restored.Config.Anchor)
	if err != nil || s.Anchor != notary.AnchorAhead || s.Ready() {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := notary.Resume(t.Context(), restored.Config, true); !errors.Is(err, logstore.ErrRefused) {
		t.Errorf("resume: %v", err)
	}
	o.Log(trailkit.TenantA, 1)
	o.Round() // the other database continues
	o.MustHold()
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

// TestAForkIsNeverSigned has a second notary with the same key, on a copy of the database, sign another history.
func TestAForkIsNeverSigned(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 10)
	o.Round()
	fork := trailkit.OpenOn(t, mustClone(t, o.IdleConnections()))
	fork.Config.Keys, fork.Config.Anchor = o.Config.Keys, o.Config.Anchor
	second, err := notary.New(fork.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Round(t.Context()); err != nil { // it has read the anchor, and there are no new events
		t.Fatal(err)
	}
	o.Log(trailkit.TenantA, 1)
	o.Round()
	fork.Log(trailkit.TenantA, 1)
	if _, err := second.Round(t.Context()); !errors.Is(err, notary.ErrChanged) {
		t.Errorf("signing the same size: %v", err)
	}
	if _, err := second.Round(t.Context()); !errors.Is(err, logstore.ErrRefused) ||
		!strings.Contains(err.Error(), "rewritten") {
		t.Errorf("a fork of the same size: %v", err)
	}
	if n := trailkit.One[int](fork, `SELECT count(*) FROM audit_checkpoints WHERE tenant_id = $1 AND size = 11`,
		trailkit.TenantA); n != 0 {
		t.Error("the fork has a signature")
	}
	if r, found := fork.Verify(); r.OK() || !strings.Contains(trailkit.Lines(found), "rewritten") {
		t.Errorf("verify: %+v\n%s", r, trailkit.Lines(found))
	}
	o.MustHold()
	missing := *o
	missing.Config.Anchor = notary.FileAnchor(filepath.Join(t.TempDir(), "nothing"))
	o.Log(trailkit.TenantA, 1)
	if err := missing.TryRound(); !errors.Is(err, logstore.ErrRefused) ||
		!strings.Contains(err.Error(), "the anchor holds nothing") {
		t.Errorf("without the anchor: %v", err)
	}
	if _, err := notary.Resume(t.Context(), missing.Config, false); !errors.Is(err, logstore.ErrRefused) {
		t.Errorf("resume that believes nothing: %v", err)
	}
	if _, err := notary.Resume(t.Context(), missing.Config, true); err != nil {
		t.Errorf("resume that believes the database: %v", err)
	}
	missing.Round()
	missing.MustHold()
}

func TestAMovedDatabaseWaitsForResume(t *testing.T) {
	o := trailkit.Open(t)
	ids := o.Log(trailkit.TenantA, 300)
	o.Round()
	ids = append(ids, o.Log(trailkit.TenantA, 5)...) // these are in no log when the database moves
	there := testkit.Own(t)
	move(t, o.DB, there)
	n := trailkit.OpenOn(t, there)
	n.Config.Keys, n.Config.Anchor = o.Config.Keys, o.Config.Anchor
	ids = append(ids, n.Log(trailkit.TenantA, 4)...) // with the new cluster's transaction ids, lower than the old one's
	if err := n.TryRound(); !errors.Is(err, logstore.ErrRefused) ||
		!strings.Contains(err.Error(), "moved or restored") {
		t.Fatalf("a round after the move: %v", err)
	}
	s, err := notary.Resume(t.Context(), n.Config, false)
	if err != nil || !s.Moved || s.Epoch != 2 || s.Anchor != notary.AnchorAgrees {
		t.Fatalf("resume: %+v, %v", s, err)
	}
	ids = append(ids, n.Log(trailkit.TenantA, 6)...)
	n.Round()
	if r := n.MustHold(); r.Leaves != int64(len(ids)) || r.Waiting.Events != 0 {
		t.Errorf("%+v, want %d leaves", r, len(ids))
	}
	for _, i := range []int{0, 299, 300, 304, 305, 309, len(ids) - 1} {
		if _, err := verify.Prove(t.Context(), n.Logs, trailkit.TenantA, ids[i], nil); err != nil {
			t.Errorf("event %d: %v", i, err)
		}
	}
	ids = append(ids, n.Log(trailkit.TenantA, 600)...)
	n.Round()
	n.MustHold()
	for _, i := range []int{299, 301, 306, 312, 500} {
		if _, err := verify.Prove(t.Context(), n.Logs, trailkit.TenantA, ids[i], nil); err != nil {
			t.Errorf("event %d, when its tile is full: %v", i, err)
		}
	}
	if r := n.Check(n.Bundle(trailkit.TenantA, evidence.Filter{})); !r.OK() || r.Matching != int64(len(ids)) {
		t.Errorf("evidence over both clusters: %d of %d\n%s", r.Matching, len(ids), trailkit.Problems(r))
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
	o := trailkit.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := notary.New(o.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := first.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.TryRound(); !errors.Is(err, tenantdb.ErrLeased) {
		t.Errorf("a second notary: %v", err)
	}
	// And without the lease between them: each believes that it is the only one.
	var both sync.WaitGroup
	made, failed := make([]int, 2), make([]error, 2)
	for i := range made {
		n, err := notary.New(o.Config)
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
		o.Log(trailkit.TenantA, 20)
		o.Log(trailkit.TenantB, 1)
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	both.Wait()
	first.Close()
	o.Round()
	if made[0]+made[1] == 0 {
		t.Errorf("no round succeeded: %v", failed)
	}
	for _, err := range failed {
		if errors.Is(err, logstore.ErrRefused) {
			t.Errorf("a notary refused: %v", err)
		}
	}
	t.Logf("rounds that succeeded: %v; failed last: %v", made, failed)
	if r := o.MustHold(); r.Leaves != 840 {
		t.Errorf("%+v", r)
	}
}

func TestKeysRotate(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 3)
	o.Round()
	old := o.Key()
	before := o.Bundle(trailkit.TenantA, evidence.Filter{})
	if _, err := o.Config.Keys.Rotate(); err != nil {
		t.Fatal(err)
	}
	if o.Key().Equal(old) != true {
		t.Error("the key changed before the log knew the next one")
	}
	o.Log(trailkit.TenantA, 3)
	o.Round()
	now := o.Key()
	if now.Equal(old) {
		t.Fatal("the key did not change")
	}
	o.Log(trailkit.TenantA, 3)
	o.Round()
	o.MustHold()
	after := o.Bundle(trailkit.TenantA, evidence.Filter{})
	for _, c := range []struct {
		name   string
		bundle []byte
		key    ledger.Key
		ok     bool
	}{{"old bundle, old key", before, old, true}, {"new bundle, new key", after, now, true},
		{"new bundle, old key, which leads on", after, old, true}, {"old bundle, new key", before, now, false}} {
		r := o.Check(c.bundle, func(t *evidence.Trust) { t.Key = c.key })
		if r.OK() != c.ok {
			t.Errorf("%s: %v\n%s", c.name, r.OK(), trailkit.Problems(r))
		}
	}
	info, err := os.Stat(o.Config.Keys.File)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info.Mode(), err)
	}
	other := o.Config
	other.Keys.File = filepath.Join(t.TempDir(), "another")
	o.Log(trailkit.TenantA, 1)
	o2 := *o
	o2.Config = other
	if err := o2.TryRound(); !errors.Is(err, logstore.ErrRefused) ||
		!strings.Contains(err.Error(), "give the notary its own key") {
		t.Errorf("with another key: %v", err)
	}
	if err := os.Chmod(o.Config.Keys.File, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := o.TryRound(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}

func TestSilentLogsGetAHeartbeat(t *testing.T) {
	o := trailkit.Open(t)
	o.Config.Every, o.Config.Heartbeat = 10*time.Millisecond, 50*time.Millisecond
	o.Log(trailkit.TenantA, 3)
	o.Round()
	time.Sleep(80 * time.Millisecond)
	o.Round()
	if n := trailkit.One[int](o, `SELECT count(*) FROM audit_checkpoints WHERE tenant_id = $1
		AND size = 3`, trailkit.TenantA); n != 2 {
		t.Errorf("%d checkpoints of size 3, want the first and a heartbeat", n)
	}
	o.MustHold()
	r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}))
	if !r.OK() || time.Since(r.Signed) > 5*time.Second {
		t.Errorf("%+v", r)
	}
}

// dying is an anchor whose notary is killed during Swap: before the swap, or after.
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
		o := trailkit.Open(t)
		o.Log(trailkit.TenantA, 3)
		o.Round()
		old, outside := o.Key(), o.Config.Anchor
		if _, err := o.Config.Keys.Rotate(); err != nil {
			t.Fatal(err)
		}
		o.Log(trailkit.TenantA, 3)
		o.Config.Anchor = dying{outside, after}
		if err := o.TryRound(); !errors.Is(err, errKilled) {
			t.Fatalf("a round that is killed: %v", err)
		}
		o.Config.Anchor = outside
		o.Round()
		if o.Key().Equal(old) {
			t.Error("the key did not change")
		}
		o.Log(trailkit.TenantA, 1)
		o.Round()
		o.MustHold()
		if r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}), func(t *evidence.Trust) {
			t.Key = old
		}); !r.OK() {
			t.Errorf("with the old key, which leads on: %s", trailkit.Problems(r))
		}
	}
}

// TestARotationMayFollowUnsignedHeads rotates the key while the anchor is unavailable: the next key then signs heads
// that were sequenced before it.
func TestARotationMayFollowUnsignedHeads(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 3)
	o.Round()
	old, anchor := o.Key(), o.Config.Anchor
	o.Log(trailkit.TenantA, 3)
	o.Config.Anchor = dying{anchor, false}
	if err := o.TryRound(); !errors.Is(err, errKilled) {
		t.Fatalf("a round without its anchor: %v", err)
	}
	if _, err := o.Config.Keys.Rotate(); err != nil {
		t.Fatal(err)
	}
	o.Config.Anchor = anchor
	o.Log(trailkit.TenantA, 3)
	o.Round()
	o.MustHold()
	for _, key := range []ledger.Key{old, o.Key()} {
		if r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}), func(t *evidence.Trust) {
			t.Key = key
		}); !r.OK() {
			t.Errorf("with key %s: %s", key, trailkit.Problems(r))
		}
	}
}

// TestARetiredKeySignsNothing has somebody sign a log's newest checkpoint with a key that was retired before it.
func TestARetiredKeySignsNothing(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 3)
	o.Round()
	old, err := o.Config.Keys.Read()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Config.Keys.Rotate(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		o.Log(trailkit.TenantA, 3)
		o.Round()
	}
	o.MustHold()
	resign := func(tenant uuid.UUID) string {
		note := trailkit.One[string](o, `SELECT note FROM audit_checkpoints WHERE tenant_id = $1
			ORDER BY size DESC LIMIT 1`, tenant)
		text, _, _ := strings.Cut(note, "\n\n")
		signed, err := old.Sign(ledger.Origin(old.Name, tenant), text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		o.Attack(`UPDATE audit_checkpoints SET note = $1 WHERE tenant_id = $2 AND note = $3`, signed, tenant, note)
		return signed
	}
	resign(trailkit.TenantA)
	if r, found := o.Verify(); r.Broken != 1 || len(found) != 1 || found[0].Tenant != trailkit.TenantA {
		t.Errorf("a tenant's checkpoint: %+v\n%s", r, trailkit.Lines(found))
	}
	if r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{})); r.OK() {
		t.Error("a bundle with a tenant's checkpoint by a retired key holds")
	}
	anchored := resign(logstore.Operator)
	if r, found := o.Verify(); r.Broken != 2 {
		t.Errorf("and the super-log's: %+v\n%s", r, trailkit.Lines(found))
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "checkpoint"), []byte(anchored), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, found := o.Verify(); r.Broken != 3 || r.Anchor != "differs" {
		t.Errorf("and the anchor's: %+v\n%s", r, trailkit.Lines(found))
	}
	if err := o.TryRound(); !errors.Is(err, logstore.ErrRefused) {
		t.Errorf("the notary goes on: %v", err)
	}
}
