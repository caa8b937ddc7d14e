package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/parse"
	"github.com/konstruct/konstruct/plural"
)

// readFilesCmd is the process that reads strangers' files.
type readFilesCmd struct{}

// Run reads the files that standard input gives.
func (readFilesCmd) Run(ctx context.Context, a *app) error {
	tokens, err := embed.FindTokenizer(a.AssetsDir)
	if err != nil {
		return err
	}
	limits := parse.DefaultLimits
	limits.Time *= 2 // the parent ends the process before that
	return parse.Serve(ctx, parse.NewLocal(tokens, limits), os.Stdin, a.out)
}

// readCommand starts this program as a process that reads files.
func (a *app) readCommand() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	parts, err := filepath.Abs(a.AssetsDir)
	if err != nil {
		return nil, err
	}
	return []string{self, "read-files", "--assets-dir", parts}, nil
}

// enqueue hands files over.
func (c kbIngestCmd) enqueue(ctx context.Context, a *app, agent *konstruct.Agent,
	options konstruct.DocumentOptions) error {
	s, handed := newSummary(), 0
	err := agent.EnqueueFiles(ctx, c.Paths, options, func(r konstruct.IngestResult) {
		if r.Err == nil && r.Outcome == "" {
			handed++
			return
		}
		s.add(r)
	})
	if err != nil {
		return err
	}
	if a.JSON {
		err = a.json(map[string]any{"enqueued": handed, "unchanged": s.Unchanged, "skipped": s.Skipped,
			"links_passed_over": s.Links, "links": s.LinkPaths, "failed": s.Failed})
	} else {
		a.failures(s.Failed)
		s.names(a)
		_, err = fmt.Fprintf(a.out, "%d enqueued, %d unchanged, %d failed, %d of other kinds skipped%s; "+
			"konstruct kb work ingests them, konstruct kb jobs says how far it is\n",
			handed, s.Unchanged, len(s.Failed), s.Skipped, s.count())
	}
	if err != nil {
		return err
	}
	return partialFailure(len(s.Failed), handed+s.Unchanged, "enqueued")
}

// watch ingests what changes until interrupted.
func (c kbIngestCmd) watch(ctx context.Context, a *app, agent *konstruct.Agent,
	options konstruct.DocumentOptions) error {
	if c.Every < 100*time.Millisecond {
		return coded{errors.New("--every: at least 100ms"), exitUsage}
	}
	err := agent.Watch(ctx, c.Paths, options, c.Every, c.Delete, func(r konstruct.IngestResult) {
		switch {
		case errors.Is(r.Err, kb.ErrOutsideLink):
			(&linksOut{1, []string{r.Path}}).names(a)
		case r.Skipped || r.Outcome == kb.Unchanged:
		case r.Err != nil:
			a.failures([]failedFile{{r.Path, r.Err.Error()}})
		default:
			fmt.Fprintf(a.out, "%-9s %s\n", r.Outcome, printable(r.Path))
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

type kbWorkCmd struct {
	Once bool `help:"Stop when nothing is left of --tenant."`
	tenantOption
}

// Help is shown by --help.
func (kbWorkCmd) Help() string {
	return "Any number of these may run, on any number of machines. Documents are read in processes of their own, " +
		"which a hostile file may ruin. It deals out turns as konstruct_worker (KONSTRUCT_WORKER_DATABASE_URL) and " +
		"takes documents in as konstruct_app.\n\nExamples:\n\n  konstruct kb work\n  konstruct kb work --once " +
		"--tenant $T"
}

// tenantOption names a tenant where one may be named.
type tenantOption struct {
	Tenant uuid.UUID `help:"The tenant." env:"KONSTRUCT_TENANT" placeholder:"UUID"`
}

// Run ingests what waits.
func (c kbWorkCmd) Run(ctx context.Context, a *app) error {
	if c.Once && c.Tenant == uuid.Nil {
		return coded{errors.New("--once: say of which --tenant"), exitUsage}
	}
	u, closeDB, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer closeDB()
	work := konstruct.WorkerConfig{OwnerURL: u.owner, Further: otel.Further}
	if work.WorkerURL, err = requireURL(u.worker, "KONSTRUCT_WORKER_DATABASE_URL", "kb work"); err != nil {
		return err
	}
	secret, err := a.keySecretIfAny()
	if err != nil {
		return err
	}
	if secret == nil && !c.Once {
		fmt.Fprintln(a.err, "konstruct: without KONSTRUCT_KEY_SECRET_FILE this process sends no webhooks")
	}
	k, err := a.connect(ctx, u, konstruct.Config{KeySecret: secret})
	if err != nil {
		return err
	}
	defer k.Close()
	if !c.Once {
		if u.owner == "" {
			fmt.Fprintln(a.err, "konstruct: without KONSTRUCT_OWNER_DATABASE_URL this process builds no tenant's own "+
				"index")
		}
		return k.RunWorker(ctx, work)
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	end := make(chan error, 1)
	go func() { end <- k.RunWorker(working, work) }()
	p := a.newProgress("documents", "documents", 0)
	defer p.done()
	for {
		select {
		case err := <-end:
			return err
		case <-time.After(200 * time.Millisecond):
		}
		n, err := k.Tenant(c.Tenant).Jobs().Count(ctx)
		if err != nil {
			return err
		}
		over := n[kb.JobDone] + n[kb.JobFailed] + n[kb.JobCancelled]
		left := n[kb.JobQueued] + n[kb.JobRunning]
		p.set(int64(over), int64(over+left), int64(over))
		if left > 0 {
			continue
		}
		stop()
		if err := <-end; err != nil {
			return err
		}
		if err := a.result(map[string]int{"done": n[kb.JobDone], "failed": n[kb.JobFailed],
			"cancelled": n[kb.JobCancelled]}, "%d done, %d failed, %d cancelled\n", n[kb.JobDone], n[kb.JobFailed],
			n[kb.JobCancelled]); err != nil {
			return err
		}
		if n[kb.JobFailed] > 0 {
			return coded{errors.New("some were not ingested: konstruct kb jobs list --state failed"), exitPartial}
		}
		return nil
	}
}

type kbJobsCmd struct {
	List   jobsListCmd   `cmd:"" default:"withargs" help:"List them."`
	Cancel jobsCancelCmd `cmd:"" help:"End jobs that wait or run."`
	Retry  jobsRetryCmd  `cmd:"" help:"Try again jobs that failed."`
	Forget jobsForgetCmd `cmd:"" help:"Delete jobs that ended, and the files of those that failed."`
}

type jobsListCmd struct {
	tenantFlag
	State string    `help:"Those in this state: ${enum}." enum:",queued,running,done,failed,cancelled" default:""`
	Limit int       `help:"How many at most, up to 1000." default:"100"`
	After uuid.UUID `help:"Continue after this job." placeholder:"UUID"`
}

// Run lists jobs.
func (c jobsListCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	jobs, err := k.Tenant(c.Tenant).Jobs().List(ctx, kb.JobState(c.State), c.After, c.Limit)
	if err != nil {
		return err
	}
	if jobs == nil {
		jobs = []konstruct.Job{}
	}
	err = printTable(a, jobs, []string{"JOB", "STATE", "TRIES", "CHUNKS", "FILE", "WHAT"},
		func(j konstruct.Job) []string {
			chunks, what := "", string(j.Outcome)
			if j.Chunks > 0 {
				chunks = fmt.Sprintf("%d of %d", j.Embedded, j.Chunks)
			}
			if j.Reason != "" {
				what = oneLine(j.Reason, 80)
			}
			return []string{j.ID.String(), string(j.State), fmt.Sprint(j.Attempt), chunks,
				oneLine(j.Filename, 40), what}
		})
	if err != nil || a.JSON {
		return err
	}
	if len(jobs) == c.Limit {
		fmt.Fprintf(a.err, "more: --after %s\n", jobs[len(jobs)-1].ID)
	}
	n, err := k.Tenant(c.Tenant).Jobs().Count(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%d queued, %d running, %d done, %d failed, %d cancelled\n", n[kb.JobQueued],
		n[kb.JobRunning], n[kb.JobDone], n[kb.JobFailed], n[kb.JobCancelled])
	return err
}

// jobsFlags says which jobs.
type jobsFlags struct {
	tenantFlag
	IDs []uuid.UUID `arg:"" optional:"" name:"id" help:"Jobs' ids."`
	All bool        `help:"All of the tenant's."`
}

// apply does something to the jobs that the flags say.
func (f jobsFlags) apply(ctx context.Context, a *app, did string,
	do func(*konstruct.Tenant) func(context.Context, ...uuid.UUID) (int, error)) error {
	if f.All == (len(f.IDs) > 0) {
		return coded{errors.New("say which: ids of jobs, or --all"), exitUsage}
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	n, err := do(k.Tenant(f.Tenant))(ctx, f.IDs...)
	if err != nil {
		return err
	}
	if err := a.result(map[string]int{"jobs": n}, "%s %s\n", plural.Of(n, "job", "jobs"), did); err != nil {
		return err
	}
	if n < len(f.IDs) {
		return fmt.Errorf("%d of %s %s none of this tenant's, or not in a state for that",
			len(f.IDs)-n, plural.Of(len(f.IDs), "job", "jobs"), plural.Word(len(f.IDs)-n, "is", "are"))
	}
	return nil
}

type jobsCancelCmd struct{ jobsFlags }

// Run ends jobs.
func (c jobsCancelCmd) Run(ctx context.Context, a *app) error {
	return c.apply(ctx, a, "cancelled", func(t *konstruct.Tenant) func(context.Context, ...uuid.UUID) (int, error) {
		return t.Jobs().Cancel
	})
}

type jobsRetryCmd struct{ jobsFlags }

// Run has jobs tried again.
func (c jobsRetryCmd) Run(ctx context.Context, a *app) error {
	return c.apply(ctx, a, "queued again", func(t *konstruct.Tenant) func(context.Context, ...uuid.UUID) (int, error) {
		return t.Jobs().Retry
	})
}

type jobsForgetCmd struct{ jobsFlags }

// Run deletes jobs.
func (c jobsForgetCmd) Run(ctx context.Context, a *app) error {
	return c.apply(ctx, a, "forgotten", func(t *konstruct.Tenant) func(context.Context, ...uuid.UUID) (int, error) {
		return t.Jobs().Delete
	})
}
