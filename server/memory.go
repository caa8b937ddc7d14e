package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/extract"
)

// DefaultRequestMemory is how many bytes the bodies of all requests may take together where Config does not say.
const DefaultRequestMemory = 256 << 20

// MinRequestMemory is what one largest batch takes.
const MinRequestMemory = 128 << 20

// How much memory a byte of a body takes while its request is worked on, at its worst
// (TestABodyTakesNoMoreMemoryThanIsReservedForIt).
const (
	weightJSON = 56 // read whole, and twice: once as values of any kind, of which an object takes most
	// read event by event: the texts, the buffer, and a statement at a time on its way to the database
	weightBatch = 3
	weightFile  = 3 // read whole, and once more on its way to the database
	// What an event takes beside its texts, of which the shortest has so many bytes.
	eachInBatch = 1 << 10
	leastEvent  = int64(len(`{"action_type":"x"},`))
)

const (
	// smallBody is what takes no part in the wait for room of large ones: bodies below it have a share of their own.
	smallBody    = 2 << 20 // bytes of memory
	memoryWait   = 5 * time.Second
	maxMemWaits  = 32 // requests of one tenant that wait for memory
	smallShare   = 4  // a fourth of the memory is for small bodies
	tenantsShare = 2  // one tenant may hold half of a share
	pieceMemory  = 4 << 20
)

// memoryBudget bounds what the bodies of all requests in progress take together. Small bodies and large ones have
// shares of their own, so that batches hold up no single events, and a tenant may hold half of a share, so that
// another finds room.
type memoryBudget struct {
	small, large memoryPool
}

func newMemoryBudget(total int64) *memoryBudget {
	b := &memoryBudget{}
	b.small.size = total / smallShare
	b.large.size = total - b.small.size
	return b
}

// memoryPool is a share of the budget.
type memoryPool struct {
	size int64

	mu      sync.Mutex
	used    int64
	tenants map[uuid.UUID]int64
	waits   []*memoryWaiter // in the order in which they came
}

// memoryWaiter is a request that waits for room.
type memoryWaiter struct {
	tenant uuid.UUID
	n      int64
	ready  chan struct{}
}

// reserve has room for n bytes of a tenant's, and returns what gives it back. It waits for a short while; then it
// returns a *Problem that says when to come again. What is more than there is in all is let in alone.
func (b *memoryBudget) reserve(ctx context.Context, tenant uuid.UUID, n int64) (release func(), err error) {
	if n <= 0 {
		return func() {}, nil
	}
	p := &b.large
	if n <= smallBody {
		p = &b.small
	}
	return p.reserve(ctx, tenant, n)
}

func (p *memoryPool) reserve(ctx context.Context, tenant uuid.UUID, n int64) (release func(), err error) {
	n = min(n, p.size)
	release = sync.OnceFunc(func() { p.release(tenant, n) })
	p.mu.Lock()
	if p.canReserve(tenant, n) {
		p.take(tenant, n)
		p.mu.Unlock()
		return release, nil
	}
	if p.waiting(tenant) >= maxMemWaits {
		err := p.full(tenant, n)
		p.mu.Unlock()
		return nil, err
	}
	w := &memoryWaiter{tenant, n, make(chan struct{})}
	p.waits = append(p.waits, w)
	p.mu.Unlock()
	timer := time.NewTimer(memoryWait)
	defer timer.Stop()
	select {
	case <-w.ready:
		return release, nil
	case <-ctx.Done():
	case <-timer.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waits, w)
	if i < 0 { // it came at the last moment
		return release, nil
	}
	p.waits = slices.Delete(p.waits, i, i+1)
	return nil, p.full(tenant, n)
}

// share is how much of the pool one tenant may hold.
func (p *memoryPool) share() int64 { return p.size / tenantsShare }

// canReserve reports whether there is room: a tenant's first body always may have all that is free.
func (p *memoryPool) canReserve(tenant uuid.UUID, n int64) bool {
	held := p.tenants[tenant]
	return p.used+n <= p.size && (held == 0 || held+n <= p.share())
}

// waiting is how many of a tenant's wait.
func (p *memoryPool) waiting(tenant uuid.UUID) (n int) {
	for _, w := range p.waits {
		if w.tenant == tenant {
			n++
		}
	}
	return n
}

func (p *memoryPool) take(tenant uuid.UUID, n int64) {
	if p.tenants == nil {
		p.tenants = map[uuid.UUID]int64{}
	}
	p.used += n
	p.tenants[tenant] += n
}

// release gives room back, to whoever waits for longest and fits.
func (p *memoryPool) release(tenant uuid.UUID, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used -= n
	if p.tenants[tenant] -= n; p.tenants[tenant] == 0 {
		delete(p.tenants, tenant)
	}
	p.waits = slices.DeleteFunc(p.waits, func(w *memoryWaiter) bool {
		if !p.canReserve(w.tenant, w.n) {
			return false
		}
		p.take(w.tenant, w.n)
		close(w.ready)
		return true
	})
}

// full says whose bodies leave no room.
func (p *memoryPool) full(tenant uuid.UUID, n int64) *Problem {
	after := memoryWait
	if held := p.tenants[tenant]; held > 0 && held+n > p.share() {
		return retryLater(http.StatusTooManyRequests, after,
			"this tenant's requests in progress take %d MiB, its share: send fewer large ones at once, and try again "+
				"in %s",
			held>>20, after)
	}
	return retryLater(http.StatusServiceUnavailable, after,
		"the requests in progress take %d MiB of memory, as much as they may: try again in %s", p.used>>20, after)
}

// inUse is how much is reserved.
func (b *memoryBudget) inUse() int64 {
	n := int64(0)
	for _, p := range []*memoryPool{&b.small, &b.large} {
		p.mu.Lock()
		n += p.used
		p.mu.Unlock()
	}
	return n
}

// admitBody has room for a request's body, and takes its bytes into account, or says why it can't come; done is
// called when the request was worked on.
func (s *Server) admitBody(ctx context.Context, who access.Principal, r *http.Request) (done func(), err error) {
	if most := s.bodySize(r); r.ContentLength > most {
		return nil, problem(http.StatusRequestEntityTooLarge, "body: it has %d bytes, the limit is %d%s",
			r.ContentLength, most-1, s.resourceElsewhere(r))
	}
	release, err := s.memory.reserve(ctx, who.Tenant, s.bodyMemory(r))
	if err != nil || r.ContentLength == 0 {
		return release, err
	}
	if r.ContentLength > 0 {
		if err := s.meter.SetCapacity(ctx, who, access.Bytes, int(r.ContentLength), "bytes"); err != nil {
			release()
			return nil, err
		}
		return release, nil
	}
	body := &incomingBody{ReadCloser: r.Body, size: -1} // its size is known when it has come
	r.Body = body
	return func() {
		release()
		s.meter.Spend(who, access.Bytes, int(body.read.Load()))
	}, nil
}

// resourceElsewhere says how more than may come at once can be sent.
func (s *Server) resourceElsewhere(r *http.Request) string {
	if s.isUpload(r) {
		return ": send the file in pieces (POST /v1/uploads)"
	}
	return ""
}

// bodyMemory is how much memory a request's body takes. Whoever does not say how much comes is taken to send as
// much as may come.
func (s *Server) bodyMemory(r *http.Request) int64 {
	n := r.ContentLength
	if n < 0 || n > s.bodySize(r) {
		n = s.bodySize(r)
	}
	switch {
	// it goes to the disk or the database as it comes; what is read whole later has its own room (fileMemory)
	case s.isUpload(r):
		return min(n, pieceMemory)
	case r.URL.Path == batchPath:
		return n*weightBatch + min(n/leastEvent, audit.MaxBatch)*eachInBatch
	}
	return n * weightJSON
}

// fileMemory has room for a file that is read whole.
func (s *Server) fileMemory(ctx context.Context, tenant uuid.UUID, size int64) (release func(), err error) {
	return s.memory.reserve(ctx, tenant, size*weightFile)
}

// readSized reads what has a known size without the room that io.ReadAll makes by guessing.
func readSized(r io.Reader, size int64) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, min(max(size, 0), extract.MaxPDF)+bytes.MinRead))
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}
