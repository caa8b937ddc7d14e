package webhook

import (
	"net"
	"net/http"
	"net/netip"
	"time"
)

// SetWaits has a worker wait less between attempts.
func (w *Worker) SetWaits(waits ...time.Duration) { w.waits = waits }

// Resolve has names be resolved by another resolver.
func (e *Endpoints) Resolve(r *net.Resolver, allow []netip.Prefix) { e.targets = newTargets(r, allow) }

// CheckURL returns an error for a URL that nothing is sent to.
func (e *Endpoints) CheckURL(url string) error { return e.targets.check(url) }

// The parts of the schedule.
var (
	NextWait   = nextWait
	RetryWaits = retryWaits
)

// RetryAfter reads a header.
func RetryAfter(text string, now time.Time) time.Duration {
	return retryAfter(http.Header{"Retry-After": {text}}, now)
}
