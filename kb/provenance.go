package kb

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// StoredPassage is a passage as it is stored now.
type StoredPassage struct {
	Passage
	DocumentID uuid.UUID
	Filename   string // of its document
	SHA256     string // of its content
}

// PassagesByID returns those of some passages that are there, by their ids.
func PassagesByID(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	ids []uuid.UUID) (map[uuid.UUID]StoredPassage, error) {
	found := map[uuid.UUID]StoredPassage{}
	err := door.Query(ctx, tenant,
		`SELECT `+PassageColumns+`, c.document_id, coalesce(d.filename, ''), sha256(convert_to(c.content, 'UTF8'))
		FROM kb_chunks c JOIN kb_documents d ON d.tenant_id = c.tenant_id AND d.id = c.document_id
		LEFT JOIN kb_passages p ON p.tenant_id = c.tenant_id AND p.chunk_id = c.id
		WHERE c.tenant_id = $1 AND c.id = ANY ($2)`, []any{tenant, ids}, func(rows pgx.Rows) error {
			clear(found)
			var s StoredPassage
			var sum []byte
			_, err := pgx.ForEachRow(rows,
				[]any{&s.ChunkID, &s.Index, &s.Headings, &s.Page, &s.Start, &s.End, &s.Content, &s.DocumentID,
					&s.Filename, &sum},
				func() error {
					s.SHA256 = hex.EncodeToString(sum)
					found[s.ChunkID] = s
					s = StoredPassage{}
					return nil
				})
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: look passages up: %w", err)
	}
	return found, nil
}

// CurrentVersions returns the versions at which documents stand, by their ids; those that are gone have none.
func CurrentVersions(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	ids []uuid.UUID) (map[uuid.UUID]int, error) {
	found := map[uuid.UUID]int{}
	err := door.Query(ctx, tenant, `SELECT d.id, coalesce(s.version, 1) FROM kb_documents d
		LEFT JOIN kb_sources s ON s.tenant_id = d.tenant_id AND s.document_id = d.id
		WHERE d.tenant_id = $1 AND d.id = ANY ($2)`,
		[]any{tenant, ids}, func(rows pgx.Rows) error {
			clear(found)
			var id uuid.UUID
			var version int
			_, err := pgx.ForEachRow(rows, []any{&id, &version}, func() error { found[id] = version; return nil })
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: look documents up: %w", err)
	}
	return found, nil
}

// HiddenDocuments returns which of some documents are there, and not seen by the labels of ctx.
func HiddenDocuments(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	documents []uuid.UUID) (map[uuid.UUID]bool, error) {
	hidden := map[uuid.UUID]bool{}
	if door.CanSee(ctx).All() {
		return hidden, nil
	}
	err := door.Query(ctx, tenant, `SELECT h.id FROM kb_hidden_documents(kb_granted()) h (id) WHERE h.id = ANY ($1)`,
		[]any{documents},
		func(rows pgx.Rows) error {
			clear(hidden)
			var id uuid.UUID
			_, err := pgx.ForEachRow(rows, []any{&id}, func() error { hidden[id] = true; return nil })
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: look for documents that are hidden: %w", err)
	}
	return hidden, nil
}
