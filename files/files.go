// Package files keeps files as they were uploaded, in pieces in the database, until they are deleted or expire: those
// of OpenAI's API. A file comes as an upload of parts, whose pieces become the file's. The package must not know what a
// file holds, nor what is made of it.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// File is what is known of one.
type File struct {
	ID        uuid.UUID
	Filename  string
	Purpose   string
	Bytes     int64
	Labels    []string
	CreatedAt time.Time
	ExpiresAt *time.Time // nil is never
}

// Options are what the caller sets on a file.
type Options struct {
	Filename string
	Purpose  string
	Labels   []string      // who may see it; none: everybody of the tenant
	Keep     time.Duration // when it expires after it was made; 0 is never
}

// Limits.
const (
	MaxBytes    = 128 << 20 // of a file: as much as is ingested of one
	MaxPart     = 64 << 20  // bytes of a part of an upload
	MaxParts    = 1000      // of an upload
	MaxUploads  = 1000      // of a tenant that are pending
	MaxFilename = 1000      // bytes
	MaxPurpose  = 64        // bytes
	MaxList     = 10_000
	UploadTTL   = time.Hour
	endedTTL    = 24 * time.Hour // how long an upload is known that ended
	piece       = 1 << 20
)

// Errors.
var (
	ErrNotFound = errors.New("there is no such file of this tenant")
	ErrNoUpload = errors.New("there is no such upload of this tenant")
	ErrEmpty    = errors.New("file: it is empty")
	ErrTooLarge = fmt.Errorf("file: it has more than %d bytes", MaxBytes)
	// ErrPartTooLarge says that a part of an upload is.
	ErrPartTooLarge = fmt.Errorf("data: it has more than %d bytes: send it in several parts", MaxPart)
	ErrTaken        = errors.New("another file has this id")
	ErrFull         = fmt.Errorf("%d uploads are pending: complete or cancel some", MaxUploads)
)

// Check reports what can't be stored; the error begins with the field's name.
func (o *Options) Check() error {
	text := func(field, s string, limit int) error {
		if s == "" || len(s) > limit || strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
			return fmt.Errorf("%s: it is UTF-8 text of 1 to %d bytes", field, limit)
		}
		return nil
	}
	if o.Keep < 0 {
		return errors.New("expires_after: it is no time to come")
	}
	for _, l := range o.Labels {
		if err := tenantdb.CheckLabel(l); err != nil {
			return fmt.Errorf("labels: %w", err)
		}
	}
	return errors.Join(text("filename", o.Filename, MaxFilename), text("purpose", o.Purpose, MaxPurpose))
}

// Store keeps files. It is safe for concurrent use.
type Store struct{ Door *tenantdb.Door }

const columns = `f.id, f.filename, f.purpose, f.bytes, f.labels, f.created_at, f.expires_at`

// present is the condition that a file has not expired.
const present = ` AND (f.expires_at IS NULL OR f.expires_at > now())`

// Create stores what r has as a file, piece by piece: nothing is left where it fails. What a form says of a file may
// come behind it, so options is called when r has ended. Where id is that of a file which is the same already, as when
// a request is made again, that one is returned; ErrTaken where it is not the same.
func (s Store) Create(ctx context.Context, tenant, id uuid.UUID, r io.Reader,
	options func() (Options, error)) (f File, err error) {
	u, err := s.begin(ctx, tenant, Options{}, nil)
	if err != nil {
		return f, err
	}
	var o Options
	p, err := s.addPart(ctx, tenant, u.ID, uuid.Nil, &capped{r, MaxBytes, ErrTooLarge})
	if err == nil {
		if o, err = options(); err == nil {
			err = o.Check()
		}
	}
	if err == nil && id == uuid.Nil {
		id, err = uuid.NewV7()
	}
	if err == nil {
		f, err = s.complete(ctx, tenant, u.ID, id, []uuid.UUID{p.ID}, "", &o)
	}
	if err == nil {
		return f, nil
	}
	if left := s.Door.Query(context.WithoutCancel(ctx), tenant,
		`DELETE FROM kb_file_uploads WHERE tenant_id = $1 AND id = $2`, []any{tenant, u.ID}, nil); left != nil {
		return f, errors.Join(err, left) // it expires
	}
	if errors.Is(err, ErrTaken) {
		if there, getErr := s.Get(ctx, tenant, id); getErr == nil && there.Filename == o.Filename &&
			there.Purpose == o.Purpose && there.Bytes == p.Bytes {
			return there, nil
		}
	}
	return f, err
}

// capped returns an error where more is read than there may be.
type capped struct {
	r    io.Reader
	left int64
	err  error
}

// Read implements io.Reader.
func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, c.err
	}
	return n, err
}

// Get returns what is known of a file, or ErrNotFound.
func (s Store) Get(ctx context.Context, tenant, id uuid.UUID) (f File, err error) {
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		f, err = get(ctx, tx, tenant, id, present)
		return err
	})
	return f, err
}

func get(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, further string) (f File, err error) {
	rows, err := tx.Query(
		ctx,
		`SELECT `+columns+` FROM kb_files f WHERE f.tenant_id = $1 AND f.id = $2`+further,
		tenant,
		id,
	)
	if err == nil {
		f, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[File])
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return f, ErrNotFound
	}
	if err != nil {
		return f, fmt.Errorf("files: look a file up: %w", err)
	}
	return f, nil
}

// Pager is a part of a list: as kb.Page makes it.
type Pager interface {
	SQL(key []string, at func(id string) string, args []any) (string, []any)
}

// List returns a tenant's files in the order of their creation, of one purpose (empty: any), as the pager says.
func (s Store) List(ctx context.Context, tenant uuid.UUID, purpose string, page Pager) (all []File, err error) {
	at := func(id string) string {
		return `SELECT c.created_at, c.id FROM kb_files c WHERE c.tenant_id = $1 AND c.id = ` + id
	}
	sql, args := page.SQL([]string{"f.created_at", "f.id"}, at, []any{tenant, purpose})
	err = s.Door.Query(ctx, tenant, `SELECT `+columns+` FROM kb_files f
	  WHERE f.tenant_id = $1 AND ($2 = '' OR f.purpose = $2)`+present+sql, args, func(rows pgx.Rows) error {
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[File])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("files: list: %w", err)
	}
	return all, nil
}

// Count counts a tenant's files.
func (s Store) Count(ctx context.Context, tenant uuid.UUID) (n int, err error) {
	err = s.Door.Query(ctx, tenant, `SELECT count(*) FROM kb_files WHERE tenant_id = $1`, []any{tenant},
		func(rows pgx.Rows) error {
			n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			return err
		})
	if err != nil {
		return 0, fmt.Errorf("files: count: %w", err)
	}
	return n, nil
}

// Delete deletes a file and takes it out of all collections, within the caller's transaction, and returns it as it was,
// or ErrNotFound. The documents that were made of it are the caller's to remove.
func Delete(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (f File, err error) {
	if f, err = get(ctx, tx, tenant, id, ` FOR UPDATE`); err != nil {
		return f, err
	}
	if _, err = tx.Exec(ctx, `DELETE FROM kb_files WHERE tenant_id = $1 AND id = $2`, tenant, id); err != nil {
		return f, fmt.Errorf("files: delete: %w", err)
	}
	return f, nil
}

// Expired returns a file that has expired, uuid.Nil where none has, and forgets uploads that have expired. It runs in
// the caller's transaction, which deletes the file.
func Expired(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (id uuid.UUID, err error) {
	for _, sql := range []string{
		`UPDATE kb_file_uploads SET state = 'expired'
		  WHERE tenant_id = $1 AND state = 'pending' AND expires_at <= now()`,
		`DELETE FROM kb_file_parts p USING kb_file_uploads u WHERE p.tenant_id = $1 AND u.tenant_id = $1
		    AND p.upload_id = u.id AND u.state <> 'pending'`,
	} {
		if err == nil {
			_, err = tx.Exec(ctx, sql, tenant)
		}
	}
	if err == nil {
		_, err = tx.Exec(ctx, `DELETE FROM kb_file_uploads WHERE tenant_id = $1 AND state <> 'pending'
		    AND expires_at < now() - $2::interval`, tenant, endedTTL)
	}
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT id FROM kb_files WHERE tenant_id = $1 AND expires_at <= now()
		   ORDER BY expires_at LIMIT 1`, tenant).Scan(&id)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("files: expire: %w", err)
	}
	return id, nil
}

// Read returns a file's bytes, which are read piece by piece. Where it is deleted meanwhile, they end with ErrNotFound.
func (s Store) Read(ctx context.Context, tenant uuid.UUID, f File) io.Reader {
	return &reader{ctx: ctx, s: s, tenant: tenant, id: f.ID, left: f.Bytes, part: -1}
}

type reader struct {
	ctx    context.Context
	s      Store
	tenant uuid.UUID
	id     uuid.UUID
	left   int64  // bytes
	piece  []byte // what is left of it
	part   int    // the piece's place
	start  int64
}

// nextPiece is the first piece behind a place.
const nextPiece = `SELECT t.position, p.start, p.content
  FROM kb_file_parts t JOIN kb_file_pieces p ON p.tenant_id = t.tenant_id AND p.part_id = t.id
 WHERE t.tenant_id = $1 AND t.file_id = $2 AND (t.position = $3 AND p.start > $4 OR t.position > $3)
 ORDER BY t.position, p.start LIMIT 1`

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	if len(r.piece) == 0 {
		err := r.s.Door.Query(
			r.ctx,
			r.tenant,
			nextPiece,
			[]any{r.tenant, r.id, r.part, r.start},
			func(rows pgx.Rows) error {
				_, err := pgx.ForEachRow(rows, []any{&r.part, &r.start, &r.piece}, func() error { return nil })
				return err
			},
		)
		if err != nil {
			return 0, fmt.Errorf("files: read: %w", err)
		}
		if len(r.piece) == 0 {
			return 0, ErrNotFound
		}
	}
	n := copy(p, r.piece)
	r.piece, r.left = r.piece[n:], r.left-int64(n)
	return n, nil
}
