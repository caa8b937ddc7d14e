package kb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/fairqueue"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

// enqueue enqueues documents as one transaction.
func (b *base) enqueue(t *testing.T, tenant uuid.UUID, uploads ...kb.Upload) []uuid.UUID {
	t.Helper()
	var ids []uuid.UUID
	if err := b.door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		ids, err = kb.Enqueue(ctx, tx, tenant, agent, uploads...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return ids
}

func text(name, content string) kb.Upload {
	return kb.Upload{Source: "test:" + name, Filename: name, Content: []byte(content)}
}

// work deals out turns until the function returned is called.
func (b *base) work(t *testing.T, url string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() {
		end <- fairqueue.Run(ctx,
			fairqueue.Config{DatabaseURL: url,
				Queues: []fairqueue.Queue{{Name: fairqueue.Documents, Concurrency: 2, Worker: b.in}},
				Logger: testkit.Logger(t)})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// jobs are a tenant's by name: state, outcome and reason.
func (b *base) jobs(t *testing.T, tenant uuid.UUID) map[string]string {
	t.Helper()
	all, err := kb.ListJobs(t.Context(), b.door, tenant, "", uuid.Nil, kb.MaxList)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, j := range all {
		got[j.Filename] = strings.TrimRight(fmt.Sprintf("%s %s %s", j.State, j.Outcome, j.Reason), " ")
	}
	return got
}

// until waits for something that background work brings about.
func (b *base) over(t *testing.T, tenant uuid.UUID) bool {
	n, err := kb.CountJobs(t.Context(), b.door, tenant)
	return err == nil && n[kb.JobQueued]+n[kb.JobRunning] == 0
}

func newQueue(t *testing.T) (*base, *testkit.DB) {
	d := testkit.Database(t)
	b := newBaseOn(t, d)
	return b, d
}

func TestWhatIsEnqueuedIsTakenIn(t *testing.T) {
	b, d := newQueue(t)
	s := newSite(t)
	b.pages(t)
	s.pages["/map.xml"] = "<urlset><url><loc>SITE/a</loc></url><url><loc>SITE/gone</loc></url></urlset>"
	s.pages["/a"] = "<title>A</title><p>What page a says."
	b.enqueue(t, tenantA, text("pumps.md", pumps), text("empty.txt", " "),
		text("picture.png", "\x89PNG\r\n\x1a\n00000000"),
		text("all.zip",
			zipOf(t, entry{"in/a.md", pumps}, entry{"x.png", "\x89PNG\r\n\x1a\n0"},
				entry{"deep.zip", zipOf(t, entry{"b.txt", "Deep words."})}, entry{"void.txt", ""})),
		text("mail.mbox", message("1@x", "Pumps", "The pump draws water.")),
		kb.Upload{Source: s.url + "/map.xml", Filename: "map.xml"})
	b.work(t, d.URL("konstruct_worker"))
	testkit.Until(t, "over", func() bool { return b.over(t, tenantA) })
	want := map[string]string{"pumps.md": "done added", "empty.txt": "failed  the file holds no text",
		"picture.png": "failed  image/png: not a kind of file that is read here (docs/formats.md lists them)",
		"all.zip":     "done unpacked", "a.md": "done added", "b.txt": "done added",
		"void.txt": "failed  the file is empty", "mail.mbox": "done unpacked", "1@x": "done added",
		"map.xml": "done unpacked", "a": "done added", "gone": "failed  the site answers 404 Not Found"}
	if d := cmp.Diff(want, b.jobs(t, tenantA)); d != "" {
		t.Error(d)
	}
	if docs := b.list(t, tenantA); len(docs) != 5 {
		t.Errorf("%d documents: %+v", len(docs), docs)
	}
	super := testkit.Connect(t, d.SuperuserURL())
	var uploads, tickets int
	if err := super.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM kb_uploads u JOIN kb_jobs j ON j.id = u.job_id
		WHERE j.state = 'done'), (SELECT count(*) FROM river_job WHERE queue = 'tenants')`).
		Scan(&uploads, &tickets); err != nil || uploads != 0 || tickets != 1 {
		t.Errorf("%d files are kept of documents that are in, %d tickets were dealt, %v", uploads, tickets, err)
	}
	// The ticket was put away; the next document gets another.
	testkit.Until(t, "put away", func() bool {
		var open int
		return super.QueryRow(t.Context(),
			`SELECT count(*) FROM river_job WHERE queue = 'tenants' AND finalized_at IS NULL`).
			Scan(&open) == nil && open == 0
	})
	begin := time.Now()
	b.enqueue(t, tenantA, text("pumps.md", pumps+"\n## Oil\n\nOil it.\n"))
	testkit.Until(t, "replaced", func() bool { return b.jobs(t, tenantA)["pumps.md"] == "done replaced" })
	t.Logf("an idle worker had a document in after %v", time.Since(begin).Round(time.Millisecond))
}

// TestAnEnqueuedDocumentCommitsWithTheCallersTransaction, or not at all.
// taken waits until a job is done, and says what became of it where it ended otherwise.
func (b *base) taken(t *testing.T, name string) {
	t.Helper()
	testkit.Until(t, name+" is in", func() bool {
		state := b.jobs(t, tenantA)[name]
		if strings.HasPrefix(state, "failed") || strings.HasPrefix(state, "cancelled") {
			t.Fatalf("%s: %s", name, state)
		}
		return strings.HasPrefix(state, "done")
	})
}

func TestAnEnqueuedDocumentCommitsWithTheCallersTransaction(t *testing.T) {
	b, d := newQueue(t)
	b.work(t, d.URL("konstruct_worker"))
	undone := errors.New("undone")
	if err := b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := kb.Enqueue(ctx, tx, tenantA, agent, text("a.md", pumps)); err != nil {
			return err
		}
		return undone
	}); !errors.Is(err, undone) {
		t.Fatal(err)
	}
	// One that stays open while the worker puts the ticket away is not missed.
	for n := range 3 {
		if err := b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.Enqueue(ctx, tx, tenantA, agent, text(fmt.Sprintf("late%d.md", n), pumps+fmt.Sprint(n)))
			b.enqueue(t, tenantA, text(fmt.Sprintf("soon%d.md", n), pumps+fmt.Sprint("soon", n)))
			b.taken(t, fmt.Sprintf("soon%d.md", n))
			time.Sleep(time.Duration(n) * 700 * time.Millisecond) // in which the worker finds nothing left
			return err
		}); err != nil {
			t.Fatal(err)
		}
		b.taken(t, fmt.Sprintf("late%d.md", n))
	}
	if _, is := b.jobs(t, tenantA)["a.md"]; is {
		t.Error("what was rolled back is there")
	}
}

// TestOneTenantsManyDoNotHoldUpAnothersOne is the fairness that is promised.
func TestOneTenantsManyDoNotHoldUpAnothersOne(t *testing.T) {
	b, d := newQueue(t)
	const many = 10_000
	for n := 0; n < many; n += kb.MaxUploads {
		uploads := make([]kb.Upload, kb.MaxUploads)
		for i := range uploads {
			uploads[i] = text(fmt.Sprintf("%d.txt", n+i),
				fmt.Sprintf("Note %d of many, about valves, pumps and the weather at the lake.", n+i))
		}
		b.enqueue(t, tenantA, uploads...)
	}
	b.work(t, d.URL("konstruct_worker"))
	testkit.Until(t, "in progress", func() bool {
		n, err := kb.CountJobs(t.Context(), b.door, tenantA)
		return err == nil && n[kb.JobDone] > 10
	})
	begin := time.Now()
	b.enqueue(t, tenantB, text("one.md", pumps))
	testkit.Until(t, "searchable", func() bool { return len(b.search(t, tenantB, "How do I send it back?", 1)) == 1 })
	took := time.Since(begin)
	n, err := kb.CountJobs(t.Context(), b.door, tenantA)
	if err != nil || n[kb.JobQueued] < many/2 {
		t.Errorf("%v waiting, %v: it shows nothing", n, err)
	}
	t.Logf("B's document was searchable after %v, with %d of A's waiting", took.Round(time.Millisecond),
		n[kb.JobQueued])
}

func TestAJobIsCancelledAtAnyTime(t *testing.T) {
	b, d := newQueue(t)
	ids := b.enqueue(t, tenantA, text("waits.md", pumps), text("long.md", strings.Repeat(pumps, 3000)))
	if n, err := kb.CancelJobs(t.Context(), b.door, tenantA, ids[0]); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	b.work(t, d.URL("konstruct_worker"))
	testkit.Until(t, "running", func() bool { return strings.HasPrefix(b.jobs(t, tenantA)["long.md"], "running") })
	testkit.Until(t, "far enough to say how far", func() bool {
		jobs, err := kb.ListJobs(t.Context(), b.door, tenantA, kb.JobRunning, uuid.Nil, 1)
		return err == nil && len(jobs) == 1 && jobs[0].Embedded > 0 && jobs[0].Chunks > jobs[0].Embedded
	})
	if n, err := kb.CancelJobs(t.Context(), b.door, tenantA, ids[1]); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	b.enqueue(t, tenantA, text("after.md", pumps))
	testkit.Until(t, "on with the next", func() bool { return b.jobs(t, tenantA)["after.md"] == "done added" })
	if got := b.jobs(t, tenantA); got["waits.md"] != "cancelled" || got["long.md"] != "cancelled" {
		t.Errorf("%v", got)
	}
	if docs := b.list(t, tenantA); len(docs) != 1 {
		t.Errorf("%+v", docs)
	}
}

// TestWhatMayPassIsTriedAgain: a site that is unavailable, a model that is; and what does not pass ends with its
// reason, to be tried again by hand.
func TestWhatMayPassIsTriedAgain(t *testing.T) {
	b, d := newQueue(t)
	s := newSite(t)
	b.pages(t)
	s.pages["/a"] = "away"
	var mu sync.Mutex
	broken := true
	model := b.in.Embedder
	b.in.Embedder = func(name string) (embed.Embedder, error) {
		mu.Lock()
		defer mu.Unlock()
		m, err := model(name)
		if broken {
			return failingEmbedder{m}, err
		}
		return m, err
	}
	b.enqueue(t, tenantA, kb.Upload{Source: s.url + "/a", Filename: "a"}, text("b.md", pumps))
	b.work(t, d.URL("konstruct_worker"))
	testkit.Until(t, "tried", func() bool {
		got := b.jobs(t, tenantA)
		return got["a"] == "queued  its site does not answer now: it answers 503 Service Unavailable" &&
			strings.HasSuffix(got["b.md"], "the model is unavailable")
	})
	mu.Lock()
	broken = false
	mu.Unlock()
	testkit.Until(t, "in", func() bool { return b.jobs(t, tenantA)["b.md"] == "done added" })
	// The last try of a job that never works.
	testkit.Super(t, d,
		`SET app.current_tenant = '`+tenantA.String()+
			`'; UPDATE kb_jobs SET attempt = 5, due = now() WHERE filename = 'a'`)
	testkit.Until(t, "given up", func() bool {
		return strings.HasPrefix(b.jobs(t, tenantA)["a"], "failed  its site does not answer")
	})
	s.pages["/a"] = "<title>A</title><p>What page a says."
	if n, err := kb.RetryJobs(t.Context(), b.door, tenantA); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	testkit.Until(t, "in after all", func() bool { return b.jobs(t, tenantA)["a"] == "done added" })
	if n, err := kb.DeleteJobs(t.Context(), b.door, tenantA); err != nil || n != 2 || len(b.jobs(t, tenantA)) != 0 {
		t.Errorf("%d forgotten, %v", n, err)
	}
}

// failingEmbedder is a model that is unavailable.
type failingEmbedder struct{ embed.Embedder }

func (failingEmbedder) Embed(context.Context, []string) ([][]float32, error) {
	return nil, errors.New("the model is unavailable")
}

// TestAnotherTenantsJobsAreNobodys: not to be seen, cancelled, tried again, forgotten; and a turn of one tenant takes
// up none of another's.
func TestAnotherTenantsJobsAreNobodys(t *testing.T) {
	b, d := newQueue(t)
	ids := b.enqueue(t, tenantA, text("a.md", pumps))
	for _, tenant := range []uuid.UUID{tenantB, uuid.MustParse("99999999-9999-4999-8999-999999999999")} {
		if got := b.jobs(t, tenant); len(got) != 0 {
			t.Errorf("%v", got)
		}
		for what, do := range map[string]func() (int, error){
			"cancel": func() (int, error) {
				return kb.CancelJobs(t.Context(), b.door, tenant, ids...)
			}, "cancel all": func() (int, error) { return kb.CancelJobs(t.Context(), b.door, tenant) },
			"retry": func() (int, error) {
				return kb.RetryJobs(t.Context(), b.door, tenant)
			}, "forget": func() (int, error) { return kb.DeleteJobs(t.Context(), b.door, tenant) },
		} {
			if n, err := do(); n != 0 || err != nil {
				t.Errorf("%s: %d, %v", what, n, err)
			}
		}
		if worked, err := b.in.Work(t.Context(), tenant); worked || err != nil {
			t.Errorf("a turn of another tenant: %v, %v", worked, err)
		}
		if open, err := b.in.Prepare(t.Context(), tenant); open || err != nil {
			t.Errorf("open: %v, %v", open, err)
		}
	}
	if got := b.jobs(t, tenantA); got["a.md"] != "queued" {
		t.Errorf("%v", got)
	}
	// A ticket that somebody forged, who can deal: it leads to its own tenant's documents and no others.
	testkit.Super(t, d, `DELETE FROM river_job`)
	worker := testkit.Connect(t, d.URL("konstruct_worker"))
	if _, err := worker.Exec(t.Context(), `INSERT INTO river_job (kind, queue, args)
		VALUES ('tenant', 'tenants', jsonb_build_object('tenant', $1::text, 'job', $2::text))`, tenantB,
		ids[0]); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"kb_jobs", "kb_uploads", "kb_documents", "kb_chunks", "kb_texts", "audit_events",
		"audit_seals"} {
		if _, err := worker.Exec(t.Context(), `SELECT FROM `+table); err == nil ||
			!strings.Contains(err.Error(), "42501") {
			t.Errorf("the worker's role reads %s: %v", table, err)
		}
	}
	stop := b.work(t, d.URL("konstruct_worker"))
	testkit.Until(t, "put away", func() bool {
		var open int
		return worker.QueryRow(t.Context(),
			`SELECT count(*) FROM river_job WHERE queue = 'tenants' AND finalized_at IS NULL`).
			Scan(&open) == nil && open == 0
	})
	stop()
	if got := b.jobs(t, tenantA); got["a.md"] != "queued" {
		t.Errorf("%v", got)
	}
}

func TestUploadsThatCantBe(t *testing.T) {
	b, _ := newQueue(t)
	long := strings.Repeat("x", 2001)
	for field, u := range map[string]kb.Upload{
		"source":   {Source: long, Content: []byte("x")},
		"filename": {Source: "test:x", Filename: "a\x00b", Content: []byte("x")},
		"content":  {Source: "file:///etc/passwd", Filename: "passwd"},
		"labels":   {Source: "test:x", Content: []byte("x"), DocumentOptions: kb.DocumentOptions{Labels: []string{""}}},
		"metadata": {Source: "test:x", Content: []byte("x"),
			DocumentOptions: kb.DocumentOptions{Metadata: map[string]any{"k": strings.Repeat("x", kb.MaxMetadata)}}},
	} {
		err := b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.Enqueue(ctx, tx, tenantA, agent, text("good.md", pumps), u)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "document 2: "+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if got := b.jobs(t, tenantA); len(got) != 0 {
		t.Errorf("half in: %v", got)
	}
}

// TestKilledInTheMiddleOfAThousandDocuments kills the program itself, and then the database, with kill -9; every
// document is in exactly once.
func TestKilledInTheMiddleOfAThousandDocuments(t *testing.T) {
	d := testkit.Own(t)
	b := newBaseOn(t, d)
	const many = 1000
	dir := t.TempDir()
	for n := range many {
		write(t, filepath.Join(dir, fmt.Sprintf("%04d.txt", n)), fmt.Sprintf("Note %d, about valves and pumps.", n))
	}
	bin := testkit.Build(t)
	proxy, app := testkit.NewProxy(t, d.URL("konstruct_app"))
	workers, worker := testkit.NewProxy(t, d.URL("konstruct_worker"))
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(bin, args...)
		cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+app, "KONSTRUCT_WORKER_DATABASE_URL="+worker,
			"KONSTRUCT_TENANT="+tenantA.String())
		return cmd
	}
	if out, err := command("kb", "ingest", "--later", dir).CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "1000 enqueued") {
		t.Fatalf("%s, %v", out, err)
	}
	done := func() int {
		n, err := kb.CountJobs(t.Context(), b.door, tenantA)
		if err != nil {
			return -1
		}
		return n[kb.JobDone]
	}
	for kill := range 5 {
		cmd := command("kb", "work")
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		from := done()
		testkit.Until(t, fmt.Sprintf("further than %d in run %d", from, kill), func() bool {
			return done() > from+20*(kill+1)
		})
		if kill == 3 {
			d.Restart(t)
			proxy.To(t, d.URL("konstruct_app"))
			workers.To(t, d.URL("konstruct_worker"))
			b.door = testkit.DoorOf(t, d)
			testkit.Until(t, "on with it", func() bool { return done() > from+20*(kill+1)+50 })
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if n := done(); n >= many {
		t.Fatalf("%d were done before the last kill: it shows nothing", n)
	}
	if out, err := command("kb", "work", "--once").CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "1000 done, 0 failed, 0 cancelled") {
		t.Errorf("%s, %v", out, err)
	}
	var documents, sources, chunks, texts int
	if err := testkit.Connect(t, d.SuperuserURL()).
		QueryRow(t.Context(), `SELECT (SELECT count(*) FROM kb_documents), (SELECT count(DISTINCT source)
		FROM kb_sources), (SELECT count(*) FROM kb_chunks), (SELECT count(*) FROM kb_texts)`).
		Scan(&documents, &sources, &chunks, &texts); err != nil || documents != many || sources != many ||
		chunks != many || texts != many {
		t.Errorf("%d documents of %d sources with %d chunks and %d texts, %v", documents, sources, chunks, texts, err)
	}
}
