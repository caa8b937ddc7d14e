package kb_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// given takes a path in with what is said of it.
func (b *base) given(t *testing.T, path string, g kb.DocumentOptions) kb.IngestResult {
	t.Helper()
	var got kb.IngestResult
	if err := b.in.Files(t.Context(), tenantA, agent, []string{path}, g, func(r kb.IngestResult) {
		got = r
	}); err != nil || got.Err != nil {
		t.Fatal(err, got.Err)
	}
	return got
}

func (b *base) found(t *testing.T, tenant uuid.UUID, labels ...string) (names []string) {
	t.Helper()
	v, err := b.model.Embed(t.Context(), []string{"pump"})
	if err != nil {
		t.Fatal(err)
	}
	sees := tenantdb.WithLabels(t.Context(), tenantdb.LabelsOf(labels...))
	if err := b.door.Tx(sees, tenant, func(ctx context.Context, tx pgx.Tx) error {
		hits, err := find(ctx, tx, tenant, search.Query{Mode: search.Semantic, Vector: v[0], K: 9})
		names = nil
		for _, h := range hits {
			names = append(names, h.Filename)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestLabelsSayWhoFindsADocument(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	open, secret := write(t, filepath.Join(dir, "open.txt"), "The pump draws water."),
		write(t, filepath.Join(dir, "secret.txt"), "The pump draws oil, and nobody may know.")
	b.given(t, open, kb.DocumentOptions{})
	b.given(t, secret,
		kb.DocumentOptions{Labels: []string{"board", "legal"}, Metadata: map[string]any{"client": "acme"}})
	for asker, want := range map[string]string{"": "open.txt", "sales": "open.txt", "legal": "open.txt secret.txt",
		"sales board": "open.txt secret.txt", "LEGAL": "open.txt"} {
		if got := strings.Join(b.found(t, tenantA, strings.Fields(asker)...), " "); got != want {
			t.Errorf("who has %q finds %q, want %q", asker, got, want)
		}
	}
	if got := b.found(t, tenantB, "board", "legal"); len(got) != 0 {
		t.Errorf("another tenant's labels open %v", got)
	}
	// Taken in again, it keeps what was said of it; said anew, it has that, without being embedded again.
	write(t, secret, "The pump draws oil, still.")
	if r := b.given(t, secret, kb.DocumentOptions{}); r.Outcome != kb.Replaced || len(b.found(t, tenantA)) != 1 {
		t.Errorf("%+v: a new version lost its labels", r)
	}
	if r := b.given(t, secret, kb.DocumentOptions{Labels: []string{}}); r.Outcome != kb.Unchanged ||
		len(b.found(t, tenantA)) != 2 {
		t.Errorf("%+v: labels are not taken away", r)
	}
	docs := b.list(t, tenantA)
	if len(docs) != 2 || docs[1].Version != 2 || docs[1].Metadata["client"] != "acme" || len(docs[1].Labels) != 0 {
		t.Errorf("%+v", docs)
	}
	for _, labels := range [][]string{{""}, {strings.Repeat("x", 101)}, make([]string, 33), {"*"},
		{"a\x00"}, {"\xff"}} {
		if err := b.in.Files(t.Context(), tenantA, agent, []string{secret}, kb.DocumentOptions{Labels: labels},
			func(kb.IngestResult) {}); err == nil || !strings.Contains(err.Error(), "labels: ") {
			t.Errorf("%.50q: %v", labels, err)
		}
	}
}

func TestADocumentHasVersions(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := filepath.Join(dir, "a.txt")
	var id uuid.UUID
	for _, text := range []string{"The first text.", "The second text, a longer one.", "The third."} {
		write(t, path, text)
		id = b.files(t, tenantA, path)["a.txt"].DocumentID
	}
	versions, err := kb.Versions(t.Context(), b.door, tenantA, id)
	if err != nil || len(versions) != 2 || versions[0].Version != 2 || versions[1].Version != 1 ||
		versions[1].Bytes != 15 || versions[0].ReplacedAt.Before(versions[0].IngestedAt) {
		t.Errorf("%+v, %v", versions, err)
	}
	for _, tenant := range []uuid.UUID{tenantB, uuid.MustParse("99999999-9999-4999-8999-999999999999")} {
		if versions, err := kb.Versions(t.Context(), b.door, tenant, id); err != nil || len(versions) != 0 {
			t.Errorf("%+v, %v", versions, err)
		}
	}
}

func TestAPassageIsShownInItsPlace(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	b.files(t, tenantA,
		write(t, filepath.Join(dir, "p.md"),
			"# Püümps\n\nÄä before.\n\n## Returns\n\nA pump may be returned within thirty days.\n\n## Öl\n\nÖlen.\n"))
	hit := b.search(t, tenantA, "How do I send it back?", 1)[0]
	p, err := kb.GetPassage(t.Context(), b.door, tenantA, hit.ChunkID, 20)
	if err != nil || p.Text != "A pump may be returned within thirty days." ||
		!strings.HasSuffix(p.Before, "## Returns\n\n") || !strings.HasPrefix(p.After, "\n\n## Öl\n\nÖlen") ||
		p.Filename != "p.md" {
		t.Errorf("%+v, %v", p, err)
	}
	for around := range 60 { // characters are never cut
		p, err := kb.GetPassage(t.Context(), b.door, tenantA, hit.ChunkID, around)
		if err != nil || p.Text != hit.Content || strings.ContainsRune(p.Before+p.After, '\uFFFD') {
			t.Fatalf("%d: %+v, %v", around, p, err)
		}
	}
	for _, tenant := range []uuid.UUID{tenantB, uuid.MustParse("99999999-9999-4999-8999-999999999999")} {
		if p, err := kb.GetPassage(t.Context(), b.door, tenant, hit.ChunkID, 20); !errors.Is(err, kb.ErrNotFound) {
			t.Errorf("%+v, %v", p, err)
		}
	}
	for _, around := range []int{-1, kb.MaxAround + 1} {
		if _, err := kb.GetPassage(t.Context(), b.door, tenantA, hit.ChunkID, around); err == nil ||
			errors.Is(err, kb.ErrNotFound) {
			t.Errorf("%d: %v", around, err)
		}
	}
}

// TestADeleteIsADelete looks into every table that has a tenant: what is left is a hash of the source, by which uploads
// that came before stay out.
func TestADeleteIsADelete(t *testing.T) {
	b, d := newQueue(t)
	w := wide{b.model}
	b.enqueue(t, tenantA, text("a.md", pumps))
	b.work(t, d.URL("konstruct_worker"))
	testkit.Until(t, "in", func() bool { return b.over(t, tenantA) })
	b.enqueue(t, tenantA, text("a.md", pumps+"More."))
	testkit.Until(t, "in again", func() bool { return b.over(t, tenantA) && b.list(t, tenantA)[0].Version == 2 })
	if err := kb.Reembed(t.Context(), b.door, tenantA, w, b.model.Tokenizer(), nil); err != nil {
		t.Fatal(err)
	}
	super := testkit.Connect(t, d.SuperuserURL())
	rows, err := super.Query(t.Context(),
		`SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
	  WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname LIKE 'kb\_%' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	counts := func() map[string]int {
		got := map[string]int{}
		for _, table := range tables {
			var n int
			if err := super.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
				t.Fatal(err)
			}
			got[table] = n
		}
		return got
	}
	if d := cmp.Diff(map[string]int{"kb_chunks": 2, "kb_collection_documents": 0, "kb_collection_points": 0,
		"kb_collections": 0, "kb_file_batches": 0, "kb_file_parts": 0, "kb_file_pieces": 0, "kb_file_uploads": 0,
		"kb_files": 0, "kb_documents": 1, "kb_jobs": 2, "kb_models": 1, "kb_passages": 2,
		"kb_points": 2, "kb_settings": 0, "kb_sources": 1, "kb_terms": 21, "kb_texts": 1,
		"kb_tiers": 0, "kb_tombstones": 0,
		"kb_uploads": 0, "kb_vectors": 2, "kb_versions": 1}, counts()); d != "" {
		t.Fatal(d)
	}
	if err := b.remove(t, tenantA, b.list(t, tenantA)[0].ID); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int{"kb_chunks": 0, "kb_collection_documents": 0, "kb_collection_points": 0,
		"kb_collections": 0, "kb_file_batches": 0, "kb_file_parts": 0, "kb_file_pieces": 0, "kb_file_uploads": 0,
		"kb_files": 0, "kb_documents": 0, "kb_jobs": 0, "kb_models": 1, "kb_passages": 0,
		"kb_points": 0, "kb_settings": 0, "kb_sources": 0, "kb_terms": 0, "kb_texts": 0,
		"kb_tiers": 0, "kb_tombstones": 1,
		"kb_uploads": 0, "kb_vectors": 0, "kb_versions": 0}, counts()); d != "" {
		t.Error(d)
	}
}

func TestAFolderIsWatched(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.txt"), filepath.Join(dir, "b.txt")
	w := kb.NewWatcher([]string{dir}, false)
	look := func(wantChanged []string, wantPresent int) {
		t.Helper()
		changed, present := w.Scan()
		if d := cmp.Diff(wantChanged, changed); d != "" || len(present) != wantPresent {
			t.Errorf("%d present, want %d; %s", len(present), wantPresent, d)
		}
	}
	look(nil, 0)
	write(t, a, "one")
	look(nil, 1) // it may be written still
	look([]string{a}, 1)
	look(nil, 1)
	write(t, a, "one and more")
	write(t, b, "two")
	look(nil, 2)
	write(t, b, "two, longer")
	look([]string{a}, 2)
	look([]string{b}, 2)
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	look(nil, 1)
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	look(nil, 0) // as if the disk were unavailable: nothing is said to be gone
	if _, present := w.Scan(); present != nil {
		t.Error("an empty folder says what is gone")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, present := w.Scan(); present != nil {
		t.Error("a folder that is gone says what is gone")
	}
}
