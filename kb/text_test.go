package kb_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestATextIsReadInPages reads a document in pages of every small size, which together are its text, and shows it to no
// other tenant, to no tenant, and to nobody without its label.
func TestATextIsReadInPages(t *testing.T) {
	d := testkit.Database(t)
	b := newBaseOn(t, d)
	text := strings.Repeat("Die Pümpe zieht 水 und 😀. ", 20)
	doc := b.given(t, write(t, filepath.Join(t.TempDir(), "a.txt"), text),
		kb.DocumentOptions{Labels: []string{"legal"}}).DocumentID
	ctx := tenantdb.WithLabels(t.Context(), tenantdb.AllLabels())
	whole, err := kb.GetText(ctx, b.door, tenantA, doc, 0, kb.MaxTextPage)
	if err != nil || !strings.Contains(text, strings.TrimSpace(whole.Text)) || whole.Next != 0 ||
		whole.Bytes != len(whole.Text) || whole.Document.ID != doc || len(whole.Text) < 100 {
		t.Fatalf("%+v, %v", whole, err)
	}
	for limit := 4; limit < 12; limit++ {
		var read strings.Builder
		for next := 0; ; {
			p, err := kb.GetText(ctx, b.door, tenantA, doc, next, limit)
			if err != nil || len(p.Text) > limit || p.Offset != next {
				t.Fatalf("%d: %+v, %v", limit, p, err)
			}
			read.WriteString(p.Text)
			if next = p.Next; next == 0 {
				break
			}
		}
		if read.String() != whole.Text {
			t.Errorf("pages of %d bytes are %q", limit, read.String())
		}
	}
	if p, err := kb.GetText(ctx, b.door, tenantA, doc, 6, 4); err != nil || p.Offset != 7 || p.Text != "mpe" {
		t.Errorf("inside a character: %+v, %v", p, err)
	}
	if p, err := kb.GetText(ctx, b.door, tenantA, doc, 1<<29, 4); err != nil || p.Text != "" || p.Next != 0 {
		t.Errorf("behind the end: %+v, %v", p, err)
	}
	for _, bad := range [][2]int{{-1, 10}, {1 << 30, 10}, {0, 3}, {0, kb.MaxTextPage + 1}, {0, -1}} {
		var is *kb.TextError
		if _, err := kb.GetText(ctx, b.door, tenantA, doc, bad[0], bad[1]); !errors.As(err, &is) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	for _, tenant := range []uuid.UUID{tenantB, uuid.New()} {
		if p, err := kb.GetText(ctx, b.door, tenant, doc, 0, 100); !errors.Is(err, kb.ErrNotFound) || p.Text != "" {
			t.Errorf("tenant %s reads %+v, %v", tenant, p, err)
		}
	}
	if p, err := kb.GetText(ctx, b.door, uuid.Nil, doc, 0, 100); err == nil || p.Text != "" {
		t.Errorf("no tenant reads %+v", p)
	}
	unlabelled := tenantdb.WithLabels(t.Context(), tenantdb.LabelsOf("sales"))
	if p, err := kb.GetText(unlabelled, b.door, tenantA, doc, 0, 100); !errors.Is(err, kb.ErrNotFound) || p.Text != "" {
		t.Errorf("without its label: %+v, %v", p, err)
	}
}

// TestATextOfAnotherClientIsItsChunks reads a document of a client that knows the seed's tables alone.
func TestATextOfAnotherClientIsItsChunks(t *testing.T) {
	d := testkit.Database(t)
	b := newBaseOn(t, d)
	doc := uuid.New()
	if err := b.door.Query(t.Context(), tenantA, `INSERT INTO kb_documents (tenant_id, id, agent_id, filename)
		VALUES ($1, $2, $3, 'seed.txt')`, []any{tenantA, doc, agent}, nil); err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{"first", "second"} {
		if err := b.door.Query(t.Context(), tenantA,
			`INSERT INTO kb_chunks (tenant_id, document_id, content, chunk_index,
			embedding) VALUES ($1, $2, $3, $4, array_fill(0.1::real,
				ARRAY[384])::vector)`, []any{tenantA, doc, text, i},
			nil); err != nil {
			t.Fatal(err)
		}
	}
	p, err := kb.GetText(t.Context(), b.door, tenantA, doc, 0, 100)
	if err != nil || p.Text != "first\n\nsecond" || p.Document.Filename != "seed.txt" {
		t.Errorf("%+v, %v", p, err)
	}
}
