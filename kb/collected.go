package kb

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// CollectionDocument is an entry of a collection: a document, or one that is still ingested.
type CollectionDocument struct {
	ID         uuid.UUID      `json:"id"`          // of the entry: the document's, or that of the file that becomes it
	DocumentID *uuid.UUID     `json:"document_id"` // once it is ingested
	State      JobState       `json:"state"`
	Reason     string         `json:"reason,omitempty"` // why it was not ingested
	Attributes map[string]any `json:"attributes"`
	AddedAt    time.Time      `json:"added_at"`
	Filename   string         `json:"filename"`
	Source     string         `json:"source,omitempty"`
	Bytes      int64          `json:"bytes"`
}

const collectedSQL = `SELECT e.id, e.document_id, e.state, e.reason, e.attributes, e.added_at,
       coalesce(d.filename, ''), coalesce(s.source, d.source_url, ''), coalesce(s.bytes, 0)
  FROM kb_collection_documents e
  LEFT JOIN kb_documents d ON d.tenant_id = e.tenant_id AND d.id = e.document_id
  LEFT JOIN kb_sources s ON s.tenant_id = e.tenant_id AND s.document_id = e.document_id
 WHERE e.tenant_id = $1 AND e.collection_id = $2`

func scanCollected(r pgx.CollectableRow) (e CollectionDocument, err error) {
	err = r.Scan(&e.ID, &e.DocumentID, &e.State, &e.Reason, &e.Attributes, &e.AddedAt, &e.Filename, &e.Source, &e.Bytes)
	return e, err
}

// ListCollected lists the entries of a collection in the order of their ids, after the given one (uuid.Nil: from the
// first), at most limit of them; ErrNoCollection where it is not there.
func ListCollected(ctx context.Context, door *tenantdb.Door, tenant, collection, after uuid.UUID,
	limit int) (entries []CollectionDocument, err error) {
	if limit < 1 || limit > MaxList {
		return nil, fmt.Errorf("kb: list %d documents of a collection: the limit is 1 to %d", limit, MaxList)
	}
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockCollection(ctx, tx, tenant, collection, ``); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, collectedSQL+` AND e.id > $3 ORDER BY e.id LIMIT $4`, tenant, collection, after,
			limit)
		if err == nil {
			entries, err = pgx.CollectRows(rows, scanCollected)
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNoCollection) {
		err = fmt.Errorf("kb: list the documents of a collection: %w", err)
	}
	return entries, err
}

// FindCollected returns the entries that documents have in collections, by the documents' ids, within the caller's
// transaction; of a document that is in several, the first.
func FindCollected(ctx context.Context, tx pgx.Tx, tenant uuid.UUID,
	collections, documents []uuid.UUID) (map[uuid.UUID]CollectionDocument, error) {
	rows, err := tx.Query(ctx, strings.Replace(collectedSQL, "e.collection_id = $2", "e.collection_id = ANY ($2)", 1)+
		` AND e.document_id = ANY ($3) ORDER BY e.document_id, array_position($2, e.collection_id) DESC`,
		tenant, collections, documents)
	var entries []CollectionDocument
	if err == nil {
		entries, err = pgx.CollectRows(rows, scanCollected)
	}
	if err != nil {
		return nil, fmt.Errorf("kb: find documents in collections: %w", err)
	}
	found := make(map[uuid.UUID]CollectionDocument, len(entries))
	for _, e := range entries {
		found[*e.DocumentID] = e
	}
	return found, nil
}

// lockCollection reports whether a collection has expired, and locks its row as lock says; or returns ErrNoCollection.
func lockCollection(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, lock string) (expired bool, err error) {
	err = tx.QueryRow(ctx, `SELECT expired FROM kb_collections WHERE tenant_id = $1 AND id = $2`+lock, tenant, id).
		Scan(&expired)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoCollection
	}
	return expired, err
}

// Collect adds a document to a collection, within the caller's transaction, or sets its attributes there; nil keeps
// those that it has. It returns ErrNotFound or ErrNoCollection where the tenant lacks one, ErrCollectionExpired, and an
// error that names the attribute which can't be stored.
func Collect(ctx context.Context, tx pgx.Tx, tenant, collection, document uuid.UUID,
	attributes map[string]any) (e CollectionDocument, err error) {
	if err := CheckAttributes(attributes); err != nil {
		return e, err
	}
	expired, err := lockCollection(ctx, tx, tenant, collection, ` FOR KEY SHARE`)
	if err == nil && expired {
		err = ErrCollectionExpired
	}
	if err != nil {
		return e, err
	}
	var there bool
	if err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM kb_documents WHERE tenant_id = $1 AND id = $2)`, tenant,
		document).Scan(&there); err == nil && !there {
		return e, ErrNotFound
	}
	if err == nil {
		_, err = tx.Exec(ctx, `SELECT kb_collect($1, $2, $3, $4)`, tenant, document, []uuid.UUID{collection},
			attributes)
	}
	var rows pgx.Rows
	if err == nil {
		rows, err = tx.Query(ctx, collectedSQL+` AND e.document_id = $3`, tenant, collection, document)
	}
	if err == nil {
		e, err = pgx.CollectExactlyOneRow(rows, scanCollected)
	}
	if err == nil {
		err = TouchCollections(ctx, tx, tenant, []uuid.UUID{collection})
	}
	if err != nil {
		return e, fmt.Errorf("kb: add %s to the collection %s: %w", document, collection, err)
	}
	return e, nil
}

// Uncollect takes an entry out of a collection, within the caller's transaction, by its id or its document's; the
// document stays. A job that still ingests it goes on. It returns ErrNotFound or ErrNoCollection where there is none.
func Uncollect(ctx context.Context, tx pgx.Tx, tenant, collection, id uuid.UUID) (e CollectionDocument, err error) {
	if _, err := lockCollection(ctx, tx, tenant, collection, ` FOR KEY SHARE`); err != nil {
		return e, err
	}
	rows, err := tx.Query(ctx, collectedSQL+` AND (e.id = $3 OR e.document_id = $3)`, tenant, collection, id)
	if err == nil {
		e, err = pgx.CollectOneRow(rows, scanCollected)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return e, ErrNotFound
	}
	if err == nil {
		_, err = tx.Exec(ctx, `DELETE FROM kb_collection_documents
		  WHERE tenant_id = $1 AND collection_id = $2 AND id = $3`, tenant, collection, e.ID)
	}
	if err == nil {
		err = TouchCollections(ctx, tx, tenant, []uuid.UUID{collection})
	}
	if err != nil {
		return e, fmt.Errorf("kb: take %s out of the collection %s: %w", id, collection, err)
	}
	return e, nil
}

// checkCollections reports the first of some collections that documents can't join.
func checkCollections(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, ids []uuid.UUID) error {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	if _, err := FindCollections(ctx, tx, tenant, names); err != nil {
		return fmt.Errorf("collections: %w", err)
	}
	return nil
}

// checkCollections is checkCollections in a transaction of its own.
func (g DocumentOptions) checkCollections(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID) error {
	if len(g.Collections) == 0 {
		return nil
	}
	return door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return checkCollections(ctx, tx, tenant, g.Collections)
	})
}

// openCollections are those of some that documents can join.
func openCollections(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, ids []uuid.UUID) (open []uuid.UUID, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `SELECT id FROM kb_collections WHERE tenant_id = $1 AND id = ANY ($2) AND NOT expired`,
		tenant, ids)
	if err == nil {
		open, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	}
	return open, err
}

// collect adds a document to its collections.
func (g DocumentOptions) collect(ctx context.Context, door *tenantdb.Door, tenant, document uuid.UUID) error {
	if len(g.Collections) == 0 {
		return nil
	}
	return door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return g.collectInTx(ctx, tx, tenant, document)
	})
}

// collectInTx is collect in a transaction.
func (g DocumentOptions) collectInTx(ctx context.Context, tx pgx.Tx, tenant, document uuid.UUID) error {
	if len(g.Collections) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `SELECT kb_collect($1, $2, $3, $4)`, tenant, document, g.Collections, g.Attributes)
	return err
}

// ExpireCollection has one collection expire that is due, within the caller's transaction: its entries go, and its
// documents stay. It returns the collection and the documents that were in it, or nil where none is due.
func ExpireCollection(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (c *Collection, documents []uuid.UUID,
	err error) {
	var id uuid.UUID
	err = tx.QueryRow(ctx, `UPDATE kb_collections SET expired = true WHERE tenant_id = $1 AND id = (
	    SELECT id FROM kb_collections WHERE tenant_id = $1 AND expires_days IS NOT NULL AND NOT expired
	       AND last_active_at + expires_days * interval '1 day' <= now()
	     ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id`, tenant).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, nil
	}
	var rows pgx.Rows
	if err == nil {
		rows, err = tx.Query(ctx, `DELETE FROM kb_collection_documents WHERE tenant_id = $1 AND collection_id = $2
		  RETURNING coalesce(document_id, id)`, tenant, id)
	}
	if err == nil {
		documents, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	}
	if err == nil {
		var gone Collection
		gone, err = GetCollection(ctx, tx, tenant, id)
		c = &gone
	}
	if err != nil {
		return nil, nil, fmt.Errorf("kb: expire a collection: %w", err)
	}
	return c, documents, nil
}

//go:embed sql/next_expiry.sql
var nextExpirySQL string

// NextExpiry returns in what time something of the tenant's expires next, 0 for now; open is false where nothing does.
func NextExpiry(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (wait time.Duration, open bool, err error) {
	var seconds *float64
	if err = tx.QueryRow(ctx, nextExpirySQL, tenant).Scan(&seconds); err != nil {
		return 0, false, fmt.Errorf("kb: look what expires: %w", err)
	}
	if seconds == nil {
		return 0, false, nil
	}
	return max(0, time.Duration(*seconds*float64(time.Second))), true, nil
}
