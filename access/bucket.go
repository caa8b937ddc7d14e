package access

import (
	"time"

	"golang.org/x/time/rate"
)

// bucketed is a limit's bucket, and what was promised of what will be in it.
type bucketed struct {
	*rate.Limiter
	// promised is until when what flows in is for those who were told to come again.
	promised time.Time
}

// maxPromise is how far ahead anybody is told to come again.
const maxPromise = 30 * time.Second

func bucket(perSecond, part float64) *bucketed {
	if perSecond == 0 {
		return &bucketed{Limiter: rate.NewLimiter(rate.Inf, 0)}
	}
	return &bucketed{Limiter: rate.NewLimiter(rate.Limit(perSecond*part), max(1, int(perSecond*part*burst)))}
}

// wait is how long until n may come; more than a full bucket holds may come when it is full.
func (b *bucketed) wait(now time.Time, n int) time.Duration {
	if b.Limit() == rate.Inf {
		return 0
	}
	return b.flow(float64(min(n, b.Burst())) - b.TokensAt(now))
}

// flow is how long it takes until so much has come.
func (b *bucketed) flow(n float64) time.Duration {
	if n <= 0 {
		return 0
	}
	return time.Duration(n / float64(b.Limit()) * float64(time.Second))
}

// promise is when n may come, behind those who were told so before: many that are turned away at the same time and come
// again when they were told to find room each, where all told the same time would find it once.
func (b *bucketed) promise(now time.Time, n int) time.Duration {
	at := now.Add(b.wait(now, n))
	if b.promised.After(now) {
		if behind := b.promised.Add(b.flow(float64(min(n, b.Burst())))); behind.After(at) {
			at = behind
		}
	}
	if most := now.Add(maxPromise); at.After(most) {
		return maxPromise
	}
	b.promised = at
	return at.Sub(now)
}
