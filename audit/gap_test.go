package audit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The reason is stored in the tenant's trail for good, so it must not reveal the database's address.
func TestAGapsReasonTellsNothingOfTheDatabasesPlace(t *testing.T) {
	_, refused := pgx.Connect(t.Context(), "postgres://konstruct_app:secret@127.0.0.1:1/there")
	late, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, slow := pgx.Connect(late, "postgres://konstruct_app:secret@127.0.0.1:1/there")
	for want, err := range map[string]error{"the database can't be reached": refused,
		"it took longer than it may": slow, "something went wrong here": &pgconn.PgError{
			Message: `permission denied for table "secret"`, Code: "42501"}} {
		got := gapReason(fmt.Errorf("audit: log an event: %w", err))
		if !strings.HasPrefix(got, want) || strings.Contains(got, "127.0.0.1") || strings.Contains(got, "secret") ||
			strings.Contains(got, "konstruct_app") {
			t.Errorf("%v: %q", err, got)
		}
	}
}
