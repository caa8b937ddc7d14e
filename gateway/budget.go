package gateway

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

const (
	// bytesPerToken is for estimates: of calls in progress, and of what a vendor does not tell.
	bytesPerToken = 4
	// defaultOutput is how many tokens a call in progress may still bring, where its request does not limit them.
	defaultOutput = 1024
	// usageTTL is how old a sum over the trail may be, in which other processes' calls are counted.
	usageTTL = 2 * time.Second
	// unsettled is how long before now events may still be committed. Older ones are summed once.
	unsettled = 5 * time.Minute
	// maxAccounts is how many tenants' sums are kept.
	maxAccounts = 10_000
)

// budgets hold tenants to their budgets of a day. What was used is the sum over the trail's events, so that it holds in
// all processes and after restarts; calls of this process count at once, and calls in progress by an estimate.
type budgets struct {
	trail    *audit.Trail
	mu       sync.Mutex
	accounts map[uuid.UUID]*account
}

func newBudgets(t *audit.Trail) *budgets {
	return &budgets{trail: t, accounts: map[uuid.UUID]*account{}}
}

// account is what a tenant used today.
type account struct {
	mu      sync.Mutex
	day     time.Time
	settled audit.ModelUsage // of events before cut
	recent  audit.ModelUsage // of events since
	cut     time.Time
	read    time.Time
	own     []spent // calls of this process that were logged since read
	running audit.ModelUsage
	used    time.Time
}

// spent is a logged call of this process.
type spent struct {
	at time.Time
	audit.ModelUsage
}

// charge is a call's part in its tenant's account. Nil has none.
type charge struct {
	a        *account
	estimate audit.ModelUsage
	once     sync.Once
}

// account returns a tenant's, of a day in UTC.
func (b *budgets) account(tenant uuid.UUID) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[tenant]
	if a == nil {
		if len(b.accounts) >= maxAccounts {
			b.forget()
		}
		a = &account{}
		b.accounts[tenant] = a
	}
	return a
}

// forget drops accounts without calls in progress: they are read again from the trail.
func (b *budgets) forget() {
	for id, a := range b.accounts {
		a.mu.Lock()
		if a.running.Calls == 0 && time.Since(a.used) > time.Minute {
			delete(b.accounts, id)
		}
		a.mu.Unlock()
	}
}

// admit admits a call of a model by the tenant's budget. It returns a *Refusal where it is used up.
func (g *Gateway) admit(ctx context.Context, who Caller, p audit.ModelPolicy, q *request) (*charge, error) {
	if p.TokensPerDay == 0 && p.CostPerDay == 0 {
		return nil, nil
	}
	price, priced := g.price(q.model)
	if p.CostPerDay > 0 && !priced {
		return nil, g.refusals.noPrice(who, q.model)
	}
	output := int64(defaultOutput)
	if q.maxTokens > 0 {
		output = min(q.maxTokens, maxCount)
	}
	e := usage{input: int64(q.bytes) / bytesPerToken, output: output}
	estimate := audit.ModelUsage{Calls: 1, Tokens: e.input + e.output, Cost: price.cost(e)}
	a := g.budgets.account(who.Tenant)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.refresh(ctx, g.trail, who.Tenant, time.Now()); err != nil && !g.trail.Continues(who.Tenant) {
		g.logger.ErrorContext(ctx, "a budget could not be read", "tenant", who.Tenant, "error", err)
		return nil, &Refusal{Status: http.StatusServiceUnavailable, Code: faultUnwritable,
			Message: "What was used of the budget can't be read from the audit trail: try again."}
	}
	used, expected := a.total(), a.total()
	expected.Add(a.running)
	if why := over(p, used); why != "" {
		return nil, g.refusals.budget(who, q.model, why, used, untilTomorrow(time.Now()))
	}
	if why := over(p, expected); why != "" {
		return nil, g.refusals.budget(who, q.model, why+" by the calls in progress", expected, time.Second)
	}
	a.running.Add(estimate)
	return &charge{a: a, estimate: estimate}, nil
}

// over says what of a budget is used up, or "".
func over(p audit.ModelPolicy, u audit.ModelUsage) string {
	switch {
	case p.TokensPerDay > 0 && u.Tokens >= p.TokensPerDay:
		return fmt.Sprintf("The budget of %d tokens a day is used up", p.TokensPerDay)
	case p.CostPerDay > 0 && u.Cost >= p.CostPerDay:
		return fmt.Sprintf("The budget of %g a day is used up", p.CostPerDay)
	}
	return ""
}

func untilTomorrow(now time.Time) time.Duration {
	return now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now)
}

// total returns what was used today.
func (a *account) total() (u audit.ModelUsage) {
	u.Add(a.settled)
	u.Add(a.recent)
	for _, s := range a.own {
		u.Add(s.ModelUsage)
	}
	return u
}

// refresh reads the sums that are too old. Events of the last minutes are summed each time, and older ones once.
func (a *account) refresh(ctx context.Context, t *audit.Trail, tenant uuid.UUID, now time.Time) error {
	day := now.UTC().Truncate(24 * time.Hour)
	a.used = now
	if !a.day.Equal(day) {
		a.day, a.cut, a.read = day, day, time.Time{}
		a.settled, a.recent, a.own = audit.ModelUsage{}, audit.ModelUsage{}, nil
	}
	if now.Sub(a.read) < usageTTL {
		return nil
	}
	cut := a.cut
	if c := now.Add(-unsettled); c.After(cut) {
		cut = c
	}
	var older audit.ModelUsage
	var err error
	if cut.After(a.cut) {
		if older, err = t.ModelUsage(ctx, tenant, a.cut, cut); err != nil {
			return err
		}
	}
	recent, err := t.ModelUsage(ctx, tenant, cut, day.AddDate(0, 0, 1))
	if err != nil {
		return err
	}
	a.settled.Add(older)
	a.recent, a.cut, a.read = recent, cut, now
	kept := a.own[:0]
	for _, s := range a.own {
		if !s.at.Before(now) { // otherwise the sum has it
			kept = append(kept, s)
		}
	}
	a.own = kept
	return nil
}

// logged takes what a logged call used into account.
func (c *charge) logged(u audit.ModelUsage) {
	if c == nil {
		return
	}
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	c.release()
	c.a.own = append(c.a.own, spent{time.Now(), u})
}

// end takes the call out of those in progress.
func (c *charge) end() {
	if c == nil {
		return
	}
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	c.release()
}

func (c *charge) release() {
	c.once.Do(func() {
		r := &c.a.running
		r.Calls, r.Tokens = r.Calls-c.estimate.Calls, r.Tokens-c.estimate.Tokens
		if r.Cost -= c.estimate.Cost; r.Calls == 0 || math.IsNaN(r.Cost) {
			r.Cost = 0
		}
	})
}
