package server

import (
	"context"
	"sync"
	"time"

	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/plural"
)

// trailHealth caches the check for overdue events, because /readyz needs no credential.
type trailHealth struct {
	mu   sync.Mutex
	at   time.Time
	last Component
}

// trailTTL is how long a result is cached.
const trailTTL = 5 * time.Second

// component checks whether all sealed events enter the log in time.
func (t *trailHealth) component(ctx context.Context, s *Server) Component {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) < trailTTL {
		return t.last
	}
	// Everybody gets the cached result: a client that disconnects must not end the check.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
	defer cancel()
	p := Component{Name: "trail"}
	w, err := logstore.CountAllWaiting(ctx, s.c.Evidence)
	switch {
	case err != nil:
		p.Reason = "the waiting events can't be counted"
		s.logger.WarnContext(ctx, "not ready", "error", err)
	case !w.OK(): // the details are for the operator only
		p.Reason = plural.Of(w.Overdue+w.Unknown, "sealed event is", "sealed events are") + " not in the log in time"
		s.logger.ErrorContext(ctx, "not ready", "error", w.Err())
	default:
		p.Ready = true
	}
	t.at, t.last = time.Now(), p
	return p
}
