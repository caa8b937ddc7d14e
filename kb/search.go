package kb

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
)

// Hit is one passage that a search found.
type Hit struct {
	Passage
	Score      float64   `json:"score"`          // cosine similarity, -1 to 1
	SHA256     string    `json:"content_sha256"` // of the passage as it is stored
	DocumentID uuid.UUID `json:"document_id"`
	Filename   string    `json:"filename"`
	Source     string    `json:"source"`
	// Recipe is how its vector was made; empty for a chunk another client wrote.
	Recipe string `json:"-"`
}

// MaxHits is how many passages one search returns at most.
const MaxHits = 100

// searchSQL is exact: adding 0 to the distance keeps the planner off the seed's global HNSW index, which
// finds other tenants' rows first and then has them filtered away. The tenant is a literal, so that
// row level security's own predicate is proven once and not per row.
const searchSQL = `
WITH nearest AS MATERIALIZED (%[2]s ORDER BY distance LIMIT $2)
SELECT n.id, coalesce(n.chunk_index, 0), coalesce(p.headings, '{}'), coalesce(p.page, 0), coalesce(p.start_byte, 0), coalesce(p.end_byte, 0), n.content,
       1 - n.distance, sha256(convert_to(n.content, 'UTF8')), d.id, coalesce(d.filename, ''), coalesce(d.source_url, ''), coalesce(s.recipe, '')
  FROM nearest n
  JOIN kb_documents d ON d.tenant_id = '%[1]s'::uuid AND d.id = n.document_id
  LEFT JOIN kb_passages p ON p.tenant_id = '%[1]s'::uuid AND p.chunk_id = n.id
  LEFT JOIN kb_sources s ON s.tenant_id = '%[1]s'::uuid AND s.document_id = n.document_id
 WHERE n.distance IS NOT NULL AND $4 = coalesce((SELECT m.model FROM kb_models m WHERE m.tenant_id = '%[1]s'::uuid AND m.serving), '')
 ORDER BY n.distance, n.id`

// Where the nearest are looked for: in the first model's vectors, or in another's.
const (
	firstSQL = `SELECT c.id, c.document_id, c.chunk_index, c.content, nullif((c.embedding <=> $1::real[]::vector) + 0, 'NaN') AS distance
	    FROM kb_chunks c WHERE c.tenant_id = '%[1]s'::uuid`
	otherSQL = `SELECT c.id, c.document_id, c.chunk_index, c.content, nullif((v.embedding <=> $1::real[]::vector) + 0, 'NaN') AS distance
	    FROM kb_vectors v JOIN kb_chunks c ON c.tenant_id = '%[1]s'::uuid AND c.id = v.chunk_id WHERE v.tenant_id = '%[1]s'::uuid AND v.model = $4`
)

// visibleSQL leaves out passages of documents whose labels the asker has none of.
const visibleSQL = ` AND NOT EXISTS (SELECT FROM kb_sources s WHERE s.tenant_id = '%[1]s'::uuid AND s.document_id = c.document_id AND s.labels <> '{}' AND NOT s.labels && $3)`

// Query says what is looked for.
type Query struct {
	Vector []float32
	// Model is whose vector it is, empty for the first; where another serves, Search returns a *ServingError.
	Model string
	K     int // how many passages at most
	// Labels are what the asker may see beside documents without labels: those with one of these.
	Labels []string
}

// ServingError says that a tenant's searches are by another model.
type ServingError struct{ Model string }

func (e *ServingError) Error() string { return "kb: search: the model that serves is " + e.Model }

// Search returns the tenant's k passages nearest to the vector by cosine, best first, within the caller's
// transaction, whose tenant must be set to tenant already.
func Search(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q Query) ([]Hit, error) {
	if q.K < 1 || q.K > MaxHits {
		return nil, fmt.Errorf("kb: search for %d passages: top-k is 1 to %d", q.K, MaxHits)
	}
	dimensions := len(q.Vector)
	if q.Model == "" {
		dimensions = embed.Dimensions
	}
	err := checkVector(q.Vector, dimensions)
	if err == nil {
		err = CheckLabels(q.Labels)
	}
	if err != nil {
		return nil, fmt.Errorf("kb: search: %w", err)
	}
	from := firstSQL
	if q.Model != "" {
		from = otherSQL
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(searchSQL, tenant, fmt.Sprintf(from+visibleSQL, tenant)),
		pgx.QueryExecModeExec, q.Vector, q.K, append([]string{}, q.Labels...), q.Model) // a text per tenant is not worth preparing
	if err != nil {
		return nil, fmt.Errorf("kb: search: %w", err)
	}
	hits, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Hit, err error) {
		var sum []byte
		err = row.Scan(&h.ChunkID, &h.Index, &h.Headings, &h.Page, &h.Start, &h.End, &h.Content, &h.Score, &sum, &h.DocumentID, &h.Filename, &h.Source, &h.Recipe)
		h.SHA256 = hex.EncodeToString(sum)
		return h, err
	})
	var serving string
	if err == nil && len(hits) == 0 { // is there nothing, or does another model serve?
		err = tx.QueryRow(ctx, servingSQL, tenant).Scan(&serving)
	}
	if err != nil {
		return nil, fmt.Errorf("kb: search: %w", err)
	}
	if len(hits) == 0 && serving != q.Model {
		return nil, &ServingError{serving}
	}
	return hits, nil
}
