package konstruct

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/files"
	"github.com/konstruct/konstruct/kb"
)

// Attachment is a stored file that is to be in a collection: see kb.Attachment.
type Attachment = kb.Attachment

// namesOf are the files of attachments.
func namesOf(all []Attachment) []uuid.UUID {
	ids := make([]uuid.UUID, len(all))
	for i := range all {
		ids[i] = all[i].File
	}
	return ids
}

// CreateCollectionOf is CreateCollection with files, which are attached in the same transaction.
func (a *Agent) CreateCollectionOf(ctx context.Context, o CollectionOptions,
	all []Attachment) (Collection, uuid.UUID, error) {
	return a.collectionChange(ctx, audit.CollectionCreated,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			if c, err = kb.CreateCollection(ctx, tx, a.t.id, o, !o.SharedName); err != nil || len(all) == 0 {
				return c, nil, err
			}
			if err = kb.Attach(ctx, tx, a.t.id, a.id, c.ID, nil, all); err == nil {
				c, err = kb.GetCollection(ctx, tx, a.t.id, c.ID)
			}
			return c, namesOf(all), err
		})
}

// Attach puts files into a collection, and records one event for all in the same transaction: see kb.Attach.
// Konstruct.RunWorker ingests them.
func (a *Agent) Attach(ctx context.Context, collection uuid.UUID, all ...Attachment) (event uuid.UUID, err error) {
	_, event, err = a.collectionChange(ctx, audit.DocumentsAdded,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			if err = kb.Attach(ctx, tx, a.t.id, a.id, collection, nil, all); err == nil {
				c, err = kb.GetCollection(ctx, tx, a.t.id, collection)
			}
			return c, namesOf(all), err
		})
	return event, err
}

// AttachBatch is Attach of a batch, whose progress can be seen.
func (a *Agent) AttachBatch(ctx context.Context, collection uuid.UUID,
	all []Attachment) (b kb.Batch, event uuid.UUID, err error) {
	_, event, err = a.collectionChange(ctx, audit.DocumentsAdded,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			if b, err = kb.AttachBatch(ctx, tx, a.t.id, a.id, collection, all); err == nil {
				c, err = kb.GetCollection(ctx, tx, a.t.id, collection)
			}
			return c, namesOf(all), err
		})
	return b, event, err
}

// CancelBatch has those files of a batch not be ingested that are not yet, and records the event in the same
// transaction.
func (a *Agent) CancelBatch(ctx context.Context, collection, batch uuid.UUID) (b kb.Batch, event uuid.UUID, err error) {
	_, event, err = a.collectionChange(ctx, audit.BatchCancelled,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			if b, err = kb.CancelBatch(ctx, tx, a.t.id, collection, batch); err == nil {
				c, err = kb.GetCollection(ctx, tx, a.t.id, collection)
			}
			return c, nil, err
		})
	return b, event, err
}

// SetAttributes replaces the attributes that a file or a document has in a collection, and records the event in the
// same transaction.
func (a *Agent) SetAttributes(ctx context.Context, collection, id uuid.UUID,
	attributes map[string]any) (e kb.Entry, event uuid.UUID, err error) {
	_, event, err = a.collectionChange(ctx, audit.DocumentsAdded,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			if e, err = kb.SetAttributes(ctx, tx, a.t.id, collection, id, attributes); err == nil {
				c, err = kb.GetCollection(ctx, tx, a.t.id, collection)
			}
			return c, []uuid.UUID{id}, err
		})
	return e, event, err
}

// Detach takes a file or a document out of a collection, and records the event in the same transaction. A document that
// was made of a file, and is in no other collection, is removed, with an event of its own; the file stays.
func (a *Agent) Detach(ctx context.Context, collection, id uuid.UUID) (event uuid.UUID, err error) {
	_, event, err = a.collectionChange(ctx, audit.DocumentsTaken,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			e, err := kb.Uncollect(ctx, tx, a.t.id, collection, id)
			if err == nil && e.DocumentID != nil {
				_, err = a.removeDetached(ctx, tx, 1, *e.DocumentID)
			}
			if err == nil {
				c, err = kb.GetCollection(ctx, tx, a.t.id, collection)
			}
			return c, []uuid.UUID{id}, err
		})
	return event, err
}

// RemoveFile deletes a stored file, takes it out of all collections, and removes the documents that were made of it,
// each with an event in the same transaction. A file of which there are none has an event of its own. It returns
// files.ErrNotFound when the tenant has no such file.
func (a *Agent) RemoveFile(ctx context.Context, id uuid.UUID) error {
	return a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error { return a.removeFile(ctx, tx, id) })
}

func (a *Agent) removeFile(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	f, err := files.Delete(ctx, tx, a.t.id, id)
	if err != nil {
		return err
	}
	documents, err := kb.OfFile(ctx, tx, a.t.id, id)
	if err != nil {
		return err
	}
	removed, err := a.removeDetached(ctx, tx, len(documents), documents...)
	if err != nil || removed > 0 {
		return err
	}
	_, err = a.record(ctx, tx, audit.Removal{AgentID: a.id, DocumentID: f.ID, Filename: f.Filename,
		Source: kb.FileSource(f.ID)}.Event)
	return err
}

// removeDetached removes documents of files that are in no collection any more, at most limit of them, and returns how
// many these were; of those given alone, if any.
func (a *Agent) removeDetached(ctx context.Context, tx pgx.Tx, limit int, documents ...uuid.UUID) (int, error) {
	if limit == 0 {
		return 0, nil
	}
	ids, err := kb.Detached(ctx, tx, a.t.id, limit, documents...)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		d, err := kb.Remove(ctx, tx, a.t.id, id)
		if errors.Is(err, kb.ErrNotFound) {
			continue
		}
		if err == nil {
			_, err = a.record(ctx, tx, a.removalEvent(&d))
		}
		if err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// detachedAtOnce is how many documents one transaction of the worker removes.
const detachedAtOnce = 50

// expireFiles deletes files that have expired, and removes documents of files that are in no collection any more.
func (a *Agent) expireFiles(ctx context.Context) (worked bool, err error) {
	for more := true; more; {
		err := a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error {
			id, err := files.Expired(ctx, tx, a.t.id)
			if more = err == nil && id != uuid.Nil; more {
				err = a.removeFile(ctx, tx, id)
			}
			return err
		})
		if err != nil && !errors.Is(err, files.ErrNotFound) { // somebody deleted it meanwhile
			return worked, err
		}
		worked = worked || more
	}
	for removed := detachedAtOnce; removed == detachedAtOnce; worked = worked || removed > 0 {
		if err := a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) (err error) {
			removed, err = a.removeDetached(ctx, tx, detachedAtOnce)
			return err
		}); err != nil {
			return worked, err
		}
	}
	return worked, nil
}

// Page returns a page of the tenant's collections in the order of their creation, and whether there are more.
func (g Collections) Page(ctx context.Context, page kb.Page) ([]Collection, bool, error) {
	return kb.PageCollections(ctx, g.t.k.door, g.t.id, page)
}

// Entries returns files and documents of a collection in the order in which they were added, and whether there are
// more: see kb.ListEntries.
func (g Collections) Entries(ctx context.Context, collection uuid.UUID, f kb.EntryFilter) ([]kb.Entry, bool, error) {
	return kb.ListEntries(ctx, g.t.k.door, g.t.id, collection, f)
}

// Entry returns a file or a document in a collection, kb.ErrNoCollection or kb.ErrNotFound.
func (g Collections) Entry(ctx context.Context, collection, id uuid.UUID) (kb.Entry, error) {
	return kb.GetEntry(ctx, g.t.k.door, g.t.id, collection, id)
}

// EntryText returns the text that was ingested of a file or a document in a collection, or kb.ErrNotFound.
func (g Collections) EntryText(ctx context.Context, collection, id uuid.UUID) (string, kb.Entry, error) {
	return kb.EntryText(ctx, g.t.k.door, g.t.id, collection, id)
}

// Batch returns files that were attached to a collection together, kb.ErrNoCollection or kb.ErrNoBatch.
func (g Collections) Batch(ctx context.Context, collection, batch uuid.UUID) (kb.Batch, error) {
	return kb.GetBatch(ctx, g.t.k.door, g.t.id, collection, batch)
}
