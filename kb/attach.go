package kb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/chunk"
)

// Attachment is a stored file that is to be in a collection: a job makes a document of it. Instead of a file it may be
// any document of the tenant, by its id.
type Attachment struct {
	File       uuid.UUID
	Attributes map[string]any
	Chunking   *StaticChunking // nil is the default
}

// StaticChunking is how a file is split that is not split by its structure, in tokens.
type StaticChunking struct {
	MaxTokens int `json:"max_chunk_size_tokens"`
	Overlap   int `json:"chunk_overlap_tokens"`
}

// Limits on attachments.
const (
	MaxAttachments    = 2000 // at once
	fileSource        = "konstruct:file/"
	attachmentsAtOnce = MaxUploads
)

// Reasons why a file becomes no document.
var (
	errFileGone  = errors.New("the file was deleted")
	errFileHolds = errors.New("it holds several files: unpack it, and attach each")
)

// NoFileError says that a tenant has no such file, or none that the caller may see.
type NoFileError struct{ ID uuid.UUID }

// Error implements error.
func (e *NoFileError) Error() string { return fmt.Sprintf("there is no file %s of this tenant", e.ID) }

// Check reports what can't be stored; the error begins with the field's name.
func (a *Attachment) Check() error {
	if c := a.Chunking; c != nil {
		switch {
		case c.MaxTokens < chunk.MinStatic || c.MaxTokens > chunk.MaxStatic:
			return fmt.Errorf("max_chunk_size_tokens: %d: it is %d to %d", c.MaxTokens, chunk.MinStatic,
				chunk.MaxStatic)
		case c.Overlap < 0 || c.Overlap > c.MaxTokens/2:
			return fmt.Errorf("chunk_overlap_tokens: %d: it is 0 to half of max_chunk_size_tokens", c.Overlap)
		}
	}
	return CheckAttributes(a.Attributes)
}

// FileSource is the source of the document that is made of a file which is split by default; of one that is split
// otherwise it begins so.
func FileSource(file uuid.UUID) string { return fileSource + file.String() }

// IsOfFile reports whether a document with this source was made of a stored file.
func IsOfFile(source string) bool { return strings.HasPrefix(source, fileSource) }

// source is the source of the document that is made of a file: of a file that is split in two ways two are made.
func (a *Attachment) source() string {
	source := FileSource(a.File)
	if c := a.Chunking; c != nil {
		source += fmt.Sprintf("?max_chunk_size_tokens=%d&chunk_overlap_tokens=%d", c.MaxTokens, c.Overlap)
	}
	return source
}

// upload is the job that ingests the file.
func (a *Attachment) upload(collection uuid.UUID, filename string, labels []string) Upload {
	u := Upload{Source: a.source(), Filename: filename, File: &a.File,
		DocumentOptions: DocumentOptions{Collections: []uuid.UUID{collection}}}
	if c := a.Chunking; c != nil {
		u.Chunking = &chunk.Options{MaxTokens: c.MaxTokens, Overlap: c.Overlap}
	}
	if len(labels) > 0 { // else a new document gets those of the collection
		u.Labels = labels
	}
	return u
}

// Attach puts files into a collection, within the caller's transaction, each once: those that are ingested already at
// once, and the others when their jobs are done. One that is in the collection is attached anew. Batch, when not nil,
// is the batch that they are of. It returns ErrNoCollection, ErrCollectionExpired or a *NoFileError where one is not
// there.
func Attach(ctx context.Context, tx pgx.Tx, tenant, agent, collection uuid.UUID, batch *uuid.UUID,
	all []Attachment) error {
	expired, err := lockCollection(ctx, tx, tenant, collection, ` FOR KEY SHARE`)
	switch {
	case err != nil:
		return err
	case expired:
		return ErrCollectionExpired
	case len(all) > MaxAttachments:
		return fmt.Errorf("kb: attach %d files: the limit is %d at once", len(all), MaxAttachments)
	}
	w := &attaching{tx: tx, tenant: tenant, agent: agent, collection: collection, batch: batch}
	seen := map[uuid.UUID]bool{}
	for i := range all {
		if err := all[i].Check(); err != nil {
			return err
		}
		if !seen[all[i].File] {
			w.all = append(w.all, &attached{Attachment: all[i]})
		}
		seen[all[i].File] = true
	}
	// Two that attach the same files wait for each other in one order.
	slices.SortFunc(w.all, func(a, b *attached) int { return slices.Compare(a.File[:], b.File[:]) })
	for _, step := range []func(context.Context) error{w.findFiles, w.findDocuments, w.detach, w.findJobs,
		w.findIngested, w.enqueue, w.insert} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return TouchCollections(ctx, tx, tenant, []uuid.UUID{collection})
}

// attached is a file on its way into a collection.
type attached struct {
	Attachment
	isFile        bool
	filename      string
	labels        []string
	document, job *uuid.UUID
}

// attaching are the files of one Attach.
type attaching struct {
	tx                        pgx.Tx
	tenant, agent, collection uuid.UUID
	batch                     *uuid.UUID
	all                       []*attached
}

// ids are those of the files.
func (w *attaching) ids() []uuid.UUID {
	ids := make([]uuid.UUID, len(w.all))
	for i, a := range w.all {
		ids[i] = a.File
	}
	return ids
}

// sources are the files that are not ingested yet, by the source of their document.
func (w *attaching) sources() (names []string, by map[string]*attached) {
	by = map[string]*attached{}
	for _, a := range w.all {
		if a.isFile && a.document == nil && a.job == nil {
			by[a.source()] = a
			names = append(names, a.source())
		}
	}
	return names, by
}

// each runs a query and calls a function for each row, whose columns are at the places.
func (w *attaching) each(ctx context.Context, places []any, do func(), sql string, args ...any) error {
	rows, err := w.tx.Query(ctx, sql, append([]any{w.tenant}, args...)...)
	if err == nil {
		_, err = pgx.ForEachRow(rows, places, func() error { do(); return nil })
	}
	if err != nil {
		return fmt.Errorf("kb: attach files: %w", err)
	}
	return nil
}

// findFiles looks the files up, and keeps them from being deleted.
func (w *attaching) findFiles(ctx context.Context) error {
	by := map[uuid.UUID]*attached{}
	for _, a := range w.all {
		by[a.File] = a
	}
	var id uuid.UUID
	var filename string
	var labels []string
	return w.each(ctx, []any{&id, &filename, &labels}, func() {
		a := by[id]
		a.isFile, a.filename, a.labels = true, filename, slices.Clone(labels)
	}, `SELECT id, filename, labels FROM kb_files WHERE tenant_id = $1 AND id = ANY ($2)
	    AND (expires_at IS NULL OR expires_at > now()) ORDER BY id FOR KEY SHARE`, w.ids())
}

// findDocuments looks those up that are no files. A document of a file is attached by its file.
func (w *attaching) findDocuments(ctx context.Context) error {
	var ids []uuid.UUID
	there := map[uuid.UUID]bool{}
	for _, a := range w.all {
		if !a.isFile {
			ids = append(ids, a.File)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var id uuid.UUID
	if err := w.each(ctx, []any{&id}, func() { there[id] = true }, `SELECT d.id FROM kb_documents d
	  WHERE d.tenant_id = $1 AND d.id = ANY ($2) AND NOT EXISTS (SELECT FROM kb_sources s
	    WHERE s.tenant_id = $1 AND s.document_id = d.id AND starts_with(s.source, 'konstruct:file/'))
	  ORDER BY d.id FOR KEY SHARE`, ids); err != nil {
		return err
	}
	for _, a := range w.all {
		if !a.isFile && !there[a.File] {
			return &NoFileError{a.File}
		}
		if !a.isFile {
			a.document = &a.File
		}
	}
	return nil
}

// detach takes those out that are in the collection already.
func (w *attaching) detach(ctx context.Context) error {
	return w.each(ctx, nil, func() {}, `DELETE FROM kb_collection_documents
	  WHERE tenant_id = $1 AND collection_id = $2 AND id = ANY ($3)`, w.collection, w.ids())
}

// findJobs looks for jobs that ingest the files already. They do not end before this transaction does.
func (w *attaching) findJobs(ctx context.Context) error {
	names, by := w.sources()
	var id uuid.UUID
	var source string
	return w.each(ctx, []any{&id, &source}, func() { job := id; by[source].job = &job },
		`SELECT id, source FROM kb_jobs WHERE tenant_id = $1 AND source = ANY ($2) AND state IN ('queued', 'running')
		    AND file_id IS NOT NULL ORDER BY id FOR NO KEY UPDATE`, names)
}

// findIngested looks for documents of the files, and keeps them from being deleted.
func (w *attaching) findIngested(ctx context.Context) error {
	names, by := w.sources()
	var id uuid.UUID
	var source string
	return w.each(
		ctx,
		[]any{&id, &source},
		func() { document := id; by[source].document = &document },
		`SELECT d.id, s.source FROM kb_sources s
		   JOIN kb_documents d ON d.tenant_id = s.tenant_id AND d.id = s.document_id
		  WHERE s.tenant_id = $1 AND s.source = ANY ($2) ORDER BY d.id FOR KEY SHARE OF d`,
		names,
	)
}

// enqueue creates jobs for the others.
func (w *attaching) enqueue(ctx context.Context) error {
	var open []*attached
	for _, a := range w.all {
		if a.document == nil && a.job == nil {
			open = append(open, a)
		}
	}
	for some := range slices.Chunk(open, attachmentsAtOnce) {
		uploads := make([]Upload, len(some))
		for i, a := range some {
			uploads[i] = a.upload(w.collection, a.filename, a.labels)
		}
		ids, err := Enqueue(ctx, w.tx, w.tenant, w.agent, uploads...)
		if err != nil {
			return err
		}
		for i, a := range some {
			a.job = &ids[i]
		}
	}
	return nil
}

// insert inserts the entries. A document of a file may be in the collection by its own id: the file takes its place.
func (w *attaching) insert(ctx context.Context) error {
	n := len(w.all)
	ids, files, documents, jobs := w.ids(), make([]*uuid.UUID, n), make([]*uuid.UUID, n), make([]*uuid.UUID, n)
	attributes, chunking := make([]string, n), make([]*string, n)
	for i, a := range w.all {
		documents[i], jobs[i] = a.document, a.job
		if a.isFile {
			files[i] = &a.File
		}
		raw, err := json.Marshal(a.Attributes)
		if err == nil && a.Attributes == nil {
			raw = []byte(`{}`)
		}
		attributes[i] = string(raw)
		if err == nil && a.Chunking != nil {
			raw, err = json.Marshal(a.Chunking)
			text := string(raw)
			chunking[i] = &text
		}
		if err != nil {
			return fmt.Errorf("kb: attach files: %w", err)
		}
	}
	if err := w.each(ctx, nil, func() {}, `DELETE FROM kb_collection_documents
	  WHERE tenant_id = $1 AND collection_id = $2 AND document_id = ANY ($3)`, w.collection, documents); err != nil {
		return err
	}
	return w.each(ctx, nil, func() {}, `INSERT INTO kb_collection_documents
	    (tenant_id, collection_id, id, file_id, document_id, job_id, state, attributes, chunking, batch_id)
	  SELECT $1, $2, n.id, n.file_id, n.document_id, n.job_id,
	         CASE WHEN n.document_id IS NULL THEN 'queued' ELSE 'done' END,
	         n.attributes::jsonb, n.chunking::jsonb, $9
	    FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::text[])
	         n (id, file_id, document_id, job_id, attributes, chunking)
	  ON CONFLICT (tenant_id, collection_id, id) DO UPDATE
	    SET document_id = EXCLUDED.document_id, job_id = EXCLUDED.job_id, state = EXCLUDED.state, reason = '',
	        attributes = EXCLUDED.attributes, chunking = EXCLUDED.chunking, batch_id = EXCLUDED.batch_id`,
		w.collection, ids, files, documents, jobs, attributes, chunking, w.batch)
}

// Detached returns the documents of files that are in no collection any more, at most limit of them, in a transaction
// whose tenant and labels are set; of these alone where documents are given.
func Detached(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, limit int,
	documents ...uuid.UUID) (ids []uuid.UUID, err error) {
	rows, err := tx.Query(ctx, `SELECT s.document_id FROM kb_sources s
	  WHERE s.tenant_id = $1 AND starts_with(s.source, 'konstruct:file/')
	    AND ($3::uuid[] IS NULL OR s.document_id = ANY ($3))
	    AND NOT EXISTS (SELECT FROM kb_collection_documents e
	                     WHERE e.tenant_id = s.tenant_id AND e.document_id = s.document_id)
	  ORDER BY s.document_id LIMIT $2`, tenant, limit, documents)
	if err == nil {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	}
	if err != nil {
		return nil, fmt.Errorf("kb: look for documents of files that are in no collection: %w", err)
	}
	return ids, nil
}

// OfFile returns the documents that were made of a file.
func OfFile(ctx context.Context, tx pgx.Tx, tenant, file uuid.UUID) (ids []uuid.UUID, err error) {
	source := FileSource(file)
	rows, err := tx.Query(ctx, `SELECT document_id FROM kb_sources
	  WHERE tenant_id = $1 AND starts_with(source, 'konstruct:file/')
	    AND (source = $2 OR starts_with(source, $2 || '?'))
	  ORDER BY document_id`, tenant, source)
	if err == nil {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	}
	if err != nil {
		return nil, fmt.Errorf("kb: look for the documents of a file: %w", err)
	}
	return ids, nil
}
