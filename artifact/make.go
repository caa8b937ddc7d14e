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

	"github.com/konstruct/konstruct/disclosure"
)

// heartbeat is how long a silent worker keeps its claim on a file.
const heartbeat = 30 * time.Second

// ErrTakenOver says that somebody else makes the file, or that it is made.
var ErrTakenOver = errors.New("the file is made elsewhere, or was")

// Produce writes an open file. This caller alone writes it as long as it lives; after it was killed another starts
// again. What make returns becomes the file's result. An error of make's fails the file, except the context's, which
// leaves it to the next caller.
func (s Store) Produce(ctx context.Context, tenant, id uuid.UUID,
	make func(ctx context.Context, to io.Writer) (made any, err error)) error {
	worker := uuid.New()
	if err := s.claim(ctx, tenant, id, worker, true); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(heartbeat / 3):
				if err := s.claim(ctx, tenant, id, worker, false); errors.Is(err, ErrTakenOver) {
					cancel(err)
				}
			}
		}
	}()
	w := &writer{ctx: ctx, s: s, tenant: tenant, id: id}
	made, err := make(ctx, w)
	if err == nil {
		err = w.flush()
	}
	if ctx.Err() != nil {
		s.release(ctx, tenant, id, worker)
		return context.Cause(ctx)
	}
	state, reason := Done, ""
	if err != nil {
		state, made = Failed, struct{}{}
		reason, _ = disclosure.Reason(err) // all of it is for the caller
	}
	raw, marshalErr := json.Marshal(made)
	if marshalErr != nil {
		return marshalErr
	}
	if endErr := s.Door.Query(ctx, tenant,
		`UPDATE artifact_files SET state = $4, reason = $5, made = $6, size = CASE WHEN $4 = 'done' THEN stored END
		WHERE tenant_id = $1 AND id = $2 AND worker = $3 AND state = 'open'`,
		[]any{tenant, id, worker, state, reason, raw}, nil); endErr != nil {
		return fmt.Errorf("artifact: end a file: %w", endErr)
	}
	return err
}

// claim takes a file for a worker, anew or on.
func (s Store) claim(ctx context.Context, tenant, id, worker uuid.UUID, anew bool) error {
	return s.Door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx,
			`UPDATE artifact_files
			SET worker = $3, until = now() + $4::interval, stored = CASE WHEN $5 THEN 0 ELSE stored END
			WHERE tenant_id = $1 AND id = $2 AND state = 'open' AND CASE WHEN $5 THEN until IS NULL
			OR until < now() ELSE worker = $3 END`, tenant, id, worker, heartbeat, anew)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrTakenOver
		}
		if err == nil && anew {
			_, err = tx.Exec(ctx, `DELETE FROM artifact_pieces WHERE tenant_id = $1 AND file_id = $2`, tenant, id)
		}
		if err != nil {
			return fmt.Errorf("artifact: claim a file: %w", err)
		}
		return nil
	})
}

// release leaves a file to the next at once.
func (s Store) release(ctx context.Context, tenant, id, worker uuid.UUID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	// else it is left when it is silent
	_ = s.Door.Query(ctx, tenant,
		`UPDATE artifact_files SET until = NULL WHERE tenant_id = $1 AND id = $2 AND worker = $3`,
		[]any{tenant, id, worker}, nil)
}

// writer stores what is made in pieces.
type writer struct {
	ctx    context.Context
	s      Store
	tenant uuid.UUID
	id     uuid.UUID
	buf    []byte
	at     int64
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	for n := len(p); ; {
		room := min(len(p), Piece-len(w.buf))
		w.buf, p = append(w.buf, p[:room]...), p[room:]
		if len(p) == 0 {
			return n, nil
		}
		if err := w.flush(); err != nil {
			return n - len(p), err
		}
	}
}

func (w *writer) flush() error {
	if err := w.s.append(w.ctx, w.tenant, w.id, w.at, w.buf); err != nil {
		return err
	}
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}
