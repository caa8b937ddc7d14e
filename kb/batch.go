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

// Batch is files that were attached to a collection together. One that was taken out or attached again since does not
// count.
type Batch struct {
	ID                               uuid.UUID
	Collection                       uuid.UUID
	Cancelled                        bool
	CreatedAt                        time.Time
	Pending, Done, Failed, Withdrawn int // Withdrawn were cancelled
}

// ErrNoBatch says that a collection has no such batch.
var ErrNoBatch = errors.New("there is no such batch of this collection")

// AttachBatch is Attach of a new batch.
func AttachBatch(ctx context.Context, tx pgx.Tx, tenant, agent, collection uuid.UUID,
	all []Attachment) (b Batch, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return b, err
	}
	if _, err = lockCollection(ctx, tx, tenant, collection, ` FOR KEY SHARE`); err != nil {
		return b, err
	}
	if _, err = tx.Exec(ctx, `INSERT INTO kb_file_batches (tenant_id, id, collection_id)
	    VALUES ($1, $2, $3)`, tenant, id,
		collection); err != nil {
		return b, fmt.Errorf("kb: attach a batch: %w", err)
	}
	if err := Attach(ctx, tx, tenant, agent, collection, &id, all); err != nil {
		return b, err
	}
	return getBatch(ctx, tx, tenant, collection, id)
}

// GetBatch returns a batch, ErrNoCollection or ErrNoBatch.
func GetBatch(ctx context.Context, door *tenantdb.Door, tenant, collection, id uuid.UUID) (b Batch, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockCollection(ctx, tx, tenant, collection, ``); err != nil {
			return err
		}
		b, err = getBatch(ctx, tx, tenant, collection, id)
		return err
	})
	return b, err
}

func getBatch(ctx context.Context, tx pgx.Tx, tenant, collection, id uuid.UUID) (b Batch, err error) {
	rows, err := tx.Query(ctx, `SELECT b.id, b.collection_id, b.cancelled, b.created_at,
	       count(*) FILTER (WHERE e.state IN ('queued', 'running')), count(*) FILTER (WHERE e.state = 'done'),
	       count(*) FILTER (WHERE e.state = 'failed'), count(*) FILTER (WHERE e.state = 'cancelled')
	  FROM kb_file_batches b
	  LEFT JOIN kb_collection_documents e ON e.tenant_id = b.tenant_id AND e.batch_id = b.id
	 WHERE b.tenant_id = $1 AND b.collection_id = $2 AND b.id = $3 GROUP BY b.tenant_id, b.id`, tenant, collection, id)
	if err == nil {
		b, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Batch])
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return b, ErrNoBatch
	}
	if err != nil {
		return b, fmt.Errorf("kb: get a batch: %w", err)
	}
	return b, nil
}

// CancelBatch has those files of a batch not be ingested that are not yet, within the caller's transaction. What others
// wait for, too, is ingested all the same. It returns the batch, ErrNoCollection or ErrNoBatch.
func CancelBatch(ctx context.Context, tx pgx.Tx, tenant, collection, id uuid.UUID) (b Batch, err error) {
	if _, err := lockCollection(ctx, tx, tenant, collection, ``); err != nil {
		return b, err
	}
	if b, err = getBatch(ctx, tx, tenant, collection, id); err != nil || b.Pending == 0 {
		return b, err
	}
	// Whoever ends a job has its row before those of the entries that wait for it: so does this.
	var jobs []uuid.UUID
	rows, err := tx.Query(ctx, `SELECT j.id FROM kb_jobs j WHERE j.tenant_id = $1 AND j.state IN ('queued', 'running')
	     AND j.id IN (SELECT e.job_id FROM kb_collection_documents e
	                   WHERE e.tenant_id = $1 AND e.batch_id = $2 AND e.state IN ('queued', 'running'))
	   ORDER BY j.id FOR NO KEY UPDATE`, tenant, id)
	if err == nil {
		jobs, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	}
	for _, sql := range []string{
		`UPDATE kb_collection_documents SET state = 'cancelled', job_id = NULL
		  WHERE tenant_id = $1 AND batch_id = $2 AND job_id = ANY ($3) AND state IN ('queued', 'running')`,
		`UPDATE kb_jobs j SET state = 'cancelled', finished_at = now(), reason = ''
		  WHERE j.tenant_id = $1 AND j.id = ANY ($3) AND j.state IN ('queued', 'running') AND $2::uuid IS NOT NULL
		    AND NOT EXISTS (SELECT FROM kb_collection_documents e WHERE e.tenant_id = $1 AND e.job_id = j.id)`,
		`UPDATE kb_file_batches SET cancelled = true WHERE tenant_id = $1 AND id = $2 AND $3::uuid[] IS NOT NULL`,
	} {
		if err == nil {
			_, err = tx.Exec(ctx, sql, tenant, id, jobs)
		}
	}
	if err != nil {
		return b, fmt.Errorf("kb: cancel a batch: %w", err)
	}
	return getBatch(ctx, tx, tenant, collection, id)
}
