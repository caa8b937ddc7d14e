package files

import (
	"context"
	"crypto/md5" //nolint:gosec // what OpenAI's clients check uploads with; nothing depends on it
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/tenantdb"
)

// UploadState is the state of an upload.
type UploadState string

// The states.
const (
	Pending   UploadState = "pending"
	Completed UploadState = "completed"
	Cancelled UploadState = "cancelled"
	Lapsed    UploadState = "expired"
)

// Upload is a file that comes in parts.
type Upload struct {
	ID        uuid.UUID
	Filename  string
	Purpose   string
	Bytes     int64 // that are to come
	State     UploadState
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Part is a part of an upload.
type Part struct {
	ID        uuid.UUID
	Upload    uuid.UUID
	Bytes     int64
	CreatedAt time.Time
}

// StateError says that an upload is not pending any more.
type StateError struct{ State UploadState }

// Error implements error.
func (e *StateError) Error() string {
	return fmt.Sprintf("the upload is %s: create another", e.State)
}

// PartsError says what is wrong with the parts by which an upload is to be completed.
type PartsError struct {
	Field  string // part_ids or md5
	Reason string
}

// Error implements error.
func (e *PartsError) Error() string { return e.Field + ": " + e.Reason }

// CreateUpload makes room for a file that has so many bytes and comes in parts, within UploadTTL.
func (s Store) CreateUpload(ctx context.Context, tenant uuid.UUID, o Options, bytes int64) (u Upload, err error) {
	switch {
	case bytes < 1:
		return u, ErrEmpty
	case bytes > MaxBytes:
		return u, ErrTooLarge
	}
	if err = o.Check(); err != nil {
		return u, err
	}
	return s.begin(ctx, tenant, o, &bytes)
}

func (s Store) begin(ctx context.Context, tenant uuid.UUID, o Options, bytes *int64) (u Upload, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return u, err
	}
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO kb_file_uploads
		      (tenant_id, id, filename, purpose, bytes, labels, keep_seconds, expires_at)
		    VALUES ($1, $2, $3, $4, $5, coalesce($6::text[], '{}'), $7, now() + $8::interval)`,
			tenant, id, o.Filename, o.Purpose, bytes, o.Labels, o.keepSeconds(), UploadTTL); err != nil {
			return err
		}
		if u, err = getUpload(ctx, tx, tenant, id, ``); err != nil {
			return err
		}
		if ctx, err = tenantdb.SetLabels(ctx, tx, tenantdb.AllLabels()); err != nil { // the room is everybody's
			return err
		}
		var pending int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM kb_file_uploads WHERE tenant_id = $1 AND state = 'pending'
		    AND expires_at > now()`, tenant).Scan(&pending); err != nil {
			return err
		}
		if pending > MaxUploads {
			return ErrFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrFull) {
		err = fmt.Errorf("files: begin an upload: %w", err)
	}
	return u, err
}

// keepSeconds is when a file expires; nil is never.
func (o *Options) keepSeconds() *int64 {
	if o.Keep < time.Second {
		return nil
	}
	return new(int64(o.Keep / time.Second))
}

// getUpload returns an upload, or ErrNoUpload. One whose time has passed is expired, whether that was noted or not.
func getUpload(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, lock string) (u Upload, err error) {
	rows, err := tx.Query(ctx, `SELECT id, filename, purpose, coalesce(bytes, 0),
	       CASE WHEN state = 'pending' AND expires_at <= now() THEN 'expired' ELSE state END, created_at, expires_at
	  FROM kb_file_uploads WHERE tenant_id = $1 AND id = $2`+lock, tenant, id)
	if err == nil {
		u, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Upload])
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return u, ErrNoUpload
	}
	if err != nil {
		return u, fmt.Errorf("files: look an upload up: %w", err)
	}
	return u, nil
}

// AddPart adds what r has to a pending upload, MaxPart bytes at most, piece by piece. Where an id is given and a whole
// part of the upload has it already, as when a request is made again, that one is returned, and r is not read.
func (s Store) AddPart(ctx context.Context, tenant, upload, id uuid.UUID, r io.Reader) (p Part, err error) {
	return s.addPart(ctx, tenant, upload, id, &capped{r, MaxPart, ErrPartTooLarge})
}

func (s Store) addPart(ctx context.Context, tenant, upload, id uuid.UUID, r io.Reader) (p Part, err error) {
	named := id != uuid.Nil
	if !named {
		if id, err = uuid.NewV7(); err != nil {
			return p, err
		}
	}
	var there *Part
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		there = nil
		u, err := getUpload(ctx, tx, tenant, upload, ` FOR UPDATE`)
		if err != nil {
			return err
		}
		if u.State != Pending {
			return &StateError{u.State}
		}
		if named {
			if there, err = wholePart(ctx, tx, tenant, upload, id); err != nil || there != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `DELETE FROM kb_file_parts WHERE tenant_id = $1 AND upload_id = $2 AND id = $3`,
				tenant, upload, id); err != nil {
				return err
			}
		}
		var parts int
		var size int64
		if err := tx.QueryRow(ctx, `WITH added AS (
		    INSERT INTO kb_file_parts (tenant_id, id, upload_id, labels)
		    SELECT $1, $3, id, labels FROM kb_file_uploads WHERE tenant_id = $1 AND id = $2)
		  SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM kb_file_parts WHERE tenant_id = $1 AND upload_id = $2`,
			tenant, upload, id).Scan(&parts, &size); err != nil {
			return err
		}
		if parts >= MaxParts || size > 2*MaxBytes {
			return &PartsError{
				"data",
				fmt.Sprintf("the upload has %d parts with %d bytes already: cancel it", parts, size),
			}
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	if there != nil {
		return *there, nil
	}
	if p, err = s.stream(ctx, tenant, upload, id, r); err != nil {
		if left := s.Door.Query(context.WithoutCancel(ctx), tenant, `DELETE FROM kb_file_parts
		  WHERE tenant_id = $1 AND upload_id = $2 AND id = $3`, []any{tenant, upload, id}, nil); left != nil {
			err = errors.Join(err, left) // it expires with its upload
		}
	}
	return p, err
}

// wholePart returns a part that was sent to its end; nil where there is none.
func wholePart(ctx context.Context, tx pgx.Tx, tenant, upload, id uuid.UUID) (*Part, error) {
	rows, err := tx.Query(ctx, `SELECT id, upload_id, bytes, created_at FROM kb_file_parts
	  WHERE tenant_id = $1 AND upload_id = $2 AND id = $3 AND bytes IS NOT NULL`, tenant, upload, id)
	if err != nil {
		return nil, err
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Part])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return p, err
}

// stream stores a part's pieces, and ends it.
func (s Store) stream(ctx context.Context, tenant, upload, id uuid.UUID, r io.Reader) (p Part, err error) {
	at := int64(0)
	for buf := make([]byte, piece); ; {
		n, readErr := io.ReadFull(r, buf)
		if n > 0 {
			if err := s.Door.Query(ctx, tenant, `INSERT INTO kb_file_pieces (tenant_id, part_id, start, content)
			  VALUES ($1, $2, $3, $4)`, []any{tenant, id, at, buf[:n]}, nil); err != nil {
				return p, partError(err)
			}
			at += int64(n)
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return p, readErr
		}
	}
	if at == 0 {
		return p, ErrEmpty
	}
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		u, err := getUpload(ctx, tx, tenant, upload, ` FOR SHARE`)
		if err == nil && u.State != Pending {
			err = &StateError{u.State}
		}
		if err == nil {
			_, err = tx.Exec(
				ctx,
				`UPDATE kb_file_parts SET bytes = $4 WHERE tenant_id = $1 AND upload_id = $2 AND id = $3`,
				tenant,
				upload,
				id,
				at,
			)
		}
		var whole *Part
		if err == nil {
			whole, err = wholePart(ctx, tx, tenant, upload, id)
		}
		if err == nil && whole == nil {
			err = ErrNoUpload
		}
		if err == nil {
			p = *whole
		}
		return err
	})
	return p, err
}

// partError is the error of a piece whose part is gone: its upload ended meanwhile.
func partError(err error) error {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "23503" {
		return ErrNoUpload
	}
	return fmt.Errorf("files: store a piece: %w", err)
}

// Complete makes a file of an upload's parts, in the order given. Parts that are not named are dropped. Sum, where it
// is not empty, is the MD5 that the file must have, in hexadecimal digits. It returns ErrNoUpload, a *StateError or a
// *PartsError where it can't.
func (s Store) Complete(ctx context.Context, tenant, upload uuid.UUID, parts []uuid.UUID,
	sum string) (u Upload, f File, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return u, f, err
	}
	if f, err = s.complete(ctx, tenant, upload, id, parts, sum, nil); err != nil {
		return u, f, err
	}
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		u, err = getUpload(ctx, tx, tenant, upload, ``)
		return err
	})
	return u, f, err
}

// complete is Complete with the file's id, and with options that were not known when the upload began; nil are those
// that it has.
func (s Store) complete(ctx context.Context, tenant, upload, id uuid.UUID, parts []uuid.UUID, sum string,
	o *Options) (f File, err error) {
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		u, err := getUpload(ctx, tx, tenant, upload, ` FOR UPDATE`)
		if err != nil {
			return err
		}
		if u.State != Pending {
			return &StateError{u.State}
		}
		size, err := checkParts(ctx, tx, tenant, upload, parts)
		if err == nil && u.Bytes > 0 && size != u.Bytes {
			err = &PartsError{
				"part_ids",
				fmt.Sprintf("they have %d bytes together, and the upload is of %d", size, u.Bytes),
			}
		}
		if err == nil && sum != "" {
			err = checkSum(ctx, tx, tenant, parts, sum)
		}
		if err != nil {
			return err
		}
		if o != nil {
			if _, err = tx.Exec(ctx, `WITH known AS (UPDATE kb_file_uploads SET filename = $3, purpose = $4,
			      labels = coalesce($5::text[], '{}'), keep_seconds = $6
			     WHERE tenant_id = $1 AND id = $2 RETURNING labels)
			  UPDATE kb_file_parts p SET labels = k.labels FROM known k WHERE p.tenant_id = $1 AND p.upload_id = $2`,
				tenant, upload, o.Filename, o.Purpose, o.Labels, o.keepSeconds()); err != nil {
				return fmt.Errorf("files: complete an upload: %w", err)
			}
		}
		if _, err = tx.Exec(ctx, `INSERT INTO kb_files (tenant_id, id, filename, purpose, bytes, labels, expires_at)
		  SELECT $1, $3, filename, purpose, $4, labels, now() + keep_seconds * interval '1 second'
		    FROM kb_file_uploads WHERE tenant_id = $1 AND id = $2`, tenant, upload, id, size); err == nil {
			_, err = tx.Exec(ctx, `UPDATE kb_file_parts p SET upload_id = NULL, file_id = $3, position = n.position
			    FROM unnest($4::uuid[]) WITH ORDINALITY n (id, position)
			   WHERE p.tenant_id = $1 AND p.upload_id = $2 AND p.id = n.id`, tenant, upload, id, parts)
		}
		switch {
		case err != nil:
		case u.Bytes == 0: // a file that was sent in one request: nobody knows its upload
			_, err = tx.Exec(ctx, `DELETE FROM kb_file_uploads WHERE tenant_id = $1 AND id = $2`, tenant, upload)
		default:
			if _, err = tx.Exec(ctx, `DELETE FROM kb_file_parts WHERE tenant_id = $1 AND upload_id = $2`, tenant,
				upload); err == nil {
				_, err = tx.Exec(ctx, `UPDATE kb_file_uploads SET state = 'completed' WHERE tenant_id = $1 AND id = $2`,
					tenant, upload)
			}
		}
		if err == nil {
			f, err = get(ctx, tx, tenant, id, ``)
		}
		return err
	})
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "23505" && pg.TableName == "kb_files" {
		return f, ErrTaken
	}
	return f, err
}

// checkParts returns how many bytes parts of an upload have together.
func checkParts(ctx context.Context, tx pgx.Tx, tenant, upload uuid.UUID, parts []uuid.UUID) (size int64, err error) {
	bytes := map[uuid.UUID]int64{}
	rows, err := tx.Query(ctx, `SELECT id, bytes FROM kb_file_parts WHERE tenant_id = $1 AND upload_id = $2
	     AND bytes IS NOT NULL`, tenant, upload)
	if err == nil {
		var id uuid.UUID
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error { bytes[id] = n; return nil })
	}
	if err != nil {
		return 0, fmt.Errorf("files: look at the parts: %w", err)
	}
	if len(parts) == 0 {
		return 0, &PartsError{"part_ids", "there are none"}
	}
	for i, id := range parts {
		n, there := bytes[id]
		if !there {
			return 0, &PartsError{
				"part_ids",
				fmt.Sprintf("the upload has no part like number %d, or names it twice", i+1),
			}
		}
		delete(bytes, id)
		size += n
	}
	return size, nil
}

// checkSum compares the MD5 of parts, one behind the other, with what it is to be.
func checkSum(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, parts []uuid.UUID, want string) error {
	h := md5.New() //nolint:gosec // see the import
	for _, part := range parts {
		rows, err := tx.Query(
			ctx,
			`SELECT content FROM kb_file_pieces WHERE tenant_id = $1 AND part_id = $2 ORDER BY start`,
			tenant,
			part,
		)
		if err == nil {
			var content []byte
			_, err = pgx.ForEachRow(rows, []any{&content}, func() error { h.Write(content); return nil })
		}
		if err != nil {
			return fmt.Errorf("files: read the parts: %w", err)
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return &PartsError{"md5", "that of the parts is " + got}
	}
	return nil
}

// Cancel cancels a pending upload, and drops its parts. It returns ErrNoUpload or a *StateError where it can't.
func (s Store) Cancel(ctx context.Context, tenant, upload uuid.UUID) (u Upload, err error) {
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if u, err = getUpload(ctx, tx, tenant, upload, ` FOR UPDATE`); err != nil {
			return err
		}
		if u.State != Pending {
			return &StateError{u.State}
		}
		if _, err = tx.Exec(ctx, `DELETE FROM kb_file_parts WHERE tenant_id = $1 AND upload_id = $2`, tenant,
			upload); err == nil {
			_, err = tx.Exec(
				ctx,
				`UPDATE kb_file_uploads SET state = 'cancelled' WHERE tenant_id = $1 AND id = $2`,
				tenant,
				upload,
			)
		}
		u.State = Cancelled
		return err
	})
	return u, err
}
