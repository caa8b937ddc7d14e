// Package kb is the knowledge base: it takes documents in, searches them and lists them, one tenant at
// a time. It does not know audit: who searches records what was shown.
package kb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// ErrNotFound says that this tenant has no such document.
var ErrNotFound = errors.New("no such document of this tenant: `konstruct kb list` shows what is there")

// Document is one document of a tenant.
type Document struct {
	ID          uuid.UUID `json:"id"`
	AgentID     uuid.UUID `json:"agent_id"` // who took it in
	Filename    string    `json:"filename"`
	Source      string    `json:"source"` // where it came from, a file: URL for a file
	ContentType string    `json:"content_type"`
	Title       string    `json:"title,omitempty"`
	About       About     `json:"metadata,omitzero"`
	Bytes       int64     `json:"bytes"`
	SHA256      string    `json:"sha256,omitempty"` // of the file; empty for a document another client wrote
	Chunks      int       `json:"chunks"`
	IngestedAt  time.Time `json:"ingested_at"`
}

// About is what a document says of itself; what it does not say is zero.
type About struct {
	Author   string    `json:"author,omitempty"`
	Language string    `json:"language,omitempty"` // BCP 47, as the document writes it
	Created  time.Time `json:"created,omitzero"`
	Modified time.Time `json:"modified,omitzero"`
}

const documentsSQL = `
SELECT d.id, d.agent_id, coalesce(d.filename, ''), coalesce(s.source, d.source_url, ''), coalesce(d.content_type, ''), coalesce(s.title, ''), coalesce(s.metadata, '{}'),
       coalesce(s.bytes, 0), coalesce(encode(s.content_sha256, 'hex'), ''),
       (SELECT count(*) FROM kb_chunks c WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id), coalesce(s.ingested_at, d.created_at)
  FROM kb_documents d LEFT JOIN kb_sources s ON s.tenant_id = d.tenant_id AND s.document_id = d.id
 WHERE d.tenant_id = $1`

func scanDocument(row pgx.CollectableRow) (d Document, err error) {
	err = row.Scan(&d.ID, &d.AgentID, &d.Filename, &d.Source, &d.ContentType, &d.Title, &d.About, &d.Bytes, &d.SHA256, &d.Chunks, &d.IngestedAt)
	return d, err
}

// MaxList is how many documents one List returns at most.
const MaxList = 1000

// List returns the tenant's documents in the order of their ids, after the given one (uuid.Nil: from the
// first), at most limit of them.
func List(ctx context.Context, door *tenantdb.Door, tenant, after uuid.UUID, limit int) (docs []Document, err error) {
	if limit < 1 || limit > MaxList {
		return nil, fmt.Errorf("kb: list %d documents: the limit is 1 to %d", limit, MaxList)
	}
	err = door.Query(ctx, tenant, documentsSQL+` AND d.id > $2 ORDER BY d.id LIMIT $3`, []any{tenant, after, limit}, func(rows pgx.Rows) error {
		docs, err = pgx.CollectRows(rows, scanDocument)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("kb: list documents: %w", err)
	}
	return docs, nil
}

// Passage is one chunk of a document as it stands in it.
type Passage struct {
	ChunkID  uuid.UUID `json:"chunk_id"`
	Index    int       `json:"index"`
	Headings []string  `json:"headings,omitempty"`
	Page     int       `json:"page,omitempty"`  // from 1; 0 where the document has no pages
	Start    int       `json:"start,omitempty"` // bytes into the document, as extract.Block has them
	End      int       `json:"end,omitempty"`
	Content  string    `json:"content"`
}

// Show returns a document and its passages in order, or ErrNotFound.
func Show(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID) (d Document, passages []Passage, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, documentsSQL+` AND d.id = $2`, tenant, id)
		if err != nil {
			return err
		}
		if d, err = pgx.CollectExactlyOneRow(rows, scanDocument); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT c.id, coalesce(c.chunk_index, 0), coalesce(p.headings, '{}'), coalesce(p.page, 0), coalesce(p.start_byte, 0), coalesce(p.end_byte, 0), c.content
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

// Remove deletes a document and its chunks, or returns ErrNotFound.
func Remove(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID) error {
	gone := 0
	err := door.Query(ctx, tenant, `DELETE FROM kb_documents WHERE tenant_id = $1 AND id = $2 RETURNING id`, []any{tenant, id}, func(rows pgx.Rows) error {
		for rows.Next() {
			gone++
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("kb: remove %s: %w", id, err)
	}
	if gone == 0 {
		return fmt.Errorf("kb: remove %s: %w", id, ErrNotFound)
	}
	return nil
}
