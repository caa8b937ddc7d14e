// Package artifact keeps files in pieces in the database for a day: uploads that come in pieces, and bundles and
// exports that a task makes. They are there for every process and survive its end. It must not know what a file holds.
package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// State is how far a file is.
type State string

// The states.
const (
	Open   State = "open"   // more is to come
	Done   State = "done"   // it is whole
	Failed State = "failed" // it will not be; Reason says why
)

// File is what is known of one.
type File struct {
	ID        uuid.UUID       `json:"id"`
	Kind      string          `json:"kind"`
	Options   json.RawMessage `json:"given"`
	Size      *int64          `json:"size,omitempty"` // of the whole, where that is known
	Stored    int64           `json:"stored"`         // so far
	State     State           `json:"state"`
	Reason    string          `json:"reason,omitempty"`
	Result    json.RawMessage `json:"made"` // the result of one that is done
	CreatedAt time.Time       `json:"created_at"`
	ExpiresAt time.Time       `json:"expires_at"`
}

// Limits on what is kept of one tenant.
const (
	TTL      = 24 * time.Hour
	MaxFiles = 1000
	MaxBytes = 8 << 30 // of one file
	Piece    = 1 << 20
)

// Errors.
var (
	ErrNotFound = errors.New("there is no such file of this tenant, or it has expired")
	ErrFull     = fmt.Errorf("%d files wait already: finish or delete some", MaxFiles)
	ErrTooLarge = fmt.Errorf("the file is larger than %d GiB", int64(MaxBytes)>>30)
	ErrFinished = errors.New("the file is whole, or failed: nothing can be added")
)

// OffsetError says that a piece does not begin where the last one ended.
type OffsetError struct{ Stored int64 }

// Error implements error.
func (e *OffsetError) Error() string {
	return fmt.Sprintf("%d bytes are here: go on from there", e.Stored)
}

// Store keeps files. It is safe for concurrent use.
type Store struct{ Door *tenantdb.Door }

const fileColumns = `id, kind, given, size, stored, state, reason, made, created_at, expires_at`

// Create makes room for a file of a document with these labels, and deletes the tenant's that have expired.
func (s Store) Create(ctx context.Context, tenant uuid.UUID, kind string, given any, labels []string,
	size *int64) (f File, err error) {
	if size != nil && (*size < 0 || *size > MaxBytes) {
		return f, ErrTooLarge
	}
	raw, err := json.Marshal(given)
	if err != nil {
		return f, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return f, err
	}
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `INSERT INTO artifact_files (tenant_id, id, kind, given, labels, size, expires_at)
		    VALUES ($1, $2, $3, $4, coalesce($5::text[], '{}'), $6, now() + $7::interval) RETURNING `+fileColumns,
			tenant, id, kind, raw, labels, size, TTL)
		if err != nil {
			return err
		}
		if f, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[File]); err != nil {
			return err
		}
		if ctx, err = tenantdb.SetLabels(ctx, tx, tenantdb.AllLabels()); err != nil { // the room is everybody's
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM artifact_files WHERE tenant_id = $1 AND expires_at < now()`,
			tenant); err != nil {
			return err
		}
		var there int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM artifact_files WHERE tenant_id = $1`, tenant).
			Scan(&there); err != nil {
			return err
		}
		if there > MaxFiles {
			return ErrFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrFull) {
		err = fmt.Errorf("artifact: make room: %w", err)
	}
	return f, err
}

// Get returns what is known of a file.
func (s Store) Get(ctx context.Context, tenant, id uuid.UUID) (f File, err error) {
	err = s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		f, err = getFile(ctx, tx, tenant, id, ``)
		return err
	})
	return f, err
}

// List returns a tenant's files of a kind in the order of their ids, after the given one, at most limit of them.
func (s Store) List(ctx context.Context, tenant uuid.UUID, kind string, after uuid.UUID,
	limit int) (files []File, err error) {
	err = s.Door.Query(ctx, tenant,
		`SELECT `+fileColumns+
			` FROM artifact_files WHERE tenant_id = $1 AND kind = $2 AND id > $3 AND expires_at > now() ORDER BY id `+
			`LIMIT $4`, []any{tenant, kind, after, min(limit, MaxFiles)}, func(rows pgx.Rows) error {
			files, err = pgx.CollectRows(rows, pgx.RowToStructByPos[File])
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("artifact: list: %w", err)
	}
	return files, nil
}

func getFile(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, lock string) (f File, err error) {
	rows, err := tx.Query(ctx,
		`SELECT `+fileColumns+` FROM artifact_files WHERE tenant_id = $1 AND id = $2 AND expires_at > now()`+lock,
		tenant, id)
	if err == nil {
		f, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[File])
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return f, ErrNotFound
	} else if err != nil {
		return f, fmt.Errorf("artifact: look a file up: %w", err)
	}
	return f, nil
}

// Append adds what r has, from offset on, piece by piece: what is stored stays when r breaks off. It returns how much
// there is then.
func (s Store) Append(ctx context.Context, tenant, id uuid.UUID, offset int64, r io.Reader) (stored int64, err error) {
	stored = offset
	for buf := make([]byte, Piece); ; {
		n, readErr := io.ReadFull(r, buf)
		if n > 0 || stored == offset { // also nothing: the offset is checked
			if err := s.append(ctx, tenant, id, stored, buf[:n]); err != nil {
				return stored, err
			}
			stored += int64(n)
		}
		switch {
		case errors.Is(readErr, io.EOF), errors.Is(readErr, io.ErrUnexpectedEOF):
			return stored, nil
		case readErr != nil:
			return stored, readErr
		}
	}
}

func (s Store) append(ctx context.Context, tenant, id uuid.UUID, offset int64, piece []byte) error {
	return s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		f, err := getFile(ctx, tx, tenant, id, ` FOR UPDATE`)
		if err != nil {
			return err
		}
		end := offset + int64(len(piece))
		switch {
		case f.State != Open:
			return ErrFinished
		case f.Stored != offset:
			return &OffsetError{f.Stored}
		case end > MaxBytes || f.Size != nil && end > *f.Size:
			return ErrTooLarge
		case len(piece) == 0:
			return nil
		}
		if _, err := tx.Exec(ctx,
			`INSERT INTO artifact_pieces (tenant_id, file_id, start, content) VALUES ($1, $2, $3, $4)`, tenant, id,
			offset, piece); err != nil {
			return fmt.Errorf("artifact: store a piece: %w", err)
		}
		if _, err := tx.Exec(ctx, `UPDATE artifact_files SET stored = $3 WHERE tenant_id = $1 AND id = $2`, tenant, id,
			end); err != nil {
			return fmt.Errorf("artifact: store a piece: %w", err)
		}
		return nil
	})
}

// Read returns a file's bytes. They are read piece by piece.
func (s Store) Read(ctx context.Context, tenant uuid.UUID, f File) io.ReadSeeker {
	return &reader{ctx: ctx, s: s, tenant: tenant, f: f}
}

type reader struct {
	ctx    context.Context
	s      Store
	tenant uuid.UUID
	f      File
	at     int64
	piece  []byte // from start on
	start  int64
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	at := offset + map[int]int64{io.SeekCurrent: r.at, io.SeekEnd: r.f.Stored}[whence]
	if at < 0 {
		return r.at, errors.New("artifact: seek before the beginning")
	}
	r.at = at
	return at, nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.at >= r.f.Stored {
		return 0, io.EOF
	}
	if r.at < r.start || r.at >= r.start+int64(len(r.piece)) {
		err := r.s.Door.Query(r.ctx, r.tenant,
			`SELECT start, content FROM artifact_pieces WHERE tenant_id = $1 AND file_id = $2 AND start <= $3
			ORDER BY start DESC LIMIT 1`, []any{r.tenant, r.f.ID, r.at}, func(rows pgx.Rows) error {
				r.piece = nil
				_, err := pgx.ForEachRow(rows, []any{&r.start, &r.piece}, func() error { return nil })
				return err
			})
		if err != nil {
			return 0, fmt.Errorf("artifact: read: %w", err)
		}
		if r.at >= r.start+int64(len(r.piece)) {
			return 0, ErrNotFound // deleted meanwhile
		}
	}
	n := copy(p, r.piece[r.at-r.start:])
	r.at += int64(n)
	return n, nil
}

// Delete deletes a file.
func (s Store) Delete(ctx context.Context, tenant, id uuid.UUID) error {
	return s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := getFile(ctx, tx, tenant, id, ` FOR UPDATE`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM artifact_files WHERE tenant_id = $1 AND id = $2`, tenant,
			id); err != nil {
			return fmt.Errorf("artifact: delete: %w", err)
		}
		return nil
	})
}
