package migrations

import (
	"context"
	"fmt"
)

// GlobalIndex creates or drops the seed's index over all tenants' vectors, ix_kb_chunks_hnsw, concurrently with
// writers. Our searches do not use it, but clients written for the seed do. Without it, storing is several times as
// fast.
func (s *Schema) GlobalIndex(ctx context.Context, on bool) error {
	// also an invalid one
	steps := []string{`SET statement_timeout = 0`, `DROP INDEX CONCURRENTLY IF EXISTS public.ix_kb_chunks_hnsw`}
	if on {
		steps = append(steps, `CREATE INDEX CONCURRENTLY ix_kb_chunks_hnsw ON public.kb_chunks
			USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)`)
	}
	for _, sql := range steps {
		if _, err := s.db.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("index over all tenants: %w", err)
		}
	}
	return nil
}
