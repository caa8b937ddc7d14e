package audit_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// kills is how often each is killed.
const kills = 20

// loaderURL, set in the environment, makes this test binary a loader; see TestMain.
const loaderURL = "AUDIT_TEST_LOADER_URL"

func TestMain(m *testing.M) {
	if url := os.Getenv(loaderURL); url != "" {
		load(context.Background(), url, func(id uuid.UUID) { fmt.Println(id) })
		return
	}
	testkit.Main(m)
}

// load logs single events, alone and in shared commits, and batches from several goroutines until ctx ends or the database fails, and
// tells acked of each event once it is acknowledged.
func load(ctx context.Context, url string, acked func(uuid.UUID)) {
	door, err := tenantdb.Open(ctx, url)
	if err != nil {
		panic(err)
	}
	defer door.Close()
	group := audit.NewGroup(door)
	defer group.Close()
	var mu sync.Mutex
	tell := func(ids ...uuid.UUID) {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			acked(id)
		}
	}
	var writers sync.WaitGroup
	for w := range 12 {
		writers.Go(func() {
			for ctx.Err() == nil {
				if w != 0 {
					log := group.Log // most share commits
					if w == 1 {
						log = func(ctx context.Context, tenant uuid.UUID, e audit.Event) (uuid.UUID, error) {
							return audit.Log(ctx, door, tenant, e)
						}
					}
					id, err := log(ctx, tenantA, audit.Event{Action: audit.ActionToolCall, Input: "single"})
					if err != nil {
						return
					}
					tell(id)
					continue
				}
				ids, err := audit.LogBatch(ctx, door, tenantA, slices.Repeat([]audit.Event{{Action: audit.ActionLLMCall, Input: "batch"}}, 20))
				if err != nil {
					return
				}
				tell(ids...)
			}
		})
	}
	writers.Wait()
}

// holds checks that every acknowledged event is stored once and that the whole trail verifies.
func holds(t *testing.T, d *testkit.DB, acked []uuid.UUID) {
	t.Helper()
	notary := testkit.Connect(t, d.URL("konstruct_notary"))
	// What a killed process had sent may still be committing, unacknowledged.
	for busy := 1; busy > 0; time.Sleep(10 * time.Millisecond) {
		if err := notary.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'konstruct_app'`).Scan(&busy); err != nil {
			t.Fatal(err)
		}
	}
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
	for _, id := range acked {
		if times[id] != 1 {
			t.Errorf("the acknowledged event %s is there %d times", id, times[id])
		}
	}
	db, err := tenantdb.OpenEvidence(t.Context(), d.URL("konstruct_notary"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := audit.Verify(t.Context(), db, nil, func(f audit.Finding) { t.Errorf("%+v", f) })
	if err != nil || r.Events != int64(len(stored)) {
		t.Errorf("%+v of %d stored, %v", r, len(stored), err)
	}
}

func TestAcknowledgedEventsSurviveTheKillOfTheProcess(t *testing.T) {
	d := testkit.Database(t)
	var acked []uuid.UUID
	for range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), loaderURL+"="+d.URL("konstruct_app"))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		first, err := lines.ReadString('\n') // it is writing
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(rand.N(150*time.Millisecond), func() { _ = cmd.Process.Kill() })
		rest, err := io.ReadAll(lines)
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for line := range slices.Values(append([]string{first}, splitLines(string(rest))...)) {
			if id, err := uuid.Parse(line[:min(36, len(line))]); err == nil { // the last line may be cut
				acked = append(acked, id)
			}
		}
	}
	if len(acked) < kills*20 {
		t.Fatalf("only %d events were acknowledged", len(acked))
	}
	holds(t, d, acked)
	t.Logf("%d acknowledged events in %d killed processes", len(acked), kills)
}

func splitLines(s string) (lines []string) {
	for i := 0; i+37 <= len(s); i += 37 {
		lines = append(lines, s[i:i+36])
	}
	return lines
}

func TestAcknowledgedEventsSurviveTheKillOfPostgreSQL(t *testing.T) {
	in, err := devpg.Find(devpg.PartsDir())
	if err != nil {
		t.Fatal(err)
	}
	d := testkit.Own(t)
	var acked []uuid.UUID
	for range kills {
		writing, once := make(chan struct{}), sync.Once{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			load(t.Context(), d.URL("konstruct_app"), func(id uuid.UUID) {
				acked = append(acked, id)
				once.Do(func() { close(writing) })
			})
		}()
		<-writing
		time.Sleep(rand.N(100 * time.Millisecond))
		d.Cluster.Kill()
		<-done
		if d.Cluster, err = devpg.Start(t.Context(), in, d.Dir); err != nil {
			t.Fatal(err)
		}
		holds(t, d, acked)
	}
	t.Logf("%d acknowledged events in %d crashes", len(acked), kills)
}
