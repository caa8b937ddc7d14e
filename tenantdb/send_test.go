package tenantdb_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

func TestAStatementsSettingsAreItsOwn(t *testing.T) {
	door := testkit.Door(t)
	const sql = `SELECT current_setting('app.current_tenant') = $1::text, current_setting('enable_sort'),
		current_setting('statement_timeout'), current_setting('plan_cache_mode')`
	type seen struct {
		Own                bool
		Sort, Within, Plan string
	}
	var got seen
	read := func(rows pgx.Rows) (err error) {
		got, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[seen])
		return err
	}
	for _, keep := range []bool{false, true} {
		s := tenantdb.Statement{Settings: [][2]string{{"enable_sort", "off"}}, SQL: sql, Args: []any{tenantA.String()},
			Within: 7 * time.Second, KeepSnapshot: keep}
		set, plain := seen{true, "off", "7s", "auto"}, seen{true, "on", "0", "auto"}
		if keep {
			set.Plan = "force_generic_plan"
		}
		if err := door.Once(t.Context(), tenantA, s, read); err != nil || got != set {
			t.Errorf("once: %+v, %v", got, err)
		}
		if err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
			for range 2 {
				if err := tenantdb.Send(ctx, tx, s, read); err != nil || got != set {
					t.Errorf("in a transaction: %+v, %v", got, err)
				}
				if err := tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: sql, Args: s.Args}, read); err != nil ||
					got != plain {
					t.Errorf("behind it: %+v, %v", got, err)
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	slow := tenantdb.Statement{SQL: `SELECT pg_sleep(5)`, Within: 20 * time.Millisecond}
	if err := door.Once(t.Context(), tenantA, slow, nil); !errors.Is(err, tenantdb.ErrSlow) {
		t.Errorf("five seconds in twenty milliseconds: %v", err)
	}
	if err := door.Once(t.Context(), tenantA, tenantdb.Statement{SQL: sql, Args: []any{tenantA.String()}},
		read); err != nil || !got.Own {
		t.Errorf("after it: %+v, %v", got, err)
	}
}
