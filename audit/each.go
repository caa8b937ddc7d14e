package audit

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// eachPageSize is how many events one transaction reads.
const eachPageSize = 2000

// EachEvent hands on all of the tenant's events that a filter names, the oldest first by created_at, however many: it reads
// them in pages, from behind the filter's cursor on, and f.Limit does not matter. What is written meanwhile with a later created_at is handed on
// too, unless f.Until says otherwise. An event is each's own to keep.
func EachEvent(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, f Filter, each func(*StoredEvent) error) error {
	f.Limit = 0
	for {
		after := f.After
		sql, args, err := f.query(tenant, eachPageSize, oldestFirst)
		if err != nil {
			return err
		}
		var page []StoredEvent
		if err := door.Query(ctx, tenant, sql, args, func(rows pgx.Rows) error {
			page, err = pgx.CollectRows(rows, scanStored)
			return err
		}); err != nil {
			return fmt.Errorf("audit: read events: %w", err)
		}
		for i := range page {
			f.After = page[i].Cursor
			if err := each(&page[i]); err != nil {
				return err
			}
		}
		if len(page) < eachPageSize || f.After == after {
			return nil
		}
	}
}

// scanOrder is which way a list goes.
type scanOrder struct{ order, beyond string }

var (
	newestFirst = scanOrder{orderNewestFirst, "<"}
	oldestFirst = scanOrder{strings.ReplaceAll(orderNewestFirst, "DESC", "ASC"), ">"}
)
