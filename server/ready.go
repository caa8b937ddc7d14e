package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/konstruct/konstruct/notary"
)

// trailCheck is what was found last of events that are sealed and in no log. /readyz needs no credential, so it does not ask the
// database each time.
type trailCheck struct {
	mu   sync.Mutex
	at   time.Time
	last Part
}

// trailEvery is for how long what was found holds.
const trailEvery = 5 * time.Second

// part says whether everything that is sealed enters the log in time.
func (t *trailCheck) part(ctx context.Context, s *Server) Part {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) < trailEvery {
		return t.last
	}
	p := Part{Name: "trail"}
	w, err := notary.Overlooked(ctx, s.c.Evidence)
	switch {
	case err != nil:
		p.Why = "it can't be asked what waits for the log"
		s.logger.WarnContext(ctx, "not ready", "error", err)
	case !w.OK(): // whose events those are, and what hinders, is the operator's to know
		p.Why = fmt.Sprintf("%d sealed events are not in the log in time", w.Overdue+w.Unknown)
		s.logger.ErrorContext(ctx, "not ready", "error", w.Err())
	default:
		p.Ready = true
	}
	t.at, t.last = time.Now(), p
	return p
}
