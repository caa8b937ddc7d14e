package audit_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

func TestAFullDiskUnderTheSpoolIsSaidAndLosesNothing(t *testing.T) {
	d, dir := testkit.Database(t), testkit.SmallDisk(t, 3<<20)
	proxy, url := testkit.NewProxy(t, d.URL("konstruct_app"))
	proxy.Cut(true) // nothing is delivered
	door, err := tenantdb.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	trail, err := openTrail(door, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var acked []uuid.UUID
	full := func() (err error) {
		for range 1000 {
			ids, err := trail.LogAsync(t.Context(), tenantA,
				[]audit.Event{{Action: "x", Input: strings.Repeat("y", 20_000)}})
			if err != nil {
				return err
			}
			acked = append(acked, ids...)
		}
		return nil
	}
	for range 3 {
		empty := testkit.Fill(t, dir, 300_000)
		if err := full(); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("a full disk: %v", err)
		}
		empty()
		ids, err := trail.LogAsync(t.Context(), tenantA, []audit.Event{{Action: "there is room again"}})
		if err != nil {
			t.Fatal(err)
		}
		acked = append(acked, ids...)
	}
	proxy.Drop()
	proxy.Cut(false)
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	drained(t, d, dir)
	door.Close()
	checkStored(t, d, acked)
}

func TestAFullDiskUnderPostgreSQLLosesNothing(t *testing.T) {
	in, err := devpg.Find(devpg.AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	disk := testkit.SmallDisk(t, 400<<20)
	d, dir := testkit.OwnIn(t, disk), t.TempDir()
	proxy, url := testkit.NewProxy(t, d.URL("konstruct_app"))
	so, stop := collected(t, url, dir)
	for range 1 + *kills/25 {
		time.Sleep(200 * time.Millisecond)
		empty := testkit.Fill(t, disk, 1<<20)
		door := mustOpen(t, url)
		refused := false
		for range 3000 {
			limited, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := audit.Log(limited, door, tenantB,
				audit.Event{Action: "big", Input: strings.Repeat(uuid.NewString(), 1500)})
			cancel()
			if refused = err != nil; refused {
				t.Logf("full: %v", err)
				break
			}
		}
		door.Close()
		if !refused {
			t.Fatal("the disk is not full")
		}
		before := so()
		time.Sleep(300 * time.Millisecond)
		if so() == before {
			t.Error("nothing is acknowledged by the spool while the database's disk is full")
		}
		empty()
		select {
		case <-d.Cluster.Exited(): // the server exits when it can't write its WAL
		case <-time.After(500 * time.Millisecond):
			d.Cluster.Kill()
		}
		c, err := devpg.Start(t.Context(), in, disk)
		if err != nil {
			t.Fatal(err)
		}
		d.Cluster = c
		proxy.To(t, d.URL("konstruct_app"))
	}
	acked := stop()
	drained(t, d, dir)
	checkStored(t, d, acked)
	t.Logf("%d acknowledged events", len(acked))
}

func mustOpen(t *testing.T, url string) *tenantdb.Door {
	t.Helper()
	door, err := tenantdb.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	return door
}

// TestASlowDiskMakesCallersWaitAsLongAsTheySay slows down every sync of PostgreSQL and of the spool.
func TestASlowDiskMakesCallersWaitAsLongAsTheySay(t *testing.T) {
	d, dir := testkit.Own(t), t.TempDir()
	const by = 300 * time.Millisecond
	fast := testkit.SlowDisk(t, d.Cluster.PID(), by)
	defer fast()
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	group := audit.NewGroup(door)
	begin := time.Now()
	id, err := group.Log(t.Context(), tenantA, audit.Event{Action: "waits"})
	if took := time.Since(begin); err != nil || took < by {
		t.Errorf("a commit on a slow disk took %v, %v: is it slow?", took, err)
	}
	acked := []uuid.UUID{id}
	limited, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, err = group.Log(limited, tenantA, audit.Event{Action: "can't wait"})
	cancel()
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "may or may not be logged") {
		t.Errorf("within 50 ms: %v", err)
	}
	group.Close()
	fast()
	door.Close()
	cmd, lines, first := loader(t, d.URL("konstruct_app"), dir)
	slower := testkit.SlowDisk(t, cmd.Process.Pid, 20*time.Millisecond)
	time.Sleep(time.Second)
	_ = cmd.Process.Kill()
	acked = append(acked, printedIDs(t, first, lines)...)
	_ = cmd.Wait()
	slower()
	drained(t, d, dir)
	checkStored(t, d, acked)
}

// TestASteppedClockLosesNothing sets PostgreSQL's clock and the program's back an hour and forward a day, under load.
func TestASteppedClockLosesNothing(t *testing.T) {
	step := testkit.FakeClock(t)
	d, dir := testkit.Own(t), t.TempDir()
	for _, name := range []string{"LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE"} {
		os.Unsetenv(name) // only the server gets the fake clock
	}
	_, stop := collected(t, d.URL("konstruct_app"), dir)
	ownDir := t.TempDir()
	door := mustOpen(t, d.URL("konstruct_app"))
	trail, err := openTrail(door, ownDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var off atomic.Int64
	trail.SetClock(func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
	var mine []uuid.UUID
	agent := uuid.New()
	for i, by := range []struct {
		postgres string
		program  time.Duration
	}{{"+0", 0}, {"-1h", -time.Hour}, {"+1d", 24 * time.Hour}, {"+0", 0}} {
		step(by.postgres)
		off.Store(int64(by.program))
		ids, err := trail.LogAsync(t.Context(), tenantA,
			[]audit.Event{{AgentID: agent, Action: "spooled", Latency: time.Duration(i+1) * time.Millisecond}})
		if err != nil {
			t.Fatal(err)
		}
		mine = append(mine, ids...)
		time.Sleep(300 * time.Millisecond)
		if by.program != 0 { // Open refuses a wrong clock, so nothing is stored by it
			var c *konstruct.CheckError
			if _, err := konstruct.Open(t.Context(), konstruct.Config{DatabaseURL: d.URL("konstruct_app")}); !errors.As(
				err, &c) || !strings.Contains(err.Error(), "clock within 5 s") {
				t.Errorf("PostgreSQL's clock at %s: %v", by.postgres, err)
			}
		}
	}
	acked := stop()
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	notary := testkit.Connect(t, d.URL("konstruct_notary"))
	rows, err := notary.Query(t.Context(),
		`SELECT id, extract(epoch FROM created_at - clock_timestamp())::int FROM audit_events WHERE agent_id = $1
		ORDER BY latency_ms`, agent)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	var id uuid.UUID
	var seconds int
	if _, err := pgx.ForEachRow(rows, []any{&id, &seconds}, func() error {
		if i >= len(mine) || id != mine[i] {
			t.Errorf("event %d is %s", i, id)
		}
		if want := []int{0, -3600, 86400, 0}[i]; seconds < want-60 || seconds > want+60 {
			t.Errorf("event %d was created %d s from now, want %d", i, seconds, want)
		}
		i++
		return nil
	}); err != nil || i != len(mine) {
		t.Errorf("%d of %d, %v", i, len(mine), err)
	}
	door.Close()
	drained(t, d, dir)
	checkStored(t, d, append(acked, mine...))
}
