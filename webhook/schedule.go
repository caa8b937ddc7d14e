package webhook

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// retryWaits are how long a delivery waits after each failed attempt, as Standard Webhooks recommends: ten attempts in
// three days. After the last one it is a dead letter.
func retryWaits() []time.Duration {
	return []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}
}

// maxWait bounds what a target may ask for with Retry-After.
const maxWait = 24 * time.Hour

// jitter is by how much a wait may differ, so that what failed at one time does not come back at one time.
const jitter = 0.1

// disableAfter is how long every attempt of an endpoint must have failed before it is disabled.
const disableAfter = 5 * 24 * time.Hour

// nextWait returns how long to wait after the attempt number tries, or false after the last.
func nextWait(waits []time.Duration, tries int, retryAfter time.Duration) (time.Duration, bool) {
	if tries > len(waits) {
		return 0, false
	}
	wait := float64(waits[max(tries, 1)-1]) * (1 + jitter*(2*rand.Float64()-1))
	return max(time.Duration(wait), min(retryAfter, maxWait)), true
}

// retryAfter reads a response's Retry-After (RFC 9110, 10.2.3); 0 where it says nothing that can be read.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(max(0, seconds)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
