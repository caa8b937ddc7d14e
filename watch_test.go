package konstruct_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

// TestAFolderThatIsWatchedIsTheKnowledgeBase: what is put there is found, what is changed is replaced, and what is
// taken away is removed, on the record.
func TestAFolderThatIsWatchedIsTheKnowledgeBase(t *testing.T) {
	d := testkit.Database(t)
	k, err := konstruct.Open(t.Context(),
		konstruct.Config{DatabaseURL: d.URL("konstruct_app"), AssetsDir: devpg.AssetsDir(), Embedder: testkit.Model(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	dir, other := t.TempDir(), t.TempDir()
	write := func(dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(dir, "a.txt", "The pump draws water.")
	write(dir, "b ü.txt", "The keys hang behind the door.")
	write(other, "c.txt", "Not in the folder that is watched.")
	agent := k.Tenant(acmeID).Agent(supportID)
	if err := agent.Ingest(t.Context(), []string{other}, konstruct.DocumentOptions{}, func(konstruct.IngestResult) {},
		nil); err != nil {
		t.Fatal(err)
	}
	// A file that is deleted while its job is queued is not ingested.
	write(dir, "queued.txt", "It went before it came.")
	if err := agent.EnqueueFiles(t.Context(), []string{dir}, konstruct.DocumentOptions{},
		func(konstruct.IngestResult) {}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "queued.txt")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	said := make(chan string, 100)
	end := make(chan error, 1)
	go func() {
		end <- agent.Watch(ctx, []string{dir}, konstruct.DocumentOptions{}, 100*time.Millisecond, true,
			func(r konstruct.IngestResult) {
				said <- string(r.Outcome) + " " + filepath.Base(r.Path)
			})
	}()
	hear := func(want ...string) {
		t.Helper()
		for range want {
			select {
			case got := <-said:
				if !strings.Contains(strings.Join(want, ";"), got) {
					t.Errorf("%q, want of %q", got, want)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("nothing said, want %q", want)
			}
		}
	}
	hear("added a.txt", "added b ü.txt")
	write(dir, "a.txt", "The pump draws oil.")
	hear("replaced a.txt")
	if err := os.Remove(filepath.Join(dir, "b ü.txt")); err != nil {
		t.Fatal(err)
	}
	hear("removed b ü.txt")
	stop()
	if err := <-end; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	jobs, err := k.Tenant(acmeID).Jobs().List(t.Context(), "", uuid.Nil, 9)
	if err != nil || len(jobs) == 0 {
		t.Errorf("%+v, %v", jobs, err)
	}
	for _, j := range jobs {
		if gone := j.Filename == "queued.txt" ||
			j.Filename == "b ü.txt"; gone != (j.State == kb.JobCancelled && j.Reason == kb.ErrDeleted.Error()) {
			t.Errorf("%+v", j)
		}
	}
	docs, err := k.Tenant(acmeID).Documents().List(t.Context(), uuid.Nil, 9)
	if err != nil || len(docs) != 2 {
		t.Errorf("%+v, %v", docs, err)
	}
	events, err := k.Tenant(acmeID).Events().List(t.Context(), konstruct.Filter{Limit: 9})
	if err != nil || len(events) != 1 || events[0].Action != audit.ActionRemoval || events[0].Input == nil ||
		*events[0].Input != "b ü.txt" {
		t.Errorf("%+v, %v", events, err)
	}
	if _, err := agent.Remove(t.Context(), uuid.New()); !errors.Is(err, kb.ErrNotFound) {
		t.Error(err)
	}
	if _, err := k.Tenant(uuid.MustParse("99999999-9999-4999-8999-999999999999")).Agent(supportID).
		Remove(t.Context(), docs[0].ID); !errors.Is(err, kb.ErrNotFound) {
		t.Error(err)
	}
}
