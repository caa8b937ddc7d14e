package search

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// maxAlso is how many equal passages a hit names; sql/search.sql looks for a thousand.
const maxAlso = 100

// mergeTwins gives equal passages one place, that of the best. It returns the hits that are wanted, with how many rows
// they took, in whose order they stay, and whether more follow.
func mergeTwins(rows []Hit, details []hitDetail, wanted int, each bool) (hits []Hit, kept []hitDetail, taken int,
	more bool) {
	places := map[string]bool{}
	for i, h := range rows {
		if (details[i].repeated || places[h.SHA256]) && !each {
			continue
		}
		if len(hits) == wanted {
			return hits, kept, i, true
		}
		places[h.SHA256] = true
		hits, kept = append(hits, h), append(kept, details[i])
	}
	return hits, kept, len(rows), false
}

// nameTwins has hits, which are some of the rows, name the documents that have the same passage, of those that meet the
// query's conditions.
func (s *statement) nameTwins(ctx context.Context, tx pgx.Tx, rows, hits []Hit) error {
	twins := map[uuid.UUID][]uuid.UUID{}
	for i, h := range rows {
		twins[h.ChunkID] = s.details[i].twins
	}
	var ids []uuid.UUID
	of := map[uuid.UUID]*Hit{}
	for i := range hits {
		for _, id := range twins[hits[i].ChunkID] {
			ids, of[id] = append(ids, id), &hits[i]
		}
	}
	if len(ids) == 0 {
		return nil
	}
	s.args = []any{s.tenant, uuidTexts(ids)}
	met, err := s.q.conditions(s.arg)
	if err == nil && len(s.q.Collections) > 0 {
		entry := append([]string{"cd.tenant_id = $1", "cd.document_id = c.document_id",
			"cd.collection_id = ANY (" + s.arg(uuidTexts(s.q.Collections)) + "::uuid[])"}, met...)
		met = []string{"EXISTS (SELECT FROM kb_collection_documents cd WHERE " + strings.Join(entry, " AND ") + ")"}
	}
	if err != nil {
		return err
	}
	sql := `SELECT c.id, c.document_id, coalesce(s.version, 1), coalesce(d.filename, ''), coalesce(s.title, ''),
		  coalesce(s.source, d.source_url, ''), c.content
		FROM kb_chunks c JOIN kb_documents d ON d.tenant_id = $1 AND d.id = c.document_id
		LEFT JOIN kb_sources s ON s.tenant_id = $1 AND s.document_id = c.document_id
		WHERE ` + strings.Join(append([]string{`c.tenant_id = $1`, `c.id = ANY ($2::uuid[])`}, met...), " AND ") +
		` ORDER BY 4, c.chunk_index, c.id`
	return tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: sql, Args: s.args, Within: s.q.Within},
		func(rows pgx.Rows) error {
			var t Twin
			var content string
			for i := range hits {
				hits[i].Also = nil
			}
			_, err := pgx.ForEachRow(rows, []any{&t.ChunkID, &t.DocumentID, &t.Version, &t.Filename, &t.Title,
				&t.Source, &content}, func() error {
				if h := of[t.ChunkID]; h.Content == content && len(h.Also) < maxAlso {
					h.Also = append(h.Also, t)
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("look for equal passages: %w", err)
			}
			return nil
		})
}

// haveTwins reports whether a row has any.
func (s *statement) haveTwins() bool {
	return slices.ContainsFunc(s.details, func(d hitDetail) bool { return len(d.twins) > 0 })
}
