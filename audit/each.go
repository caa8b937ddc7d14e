package audit

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// eachPageSize is how many events one transaction reads.
const eachPageSize = 2000

// All yields all of the tenant's events that match a filter, oldest first by created_at. It reads them in pages and
// begins after f.After; it ignores f.Limit. Events logged meanwhile with a later created_at are yielded too, unless
// f.Until excludes them. The caller may keep a yielded event. After an error nothing more is yielded.
func All(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, f Filter) iter.Seq2[*StoredEvent, error] {
	f.Limit = 0
	return func(yield func(*StoredEvent, error) bool) {
		for f := f; ; { // a copy, so that the sequence can be ranged over again
			after := f.After
			page, err := readPage(ctx, door, tenant, f)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				f.After = page[i].Cursor
				if !yield(&page[i], nil) {
					return
				}
			}
			if len(page) < eachPageSize || f.After == after {
				return
			}
		}
	}
}

// readPage reads the next page of events that match a filter.
func readPage(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, f Filter) (page []StoredEvent, err error) {
	sql, args, err := f.query(tenant, eachPageSize, oldestFirst)
	if err != nil {
		return nil, err
	}
	if err := door.Query(ctx, tenant, sql, args, func(rows pgx.Rows) error {
		page, err = pgx.CollectRows(rows, scanStored)
		return err
	}); err != nil {
		return nil, fmt.Errorf("audit: read events: %w", err)
	}
	return page, nil
}

// scanOrder is the direction of a list: its ORDER BY, and the comparison with the cursor.
type scanOrder struct{ order, beyond string }

var (
	newestFirst = scanOrder{orderNewestFirst, "<"}
	oldestFirst = scanOrder{strings.ReplaceAll(orderNewestFirst, "DESC", "ASC"), ">"}
)
