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

// ErrClosed says that a group was closed before it took the event: it was not logged.
var ErrClosed = errors.New("audit: the logger is closed: the event was not logged")

// Group gathers the events of concurrent callers into shared commits: while one commit is in progress, what
// arrives waits for the next. An idle group adds no wait. Each caller gets its own result, and an event
// that the database refuses fails alone. It is safe for concurrent use.
type Group struct {
	door    *tenantdb.Door
	queue   chan *pending
	workers sync.WaitGroup

	mu     sync.RWMutex // held for reading by those who are putting an event into the queue
	closed bool
}

// The measures of a group.
const (
	// Committers is how many commits may be in progress at once: while one waits for its disk, the other is made.
	Committers = 2
	// MaxWaiting is how many events may wait for a commit; then callers wait for room, each as long as its
	// context says.
	MaxWaiting = 4096
	// maxCommit is how many events share one commit at most.
	maxCommit = 512
	// commitTimeout bounds one commit, so that a database that does not answer can't hold a worker for ever.
	commitTimeout = 30 * time.Second
)

// pending is one event on its way, with its caller's answer. Whoever moves state from 0 decides: a worker
// takes it, or its caller gives up.
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

// tenantEvent is an event on its way.
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

// Close logs what was taken already and stops. Later calls get ErrClosed.
func (g *Group) Close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.queue)
	}
	g.mu.Unlock()
	g.workers.Wait()
}

// Log writes one event and returns its id. When it returns nil the event is committed and sealed. An error
// that wraps the context's says whether the event may have landed: if so, log it again with its id to be sure.
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

// work commits what waits, again and again.
func (g *Group) work() {
	batch := make([]*pending, 0, maxCommit)
	take := func(p *pending) {
		if p.state.CompareAndSwap(0, taken) { // or its caller was told that it was not logged
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

// commit writes a batch in one transaction; when the database refuses something of it, each event by itself.
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
			// All are committed: written again, those that were changed would be there already.
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
		// Nothing of the batch landed, or all of it and the answer was lost: with its id each is logged once.
		ctx, cancel := context.WithTimeout(p.ctx, commitTimeout)
		err := log(ctx, g.door, p.tenant, p.event)
		cancel()
		if err != nil && p.ctx.Err() == nil && !eventsFault(err) {
			down = err // the trail can't be written: it can't be for the others
		}
		p.done <- err
	}
}

// eventsFault reports whether an error is about the event itself, so that another event may land: bad data
// (SQLSTATE 22), a broken constraint (23), a limit (54), or what a trigger of the owner's raised (P0).
// Everything else says that the trail can't be written.
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

// distinctTenants sorts events by tenant, each one's in the order in which they came.
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

// groupByTenant is a batch as statements' worths of one tenant each.
func groupByTenant(batch []tenantEvent) (all []*pendingBatch) {
	for _, t := range distinctTenants(batch) {
		all = pendingBatches(all, t.tenant, t.events)
	}
	return all
}

// tenantEventID names an event: two tenants may have one of the same id.
type tenantEventID struct{ tenant, event uuid.UUID }

// verdictsOf returns what became of each event of batches that are committed, of which some were changed.
func verdictsOf(batches []*pendingBatch) map[tenantEventID]error {
	verdicts := map[tenantEventID]error{}
	for _, h := range batches {
		for i := range h.events {
			verdicts[tenantEventID{h.tenant, h.events[i].ID}] = h.verdict(i)
		}
	}
	return verdicts
}
