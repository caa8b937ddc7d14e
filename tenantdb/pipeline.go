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
	return d.pipelined(ctx, tenant, func(conn *pgx.Conn) error {
		return query(ctx, conn, tenant, d.CanSee(ctx), sql, args, read)
	})
}

// pipelined runs a pipeline on a connection of its own, and again where that is safe.
func (d *Door) pipelined(ctx context.Context, tenant uuid.UUID, run func(*pgx.Conn) error) error {
	if err := CanOpen(ctx, tenant); err != nil {
		return err
	}
	return retriable(ctx, func() (bool, error) {
		conn, lost, err := d.acquire(ctx)
		if err != nil {
			return lost, err
		}
		defer conn.Release()
		if err = run(conn.Conn()); err != nil {
			rollback(conn.Conn())
		}
		return pgconn.SafeToRetry(err), err
	})
}

func query(ctx context.Context, conn *pgx.Conn, tenant uuid.UUID, sees Labels, sql string, args []any,
	read func(pgx.Rows) error) error {
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
	b.ExecParams(sees.set(), nil, nil, nil, nil)
	if sd != nil {
		b.ExecStatement(sd, q.ParamValues, q.ParamFormats, q.ResultFormats)
	} else {
		b.ExecParams(sql, q.ParamValues, nil, q.ParamFormats, q.ResultFormats)
	}
	b.ExecParams("COMMIT", nil, nil, nil, nil)
	return readPipeline(conn, conn.PgConn().ExecBatch(ctx, &b), statementAt, read)
}

// rollbackLimit bounds the one round trip that ends a failed pipeline's transaction.
const rollbackLimit = 5 * time.Second

// statementAt is the position of the caller's statement in the pipeline.
const statementAt = 3

func readPipeline(conn *pgx.Conn, results *pgconn.MultiResultReader, at int, read func(pgx.Rows) error) error {
	var readErr error
	for i := 0; results.NextResult(); i++ {
		rr := results.ResultReader()
		if i == at && read != nil {
			rows := pgx.RowsFromResultReader(conn.TypeMap(), rr)
			readErr = read(rows)
			rows.Close()
		} else {
			_, _ = rr.Close() // its error is the pipeline's
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	return readErr
}

// Part is one statement of a stream, run as its tenant.
type Part struct {
	Tenant uuid.UUID
	SQL    string
	Params func(*Params) // asked once a try, when the statement is to go out
	// Read, when not nil, reads the statement's rows. They come when the transaction has ended, so its error takes
	// nothing back.
	Read func(pgx.Rows) error
}

// Stream runs statements in one transaction and commits, in one round trip: each goes out as soon as its
// arguments are made, so the server works on one while the caller makes the next. The tenant is set anew
// before the first statement of each, so every row is verified against its own. No document is seen: labels are
// not set, so that what logs events pays nothing for them. When one
// statement fails nothing is changed. Like Query it runs again only when surely nothing was committed.
func (d *Door) Stream(ctx context.Context, parts []Part) error {
	if len(parts) == 0 {
		return nil
	}
	for _, p := range parts {
		if p.Tenant == uuid.Nil {
			return ErrNoTenant
		}
	}
	return d.pipelined(ctx, parts[0].Tenant, func(conn *pgx.Conn) error { return stream(ctx, conn, parts) })
}

func stream(ctx context.Context, conn *pgx.Conn, parts []Part) error {
	prepared := make([]*pgconn.StatementDescription, len(parts))
	if conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		for i, part := range parts {
			sd, err := conn.Prepare(ctx, part.SQL, part.SQL) // once a connection
			if err != nil {
				return fmt.Errorf("prepare: %w", err)
			}
			prepared[i] = sd
		}
	}
	p := conn.PgConn().StartPipeline(ctx)
	p.SendQueryParams("BEGIN", nil, nil, nil, nil)
	reads := []func(pgx.Rows) error{nil} // of each statement sent
	failed := send(p, conn, parts, prepared, &reads)
	if failed == nil {
		p.SendQueryParams("COMMIT", nil, nil, nil, nil)
	}
	if err := p.Sync(); err != nil && failed == nil {
		failed = err
	}
	var wrong error  // what the first reader said that found something wrong
	for at := 0; ; { // the first error is the one that says why
		results, err := p.GetResults()
		if err != nil || results == nil {
			if failed == nil {
				failed = err
			}
			break
		}
		rr, ok := results.(*pgconn.ResultReader)
		if !ok {
			continue
		}
		if at < len(reads) && reads[at] != nil { // the others' rows too: they tell what became of theirs
			rows := pgx.RowsFromResultReader(conn.TypeMap(), rr)
			if err := reads[at](rows); err != nil && wrong == nil {
				wrong = err
			}
			rows.Close()
		}
		at++
		if _, err := rr.Close(); err != nil && failed == nil {
			failed = err
		}
	}
	if err := p.Close(); err != nil && failed == nil {
		failed = err
	}
	if failed == nil {
		failed = wrong
	}
	return failed
}

func send(p *pgconn.Pipeline, conn *pgx.Conn, parts []Part, prepared []*pgconn.StatementDescription,
	reads *[]func(pgx.Rows) error) error {
	tenant := uuid.Nil
	for i, part := range parts {
		if part.Tenant != tenant {
			tenant = part.Tenant
			p.SendQueryParams("SET LOCAL app.current_tenant = '"+tenant.String()+"'", nil, nil, nil, nil)
			*reads = append(*reads, nil)
		}
		var params Params
		part.Params(&params)
		*reads = append(*reads, part.Read)
		if sd := prepared[i]; sd != nil {
			formats := make([]int16, len(sd.Fields))
			for f := range sd.Fields {
				formats[f] = conn.TypeMap().FormatCodeForOID(sd.Fields[f].DataTypeOID)
			}
			p.SendQueryStatement(sd, params.values, params.formats, formats)
		} else {
			p.SendQueryParams(part.SQL, params.values, nil, params.formats, nil)
		}
		if i+1 == len(parts) {
			break // what comes behind it goes out with it
		}
		p.SendFlushRequest() // or the server sits on its answer, and we on ours
		if err := p.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// rollback ends what a failed pipeline left open: the server skips everything up to the sync, COMMIT
// included.
func rollback(conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackLimit)
	defer cancel()
	_, _ = conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll() // failing closes the connection, which rolls back too
}
