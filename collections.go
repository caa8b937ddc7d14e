package konstruct

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/kb"
)

// List returns at most limit collections in the order of their creation, beginning after the given id; uuid.Nil begins
// with the first.
func (g Collections) List(ctx context.Context, after uuid.UUID, limit int) ([]Collection, error) {
	return kb.ListCollections(ctx, g.t.k.door, g.t.id, after, false, limit)
}

// Get returns a collection by its name or its id, or a *kb.CollectionNameError. One that has expired has its id alone.
func (g Collections) Get(ctx context.Context, name string) (c Collection, err error) {
	err = g.t.k.door.Tx(ctx, g.t.id, func(ctx context.Context, tx pgx.Tx) error {
		if id, e := uuid.Parse(name); e == nil {
			if c, err = kb.GetCollection(ctx, tx, g.t.id, id); err == nil {
				return nil
			}
		}
		ids, err := kb.FindCollections(ctx, tx, g.t.id, []string{name})
		if err == nil {
			c, err = kb.GetCollection(ctx, tx, g.t.id, ids[0])
		}
		return err
	})
	return c, err
}

// Find returns the ids of collections by their names or ids, each once, or a *kb.CollectionNameError. Collections that
// have expired are not found.
func (g Collections) Find(ctx context.Context, names ...string) (ids []uuid.UUID, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	err = g.t.k.door.Tx(ctx, g.t.id, func(ctx context.Context, tx pgx.Tx) error {
		ids, err = kb.FindCollections(ctx, tx, g.t.id, names)
		return err
	})
	return ids, err
}

// Documents returns at most limit entries of a collection in the order of their ids, beginning after the given one.
func (g Collections) Documents(ctx context.Context, collection, after uuid.UUID,
	limit int) ([]CollectionDocument, error) {
	return kb.ListCollected(ctx, g.t.k.door, g.t.id, collection, after, limit)
}

// EntriesIn returns the entries that documents have in collections, by the documents' ids; of a document that is in
// several, the first.
func (g Collections) EntriesIn(ctx context.Context, collections, documents []uuid.UUID) (
	entries map[uuid.UUID]CollectionDocument, err error) {
	err = g.t.k.door.Tx(ctx, g.t.id, func(ctx context.Context, tx pgx.Tx) error {
		entries, err = kb.FindCollected(ctx, tx, g.t.id, collections, documents)
		return err
	})
	return entries, err
}

// collectionChange changes a collection and records that in the same transaction.
func (a *Agent) collectionChange(ctx context.Context, change string,
	do func(context.Context, pgx.Tx) (Collection, []uuid.UUID, error)) (c Collection, event uuid.UUID, err error) {
	err = a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) (err error) {
		var documents []uuid.UUID
		if c, documents, err = do(ctx, tx); err != nil {
			return err
		}
		event, err = a.record(ctx, tx, audit.CollectionChange{AgentID: a.id, Collection: c.ID, Name: c.Name,
			Change: change, Documents: documents, Count: len(documents)}.Event)
		return err
	})
	return c, event, err
}

// CreateCollection creates a collection and records the event in the same transaction. Another collection may not have
// its name: kb.ErrCollectionName.
func (a *Agent) CreateCollection(ctx context.Context, o CollectionOptions) (Collection, uuid.UUID, error) {
	return a.collectionChange(ctx, audit.CollectionCreated,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			c, err = kb.CreateCollection(ctx, tx, a.t.id, o, !o.SharedName)
			return c, nil, err
		})
}

// UpdateCollection changes what o sets of a collection, and records the event in the same transaction.
func (a *Agent) UpdateCollection(ctx context.Context, id uuid.UUID,
	o CollectionOptions) (Collection, uuid.UUID, error) {
	return a.collectionChange(ctx, audit.CollectionUpdated,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			c, err = kb.UpdateCollection(ctx, tx, a.t.id, id, o, !o.SharedName)
			return c, nil, err
		})
}

// DeleteCollection deletes a collection and records the event in the same transaction. Its documents stay.
func (a *Agent) DeleteCollection(ctx context.Context, id uuid.UUID) (Collection, uuid.UUID, error) {
	return a.collectionChange(ctx, audit.CollectionDeleted,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			c, err = kb.DeleteCollection(ctx, tx, a.t.id, id)
			return c, nil, err
		})
}

// Collect adds a document to a collection with attributes of its own there, or sets these; nil keeps those that it has.
// It records the event in the same transaction.
func (a *Agent) Collect(ctx context.Context, collection, document uuid.UUID,
	attributes map[string]any) (e CollectionDocument, event uuid.UUID, err error) {
	_, event, err = a.collectionChange(ctx, audit.DocumentsAdded,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			if e, err = kb.Collect(ctx, tx, a.t.id, collection, document, attributes); err == nil {
				c, err = kb.GetCollection(ctx, tx, a.t.id, collection)
			}
			return c, []uuid.UUID{document}, err
		})
	return e, event, err
}

// Uncollect takes a document out of a collection, and records the event in the same transaction. The document stays.
func (a *Agent) Uncollect(ctx context.Context, collection, document uuid.UUID) (event uuid.UUID, err error) {
	_, event, err = a.collectionChange(ctx, audit.DocumentsTaken,
		func(ctx context.Context, tx pgx.Tx) (c Collection, _ []uuid.UUID, err error) {
			if _, err = kb.Uncollect(ctx, tx, a.t.id, collection, document); err == nil {
				c, err = kb.GetCollection(ctx, tx, a.t.id, collection)
			}
			return c, []uuid.UUID{document}, err
		})
	return event, err
}

// collectionExpirer has collections and files expire, and removes documents of files that are in no collection any
// more. It is the worker of fairqueue.Collections, and a fairqueue.Scheduler.
type collectionExpirer struct{ k *Konstruct }

// Work has a tenant's collections and files expire that are due, each with an event. It implements fairqueue.Worker.
func (x collectionExpirer) Work(ctx context.Context, tenant uuid.UUID) (worked bool, err error) {
	a := x.k.Tenant(tenant).Agent(uuid.NewSHA1(tenant, []byte("konstruct expiry of collections")))
	for {
		var gone bool
		err = x.k.door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			c, entries, err := kb.ExpireCollection(ctx, tx, tenant)
			if gone = err == nil && c != nil; !gone {
				return err
			}
			_, err = a.record(ctx, tx, audit.CollectionChange{AgentID: a.id, Collection: c.ID, Name: c.Name,
				Change: audit.CollectionExpired, Documents: entries, Count: len(entries)}.Event)
			return err
		})
		if err != nil {
			return worked, err
		}
		if !gone {
			break
		}
		worked = true
	}
	files, err := a.expireFiles(ctx)
	return worked || files, err
}

// Next returns in what time something of the tenant's is due. It implements fairqueue.Scheduler.
func (x collectionExpirer) Next(ctx context.Context, tenant uuid.UUID) (wait time.Duration, open bool, err error) {
	err = x.k.door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		wait, open, err = kb.NextExpiry(ctx, tx, tenant)
		return err
	})
	return wait, open, err
}

// Prepare reports whether a collection is to expire. It implements fairqueue.Worker.
func (x collectionExpirer) Prepare(ctx context.Context, tenant uuid.UUID) (open bool, err error) {
	_, open, err = x.Next(ctx, tenant)
	return open, err
}
