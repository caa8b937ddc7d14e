package access

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// operatorPrefix is audit.Operator: whose keys may switch to other tenants.
var operatorPrefix = uuid.MustParse("6b6f6e73-7472-8563-8000-000000000001")

// principalCache are the keys that were checked a moment ago. Nothing is known while nobody listens for what changes,
// so that a revoked key ends at once.
type principalCache struct {
	mu        sync.Mutex
	listening bool
	changes   uint64 // counted, so that what was read before a change is not kept after it
	entries   map[string]cachedPrincipal
}

type cachedPrincipal struct {
	Principal
	until time.Time
}

// How long a key is known, which is how exact its last use is, and how many are.
const (
	cacheTTL  = time.Minute
	cacheSize = 10_000
)

func newPrincipalCache() *principalCache {
	return &principalCache{entries: map[string]cachedPrincipal{}}
}

func (k *principalCache) generation() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changes
}

func (k *principalCache) get(sum []byte) (Principal, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.entries[string(sum)]
	return r.Principal, ok && time.Now().Before(r.until)
}

func (k *principalCache) put(sum []byte, w Principal, expires *time.Time, generation uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.listening || k.changes != generation {
		return
	}
	if len(k.entries) >= cacheSize {
		clear(k.entries)
	}
	until := time.Now().Add(cacheTTL)
	if expires != nil && expires.Before(until) {
		until = *expires
	}
	k.entries[string(sum)] = cachedPrincipal{w, until}
}

// invalidate forgets everything, and what is being read.
func (k *principalCache) invalidate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changes++
	clear(k.entries)
}

// clear is drop; listening says whether the next change will be heard.
func (k *principalCache) clear(listening bool) {
	k.mu.Lock()
	k.listening = listening
	k.mu.Unlock()
	k.invalidate()
}

// Forget has every key looked up again, in this process: other processes hear of a change a moment after it is
// committed.
func (k *Keys) Forget() { k.cache.invalidate() }

// Listen receives changes until the context ends, so that keys can be cached in between. While the connection is lost,
// every key is looked up.
func (k *Keys) Listen(ctx context.Context, logger *slog.Logger, also func()) {
	for ctx.Err() == nil {
		err := k.door.Listen(ctx, Channel, func() {
			k.cache.clear(true)
			also()
		})
		k.cache.clear(false)
		also()
		if ctx.Err() == nil {
			logger.Warn("not told of revoked keys for now: each is looked up", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}
