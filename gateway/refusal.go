package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/strictjson"
)

// refusalEvery is how often the same cause of refusals is logged for a tenant, and maxRefusals for how many tenants and
// causes it is counted meanwhile.
const (
	refusalEvery = time.Minute
	maxRefusals  = 10_000
)

// Causes of refusals.
const (
	causeModel    = "model_not_allowed"
	causeUpstream = "model_not_found"
	causeBudget   = "budget_exceeded"
	causePrice    = "model_without_price"
)

// refusals logs that calls were refused: the first of each cause at once, and the number of the others each minute.
type refusals struct {
	trail  *audit.Trail
	logger *slog.Logger

	mu     sync.Mutex
	counts map[refusalKey]*refusalCount
	ended  bool
	wait   sync.WaitGroup
}

type refusalKey struct {
	tenant uuid.UUID
	cause  string
}

type refusalCount struct {
	since time.Time
	last  refused
	more  int // since the last event
}

// refused is a refused call.
type refused struct {
	who    Caller
	cause  string
	model  string
	reason string
	used   *audit.ModelUsage
}

func newRefusals(t *audit.Trail, logger *slog.Logger) *refusals {
	return &refusals{trail: t, logger: logger, counts: map[refusalKey]*refusalCount{}}
}

func (r *refusals) notAllowed(who Caller, model string) *Refusal {
	return r.refuse(http.StatusForbidden, 0, refused{who: who, cause: causeModel, model: model,
		reason: fmt.Sprintf("The model %.200q is not among those that this tenant's policy allows.", model)})
}

func (r *refusals) noUpstream(who Caller, model string) *Refusal {
	return r.refuse(http.StatusNotFound, 0, refused{who: who, cause: causeUpstream, model: model,
		reason: fmt.Sprintf("The model %.200q does not exist here: no upstream of this API serves it.", model)})
}

func (r *refusals) noPrice(who Caller, model string) *Refusal {
	return r.refuse(http.StatusForbidden, 0, refused{who: who, cause: causePrice, model: model,
		reason: fmt.Sprintf("The model %.200q has no price here, and this tenant's budget is one of money.", model)})
}

func (r *refusals) budget(who Caller, model, why string, used audit.ModelUsage, after time.Duration) *Refusal {
	return r.refuse(http.StatusTooManyRequests, after, refused{who: who, cause: causeBudget, model: model,
		reason: fmt.Sprintf("%s (%d tokens, cost %g): try again in %s.", why, used.Tokens, used.Cost,
			after.Round(time.Second)), used: &used})
}

// refuse returns what the caller is told, and counts the refusal.
func (r *refusals) refuse(status int, after time.Duration, f refused) *Refusal {
	out := &Refusal{Status: status, Code: f.cause, Message: f.reason, Final: after != time.Second,
		RetryAfter: int(math.Ceil(after.Seconds()))}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := refusalKey{f.who.Tenant, f.cause}
	c := r.counts[key]
	if c != nil && time.Since(c.since) < refusalEvery {
		c.last = f
		c.more++
		return out
	}
	if r.ended || c == nil && len(r.counts) >= maxRefusals {
		return out
	}
	c = &refusalCount{since: time.Now(), last: f}
	r.counts[key] = c
	r.wait.Go(func() { r.log(f, 1) })
	time.AfterFunc(refusalEvery, func() { r.endInterval(key, c) })
	return out
}

// endInterval logs how many more calls were refused in the interval.
func (r *refusals) endInterval(key refusalKey, c *refusalCount) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts[key] != c {
		return
	}
	delete(r.counts, key)
	if c.more > 0 && !r.ended {
		r.wait.Go(func() { r.log(c.last, c.more) })
	}
}

// close logs what is counted, and waits for it.
func (r *refusals) close() {
	r.mu.Lock()
	r.ended = true
	for key, c := range r.counts {
		if delete(r.counts, key); c.more > 0 {
			r.wait.Go(func() { r.log(c.last, c.more) })
		}
	}
	r.mu.Unlock()
	r.wait.Wait()
}

func (r *refusals) log(f refused, calls int) {
	ctx, cancel := context.WithTimeout(context.Background(), logTime)
	defer cancel()
	m := audit.Metadata{"gen_ai.request.model": cleaned(f.model), "error.type": f.cause,
		"konstruct.gateway.refused_calls": calls}
	if f.used != nil {
		m["konstruct.gateway.used_tokens"], m["konstruct.gateway.used_cost"] = f.used.Tokens, f.used.Cost
	}
	raw, err := strictjson.Marshal(m)
	if err == nil {
		e := audit.Event{AgentID: f.who.Agent, Action: audit.ActionModelRefused, Output: cleaned(f.reason),
			Metadata: raw}
		_, err = r.trail.Log(ctx, f.who.Tenant, e.OfService())
	}
	if err != nil {
		r.logger.ErrorContext(ctx, "a refused call of a model could not be logged", "tenant", f.who.Tenant,
			"cause", f.cause, "error", err)
	}
}
