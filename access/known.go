package access

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// operator is audit.Operator: whose keys may switch to other tenants.
var operator = uuid.MustParse("6b6f6e73-7472-8563-8000-000000000001")

// known are the keys that were checked a moment ago. Nothing is known while nobody listens for what changes, so that a revoked key ends at once.
type known struct {
	mu        sync.Mutex
	listening bool
	changes   uint64 // counted, so that what was read before a change is not kept after it
	who       map[string]remembered
}

type remembered struct {
	Who
	until time.Time
}

// How long a key is known, which is how exact its last use is, and how many are.
const (
	knownFor = time.Minute
	maxKnown = 10_000
)

func newKnown() *known { return &known{who: map[string]remembered{}} }

func (k *known) generation() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changes
}

func (k *known) get(sum []byte) (Who, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.who[string(sum)]
	return r.Who, ok && time.Now().Before(r.until)
}

func (k *known) put(sum []byte, w Who, expires *time.Time, generation uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.listening || k.changes != generation {
		return
	}
	if len(k.who) >= maxKnown {
		clear(k.who)
	}
	until := time.Now().Add(knownFor)
	if expires != nil && expires.Before(until) {
		until = *expires
	}
	k.who[string(sum)] = remembered{w, until}
}

// drop forgets everything, and what is being read.
func (k *known) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changes++
	clear(k.who)
}

// forget is drop; listening says whether the next change will be heard.
func (k *known) forget(listening bool) {
	k.mu.Lock()
	k.listening = listening
	k.mu.Unlock()
	k.drop()
}

// Forget has every key looked up again, in this process: other processes hear of a change a moment after it is committed.
func (k *Keys) Forget() { k.known.drop() }

// Listen hears of changes until the context ends, so that keys can be known for a moment in between. Where the connection is lost every key is looked up again.
func (k *Keys) Listen(ctx context.Context, logger *slog.Logger, also func()) {
	for ctx.Err() == nil {
		err := k.door.Listen(ctx, Channel, func() {
			k.known.forget(true)
			also()
		})
		k.known.forget(false)
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
