package kb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/fetch"
	"github.com/konstruct/konstruct/reading"
	"github.com/konstruct/konstruct/tenantdb"
)

// Ingester takes files in. It is safe for concurrent use, but for Progress.
type Ingester struct {
	Door *tenantdb.Door
	// Embedder is a model by its name, the first where that is empty; it is asked by each call.
	Embedder func(model string) (embed.Embedder, error)
	Reader   reading.Reader
	// Readers is how many files are read at once; one when zero.
	Readers int
	// Pages reads pages by their URL; nil refuses URLs.
	Pages *fetch.Client
	// FollowLinks has links that lead out of a folder be followed; they are passed over otherwise, with ErrLinkOut.
	FollowLinks bool
	// Only, when not nil, says which files are ingested, by their paths.
	Only func(path string) bool
	// Progress, when not nil, hears how many chunks were embedded since it last did.
	Progress func(chunks int)
	// Logger hears what a job's reason does not say; nil is slog.Default().
	Logger *slog.Logger
}

// Result is what became of one file.
type Result struct {
	Path       string
	DocumentID uuid.UUID
	Outcome    Outcome
	Chunks     int
	Err        error // why it was not taken in
	// Skipped says that it was passed over: a folder held it, and it is no kind of file that is read here, or, where Err
	// is ErrLinkOut, a link that leads out.
	Skipped bool
}

// result is what is known of a file before it is read: nothing, or what becomes of it all the same.
func (f file) result(err error) Result {
	if errors.Is(err, errSame) {
		return Result{Path: f.label(), Outcome: Unchanged}
	}
	return Result{Path: f.label(), Err: err, Skipped: passedOver(err)}
}

// passedOver reports an error that says that a file is none for us.
func passedOver(err error) bool { return errors.Is(err, errSkipped) || errors.Is(err, ErrLinkOut) }

// job is a file on its way through the stages.
type job struct {
	content
	Result
	file  file
	given Given
	claim *claim // of one that was enqueued
	// stored says that the claim's end was written with the document.
	stored bool
	read   chan struct{} // closed when it was read
	stop   error         // what stops everything; set before read is closed
}

// failure is an error that stops everything, and the file at which it came.
type failure struct {
	j   *job
	err error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// open reports that nothing is decided about the file yet: it is to be embedded and stored.
func (j *job) open() bool { return j.Err == nil && j.Outcome == "" }

// Files takes in the files that paths name and hold, for one tenant, and reports each once, in order: files and folders of this machine, pages, sitemaps and
// feeds by their URL, and what lies below s3://BUCKET/PREFIX. A file that can't be read is reported and the others go on. The error is one that stops everything: the
// context's, the database's or the model's.
func (in *Ingester) Files(ctx context.Context, tenant, agent uuid.UUID, paths []string, given Given, report func(Result)) error {
	if err := errors.Join(given.Check(), given.granted(in.Door.Sees(ctx))); err != nil {
		return fmt.Errorf("kb: %w", err)
	}
	seq, err := NextSeq(ctx, in.Door, tenant)
	if err != nil {
		return err
	}
	feed := func(ctx context.Context, put func(*job) bool) error {
		take := func(f file, err error) bool {
			return put(&job{file: f, given: given, content: content{agent: agent, seq: seq}, Result: f.result(err)})
		}
		u := in.unpacking(ctx, tenant, take)
		in.walk(ctx, paths, func(f file, err error) bool {
			if err != nil {
				return take(f, err)
			}
			return u.file(f, 0)
		})
		return nil
	}
	return in.run(ctx, tenant, feed, func(j *job) error { report(j.Result); return nil })
}

// unpacking takes what files hold; an archive's limits are those of one call.
func (in *Ingester) unpacking(ctx context.Context, tenant uuid.UUID, take func(file, error) bool) *unpacking {
	return &unpacking{ctx: ctx, take: take, left: maxUnpacked, page: in.page, known: func(f file) (etag string, err error) {
		source, err := f.source()
		if err != nil {
			return "", err
		}
		recipe, err := in.recipe()
		if err != nil {
			return "", err
		}
		err = in.Door.Query(ctx, tenant, `SELECT etag FROM kb_sources WHERE tenant_id = $1 AND source = $2 AND recipe = $3`, []any{tenant, source, recipe}, func(rows pgx.Rows) error {
			etag, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
			return err
		})
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
		return etag, err
	}}
}

// recipe is how chunks are made now.
func (in *Ingester) recipe() (string, error) {
	e, err := in.Embedder("")
	if err != nil {
		return "", err
	}
	return rules + " " + e.Name(), nil
}

// run takes in the files that feed puts, in three stages, each with little room between, so that memory holds a few files and never the folder.
func (in *Ingester) run(ctx context.Context, tenant uuid.UUID, feed func(context.Context, func(*job) bool) error, report func(*job) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	recipe, err := in.recipe()
	if err != nil {
		return err
	}
	begun, embedded := make(chan *job, max(1, in.Readers)-1), make(chan *job, 1)
	var stages sync.WaitGroup
	stages.Go(func() {
		defer close(begun)
		err := feed(ctx, func(j *job) bool {
			j.read, j.recipe = make(chan struct{}), recipe
			if !pass(ctx, begun, j) { // which waits until there is room to read another
				return false
			}
			stages.Go(func() {
				defer close(j.read)
				j.stop = in.prepare(ctx, tenant, j)
			})
			return true
		})
		if err != nil {
			cancel(err)
		}
	})
	stages.Go(func() {
		defer close(embedded)
		for j := range begun {
			<-j.read
			if j.stop == nil && j.open() {
				j.stop = in.embed(ctx, tenant, j)
			}
			if j.stop != nil {
				cancel(&failure{j, j.stop})
				return
			}
			if !pass(ctx, embedded, j) {
				return
			}
		}
	})
	for j := range embedded {
		if j.open() {
			err = in.keep(ctx, tenant, j)
		}
		if err == nil {
			err = report(j)
		}
		if err != nil {
			cancel(&failure{j, err})
			break
		}
	}
	cause := context.Cause(ctx)
	cancel(nil)
	stages.Wait()
	return cause
}

func pass(ctx context.Context, to chan<- *job, j *job) bool {
	select {
	case to <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

// prepare reads a file, unless it is known. The error is one that stops everything.
func (in *Ingester) prepare(ctx context.Context, tenant uuid.UUID, j *job) (err error) {
	f := &j.file
	if !j.open() {
		return nil
	}
	if j.content.source, j.Err = f.source(); j.Err != nil {
		return nil
	}
	j.filename, j.kind, j.etag, j.bytes, j.sha = f.name(), f.kind, f.etag, int64(len(f.raw)), sha256.Sum256(f.raw)
	if j.Outcome, j.Err, err = j.content.known(j.seeing(ctx), in.Door, tenant, j.given); err != nil {
		return fmt.Errorf("kb: look %s up: %w", j.Path, err)
	}
	if !j.open() {
		return nil
	}
	r, err := in.Reader.Read(j.within(ctx), f.kind, f.raw)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, reading.ErrStart) {
		return fmt.Errorf("kb: %w", err)
	}
	if f.raw = nil; err != nil {
		j.Err = err
		return nil
	}
	j.Reading = *r
	j.Result.Chunks = len(r.Chunks)
	return nil
}

// within is the context of this one job.
func (j *job) within(ctx context.Context) context.Context {
	if j.claim != nil {
		return j.claim.ctx
	}
	return ctx
}

// seeing is ctx by the labels of whoever handed the job over.
func (j *job) seeing(ctx context.Context) context.Context {
	if j.claim != nil {
		return tenantdb.WithLabels(ctx, j.claim.sees)
	}
	return ctx
}

// embedAtOnce is how many chunks are embedded between two words of progress.
const embedAtOnce = 64

// embed makes a file's vectors, of the first model and of the one that serves. The error is one that stops everything.
func (in *Ingester) embed(ctx context.Context, tenant uuid.UUID, j *job) (err error) {
	if j.serving, err = Serving(ctx, in.Door, tenant); err != nil {
		return err
	}
	j.vectors, j.more = nil, nil
	for some := range slices.Chunk(j.Reading.Chunks, embedAtOnce) {
		if j.Err = context.Cause(j.within(ctx)); j.Err != nil { // it was cancelled
			return context.Cause(ctx)
		}
		texts := make([]string, len(some))
		for i := range some {
			texts[i] = some[i].Embed
		}
		if j.vectors, err = in.append(ctx, j.vectors, "", texts); err != nil {
			return fmt.Errorf("kb: embed %s: %w", j.Path, err)
		}
		if j.serving != "" {
			if j.more, err = in.append(ctx, j.more, j.serving, texts); err != nil {
				return fmt.Errorf("kb: embed %s: %w", j.Path, err)
			}
		}
		if j.claim != nil {
			j.claim.progress(len(j.vectors), len(j.Reading.Chunks))
		}
		if in.Progress != nil {
			in.Progress(len(some))
		}
	}
	return nil
}

// append appends a model's vectors of texts.
func (in *Ingester) append(ctx context.Context, to [][]float32, model string, texts []string) ([][]float32, error) {
	e, err := in.Embedder(model)
	if err != nil {
		return nil, disclosure.Hide(errEmbedder, err)
	}
	v, err := e.Embed(ctx, texts)
	if err != nil {
		return nil, err
	}
	return append(to, v...), nil
}

// errEmbedder is all that a tenant is told of a model that is not there.
var errEmbedder = errors.New("the embedding model is not ready here")

// errUnfit is all that a tenant is told of what the database says of a file.
var errUnfit = errors.New("the database can't hold what it says: a value, or a text, that is too large or no text")

// keep stores a file. The error is one that stops everything; what the database says of this file's own
// data is the file's.
func (in *Ingester) keep(ctx context.Context, tenant uuid.UUID, j *job) error {
	var err error
	j.DocumentID, j.Outcome, err = store(j.seeing(ctx), in.Door, tenant, j)
	for errors.Is(err, errSwitched) {
		if err = in.embed(ctx, tenant, j); err == nil && !j.open() { // it was cancelled meanwhile, and not all of it is embedded
			return nil
		}
		if err == nil {
			j.DocumentID, j.Outcome, err = store(j.seeing(ctx), in.Door, tenant, j)
		}
	}
	j.content, j.stored = content{}, err == nil
	var pg *pgconn.PgError
	unfit := errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "54")
	if unfit {
		err = disclosure.Hide(errUnfit, err)
	}
	if unfit || errors.Is(err, errSource) || errors.Is(err, errTaken) || errors.Is(err, ErrVector) || outrun(err) {
		j.Err, j.Outcome = err, ""
		return nil
	}
	if err != nil {
		return fmt.Errorf("kb: store %s: %w", j.Path, err)
	}
	return nil
}
