// Package migrations holds the schema as SQL and brings a database to it.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // goose speaks database/sql
	"github.com/pressly/goose/v3"
)

//go:embed *.sql
var files embed.FS

// sealBatch is how many adopted events one transaction seals.
const sealBatch = 5000

// Up brings the database at the owner's URL to the newest version and seals events that were there
// before sealing was. It can be killed at any point and run again.
func Up(ctx context.Context, ownerURL string, progress func(sealed int)) error {
	db, err := sql.Open("pgx", ownerURL)
	if err != nil {
		return fmt.Errorf("open the owner's database: %w", err)
	}
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return sealAdopted(ctx, db, progress)
}

func sealAdopted(ctx context.Context, db *sql.DB, progress func(int)) error {
	rows, err := db.QueryContext(ctx, `SELECT tenant_id::text FROM audit_adoptions WHERE finished_at IS NULL ORDER BY tenant_id`)
	if err != nil {
		return fmt.Errorf("list tenants to adopt: %w", err)
	}
	defer rows.Close()
	var tenants []string
	for rows.Next() {
		var t string
		if err := rows.Scan(&t); err != nil {
			return err
		}
		tenants = append(tenants, t)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, t := range tenants {
		for n := 1; n > 0; {
			if n, err = sealSome(ctx, db, t); err != nil {
				return fmt.Errorf("seal adopted events of tenant %s: %w", t, err)
			}
			progress(n)
		}
	}
	return nil
}

func sealSome(ctx context.Context, db *sql.DB, tenant string) (n int, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `SELECT set_config('app.current_tenant', $1, true)`, tenant); err != nil {
		return 0, err
	}
	if err := tx.QueryRowContext(ctx, `SELECT audit_seal_adopted($1, $2)`, tenant, sealBatch).Scan(&n); err != nil {
		return 0, err
	}
	return n, tx.Commit()
}
