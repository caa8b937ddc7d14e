package migrations_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
)

// TestAWriteOfAnOldSnapshotWakesTheIndexBuilder stores a passage in a transaction whose snapshot still has a ticket
// that was deleted meanwhile.
func TestAWriteOfAnOldSnapshotWakesTheIndexBuilder(t *testing.T) {
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		d, app, _ := labelled(t) // which stored a passage
		super := testkit.Connect(t, d.SuperuserURL())
		tx, err := app.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []func() error{
			func() error {
				_, err := tx.Exec(t.Context(), `SELECT set_config('app.current_tenant', '`+tenantA+`', true),
					set_config('app.current_labels', '*', true), (SELECT count(*) FROM kb_chunks)`)
				return err
			},
			func() error {
				_, err := super.Exec(t.Context(), `DELETE FROM river_job WHERE queue = 'indexes'`)
				return err
			},
			func() error {
				_, err := tx.Exec(t.Context(), `INSERT INTO kb_chunks (tenant_id, document_id, content, embedding)
					VALUES ('`+tenantA+`', '`+docLegal+`', 'x', `+vector+`)`)
				return err
			},
			func() error { return tx.Commit(t.Context()) },
		} {
			if err := step(); err != nil {
				t.Fatalf("%s: %v", level, err)
			}
		}
		var n int
		if err := super.QueryRow(t.Context(), `SELECT count(*) FROM river_job WHERE queue = 'indexes'`).
			Scan(&n); err != nil || n != 1 {
			t.Errorf("%s: %d tickets, %v", level, n, err)
		}
	}
}
