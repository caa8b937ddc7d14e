package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// TextQuery is a text search in summaries.
type TextQuery struct {
	// Text is in the syntax of web search: words that must all occur, "a phrase", or, -not.
	Text         string
	Since, Until time.Time // of created_at
	After        string    // a Cursor
	Limit        int       // 50 when zero, at most MaxList
}

const textSearchSQL = storedSQL + ` AND e.id IN (SELECT audit_find_words($2, $3, $4, $5, $6, $7))` + sealsSQL +
	orderNewestFirst

// SearchText returns the tenant's newest events whose summaries match the text. Of each summary the first 16,000
// characters are searched. Words are compared without stemming and case-insensitively.
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
