package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// TextQuery says what to look for in summaries.
type TextQuery struct {
	// Text is what people write into a search box: words that must all be there, "a phrase", or, -not.
	Text         string
	Since, Until time.Time // of created_at
	After        string    // a Cursor
	Limit        int       // 50 when zero, at most MaxList
}

const textSearchSQL = storedSQL + ` AND e.id IN (SELECT audit_find_words($2, $3, $4, $5, $6, $7))` + sealsSQL +
	orderNewestFirst

// SearchText returns the tenant's newest events in whose summaries the words stand; of each the first 16,000 characters
// are looked through. Words are compared as they are written, without regard to case.
func SearchText(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	w TextQuery) (events []StoredEvent, err error) {
	if w.Text == "" {
		return nil, &FieldError{"text", "is empty: say what to look for"}
	}
	if err := checkText("text", w.Text, MaxName); err != nil {
		return nil, err
	}
	limit, after, id, err := page(w.Since, w.Until, w.Limit, w.After)
	if err != nil {
		return nil, err
	}
	err = door.Query(ctx, tenant, textSearchSQL,
		[]any{tenant, w.Text, timeOrNil(w.Since), timeOrNil(w.Until), after, id, limit}, func(rows pgx.Rows) error {
			events, err = pgx.CollectRows(rows, scanStored)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("audit: search summaries: %w", err)
	}
	return events, nil
}
