package notary_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// kills is how often the notary is killed; make test-faults says 50.
var kills = flag.Int("kills", 5, "how often the notary is killed in the fault test")

// The environment that makes this test binary a notary; see TestMain.
const (
	notaryURL = "NOTARY_TEST_URL"
	notaryDir = "NOTARY_TEST_DIR"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(notaryURL); url != "" {
		work(url, os.Getenv(notaryDir))
		return
	}
	testkit.Main(m)
}

// work runs a notary that makes checkpoints as often as it can.
func work(url, dir string) {
	db, err := tenantdb.OpenEvidence(context.Background(), url)
	if err != nil {
		panic(err)
	}
	n, err := notary.New(notary.Config{DB: db, Keys: notary.Keys{File: filepath.Join(dir, "key"), Name: trailkit.Name},
		Anchor: notary.FileAnchor(filepath.Join(dir, "checkpoint")),
		Every:  5 * time.Millisecond, Heartbeat: time.Second, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		panic(err)
	}
	fmt.Println("working")
	_ = n.Run(context.Background())
}

// TestAKilledNotarySignsOneHistory kills notaries, two of which always fight over the log, at random points under
// load: never two trees of one size, everything verifies, and every receipt is honoured.
func TestAKilledNotarySignsOneHistory(t *testing.T) {
	o := trailkit.Open(t)
	signer, err := o.Config.Keys.Load()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var receipts []string
	var load sync.WaitGroup
	written := make([]int, 4)
	for i := range written {
		tenant := []uuid.UUID{trailkit.TenantA, trailkit.TenantB}[i%2]
		load.Go(func() {
			for ctx.Err() == nil {
				id, err := audit.Log(ctx, o.Door, tenant, audit.Event{Action: "x"})
				if err != nil {
					continue // the test is over
				}
				written[i]++
				if written[i]%20 == 0 {
					r, err := audit.Receipt(context.WithoutCancel(ctx), o.Door, tenant, id, time.Minute)
					if err != nil {
						t.Error(err)
						return
					}
					signed, err := signer.Sign(signer.Name, r.Text())
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					receipts = append(receipts, signed)
					mu.Unlock()
				}
			}
		})
	}
	// Collect every checkpoint that the anchor ever held, as a monitor would.
	seen := map[int64]string{}
	watch := func() {
		raw, err := os.ReadFile(filepath.Join(o.Dir, "checkpoint"))
		if err != nil {
			return
		}
		c, err := ledger.OpenCheckpoint(string(raw), signer.Key)
		if err != nil {
			t.Errorf("the anchor: %v", err)
			return
		}
		if before, ok := seen[c.Size]; ok && before != c.Text() {
			t.Errorf("two trees of size %d were signed", c.Size)
		}
		seen[c.Size] = c.Text()
	}
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), notaryURL+"="+o.URL("konstruct_notary"), notaryDir+"="+o.Dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(out, make([]byte, 8))
		return cmd
	}
	both := []*exec.Cmd{start(), start()}
	for i := range *kills {
		end := time.Now().Add(50*time.Millisecond + rand.N(250*time.Millisecond))
		patience := time.Now().Add(time.Minute) // on a slow machine a kill still meets a notary that signs
		for now := time.Now(); now.Before(end) || len(seen) <= i && now.Before(patience); now = time.Now() {
			watch()
			time.Sleep(time.Millisecond)
		}
		_ = both[i%2].Process.Kill()
		_ = both[i%2].Wait()
		both[i%2] = start()
	}
	for _, cmd := range both {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	cancel()
	load.Wait()
	time.Sleep(100 * time.Millisecond) // the killed ones' connections
	o.Round()
	watch()
	r := o.MustHold()
	total := int64(0)
	for _, n := range written {
		total += int64(n)
	}
	if r.Leaves < total || r.Leaves > total+int64(len(written)) {
		t.Errorf("%d leaves, %d events were acknowledged", r.Leaves, total)
	}
	for _, signed := range receipts {
		if p, err := verify.CheckReceipt(t.Context(), o.Logs, signed, &signer.Key, evidence.DefaultFloor); err != nil ||
			!p.Kept {
			t.Errorf("a receipt: %+v, %v", p, err)
		}
	}
	if len(seen) < *kills || len(receipts) == 0 {
		t.Errorf("only %d checkpoints were seen, and %d receipts given", len(seen), len(receipts))
	}
	t.Logf("%d kills: %d events, %d checkpoints of the super-log seen, %d stored, %d receipts honoured", *kills, total,
		len(seen), r.Checkpoints, len(receipts))
}

// TestForgedReceiptsAreNamed verifies receipts against a database in which their promise was broken.
func TestForgedReceiptsAreNamed(t *testing.T) {
	o := trailkit.Open(t)
	signer, err := o.Config.Keys.Load()
	if err != nil {
		t.Fatal(err)
	}
	ids := o.Log(trailkit.TenantA, 3)
	o.Round()
	sign := func(change func(*ledger.Receipt)) string {
		r, err := audit.Receipt(t.Context(), o.Door, trailkit.TenantA, ids[1], time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		change(&r)
		signed, err := signer.Sign(signer.Name, r.Text())
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	honest := sign(func(*ledger.Receipt) {})
	check := func(signed string) (verify.ReceiptCheck, error) {
		return verify.CheckReceipt(t.Context(), o.Logs, signed, &signer.Key, evidence.DefaultFloor)
	}
	if p, err := check(honest); err != nil || !p.Kept || p.Index != 1 {
		t.Fatalf("an honest receipt: %+v, %v", p, err)
	}
	if _, err := check(strings.Replace(honest, "leaf ", "leaf A", 1)); err == nil {
		t.Error("a forged receipt is believed")
	}
	// Signed by the notary, so the signature is valid, but the promise is false.
	if p, err := check(sign(func(r *ledger.Receipt) {
		r.Leaf[0] ^= 1
	})); err != nil || p.OK() || !strings.Contains(p.What, "another hash than the receipt promised") {
		t.Errorf("another leaf: %+v, %v", p, err)
	}
	if p, err := check(sign(func(r *ledger.Receipt) {
		r.IntegrateBy = r.RecordedAt - 1_000_000
	})); err != nil || p.OK() || !strings.Contains(p.What, "but late") {
		t.Errorf("late: %+v, %v", p, err)
	}
	if p, err := check(sign(func(r *ledger.Receipt) {
		r.EventID = uuid.New()
	})); err != nil || p.OK() || !strings.Contains(p.What, "it was removed after") {
		t.Errorf("an event that is gone: %+v, %v", p, err)
	}
	for _, tenant := range []uuid.UUID{trailkit.TenantB, uuid.New(), {}} {
		if _, err := audit.Receipt(t.Context(), o.Door, tenant, ids[1], time.Minute); err == nil {
			t.Errorf("tenant %s has a receipt for another's event", tenant)
		}
	}
}

// TestTilesServeAnyTlogClient reads our tiles and checkpoint over HTTP with golang.org/x/mod's client code alone, and
// from a folder.
func TestTilesServeAnyTlogClient(t *testing.T) {
	o := trailkit.Open(t)
	for range 3 {
		o.Log(trailkit.TenantA, 700)
		o.Log(trailkit.TenantB, 1)
		o.Round()
	}
	bucket, err := blob.OpenS3(testkit.Bucket(t, "tiles"))
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range []uuid.UUID{trailkit.TenantA, logstore.Operator} {
		key := o.Key()
		if log != logstore.Operator {
			key = key.OfTenant(log)
		}
		served := &tileClient{t: t, read: func(path string) ([]byte, error) { return served(t, o, log, path) }}
		clients := []*tileClient{served}
		for _, shelf := range []blob.Bucket{blob.Folder(t.TempDir()), bucket} {
			n, size, err := notary.Publish(t.Context(), o.Logs, log, shelf)
			if err != nil {
				t.Fatal(err)
			}
			if again, _, err := notary.Publish(t.Context(), o.Logs, log, shelf); err != nil || again != 1 {
				t.Errorf("published again: %d files of %d for size %d, %v", again, n, size, err)
			}
			clients = append(clients, &tileClient{t: t, read: func(path string) ([]byte, error) {
				return shelf.Read(t.Context(), path)
			}})
			if log != logstore.Operator {
				break // one prefix holds one log
			}
		}
		for _, client := range clients {
			raw, err := client.read("checkpoint")
			if err != nil {
				t.Fatal(err)
			}
			c, err := ledger.OpenCheckpoint(string(raw), key)
			if err != nil {
				t.Fatal(err)
			}
			hashes := tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)}, client)
			if root, err := tlog.TreeHash(c.Size, hashes); err != nil || ledger.Hash(root) != c.Root {
				t.Errorf("log %s: the tiles lead to %x, %v", log, root, err)
			}
			for _, size := range []int64{1, c.Size / 2, c.Size} { // consistency with trees it had before
				if _, err := tlog.ProveTree(c.Size, size, hashes); err != nil {
					t.Errorf("log %s, size %d: %v", log, size, err)
				}
			}
		}
	}
	for _, path := range []string{"", "tile", "tile/0/9999", "tile/0/000.p/300", "tile/9/000", "tile/entries/000",
		"../checkpoint", "tile/0/x001/000", "tile/7/000", "tile/0/x999/x999/x999/x999/x999/999"} {
		if raw, err := served(t, o, trailkit.TenantA, path); err == nil {
			t.Errorf("%q is served: %d bytes", path, len(raw))
		}
	}
	if _, err := served(t, o, uuid.New(), "checkpoint"); err == nil {
		t.Error("a log that is not there is served")
	}
}
