package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Statement is one statement and what goes before it in its transaction.
type Statement struct {
	// Settings are set until the transaction ends: name and value.
	Settings [][2]string
	SQL      string
	Args     []any
	// Within is how long the database may work on it; 0 is as long as it takes. ErrSlow when that was not enough.
	Within time.Duration
	// KeepSnapshot has the statement planned once a connection, for any arguments: for text of which there are few.
	// Else it is planned anew, for these.
	KeepSnapshot bool
}

// ErrSlow says that a statement took longer than it was let.
var ErrSlow = errors.New("the database took longer than the limit given")

// slow replaces the error of a statement that reached its time limit.
func (s Statement) slow(err error) error {
	var pg *pgconn.PgError
	if s.Within > 0 && errors.As(err, &pg) && pg.Code == "57014" { // query_canceled
		return ErrSlow
	}
	return err
}

// Send runs a statement in an open transaction, in one round trip, and leaves its settings as they were for what comes
// after it there.
func Send(ctx context.Context, tx pgx.Tx, s Statement, read func(pgx.Rows) error) error {
	return s.send(ctx, tx.Conn(), nil, nil, read)
}

// Once is Send in a transaction of its own, which ends with it: still one round trip. It runs again, as Query does,
// only where nothing can have been committed.
func (d *Door) Once(ctx context.Context, tenant uuid.UUID, s Statement, read func(pgx.Rows) error) error {
	begin := []string{"BEGIN", "SET LOCAL app.current_tenant = '" + tenant.String() + "'", d.CanSee(ctx).set()}
	return d.pipelined(ctx, tenant, func(conn *pgx.Conn) error {
		return s.send(ctx, conn, begin, []string{"COMMIT"}, read)
	})
}

// send runs what goes before, the settings, the statement, what takes the settings back, and what goes behind.
func (s Statement) send(ctx context.Context, conn *pgx.Conn, before, behind []string, read func(pgx.Rows) error) error {
	settings := slices.Clone(s.Settings)
	var sd *pgconn.StatementDescription
	if s.KeepSnapshot && conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		settings = append(settings, [2]string{"plan_cache_mode", "force_generic_plan"})
		var err error
		if sd, err = s.prepare(ctx, conn); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	if s.Within > 0 {
		settings = append(settings, [2]string{"statement_timeout", strconv.FormatInt(s.Within.Milliseconds(), 10)})
	}
	var q pgx.ExtendedQueryBuilder
	if err := q.Build(conn.TypeMap(), sd, s.Args); err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	if len(settings) > 0 { // ours alone: there is nothing to quote in them
		sets, ends := make([]string, len(settings)), len(behind) > 0 // with the transaction they go by themselves
		for i, set := range settings {
			sets[i] = "set_config('" + set[0] + "', '" + set[1] + "', true)"
			if !ends {
				behind = append(behind, "SET LOCAL "+set[0]+" TO DEFAULT")
			}
		}
		before = append(before, "SELECT "+strings.Join(sets, ", "))
	}
	var b pgconn.Batch
	for _, sql := range before {
		b.ExecParams(sql, nil, nil, nil, nil)
	}
	if sd != nil {
		b.ExecStatement(sd, q.ParamValues, q.ParamFormats, q.ResultFormats)
	} else {
		b.ExecParams(s.SQL, q.ParamValues, nil, q.ParamFormats, q.ResultFormats)
	}
	for _, sql := range behind {
		b.ExecParams(sql, nil, nil, nil, nil)
	}
	return s.slow(readPipeline(conn, conn.PgConn().ExecBatch(ctx, &b), len(before), read))
}

// prepare plans the statement on this connection, once.
func (s Statement) prepare(ctx context.Context, conn *pgx.Conn) (*pgconn.StatementDescription, error) {
	if s.Within == 0 {
		return conn.Prepare(ctx, s.SQL, s.SQL)
	}
	limited, cancel := context.WithTimeout(ctx, s.Within) // the server's own limit is for what is run
	defer cancel()
	sd, err := conn.Prepare(limited, s.SQL, s.SQL)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = ErrSlow
	}
	return sd, err
}
