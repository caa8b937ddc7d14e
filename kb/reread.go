package kb

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// RereadLanguages looks at the language of each of a tenant's documents again, as if it were ingested now, and reads
// the words of those in another one anew. It returns how many these were. progress, when not nil, is called with the
// number of documents looked at since its last call. ctx must be granted every label.
func RereadLanguages(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	progress func(int)) (n int, err error) {
	for after := uuid.Nil; ; {
		var sources []string
		if err := door.Query(ctx, tenant, `SELECT source, document_id FROM kb_sources
			WHERE tenant_id = $1 AND document_id > $2 ORDER BY document_id LIMIT 100`, []any{tenant, after},
			func(rows pgx.Rows) error {
				sources = nil
				var source string
				_, err := pgx.ForEachRow(rows, []any{&source, &after}, func() error {
					sources = append(sources, source)
					return nil
				})
				return err
			}); err != nil {
			return n, fmt.Errorf("kb: list documents: %w", err)
		}
		if len(sources) == 0 {
			return n, nil
		}
		for _, source := range sources {
			changed, err := rereadLanguage(ctx, door, tenant, source)
			if err != nil {
				return n, fmt.Errorf("kb: read %.200s again: %w", source, err)
			}
			if changed {
				n++
			}
		}
		if progress != nil {
			progress(len(sources))
		}
	}
}

func rereadLanguage(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	source string) (changed bool, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		changed = false
		if err := lockSource(ctx, tx, tenant, source); err != nil {
			return err
		}
		var document uuid.UUID
		var before, stated, text string
		err := tx.QueryRow(ctx, `SELECT s.document_id, s.language, coalesce(s.metadata->>'language', ''),
			  left(t.content, $3) FROM kb_sources s
			  JOIN kb_texts t ON t.tenant_id = s.tenant_id AND t.document_id = s.document_id
			 WHERE s.tenant_id = $1 AND s.source = $2`, tenant, source, sampleSize).
			Scan(&document, &before, &stated, &text)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // deleted meanwhile, or another client's
		}
		if err != nil {
			return err
		}
		language, evident, err := textLanguage(ctx, tx, tenant, stated, text)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE kb_sources SET evident = $3 WHERE tenant_id = $1 AND document_id = $2
			AND evident <> $3`, tenant, document, evident); err != nil || language == before {
			return err
		}
		changed = true
		return setLanguage(ctx, tx, tenant, document, language)
	})
	return changed, err
}

// setLanguage has the words of a document's passages read in another language. Headings' words go first and come back
// last, as the triggers have it.
func setLanguage(ctx context.Context, tx pgx.Tx, tenant, document uuid.UUID, language string) error {
	const passages = ` p.tenant_id = $1 AND p.chunk_id IN (
		SELECT c.id FROM kb_chunks c WHERE c.tenant_id = $1 AND c.document_id = $2)`
	var headings []byte
	err := tx.QueryRow(ctx,
		`SELECT coalesce(jsonb_agg(jsonb_build_object('id', p.chunk_id, 'headings', p.headings)), '[]')
		FROM kb_passages p WHERE`+passages, tenant, document).Scan(&headings)
	if err != nil {
		return err
	}
	var b pgx.Batch
	b.Queue(`UPDATE kb_passages p SET headings = '{}' WHERE`+passages, tenant, document)
	b.Queue(`UPDATE kb_sources SET language = $3 WHERE tenant_id = $1 AND document_id = $2`, tenant, document, language)
	b.Queue(`UPDATE kb_chunks SET content = content WHERE tenant_id = $1 AND document_id = $2`, tenant, document)
	b.Queue(`UPDATE kb_passages p SET headings = r.headings, language = $3
		FROM jsonb_to_recordset($2::jsonb) r (id uuid, headings text[])
		WHERE p.tenant_id = $1 AND p.chunk_id = r.id`, tenant, headings, language)
	return tx.SendBatch(ctx, &b).Close()
}
