package kb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// JobState is the state of a job.
type JobState string

// The states of a job.
const (
	JobQueued  JobState = "queued"
	JobRunning JobState = "running"
	JobDone    JobState = "done"
	JobFailed  JobState = "failed" // for good: its reason says why, and its file is kept, so that Retry can try again
	// JobCancelled by somebody; or, with a reason, because what was uploaded after it overtook it: ErrDeleted,
	// ErrSuperseded.
	JobCancelled JobState = "cancelled"
)

// Job is a document that is ingested later, or was.
type Job struct {
	ID         uuid.UUID  `json:"id"`
	Source     string     `json:"source"`
	Filename   string     `json:"filename"`
	State      JobState   `json:"state"`
	Attempt    int        `json:"attempt"`          // how often it was started
	DueAt      time.Time  `json:"due,omitzero"`     // of one that waits: not before
	Chunks     int        `json:"chunks"`           // once it is read
	Embedded   int        `json:"embedded"`         // of them so far
	DocumentID *uuid.UUID `json:"document_id"`      // once it is done
	Outcome    Outcome    `json:"outcome"`          // once it is done
	Reason     string     `json:"reason,omitempty"` // why it failed, the last time, or why it was cancelled
	EnqueuedAt time.Time  `json:"enqueued_at"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
}

// ListJobs lists a tenant's jobs in the order in which they were enqueued, in one state (empty: any), after the given
// one (uuid.Nil: from the first), at most limit of them.
func ListJobs(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, state JobState, after uuid.UUID,
	limit int) (jobs []Job, err error) {
	if limit < 1 || limit > MaxList {
		return nil, fmt.Errorf("kb: list %d jobs: the limit is 1 to %d", limit, MaxList)
	}
	err = door.Query(ctx, tenant, jobsSQL+` AND ($2 = '' OR state = $2) AND id > $3 ORDER BY id LIMIT $4`,
		[]any{tenant, string(state), after, limit}, func(rows pgx.Rows) error {
			jobs, err = pgx.CollectRows(rows, scanJob)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: list jobs: %w", err)
	}
	return jobs, nil
}

// ErrNoJob says that this tenant has no such job.
var ErrNoJob = errors.New("no such job of this tenant: it may have been forgotten")

// GetJob returns one job of a tenant, or ErrNoJob.
func GetJob(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID) (j Job, err error) {
	err = door.Query(ctx, tenant, jobsSQL+` AND id = $2`, []any{tenant, id}, func(rows pgx.Rows) error {
		j, err = pgx.CollectExactlyOneRow(rows, scanJob)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return j, ErrNoJob
	} else if err != nil {
		return j, fmt.Errorf("kb: find a job: %w", err)
	}
	return j, nil
}

const jobsSQL = `SELECT id, source, filename, state, attempt, due, chunks, embedded, document_id, outcome, reason,
	enqueued_at, started_at, finished_at FROM kb_jobs WHERE tenant_id = $1`

func scanJob(r pgx.CollectableRow) (j Job, err error) {
	err = r.Scan(&j.ID, &j.Source, &j.Filename, &j.State, &j.Attempt, &j.DueAt, &j.Chunks, &j.Embedded, &j.DocumentID,
		&j.Outcome, &j.Reason, &j.EnqueuedAt, &j.StartedAt, &j.FinishedAt)
	if j.State != JobQueued {
		j.DueAt = time.Time{}
	}
	return j, err
}

// CountJobs counts a tenant's jobs by state.
func CountJobs(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID) (map[JobState]int, error) {
	counts := map[JobState]int{}
	err := door.Query(ctx, tenant, `SELECT state, count(*) FROM kb_jobs WHERE tenant_id = $1 GROUP BY state`,
		[]any{tenant}, func(rows pgx.Rows) error {
			clear(counts)
			var s JobState
			var n int
			_, err := pgx.ForEachRow(rows, []any{&s, &n}, func() error { counts[s] = n; return nil })
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: count jobs: %w", err)
	}
	return counts, nil
}

// CancelJobs ends jobs that wait or run, and returns how many; with no ids all of the tenant's. What one that runs
// would have stored is not stored.
func CancelJobs(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, ids ...uuid.UUID) (int, error) {
	return changeJobs(ctx, door, tenant, "cancel", `WITH ended AS (
	    UPDATE kb_jobs SET state = 'cancelled', reason = '', finished_at = now()
	     WHERE tenant_id = $1 AND state IN ('queued', 'running') AND ($2::uuid[] IS NULL OR id = ANY ($2))
	     RETURNING id),
	  cleared AS (DELETE FROM kb_uploads WHERE tenant_id = $1 AND job_id IN (SELECT id FROM ended))
	  SELECT count(*) FROM ended`, ids)
}

// RetryJobs has jobs that failed tried again, and returns how many; with no ids all of the tenant's.
func RetryJobs(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, ids ...uuid.UUID) (int, error) {
	return changeJobs(ctx, door, tenant, "retry", `WITH again AS (
	    UPDATE kb_jobs SET state = 'queued', attempt = 0, due = now(), reason = '', finished_at = NULL
	     WHERE tenant_id = $1 AND state = 'failed' AND ($2::uuid[] IS NULL OR id = ANY ($2)) RETURNING id)
	  SELECT count(*) FROM again`, ids)
}

// DeleteJobs deletes jobs that ended, and the files of those that failed, and returns how many; with no ids all of the
// tenant's.
func DeleteJobs(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, ids ...uuid.UUID) (int, error) {
	return changeJobs(ctx, door, tenant, "forget", `WITH gone AS (
	    DELETE FROM kb_jobs WHERE tenant_id = $1 AND state IN ('done', 'failed', 'cancelled')
	       AND ($2::uuid[] IS NULL OR id = ANY ($2)) RETURNING id)
	  SELECT count(*) FROM gone`, ids)
}

func changeJobs(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, what, sql string,
	ids []uuid.UUID) (n int, err error) {
	err = door.Query(ctx, tenant, sql, []any{tenant, ids}, func(rows pgx.Rows) error {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("kb: %s jobs: %w", what, err)
	}
	return n, nil
}
