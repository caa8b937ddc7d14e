// Package parse converts an untrusted file's bytes into text and chunks, in this process (Local) or in sandboxed
// processes (Pool), which a hostile file may crash. It knows extract and chunk; it must not know a database.
package parse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
)

// Parser parses files. It is safe for concurrent use.
type Parser interface {
	// Parse parses a file's whole content, and splits it as the options say. An error is caused by the file or the
	// context.
	Parse(ctx context.Context, kind string, raw []byte, o chunk.Options) (*ParsedFile, error)
	// Close releases the parser's resources.
	Close() error
}

// ParsedFile is the content of a file.
type ParsedFile struct {
	Title, Author, Language string
	Created, Modified       time.Time
	Text                    string // what the chunks' Start and End point into
	Chunks                  []chunk.Chunk
}

// Limits on one file.
type Limits struct {
	Time   time.Duration // to read it
	Memory uint64        // of the process that reads it, in bytes; Local can't hold to it
}

// DefaultLimits are the limits of a parser without limits of its own.
var DefaultLimits = Limits{Time: 2 * time.Minute, Memory: 1536 << 20}

// Local parses in this process.
type Local struct {
	tokens  *embed.Tokenizer
	limits  Limits
	extract extract.Extractor
}

// NewLocal returns a parser whose chunks fit the model with this tokenizer.
func NewLocal(t *embed.Tokenizer, l Limits) *Local { return &Local{tokens: t, limits: l} }

// Close implements Parser.
func (l *Local) Close() error { return l.extract.Close() }

// Parse implements Parser. If a format's reader does not stop at the time limit, its goroutine is abandoned.
func (l *Local) Parse(ctx context.Context, kind string, raw []byte, o chunk.Options) (*ParsedFile, error) {
	ctx, cancel := l.limits.begin(ctx)
	defer cancel()
	type made struct {
		r   *ParsedFile
		err error
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
		m.r, m.err = l.parse(ctx, kind, raw, o)
	}()
	select {
	case m := <-done:
		if m.err != nil && ctx.Err() != nil {
			m.err = context.Cause(ctx)
		}
		return m.r, m.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// begin returns the context for parsing one file.
func (l Limits) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, l.Time, fmt.Errorf("%w: longer than %v", ErrResources, l.Time))
}

func (l *Local) parse(ctx context.Context, kind string, raw []byte, o chunk.Options) (*ParsedFile, error) {
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("chunking: %w", err)
	}
	d, err := l.extract.Extract(ctx, kind, raw)
	if err != nil {
		return nil, err
	}
	r := &ParsedFile{Title: d.Title, Author: d.Author, Language: d.Language, Created: d.Created, Modified: d.Modified,
		Text: d.Text}
	chunk.SplitWith(d, l.tokens, o, func(k chunk.Chunk) bool {
		r.Chunks = append(r.Chunks, k)
		return ctx.Err() == nil
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(r.Chunks) == 0:
		return nil, extract.ErrNoText
	}
	return r, nil
}

// errDied is what a tenant may read of a process's failure.
var errDied = errors.New("the process that read it died")

// ErrStart means that no parser process could be started, which is not caused by the file.
var ErrStart = errors.New("a process to read files in could not be started")

// ErrResources means that a file exceeded the limits.
var ErrResources = errors.New("reading it takes too much")
