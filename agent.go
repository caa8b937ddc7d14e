package konstruct

import (
	"context"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// Agent acts for a tenant; its events carry its id.
type Agent struct {
	t           *Tenant
	id          uuid.UUID
	async       bool
	followLinks bool
}

// Agent returns the agent with this id. Agents need no registration.
func (t *Tenant) Agent(id uuid.UUID) *Agent { return &Agent{t: t, id: id} }

// Async returns the same agent for callers who cannot wait. Its Log returns once the event is on this machine's disk.
// The spool ships events to the trail in the background, exactly once and in this agent's order, also after a crash or
// while the database is unavailable. It needs Config.SpoolDir. Searches stay synchronous: no result without its
// retrieval event.
func (a *Agent) Async() *Agent {
	b := *a
	b.async = true
	return &b
}

// FollowLinks returns the same agent for folders with symbolic links that lead out of them: Ingest, EnqueueFiles and
// Watch follow these instead of skipping them with kb.ErrLinkOut. Anyone who may write into such a folder can then have
// any file ingested that this process can read.
func (a *Agent) FollowLinks() *Agent {
	b := *a
	b.followLinks = true
	return &b
}

// ingester returns an ingester with this agent's options.
func (a *Agent) ingester(progress func(int)) (*kb.Ingester, error) {
	in, err := a.t.k.ingester(progress)
	if err == nil {
		in.FollowLinks = a.followLinks
	}
	return in, err
}

// Log writes an event and returns its id. When it returns, the event is committed and sealed. Log sets the event's
// AgentID. Logging the same ID with the same content again is idempotent. Events that are logged at the same time share
// a commit; each call gets its own result. If the trail can't be written and the operator's policy lets this tenant's
// calls continue, Log returns the zero id and nil; the gap is recorded later.
func (a *Agent) Log(ctx context.Context, e Event) (uuid.UUID, error) {
	if a.async {
		ids, err := a.LogBatch(ctx, []Event{e})
		if len(ids) == 0 {
			return uuid.Nil, err
		}
		return ids[0], err
	}
	e.AgentID = a.id
	return a.t.k.trail.Log(ctx, a.t.id, e)
}

// LogBatch writes all events in one transaction, or none, and returns their ids in order. For an Async agent, a crash
// before LogBatch returns can leave part of them written.
func (a *Agent) LogBatch(ctx context.Context, events []Event) ([]uuid.UUID, error) {
	if a.async {
		return a.t.k.trail.LogAsync(ctx, a.t.id, a.withAgent(events))
	}
	return a.t.k.trail.LogBatch(ctx, a.t.id, a.withAgent(events))
}

// InTx writes events in a transaction that Tenant.Tx opened: they commit with the caller's own changes.
func (a *Agent) InTx(ctx context.Context, tx pgx.Tx, events ...Event) ([]uuid.UUID, error) {
	return a.t.k.trail.InTx(ctx, tx, a.t.id, a.withAgent(events)...)
}

func (a *Agent) withAgent(events []Event) []Event {
	mine := make([]Event, len(events))
	for i, e := range events {
		e.AgentID = a.id
		mine[i] = e
	}
	return mine
}

// LogLLMCall logs a call of a language model.
func (a *Agent) LogLLMCall(ctx context.Context, c LLMCall) (uuid.UUID, error) {
	return a.logCall(ctx, c.Event)
}

// LogToolCall logs an invocation of a tool.
func (a *Agent) LogToolCall(ctx context.Context, c ToolCall) (uuid.UUID, error) {
	return a.logCall(ctx, c.Event)
}

// LogEscalation logs that a decision was handed to a person.
func (a *Agent) LogEscalation(ctx context.Context, c Escalation) (uuid.UUID, error) {
	return a.logCall(ctx, c.Event)
}

func (a *Agent) logCall(ctx context.Context, made func() (Event, error)) (uuid.UUID, error) {
	e, err := made()
	if err != nil {
		return uuid.Nil, err
	}
	return a.Log(ctx, e)
}

// record writes one event in the transaction of the change that it describes.
func (a *Agent) record(ctx context.Context, tx pgx.Tx, made func() (Event, error)) (uuid.UUID, error) {
	e, err := made()
	if err != nil {
		return uuid.Nil, err
	}
	ids, err := a.t.k.trail.InTx(ctx, tx, a.t.id, e)
	if err != nil {
		return uuid.Nil, err
	}
	return ids[0], nil
}

// Ingest ingests files, folders, archives and mailboxes of this machine, pages, sitemaps and feeds (http and https
// URLs), and objects below s3://BUCKET/PREFIX; docs/formats.md lists the formats. It skips an unchanged document and
// replaces a changed one. It calls report once for each file; one that fails does not stop the others. chunks, when not
// nil, is called with the number of chunks embedded since its last call.
func (a *Agent) Ingest(ctx context.Context, paths []string, given DocumentOptions, report func(IngestResult),
	chunks func(int)) error {
	in, err := a.ingester(chunks)
	if err != nil {
		return err
	}
	return in.Files(ctx, a.t.id, a.id, paths, given, report)
}

// StoreDocument stores a document whose chunks and vectors the caller has made, with the first model.
func (a *Agent) StoreDocument(ctx context.Context, m kb.PreparedDocument) (uuid.UUID, kb.Outcome, error) {
	return kb.StorePrepared(ctx, a.t.k.door, a.t.id, a.id, m)
}

// EmbedAndStore embeds each chunk, in pieces where it has some, with the first model and stores the documents.
func (a *Agent) EmbedAndStore(ctx context.Context, documents []kb.PreparedDocument) error {
	e, err := a.t.k.model("")
	if err != nil {
		return err
	}
	var texts []string
	for _, m := range documents {
		for _, c := range m.Chunks {
			texts = append(texts, c.Inputs()...)
		}
	}
	vectors, err := e.Embed(ctx, texts)
	if err != nil {
		return err
	}
	for _, m := range documents {
		m.Model, m.Vectors, m.PieceVectors = e.Name(), nil, nil
		for _, c := range m.Chunks {
			n := max(1, len(c.Pieces))
			m.Vectors, m.PieceVectors = append(m.Vectors, vectors[0]), append(m.PieceVectors, vectors[1:n])
			vectors = vectors[n:]
		}
		if _, _, err := a.StoreDocument(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// Enqueue creates a job for each document, all or none, and returns the jobs' ids. Konstruct.RunWorker ingests them, in
// this process or another.
func (a *Agent) Enqueue(ctx context.Context, uploads ...Upload) (ids []uuid.UUID, err error) {
	err = a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error {
		ids, err = a.EnqueueInTx(ctx, tx, uploads...)
		return err
	})
	return ids, err
}

// EnqueueInTx is Enqueue in a transaction that Tenant.Tx opened: the jobs exist once that commits.
func (a *Agent) EnqueueInTx(ctx context.Context, tx pgx.Tx, uploads ...Upload) ([]uuid.UUID, error) {
	return kb.Enqueue(ctx, tx, a.t.id, a.id, uploads...)
}

// EnqueueFiles is Enqueue for everything that Ingest accepts. Each file of an archive or a mailbox becomes a job; the
// worker fetches pages. It calls report once for each file, without an outcome for the enqueued ones.
func (a *Agent) EnqueueFiles(ctx context.Context, paths []string, given DocumentOptions,
	report func(IngestResult)) error {
	in, err := a.ingester(nil)
	if err != nil {
		return err
	}
	return in.Enqueue(ctx, a.t.id, a.id, paths, given, report)
}

// Remove deletes a document with its chunks, vectors and text, and records the event in the same transaction. Events
// that cite its chunks stay. Uploads of its source from before the removal are not ingested afterwards. It returns
// kb.ErrNotFound when the tenant has no such document.
func (a *Agent) Remove(ctx context.Context, document uuid.UUID) (event uuid.UUID, err error) {
	return a.RemoveIf(ctx, document, func(Document) error { return nil })
}

// RemoveIf is Remove on a condition: when check returns an error for the document, nothing is deleted and RemoveIf
// returns that error. Nobody replaces the document between the check and the deletion.
func (a *Agent) RemoveIf(ctx context.Context, document uuid.UUID,
	check func(Document) error) (event uuid.UUID, err error) {
	err = a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error {
		d, err := kb.Remove(ctx, tx, a.t.id, document)
		if err == nil {
			err = check(d) // an error rolls the deletion back
		}
		if err != nil {
			return err
		}
		event, err = a.record(ctx, tx, a.removalEvent(&d))
		return err
	})
	return event, err
}

// removalEvent returns the constructor of the event of a document's removal.
func (a *Agent) removalEvent(d *Document) func() (audit.Event, error) {
	return audit.Removal{AgentID: a.id, DocumentID: d.ID, Filename: d.Filename, Source: d.Source,
		SHA256: d.SHA256, Version: d.Version, Chunks: d.Chunks}.Event
}

// RemoveSource is Remove by a document's source. Jobs for the source that have not ended fail with kb.ErrDeleted.
// Without such a document it returns a nil document and writes no event.
func (a *Agent) RemoveSource(ctx context.Context, source string) (d *Document, event uuid.UUID, err error) {
	err = a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error {
		if d, err = kb.RemoveSource(ctx, tx, a.t.id, source); err != nil || d == nil {
			return err
		}
		event, err = a.record(ctx, tx, a.removalEvent(d))
		return err
	})
	return d, event, err
}

// Watch ingests files and folders of this machine, and again whatever changes in them, until the context ends. With
// remove, it also removes documents whose files have disappeared, from folders that can be read.
func (a *Agent) Watch(ctx context.Context, paths []string, given DocumentOptions, every time.Duration, remove bool,
	report func(IngestResult)) error {
	w := kb.NewWatcher(paths, a.followLinks)
	in, err := a.ingester(nil)
	if err != nil {
		return err
	}
	var before map[string]bool // the files at the last comparison with the documents
	for {
		changed, present := w.Scan()
		if len(changed) > 0 { // through the watched folders: a name may lead elsewhere by now
			in.Only = func(path string) bool { _, is := slices.BinarySearch(changed, path); return is }
			if err := in.Files(ctx, a.t.id, a.id, paths, given, report); err != nil {
				return err
			}
		}
		if remove && present != nil && !maps.Equal(present, before) {
			if err := a.removeMissing(ctx, paths, present, report); err != nil {
				return err
			}
			before = present
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}

// removeMissing removes the documents below folders whose files are not in present.
func (a *Agent) removeMissing(ctx context.Context, folders []string, present map[string]bool,
	report func(IngestResult)) error {
	for _, folder := range folders {
		abs, err := filepath.Abs(folder)
		if err != nil {
			return err
		}
		below, err := kb.SourcesBelow(ctx, a.t.k.door, a.t.id,
			(&url.URL{Scheme: "file", Path: filepath.ToSlash(abs) + "/"}).String())
		if err != nil {
			return err
		}
		for source := range below {
			u, err := url.Parse(source)
			if err != nil || present[filepath.FromSlash(u.Path)] {
				continue
			}
			d, _, err := a.RemoveSource(ctx, source)
			if err != nil {
				return err
			}
			if d != nil {
				report(IngestResult{Path: u.Path, DocumentID: d.ID, Outcome: kb.Removed})
			}
		}
	}
	return nil
}

// Reembed makes the missing vectors of another of Config.Embedders for the tenant's chunks, beside the existing ones.
// After a kill, the next call continues. Searches use the old model until ServeModel. progress, when not nil, is called
// with the number of vectors made since its last call.
func (a *Agent) Reembed(ctx context.Context, model string, progress func(int)) error {
	e, err := a.t.k.model(model)
	if err != nil {
		return err
	}
	tokens, err := embed.FindTokenizer(a.t.k.assetsDir)
	if err != nil {
		return err
	}
	return kb.Reembed(tenantdb.Trusted(ctx), a.t.k.door, a.t.id, e, tokens, progress)
}

// ServeModel switches the tenant's searches to another model and records the event in the same transaction. The empty
// name is the first model, whose vectors always exist. It returns kb.ErrIncomplete while vectors are missing, and
// kb.ErrNoModel for a model without any.
func (a *Agent) ServeModel(ctx context.Context, model string) (event uuid.UUID, err error) {
	if _, err := a.t.k.model(model); err != nil {
		return event, err
	}
	ctx = tenantdb.Trusted(ctx) // the model serves every chunk, whatever its labels
	err = a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error {
		before, err := kb.ServeModel(ctx, tx, a.t.id, model)
		if err != nil {
			return err
		}
		event, err = a.record(ctx, tx, audit.ModelChange{AgentID: a.id, Model: model, Before: before}.Event)
		return err
	})
	return event, err
}
