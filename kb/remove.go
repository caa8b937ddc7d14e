package kb

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/tenantdb"
)

// Reasons why an upload is not stored although it can be read.
var (
	// ErrDeleted says that a deletion came after the upload. The text is that of kb_bury, which ends jobs.
	ErrDeleted = errors.New("its document was deleted after it was uploaded")
	// ErrSuperseded says that a newer upload of the same source is stored.
	ErrSuperseded = errors.New("a newer upload of the same source is stored already")
)

// isSuperseded reports whether an error says that the source has something newer.
func isSuperseded(err error) bool { return errors.Is(err, ErrDeleted) || errors.Is(err, ErrSuperseded) }

// NextSeq returns a place in the order of uploads and deletions: what is uploaded with it is older than every
// deletion that comes after the call.
func NextSeq(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID) (seq int64, err error) {
	// The message has the commit wait until the disk has the sequence too: a crash gives no number out twice.
	err = door.Query(ctx, tenant, `SELECT nextval('kb_seq'), pg_logical_emit_message(true, 'konstruct', '')::text`, nil,
		func(rows pgx.Rows) error {
			var at string
			_, err := pgx.ForEachRow(rows, []any{&seq, &at}, func() error { return nil })
			return err
		})
	if err != nil {
		return 0, fmt.Errorf("kb: take a place in the order of uploads: %w", err)
	}
	return seq, nil
}

// lockSource has those that store or delete a source take turns. What is locked is read by a statement of its own,
// which sees what was committed before.
func lockSource(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, source string) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, tenant.String()+source)
	return err
}

// sourceState is what is known of a source when an upload of it is to be stored.
type sourceState struct {
	document  *uuid.UUID // nil when there is none
	same      bool       // it has this content, made by this recipe
	announced bool       // its labels and metadata would not change
	newer     bool       // a newer upload than this one is stored
	deleted   bool       // it was deleted after this upload
	etag      string
	chunking  *chunk.Options // nil when there is no document
}

//go:embed sql/source_state.sql
var sourceStateSQL string

func (s *sourceState) places() []any {
	return []any{&s.document, &s.same, &s.announced, &s.newer, &s.deleted, &s.etag, &s.chunking}
}

// outcome decides what an upload becomes: empty where it is to be stored. Once it is an error, it stays one.
func (s *sourceState) outcome() (Outcome, error) {
	switch {
	case s.newer && s.same && s.announced:
		return Unchanged, nil
	case s.newer:
		return "", ErrSuperseded
	case s.deleted:
		return "", ErrDeleted
	}
	return "", nil
}

// args are what sourceStateSQL and saidSQL ask about.
func (c *documentContent) args(tenant uuid.UUID, g DocumentOptions) []any {
	return []any{tenant, c.source, c.sha[:], c.recipe, g.Labels, g.Metadata, c.seq, g.Chunking}
}

// latestSQL notes what is newly said of a document whose content is stored already, and which upload was the newest
// that had it: an older one with other content is not stored any more. It changes nothing where the content is
// another by now.
const latestSQL = `UPDATE kb_sources
    SET labels = coalesce($5::text[], labels), given = coalesce($6::jsonb, given), seq = $7, etag = $9
  WHERE tenant_id = $1 AND source = $2 AND content_sha256 = $3 AND recipe = $4
    AND chunking = coalesce($8::jsonb, chunking) AND seq <= $7 RETURNING document_id`

// findExisting finds out whether an upload need not be parsed: the tenant has this source with this content, made by
// this recipe, or something newer. It then updates labels and metadata. The id is that of the source's document. It
// also finds out how the upload is to be split.
func (c *documentContent) findExisting(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	g DocumentOptions) (id uuid.UUID, o Outcome, why, err error) {
	var s sourceState
	var noted bool
	// Where the number alone changes, the commit does not wait for the disk, which a folder of unchanged files would
	// feel: a crash may forget that they were found, and nothing else.
	err = door.Query(ctx, tenant, `WITH said AS (`+latestSQL+`)
	  SELECT n.*, EXISTS (SELECT FROM said),
	    CASE WHEN n.same AND $5::text[] IS NULL AND $6::jsonb IS NULL AND n.etag = $9
	    THEN set_config('synchronous_commit', 'off', true) END
	  FROM (`+sourceStateSQL+`) n`,
		append(c.args(tenant, g), c.etag), func(rows pgx.Rows) error {
			var commit *string
			_, err := pgx.ForEachRow(rows, append(s.places(), &noted, &commit), func() error { return nil })
			return err
		})
	if err != nil {
		return id, "", nil, err
	}
	if s.document != nil {
		id = *s.document
	}
	if noted {
		return id, Unchanged, nil, nil
	}
	c.chunking = cmp.Or(g.Chunking, s.chunking, &chunk.Options{})
	o, why = s.outcome()
	return id, o, why, nil
}

// Remove deletes a document and everything made of it, within the caller's transaction, whose tenant must be set to
// tenant already. It returns the document, or ErrNotFound. Only a hash of its source remains: by it, uploads from
// before the deletion are not stored after it, and their jobs fail with ErrDeleted.
func Remove(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (d Document, err error) {
	var source string
	err = tx.QueryRow(ctx, `SELECT coalesce(s.source, d.source_url, '') FROM kb_documents d
	    LEFT JOIN kb_sources s ON s.tenant_id = d.tenant_id AND s.document_id = d.id
	   WHERE d.tenant_id = $1 AND d.id = $2`, tenant, id).Scan(&source)
	if err == nil {
		err = lockSource(ctx, tx, tenant, source)
	}
	if err == nil {
		d, err = remove(ctx, tx, tenant, id)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("kb: remove %s: %w", id, err)
	}
	return d, nil
}

// RemoveSource is Remove by a document's source; it also keeps what was uploaded of the source, and is not stored
// yet, from being stored. It returns nil where there was no document.
func RemoveSource(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, source string) (d *Document, err error) {
	if err = lockSource(ctx, tx, tenant, source); err == nil {
		_, err = tx.Exec(ctx, `SELECT kb_bury($1, $2)`, tenant, source)
	}
	var id uuid.UUID
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT document_id FROM kb_sources WHERE tenant_id = $1 AND source = $2`,
			tenant, source).
			Scan(&id)
	}
	if err == nil {
		var gone Document
		gone, err = remove(ctx, tx, tenant, id)
		d = &gone
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kb: remove %.200q: %w", source, err)
	}
	return d, nil
}

// remove deletes a document whose source is locked, or returns pgx.ErrNoRows.
func remove(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (d Document, err error) {
	rows, err := tx.Query(ctx, documentsSQL+` AND d.id = $2 FOR UPDATE OF d`, tenant, id)
	if err == nil {
		d, err = pgx.CollectExactlyOneRow(rows, scanDocument)
	}
	if err == nil { // what is remembered of ingesting it
		_, err = tx.Exec(ctx, `DELETE FROM kb_jobs
		  WHERE tenant_id = $1 AND source = $2 AND state IN ('done', 'failed', 'cancelled')`, tenant, d.Source)
	}
	if err == nil { // kb_source_deleted buries its source
		_, err = tx.Exec(ctx, `DELETE FROM kb_documents WHERE tenant_id = $1 AND id = $2`, tenant, id)
	}
	return d, err
}

// SourcesBelow returns the sources that begin with a prefix, of documents and of jobs that are not ended, by their
// names.
func SourcesBelow(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, prefix string) (map[string]bool, error) {
	found := map[string]bool{}
	err := door.Query(ctx, tenant, `SELECT source FROM kb_sources WHERE tenant_id = $1 AND starts_with(source, $2)
		UNION SELECT source FROM kb_jobs
		WHERE tenant_id = $1 AND starts_with(source, $2) AND state IN ('queued', 'running')`,
		[]any{tenant, prefix}, func(rows pgx.Rows) error {
			clear(found)
			var source string
			_, err := pgx.ForEachRow(rows, []any{&source}, func() error { found[source] = true; return nil })
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: look for documents below %.200q: %w", prefix, err)
	}
	return found, nil
}
