package audit

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/spool"
	"github.com/konstruct/konstruct/tenantdb"
)

// Limits of delivery from the spool.
const (
	// shippers is how many transactions are in progress at once. An agent's events all go through the same one, in
	// order.
	shippers = 2
	// window is how many events are read from the spool at once; they are of one segment.
	window = 20_000
	// shipRows is how many events one transaction has at most.
	shipRows = 1000
	// shipTimeout is the time limit of one transaction.
	shipTimeout = commitTimeout
	// firstRetry is the first wait between retries; it doubles up to lastRetry while the trail can't be written.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
	// closeTimeout is how long Close delivers waiting events.
	closeTimeout = 2 * time.Second
)

// Spool acknowledges an event as soon as it is on this machine's disk, and delivers it to the trail in the background:
// exactly once and in each agent's order, however long the database is unavailable and whichever process is killed.
type Spool struct {
	door   *tenantdb.Door
	files  *spool.Spool
	dir    string
	log    *slog.Logger
	seed   maphash.Seed
	clock  func() time.Time // this machine's clock
	cancel context.CancelFunc
	done   sync.WaitGroup

	oldest   atomic.Int64 // created_at of the first event being delivered, in Unix microseconds; 0: none
	rejected rejectStore

	mu      sync.Mutex
	problem string // why nothing can be delivered; empty: delivery works
}

// SpoolStatus describes a spool.
type SpoolStatus struct {
	Waiting  int       `json:"waiting_events"`
	Bytes    int64     `json:"bytes_on_disk"`
	Limit    int64     `json:"limit_bytes,omitempty"`
	Oldest   time.Time `json:"oldest,omitzero"`      // created_at of the event that waits longest
	Rejected int       `json:"rejected_events"`      // events that the database refused; kept in the folder
	Gaps     int       `json:"gap_events,omitempty"` // events missing in unrecorded gaps; only from InspectSpool
	Damaged  int64     `json:"damaged_bytes"`        // bytes that held no valid event; kept in the folder
	Problem  string    `json:"problem,omitempty"`    // why nothing can be delivered; empty: delivery works
}

// OpenSpool opens the spool in dir for this process alone and starts to deliver its events through door. limit bounds
// its size on disk in bytes; 0 means spool.DefaultLimit. Close it before the door.
func OpenSpool(door *tenantdb.Door, dir string, limit int64, log *slog.Logger) (*Spool, error) {
	files, err := spool.Open(dir, limit)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Spool{door: door, files: files, dir: dir, log: log, clock: time.Now, seed: maphash.MakeSeed(), cancel: cancel,
		rejected: rejectStore{dir: dir, limit: maxRejected, seed: maphash.MakeSeed()}}
	if err := s.rejected.count(); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("audit: %w", err), files.Close())
	}
	s.done.Go(func() { s.ship(ctx) })
	return s, nil
}

// Close stops taking events, delivers waiting ones for up to two seconds, and closes the spool. The rest waits for the
// next OpenSpool.
func (s *Spool) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.Drain(ctx) // remaining events stay on the disk
	s.cancel()
	s.done.Wait()
	return s.files.Close()
}

// Drain waits until the spool is empty. It fails if ctx ends or the trail can't be written.
func (s *Spool) Drain(ctx context.Context) error {
	for {
		st := s.Status()
		if st.Waiting == 0 {
			return nil
		}
		if st.Problem != "" {
			return fmt.Errorf("audit: %s in %s: %s", plural.Of(st.Waiting, "event waits", "events wait"), s.dir,
				st.Problem)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("audit: %s in %s: %w", plural.Of(st.Waiting, "event waits", "events wait"), s.dir,
				ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Status returns the spool's current status.
func (s *Spool) Status() SpoolStatus {
	f := s.files.Status()
	st := SpoolStatus{Waiting: f.Waiting, Bytes: f.Bytes, Limit: f.Limit, Damaged: f.Damaged,
		Rejected: s.rejected.number()}
	if at := s.oldest.Load(); at != 0 && f.Waiting > 0 {
		st.Oldest = time.UnixMicro(at).UTC()
	}
	s.mu.Lock()
	st.Problem = s.problem
	s.mu.Unlock()
	return st
}

// Log takes one event and returns its id. If it returns nil, the event is on this machine's disk and will be delivered.
// If e.At is zero, the time is now by this machine's clock.
func (s *Spool) Log(ctx context.Context, tenant uuid.UUID, e Event) (uuid.UUID, error) {
	if err := tenantdb.CanOpen(ctx, tenant); err != nil {
		return uuid.Nil, err
	}
	e, err := e.check()
	if err != nil {
		return uuid.Nil, err
	}
	return e.ID, s.put(ctx, tenant, e)
}

// put appends checked events to the spool. More than spool.MaxAppend bytes take several appends, of which only the
// first ones may succeed.
func (s *Spool) put(ctx context.Context, tenant uuid.UUID, events ...Event) error {
	now := s.clock().UTC().Truncate(time.Microsecond)
	var some [][]byte
	size := 0
	flush := func() error {
		err := s.files.Append(ctx, some...)
		some, size = nil, 0
		if errors.Is(err, spool.ErrClosed) {
			return ErrClosed
		}
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		return nil
	}
	for _, e := range events {
		if e.At.IsZero() {
			e.At, e.stamped = now, true
		}
		r := e.record(tenant)
		if len(some) > 0 && size+len(r)+64 > spool.MaxAppend {
			if err := flush(); err != nil {
				return err
			}
		}
		some, size = append(some, r), size+len(r)+64
	}
	return flush()
}

// ship delivers waiting events until ctx ends.
func (s *Spool) ship(ctx context.Context) {
	var records []spool.Record
	for {
		var err error
		if records == nil {
			records, err = s.files.Next(ctx, window)
		}
		if err == nil {
			if err = s.shipRecords(ctx, records); err == nil {
				records = nil
			}
		}
		if ctx.Err() != nil || errors.Is(err, spool.ErrClosed) {
			return
		}
		if err != nil { // an error of this machine's disk: retry the same records
			s.logProblem(err)
			if !wait(ctx, lastRetry) {
				return
			}
		}
	}
}

func (s *Spool) shipRecords(ctx context.Context, records []spool.Record) error {
	var byLane [shippers][]tenantEvent
	for _, r := range records {
		tenant, e, err := readRecord(r.Payload)
		if err != nil {
			if err := s.rejected.add(tenant, r.Payload, Event{}, err); err != nil {
				return err
			}
			continue
		}
		lane := maphash.Comparable(s.seed, [2]uuid.UUID{tenant, e.AgentID}) % shippers
		byLane[lane] = append(byLane[lane], tenantEvent{tenant, e})
		if s.oldest.Load() == 0 {
			s.oldest.Store(e.At.UnixMicro())
		}
	}
	var all sync.WaitGroup
	errs := make([]error, shippers)
	for i, events := range byLane {
		all.Go(func() {
			for len(events) > 0 && errs[i] == nil {
				n := oneCommit(events)
				errs[i] = s.deliver(ctx, events[:n])
				events = events[n:]
			}
		})
	}
	all.Wait()
	s.oldest.Store(0)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.files.Done(records[len(records)-1].End, len(records))
}

// oneCommit returns how many of the first events may share a transaction. The log orders a transaction's events by id,
// so each agent's ids must ascend.
func oneCommit(events []tenantEvent) int {
	last := map[[2]uuid.UUID]uuid.UUID{}
	for i, e := range events {
		agent := [2]uuid.UUID{e.tenant, e.event.AgentID}
		if before, ok := last[agent]; i == shipRows || ok && string(e.event.ID[:]) <= string(before[:]) {
			return i
		}
		last[agent] = e.event.ID
	}
	return len(events)
}

// deliver retries one transaction's events until they are logged, or set aside because the database refuses them. It
// returns only a localError or the context's error.
func (s *Spool) deliver(ctx context.Context, events []tenantEvent) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := s.try(ctx, events)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var local *localError
		if err == nil || errors.As(err, &local) {
			if err == nil {
				s.logProblem(nil)
			}
			return err
		}
		s.logProblem(err)
		if !wait(ctx, pause/2+rand.N(pause)) {
			return ctx.Err()
		}
	}
}

// localError is an error of this machine's disk.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// try writes events once: together, or, if the database refuses some of them, as commit does.
func (s *Spool) try(ctx context.Context, events []tenantEvent) error {
	within, cancel := context.WithTimeout(ctx, shipTimeout)
	batches := groupByTenant(events)
	err := s.door.Stream(within, streamParts(batches))
	cancel()
	if err == nil || !eventsFault(err) {
		return err
	}
	if errors.Is(err, ErrChanged) {
		// The events are committed, so they are not written again. Only the changed ones are set aside.
		for _, h := range batches {
			for i, e := range h.events {
				if err := h.verdict(i); err != nil {
					if err := s.setAside(ctx, h.tenant, e, err); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	for _, t := range distinctTenants(events) {
		if err := s.commit(ctx, t.tenant, t.events); err != nil {
			return err
		}
	}
	return nil
}

// commit writes one tenant's events, of which some may already be there and some may be refused. If the database
// refuses them together, it writes each half by itself, down to the refused event, which is set aside.
func (s *Spool) commit(ctx context.Context, tenant uuid.UUID, events []Event) error {
	within, cancel := context.WithTimeout(ctx, shipTimeout)
	err := s.door.Tx(within, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return insertAll(ctx, tx, tenant, events)
	})
	cancel()
	if err == nil || !eventsFault(err) {
		return err
	}
	if half := len(events) / 2; half > 0 {
		if err := s.commit(ctx, tenant, events[:half]); err != nil {
			return err
		}
		return s.commit(ctx, tenant, events[half:])
	}
	return s.setAside(ctx, tenant, events[0], err)
}

// setAside keeps an event that the database refused or changed, with the reason, for a person to examine.
func (s *Spool) setAside(ctx context.Context, tenant uuid.UUID, e Event, reason error) error {
	s.log.ErrorContext(ctx, "the database refused or changed an event; it is kept in the spool's folder",
		"tenant", tenant, "event", e.ID, "error", reason)
	if err := s.rejected.add(tenant, e.record(tenant), e, reason); err != nil {
		return &localError{err}
	}
	return nil
}

// logProblem stores why events can't be delivered, nil if they can, and logs a change between the two.
func (s *Spool) logProblem(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.problem
	s.problem = ""
	if err != nil {
		s.problem = err.Error()
	}
	switch {
	case before == "" && err != nil:
		s.log.Warn("the trail can't be written; events wait in the spool", "folder", s.dir, "error", err)
	case before != "" && err == nil:
		s.log.Info("the trail can be written again", "folder", s.dir)
	}
}

// wait waits for d; it returns false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
