package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/tenantdb"
)

// ErrClosed says that a group was closed before it took the event: it was not logged.
var ErrClosed = errors.New("audit: the logger is closed: the event was not logged")

// Group gathers the events of concurrent callers into shared commits: while one commit is under way, what
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
	// Committers is how many commits may be under way at once: while one waits for its disk, the other is made.
	Committers = 2
	// MaxWaiting is how many events may wait for a commit; then callers wait for room, each as long as its
	// context says.
	MaxWaiting = 4096
	// maxCommit is how many events share one commit at most.
	maxCommit = 512
	// commitTime bounds one shared commit; its events are then tried one by one.
	commitTime = 30 * time.Second
)

// pending is one event on its way, with its caller's answer.
type pending struct {
	ctx    context.Context
	tenant uuid.UUID
	event  Event
	done   chan error
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

// Log writes one event and returns its id. When it returns nil the event is committed and sealed. When ctx
// ends first the event may land all the same: log it again with its id to be sure.
func (g *Group) Log(ctx context.Context, tenant uuid.UUID, e Event) (uuid.UUID, error) {
	if err := tenantdb.CanOpen(ctx, tenant); err != nil {
		return uuid.Nil, err
	}
	e, err := e.check()
	if err != nil {
		return uuid.Nil, err
	}
	p := &pending{ctx: ctx, tenant: tenant, event: e, done: make(chan error, 1)}
	if err := g.put(p); err != nil {
		return uuid.Nil, err
	}
	select {
	case err := <-p.done:
		if err != nil {
			return uuid.Nil, err
		}
		return e.ID, nil
	case <-ctx.Done():
		return e.ID, fmt.Errorf("audit: event %s may or may not be logged: %w", e.ID, ctx.Err())
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
		return fmt.Errorf("audit: %d events wait already and there was no room in time: the event was not logged: %w", MaxWaiting, p.ctx.Err())
	}
}

// work commits what waits, again and again.
func (g *Group) work() {
	batch := make([]*pending, 0, maxCommit)
	for p := range g.queue {
		batch = append(batch[:0], p)
	gather:
		for len(batch) < maxCommit {
			select {
			case p, open := <-g.queue:
				if !open {
					break gather
				}
				batch = append(batch, p)
			default:
				break gather
			}
		}
		g.commit(batch)
	}
}

// commit writes a batch in one transaction; when that fails, each event by itself.
func (g *Group) commit(batch []*pending) {
	if len(batch) > 1 {
		ctx, cancel := context.WithTimeout(context.Background(), commitTime)
		err := g.door.Stream(ctx, byTenant(batch))
		cancel()
		if err == nil {
			for _, p := range batch {
				p.done <- nil
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
		err := log(p.ctx, g.door, p.tenant, p.event)
		var refused *pgconn.PgError
		if err != nil && p.ctx.Err() == nil && !errors.As(err, &refused) && !errors.Is(err, ErrIDTaken) {
			down = err // the database is not there: it will not be for the others
		}
		p.done <- err
	}
}

// byTenant is the batch as statements, each tenant's events together and in the order in which they came.
func byTenant(batch []*pending) []tenantdb.Part {
	var order []uuid.UUID
	events := map[uuid.UUID][]Event{}
	for _, p := range batch {
		if events[p.tenant] == nil {
			order = append(order, p.tenant)
		}
		events[p.tenant] = append(events[p.tenant], p.event)
	}
	var all []tenantdb.Part
	for _, t := range order {
		all = parts(all, t, events[t])
	}
	return all
}
