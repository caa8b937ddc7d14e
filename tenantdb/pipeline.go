package tenantdb

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Query runs one statement as tenant and commits, all in one round trip: BEGIN, SET LOCAL, the
// statement and COMMIT go out together. read sees the rows before the commit is known; what it
// collected counts only when Query returns nil. A statement that fails changes nothing. It runs again,
// and read with it, only when the server said that nothing was committed, or was never asked.
func (d *Door) Query(ctx context.Context, tenant uuid.UUID, sql string, args []any, read func(pgx.Rows) error) error {
	if tenant == uuid.Nil {
		return ErrNoTenant
	}
	if ctx.Value(insideKey{}) != nil {
		return ErrNested
	}
	return again(ctx, func() (bool, error) {
		conn, err := d.pool.Acquire(ctx)
		if err != nil {
			return !refused(err), err
		}
		defer conn.Release()
		err = query(ctx, conn.Conn(), tenant, sql, args, read)
		return pgconn.SafeToRetry(err), err
	})
}

func query(ctx context.Context, conn *pgx.Conn, tenant uuid.UUID, sql string, args []any, read func(pgx.Rows) error) error {
	// Prepared once a connection, with the statement's own text as its name; where the connection URL says
	// default_query_exec_mode=exec, for a pooler that can't keep statements apart, not at all.
	var sd *pgconn.StatementDescription
	if conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		var err error
		if sd, err = conn.Prepare(ctx, sql, sql); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	var q pgx.ExtendedQueryBuilder
	if err := q.Build(conn.TypeMap(), sd, args); err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	var b pgconn.Batch
	b.ExecParams("BEGIN", nil, nil, nil, nil)
	b.ExecParams("SET LOCAL app.current_tenant = '"+tenant.String()+"'", nil, nil, nil, nil)
	if sd != nil {
		b.ExecStatement(sd, q.ParamValues, q.ParamFormats, q.ResultFormats)
	} else {
		b.ExecParams(sql, q.ParamValues, nil, q.ParamFormats, q.ResultFormats)
	}
	b.ExecParams("COMMIT", nil, nil, nil, nil)
	return readPipeline(conn, conn.PgConn().ExecBatch(ctx, &b), read)
}

// rollbackLimit bounds the one round trip that ends a failed pipeline's transaction.
const rollbackLimit = 5 * time.Second

// statementAt is where the caller's statement stands in the pipeline.
const statementAt = 2

func readPipeline(conn *pgx.Conn, results *pgconn.MultiResultReader, read func(pgx.Rows) error) error {
	var readErr error
	for i := 0; results.NextResult(); i++ {
		rr := results.ResultReader()
		if i == statementAt && read != nil {
			rows := pgx.RowsFromResultReader(conn.TypeMap(), rr)
			readErr = read(rows)
			rows.Close()
		} else {
			_, _ = rr.Close() // its error is the pipeline's
		}
	}
	if err := results.Close(); err != nil {
		// The server skips everything up to the sync, COMMIT included, and leaves the transaction open.
		ctx, cancel := context.WithTimeout(context.Background(), rollbackLimit)
		defer cancel()
		_, _ = conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll() // failing closes the connection, which rolls back too
		return err
	}
	return readErr
}
