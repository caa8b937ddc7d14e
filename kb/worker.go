package kb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// workTime is how long one ticket of the queue claims further documents.
const workTime = 2 * time.Second

// endedJobTTL is when jobs that are done or cancelled are forgotten.
const endedJobTTL = 7 * 24 * time.Hour

// diedReason begins the reason of a job whose workers did not survive it.
const diedReason = "whoever worked on it died"

// Work ingests, for a short while, what was enqueued for a tenant. It returns false where nothing is due.
func (in *Ingester) Work(ctx context.Context, tenant uuid.UUID) (worked bool, err error) {
	k := &claimSet{door: in.Door, tenant: tenant, log: in.Logger, open: map[uuid.UUID]*claim{}}
	renewing, stop := context.WithCancel(ctx)
	var renewer sync.WaitGroup
	renewer.Go(func() { k.renewUntil(renewing) })
	until := time.Now().Add(workTime)
	err = in.run(ctx, tenant, func(ctx context.Context, put func(*ingestJob) bool) error {
		for more := true; more && (!worked || time.Now().Before(until)); {
			c, err := k.claim(ctx)
			if err != nil || c == nil {
				return err
			}
			worked = true
			if more, err = in.unpackFile(k, c, put); err != nil {
				return err
			}
		}
		return nil
	}, func(j *ingestJob) error { return k.settle(ctx, j) })
	stop()
	renewer.Wait()
	var failed *failure
	errors.As(err, &failed)
	return worked, errors.Join(err, k.release(ctx, failed))
}

// Prepare reports whether anything of the tenant's waits or is in progress.
func (in *Ingester) Prepare(ctx context.Context, tenant uuid.UUID) (open bool, err error) {
	err = in.Door.Query(ctx, tenant,
		`WITH old AS (DELETE FROM kb_jobs
		WHERE tenant_id = $1 AND state IN ('done', 'cancelled') AND finished_at < now() - $2::interval)
	  SELECT EXISTS (SELECT FROM kb_jobs WHERE tenant_id = $1 AND state IN ('queued', 'running'))`,
		[]any{tenant, endedJobTTL}, func(rows pgx.Rows) error {
			open, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
			return err
		})
	return open, err
}

// unpackFile puts a job's file, or enqueues what it holds where it is an archive, a mailbox, a sitemap or a feed.
func (in *Ingester) unpackFile(k *claimSet, c *claim, put func(*ingestJob) bool) (more bool, err error) {
	itself := func(f file, err error) bool {
		return put(&ingestJob{file: f, options: c.upload.DocumentOptions, claim: c,
			documentContent: documentContent{agent: c.agent, seq: c.upload.Seq}, IngestResult: f.result(err)})
	}
	f := file{path: c.upload.Source, url: c.upload.Source, called: c.upload.Filename, named: true,
		raw: c.upload.Content, etag: c.upload.ETag}
	switch {
	case c.attempt > maxAttempts:
		return itself(f, fmt.Errorf(diedReason+", %d times", maxAttempts)), nil
	case f.raw == nil && c.upload.File != nil:
		return itself(f, errFileGone), nil
	case f.raw == nil:
		if f, err = in.page(c.upload.Source); err != nil {
			return itself(f, err), nil
		}
	}
	f.leaf = c.upload.leaf
	h := &enqueuer{door: in.Door, tenant: k.tenant, agent: c.agent, options: c.upload.DocumentOptions,
		seq: c.upload.Seq}
	whole := false
	u := in.unpacking(c.ctx, k.tenant, c.upload.Chunking, func(g file, failed error) bool {
		if g.path == f.path && g.member == "" {
			whole, more = true, itself(g, failed)
			return more
		}
		if c.upload.File != nil { // one file is one document
			whole, more = true, itself(f, errFileHolds)
			return false
		}
		return skipResult(failed) || h.add(c.ctx, g, failed)
	})
	u.later = true
	u.file(f, 0)
	switch cause := context.Cause(c.ctx); {
	case errors.Is(cause, errClaimLost):
		k.remove(c)
		return true, nil
	case cause != nil:
		return false, nil // run says why
	}
	if h.flush(c.ctx); h.err != nil {
		return false, &failure{&ingestJob{claim: c}, h.err}
	}
	if whole {
		return more, nil
	}
	return put(&ingestJob{claim: c, IngestResult: IngestResult{Path: f.label(), Outcome: Unpacked}}), nil
}
