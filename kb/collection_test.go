package kb_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// collection creates a collection of tenant A.
func (b *base) collection(t *testing.T, name string, labels ...string) kb.Collection {
	t.Helper()
	var c kb.Collection
	if err := b.door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) (err error) {
		c, err = kb.CreateCollection(ctx, tx, tenantA, kb.CollectionOptions{Name: &name, Labels: labels}, true)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// entries are a collection's, by file name: state and attributes.
func (b *base) entries(t *testing.T, collection uuid.UUID) map[string]string {
	t.Helper()
	all, err := kb.ListCollected(t.Context(), b.door, tenantA, collection, uuid.Nil, kb.MaxList)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range all {
		got[e.Filename] = fmt.Sprintf("%s %v", e.State, e.Attributes)
	}
	return got
}

func (b *base) inTx(t *testing.T, tenant uuid.UUID, do func(context.Context, pgx.Tx) error) error {
	t.Helper()
	return b.door.Tx(t.Context(), tenant, do)
}

// TestDocumentsJoinCollections ingests files into collections, in this process and by a job: new ones, unchanged ones,
// changed ones, and the files of an archive.
func TestDocumentsJoinCollections(t *testing.T) {
	b, d := newQueue(t)
	defer b.work(t, d.URL("konstruct_worker"))()
	one, two := b.collection(t, "one"), b.collection(t, "two")
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "pumps.md"), pumps)
	ingest := func(g kb.DocumentOptions) {
		t.Helper()
		if err := b.in.Files(t.Context(), tenantA, agent, []string{path}, g, func(r kb.IngestResult) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(c kb.Collection, entries map[string]string) {
		t.Helper()
		if diff := cmp.Diff(entries, b.entries(t, c.ID)); diff != "" {
			t.Errorf("%s:\n%s", c.Name, diff)
		}
	}
	ingest(kb.DocumentOptions{Collections: []uuid.UUID{one.ID}, Attributes: map[string]any{"region": "eu", "n": 1.0}})
	want(one, map[string]string{"pumps.md": "done map[n:1 region:eu]"})
	ingest(kb.DocumentOptions{Collections: []uuid.UUID{one.ID, two.ID}}) // it is unchanged, and joins the other one
	want(one, map[string]string{"pumps.md": "done map[n:1 region:eu]"})
	want(two, map[string]string{"pumps.md": "done map[]"})
	write(t, path, pumps+"\nMore.\n")
	ingest(kb.DocumentOptions{}) // a changed document stays where it is
	want(one, map[string]string{"pumps.md": "done map[n:1 region:eu]"})

	job := text("job.txt", "Jobs join collections when they are done.")
	job.Collections, job.Attributes = []uuid.UUID{two.ID}, map[string]any{"k": true}
	b.enqueue(t, tenantA, job)
	b.taken(t, "job.txt")
	want(two, map[string]string{"pumps.md": "done map[]", "job.txt": "done map[k:true]"})
	job.Collections, job.Attributes = []uuid.UUID{one.ID}, nil
	b.enqueue(t, tenantA, job) // unchanged
	for !b.over(t, tenantA) {
	}
	want(one, map[string]string{"pumps.md": "done map[n:1 region:eu]", "job.txt": "done map[]"})

	for _, doc := range b.list(t, tenantA) {
		if doc.Filename == "pumps.md" {
			if err := b.remove(t, tenantA, doc.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	want(one, map[string]string{"job.txt": "done map[]"})
	want(two, map[string]string{"job.txt": "done map[k:true]"})
}

// TestACollectionThatGoesWhileItIsFilled deletes a collection whose documents wait: they are ingested all the same.
func TestACollectionThatGoesWhileItIsFilled(t *testing.T) {
	b, d := newQueue(t)
	c := b.collection(t, "short")
	job := text("late.txt", "The collection is gone when this is ingested.")
	job.Collections = []uuid.UUID{c.ID}
	b.enqueue(t, tenantA, job)
	if err := b.inTx(t, tenantA, func(ctx context.Context, tx pgx.Tx) error {
		_, err := kb.DeleteCollection(ctx, tx, tenantA, c.ID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer b.work(t, d.URL("konstruct_worker"))()
	b.taken(t, "late.txt")
	if _, err := kb.ListCollected(t.Context(), b.door, tenantA, c.ID, uuid.Nil, 1); !errors.Is(err,
		kb.ErrNoCollection) {
		t.Errorf("a deleted collection's documents: %v", err)
	}
	err := b.inTx(t, tenantA, func(ctx context.Context, tx pgx.Tx) error {
		_, err := kb.Enqueue(ctx, tx, tenantA, agent, job)
		return err
	})
	if !errors.Is(err, kb.ErrNoCollection) {
		t.Errorf("enqueueing into a deleted collection: %v", err)
	}
}

// TestCollectionsHaveNames finds collections by their names and ids, and refuses what is ambiguous, gone or expired.
func TestCollectionsHaveNames(t *testing.T) {
	b := newBase(t)
	one := b.collection(t, "one")
	other := b.collection(t, one.ID.String()[:8])
	find := func(names ...string) (ids []uuid.UUID, err error) {
		err = b.inTx(t, tenantA, func(ctx context.Context, tx pgx.Tx) error {
			ids, err = kb.FindCollections(ctx, tx, tenantA, names)
			return err
		})
		return ids, err
	}
	if ids, err := find("one", strings.ToUpper(one.ID.String()), other.Name); err != nil ||
		!cmp.Equal(ids, []uuid.UUID{one.ID, other.ID}) {
		t.Errorf("found %v, %v", ids, err)
	}
	name := "one"
	create := func(unique bool) error {
		return b.inTx(t, tenantA, func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.CreateCollection(ctx, tx, tenantA, kb.CollectionOptions{Name: &name}, unique)
			return err
		})
	}
	if err := create(true); !errors.Is(err, kb.ErrCollectionName) {
		t.Errorf("a second collection of a name: %v", err)
	}
	if err := create(false); err != nil {
		t.Fatal(err)
	}
	var named *kb.CollectionNameError
	if _, err := find("one"); !errors.As(err, &named) || !strings.Contains(err.Error(), one.ID.String()) {
		t.Errorf("an ambiguous name: %v", err)
	}
	for _, name := range []string{"", "two", "\x00", "\xff", uuid.NewString(), strings.Repeat("x", 10_000)} {
		if _, err := find(name); !errors.Is(err, kb.ErrNoCollection) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	if _, err := find(make([]string, kb.MaxCollectionsOf+1)...); err == nil {
		t.Error("a search may name any number of collections")
	}
}

// TestAttributesThatCantBe refuses what a document can't have in a collection, and says which.
func TestAttributesThatCantBe(t *testing.T) {
	many := map[string]any{}
	for i := range kb.MaxAttributes + 1 {
		many[fmt.Sprint("k", i)] = true
	}
	for name, c := range map[string]struct {
		attributes map[string]any
		says       string
	}{
		"17":                {many, "17"},
		"an object":         {map[string]any{"k": map[string]any{}}, "attributes.k"},
		"a list":            {map[string]any{"k": []any{"a"}}, "attributes.k"},
		"null":              {map[string]any{"k": nil}, "attributes.k"},
		"a long text":       {map[string]any{"k": strings.Repeat("ä", kb.MaxAttribute+1)}, "513"},
		"a long key":        {map[string]any{strings.Repeat("ä", kb.MaxAttributeKey+1): 1}, "65"},
		"an empty key":      {map[string]any{"": 1}, "0 characters"},
		"a zero byte":       {map[string]any{"k": "a\x00"}, "k"},
		"a zero byte's key": {map[string]any{"\x00": "a"}, "attributes"},
	} {
		if err := kb.CheckAttributes(c.attributes); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := kb.CheckAttributes(map[string]any{"s": strings.Repeat("ä", kb.MaxAttribute), "n": 1.5, "b": false,
		strings.Repeat("ä", kb.MaxAttributeKey): ""}); err != nil {
		t.Error(err)
	}
}

// TestLabelsHideCollections creates collections and documents with labels, and looks at them as somebody who has one.
func TestLabelsHideCollections(t *testing.T) {
	b := newBase(t)
	open, legal := b.collection(t, "open"), b.collection(t, "legal", "legal")
	dir := t.TempDir()
	ingest := func(name string, g kb.DocumentOptions) {
		t.Helper()
		if err := b.in.Files(t.Context(), tenantA, agent,
			[]string{write(t, filepath.Join(dir, name), name+" says something.")}, g, func(r kb.IngestResult) {
				if r.Err != nil {
					t.Error(r.Err)
				}
			}); err != nil {
			t.Fatal(err)
		}
	}
	ingest("contract.txt", kb.DocumentOptions{Collections: []uuid.UUID{open.ID, legal.ID}})
	ingest("menu.txt", kb.DocumentOptions{Collections: []uuid.UUID{open.ID}})
	for _, d := range b.list(t, tenantA) { // a new document has its collections' labels
		if got := fmt.Sprint(d.Labels); got != map[string]string{"contract.txt": "[legal]",
			"menu.txt": "[]"}[d.Filename] {
			t.Errorf("%s has labels %s", d.Filename, got)
		}
	}
	as := func(labels ...string) (names []string) {
		ctx := tenantdb.WithLabels(t.Context(), tenantdb.LabelsOf(labels...))
		all, err := kb.ListCollections(ctx, b.door, tenantA, uuid.Nil, false, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			names = append(names, fmt.Sprint(c.Name, " ", c.Documents))
		}
		return names
	}
	if got := as(); !cmp.Equal(got, []string{"open 1"}) {
		t.Errorf("without a label: %q", got)
	}
	if got := as("legal"); !cmp.Equal(got, []string{"open 2", "legal 1"}) {
		t.Errorf("with it: %q", got)
	}
	none := tenantdb.WithLabels(t.Context(), tenantdb.LabelsOf())
	err := b.door.Tx(none, tenantA, func(ctx context.Context, tx pgx.Tx) error {
		_, err := kb.UpdateCollection(ctx, tx, tenantA, legal.ID, kb.CollectionOptions{}, true)
		return err
	})
	if !errors.Is(err, kb.ErrNoCollection) {
		t.Errorf("changing a hidden collection: %v", err)
	}
	var grant *tenantdb.GrantError
	err = b.door.Tx(none, tenantA, func(ctx context.Context, tx pgx.Tx) error {
		_, err := kb.UpdateCollection(ctx, tx, tenantA, open.ID, kb.CollectionOptions{Labels: []string{"legal"}}, true)
		return err
	})
	if !errors.As(err, &grant) {
		t.Errorf("giving a label that one lacks: %v", err)
	}
}

// TestCollectionsExpire lets time pass by moving it in the table.
func TestCollectionsExpire(t *testing.T) {
	b := newBase(t)
	used, idle := b.collection(t, "used"), b.collection(t, "idle")
	dir := t.TempDir()
	if err := b.in.Files(t.Context(), tenantA, agent, []string{write(t, filepath.Join(dir, "a.txt"), "Something.")},
		kb.DocumentOptions{Collections: []uuid.UUID{used.ID, idle.ID}}, func(kb.IngestResult) {}); err != nil {
		t.Fatal(err)
	}
	days := 7
	var gone *kb.Collection
	if err := b.inTx(t, tenantA, func(ctx context.Context, tx pgx.Tx) error {
		for _, c := range []kb.Collection{used, idle} {
			if _, err := kb.UpdateCollection(ctx, tx, tenantA, c.ID, kb.CollectionOptions{ExpiresDays: &days},
				true); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE kb_collections SET last_active_at = now() - interval '8 days'`); err != nil {
			return err
		}
		if err := kb.TouchCollections(ctx, tx, tenantA, []uuid.UUID{used.ID}); err != nil {
			return err
		}
		var documents []uuid.UUID
		var err error
		if gone, documents, err = kb.ExpireCollection(ctx, tx, tenantA); err == nil && len(documents) != 1 {
			t.Errorf("%d documents were in it", len(documents))
		}
		if err != nil || gone == nil || gone.ID != idle.ID || !gone.Expired {
			t.Errorf("expired: %+v, %v", gone, err)
		}
		if more, _, err := kb.ExpireCollection(ctx, tx, tenantA); more != nil || err != nil {
			t.Errorf("expired too: %+v, %v", more, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	err := b.inTx(t, tenantA, func(ctx context.Context, tx pgx.Tx) error {
		_, err := kb.FindCollections(ctx, tx, tenantA, []string{"idle"})
		return err
	})
	if !errors.Is(err, kb.ErrCollectionExpired) {
		t.Errorf("an expired collection is found: %v", err)
	}
	if len(b.list(t, tenantA)) != 1 {
		t.Error("the document went with its collection")
	}
}

// TestAnotherTenantsCollectionsAreNobodys uses tenant A's collection as tenant B.
func TestAnotherTenantsCollectionsAreNobodys(t *testing.T) {
	b := newBase(t)
	c := b.collection(t, "mine")
	dir := t.TempDir()
	b.files(t, tenantB, write(t, filepath.Join(dir, "b.txt"), "Theirs."))
	theirs := b.list(t, tenantB)[0].ID
	for name, do := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"get": func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.GetCollection(ctx, tx, tenantB, c.ID)
			return err
		},
		"get as if it were A": func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.GetCollection(ctx, tx, tenantA, c.ID)
			return err
		},
		"update": func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.UpdateCollection(ctx, tx, tenantA, c.ID, kb.CollectionOptions{}, true)
			return err
		},
		"delete": func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.DeleteCollection(ctx, tx, tenantA, c.ID)
			return err
		},
		"find": func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.FindCollections(ctx, tx, tenantB, []string{"mine"})
			return err
		},
		"collect": func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.Collect(ctx, tx, tenantB, c.ID, theirs, nil)
			return err
		},
		"uncollect": func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.Uncollect(ctx, tx, tenantA, c.ID, theirs)
			return err
		},
		"enqueue": func(ctx context.Context, tx pgx.Tx) error {
			u := text("x.txt", "x")
			u.Collections = []uuid.UUID{c.ID}
			_, err := kb.Enqueue(ctx, tx, tenantB, agent, u)
			return err
		},
	} {
		if err := b.inTx(t, tenantB, do); !errors.Is(err, kb.ErrNoCollection) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.inTx(t, tenantA, func(ctx context.Context, tx pgx.Tx) error {
		_, err := kb.Collect(ctx, tx, tenantA, c.ID, theirs, nil)
		return err
	}); !errors.Is(err, kb.ErrNotFound) {
		t.Errorf("another tenant's document in one's own collection: %v", err)
	}
	if got, err := kb.ListCollections(t.Context(), b.door, tenantB, uuid.Nil, false, 10); err != nil || len(got) > 0 {
		t.Errorf("another tenant lists %v, %v", got, err)
	}
}

// TestEntriesAreFoundByTheirDocuments: in the first collection that has the document, and by its tenant alone.
func TestEntriesAreFoundByTheirDocuments(t *testing.T) {
	b := newBase(t)
	one, two := b.collection(t, "one"), b.collection(t, "two")
	path := write(t, filepath.Join(t.TempDir(), "pumps.md"), pumps)
	for _, g := range []kb.DocumentOptions{{Collections: []uuid.UUID{one.ID}, Attributes: map[string]any{"n": 1.0}},
		{Collections: []uuid.UUID{two.ID}, Attributes: map[string]any{"n": 2.0}}} {
		if err := b.in.Files(t.Context(), tenantA, agent, []string{path}, g, func(r kb.IngestResult) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	document := b.list(t, tenantA)[0].ID
	find := func(of, named uuid.UUID, collections ...uuid.UUID) map[uuid.UUID]kb.CollectionDocument {
		t.Helper()
		var found map[uuid.UUID]kb.CollectionDocument
		if err := b.inTx(t, of, func(ctx context.Context, tx pgx.Tx) (err error) {
			found, err = kb.FindCollected(ctx, tx, named, collections, []uuid.UUID{document, uuid.New()})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	for n, collections := range [][]uuid.UUID{{one.ID, two.ID}, {two.ID, one.ID}, {two.ID}} {
		found := find(tenantA, tenantA, collections...)
		if want := []float64{1, 2, 2}[n]; len(found) != 1 || found[document].Attributes["n"] != want {
			t.Errorf("%d: %+v, want n %v", n, found, want)
		}
	}
	if found := find(tenantB, tenantB, one.ID, two.ID); len(found) > 0 {
		t.Errorf("another tenant finds %+v", found)
	}
	if found := find(tenantB, tenantA, one.ID, two.ID); len(found) > 0 {
		t.Errorf("a forged tenant finds %+v", found)
	}
	if err := b.inTx(t, uuid.Nil, func(ctx context.Context, tx pgx.Tx) error {
		found, err := kb.FindCollected(ctx, tx, tenantA, []uuid.UUID{one.ID}, []uuid.UUID{document})
		if len(found) > 0 {
			t.Errorf("no tenant finds %+v", found)
		}
		return err
	}); err == nil {
		t.Error("there is a transaction without a tenant")
	}
}
