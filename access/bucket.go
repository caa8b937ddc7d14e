package access

import (
	"time"

	"golang.org/x/time/rate"
)

// tokenBucket is a limit's bucket, and what was promised of what will be in it.
type tokenBucket struct {
	*rate.Limiter
	// reservedUntil is until when new tokens are reserved for callers who were told to retry.
	reservedUntil time.Time
}

// maxWait is the longest time after which a caller is told to retry.
const maxWait = 30 * time.Second

func bucket(perSecond, part float64) *tokenBucket {
	if perSecond == 0 {
		return &tokenBucket{Limiter: rate.NewLimiter(rate.Inf, 0)}
	}
	return &tokenBucket{Limiter: rate.NewLimiter(rate.Limit(perSecond*part), max(1, int(perSecond*part*burst)))}
}

// wait is how long until n may come; more than a full bucket holds may come when it is full.
func (b *tokenBucket) wait(now time.Time, n int) time.Duration {
	if b.Limit() == rate.Inf {
		return 0
	}
	return b.refill(float64(min(n, b.Burst())) - b.TokensAt(now))
}

// refill is how long it takes until so much has come.
func (b *tokenBucket) refill(n float64) time.Duration {
	if n <= 0 {
		return 0
	}
	return time.Duration(n / float64(b.Limit()) * float64(time.Second))
}

// reserve returns when n requests may be retried, behind earlier reservations: callers who were refused at the same
// time get different times, and each finds room then.
func (b *tokenBucket) reserve(now time.Time, n int) time.Duration {
	at := now.Add(b.wait(now, n))
	if b.reservedUntil.After(now) {
		if behind := b.reservedUntil.Add(b.refill(float64(min(n, b.Burst())))); behind.After(at) {
			at = behind
		}
	}
	if most := now.Add(maxWait); at.After(most) {
		return maxWait
	}
	b.reservedUntil = at
	return at.Sub(now)
}
