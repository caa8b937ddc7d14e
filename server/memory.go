package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/extract"
)

// DefaultRequestMemory is the default of Config.RequestMemory, in bytes.
const DefaultRequestMemory = 256 << 20

// MinRequestMemory is the memory of one largest batch, in bytes.
const MinRequestMemory = 128 << 20

// gcPercent is how much the heap grows before it is collected, in percent of what lives. Nearly all that a request
// allocates is garbage at its end: with Go's 100, collecting took a fifth of the time of exports.
const gcPercent = 400

// TuneGC makes the process collect garbage less often, as long as all takes less than twice the memory of requests.
// Where the environment sets GOGC or GOMEMLIMIT, that stays.
func TuneGC(requestMemory int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(2 * requestMemory)
	}
}

// The memory that a byte of a body needs while its request is processed, at worst
// (TestABodyTakesNoMoreMemoryThanIsReservedForIt).
const (
	weightJSON = 56 // read whole and decoded twice, once into values of type any, where objects need most
	// decoded event by event: the texts, the buffer, and one statement to the database at a time
	weightBatch = 3
	weightFile  = 3 // read whole, and copied once on its way to the database
	// The memory of an event beside its texts, and the size of the shortest event, in bytes.
	eachInBatch = 1 << 10
	leastEvent  = int64(len(`{"action_type":"x"},`))
)

const (
	// smallBody bounds small bodies, which have a pool of their own and never wait for large ones.
	smallBody    = 2 << 20 // bytes of memory
	memoryWait   = 5 * time.Second
	maxMemWaits  = 32 // waiting requests of one tenant
	smallShare   = 4  // a fourth of the memory is the pool of small bodies
	tenantsShare = 2  // one tenant may hold half of a pool
	pieceMemory  = 4 << 20
)

// memoryBudget bounds the memory of all request bodies in progress. Small and large bodies have separate pools, so that
// batches don't delay single events. A tenant may hold half of a pool, which leaves room for others.
type memoryBudget struct {
	small, large memoryPool
}

func newMemoryBudget(total int64) *memoryBudget {
	b := &memoryBudget{}
	b.small.size = total / smallShare
	b.large.size = total - b.small.size
	return b
}

// memoryPool is a part of the budget.
type memoryPool struct {
	size int64

	mu      sync.Mutex
	used    int64
	tenants map[uuid.UUID]int64
	waits   []*memoryWaiter // in order of arrival
}

// memoryWaiter is a request that waits for memory.
type memoryWaiter struct {
	tenant uuid.UUID
	n      int64
	ready  chan struct{}
}

// reserve reserves n bytes for a tenant's request and returns the function that releases them. It waits for up to
// memoryWait; then it returns a *Problem with Retry-After. A request larger than the pool reserves the whole pool.
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
	if i < 0 { // it was granted at the last moment
		return release, nil
	}
	p.waits = slices.Delete(p.waits, i, i+1)
	return nil, p.full(tenant, n)
}

// share is how many bytes of the pool one tenant may hold.
func (p *memoryPool) share() int64 { return p.size / tenantsShare }

// canReserve reports whether n bytes are free. A tenant without a reservation may exceed its share.
func (p *memoryPool) canReserve(tenant uuid.UUID, n int64) bool {
	held := p.tenants[tenant]
	return p.used+n <= p.size && (held == 0 || held+n <= p.share())
}

// waiting returns the number of a tenant's waiting requests.
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

// release frees n bytes and grants them to waiting requests in order of arrival, as far as they fit.
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

// full returns the problem of a failed reservation: the tenant's own share or the whole pool is in use.
func (p *memoryPool) full(tenant uuid.UUID, n int64) *Problem {
	after := memoryWait
	if held := p.tenants[tenant]; held > 0 && held+n > p.share() {
		return retryLater(http.StatusTooManyRequests, after,
			"this tenant's requests in progress use %d MiB, its share: send fewer large ones at a time, and try again "+
				"in %s",
			held>>20, after)
	}
	return retryLater(http.StatusServiceUnavailable, after,
		"the requests in progress use %d MiB of memory, the limit: try again in %s", p.used>>20, after)
}

// inUse returns the reserved bytes.
func (b *memoryBudget) inUse() int64 {
	n := int64(0)
	for _, p := range []*memoryPool{&b.small, &b.large} {
		p.mu.Lock()
		n += p.used
		p.mu.Unlock()
	}
	return n
}

// admitBody reserves memory for a request's body and counts its bytes against the tenant's limit. The caller calls done
// after the request.
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
	body := &incomingBody{ReadCloser: r.Body, size: -1} // its size is known at the end
	r.Body = body
	return func() {
		release()
		s.meter.Spend(who, access.Bytes, int(body.read.Load()))
	}, nil
}

// resourceElsewhere returns a hint how to send a larger file.
func (s *Server) resourceElsewhere(r *http.Request) string {
	if s.isUpload(r) && openAIUploadSize(r) == 0 {
		return ": send the file in pieces (POST /v1/uploads)"
	}
	return ""
}

// bodyMemory returns the memory that a request's body needs, in bytes. Without Content-Length it assumes the largest
// body.
func (s *Server) bodyMemory(r *http.Request) int64 {
	n := r.ContentLength
	if n < 0 || n > s.bodySize(r) {
		n = s.bodySize(r)
	}
	switch {
	// streamed to the disk or the database; fileMemory reserves for what is read whole later
	case s.isUpload(r):
		return min(n, pieceMemory)
	case s.protocolOf(r.URL.Path) != nil && s.protocolOf(r.URL.Path).bodyMemory != nil:
		return s.protocolOf(r.URL.Path).bodyMemory(n)
	case r.URL.Path == batchPath:
		return n*weightBatch + min(n/leastEvent, audit.MaxBatch)*eachInBatch
	}
	return n * weightJSON
}

// fileMemory reserves memory for a file that is read whole.
func (s *Server) fileMemory(ctx context.Context, tenant uuid.UUID, size int64) (release func(), err error) {
	return s.memory.reserve(ctx, tenant, size*weightFile)
}

// readSized reads a body of known size without io.ReadAll's repeated growth.
func readSized(r io.Reader, size int64) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, min(max(size, 0), extract.MaxPDF)+bytes.MinRead))
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}
