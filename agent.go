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

// Agent acts for a tenant; what it does carries its id.
type Agent struct {
	t           *Tenant
	id          uuid.UUID
	async       bool
	followLinks bool
}

// Agent returns the agent of this id, which need not be known before.
func (t *Tenant) Agent(id uuid.UUID) *Agent { return &Agent{t: t, id: id} }

// Async returns the same agent for callers who cannot wait: what it logs is acknowledged once it is on this
// machine's disk, and shipped to the trail in the background, exactly once and in this agent's order, also after a
// crash or while the database is unavailable. It needs Config.SpoolDir. Searches are recorded as ever: there is no
// answer without its record.
func (a *Agent) Async() *Agent {
	b := *a
	b.async = true
	return &b
}

// FollowLinks returns the same agent for folders whose links may lead out of them: Ingest, EnqueueFiles and Watch
// follow these, where they pass them over otherwise with kb.ErrLinkOut. Whoever may write into such a folder then has
// any file ingested that this process can read.
func (a *Agent) FollowLinks() *Agent {
	b := *a
	b.followLinks = true
	return &b
}

// ingester is what ingests as this agent says.
func (a *Agent) ingester(progress func(int)) (*kb.Ingester, error) {
	in, err := a.t.k.ingester(progress)
	if err == nil {
		in.FollowLinks = a.followLinks
	}
	return in, err
}

// Log writes an event and returns its id. When it returns, the event is committed and sealed. The event's
// AgentID is set to the agent's. Log the same ID with the same content again and it is there once. Events
// that are logged at the same time share a commit; each call gets its own result. Where the operator's
// policy lets this tenant's calls go on without the trail, and it can't be written, Log returns the zero id and nil;
// the gap is recorded later.
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

// LogBatch writes all events in one transaction, or none, and returns their ids in order. An Async agent's
// may land in part when a crash comes before they are acknowledged.
func (a *Agent) LogBatch(ctx context.Context, events []Event) ([]uuid.UUID, error) {
	if a.async {
		return a.t.k.trail.LogAsync(ctx, a.t.id, a.withAgent(events))
	}
	return a.t.k.trail.LogBatch(ctx, a.t.id, a.withAgent(events))
}

// InTx writes events in a transaction that Tenant.Tx opened: they commit with whatever else it does.
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

// record writes one event in a transaction that does what it tells of.
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

// Ingest ingests what paths name: files, folders, archives and mailboxes of this machine, pages, sitemaps and feeds
// (http and https URLs), and what lies below s3://BUCKET/PREFIX; docs/formats.md lists the kinds. A file already there
// is left as it is, a changed one is replaced. Each file is reported once; one that fails does not stop the others.
// chunks, when not nil, hears how many more were embedded.
func (a *Agent) Ingest(ctx context.Context, paths []string, given DocumentOptions, report func(IngestResult),
	chunks func(int)) error {
	in, err := a.ingester(chunks)
	if err != nil {
		return err
	}
	return in.Files(ctx, a.t.id, a.id, paths, given, report)
}

// StoreDocument stores a document whose passages and vectors the caller has made, with the first model.
func (a *Agent) StoreDocument(ctx context.Context, m kb.PreparedDocument) (uuid.UUID, kb.Outcome, error) {
	return kb.StorePrepared(ctx, a.t.k.door, a.t.id, a.id, m)
}

// EmbedAndStore is Put for documents whose passages the first model is to embed: what Chunk.Embed says of each.
func (a *Agent) EmbedAndStore(ctx context.Context, documents []kb.PreparedDocument) error {
	e, err := a.t.k.model("")
	if err != nil {
		return err
	}
	var texts []string
	for _, m := range documents {
		for _, c := range m.Chunks {
			texts = append(texts, c.Embed)
		}
	}
	vectors, err := e.Embed(ctx, texts)
	if err != nil {
		return err
	}
	for _, m := range documents {
		m.Model, m.Vectors, vectors = e.Name(), vectors[:len(m.Chunks)], vectors[len(m.Chunks):]
		if _, _, err := a.StoreDocument(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// Enqueue enqueues documents to be ingested later, all or none, and returns their jobs' ids: Konstruct.RunWorker
// ingests them, here or elsewhere.
func (a *Agent) Enqueue(ctx context.Context, uploads ...Upload) (ids []uuid.UUID, err error) {
	err = a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error {
		ids, err = a.EnqueueInTx(ctx, tx, uploads...)
		return err
	})
	return ids, err
}

// EnqueueInTx is Enqueue in a transaction that Tenant.Tx opened: what it enqueues is ingested if that commits.
func (a *Agent) EnqueueInTx(ctx context.Context, tx pgx.Tx, uploads ...Upload) ([]uuid.UUID, error) {
	return kb.Enqueue(ctx, tx, a.t.id, a.id, uploads...)
}

// EnqueueFiles is Enqueue for what Ingest ingests: archives and mailboxes are enqueued file by file, and pages are left
// to be read later. Each file is reported once, those enqueued without an outcome.
func (a *Agent) EnqueueFiles(ctx context.Context, paths []string, given DocumentOptions,
	report func(IngestResult)) error {
	in, err := a.ingester(nil)
	if err != nil {
		return err
	}
	return in.Enqueue(ctx, a.t.id, a.id, paths, given, report)
}

// Remove deletes a document from the knowledge base, with its passages, vectors and text, and writes an event that says
// so in the same transaction; events that named its passages stay. What was uploaded of its source before is not
// ingested after it. kb.ErrNotFound when the tenant has none such.
func (a *Agent) Remove(ctx context.Context, document uuid.UUID) (event uuid.UUID, err error) {
	err = a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error {
		d, err := kb.Remove(ctx, tx, a.t.id, document)
		if err != nil {
			return err
		}
		event, err = a.record(ctx, tx, a.removalEvent(&d))
		return err
	})
	return event, err
}

// removalEvent makes the event that says that a document was removed.
func (a *Agent) removalEvent(d *Document) func() (audit.Event, error) {
	return audit.Removal{AgentID: a.id, DocumentID: d.ID, Filename: d.Filename, Source: d.Source,
		SHA256: d.SHA256, Version: d.Version, Chunks: d.Chunks}.Event
}

// RemoveSource is Remove by a document's source. What was uploaded of the source and is not ingested yet is not
// ingested any more: its jobs end with kb.ErrDeleted as their reason. Where there is no document nil is returned, and
// no event is written.
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

// Watch ingests files and folders of this machine, and again what changes in them, until the context ends. With remove,
// documents whose files are gone from folders that can be read are removed.
func (a *Agent) Watch(ctx context.Context, paths []string, given DocumentOptions, every time.Duration, remove bool,
	report func(IngestResult)) error {
	w := kb.NewWatcher(paths, a.followLinks)
	in, err := a.ingester(nil)
	if err != nil {
		return err
	}
	var before map[string]bool // what was there when documents were last compared with it
	for {
		changed, present := w.Scan()
		if len(changed) > 0 { // by way of the folders that are watched, and no name that may lead elsewhere by now
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

// removeMissing removes the documents of folders whose files are not present.
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

// Reembed makes the vectors of another of Config.Models for the tenant's passages, beside those that are there, until
// none is missing; killed, it goes on where it was. Searches stay as they are until Serve. progress, when not nil,
// hears how many were made.
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

// ServeModel has the tenant's searches be by another model, from one transaction on, which also writes an event that
// says so; the empty name is the first model, whose vectors are always there. kb.ErrIncomplete, kb.ErrNoModel say why
// not.
func (a *Agent) ServeModel(ctx context.Context, model string) (event uuid.UUID, err error) {
	if _, err := a.t.k.model(model); err != nil {
		return event, err
	}
	ctx = tenantdb.Trusted(ctx) // it is every passage's model
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
