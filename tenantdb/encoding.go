package tenantdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// EncodingError says that a database has another encoding than UTF8. It would refuse some of the text that callers
// send, and a leaf commits to bytes of UTF-8.
type EncodingError struct{ Encoding string }

// Error implements error.
func (e *EncodingError) Error() string {
	return fmt.Sprintf("the database's encoding is %s, it must be UTF8: "+
		"create it with ENCODING 'UTF8' TEMPLATE template0",
		e.Encoding)
}

// CheckEncoding returns an EncodingError for a connection to a database whose encoding is not UTF8. The server names it
// when a connection begins, so this sends nothing.
func CheckEncoding(conn *pgx.Conn) error {
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "" && encoding != "UTF8" {
		return &EncodingError{encoding}
	}
	return nil
}

// newPool connects lazily, and only to a database whose encoding is UTF8.
func newPool(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error { return CheckEncoding(conn) }
	return pgxpool.NewWithConfig(ctx, config)
}

// openPool is newPool for a URL.
func openPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	return newPool(ctx, config)
}
