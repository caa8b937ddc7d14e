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

// All yields the tenant's events that a filter names, the oldest first by created_at, however many: it reads them in
// pages, from behind the filter's cursor on, and f.Limit does not matter. What is written meanwhile with a later
// created_at is yielded too, unless f.Until says otherwise. An event is the caller's own to keep; an error is the last
// that is yielded.
func All(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, f Filter) iter.Seq2[*StoredEvent, error] {
	f.Limit = 0
	return func(yield func(*StoredEvent, error) bool) {
		for f := f; ; { // it can be ranged over again
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

// readPage reads the next events that a filter names.
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

// scanOrder is which way a list goes.
type scanOrder struct{ order, beyond string }

var (
	newestFirst = scanOrder{orderNewestFirst, "<"}
	oldestFirst = scanOrder{strings.ReplaceAll(orderNewestFirst, "DESC", "ASC"), ">"}
)
