package kb_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

const (
	overtakenByDeletion = "cancelled  its document was deleted after it was uploaded"
	overtakenByUpload   = "cancelled  a newer upload of the same source is stored already"
)

// gate is a model that stops at texts with a mark until it is opened.
type gate struct {
	embed.Embedder
	mark        string
	there, open chan struct{}
	once        *sync.Once
}

func (b *base) gate(mark string) *gate {
	return &gate{b.model, mark, make(chan struct{}), make(chan struct{}), &sync.Once{}}
}

// Embed implements embed.Embedder.
func (g *gate) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, g.mark) }) {
		g.once.Do(func() { close(g.there) })
		select {
		case <-g.open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g.Embedder.Embed(ctx, texts)
}

// through ingests with a model of the test's own.
func (b *base) through(m embed.Embedder) *kb.Ingester {
	in := *b.in
	in.Embedder = func(string) (embed.Embedder, error) { return m, nil }
	return &in
}

// drain works until nothing of the tenant's is queued.
func drain(t *testing.T, in *kb.Ingester, tenant uuid.UUID) {
	t.Helper()
	for {
		worked, err := in.Work(t.Context(), tenant)
		if err != nil {
			t.Fatal(err)
		}
		if !worked {
			return
		}
	}
}

// documentOf is the id of the document with this file name.
func (b *base) documentOf(t *testing.T, tenant uuid.UUID, name string) uuid.UUID {
	t.Helper()
	for _, d := range b.list(t, tenant) {
		if d.Filename == name {
			return d.ID
		}
	}
	t.Fatalf("there is no document %s", name)
	return uuid.Nil
}

func (b *base) mustRemove(t *testing.T, name string) {
	t.Helper()
	if err := b.remove(t, tenantA, b.documentOf(t, tenantA, name)); err != nil {
		t.Fatal(err)
	}
}

// TestADeletionWinsOverWhatWasUploadedBefore it, wherever that is on its way, and over nothing that is uploaded after
// it.
func TestADeletionWinsOverWhatWasUploadedBefore(t *testing.T) {
	const newer = pumps + "\n## Oil\n\nOil the slow gate once a year.\n"
	archive := func(t *testing.T, a, b string) kb.Upload {
		return text("all.zip", zipOf(t, entry{"a.md", a}, entry{"b.md", b}))
	}
	for _, c := range []struct {
		name string
		// before is what there is, and race uploads a.md again, removes the document, and lets the upload end.
		before func(*testing.T) kb.Upload
		race   func(*testing.T, *base, *testkit.DB)
		want   map[string]string // of the jobs that are left
	}{
		{"queued", nil, func(t *testing.T, b *base, _ *testkit.DB) {
			b.enqueue(t, tenantA, text("a.md", newer))
			b.mustRemove(t, "a.md")
		}, map[string]string{"a.md": overtakenByDeletion}},
		{"running", nil, func(t *testing.T, b *base, _ *testkit.DB) {
			b.enqueue(t, tenantA, text("a.md", newer))
			g, end := b.gate("slow gate"), make(chan error, 1)
			go func() { _, err := b.through(g).Work(t.Context(), tenantA); end <- err }()
			<-g.there
			b.mustRemove(t, "a.md")
			close(g.open)
			if err := <-end; err != nil {
				t.Error(err)
			}
		}, map[string]string{"a.md": overtakenByDeletion}},
		{"uploaded in a transaction that commits after the deletion", nil, func(t *testing.T, b *base, _ *testkit.DB) {
			if err := b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
				_, err := kb.Enqueue(ctx, tx, tenantA, agent, text("a.md", newer))
				b.mustRemove(t, "a.md")
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}, map[string]string{"a.md": overtakenByDeletion}},
		{"left alone by a worker that was killed", nil, func(t *testing.T, b *base, d *testkit.DB) {
			if err := b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
				_, err := kb.Enqueue(ctx, tx, tenantA, agent, text("a.md", newer))
				if err == nil {
					_, err = tx.Exec(ctx,
						`UPDATE kb_jobs SET state = 'running', attempt = 1, due = now() WHERE state = 'queued'`)
				}
				b.mustRemove(t, "a.md")
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}, map[string]string{"a.md": overtakenByDeletion}},
		{"in an archive", func(t *testing.T) kb.Upload {
			return archive(t, pumps, "Before.")
		}, func(t *testing.T, b *base, _ *testkit.DB) {
			b.enqueue(t, tenantA, archive(t, newer, "After."))
			b.mustRemove(t, "a.md")
		}, map[string]string{"all.zip": "done unpacked", "a.md": overtakenByDeletion, "b.md": "done replaced"}},
		{"in an archive that failed and is retried", func(t *testing.T) kb.Upload {
			return archive(t, pumps, "Before.")
		}, func(t *testing.T, b *base, d *testkit.DB) {
			b.enqueue(t, tenantA, archive(t, newer, "After."))
			testkit.Super(t, d, `SET app.current_tenant = '`+tenantA.String()+`'; 
			    UPDATE kb_jobs SET state = 'failed' WHERE state = 'queued' AND tenant_id = '`+tenantA.String()+`'`)
			b.mustRemove(t, "a.md")
			if n, err := kb.RetryJobs(t.Context(), b.door, tenantA); n != 1 || err != nil {
				t.Errorf("%d retried, %v", n, err)
			}
		}, map[string]string{"all.zip": "done unpacked", "a.md": overtakenByDeletion, "b.md": "done replaced"}},
		{"deleted by source before there was a document of it", func(t *testing.T) kb.Upload {
			return text("other.md", pumps)
		}, func(t *testing.T, b *base, _ *testkit.DB) {
			b.enqueue(t, tenantA, text("a.md", newer))
			if err := b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
				d, err := kb.RemoveSource(ctx, tx, tenantA, "test:a.md")
				if d != nil {
					t.Errorf("removed %+v", d)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}, map[string]string{"a.md": overtakenByDeletion, "other.md": "done added"}},
		{"deleted in SQL by a superuser, with no tenant set", nil, func(t *testing.T, b *base, d *testkit.DB) {
			b.enqueue(t, tenantA, text("a.md", newer))
			testkit.Super(t, d, `DELETE FROM kb_documents`)
		}, map[string]string{"a.md": overtakenByDeletion}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, d := newQueue(t)
			before := text("a.md", pumps)
			if c.before != nil {
				before = c.before(t)
			}
			b.enqueue(t, tenantA, before)
			b.enqueue(t, tenantB, text("a.md", pumps))
			drain(t, b.in, tenantA)
			c.race(t, b, d)
			drain(t, b.in, tenantA)
			if d := cmp.Diff(c.want, b.jobs(t, tenantA)); d != "" {
				t.Error(d)
			}
			for _, doc := range b.list(t, tenantA) {
				if doc.Filename == "a.md" {
					t.Errorf("it is back: %+v", doc)
				}
			}
			var files int
			if err := testkit.Connect(t, d.SuperuserURL()).
				QueryRow(t.Context(), `SELECT count(*) FROM kb_uploads WHERE tenant_id = $1`, tenantA).
				Scan(&files); err != nil || files != 0 {
				t.Errorf("%d files are kept, %v", files, err)
			}
			// The other tenant's upload of the same source is nobody's business here.
			drain(t, b.in, tenantB)
			if got := b.jobs(t, tenantB); got["a.md"] != "done added" {
				t.Errorf("the other tenant's: %v", got)
			}
			if before.Filename == "other.md" {
				before = text("a.md", newer)
			}
			b.enqueue(t, tenantA, before)
			drain(t, b.in, tenantA)
			b.documentOf(t, tenantA, "a.md") // is there
		})
	}
}

// TestADeletionWinsOverAnIngestThatWasBegunBefore it: the file's result says so.
func TestADeletionWinsOverAnIngestThatWasBegunBefore(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "a.md"), pumps)
	b.files(t, tenantA, dir)
	write(t, path, pumps+"\n## Oil\n\nOil the slow gate once a year.\n")
	g, end := b.gate("slow gate"), make(chan kb.IngestResult, 1)
	go func() {
		if err := b.through(g).Files(t.Context(), tenantA, agent, []string{dir}, kb.DocumentOptions{},
			func(r kb.IngestResult) {
				end <- r
			}); err != nil {
			t.Error(err)
		}
	}()
	<-g.there
	b.mustRemove(t, "a.md")
	close(g.open)
	if r := <-end; !errors.Is(r.Err, kb.ErrDeleted) || r.Outcome != "" {
		t.Errorf("%+v", r)
	}
	if docs := b.list(t, tenantA); len(docs) != 0 {
		t.Errorf("it is back: %+v", docs)
	}
	// Files of a folder are uploaded when the call begins, however long it takes to come to them.
	b.files(t, tenantA, dir)
	write(t, path, pumps+"\n## Oil\n\nOil it twice a year.\n")
	write(t, filepath.Join(dir, "b.md"), pumps)
	if err := b.in.Enqueue(t.Context(), tenantA, agent, []string{dir}, kb.DocumentOptions{}, func(r kb.IngestResult) {
		if filepath.Base(r.Path) == "a.md" {
			b.mustRemove(t, "a.md")
		}
	}); err != nil {
		t.Fatal(err)
	}
	drain(t, b.in, tenantA)
	if d := cmp.Diff(map[string]string{"a.md": overtakenByDeletion, "b.md": "done added"},
		b.jobs(t, tenantA)); d != "" {
		t.Error(d)
	}
	if r := b.files(t, tenantA, dir)["a.md"]; r.Outcome != kb.Added {
		t.Errorf("uploaded after the deletion: %+v", r)
	}
}

// TestAnOlderUploadDoesNotReplaceANewerOne however late it ends: neither its content nor its labels.
func TestAnOlderUploadDoesNotReplaceANewerOne(t *testing.T) {
	labelled := func(u kb.Upload, label string) kb.Upload { u.Labels = []string{label}; return u }
	const slow, quick = pumps + "\n## Oil\n\nOil the slow gate.\n", pumps + "\n## Oil\n\nOil it now.\n"
	for _, c := range []struct {
		name                 string
		before, older, newer kb.Upload
		newest, olderOne     string
		labels               []string
		content              string
	}{
		{"another content", text("a.md", pumps), text("a.md", slow), text("a.md", quick), "done replaced",
			overtakenByUpload, nil, quick},
		{"the content that was there before", text("a.md", pumps), text("a.md", slow), text("a.md", pumps),
			"done unchanged", overtakenByUpload, nil, pumps},
		{"the same content, other labels", text("a.md", pumps), labelled(text("a.md", slow), "all"),
			labelled(text("a.md", slow+" "), "legal"), "done replaced", overtakenByUpload, []string{"legal"},
			slow + " "},
		{"the same", text("a.md", pumps), text("a.md", slow), labelled(text("a.md", slow), "legal"), "done replaced",
			"done unchanged", []string{"legal"}, slow},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _ := newQueue(t)
			b.enqueue(t, tenantA, c.before)
			drain(t, b.in, tenantA)
			g, end := b.gate("slow gate"), make(chan error, 1)
			older := b.enqueue(t, tenantA, c.older)[0]
			go func() { _, err := b.through(g).Work(t.Context(), tenantA); end <- err }()
			<-g.there
			newest := b.enqueue(t, tenantA, c.newer)[0]
			if _, err := b.in.Work(t.Context(), tenantA); err != nil {
				t.Fatal(err)
			}
			close(g.open)
			if err := <-end; err != nil {
				t.Error(err)
			}
			for id, want := range map[uuid.UUID]string{newest: c.newest, older: c.olderOne} {
				if j, err := kb.GetJob(t.Context(), b.door, tenantA, id); err != nil ||
					strings.TrimRight(string(j.State)+" "+string(j.Outcome)+" "+j.Reason, " ") != want {
					t.Errorf("%+v, %v, want %s", j, err, want)
				}
			}
			docs := b.list(t, tenantA)
			if len(docs) != 1 || !slices.Equal(docs[0].Labels, c.labels) || docs[0].Bytes != int64(len(c.content)) {
				t.Errorf("%+v", docs)
			}
		})
	}
	// What is known already is not read; an older upload's labels do not come that way either.
	b, _ := newQueue(t)
	if err := b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
		seq, err := kb.NextSeq(t.Context(), b.door, tenantA)
		late := labelled(text("a.md", pumps), "all")
		late.Seq = seq
		b.enqueue(t, tenantA, labelled(text("a.md", pumps), "legal"))
		drain(t, b.in, tenantA)
		if err == nil {
			_, err = kb.Enqueue(ctx, tx, tenantA, agent, late)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	drain(t, b.in, tenantA)
	if docs := b.list(t, tenantA); len(docs) != 1 || !slices.Equal(docs[0].Labels, []string{"legal"}) {
		t.Errorf("%+v", docs)
	}
	if n, err := kb.CountJobs(t.Context(), b.door, tenantA); err != nil || n[kb.JobCancelled] != 1 {
		t.Errorf("%v, %v", n, err)
	}
	// Nobody uploads from the future: it would keep what comes after from being stored.
	future := text("a.md", slow)
	future.Seq = 1 << 40
	b.enqueue(t, tenantA, future)
	b.enqueue(t, tenantA, text("a.md", quick))
	drain(t, b.in, tenantA)
	if docs := b.list(t, tenantA); len(docs) != 1 || docs[0].Bytes != int64(len(quick)) {
		t.Errorf("%+v", docs)
	}
}

// TestWhatIsDeletedWhileItIsEmbeddedAgain is left out, and holds nothing up.
func TestWhatIsDeletedWhileItIsEmbeddedAgain(t *testing.T) {
	d := testkit.Database(t)
	b := newBaseOn(t, d)
	b.enqueue(t, tenantA, text("a.md", pumps), text("b.md", "The keys hang behind the door."))
	drain(t, b.in, tenantA)
	id := b.documentOf(t, tenantA, "a.md")
	deleted, commit, end := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	m := other{b.model, func() {
		once.Do(func() { // between reading the passages and writing their vectors
			go func() {
				end <- b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
					_, err := kb.Remove(ctx, tx, tenantA, id)
					close(deleted)
					<-commit
					return err
				})
			}()
			<-deleted
			go func() {
				defer close(commit)
				super := testkit.Connect(t, d.SuperuserURL())
				for waits := false; !waits && t.Context().Err() == nil; time.Sleep(10 * time.Millisecond) {
					if err := super.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)`).
						Scan(&waits); err != nil {
						t.Error(err)
						return
					}
				}
			}()
		})
	}}
	if err := kb.Reembed(t.Context(), b.door, tenantA, m, b.model.Tokenizer(), nil); err != nil {
		t.Error(err)
	}
	if err := <-end; err != nil {
		t.Error(err)
	}
	models, err := kb.ListModels(t.Context(), b.door, tenantA)
	if err != nil || len(models) != 1 || models[0].Vectors != 1 || models[0].Missing != 0 {
		t.Errorf("%+v, %v", models, err)
	}
	if docs := b.list(t, tenantA); len(docs) != 1 {
		t.Errorf("%+v", docs)
	}
}

// other is a second model, which tells when it is asked.
type other struct {
	embed.Embedder
	asked func()
}

func (other) Name() string { return "other" }

// Embed implements embed.Embedder.
func (o other) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	o.asked()
	return o.Embedder.Embed(ctx, texts)
}

// TestASecondTicketIsNoPromise: a tenant has two tickets, and whoever enqueues sees one that is about to be put away
// because of the other, which is put away already. The document is taken in all the same.
func TestASecondTicketIsNoPromise(t *testing.T) {
	b, d := newQueue(t)
	testkit.Super(t, d, `CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_sleep(CASE WHEN EXISTS (SELECT FROM river_job WHERE id < NEW.id) THEN 3 ELSE 1 END);
		RETURN NEW; END $$`)
	testkit.Super(t, d, `CREATE TRIGGER slowly BEFORE UPDATE ON river_job FOR EACH ROW
		WHEN (OLD.finalized_at IS NULL AND NEW.finalized_at IS NOT NULL) EXECUTE FUNCTION slowly()`)
	testkit.Super(t, d, `INSERT INTO river_job (kind, queue, args) SELECT 'tenant', 'tenants',
		jsonb_build_object('tenant', '`+tenantA.String()+`') FROM generate_series(1, 2)`)
	b.work(t, d.URL("konstruct_worker"))
	super := testkit.Connect(t, d.SuperuserURL())
	testkit.Until(t, "the first ticket is put away", func() bool {
		var put bool
		return super.QueryRow(t.Context(), `SELECT finalized_at IS NOT NULL FROM river_job ORDER BY id LIMIT 1`).
			Scan(&put) == nil && put
	})
	b.enqueue(t, tenantA, text("a.md", pumps))
	for end := time.Now().Add(30 * time.Second); !b.over(t, tenantA); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nobody takes it in: %v", b.jobs(t, tenantA))
		}
	}
}
