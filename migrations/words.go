package migrations

import (
	"context"
	"fmt"
)

// TextIndex makes or drops the index of the words in summaries. Without it a search of them reads events until it has
// found enough. It is made beside the writers, who wait for nothing; from then on each write pays for it.
func (s *Schema) TextIndex(ctx context.Context, on bool) error {
	steps := []string{`DROP INDEX IF EXISTS public.audit_events_words`} // half made, too
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
