package tenantdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Send runs settings and then one statement in an open transaction, all in one round trip. The statement is planned with its arguments' values and is not kept: it is
// for text that differs from tenant to tenant.
func Send(ctx context.Context, tx pgx.Tx, settings []string, sql string, args []any, read func(pgx.Rows) error) error {
	conn := tx.Conn()
	var q pgx.ExtendedQueryBuilder
	if err := q.Build(conn.TypeMap(), nil, args); err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	var b pgconn.Batch
	for _, s := range settings {
		b.ExecParams(s, nil, nil, nil, nil)
	}
	b.ExecParams(sql, q.ParamValues, nil, q.ParamFormats, q.ResultFormats)
	return readPipeline(conn, conn.PgConn().ExecBatch(ctx, &b), len(settings), read)
}
