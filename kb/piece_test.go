package kb_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/parse"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// static ingests a file in windows, and returns what became of it.
func (b *base) static(t *testing.T, tenant uuid.UUID, path string, g kb.DocumentOptions) (r kb.IngestResult) {
	t.Helper()
	if err := b.in.Files(t.Context(), tenant, agent, []string{path}, g, func(got kb.IngestResult) {
		r = got
	}); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	return r
}

func windows(most, overlap int) kb.DocumentOptions {
	return kb.DocumentOptions{Chunking: &chunk.Options{MaxTokens: most, Overlap: overlap}}
}

// pieces counts a tenant's pieces, and those that are no piece of one of its chunks.
func (b *base) pieces(t *testing.T, tenant uuid.UUID) (n int) {
	t.Helper()
	if err := b.door.Query(t.Context(), tenant, `SELECT count(*), count(*) FILTER (WHERE c.id IS NULL)
		FROM kb_points p LEFT JOIN kb_chunks c ON c.tenant_id = p.tenant_id AND c.id = p.piece_of
		 AND c.document_id = p.document_id
	   WHERE p.tenant_id = $1 AND p.piece_of IS NOT NULL`, []any{tenant}, func(rows pgx.Rows) error {
		var alone int
		_, err := pgx.ForEachRow(rows, []any{&n, &alone}, func() error { return nil })
		if alone > 0 {
			t.Errorf("%d pieces are of no chunk", alone)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// garden is a text of so many sentences that say nothing of what is looked for.
func garden(seed, sentences int) string {
	plants := []string{"roses", "beans", "ferns", "apples", "lilacs", "onions", "tulips", "pears", "mint", "ivy"}
	var b strings.Builder
	for i := range sentences {
		fmt.Fprintf(&b, "In week %d of year %d the gardener watered the %s and cut back the %s by the wall. ",
			i%52, seed, plants[(i*seed)%10], plants[(i+seed)%10])
	}
	return b.String()
}

const fact = "The reactor must be shut down when its coolant reaches ninety degrees. "

// largeWindow is a text of one window of 4,096 tokens that has the fact in its last third.
func largeWindow(seed int) string { return garden(seed, 120) + fact + garden(seed, 30) }

// pieced is a text of one window of some 900 tokens, which the model reads in pieces.
func pieced(seed int) string { return garden(seed, 30) + fact + garden(seed, 10) }

// TestAFactAtTheEndOfALargeChunkIsFound: by the piece that has it, and not by the chunk's beginning alone.
func TestAFactAtTheEndOfALargeChunkIsFound(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	for i := 2; i < 14; i++ {
		write(t, filepath.Join(dir, fmt.Sprintf("garden%d.txt", i)), garden(i, 150))
	}
	path := write(t, filepath.Join(dir, "fact.txt"), largeWindow(1))
	b.static(t, tenantA, dir, windows(4096, 2048))
	docs := b.list(t, tenantA)
	if len(docs) != 13 || docs[0].Chunks != 1 || docs[0].Chunking != (chunk.Options{MaxTokens: 4096, Overlap: 2048}) {
		t.Fatalf("%d documents, %+v", len(docs), docs[0])
	}
	if n := b.pieces(t, tenantA); n < 13*10 {
		t.Fatalf("%d pieces", n)
	}
	for _, mode := range []search.Mode{search.Semantic, search.Hybrid} {
		hits := b.find(t, tenantA, search.Query{Mode: mode, Text: "At what temperature is the power plant stopped?",
			K: 10})
		seen := map[uuid.UUID]bool{}
		for _, h := range hits {
			if seen[h.ChunkID] {
				t.Errorf("%s: a chunk comes twice", mode)
			}
			seen[h.ChunkID] = true
		}
		if len(hits) != 10 || hits[0].Filename != "fact.txt" || hits[0].Similarity == nil ||
			*hits[0].Similarity < *hits[1].Similarity+0.1 {
			t.Fatalf("%s: %d hits, the first is %s", mode, len(hits), hits[0].Filename)
		}
		if raw, _ := os.ReadFile(path); hits[0].Content != strings.TrimSpace(string(raw)) {
			t.Errorf("%s: its content is %.60q", mode, hits[0].Content)
		}
	}
	if err := b.door.Query(t.Context(), tenantA, `DELETE FROM kb_points WHERE piece_of IS NOT NULL`, nil,
		nil); err != nil {
		t.Fatal(err)
	}
	hits := b.search(t, tenantA, "At what temperature is the power plant stopped?", 13)
	at := slices.IndexFunc(hits, func(h search.Hit) bool { return h.Filename == "fact.txt" })
	if least := *hits[12].Similarity; at < 0 || *hits[at].Similarity > least+0.1 {
		t.Errorf("by its beginning alone it is like the others: hit %d", at)
	}
}

// find asks a searcher that knows nothing yet.
func (b *base) find(t *testing.T, tenant uuid.UUID, q search.Query) (hits []search.Hit) {
	t.Helper()
	v, err := b.model.Embed(t.Context(), []string{q.Text})
	if err != nil {
		t.Fatal(err)
	}
	q.Vector = v[0]
	if err := b.door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		hits, err = find(ctx, tx, tenant, q)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return hits
}

// TestPiecesGoWithTheirChunk, whoever deletes it and by what.
func TestPiecesGoWithTheirChunk(t *testing.T) {
	d := testkit.Database(t)
	b, dir := newBaseOn(t, d), t.TempDir()
	path := write(t, filepath.Join(dir, "a.txt"), pieced(1))
	first := b.static(t, tenantA, path, windows(4096, 0))
	before := b.pieces(t, tenantA)
	if before < 3 {
		t.Fatalf("%d pieces", before)
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		if err := b.door.Query(t.Context(), tenantA, sql, args, nil); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	// Another language is read anew, and a chunk that says the same keeps its pieces.
	exec(`UPDATE kb_chunks SET content = content`)
	if n := b.pieces(t, tenantA); n != before {
		t.Errorf("%d pieces after a change of nothing, want %d", n, before)
	}
	exec(`UPDATE kb_chunks SET content = content || '!'`)
	if n := b.pieces(t, tenantA); n != 0 {
		t.Errorf("%d pieces of a text that is another now", n)
	}
	write(t, path, pieced(1)+"Anew.")
	again := b.static(t, tenantA, path, kb.DocumentOptions{})
	if again.Outcome != kb.Replaced || again.DocumentID != first.DocumentID {
		t.Fatalf("%+v", again)
	}
	if n := b.pieces(t, tenantA); n < 3 {
		t.Errorf("%d pieces of a document that was replaced: it keeps its chunking", n)
	}
	b.static(t, tenantA, path, kb.DocumentOptions{Chunking: &chunk.Options{}})
	if n := b.pieces(t, tenantA); n != 0 {
		t.Errorf("%d pieces of a document that is split by its structure again", n)
	}
	b.static(t, tenantA, path, windows(800, 400))
	if err := b.remove(t, tenantA, first.DocumentID); err != nil {
		t.Fatal(err)
	}
	if n := b.pieces(t, tenantA); n != 0 {
		t.Errorf("%d pieces of a document that was deleted", n)
	}
	// A superuser without a tenant, by the foreign keys.
	b.static(t, tenantA, path, windows(800, 400))
	super := testkit.Connect(t, d.SuperuserURL())
	if _, err := super.Exec(t.Context(), `DELETE FROM kb_documents`); err != nil {
		t.Fatal(err)
	}
	if n := b.pieces(t, tenantA); n != 0 {
		t.Errorf("%d pieces of documents that a superuser deleted", n)
	}
	b.static(t, tenantA, path, windows(800, 400))
	if _, err := super.Exec(t.Context(), `TRUNCATE kb_chunks CASCADE`); err != nil {
		t.Fatal(err)
	}
	if n := b.pieces(t, tenantA); n != 0 {
		t.Errorf("%d pieces of chunks that were truncated", n)
	}
}

// TestPiecesAreTheirTenants: another tenant, no tenant, a forged one, and callers without the label find nothing by
// them.
func TestPiecesAreTheirTenants(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "a.txt"), pieced(1))
	g := windows(4096, 0)
	g.Labels = []string{"plant"}
	b.static(t, tenantA, path, g)
	q := search.Query{Mode: search.Semantic, Text: fact, K: 5}
	if hits := b.find(t, tenantA, q); len(hits) != 1 {
		t.Fatalf("%d hits", len(hits))
	}
	if hits := b.find(t, tenantB, q); len(hits) != 0 {
		t.Errorf("another tenant finds %+v", hits)
	}
	v, err := b.model.Embed(t.Context(), []string{q.Text})
	if err != nil {
		t.Fatal(err)
	}
	q.Vector = v[0]
	const count = `SELECT count(*) FROM kb_points WHERE piece_of IS NOT NULL`
	see := func(ctx context.Context, tenant, named uuid.UUID) (hits []search.Hit, points int) {
		t.Helper()
		if err := b.door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
			if hits, err = find(ctx, tx, named, q); err == nil {
				err = tx.QueryRow(ctx, count).Scan(&points)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return hits, points
	}
	if hits, n := see(t.Context(), tenantB, tenantA); len(hits)+n != 0 {
		t.Errorf("a forged tenant sees %d hits and %d pieces", len(hits), n)
	}
	labelled := func(name string) context.Context {
		return tenantdb.WithLabels(t.Context(), tenantdb.LabelsOf(name))
	}
	if hits, n := see(labelled("other"), tenantA, tenantA); len(hits)+n != 0 {
		t.Errorf("without the label one sees %d hits and %d pieces", len(hits), n)
	}
	if hits, n := see(labelled("plant"), tenantA, tenantA); len(hits) != 1 ||
		n < 3 {
		t.Errorf("with the label one sees %d hits and %d pieces", len(hits), n)
	}
	if err := b.door.Query(t.Context(), uuid.Nil, count, nil, nil); err == nil {
		t.Error("without a tenant something is read")
	}
	// A piece forged into another tenant's chunk is refused.
	err = b.door.Query(t.Context(), tenantB,
		`INSERT INTO kb_points (tenant_id, document_id, chunk_id, piece_of, language)
		VALUES ($1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'simple')`, []any{tenantA}, nil)
	if err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("a piece for another tenant: %v", err)
	}
}

// TestTheSameChunkingIsUnchanged, and another one makes the chunks anew; a document keeps its own.
func TestTheSameChunkingIsUnchanged(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "a.txt"), pieced(1))
	auto := &chunk.Options{}
	for i, step := range []struct {
		chunking *chunk.Options
		outcome  kb.Outcome
		chunks   chunk.Options
	}{
		{nil, kb.Added, *auto}, {auto, kb.Unchanged, *auto},
		{&chunk.Options{MaxTokens: 800, Overlap: 400}, kb.Replaced, chunk.Options{MaxTokens: 800, Overlap: 400}},
		{nil, kb.Unchanged, chunk.Options{MaxTokens: 800, Overlap: 400}},
		{&chunk.Options{MaxTokens: 800, Overlap: 400}, kb.Unchanged, chunk.Options{MaxTokens: 800, Overlap: 400}},
		{&chunk.Options{MaxTokens: 800}, kb.Replaced, chunk.Options{MaxTokens: 800}},
		{auto, kb.Replaced, *auto},
	} {
		r := b.static(t, tenantA, path, kb.DocumentOptions{Chunking: step.chunking})
		if d := b.list(t, tenantA)[0]; r.Outcome != step.outcome || d.Chunking != step.chunks {
			t.Errorf("step %d: %s, chunking %+v", i, r.Outcome, d.Chunking)
		}
	}
	if err := b.in.Files(t.Context(), tenantA, agent, []string{path}, windows(99, 0), func(kb.IngestResult) {}); err ==
		nil || err.Error() != "kb: chunking.max_tokens: 99, it is 100 to 4096" {
		t.Errorf("%v", err)
	}
	u := text("b.txt", "x")
	u.DocumentOptions = windows(800, 401)
	if err := u.Check(); err == nil || err.Error() !=
		"chunking.overlap_tokens: 401, it is 0 to 400, half of max_tokens" {
		t.Errorf("%v", err)
	}
}

// TestAJobHasItsChunking: what was enqueued is split as was asked, and its progress counts chunks.
func TestAJobHasItsChunking(t *testing.T) {
	d := testkit.Database(t)
	b := newBaseOn(t, d)
	u := text("a.txt", strings.Repeat(largeWindow(1), 2))
	u.DocumentOptions = windows(4096, 2048)
	b.enqueue(t, tenantA, u)
	b.work(t, d.URL("konstruct_worker"))
	var jobs []kb.Job
	testkit.Until(t, "ingested", func() bool {
		var err error
		if jobs, err = kb.ListJobs(t.Context(), b.door, tenantA, kb.JobDone, uuid.Nil, 9); err != nil {
			t.Fatal(err)
		}
		return len(jobs) == 1
	})
	doc := b.list(t, tenantA)[0]
	if jobs[0].Chunks != doc.Chunks || jobs[0].Embedded != doc.Chunks || doc.Chunks < 3 ||
		doc.Chunking != *u.Chunking {
		t.Errorf("%+v of %+v", jobs[0], doc)
	}
	// uploaded again with nothing said of it, it is split as it was
	u.Content, u.DocumentOptions = []byte(pieced(2)), kb.DocumentOptions{}
	b.enqueue(t, tenantA, u)
	testkit.Until(t, "replaced", func() bool { doc = b.list(t, tenantA)[0]; return doc.Version == 2 })
	if doc.Chunks != 1 || doc.Chunking.MaxTokens != 4096 || b.pieces(t, tenantA) < 3 {
		t.Errorf("%+v with %d pieces", doc, b.pieces(t, tenantA))
	}
}

// TestAKilledIngestLeavesNoPieceAlone: a document has all its pieces, or there is none.
func TestAKilledIngestLeavesNoPieceAlone(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	for i := range 8 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%02d.txt", i)), garden(i+1, 40))
	}
	bin := testkit.Build(t)
	b := &base{door: testkit.DoorOf(t, d)}
	whole := func() int {
		t.Helper()
		docs := b.list(t, tenantA)
		// each has one chunk of three further pieces or so
		if n := b.pieces(t, tenantA); n != 0 && n%len(docs) != 0 || len(docs) > 0 && n < 3*len(docs) {
			t.Errorf("%d documents have %d pieces", len(docs), n)
		}
		return len(docs)
	}
	ingest := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), bin, "kb", "ingest", "--tenant", tenantA.String(), "--chunk-tokens",
			"4096", dir)
		cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"))
		cmd.Stderr = &bytes.Buffer{}
		return cmd
	}
	killed := 0
	for n := 0; n < 6 && len(b.list(t, tenantA)) < 8; n++ {
		cmd := ingest()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for before := len(b.list(t, tenantA)); len(b.list(t, tenantA)) < before+1 && len(ended) == 0; {
		}
		_ = cmd.Process.Kill()
		if err := <-ended; err != nil {
			if cmd.ProcessState.Exited() {
				t.Fatalf("it failed by itself: %v: %s", err, cmd.Stderr)
			}
			killed++
		}
		whole()
	}
	if killed < 2 {
		t.Fatalf("only %d runs were killed in the middle", killed)
	}
	if cmd := ingest(); cmd.Run() != nil {
		t.Fatal(cmd.Stderr)
	}
	if n := whole(); n != 8 {
		t.Errorf("%d documents, want 8", n)
	}
}

// rechunking is a parser during whose work a document gets another chunking.
type rechunking struct {
	parse.Parser
	change func()
}

func (p rechunking) Parse(ctx context.Context, kind string, raw []byte, o chunk.Options) (*parse.ParsedFile, error) {
	p.change()
	return p.Parser.Parse(ctx, kind, raw, o)
}

// TestAChunkingThatChangesMeanwhileIsNotLost: an upload that keeps a document's chunking does not bring the old one
// back.
func TestAChunkingThatChangesMeanwhileIsNotLost(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "a.txt"), garden(1, 3))
	b.static(t, tenantA, path, kb.DocumentOptions{})
	write(t, path, garden(2, 3))
	before := b.in.Parser
	b.in.Parser = rechunking{before, func() {
		if err := b.door.Query(t.Context(), tenantA, `UPDATE kb_sources SET chunking = '{"max_tokens": 200}'`, nil,
			nil); err != nil {
			t.Error(err)
		}
	}}
	r := b.files(t, tenantA, path)["a.txt"]
	if r.Err == nil || !strings.Contains(r.Err.Error(), "its chunking was changed meanwhile: ingest it again") {
		t.Fatalf("%+v", r)
	}
	b.in.Parser = before
	if r := b.files(t, tenantA, path)["a.txt"]; r.Outcome != kb.Replaced {
		t.Errorf("%+v", r)
	}
	if d := b.list(t, tenantA)[0]; d.Chunking.MaxTokens != 200 {
		t.Errorf("%+v", d)
	}
}
