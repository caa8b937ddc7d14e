package audit_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// kills is how often each process is killed; make test-faults sets 50.
var kills = flag.Int("kills", 5, "how often the program and PostgreSQL are killed in the fault tests")

// The environment that makes this test binary a loader; see TestMain.
const (
	loaderURL   = "AUDIT_TEST_LOADER_URL"
	loaderSpool = "AUDIT_TEST_LOADER_SPOOL"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(loaderURL); url != "" {
		load(context.Background(), url, os.Getenv(loaderSpool), func(id uuid.UUID) { fmt.Println(id) })
		return
	}
	testkit.Main(m)
}

// loaders is how many writers log concurrently, half of them through the spool.
const loaders = 64

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// openTrail opens a trail with a spool. It retries while a dying process still locks the folder.
func openTrail(door *tenantdb.Door, dir string, p *audit.Policy) (t *audit.Trail, err error) {
	for range 100 {
		if t, err = audit.OpenTrail(door, audit.TrailConfig{SpoolDir: dir, Policy: p, Logger: quiet()}); err == nil {
			return t, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, err
}

// load logs from 64 writers, each an agent, until ctx ends: through the spool, in shared commits, alone and in batches,
// with pauses. It continues when the database fails, and calls acked with each acknowledged event. A spool writer's
// events are numbered in order.
func load(ctx context.Context, url, spoolDir string, acked func(uuid.UUID)) {
	door, err := tenantdb.Open(ctx, url)
	if err != nil {
		panic(err)
	}
	defer door.Close()
	trail, err := openTrail(door, spoolDir, nil)
	if err != nil {
		panic(err)
	}
	defer trail.Close()
	var mu sync.Mutex
	tell := func(ids []uuid.UUID) {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			acked(id)
		}
	}
	var writers sync.WaitGroup
	for w := range loaders {
		agent := uuid.New()
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				e := audit.Event{AgentID: agent, Action: audit.ActionToolCall, Input: "single"}
				ids := []uuid.UUID{uuid.Nil}
				var err error
				switch {
				case w%2 == 0:
					e.Action, e.Latency = "spooled", time.Duration(n)*time.Millisecond
					ids, err = trail.LogAsync(ctx, tenantA, []audit.Event{e})
				case w == 1:
					ids, err = trail.LogBatch(ctx, tenantA, slices.Repeat([]audit.Event{e}, 20))
				case w == 3:
					ids[0], err = audit.Log(ctx, door, tenantB, e)
				default:
					ids[0], err = trail.Log(ctx, tenantA, e)
				}
				if err == nil {
					tell(ids)
				}
				if err != nil || rand.N(20) == 0 {
					time.Sleep(rand.N(20 * time.Millisecond))
				}
			}
		})
	}
	writers.Wait()
}

// collected runs load until stop is called; stop returns the acknowledged events.
func collected(t *testing.T, url, dir string) (so func() int, stop func() []uuid.UUID) {
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var acked []uuid.UUID
	var writing sync.WaitGroup
	writing.Go(func() {
		load(ctx, url, dir, func(id uuid.UUID) { mu.Lock(); acked = append(acked, id); mu.Unlock() })
	})
	so = func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acked)
	}
	return so, func() []uuid.UUID { cancel(); writing.Wait(); return acked }
}

// checkStored checks that every acknowledged event is stored once, each spool writer's in order, and that the whole
// trail verifies.
func checkStored(t *testing.T, d *testkit.DB, acked []uuid.UUID) {
	t.Helper()
	notary := testkit.Connect(t, d.URL("konstruct_notary"))
	// Unacknowledged events of a killed process may still be committing.
	testkit.Until(t, "every connection of konstruct_app closed", func() bool {
		var busy int
		if err := notary.QueryRow(t.Context(),
			`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'konstruct_app'`).
			Scan(&busy); err != nil {
			t.Fatal(err)
		}
		return busy == 0
	})
	rows, err := notary.Query(t.Context(), `SELECT id FROM audit_events`)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	times := map[uuid.UUID]int{}
	for _, id := range stored {
		times[id]++
	}
	lost, doubled := 0, 0
	for _, id := range acked {
		if times[id] == 0 {
			lost++
		}
		if times[id] > 1 {
			doubled++
		}
	}
	if lost+doubled > 0 {
		t.Errorf("of %d acknowledged events %d are lost and %d doubled", len(acked), lost, doubled)
	}
	var disorder int
	if err := notary.QueryRow(t.Context(), `SELECT count(*) FROM (
	    SELECT latency_ms AS n, lag(latency_ms) OVER (PARTITION BY agent_id ORDER BY xid, id) AS before
	      FROM audit_events e JOIN audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id
	      WHERE action_type = 'spooled') o WHERE before >= n`).Scan(&disorder); err != nil || disorder > 0 {
		t.Errorf("%d spooled events are out of their agent's order, %v", disorder, err)
	}
	db, err := tenantdb.OpenEvidence(t.Context(), d.URL("konstruct_notary"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := verify.Events(t.Context(), db, nil, func(f verify.Finding) { t.Errorf("%+v", f) })
	if err != nil || r.Events != int64(len(stored)) {
		t.Errorf("%+v of %d stored, %v", r, len(stored), err)
	}
}

// drained delivers the remaining events in a spool's folder.
func drained(t *testing.T, d *testkit.DB, dir string) {
	t.Helper()
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	trail, err := openTrail(door, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	s := spoolOf(t, trail)
	testkit.Until(t, "drained", func() bool { // PostgreSQL may still be starting
		err = s.Drain(t.Context())
		return err == nil
	})
	if st := s.Status(); err != nil || st.Rejected > 0 || st.Damaged > 0 {
		t.Errorf("after the last start the spool holds %+v, %v", st, err)
	}
}

// loader starts this test binary as a loader, and returns it with its output once it is writing.
func loader(t *testing.T, url, dir string) (*exec.Cmd, *bufio.Reader, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), loaderURL+"="+url, loaderSpool+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, lines, first
}

// printedIDs reads the ids that a loader printed; the last line may be cut off.
func printedIDs(t *testing.T, first string, lines io.Reader) (ids []uuid.UUID) {
	t.Helper()
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(first+string(rest), "\n") {
		if id, err := uuid.Parse(line); err == nil && len(line) == 36 {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestAcknowledgedEventsSurviveTheKillOfTheProcess(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	var acked []uuid.UUID
	for range *kills {
		cmd, lines, first := loader(t, d.URL("konstruct_app"), dir)
		time.AfterFunc(rand.N(400*time.Millisecond), func() { _ = cmd.Process.Kill() })
		acked = append(acked, printedIDs(t, first, lines)...)
		_ = cmd.Wait()
	}
	drained(t, d, dir)
	if len(acked) < *kills*20 {
		t.Fatalf("only %d events were acknowledged", len(acked))
	}
	checkStored(t, d, acked)
	t.Logf("%d acknowledged events in %d killed processes", len(acked), *kills)
}

func TestAcknowledgedEventsSurviveTheKillOfPostgreSQL(t *testing.T) {
	in, err := devpg.Find(devpg.AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	d, dir := testkit.Own(t), t.TempDir()
	// The program outlives PostgreSQL: it connects through a proxy that follows each restart.
	proxy, url := testkit.NewProxy(t, d.URL("konstruct_app"))
	_, stop := collected(t, url, dir)
	for range *kills {
		time.Sleep(50*time.Millisecond + rand.N(300*time.Millisecond))
		d.Cluster.Kill()
		time.Sleep(rand.N(100 * time.Millisecond))
		c, err := devpg.Start(t.Context(), in, d.Dir)
		if err != nil {
			t.Fatal(err)
		}
		d.Cluster = c
		proxy.To(t, d.URL("konstruct_app"))
	}
	time.Sleep(200 * time.Millisecond)
	acked := stop()
	drained(t, d, dir)
	checkStored(t, d, acked)
	t.Logf("%d acknowledged events in %d crashes", len(acked), *kills)
}

// TestABadNetworkLosesNothing cuts, drops and delays the connection under load. A caller waits no longer than its
// context allows.
func TestABadNetworkLosesNothing(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	proxy, url := testkit.NewProxy(t, d.URL("konstruct_app"))
	_, stop := collected(t, url, dir)
	door, err := tenantdb.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	group := audit.NewGroup(door)
	defer group.Close()
	for range *kills {
		time.Sleep(rand.N(100 * time.Millisecond))
		proxy.Drop()
		proxy.Delay(rand.N(10 * time.Millisecond))
		time.Sleep(rand.N(100 * time.Millisecond))
		proxy.Delay(0)
		proxy.Cut(true)
		limited, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begin := time.Now()
		_, err := group.Log(limited, tenantA, audit.Event{Action: "x"})
		cancel()
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "logged") {
			t.Errorf("a call within 50 ms ended after %v: %v", took, err)
		}
		proxy.Drop()
		proxy.Cut(false)
	}
	time.Sleep(100 * time.Millisecond)
	acked := stop()
	group.Close()
	door.Close()
	drained(t, d, dir)
	checkStored(t, d, acked)
	t.Logf("%d acknowledged events over a bad network", len(acked))
}

// inTx logs in a transaction of the caller.
func inTx(trail *audit.Trail, e audit.Event) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := trail.InTx(ctx, tx, tenantA, e)
		return err
	}
}
