package migrations

import (
	"context"
	"fmt"
)

// TextIndex creates or drops the index of the words in summaries, concurrently with writers. Without it, a text search
// reads events until it has enough matches; with it, each write is slower.
func (s *Schema) TextIndex(ctx context.Context, on bool) error {
	steps := []string{`DROP INDEX IF EXISTS public.audit_events_words`} // also an invalid one
	if on {
		steps = append(steps, `CREATE INDEX CONCURRENTLY audit_events_words ON public.audit_events
			USING gin (public.audit_words(tenant_id, input_summary, output_summary))`)
	}
	for _, sql := range steps {
		if _, err := s.db.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("index words: %w", err)
		}
	}
	return nil
}
