package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/konstruct/konstruct/logstore"
)

// trailHealth is what was found last of events that are sealed and in no log. /readyz needs no credential, so it does
// not ask the database each time.
type trailHealth struct {
	mu   sync.Mutex
	at   time.Time
	last Component
}

// trailTTL is for how long what was found holds.
const trailTTL = 5 * time.Second

// component says whether everything that is sealed enters the log in time.
func (t *trailHealth) component(ctx context.Context, s *Server) Component {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) < trailTTL {
		return t.last
	}
	p := Component{Name: "trail"}
	w, err := logstore.CountAllWaiting(ctx, s.c.Evidence)
	switch {
	case err != nil:
		p.Reason = "it can't be asked what waits for the log"
		s.logger.WarnContext(ctx, "not ready", "error", err)
	case !w.OK(): // whose events those are, and what hinders, is the operator's to know
		p.Reason = fmt.Sprintf("%d sealed events are not in the log in time", w.Overdue+w.Unknown)
		s.logger.ErrorContext(ctx, "not ready", "error", w.Err())
	default:
		p.Ready = true
	}
	t.at, t.last = time.Now(), p
	return p
}
