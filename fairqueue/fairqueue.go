// Package fairqueue gives each tenant with something to do a fair share of the workers: one ticket a tenant, which goes
// to the end of the queue after each turn. It runs River (https://riverqueue.com) as konstruct_worker, which sees
// tickets and no tenant's rows. It must not know what the work is.
package fairqueue

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// Worker is what a turn is used for.
type Worker interface {
	// Work works for a tenant for a short while; it returns false where there was nothing to do.
	Work(ctx context.Context, tenant uuid.UUID) (worked bool, err error)
	// Prepare reports whether anything of the tenant's waits or is in progress.
	Prepare(ctx context.Context, tenant uuid.UUID) (bool, error)
}

// Scheduler is a Worker whose work has times of its own, up to days ahead. A ticket waits until then, and what is due
// earlier adds another ticket, so its wake trigger looks for one that is scheduled early enough: 00016_webhooks.sql.
type Scheduler interface {
	Worker
	// Next returns in what time something of the tenant's is due, 0 for now; open is false where nothing waits.
	Next(ctx context.Context, tenant uuid.UUID) (wait time.Duration, open bool, err error)
}

// The lines that tenants wait in.
const (
	Documents = "tenants"  // what waits is to be ingested
	Indexes   = "indexes"  // passages were added or removed: is an index due?
	Reports   = "reports"  // log records of calls wait for their spans
	Webhooks  = "webhooks" // messages are to be delivered
	// Collections of documents are to expire.
	Collections = "collections"
)

// Queue is one line, and what a turn in it is used for.
type Queue struct {
	Name        string // one of the constants above
	Concurrency int    // how many tenants have a turn at one time
	Worker      Worker
}

// Config says where tickets are, and what for.
type Config struct {
	DatabaseURL string // of konstruct_worker
	Queues      []Queue
	Logger      *slog.Logger
}

// How long a ticket waits before its next turn.
const (
	retryDelay = 5 * time.Second        // a turn failed: the database or the model is unavailable
	openPoll   = time.Second            // what is left is for later, or with somebody else
	heldPoll   = 100 * time.Millisecond // somebody is handing something over
	poll       = 200 * time.Millisecond // how often tickets are looked for without a notification
	sweepEvery = 5 * time.Second        // tickets of a worker that died are found after
	doneTTL    = time.Hour              // tickets that are done are kept
	soon       = 5 * time.Second        // how often River looks for tickets that are scheduled
)

const (
	schema    = "public"
	drainTime = 10 * time.Second // how long turns in progress are waited for when the context ends
)

// ticket is a tenant's place in the line.
type ticket struct {
	Tenant uuid.UUID `json:"tenant"`
}

// Kind implements river.JobArgs.
func (ticket) Kind() string { return "tenant" }

// Run deals out turns until the context ends, and then waits a little for those in progress.
func Run(ctx context.Context, c Config) error {
	pool, err := pgxpool.New(ctx, c.DatabaseURL)
	if err != nil {
		return fmt.Errorf("open the worker's database: %w", err)
	}
	defer pool.Close()
	d := &dispatcher{pool: pool, work: map[string]Worker{}, log: c.Logger, id: uuid.NewString(), ending: ctx.Done()}
	queues := map[string]river.QueueConfig{}
	for _, l := range c.Queues {
		d.work[l.Name], queues[l.Name] = l.Worker, river.QueueConfig{MaxWorkers: l.Concurrency}
	}
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, d); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		ID: d.id, Schema: schema, Workers: workers, Logger: slog.New(warnings{c.Logger.Handler()}), JobTimeout: -1,
		FetchPollInterval: poll, CompletedJobRetentionPeriod: doneTTL,
		Queues: queues, ReindexerSchedule: river.NeverSchedule(), SoftStopTimeout: drainTime,
	})
	if err != nil {
		return fmt.Errorf("start dealing out turns: %w", err)
	}
	if err := d.register(ctx); err != nil {
		return err
	}
	defer d.unregister()
	if err := client.Start(ctx); err != nil {
		if ctx.Err() != nil { // it was stopped before it began
			return nil
		}
		return fmt.Errorf("start dealing out turns: %w", err)
	}
	d.sweepUntil(ctx)
	<-client.Stopped()
	return nil
}

// warnings is a log handler for warnings and errors only.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

// dispatcher works tickets.
type dispatcher struct {
	river.WorkerDefaults[ticket]
	pool *pgxpool.Pool
	work map[string]Worker // by line
	log  *slog.Logger
	id   string

	ending <-chan struct{} // closed when no turn is to begin any more
	lease  *pgxpool.Conn   // holds the lock that says that this dealer lives
}

// Work implements river.Worker: it fails where the database is unavailable alone, so that River never gives a ticket
// up.
func (d *dispatcher) Work(ctx context.Context, job *river.Job[ticket]) error {
	second, err := d.hasEarlier(ctx, d.pool, job)
	if err != nil {
		return err // River tries again
	}
	if second {
		wait, err := d.deleteTicket(ctx, job, func(ctx context.Context, tx pgx.Tx) (time.Duration, bool, error) {
			second, err := d.hasEarlier(ctx, tx, job)
			return 0, !second, err
		})
		return d.snoozeAfter(ctx, job, wait, err)
	}
	var worked bool
	for again := true; again; { // where nobody else waits, the line is not gone through
		if worked, err = d.work[job.Queue].Work(ctx, job.Args.Tenant); err != nil || !worked {
			break
		}
		if again, err = d.runExclusive(ctx, job.Queue); err != nil {
			break
		}
	}
	switch {
	case err != nil && ctx.Err() == nil:
		d.log.Error("a turn failed; it is tried again", "tenant", job.Args.Tenant, "error", err)
		return river.JobSnooze(retryDelay)
	case err != nil || worked:
		return river.JobSnooze(0)
	}
	wait, err := d.deleteTicket(ctx, job, func(ctx context.Context, _ pgx.Tx) (time.Duration, bool, error) {
		if s, is := d.work[job.Queue].(Scheduler); is {
			return s.Next(ctx, job.Args.Tenant)
		}
		open, err := d.work[job.Queue].Prepare(ctx, job.Args.Tenant)
		return 0, open, err
	})
	return d.snoozeAfter(ctx, job, wait, err)
}

// snoozeAfter is what River is told after deleteTicket.
func (d *dispatcher) snoozeAfter(ctx context.Context, job *river.Job[ticket], wait time.Duration, err error) error {
	if err != nil && ctx.Err() == nil {
		d.log.Error("a ticket could not be put away; it is tried again", "tenant", job.Args.Tenant, "error", err)
		return river.JobSnooze(retryDelay)
	}
	if err != nil || wait > 0 {
		return river.JobSnooze(wait)
	}
	return nil
}

// hasEarlier reports that the tenant has an earlier ticket, which does for this one. One that is scheduled for later
// does not.
func (d *dispatcher) hasEarlier(ctx context.Context, db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, job *river.Job[ticket]) (is bool, err error) {
	err = db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM river_job WHERE tenant_id = $1
		AND queue = $2 AND finalized_at IS NULL AND id < $3
		AND (state <> 'scheduled' OR scheduled_at <= now() + $4::interval))`, job.Args.Tenant, job.Queue, job.ID,
		soon).Scan(&is)
	return is, err
}

// runExclusive reports whether no other ticket waits, and this dispatcher is not stopping.
func (d *dispatcher) runExclusive(ctx context.Context, queue string) (alone bool, err error) {
	select {
	case <-d.ending:
		return false, nil
	default:
	}
	err = d.pool.QueryRow(ctx,
		`SELECT NOT EXISTS (SELECT FROM river_job WHERE state = 'available' AND queue = $1 AND scheduled_at <= now())`,
		queue).Scan(&alone)
	return alone, err
}

// deleteTicket completes a ticket unless it is needed, or says when to look again. One that is needed later is replaced
// by one that is scheduled, in the same transaction: one that is running seems to be early enough for all that comes.
// Whoever hands something over shares a lock until that is committed, and inserts no ticket where there is one: who has
// the lock alone sees all that relies on this one.
func (d *dispatcher) deleteTicket(ctx context.Context, job *river.Job[ticket],
	needed func(context.Context, pgx.Tx) (time.Duration, bool, error)) (wait time.Duration, err error) {
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		var alone bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(hashtextextended($1 || $2::uuid, 0))`,
			workContext(job.Queue), job.Args.Tenant).Scan(&alone); err != nil {
			return err
		}
		if !alone {
			wait = heldPoll
			return nil
		}
		next, open, err := needed(ctx, tx)
		if err != nil {
			return err
		}
		if open && next <= soon {
			wait = max(next, openPoll)
			return nil
		}
		if open {
			if err := schedule(ctx, tx, job, next); err != nil {
				return err
			}
		}
		_, err = river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
	return wait, err
}

// schedule adds a ticket for later, unless another one is scheduled for then.
func schedule(ctx context.Context, tx pgx.Tx, job *river.Job[ticket], wait time.Duration) error {
	_, err := tx.Exec(ctx, `INSERT INTO river_job (kind, queue, args, state, scheduled_at)
		SELECT 'tenant', $2, jsonb_build_object('tenant', $1::uuid), 'scheduled', now() + $4::interval
		 WHERE NOT EXISTS (SELECT FROM river_job WHERE tenant_id = $1 AND queue = $2 AND finalized_at IS NULL
		   AND id <> $3 AND scheduled_at <= now() + $4::interval)`, job.Args.Tenant, job.Queue, job.ID, wait)
	return err
}

// workContext names the lock that transactions share which add work to a queue, until they commit.
func workContext(line string) string {
	switch line {
	case Indexes:
		return "konstruct indexes "
	case Reports:
		return "konstruct reports "
	case Collections:
		return "konstruct collections "
	case Webhooks:
		return "konstruct webhooks "
	}
	return "konstruct jobs "
}
