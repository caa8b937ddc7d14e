package tenantdb_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestParamsArriveAsTheyAre sends each kind of parameter and reads it back, with and without prepared statements.
func TestParamsArriveAsTheyAre(t *testing.T) {
	const sql = `SELECT $1::uuid, $2::uuid[], $3::text, $4::jsonb, $5::int, $6::timestamptz, $7::text, $8::jsonb,
		$9::bytea`
	type row struct {
		ID      uuid.UUID
		IDs     []uuid.UUID
		Text    string
		JSON    string
		Int     int32
		Time    time.Time
		Missing *string
		NoJSON  []byte
		Bytes   []byte
	}
	database := testkit.Database(t)
	for _, mode := range []string{"cache_statement", "exec"} {
		t.Run(mode, func(t *testing.T) {
			door, err := tenantdb.Open(t.Context(), database.URL("konstruct_app")+"?default_query_exec_mode="+mode)
			if err != nil {
				t.Fatal(err)
			}
			defer door.Close()
			for _, want := range []row{
				{ID: tenantA, IDs: []uuid.UUID{tenantB, tenantA}, Text: "Grüße, 世界", JSON: `{"a": [1, 2.50]}`,
					Int: 7, Time: time.Date(2026, 11, 30, 1, 2, 3, 456789000, time.UTC)},
				{Text: strings.Repeat("x", 1<<20), JSON: `"x"`, Int: math.MinInt32,
					Time: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)},
				{ID: uuid.Max, IDs: slices.Repeat([]uuid.UUID{tenantA}, 3000), JSON: `null`, Int: math.MaxInt32,
					Time: time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)},
				{JSON: `[]`, Time: time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)},
			} {
				var got row
				err := door.Stream(t.Context(), []tenantdb.Part{{Tenant: tenantA, SQL: sql,
					Params: func(p *tenantdb.Params) {
						p.UUID(want.ID)
						p.UUIDs(want.IDs)
						p.Text(want.Text)
						p.JSON([]byte(want.JSON))
						p.Int(want.Int)
						p.Time(want.Time)
						p.Null()
						p.JSON(nil)
						p.Bytes([]byte{0, 255, '\\'})
					}, Read: func(rows pgx.Rows) (err error) {
						got, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[row])
						return err
					}}})
				if err != nil {
					t.Fatal(err)
				}
				if got.ID != want.ID || !slices.Equal(got.IDs, want.IDs) || got.Text != want.Text ||
					got.JSON != want.JSON || got.Int != want.Int || !got.Time.Equal(want.Time) ||
					got.Missing != nil || got.NoJSON != nil || string(got.Bytes) != "\x00\xff\\" {
					t.Errorf("sent %.200v\ngot  %.200v", want, got)
				}
			}
		})
	}
}
