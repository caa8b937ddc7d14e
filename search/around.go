package search

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/kb"
)

// diversify chooses k of the hits, the best first, each the best in what it is worth less what it repeats of those
// chosen before (maximal marginal relevance).
func diversify(hits []Hit, details []hitDetail, k int, variety float64) (chosen []Hit) {
	if len(hits) == 0 {
		return hits
	}
	best := hits[0].Score
	like := make([]float64, len(hits)) // the most that each is like one that is chosen
	taken := make([]bool, len(hits))
	for len(chosen) < min(k, len(hits)) {
		next, most := -1, 0.0
		for i := range hits {
			if taken[i] {
				continue
			}
			worth := (1-variety)*hits[i].Score/max(best, 1e-9) - variety*like[i]
			if next < 0 || worth > most {
				next, most = i, worth
			}
		}
		taken[next] = true
		chosen = append(chosen, hits[next])
		for i := range hits {
			like[i] = max(like[i], dot(details[i].half, details[next].half))
		}
	}
	return chosen
}

func dot(a, b []float32) (sum float64) {
	for i := range min(len(a), len(b)) {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// neighbours adds to each hit the passages before and after it in its document.
func neighbours(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, hits []Hit, n int) error {
	documents, indexes := make([]uuid.UUID, len(hits)), make([]int, len(hits))
	for i := range hits {
		documents[i], indexes[i] = hits[i].DocumentID, hits[i].Index
	}
	rows, err := tx.Query(ctx,
		`SELECT h.n, `+kb.PassageColumns+`
		FROM unnest($2::uuid[], $3::integer[]) WITH ORDINALITY h (document_id, at, n)
		JOIN kb_chunks c ON c.tenant_id = $1 AND c.document_id = h.document_id
		 AND c.chunk_index BETWEEN h.at - $4::integer AND h.at + $4::integer AND c.chunk_index <> h.at
	    LEFT JOIN kb_passages p ON p.tenant_id = $1 AND p.chunk_id = c.id
	   ORDER BY h.n, c.chunk_index, c.id`, tenant, documents, indexes, n)
	if err != nil {
		return err
	}
	var of int
	var p kb.Passage
	_, err = pgx.ForEachRow(rows, []any{&of, &p.ChunkID, &p.Index, &p.Headings, &p.Page, &p.Start, &p.End, &p.Content},
		func() error {
			h := &hits[of-1]
			if p.Index < h.Index {
				h.Before = append(h.Before, p)
			} else {
				h.After = append(h.After, p)
			}
			p.Headings = nil
			return nil
		})
	return err
}
