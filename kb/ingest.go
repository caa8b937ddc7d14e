package kb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/tenantdb"
)

// Ingester takes files in. It is used by one Files call at a time.
type Ingester struct {
	Door      *tenantdb.Door
	Embedder  func() (embed.Embedder, error) // asked when the first file needs it
	Tokenizer *embed.Tokenizer
	Extractor *extract.Extractor
	// Fetch reads a page, at most limit bytes of it; nil refuses URLs.
	Fetch func(ctx context.Context, url string, limit int64) ([]byte, error)
	// FileTime is how long reading one file may take; two minutes when zero.
	FileTime time.Duration
	// Progress, when not nil, hears how many chunks were embedded since it last did.
	Progress func(chunks int)
}

// FileTime is the usual limit on reading one file.
const FileTime = 2 * time.Minute

// Result is what became of one file.
type Result struct {
	Path       string
	DocumentID uuid.UUID
	Outcome    Outcome
	Chunks     int
	Err        error // why it was not taken in
	Skipped    bool  // a folder held it and it is no kind of file that is read here
}

// job is a file on its way through the stages.
type job struct {
	content
	Result
}

// open reports that nothing is decided about the file yet: it is to be embedded and stored.
func (j *job) open() bool { return j.Err == nil && j.Outcome == "" }

// Files takes in the files that paths name and hold, for one tenant, and reports each once, in order. A
// file that can't be read is reported and the others go on. The error is one that stops everything: the
// context's, the database's or the model's.
func (in *Ingester) Files(ctx context.Context, tenant, agent uuid.UUID, paths []string, report func(Result)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Three stages, each with little room between, so that memory holds a few files and never the folder.
	ready, embedded := make(chan *job, 1), make(chan *job, 1)
	var stages sync.WaitGroup
	stages.Go(func() {
		defer close(ready)
		take := func(f file, err error) bool {
			j := &job{Result: Result{Path: f.label(), Err: err, Skipped: errors.Is(err, errSkipped)}}
			if err == nil {
				if stop := in.prepare(ctx, tenant, agent, f, j); stop != nil {
					cancel(stop)
					return false
				}
			}
			return pass(ctx, ready, j)
		}
		walk(paths, func(f file, err error) bool {
			if err != nil {
				return take(f, err)
			}
			return (&unpacking{ctx: ctx, take: take, left: maxUnpacked, get: in.Fetch}).file(f, 0)
		})
	})
	stages.Go(func() {
		defer close(embedded)
		for j := range ready {
			if j.open() {
				if err := in.embed(ctx, j); err != nil {
					cancel(err)
					return
				}
			}
			if !pass(ctx, embedded, j) {
				return
			}
		}
	})
	for j := range embedded {
		if j.open() {
			if stop := in.keep(ctx, tenant, j); stop != nil {
				cancel(stop)
				break
			}
		}
		report(j.Result)
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

// prepare reads and cuts a file, unless it is known. The error is one that stops everything.
func (in *Ingester) prepare(ctx context.Context, tenant, agent uuid.UUID, f file, j *job) error {
	source, err := f.source()
	if err != nil {
		j.Err = err
		return nil
	}
	e, err := in.Embedder()
	if err != nil {
		return err
	}
	j.content = content{agent: agent, filename: f.name(), source: source, kind: f.kind, bytes: int64(len(f.raw)), sha: sha256.Sum256(f.raw), recipe: rules + " " + e.Name()}
	known, err := same(ctx, in.Door, tenant, source, j.sha, j.recipe)
	if err != nil {
		return fmt.Errorf("kb: look %s up: %w", f.path, err)
	}
	if known {
		j.Outcome = Unchanged
		return nil
	}
	j.Err = in.cut(ctx, f.raw, &j.content)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	j.Chunks = len(j.chunks)
	return nil
}

// cut extracts and splits within the file's time. What does not stop when told to is left behind.
func (in *Ingester) cut(ctx context.Context, raw []byte, c *content) error {
	limit := in.FileTime
	if limit == 0 {
		limit = FileTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type made struct {
		title  string
		about  About
		chunks []chunk.Chunk
		err    error
	}
	done := make(chan made, 1)
	go func() {
		var m made
		defer func() {
			if r := recover(); r != nil { // a parser's own failure on this file is this file's error
				m.err = fmt.Errorf("reading it failed: %v", r)
			}
			done <- m
		}()
		d, err := in.Extractor.Extract(ctx, c.kind, raw)
		if m.err = err; err != nil {
			return
		}
		m.title, m.about = d.Title, About{d.Author, d.Language, d.Created, d.Modified}
		chunk.Split(d, in.Tokenizer, func(k chunk.Chunk) bool {
			m.chunks = append(m.chunks, k)
			return ctx.Err() == nil
		})
		m.err = ctx.Err()
	}()
	var m made
	select {
	case m = <-done:
	case <-ctx.Done():
		m.err = ctx.Err()
	}
	if errors.Is(m.err, context.DeadlineExceeded) {
		return fmt.Errorf("reading it took longer than %v", limit)
	}
	c.name, c.about, c.chunks = m.title, m.about, m.chunks
	if m.err == nil && len(m.chunks) == 0 {
		return extract.ErrNoText
	}
	return m.err
}

// embedAtOnce is how many chunks are embedded between two words of progress.
const embedAtOnce = 64

func (in *Ingester) embed(ctx context.Context, j *job) error {
	e, err := in.Embedder()
	if err != nil {
		return err
	}
	j.vectors = make([][]float32, 0, len(j.chunks))
	for some := range slices.Chunk(j.chunks, embedAtOnce) {
		texts := make([]string, len(some))
		for i := range some {
			texts[i], some[i].Embed = some[i].Embed, ""
		}
		v, err := e.Embed(ctx, texts)
		if err != nil {
			return fmt.Errorf("kb: embed %s: %w", j.Path, err)
		}
		j.vectors = append(j.vectors, v...)
		if in.Progress != nil {
			in.Progress(len(some))
		}
	}
	return nil
}

// keep stores a file. The error is one that stops everything; what the database says of this file's own
// data is the file's.
func (in *Ingester) keep(ctx context.Context, tenant uuid.UUID, j *job) error {
	var err error
	j.DocumentID, j.Outcome, err = store(ctx, in.Door, tenant, j.content)
	j.content = content{}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "54") {
		j.Err, j.Outcome = err, ""
		return nil
	}
	if err != nil {
		return fmt.Errorf("kb: store %s: %w", j.Path, err)
	}
	return nil
}
