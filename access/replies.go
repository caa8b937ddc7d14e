package access

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Reply is what was answered to a request that may be made again.
type Reply struct {
	Status  int
	Headers map[string]string
	Body    []byte
}

// Errors of requests that are made again.
var (
	ErrInProgress = errors.New("a request with this Idempotency-Key is being worked on")
	ErrKeyReused  = errors.New("another request was made with this Idempotency-Key: draw a new one for each")
)

// Limits on what is kept of requests.
const (
	MaxRequestKey = 255
	MaxReply      = 1 << 20
	replyTTL      = 24 * time.Hour
	inProgress    = 2 * time.Minute // after which the process that worked on one is taken for dead
)

// Replies keeps answers, so that a request made again gets the same one, and is done once.
type Replies struct{ Door *tenantdb.Door }

// Begin records a request of a credential under its idempotency key, or returns the response that it got before. print
// distinguishes requests.
func (r Replies) Begin(ctx context.Context, w Principal, key string,
	print [sha256.Size]byte) (reply *Reply, err error) {
	err = r.Door.Tx(ctx, w.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		reply = nil
		if _, err := tx.Exec(ctx, `DELETE FROM access_requests WHERE tenant_id = $1 AND at < now() - $2::interval`,
			w.Tenant, replyTTL); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx,
			`INSERT INTO access_requests (tenant_id, credential, key, print) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant_id, credential, key) DO UPDATE SET at = now()
			WHERE access_requests.status IS NULL AND access_requests.print = EXCLUDED.print
			AND access_requests.at < now() - $5::interval`,
			w.Tenant, w.Credential, key, print[:], inProgress)
		if err != nil || tag.RowsAffected() == 1 {
			return err
		}
		var before []byte
		var status *int
		var headers []byte
		var body []byte
		if err := tx.QueryRow(ctx, `SELECT print, status, headers, body FROM access_requests
			WHERE tenant_id = $1 AND credential = $2 AND key = $3`, w.Tenant, w.Credential, key).
			Scan(&before, &status, &headers, &body); err != nil {
			return err
		}
		switch {
		case string(before) != string(print[:]):
			return ErrKeyReused
		case status == nil:
			return ErrInProgress
		}
		reply = &Reply{Status: *status, Body: body}
		return json.Unmarshal(headers, &reply.Headers)
	})
	if err != nil && !errors.Is(err, ErrKeyReused) && !errors.Is(err, ErrInProgress) {
		err = fmt.Errorf("access: note a request: %w", err)
	}
	return reply, err
}

// Used reports whether a request that is not an event's was made with an idempotency key.
func (r Replies) Used(ctx context.Context, w Principal, key string) (used bool, err error) {
	err = r.Door.Query(ctx, w.Tenant, `SELECT EXISTS (SELECT FROM access_requests
		WHERE tenant_id = $1 AND credential = $2 AND key = $3 AND at >= now() - $4::interval)`,
		[]any{w.Tenant, w.Credential, key, replyTTL}, func(rows pgx.Rows) error {
			used, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
			return err
		})
	if err != nil {
		return false, fmt.Errorf("access: look for a request: %w", err)
	}
	return used, nil
}

// End keeps what was answered; nil forgets the request, which may then be made again.
func (r Replies) End(ctx context.Context, w Principal, key string, reply *Reply) error {
	sql, args := `DELETE FROM access_requests WHERE tenant_id = $1 AND credential = $2 AND key = $3`,
		[]any{w.Tenant, w.Credential, key}
	if reply != nil {
		headers, err := json.Marshal(reply.Headers)
		if err != nil {
			return err
		}
		sql, args = `UPDATE access_requests SET status = $4, headers = $5, body = $6
			WHERE tenant_id = $1 AND credential = $2 AND key = $3`, append(args, reply.Status, headers, reply.Body)
	}
	if err := r.Door.Query(ctx, w.Tenant, sql, args, nil); err != nil {
		return fmt.Errorf("access: keep an answer: %w", err)
	}
	return nil
}

// EventID is the id of the nth event that a request logs: the same when the request is made again, so that the trail
// holds it once.
func EventID(w Principal, key string, n int) uuid.UUID {
	return uuid.NewSHA1(w.Credential, fmt.Appendf(nil, "%s\x00%d", key, n))
}
