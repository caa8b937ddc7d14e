package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/tenantdb"
)

// ErrClosed is returned for an event that was not logged because the logger is closed.
var ErrClosed = errors.New("audit: the logger is closed: the event was not logged")

// Group commits the events of concurrent callers together: while one commit is in progress, arriving events wait for
// the next one. An idle group adds no wait. Each caller gets its own result, and an event that the database refuses
// fails alone. It is safe for concurrent use.
type Group struct {
	door    *tenantdb.Door
	queue   chan *pending
	workers sync.WaitGroup

	mu     sync.RWMutex // callers hold it for reading while they add to queue
	closed bool
}

// Limits of a group.
const (
	// Committers is how many commits are in progress at once: while one waits for the disk, the next is prepared.
	Committers = 2
	// MaxWaiting is how many events may wait for a commit. Further callers wait for room in the queue until their
	// context ends.
	MaxWaiting = 4096
	// maxCommit is how many events one commit has at most.
	maxCommit = 512
	// commitTimeout is the time limit of one commit, so that a database that does not answer can't block a worker for
	// ever.
	commitTimeout = 30 * time.Second
)

// pending is one event that waits for a commit, with its caller's result. Who changes state from 0 first decides: a
// worker takes the event, or the caller abandons it.
type pending struct {
	tenantEvent
	ctx   context.Context
	state atomic.Int32
	done  chan error
}

const (
	taken     = 1
	abandoned = 2
)

// tenantEvent is an event with its tenant.
type tenantEvent struct {
	tenant uuid.UUID
	event  Event
}

// NewGroup starts a group that logs through door. Close it before the door.
func NewGroup(door *tenantdb.Door) *Group {
	g := &Group{door: door, queue: make(chan *pending, MaxWaiting)}
	for range Committers {
		g.workers.Go(g.work)
	}
	return g
}

// Close logs the events already taken, and stops. Later calls get ErrClosed.
func (g *Group) Close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.queue)
	}
	g.mu.Unlock()
	g.workers.Wait()
}

// Log writes one event and returns its id. If it returns nil, the event is committed and sealed. An error that wraps
// the context's says whether the event may have been logged; if so, log it again with the same id.
func (g *Group) Log(ctx context.Context, tenant uuid.UUID, e Event) (uuid.UUID, error) {
	if err := tenantdb.CanOpen(ctx, tenant); err != nil {
		return uuid.Nil, err
	}
	e, err := e.check()
	if err != nil {
		return uuid.Nil, err
	}
	return e.ID, g.log(ctx, tenant, e)
}

// log writes a checked event.
func (g *Group) log(ctx context.Context, tenant uuid.UUID, e Event) error {
	p := &pending{tenantEvent: tenantEvent{tenant, e}, ctx: ctx, done: make(chan error, 1)}
	if err := g.put(p); err != nil {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		if p.state.CompareAndSwap(0, abandoned) {
			return fmt.Errorf("audit: the trail was not written in time: the event was not logged: %w", ctx.Err())
		}
		return fmt.Errorf("audit: event %s may or may not be logged: %w", e.ID, ctx.Err())
	}
}

func (g *Group) put(p *pending) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return ErrClosed
	}
	select {
	case g.queue <- p:
		return nil
	case <-p.ctx.Done():
		return fmt.Errorf("audit: %d events wait already and there was no room in time: the event was not logged: %w",
			MaxWaiting, p.ctx.Err())
	}
}

// work commits waiting events until the queue is closed.
func (g *Group) work() {
	batch := make([]*pending, 0, maxCommit)
	take := func(p *pending) {
		if p.state.CompareAndSwap(0, taken) { // otherwise its caller already has an error
			batch = append(batch, p)
		}
	}
	for p := range g.queue {
		batch = batch[:0]
		take(p)
	gather:
		for len(batch) < maxCommit {
			select {
			case p, open := <-g.queue:
				if !open {
					break gather
				}
				take(p)
			default:
				break gather
			}
		}
		g.commit(batch)
	}
}

// commit writes a batch in one transaction. If the database refuses the batch, it writes each event in a transaction of
// its own.
func (g *Group) commit(batch []*pending) {
	if len(batch) > 1 {
		events := make([]tenantEvent, len(batch))
		for i, p := range batch {
			events[i] = p.tenantEvent
		}
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		batches := groupByTenant(events)
		err := g.door.Stream(ctx, streamParts(batches))
		cancel()
		if errors.Is(err, ErrChanged) {
			// The batch is committed, so it is not written again. Only the changed events fail.
			verdicts := verdictsOf(batches)
			for _, p := range batch {
				p.done <- verdicts[tenantEventID{p.tenant, p.event.ID}]
			}
			return
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("audit: the database did not answer within %v: the event may or may not be logged: %w",
				commitTimeout, err)
		}
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			for _, p := range batch {
				p.done <- err
			}
			return
		}
	}
	var down error
	for _, p := range batch {
		if down != nil {
			p.done <- down
			continue
		}
		// The batch was rolled back, or committed and the answer was lost. Writing by id logs each event once.
		ctx, cancel := context.WithTimeout(p.ctx, commitTimeout)
		err := log(ctx, g.door, p.tenant, p.event)
		cancel()
		if err != nil && p.ctx.Err() == nil && !eventsFault(err) {
			down = err // the trail can't be written: don't try the others
		}
		p.done <- err
	}
}

// eventsFault reports whether an error is about the event itself, so that another event may succeed: bad data (SQLSTATE
// 22), a constraint violation (23), a limit (54), or an exception of a trigger of the owner's (P0). All other errors
// mean that the trail can't be written.
func eventsFault(err error) bool {
	var field *FieldError
	if errors.As(err, &field) || errors.Is(err, ErrIDTaken) || errors.Is(err, ErrChanged) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) < 2 {
		return false
	}
	switch pg.Code[:2] {
	case "22", "23", "54", "P0":
		return true
	}
	return false
}

// tenantEvents are one tenant's events.
type tenantEvents struct {
	tenant uuid.UUID
	events []Event
}

// distinctTenants groups events by tenant; each tenant's events keep their order.
func distinctTenants(events []tenantEvent) []tenantEvents {
	var all []tenantEvents
	place := map[uuid.UUID]int{}
	for _, e := range events {
		i, there := place[e.tenant]
		if !there {
			i = len(all)
			place[e.tenant] = i
			all = append(all, tenantEvents{tenant: e.tenant})
		}
		all[i].events = append(all[i].events, e.event)
	}
	return all
}

// groupByTenant splits a batch into statements of one tenant each.
func groupByTenant(batch []tenantEvent) (all []*pendingBatch) {
	for _, t := range distinctTenants(batch) {
		all = pendingBatches(all, t.tenant, t.events)
	}
	return all
}

// tenantEventID identifies an event: two tenants may use the same id.
type tenantEventID struct{ tenant, event uuid.UUID }

// verdictsOf returns each event's result after a commit in which some events were changed.
func verdictsOf(batches []*pendingBatch) map[tenantEventID]error {
	verdicts := map[tenantEventID]error{}
	for _, h := range batches {
		for i := range h.events {
			verdicts[tenantEventID{h.tenant, h.events[i].ID}] = h.verdict(i)
		}
	}
	return verdicts
}
