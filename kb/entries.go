package kb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/tenantdb"
)

// Entry is a file or another document in a collection, or one that is still ingested.
type Entry struct {
	ID         uuid.UUID  // the file's, or the document's where it was made of no file
	DocumentID *uuid.UUID // once it is ingested
	State      JobState
	Reason     string // why it was not ingested
	Attributes map[string]any
	Chunking   *StaticChunking // nil is the default
	Batch      *uuid.UUID
	AddedAt    time.Time
	Filename   string
	Bytes      int64 // of what was ingested
}

const entriesSQL = `SELECT e.id, e.document_id, e.state, e.reason, e.attributes, e.chunking, e.batch_id, e.added_at,
       coalesce(f.filename, d.filename, ''), coalesce(s.bytes, 0)
  FROM kb_collection_documents e
  LEFT JOIN kb_files f ON f.tenant_id = e.tenant_id AND f.id = e.file_id
  LEFT JOIN kb_documents d ON d.tenant_id = e.tenant_id AND d.id = e.document_id
  LEFT JOIN kb_sources s ON s.tenant_id = e.tenant_id AND s.document_id = e.document_id
 WHERE e.tenant_id = $1 AND e.collection_id = $2`

func scanEntry(r pgx.CollectableRow) (e Entry, err error) {
	err = r.Scan(&e.ID, &e.DocumentID, &e.State, &e.Reason, &e.Attributes, &e.Chunking, &e.Batch, &e.AddedAt,
		&e.Filename, &e.Bytes)
	return e, err
}

// EntryFilter says which entries of a collection are listed.
type EntryFilter struct {
	States []JobState // empty: any
	Batch  *uuid.UUID // nil: any
	Page
}

// ListEntries lists a collection's entries in the order in which they were added, and whether there are more. It
// returns ErrNoCollection, or ErrNoCursor.
func ListEntries(ctx context.Context, door *tenantdb.Door, tenant, collection uuid.UUID,
	f EntryFilter) (entries []Entry, more bool, err error) {
	args := []any{tenant, collection}
	sql := entriesSQL
	if len(f.States) > 0 {
		args = append(args, f.States)
		sql += fmt.Sprintf(" AND e.state = ANY ($%d)", len(args))
	}
	if f.Batch != nil {
		args = append(args, *f.Batch)
		sql += fmt.Sprintf(" AND e.batch_id = $%d", len(args))
	}
	at := func(id string) string {
		return `SELECT c.added_at, c.id FROM kb_collection_documents c
		  WHERE c.tenant_id = $1 AND c.collection_id = $2 AND c.id = ` + id
	}
	page, args := f.SQL([]string{"e.added_at", "e.id"}, at, args)
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockCollection(ctx, tx, tenant, collection, ``); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sql+page, args...)
		if err == nil {
			entries, err = pgx.CollectRows(rows, scanEntry)
		}
		for _, cursor := range []*uuid.UUID{f.After, f.Before} {
			if err == nil && len(entries) == 0 && cursor != nil {
				_, err = getEntry(ctx, tx, tenant, collection, *cursor)
			}
			if errors.Is(err, ErrNotFound) {
				err = ErrNoCursor
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNoCollection) && !errors.Is(err, ErrNoCursor) {
		return nil, false, fmt.Errorf("kb: list what is in a collection: %w", err)
	}
	entries, more = CutPage(f.Page, entries)
	return entries, more, err
}

// GetEntry returns an entry of a collection, ErrNoCollection or ErrNotFound.
func GetEntry(ctx context.Context, door *tenantdb.Door, tenant, collection, id uuid.UUID) (e Entry, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		e, err = getEntry(ctx, tx, tenant, collection, id)
		return err
	})
	return e, err
}

func getEntry(ctx context.Context, tx pgx.Tx, tenant, collection, id uuid.UUID) (e Entry, err error) {
	if _, err := lockCollection(ctx, tx, tenant, collection, ``); err != nil {
		return e, err
	}
	rows, err := tx.Query(ctx, entriesSQL+` AND e.id = $3`, tenant, collection, id)
	if err == nil {
		e, err = pgx.CollectExactlyOneRow(rows, scanEntry)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return e, ErrNotFound
	}
	if err != nil {
		return e, fmt.Errorf("kb: get what is in a collection: %w", err)
	}
	return e, nil
}

// SetAttributes replaces the attributes of an entry, within the caller's transaction, and returns it; or
// ErrNoCollection, ErrNotFound, and an error that names the attribute which can't be stored.
func SetAttributes(ctx context.Context, tx pgx.Tx, tenant, collection, id uuid.UUID,
	attributes map[string]any) (e Entry, err error) {
	if err := CheckAttributes(attributes); err != nil {
		return e, err
	}
	if e, err = getEntry(ctx, tx, tenant, collection, id); err != nil {
		return e, err
	}
	if attributes == nil {
		attributes = map[string]any{}
	}
	if _, err = tx.Exec(ctx, `UPDATE kb_collection_documents SET attributes = $4
	  WHERE tenant_id = $1 AND collection_id = $2 AND id = $3`, tenant, collection, id, attributes); err == nil {
		err = TouchCollections(ctx, tx, tenant, []uuid.UUID{collection})
	}
	if err != nil {
		return e, fmt.Errorf("kb: set attributes: %w", err)
	}
	e.Attributes = attributes
	return e, nil
}

// EntryText returns the text that was ingested of an entry, and its file name: ErrNotFound where there is none yet.
func EntryText(ctx context.Context, door *tenantdb.Door, tenant, collection, id uuid.UUID) (text string, e Entry,
	err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if e, err = getEntry(ctx, tx, tenant, collection, id); err != nil {
			return err
		}
		if e.DocumentID == nil {
			return ErrNotFound
		}
		text, err = documentText(ctx, tx, tenant, *e.DocumentID)
		return err
	})
	return text, e, err
}

// DocumentText returns the text of a document, or ErrNotFound.
func DocumentText(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID) (text string, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		text, err = documentText(ctx, tx, tenant, id)
		return err
	})
	return text, err
}

// documentText is the stored text; of a document that another client wrote it is that of its chunks.
func documentText(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (text string, err error) {
	err = tx.QueryRow(ctx, `SELECT coalesce(nullif(t.content, ''), (SELECT string_agg(c.content, E'\n\n'
	         ORDER BY c.chunk_index, c.id) FROM kb_chunks c WHERE c.tenant_id = $1 AND c.document_id = $2), '')
	    FROM kb_documents d LEFT JOIN kb_texts t ON t.tenant_id = d.tenant_id AND t.document_id = d.id
	   WHERE d.tenant_id = $1 AND d.id = $2`, tenant, id).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("kb: read the text of %s: %w", id, err)
	}
	return text, nil
}

// FailureKind is what an ingestion failed because of, as far as its reason tells.
type FailureKind string

// The kinds.
const (
	UnsupportedFile FailureKind = "unsupported_file" // it is no kind of file that is read here
	ServerFailure   FailureKind = "server_error"     // nothing is known to be wrong with the file
	InvalidFile     FailureKind = "invalid_file"
)

// KindOfFailure returns the kind of a failure by its reason.
func KindOfFailure(reason string) FailureKind {
	has := func(all ...error) bool {
		for _, one := range all {
			if strings.Contains(reason, one.Error()) {
				return true
			}
		}
		return false
	}
	switch {
	case has(extract.ErrKind, errFileHolds):
		return UnsupportedFile
	case has(errEmbedder) || strings.HasPrefix(reason, diedReason):
		return ServerFailure
	}
	return InvalidFile
}
