package kb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/parse"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

var (
	tenantA = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	tenantB = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	agent   = uuid.MustParse("33333333-3333-4333-8333-333333333333")
)

// base is a knowledge base with the real model, on a database of its own.
type base struct {
	door  *tenantdb.Door
	model *embed.Local
	in    *kb.Ingester
}

func newBase(t *testing.T) *base { t.Helper(); return newBaseOn(t, testkit.Database(t)) }

func newBaseOn(t *testing.T, d *testkit.DB) *base {
	t.Helper()
	b := &base{door: testkit.DoorOf(t, d), model: testkit.Model(t)}
	r := parse.NewLocal(b.model.Tokenizer(), parse.DefaultLimits)
	t.Cleanup(func() { r.Close() })
	b.in = &kb.Ingester{Door: b.door, Embedder: func(string) (embed.Embedder, error) {
		return b.model, nil
	}, Parser: r, Concurrency: 2}
	return b
}

// files takes paths in and returns what became of each, by base name.
func (b *base) files(t *testing.T, tenant uuid.UUID, paths ...string) map[string]kb.IngestResult {
	t.Helper()
	got := map[string]kb.IngestResult{}
	if err := b.in.Files(t.Context(), tenant, agent, paths, kb.DocumentOptions{}, func(r kb.IngestResult) {
		got[filepath.Base(r.Path)] = r
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func (b *base) search(t *testing.T, tenant uuid.UUID, q string, k int) []search.Hit {
	t.Helper()
	v, err := b.model.Embed(t.Context(), []string{q})
	if err != nil {
		t.Fatal(err)
	}
	var hits []search.Hit
	if err := b.door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		hits, err = find(ctx, tx, tenant, search.Query{Mode: search.Semantic, Vector: v[0], K: k})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return hits
}

// find is a search by a searcher that knows nothing yet.
func find(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q search.Query) ([]search.Hit, error) {
	f, err := search.NewSearcher().SearchInTx(ctx, tx, tenant, q)
	return f.Hits, err
}

func (b *base) list(t *testing.T, tenant uuid.UUID) []kb.Document {
	t.Helper()
	docs, err := kb.ListDocuments(t.Context(), b.door, tenant, uuid.Nil, kb.MaxList)
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func (b *base) remove(t *testing.T, tenant, id uuid.UUID) error {
	return b.door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := kb.Remove(ctx, tx, tenant, id)
		return err
	})
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const pumps = "# Pumps\n\n## Returns\n\nA pump may be returned within thirty days.\n\n## Cleaning\n\nRinse the rotor " +
	"with warm water every week.\n"

func TestADocumentIsFoundByMeaningWithItsPlace(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "pumps.md"), pumps)
	if r := b.files(t, tenantA, path)["pumps.md"]; r.Outcome != kb.Added || r.Chunks != 2 || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	hits := b.search(t, tenantA, "How do I send it back?", 5)
	if len(hits) != 2 {
		t.Fatalf("%d hits", len(hits))
	}
	h := hits[0]
	if h.Content != "A pump may be returned within thirty days." || pumps[h.Start:h.End] != h.Content ||
		h.Score <= hits[1].Score || h.Filename != "pumps.md" {
		t.Errorf("%+v", h)
	}
	if d := cmp.Diff([]string{"Pumps", "Returns"}, h.Headings); d != "" {
		t.Error(d)
	}
	doc, passages, err := kb.GetDocument(t.Context(), b.door, tenantA, h.DocumentID)
	if err != nil || len(passages) != 2 || doc.Chunks != 2 || doc.Bytes != int64(len(pumps)) || doc.Title != "Pumps" ||
		doc.ContentType != "text/markdown" {
		t.Errorf("%+v, %d passages, %v", doc, len(passages), err)
	}
}

func TestTheSameFileAgainIsANoOpAndAChangedOneIsReplaced(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "a.md"), pumps)
	first := b.files(t, tenantA, path)["a.md"]
	before := b.search(t, tenantA, "rotor", 9)
	if r := b.files(t, tenantA, dir)["a.md"]; r.Outcome != kb.Unchanged {
		t.Errorf("again: %+v", r)
	}
	if d := cmp.Diff(before, b.search(t, tenantA, "rotor", 9)); d != "" {
		t.Errorf("a no-op changed something: %s", d)
	}
	write(t, path, "# Pumps\n\nOnly this is left.")
	if r := b.files(t, tenantA, path)["a.md"]; r.Outcome != kb.Replaced || r.DocumentID != first.DocumentID {
		t.Errorf("changed: %+v", r)
	}
	if hits := b.search(t, tenantA, "rotor", 9); len(hits) != 1 || hits[0].Content != "Only this is left." {
		t.Errorf("%+v", hits)
	}
}

// TestReadersSeeTheOldOrTheNew searches while a document is replaced over and over.
func TestReadersSeeTheOldOrTheNew(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	version := func(n int) string {
		var s strings.Builder
		for i := range 8 {
			fmt.Fprintf(&s, "# Part %d\n\nversion %d of part %d\n\n", i, n, i)
		}
		return s.String()
	}
	path := write(t, filepath.Join(dir, "v.md"), version(0))
	b.files(t, tenantA, path)
	v, err := b.model.Embed(t.Context(), []string{"version"})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := b.door.Tx(context.Background(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
					hits, err := find(ctx, tx, tenantA, search.Query{Mode: search.Semantic, Vector: v[0], K: 100})
					seen := map[string]int{}
					for _, h := range hits {
						seen[strings.Fields(h.Content)[1]]++
					}
					if len(seen) != 1 || len(hits) != 8 {
						t.Errorf("a reader saw %v", seen)
					}
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := 1; n <= 10; n++ {
		write(t, path, version(n))
		if r := b.files(t, tenantA, path)["v.md"]; r.Outcome != kb.Replaced {
			t.Errorf("%+v", r)
		}
	}
	close(stop)
	readers.Wait()
}

func TestTwoThatTakeInTheSameFileLeaveOne(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "a.md"), pumps)
	var both sync.WaitGroup
	for range 4 {
		both.Go(func() {
			in := *b.in
			if err := in.Files(context.Background(), tenantA, agent, []string{path}, kb.DocumentOptions{},
				func(r kb.IngestResult) {
					if r.Err != nil {
						t.Error(r.Err)
					}
				}); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if docs := b.list(t, tenantA); len(docs) != 1 || docs[0].Chunks != 2 {
		t.Errorf("%+v", docs)
	}
}

func TestAnotherTenantSeesNothing(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "a.md"), pumps)
	id := b.files(t, tenantA, path)["a.md"].DocumentID
	if hits := b.search(t, tenantB, "Returns", 9); len(hits) != 0 {
		t.Errorf("tenant B found %+v", hits)
	}
	if docs := b.list(t, tenantB); len(docs) != 0 {
		t.Errorf("tenant B lists %+v", docs)
	}
	if _, _, err := kb.GetDocument(t.Context(), b.door, tenantB, id); !errors.Is(err, kb.ErrNotFound) {
		t.Errorf("tenant B shows it: %v", err)
	}
	if err := b.remove(t, tenantB, id); !errors.Is(err, kb.ErrNotFound) {
		t.Errorf("tenant B removes it: %v", err)
	}
	// A search that names A while the transaction is B's: the policy and not the query decides.
	v, err := b.model.Embed(t.Context(), []string{"Returns"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.door.Tx(t.Context(), tenantB, func(ctx context.Context, tx pgx.Tx) error {
		hits, err := find(ctx, tx, tenantA, search.Query{Mode: search.Semantic, Vector: v[0], K: 9})
		if len(hits) != 0 {
			t.Errorf("a forged tenant found %+v", hits)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for name, fn := range map[string]func() error{
		"list":   func() error { _, err := kb.ListDocuments(t.Context(), b.door, uuid.Nil, uuid.Nil, 9); return err },
		"show":   func() error { _, _, err := kb.GetDocument(t.Context(), b.door, uuid.Nil, id); return err },
		"remove": func() error { return b.remove(t, uuid.Nil, id) },
		"ingest": func() error {
			return b.in.Files(t.Context(), uuid.Nil, agent, []string{path}, kb.DocumentOptions{},
				func(kb.IngestResult) {})
		},
	} {
		if err := fn(); !errors.Is(err, tenantdb.ErrNoTenant) {
			t.Errorf("%s without a tenant: %v", name, err)
		}
	}
	// The same file of another tenant is another document.
	if r := b.files(t, tenantB, path)["a.md"]; r.Outcome != kb.Added || r.DocumentID == id {
		t.Errorf("%+v", r)
	}
	if err := b.remove(t, tenantA, id); err != nil {
		t.Fatal(err)
	}
	if len(b.list(t, tenantA)) != 0 || len(b.list(t, tenantB)) != 1 {
		t.Error("removing A's document touched B's, or left A's")
	}
}

// TestOneBadFileDoesNotStopTheOthers ingests a folder of everything that goes wrong.
func TestOneBadFileDoesNotStopTheOthers(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	pdf := func(name string) string {
		raw, err := os.ReadFile(filepath.Join("..", "extract", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	want := map[string]string{"good.md": "", "two\nlines.txt": "", "deep.html": "", "handbook.pdf": ""}
	write(t, filepath.Join(dir, "good.md"), pumps)
	write(t, filepath.Join(dir, "two\nlines.txt"), "A name with a line break.")
	write(t, filepath.Join(dir, "deep.html"), strings.Repeat("<div>", 100_000)+"core")
	write(t, filepath.Join(dir, "handbook.pdf"), pdf("handbook.pdf"))
	for name, c := range map[string][2]string{
		"empty.txt": {"", "empty"}, "ff.txt": {strings.Repeat("\xff", 100), "0xFF"},
		"drawing.pdf":   {pdf("drawing.pdf"), "no text"},
		"encrypted.pdf": {pdf("encrypted.pdf"), "encrypted"}, "truncated.pdf": {pdf("handbook.pdf")[:700], "damaged"},
	} {
		write(t, filepath.Join(dir, name), c[0])
		want[name] = c[1]
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	want["pipe.txt"] = "named pipe"
	if err := os.Symlink("loop.txt", filepath.Join(dir, "loop.txt")); err != nil {
		t.Fatal(err)
	}
	want["loop.txt"] = "too many levels of symbolic links"
	if err := os.Symlink(".", filepath.Join(dir, "round")); err != nil { // a folder's loop is not entered
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "s.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want["s.txt"] = "socket"
	write(t, filepath.Join(dir, ".hidden.txt"), "not for reading")

	got := b.files(t, tenantA, dir)
	for name, reason := range want {
		r, ok := got[name]
		switch {
		case !ok:
			t.Errorf("%q was not reported", name)
		case reason == "" && (r.Err != nil || r.Outcome != kb.Added):
			t.Errorf("%q: %+v", name, r)
		case reason != "" && (r.Err == nil || !strings.Contains(r.Err.Error(), reason)):
			t.Errorf("%q: error %v, want one that says %q", name, r.Err, reason)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d reported, want %d", len(got), len(want))
	}
	if docs := b.list(t, tenantA); len(docs) != 4 {
		t.Errorf("%d documents are stored, want 4", len(docs))
	}
	write(t, filepath.Join(dir, "x.png"), "\x89PNG\r\n\x1a\n00000000")
	if r := b.files(t, tenantA, dir)["x.png"]; !r.Skipped {
		t.Errorf("a picture in a folder: %+v", r)
	}
	if r := b.files(t, tenantA, filepath.Join(dir, "x.png"))["x.png"]; r.Skipped || !errors.Is(r.Err, extract.ErrKind) {
		t.Errorf("a picture by name: %+v", r)
	}
	if r := b.files(t, tenantA, filepath.Join(dir, "nothing"))["nothing"]; !errors.Is(r.Err, os.ErrNotExist) {
		t.Errorf("a name that is not there: %+v", r)
	}
}

func TestAModelThatFailsStopsEverything(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	write(t, filepath.Join(dir, "a.md"), pumps)
	broken := errors.New("the model fell over")
	b.in.Embedder = func(string) (embed.Embedder, error) { return nil, broken }
	if err := b.in.Files(t.Context(), tenantA, agent, []string{dir}, kb.DocumentOptions{},
		func(kb.IngestResult) {}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if docs := b.list(t, tenantA); len(docs) != 0 {
		t.Errorf("half stored: %+v", docs)
	}
}

// TestKilledIngestEndsAsIfItHadNot kills the program itself in the middle, again and again.
func TestKilledIngestEndsAsIfItHadNot(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	for i := range 30 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%02d.md", i)),
			fmt.Sprintf("# File %d\n\n%s", i, strings.Repeat("Words about vessel and weld. ", 120)))
	}
	bin := testkit.Build(t)
	door := testkit.DoorOf(t, d)
	ingest := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), bin, "kb", "ingest", "--tenant", tenantA.String(), dir)
		cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"))
		cmd.Stdout, cmd.Stderr = &bytes.Buffer{}, &bytes.Buffer{}
		return cmd
	}
	whole := func() int {
		docs, err := kb.ListDocuments(t.Context(), door, tenantA, uuid.Nil, kb.MaxList)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			if doc.Chunks != 4 {
				t.Errorf("%s has %d chunks after a kill, want none or all 4", doc.Filename, doc.Chunks)
			}
		}
		return len(docs)
	}
	killed := 0
	for n := 0; n < 10 && whole() < 30; n++ {
		cmd := ingest()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for before := whole(); whole() < before+2 && len(ended) == 0; { // two more, then the axe
		}
		_ = cmd.Process.Kill()
		if err := <-ended; err != nil {
			if cmd.ProcessState.Exited() {
				t.Fatalf("it failed by itself: %v: %s", err, cmd.Stderr)
			}
			killed++
		}
	}
	if killed < 3 {
		t.Fatalf("only %d runs were killed in the middle", killed)
	}
	cmd := ingest()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, cmd.Stderr)
	}
	if n := whole(); n != 30 {
		t.Errorf("%d documents, want 30", n)
	}
}
