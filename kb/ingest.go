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

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/fetch"
	"github.com/konstruct/konstruct/parse"
	"github.com/konstruct/konstruct/tenantdb"
)

// Ingester ingests files. It is safe for concurrent use, except for Progress.
type Ingester struct {
	Door *tenantdb.Door
	// Embedder is a model by its name, the first where that is empty; it is asked by each call.
	Embedder func(model string) (embed.Embedder, error)
	Parser   parse.Parser
	// Concurrency is how many files are read at once; one when zero.
	Concurrency int
	// Fetcher reads pages by their URL; nil refuses URLs.
	Fetcher *fetch.Client
	// FollowLinks has links that lead out of a folder be followed; they are skipped otherwise, with ErrLinkOut.
	FollowLinks bool
	// Only, when not nil, says which files are ingested, by their paths.
	Only func(path string) bool
	// Progress, when not nil, is called with the number of chunks that were embedded since the last call.
	Progress func(chunks int)
	// Logger gets the details that a job's reason omits; nil is slog.Default().
	Logger *slog.Logger
}

// IngestResult is what became of one file.
type IngestResult struct {
	Path       string
	DocumentID uuid.UUID
	Outcome    Outcome
	Chunks     int
	Err        error // why it was not ingested
	// Skipped says that it was skipped: a folder held it, and it is no kind of file that is read here, or, where
	// Err is ErrLinkOut, a link that leads out.
	Skipped bool
}

// result is a file's outcome where it is known before the file is read; zero otherwise.
func (f file) result(err error) IngestResult {
	if errors.Is(err, errSameContent) {
		return IngestResult{Path: f.label(), Outcome: Unchanged}
	}
	return IngestResult{Path: f.label(), Err: err, Skipped: skipResult(err)}
}

// skipResult reports an error that says that a file is none for us.
func skipResult(err error) bool { return errors.Is(err, errSkipped) || errors.Is(err, ErrOutsideLink) }

// ingestJob is a file on its way through the stages.
type ingestJob struct {
	documentContent
	IngestResult
	file    file
	options DocumentOptions
	claim   *claim // of one that was enqueued
	// stored says that the claim's end was written with the document.
	stored bool
	read   chan struct{} // closed when it was read
	stop   error         // what stops everything; set before read is closed
}

// failure is an error that stops the whole ingestion, and the file at which it occurred.
type failure struct {
	j   *ingestJob
	err error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// open reports that nothing is decided about the file yet: it is to be embedded and stored.
func (j *ingestJob) open() bool { return j.Err == nil && j.Outcome == "" }

// Files ingests the files that paths name and hold, for one tenant, and reports each once, in order: files and folders
// of this machine, pages, sitemaps and feeds by their URL, and what lies below s3://BUCKET/PREFIX. A file that can't be
// read is reported and the others go on. The error is one that stops everything: the context's, the database's or the
// model's.
func (in *Ingester) Files(ctx context.Context, tenant, agent uuid.UUID, paths []string, given DocumentOptions,
	report func(IngestResult)) error {
	if err := errors.Join(given.Check(), given.grantedLabels(in.Door.CanSee(ctx))); err != nil {
		return fmt.Errorf("kb: %w", err)
	}
	if err := given.checkCollections(ctx, in.Door, tenant); err != nil {
		return fmt.Errorf("kb: %w", err)
	}
	seq, err := NextSeq(ctx, in.Door, tenant)
	if err != nil {
		return err
	}
	feed := func(ctx context.Context, put func(*ingestJob) bool) error {
		take := func(f file, err error) bool {
			return put(&ingestJob{file: f, options: given, documentContent: documentContent{agent: agent, seq: seq},
				IngestResult: f.result(err)})
		}
		u := in.unpacking(ctx, tenant, given.Chunking, take)
		in.walk(ctx, paths, func(f file, err error) bool {
			if err != nil {
				return take(f, err)
			}
			return u.file(f, 0)
		})
		return nil
	}
	return in.run(ctx, tenant, feed, func(j *ingestJob) error { report(j.IngestResult); return nil })
}

// unpacking takes what files hold; an archive's limits are those of one call.
func (in *Ingester) unpacking(ctx context.Context, tenant uuid.UUID, chunking *chunk.Options,
	take func(file, error) bool) *unpacker {
	return &unpacker{ctx: ctx, add: take, remaining: maxUnpacked, page: in.page,
		known: func(f file) (etag string, err error) {
			source, err := f.source()
			if err != nil {
				return "", err
			}
			recipe, err := in.recipe()
			if err != nil {
				return "", err
			}
			err = in.Door.Query(ctx, tenant,
				`SELECT etag FROM kb_sources WHERE tenant_id = $1 AND source = $2 AND recipe = $3
				AND chunking = coalesce($4::jsonb, chunking)`,
				[]any{tenant, source, recipe, chunking}, func(rows pgx.Rows) error {
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
	return recipeVersion + " " + e.Name(), nil
}

// run ingests the files that feed puts, in three stages, each with little room between, so that memory holds a few
// files and never the folder.
func (in *Ingester) run(ctx context.Context, tenant uuid.UUID, feed func(context.Context, func(*ingestJob) bool) error,
	report func(*ingestJob) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	recipe, err := in.recipe()
	if err != nil {
		return err
	}
	begun, embedded := make(chan *ingestJob, max(1, in.Concurrency)-1), make(chan *ingestJob, 1)
	var stages sync.WaitGroup
	stages.Go(func() {
		defer close(begun)
		err := feed(ctx, func(j *ingestJob) bool {
			j.read, j.recipe = make(chan struct{}), recipe
			if !skipped(ctx, begun, j) { // which waits until there is room to read another
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
			if !skipped(ctx, embedded, j) {
				return
			}
		}
	})
	for j := range embedded {
		if j.open() {
			err = in.store(ctx, tenant, j)
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

func skipped(ctx context.Context, to chan<- *ingestJob, j *ingestJob) bool {
	select {
	case to <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

// prepare reads a file, unless it is known. The error is one that stops everything.
func (in *Ingester) prepare(ctx context.Context, tenant uuid.UUID, j *ingestJob) (err error) {
	f := &j.file
	if !j.open() {
		return nil
	}
	if j.documentContent.source, j.Err = f.source(); j.Err != nil {
		return nil
	}
	j.filename, j.kind, j.etag, j.bytes, j.sha = f.name(), f.kind, f.etag, int64(len(f.raw)), sha256.Sum256(f.raw)
	known, outcome, why, err := j.documentContent.findExisting(j.withLabels(ctx), in.Door, tenant, j.options)
	if err != nil {
		return fmt.Errorf("kb: look %s up: %w", j.Path, err)
	}
	if j.Outcome, j.Err = outcome, why; j.Outcome != "" {
		if j.DocumentID = known; j.claim == nil { // else the end of the job does
			if err := j.options.collect(ctx, in.Door, tenant, known); err != nil {
				return fmt.Errorf("kb: add %s to its collections: %w", j.Path, err)
			}
		}
	}
	if !j.open() {
		return nil
	}
	r, err := in.Parser.Parse(j.within(ctx), f.kind, f.raw, *j.chunking)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, parse.ErrStart) {
		return fmt.Errorf("kb: %w", err)
	}
	if f.raw = nil; err != nil {
		j.Err = err
		return nil
	}
	j.ParsedFile = *r
	j.IngestResult.Chunks = len(r.Chunks)
	return nil
}

// within is the context of this one job.
func (j *ingestJob) within(ctx context.Context) context.Context {
	if j.claim != nil {
		return j.claim.ctx
	}
	return ctx
}

// withLabels is ctx with the labels of the caller who enqueued the job.
func (j *ingestJob) withLabels(ctx context.Context) context.Context {
	if j.claim != nil {
		return tenantdb.WithLabels(ctx, j.claim.sees)
	}
	return ctx
}

// embedAtOnce is how many inputs of the model are embedded between two words of progress, or one chunk's.
const embedAtOnce = 64

// embed makes a file's vectors, of the first model and of the one that serves. The error is one that stops everything.
func (in *Ingester) embed(ctx context.Context, tenant uuid.UUID, j *ingestJob) (err error) {
	if j.serving, err = ServingModel(ctx, in.Door, tenant); err != nil {
		return err
	}
	j.vectors, j.pieceVectors, j.servingVectors = nil, nil, nil
	pieced := slices.ContainsFunc(j.ParsedFile.Chunks, func(c chunk.Chunk) bool { return len(c.Pieces) > 0 })
	for rest := j.ParsedFile.Chunks; len(rest) > 0; {
		var some []chunk.Chunk
		var inputs []string
		some, rest, inputs = takeInputs(rest)
		if j.Err = context.Cause(j.within(ctx)); j.Err != nil { // it was cancelled
			return context.Cause(ctx)
		}
		vectors, err := in.append(ctx, nil, "", inputs)
		if err != nil {
			return fmt.Errorf("kb: embed %s: %w", j.Path, err)
		}
		for i := range some {
			n := max(1, len(some[i].Pieces))
			if j.vectors = append(j.vectors, vectors[0]); pieced {
				j.pieceVectors = append(j.pieceVectors, vectors[1:n])
			}
			vectors = vectors[n:]
		}
		if j.serving != "" {
			texts := make([]string, len(some))
			for i := range some {
				texts[i] = some[i].Whole()
			}
			if j.servingVectors, err = in.append(ctx, j.servingVectors, j.serving, texts); err != nil {
				return fmt.Errorf("kb: embed %s: %w", j.Path, err)
			}
		}
		if j.claim != nil {
			j.claim.progress(len(j.vectors), len(j.ParsedFile.Chunks))
		}
		if in.Progress != nil {
			in.Progress(len(some))
		}
	}
	return nil
}

// takeInputs takes the first of some chunks, until the first model has embedAtOnce inputs, and these.
func takeInputs(chunks []chunk.Chunk) (some, rest []chunk.Chunk, inputs []string) {
	n := 0
	for n < len(chunks) && len(inputs) < embedAtOnce {
		inputs = append(inputs, chunks[n].Inputs()...)
		n++
	}
	return chunks[:n], chunks[n:], inputs
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

// errEmbedder is the reason that a tenant reads when the model is missing.
var errEmbedder = errors.New("the embedding model is not ready here")

// errUnsupported is the reason that a tenant reads when the database rejects a file's data.
var errUnsupported = errors.New(
	"the database can't hold what it says: a value, or a text, that is too large or no text")

// store stores a file. An error stops the whole ingestion; what the database rejects of this file's own data is the
// file's outcome.
func (in *Ingester) store(ctx context.Context, tenant uuid.UUID, j *ingestJob) error {
	var err error
	j.DocumentID, j.Outcome, err = storeDocument(j.withLabels(ctx), in.Door, tenant, j)
	for errors.Is(err, errSwitched) {
		if err = in.embed(ctx, tenant, j); err == nil && !j.open() {
			// it was cancelled meanwhile, and not all of it is embedded
			return nil
		}
		if err == nil {
			j.DocumentID, j.Outcome, err = storeDocument(j.withLabels(ctx), in.Door, tenant, j)
		}
	}
	j.documentContent, j.stored = documentContent{}, err == nil
	var pg *pgconn.PgError
	unfit := errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "54")
	if unfit {
		err = disclosure.Hide(errUnsupported, err)
	}
	if unfit || errors.Is(err, errSource) || errors.Is(err, errClaimLost) || errors.Is(err, ErrVector) ||
		errors.Is(err, errRechunked) ||
		isSuperseded(err) {
		j.Err, j.Outcome = err, ""
		return nil
	}
	if err != nil {
		return fmt.Errorf("kb: store %s: %w", j.Path, err)
	}
	return nil
}
