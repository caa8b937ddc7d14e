// Package kb is the knowledge base: documents, their versions, labels and chunks, ingest and its jobs, and the models
// whose vectors it has. It knows files, tokens and tables; it must not know audit or search.
package kb

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/tenantdb"
)

// ErrNotFound says that this tenant has no such document.
var ErrNotFound = errors.New("no such document of this tenant: `konstruct kb list` shows what is there")

// Document is one document of a tenant.
type Document struct {
	ID          uuid.UUID `json:"id"`
	AgentID     uuid.UUID `json:"agent_id"` // who took it in
	Filename    string    `json:"filename"`
	Source      string    `json:"source"` // its URL; file: for a file
	ContentType string    `json:"content_type"`
	Title       string    `json:"title,omitempty"`
	FileInfo    FileInfo  `json:"about,omitzero"`
	Language    string    `json:"language"` // that its words are read in, as english; simple: as they stand
	// Version counts from 1, and up each time the document is replaced.
	Version    int            `json:"version"`
	Labels     []string       `json:"labels,omitempty"` // who may find it; everybody where there are none
	Metadata   map[string]any `json:"metadata,omitempty"`
	Chunking   chunk.Options  `json:"chunking,omitzero"` // how it is split; absent: by its structure
	Bytes      int64          `json:"bytes"`
	SHA256     string         `json:"sha256,omitempty"` // of the file; empty for a document another client wrote
	Chunks     int            `json:"chunks"`
	IngestedAt time.Time      `json:"ingested_at"`
}

// FileInfo is the metadata in a document's file; zero where the file has none.
type FileInfo struct {
	Author   string    `json:"author,omitempty"`
	Language string    `json:"language,omitempty"` // BCP 47, as the document writes it
	Created  time.Time `json:"created,omitzero"`
	Modified time.Time `json:"modified,omitzero"`
}

//go:embed sql/documents.sql
var documentsSQL string

func scanDocument(row pgx.CollectableRow) (d Document, err error) {
	err = row.Scan(&d.ID, &d.AgentID, &d.Filename, &d.Source, &d.ContentType, &d.Title, &d.FileInfo, &d.Bytes,
		&d.SHA256, &d.Chunks, &d.IngestedAt, &d.Version, &d.Labels, &d.Metadata, &d.Language,
		&d.Chunking)
	return d, err
}

// MaxList is how many documents one List returns at most.
const MaxList = 1000

// ListDocuments returns the tenant's documents in the order of their ids, after the given one (uuid.Nil: from the
// first), at most limit of them.
func ListDocuments(ctx context.Context, door *tenantdb.Door, tenant, after uuid.UUID,
	limit int) (docs []Document, err error) {
	if limit < 1 || limit > MaxList {
		return nil, fmt.Errorf("kb: list %d documents: the limit is 1 to %d", limit, MaxList)
	}
	err = door.Query(ctx, tenant, documentsSQL+` AND d.id > $2 ORDER BY d.id LIMIT $3`, []any{tenant, after, limit},
		func(rows pgx.Rows) error {
			docs, err = pgx.CollectRows(rows, scanDocument)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: list documents: %w", err)
	}
	return docs, nil
}

// CountDocuments counts the tenant's documents.
func CountDocuments(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID) (n int, err error) {
	err = door.Query(ctx, tenant, `SELECT count(*) FROM kb_documents WHERE tenant_id = $1`, []any{tenant},
		func(rows pgx.Rows) error {
			n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			return err
		})
	if err != nil {
		return 0, fmt.Errorf("kb: count documents: %w", err)
	}
	return n, nil
}

// Passage is one chunk of a document, with its place there.
type Passage struct {
	ChunkID  uuid.UUID `json:"chunk_id"`
	Index    int       `json:"index"`
	Headings []string  `json:"headings,omitempty"`
	Page     int       `json:"page,omitempty"`  // from 1; 0 where the document has no pages
	Start    int       `json:"start,omitempty"` // bytes into the document, as extract.Block has them
	End      int       `json:"end,omitempty"`
	Content  string    `json:"content"`
}

// PassageColumns are the columns of a Passage, in the order of its fields: of a chunk c and what kb_passages p has of
// it, which may be missing.
const PassageColumns = `c.id, coalesce(c.chunk_index, 0), coalesce(p.headings, '{}'), coalesce(p.page, 0),
	coalesce(p.start_byte, 0), coalesce(p.end_byte, 0), c.content`

// GetDocument returns a document and its passages in order, or ErrNotFound.
func GetDocument(ctx context.Context, door *tenantdb.Door,
	tenant, id uuid.UUID) (d Document, passages []Passage, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, documentsSQL+` AND d.id = $2`, tenant, id)
		if err != nil {
			return err
		}
		if d, err = pgx.CollectExactlyOneRow(rows, scanDocument); err != nil {
			return err
		}
		rows, err = tx.Query(ctx,
			`SELECT `+PassageColumns+`
		  FROM kb_chunks c LEFT JOIN kb_passages p ON p.tenant_id = c.tenant_id AND p.chunk_id = c.id
		 WHERE c.tenant_id = $1 AND c.document_id = $2 ORDER BY c.chunk_index, c.id`, tenant, id)
		if err != nil {
			return err
		}
		passages, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Passage, err error) {
			err = row.Scan(&p.ChunkID, &p.Index, &p.Headings, &p.Page, &p.Start, &p.End, &p.Content)
			return p, err
		})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return d, nil, fmt.Errorf("kb: show %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return d, nil, fmt.Errorf("kb: show %s: %w", id, err)
	}
	return d, passages, nil
}

// FindDocument returns a document without its passages, or ErrNotFound.
func FindDocument(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID) (d Document, err error) {
	err = door.Query(ctx, tenant, documentsSQL+` AND d.id = $2`, []any{tenant, id}, func(rows pgx.Rows) error {
		d, err = pgx.CollectExactlyOneRow(rows, scanDocument)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return d, ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("kb: find %s: %w", id, err)
	}
	return d, nil
}

// FindByName returns which of some names are sources or file names of documents that have passages.
func FindByName(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, names []string) (map[string]bool, error) {
	found := map[string]bool{}
	const sql = `SELECT coalesce(s.source, ''), coalesce(d.filename, '')
	    FROM kb_documents d LEFT JOIN kb_sources s ON s.tenant_id = d.tenant_id AND s.document_id = d.id
	   WHERE d.tenant_id = $1 AND (s.source = ANY ($2) OR d.filename = ANY ($2))
	     AND EXISTS (SELECT FROM kb_chunks c WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id)`
	err := door.Query(ctx, tenant, sql, []any{tenant, names}, func(rows pgx.Rows) error {
		clear(found)
		var source, filename string
		_, err := pgx.ForEachRow(rows, []any{&source, &filename}, func() error {
			found[source], found[filename] = true, true
			return nil
		})
		delete(found, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("kb: look for documents by their names: %w", err)
	}
	return found, nil
}

// Version is what a document was before it was replaced.
type Version struct {
	Version    int       `json:"version"`
	AgentID    uuid.UUID `json:"agent_id"` // who took it in
	Bytes      int64     `json:"bytes"`
	SHA256     string    `json:"sha256"`
	IngestedAt time.Time `json:"ingested_at"`
	ReplacedAt time.Time `json:"replaced_at"`
}

// Versions returns what a document was before, the newest first; none for a document that there is not.
func Versions(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID) (versions []Version, err error) {
	err = door.Query(ctx, tenant,
		`SELECT version, agent_id, bytes, encode(content_sha256, 'hex'), ingested_at, replaced_at FROM kb_versions
		WHERE tenant_id = $1 AND document_id = $2 ORDER BY version DESC`,
		[]any{tenant, id}, func(rows pgx.Rows) error {
			versions, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Version])
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: list versions of %s: %w", id, err)
	}
	return versions, nil
}

// PassageContext is a passage with its document's text around it.
type PassageContext struct {
	Passage
	DocumentID uuid.UUID `json:"document_id"`
	Filename   string    `json:"filename"`
	Before     string    `json:"before"`
	Text       string    `json:"text"` // what the passage covers, as the document writes it
	After      string    `json:"after"`
}

// MaxAround is how many bytes around a passage Where returns at most.
const MaxAround = 64 << 10

//go:embed sql/passage_context.sql
var passageContextSQL string

// GetPassage returns a passage with so many bytes of its document before and after it; ErrNotFound when it
// is gone, and for a passage that another client wrote, whose place is not known.
func GetPassage(ctx context.Context, door *tenantdb.Door, tenant, chunk uuid.UUID,
	around int) (p PassageContext, err error) {
	if around < 0 || around > MaxAround {
		return p, fmt.Errorf("kb: show %d bytes around a passage: the limit is 0 to %d", around, MaxAround)
	}
	var text []byte
	var from int
	err = door.Query(ctx, tenant, passageContextSQL, []any{tenant, chunk, around}, func(rows pgx.Rows) error {
		p, err = pgx.CollectExactlyOneRow(rows, func(r pgx.CollectableRow) (p PassageContext, err error) {
			err = r.Scan(&p.ChunkID, &p.Index, &p.Headings, &p.Page, &p.Start, &p.End, &p.Content, &p.DocumentID,
				&p.Filename, &from, &text)
			return p, err
		})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return p, fmt.Errorf("kb: show passage %s: %w", chunk, err)
	}
	start, end := min(p.Start-from, len(text)), min(p.End-from, len(text))
	// What was cut may begin and end inside a character.
	p.Before, p.Text, p.After = strings.ToValidUTF8(string(text[:start]), ""),
		strings.ToValidUTF8(string(text[start:end]), ""), strings.ToValidUTF8(string(text[end:]), "")
	return p, nil
}
