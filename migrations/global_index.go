package migrations

import (
	"context"
	"fmt"
)

// GlobalIndex makes or drops the seed's own index over all tenants' vectors, ix_kb_chunks_hnsw, beside the writers, who
// wait for nothing. Our searches do not use it: clients written against the seed do, and whoever has none of these
// stores several times as fast without it.
func (s *Schema) GlobalIndex(ctx context.Context, on bool) error {
	// half made, too
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
