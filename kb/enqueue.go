package kb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/strictjson"
	"github.com/konstruct/konstruct/tenantdb"
)

// DocumentOptions are what the caller sets on a document. When a document is replaced, nil fields keep their values.
type DocumentOptions struct {
	// Labels are its access control labels: a caller needs one of them. Without labels every caller sees it.
	Labels []string
	// Metadata is anything else, a JSON object.
	Metadata map[string]any
	// Collections are those that it joins, and Attributes are its own in these; nil keeps those that it has. A new
	// document without labels gets those of its collections.
	Collections []uuid.UUID
	Attributes  map[string]any
	// Chunking is how it is split into chunks: its zero value by its structure.
	Chunking *chunk.Options
}

// Limits on a document's options.
const (
	MaxLabels   = 32
	MaxLabel    = tenantdb.MaxLabel
	MaxMetadata = 64 << 10  // bytes, as JSON
	MaxUploads  = 1000      // in one Enqueue
	maxFilename = 1000      // bytes
	MaxWaiting  = 1_000_000 // jobs of one tenant that wait
)

// Check reports what can't be stored.
func (g DocumentOptions) Check() error {
	if err := CheckLabels(g.Labels); err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	raw, err := json.Marshal(g.Metadata)
	switch {
	case err != nil:
		return fmt.Errorf("metadata: %w", err)
	case len(raw) > MaxMetadata:
		return fmt.Errorf("metadata: %d bytes, the limit is %d", len(raw), MaxMetadata)
	}
	if at, what := strictjson.CheckStorable(raw); what != "" {
		return fmt.Errorf("metadata%s: %s", at, what)
	}
	if g.Chunking != nil {
		if err := g.Chunking.Check(); err != nil {
			return fmt.Errorf("chunking.%w", err)
		}
	}
	switch {
	case len(g.Collections) > MaxCollectionsOf:
		return fmt.Errorf("collections: %d, the limit is %d", len(g.Collections), MaxCollectionsOf)
	case len(g.Collections) == 0 && len(g.Attributes) > 0:
		return errors.New("attributes: they are of a document in a collection: name the collection")
	}
	return CheckAttributes(g.Attributes)
}

// CheckSearchLabels reports labels to which a search can't be restricted. Unlike a document's, they may be "*" alone,
// which is every label.
func CheckSearchLabels(labels []string) error {
	if slices.Equal(labels, []string{tenantdb.AllLabelsName}) {
		return nil
	}
	return CheckLabels(labels)
}

// CheckLabels reports labels that a document can't have.
func CheckLabels(labels []string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("%d, the limit is %d", len(labels), MaxLabels)
	}
	for _, l := range labels {
		if err := tenantdb.CheckLabel(l); err != nil {
			return err
		}
	}
	return nil
}

// errSource refuses to replace a document that the caller does not see.
var errSource = &tenantdb.GrantError{Field: "source",
	Reason: "a document that you may not see has it: use another, or ask for one of that document's labels"}

// grantedLabels returns an error for labels that the caller was not granted: nobody sets those on a document.
func (g DocumentOptions) grantedLabels(has tenantdb.Labels) error {
	if name, lacks := has.Missing(g.Labels); lacks {
		return &tenantdb.GrantError{Field: "labels",
			Reason: fmt.Sprintf("%.120q is not granted to you, so you can't put it on: leave it out, or ask for it",
				name)}
	}
	return nil
}

// Upload is a document to ingest later.
type Upload struct {
	// Source is the URL by which it is known again: another upload of the same source replaces it.
	Source   string
	Filename string
	// Content is the file; nil for a page, which the job fetches by its URL.
	Content []byte
	// File is one that is stored already, whose content is read when its turn comes: see Attach.
	File *uuid.UUID
	// ETag is what its site or bucket calls this content, if it does.
	ETag string
	// Seq is its place in the order of uploads and deletions, from NextSeq; where it is zero, the upload is the newest.
	Seq int64
	DocumentOptions

	leaf   bool  // a page that a list named
	failed error // why it can't be ingested: it is noted
}

// Check reports what can't be ingested; the error begins with the field's name.
func (u *Upload) Check() error {
	switch {
	case u.Source == "" || len(u.Source) > MaxSource:
		return fmt.Errorf("source: %d bytes, it is 1 to %d", len(u.Source), MaxSource)
	case strings.ContainsRune(u.Source, 0) || strings.ToValidUTF8(u.Source, "") != u.Source:
		return errors.New("source: it is no UTF-8 text")
	case len(u.Filename) > maxFilename || strings.ContainsRune(u.Filename, 0) ||
		strings.ToValidUTF8(u.Filename, "") != u.Filename:
		return fmt.Errorf("filename: it is UTF-8 text of at most %d bytes", maxFilename)
	case u.failed != nil:
	case strings.HasPrefix(u.Source, fileSource) && u.File == nil:
		return fmt.Errorf("source: what begins with %s is a stored file's: use another", fileSource)
	case u.File != nil:
	case u.Content == nil && !isURL(u.Source):
		return errors.New("content: there is none, and the source is no http:// or https:// URL to read it from")
	case u.Content != nil && len(u.Content) == 0:
		return fmt.Errorf("content: %w", extract.ErrEmpty)
	case len(u.Content) > extract.MaxPDF:
		return fmt.Errorf("content: %w: %d bytes, the limit is %d", extract.ErrTooLarge, len(u.Content), extract.MaxPDF)
	}
	return u.DocumentOptions.Check()
}

// ErrFull says that a tenant has too much waiting.
var ErrFull = fmt.Errorf("%d documents wait already: ingest more when they are done", MaxWaiting)

// Enqueue enqueues documents for ingestion, within the caller's transaction, whose tenant must be set to tenant
// already. The labels of ctx, which Door.Tx gave, apply: a job replaces no document that they do not show, and sets no
// label that is not among them (tenantdb.GrantError). It returns the jobs' ids in order.
func Enqueue(ctx context.Context, tx pgx.Tx, tenant, agent uuid.UUID, uploads ...Upload) ([]uuid.UUID, error) {
	if len(uploads) > MaxUploads {
		return nil, fmt.Errorf("kb: enqueue %d documents: the limit is %d at once", len(uploads), MaxUploads)
	}
	var waiting int
	if err := tx.QueryRow(ctx,
		`SELECT count(*) FROM (SELECT FROM kb_jobs WHERE tenant_id = $1 AND state = 'queued' LIMIT $2) w`, tenant,
		MaxWaiting).Scan(&waiting); err != nil {
		return nil, fmt.Errorf("kb: enqueue: %w", err)
	}
	if waiting+len(uploads) > MaxWaiting {
		return nil, fmt.Errorf("kb: enqueue: %w", ErrFull)
	}
	sees, known := tenantdb.Granted(ctx)
	restricted := known && !sees.All()
	ids := make([]uuid.UUID, len(uploads))
	joined := map[uuid.UUID]bool{}
	var b pgx.Batch
	for i := range uploads {
		u := &uploads[i]
		err := u.Check()
		if err == nil && restricted {
			err = u.DocumentOptions.grantedLabels(sees)
		}
		if err != nil {
			return nil, fmt.Errorf("kb: enqueue document %d: %w", i+1, err)
		}
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		ids[i] = id
		if u.failed != nil {
			b.Queue(`INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename, labels, state, reason, finished_at)
				VALUES ($1, $2, $3, $4, $5, $6, 'failed', $7, now())`,
				tenant, id, agent, u.Source, u.Filename, u.Labels, failureReason(u.failed))
			continue
		}
		b.Queue(`INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename, labels, given, etag, leaf, seq,
			chunking, collections, attributes, file_id, sees)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, least(nullif($10::bigint, 0), nextval('kb_seq')), $11, $12, $13,
			$14, CASE current_setting('app.current_labels', true) WHEN '*' THEN '{*}' ELSE kb_granted() END)`,
			tenant, id, agent, u.Source, u.Filename, u.Labels, u.Metadata, u.ETag, u.leaf, u.Seq, u.Chunking,
			u.Collections, u.Attributes, u.File)
		for _, c := range u.Collections {
			joined[c] = true
		}
		if u.Content != nil {
			b.Queue(`INSERT INTO kb_uploads (tenant_id, job_id, content) VALUES ($1, $2, $3)`, tenant, id, u.Content)
		}
	}
	hidden, err := hiddenSources(ctx, tx, uploads)
	if err == nil && len(hidden) > 0 {
		err = errSource
	}
	if err == nil {
		err = checkCollections(ctx, tx, tenant, slices.Collect(maps.Keys(joined)))
	}
	if err != nil {
		return nil, fmt.Errorf("kb: enqueue: %w", err)
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("kb: enqueue: %w", err)
	}
	return ids, nil
}

// hiddenSources are those of some uploads whose document is hidden from the transaction: their jobs could not replace
// it.
func hiddenSources(ctx context.Context, tx pgx.Tx, uploads []Upload) (map[string]bool, error) {
	if sees, granted := tenantdb.Granted(ctx); !granted || sees.All() {
		return nil, nil
	}
	sources := make([]string, len(uploads))
	for i := range uploads {
		sources[i] = uploads[i].Source
	}
	hidden := map[string]bool{}
	rows, err := tx.Query(ctx,
		`SELECT h.source FROM kb_hidden_sources(kb_granted()) h (source) WHERE h.source = ANY ($1)`, sources)
	if err == nil {
		var source string
		_, err = pgx.ForEachRow(rows, []any{&source}, func() error { hidden[source] = true; return nil })
	}
	return hidden, err
}

// maxReason is how many bytes of a reason are kept.
const maxReason = 2000

// failureReason is the part of an error that a tenant may read, as text that the database can store.
func failureReason(err error) string {
	s, _ := disclosure.Reason(err)
	return strings.ReplaceAll(strings.ToValidUTF8(s[:min(len(s), maxReason)], "\uFFFD"), "\x00", "\uFFFD")
}

// Enqueue enqueues what paths name and hold, as Files ingests it: archives and mailboxes file by file, pages to be read
// when their turn comes. It reports each file once: those enqueued have no outcome, and those that can't be read or are
// known their reason or outcome.
func (in *Ingester) Enqueue(ctx context.Context, tenant, agent uuid.UUID, paths []string, given DocumentOptions,
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
	h := &enqueuer{door: in.Door, tenant: tenant, agent: agent, options: given, seq: seq}
	take := func(f file, err error) bool {
		r, more := f.result(err), true
		if err == nil {
			more = h.add(ctx, f, nil)
		}
		if h.err == nil {
			report(r)
		}
		return more
	}
	u := in.unpacking(ctx, tenant, given.Chunking, take)
	in.walk(ctx, paths, func(f file, err error) bool {
		if err != nil || isURL(f.path) {
			return take(f, err)
		}
		return u.file(f, 0)
	})
	h.flush(ctx)
	if h.err == nil {
		h.err = ctx.Err()
	}
	return h.err
}

// enqueueBatch is how many bytes of files are enqueued in one transaction.
const enqueueBatch = 16 << 20

// noSource is the source of a file without one that can be stored.
const noSource = "unknown:"

// enqueuer hands files over, many in one transaction.
type enqueuer struct {
	door          *tenantdb.Door
	tenant, agent uuid.UUID
	options       DocumentOptions
	seq           int64
	pending       []Upload
	size          int
	err           error // what ended it
}

// add enqueues a file, or notes why it can't be ingested; it returns false when nothing more can be enqueued.
func (h *enqueuer) add(ctx context.Context, f file, failed error) bool {
	source, err := f.source()
	if err != nil {
		source, failed = noSource, fmt.Errorf("%.200q: %w", f.label(), err)
	}
	h.pending = append(h.pending, Upload{Source: source, Filename: f.name(), Content: f.raw, ETag: f.etag, Seq: h.seq,
		DocumentOptions: h.options, leaf: f.leaf, failed: failed})
	if h.size += len(f.raw); h.size >= enqueueBatch || len(h.pending) == MaxUploads {
		h.flush(ctx)
	}
	return h.err == nil
}

// flush enqueues what was gathered.
func (h *enqueuer) flush(ctx context.Context) {
	if h.err != nil || len(h.pending) == 0 {
		return
	}
	h.err = h.door.Tx(ctx, h.tenant, func(ctx context.Context, tx pgx.Tx) error {
		hidden, err := hiddenSources(ctx, tx, h.pending)
		var open []uuid.UUID
		if err == nil { // a collection may be gone by now
			open, err = openCollections(ctx, tx, h.tenant, h.options.Collections)
		}
		if err != nil {
			return fmt.Errorf("kb: enqueue: %w", err)
		}
		for i := range h.pending { // the others go on
			if u := &h.pending[i]; hidden[u.Source] {
				u.Source, u.failed = noSource, fmt.Errorf("%.200q: %w", u.Source, errSource)
			}
			if h.pending[i].Collections = open; len(open) == 0 {
				h.pending[i].Attributes = nil
			}
		}
		_, err = Enqueue(ctx, tx, h.tenant, h.agent, h.pending...)
		return err
	})
	h.pending, h.size = nil, 0
}
