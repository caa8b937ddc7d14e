package kb_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// terms are what a tenant's words are found by, each with its file and how often it stands there.
func (b *base) terms(t *testing.T, tenant uuid.UUID) (all []string) {
	t.Helper()
	if err := b.door.Query(t.Context(), tenant, `SELECT format('%s %s %s of %s, %s %s %s', d.filename, t.term, t.times,
			t.length, t.tail, p.language, (SELECT h.headings FROM kb_passages h WHERE h.chunk_id = t.chunk_id))
		FROM kb_terms t JOIN kb_points p USING (tenant_id, chunk_id) JOIN kb_documents d ON d.id = p.document_id
		ORDER BY 1`, nil, func(rows pgx.Rows) (err error) {
		all, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func (b *base) setLanguage(t *testing.T, tenant uuid.UUID, language string) {
	t.Helper()
	if err := b.door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		return kb.SetDefaultLanguage(ctx, tx, tenant, language)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestLanguagesAreReadAgain ingests files before the tenant's language is set, and has the words of a tenant whose
// language was set first.
func TestLanguagesAreReadAgain(t *testing.T) {
	b := newBase(t)
	dir := t.TempDir()
	short := write(t, dir+"/short.md",
		"# Ersatzteile\n\nKühlschrankhersteller liefern Ersatzteile.\n\n## Pumpen\n\nPumpen.")
	long := write(t, dir+"/long.md", "# Returns\n\nA pump may be returned within 30 days of delivery. Who returns it "+
		"pays the postage, and it is what the shop is there for. How the staff is reached is on the door.")
	b.files(t, tenantA, short, long)
	before := b.terms(t, tenantA)
	b.setLanguage(t, tenantA, "german")
	b.setLanguage(t, tenantB, "german")
	b.files(t, tenantB, short, long)
	want := b.terms(t, tenantB)
	if cmp.Equal(before, want) {
		t.Fatal("no word is read in another way in German")
	}
	ctx, seen := tenantdb.Trusted(t.Context()), 0
	reread := func(tenant uuid.UUID, want int) {
		t.Helper()
		if n, err := kb.RereadLanguages(ctx, b.door, tenant, func(n int) { seen += n }); err != nil || n != want {
			t.Errorf("%d are read in another language, not %d: %v", n, want, err)
		}
	}
	reread(uuid.New(), 0)
	reread(tenantB, 0)
	if d := cmp.Diff(before, b.terms(t, tenantA)); d != "" {
		t.Errorf("another tenant's reading changed A's:\n%s", d)
	}
	reread(tenantA, 1)
	if d := cmp.Diff(want, b.terms(t, tenantA)); d != "" {
		t.Errorf("-as ingested in German +as read again:\n%s", d)
	}
	reread(tenantA, 0)
	b.setLanguage(t, tenantA, "english")
	reread(tenantA, 1)
	if d := cmp.Diff(before, b.terms(t, tenantA)); d != "" || seen != 8 {
		t.Errorf("%d were looked at; and back:\n%s", seen, d)
	}
	if n, err := kb.RereadLanguages(ctx, b.door, uuid.Nil, nil); err == nil {
		t.Errorf("without a tenant %d are read", n)
	}
}
