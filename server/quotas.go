package server

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
)

// quotaDocuments names the quota of documents; the others are those of access.LimitError.
const quotaDocuments = "documents"

// maxQuotas is how many tenants and quotas are remembered in an hour, and quotaTime how long a report may take.
const (
	maxQuotas = 10_000
	quotaTime = 10 * time.Second
)

// quotas tells tenants' webhooks that quotas are used up, of each quota once an hour. No refusal waits for it; a report
// that is lost with its process is made at the next refusal.
type quotas struct {
	s *Server

	mu   sync.Mutex
	hour time.Time
	told map[quotaKey]bool
}

type quotaKey struct {
	tenant uuid.UUID
	quota  string
}

// refused takes a refusal into account.
func (q *quotas) refused(tenant uuid.UUID, quota string) {
	hour, key := time.Now().UTC().Truncate(time.Hour), quotaKey{tenant, quota}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.hour != hour {
		q.hour, q.told = hour, map[quotaKey]bool{}
	}
	if q.told[key] || len(q.told) >= maxQuotas || q.s.lifetime.Err() != nil {
		return
	}
	q.told[key] = true
	q.s.background.Go(func() {
		ctx, cancel := context.WithTimeout(q.s.lifetime, quotaTime)
		defer cancel()
		if err := q.s.c.Konstruct.Tenant(tenant).Webhooks().QuotaRefused(ctx, quota); err != nil {
			q.s.logger.WarnContext(ctx, "a used-up quota could not be reported", "tenant", tenant, "quota", quota,
				"error", err)
			q.mu.Lock()
			defer q.mu.Unlock()
			delete(q.told, key)
		}
	})
}
