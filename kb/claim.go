package kb

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/fetch"
	"github.com/konstruct/konstruct/tenantdb"
)

// How long a job may be left alone, and how often one is tried that fails for a reason that may pass.
const (
	leaseTime    = 15 * time.Second // somebody else takes over a job whose worker said nothing for so long
	renewEvery   = 3 * time.Second
	maxAttempts  = 6
	firstWait    = 10 * time.Second // before the second try; four times as long before each further one
	releaseDelay = 5 * time.Second
)

// errClaimLost says that a job is not this worker's any more.
var errClaimLost = errors.New("it was cancelled, or somebody else works on it")

// claim is a job that this process works on.
type claim struct {
	id, agent uuid.UUID
	attempt   int
	upload    Upload
	sees      tenantdb.Labels // of the caller who enqueued it
	ctx       context.Context // ends when the job is this worker's no more
	cancel    context.CancelCauseFunc

	mu               sync.Mutex
	embedded, chunks int
}

// progress says how many of the file's chunks are embedded.
func (c *claim) progress(embedded, chunks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.embedded, c.chunks = embedded, chunks
}

// claimSet are a turn's jobs: they are renewed until each is settled.
type claimSet struct {
	door   *tenantdb.Door
	tenant uuid.UUID
	log    *slog.Logger // nil is slog.Default()

	mu   sync.Mutex
	open map[uuid.UUID]*claim
}

//go:embed sql/claim_job.sql
var claimJobSQL string

// claim claims the job that is due for longest, or one whose lease has run out; nil when there is none.
func (k *claimSet) claim(ctx context.Context) (c *claim, err error) {
	err = k.door.Query(ctx, k.tenant, claimJobSQL,
		[]any{k.tenant, leaseTime}, func(rows pgx.Rows) error {
			c, err = pgx.CollectExactlyOneRow(rows, func(r pgx.CollectableRow) (*claim, error) {
				var c claim
				u := &c.upload
				var sees []string
				err := r.Scan(&c.id, &c.agent, &c.attempt, &u.Source, &u.Filename, &u.Labels, &u.Metadata,
					&u.Chunking, &u.ETag, &u.leaf, &u.Seq, &sees, &u.Collections, &u.Attributes, &u.File, &u.Content)
				c.sees = tenantdb.LabelsOf(sees...)
				return &c, err
			})
			return err
		})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kb: take up a job: %w", err)
	}
	c.ctx, c.cancel = context.WithCancelCause(tenantdb.WithLabels(ctx, c.sees))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open[c.id] = c
	return c, nil
}

// all are the jobs that are not settled.
func (k *claimSet) all() (open []*claim) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.open {
		open = append(open, c)
	}
	return open
}

// remove lets go of a job.
func (k *claimSet) remove(c *claim) {
	c.cancel(nil)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.open, c.id)
}

// renewUntil says that the jobs are worked on, and how far they are, until the context ends. A job that was cancelled
// is lost.
func (k *claimSet) renewUntil(ctx context.Context) {
	for t := time.NewTicker(renewEvery); ; {
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		for _, c := range k.all() {
			c.mu.Lock()
			embedded, chunks := c.embedded, c.chunks
			c.mu.Unlock()
			err := k.update(ctx, c, `due = now() + $4::interval, embedded = $5, chunks = $6`, leaseTime,
				embedded, chunks)
			if errors.Is(err, errClaimLost) {
				c.cancel(errClaimLost)
			} // while the database is unavailable the lease runs on
		}
	}
}

// claimedSQL is the condition that a job is still this worker's.
const claimedSQL = ` WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'`

// update changes a job that is still this worker's, or returns errTaken.
func (k *claimSet) update(ctx context.Context, c *claim, set string, args ...any) error {
	is := false
	err := k.door.Query(ctx, k.tenant, `UPDATE kb_jobs SET `+set+claimedSQL+` RETURNING 1`,
		append([]any{k.tenant, c.id, c.attempt}, args...), func(rows pgx.Rows) error {
			is = rows.Next()
			return rows.Err()
		})
	if err == nil && !is {
		err = errClaimLost
	}
	return err
}

// doneSQL ends a job, and forgets its file.
const doneSQL = `WITH ended AS (UPDATE kb_jobs
	SET state = 'done', document_id = nullif($4::uuid, '00000000-0000-0000-0000-000000000000'), outcome = $5,
	chunks = $6, embedded = $6, reason = '', finished_at = now()` + claimedSQL + ` RETURNING id),
  cleared AS (DELETE FROM kb_uploads WHERE tenant_id = $1 AND job_id IN (SELECT id FROM ended))
  SELECT count(*) FROM ended`

// done ends a job in the transaction that stores its document, or returns errTaken.
func (c *claim) done(ctx context.Context, tx pgx.Tx, tenant, document uuid.UUID, o Outcome, chunks int) error {
	var n int
	if err := tx.QueryRow(ctx, doneSQL, tenant, c.id, c.attempt, document, o, chunks).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return errClaimLost
	}
	return nil
}

// settle notes what became of a job, unless it was noted with its document.
func (k *claimSet) settle(ctx context.Context, j *ingestJob) (err error) {
	c := j.claim
	defer k.remove(c)
	switch {
	case errors.Is(j.Err, errClaimLost):
		return nil
	case isSuperseded(j.Err):
		err = k.cancel(ctx, c, j.Err)
	case errors.Is(j.Err, fetch.ErrAway), errors.Is(j.Err, errRechunked):
		err = k.retry(ctx, c, j.Err)
	case j.Err != nil:
		err = k.fail(ctx, c, j.Err)
	case j.stored:
		return nil
	default:
		err = k.door.Tx(ctx, k.tenant, func(ctx context.Context, tx pgx.Tx) error {
			return c.done(ctx, tx, k.tenant, j.DocumentID, j.Outcome, j.Chunks)
		})
	}
	if errors.Is(err, errClaimLost) {
		err = nil
	}
	return err
}

// retry has a job wait for its next try, longer each time, and not for ever.
func (k *claimSet) retry(ctx context.Context, c *claim, why error) error {
	if c.attempt >= maxAttempts {
		return k.fail(ctx, c, why)
	}
	k.unreported(ctx, c, why)
	return k.update(ctx, c, `state = 'queued', due = now() + $4::interval, reason = $5`, firstWait<<(2*(c.attempt-1)),
		failureReason(why))
}

// fail ends a job that is not ingested.
func (k *claimSet) fail(ctx context.Context, c *claim, why error) error {
	k.unreported(ctx, c, why)
	return k.update(ctx, c, `state = 'failed', finished_at = now(), reason = $4`, failureReason(why))
}

// unreported writes into the log what a job's reason does not say of why it failed.
func (k *claimSet) unreported(ctx context.Context, c *claim, why error) {
	if _, whole := disclosure.Reason(why); !whole {
		cmp.Or(k.log, slog.Default()).WarnContext(ctx, "a document was not ingested", "tenant", k.tenant, "job",
			c.id, "attempt", c.attempt, "error", why)
	}
}

// cancel ends a job that something newer of its source overtook, and forgets its file.
func (k *claimSet) cancel(ctx context.Context, c *claim, why error) error {
	return k.door.Tx(ctx, k.tenant, func(ctx context.Context, tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, `WITH ended AS (
		    UPDATE kb_jobs SET state = 'cancelled', reason = $4, finished_at = now()`+claimedSQL+` RETURNING id),
		  cleared AS (DELETE FROM kb_uploads WHERE tenant_id = $1 AND job_id IN (SELECT id FROM ended))
		  SELECT count(*) FROM ended`, k.tenant, c.id, c.attempt, failureReason(why)).Scan(&n); err != nil || n > 0 {
			return err
		}
		return errClaimLost
	})
}

// release has the jobs that are not settled wait again: the one that a turn failed on for longer each time, and not for
// ever.
func (k *claimSet) release(ctx context.Context, failed *failure) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseDelay)
	defer cancel()
	var errs []error
	for _, c := range k.all() {
		var err error
		if failed != nil && failed.j.claim == c {
			err = k.retry(ctx, c, failed)
		} else {
			err = k.update(ctx, c, `state = 'queued', due = now(), attempt = attempt - 1`)
		}
		k.remove(c)
		if !errors.Is(err, errClaimLost) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
