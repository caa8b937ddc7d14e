package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Limits are how much of everything a tenant may use, and each of its credentials half of that; zero is no limit.
type Limits struct {
	EventsPerSecond   float64 `json:"events_per_second" minimum:"0" maximum:"1000000"`
	SearchesPerSecond float64 `json:"searches_per_second" minimum:"0" maximum:"1000000"`
	RequestsPerSecond float64 `json:"requests_per_second" minimum:"0" maximum:"1000000" doc:"of any kind"`
	BytesPerSecond    float64 `json:"bytes_per_second" minimum:"0" maximum:"10000000000" doc:"of requests' bodies"`
	Documents         int64   `json:"documents" minimum:"0" maximum:"1000000000" doc:"stored and queued"`
	Concurrency       int     `json:"at_once" minimum:"0" maximum:"10000" doc:"requests worked on at the same time"`
}

// DefaultLimits hold for a tenant that has none of its own.
var DefaultLimits = Limits{EventsPerSecond: 50_000, SearchesPerSecond: 200, RequestsPerSecond: 2000,
	BytesPerSecond: 100 << 20, Documents: 1_000_000, Concurrency: 64}

// Resource is what is counted.
type Resource int

// The meterKinds.
const (
	Requests Resource = iota
	Events
	Searches
	Bytes
	meterKinds
)

// limit returns a limit by its kind.
func (l Limits) limit(k Resource) float64 {
	return [meterKinds]float64{l.RequestsPerSecond, l.EventsPerSecond, l.SearchesPerSecond, l.BytesPerSecond}[k]
}

// burst is how many seconds' worth may come at once.
const burst = 2

// fairShare is what one credential may use of its tenant's limit.
const fairShare = 0.5

// Meter holds tenants to their limits, in this process. It is safe for concurrent use.
type Meter struct {
	door     *tenantdb.Door
	defaults Limits
	refused  func(tenant uuid.UUID, quota string) // see OnRefused

	mu      sync.Mutex
	tenants map[uuid.UUID]*tenantMeter
}

// tenantMeter are one tenant's buckets and those of its credentials.
type tenantMeter struct {
	limits      Limits
	read        time.Time
	lastUsed    time.Time
	tenant      [meterKinds]*tokenBucket
	credentials map[uuid.UUID]*[meterKinds]*tokenBucket
	running     int
}

// How long a tenant's limits are taken to hold, how many tenants are remembered, and how many credentials of each.
const (
	limitsTTL      = 10 * time.Second
	maxMetered     = 10_000
	maxCredentials = 1000
)

// NewMeter returns one; usual hold for a tenant that has no limits of its own.
func NewMeter(door *tenantdb.Door, usual Limits) *Meter {
	return &Meter{door: door, defaults: usual, tenants: map[uuid.UUID]*tenantMeter{}}
}

// OnRefused has f be called with each refusal and its LimitError.Quota, while who is refused waits. Set it before the
// meter is used.
func (m *Meter) OnRefused(f func(tenant uuid.UUID, quota string)) { m.refused = f }

// refuse tells of a refusal.
func (m *Meter) refuse(tenant uuid.UUID, err error) {
	var limit *LimitError
	if m.refused != nil && errors.As(err, &limit) {
		m.refused(tenant, limit.Quota)
	}
}

// Forget has limits be read again.
func (m *Meter) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tenants {
		t.read = time.Time{}
	}
}

// SetLimits gives a tenant limits of its own, within a transaction of the tenant's.
func SetLimits(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, by string, l Limits) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err = tx.Exec(ctx,
		`INSERT INTO access_limits (tenant_id, limits, set_by) VALUES ($1, $2, $3) ON CONFLICT (tenant_id) DO UPDATE
		SET limits = EXCLUDED.limits, set_at = now(), set_by = EXCLUDED.set_by`, tenant, raw, by); err == nil {
		err = notifyKeyChange(ctx, tx)
	}
	if err != nil {
		return fmt.Errorf("access: set limits: %w", err)
	}
	return nil
}

// Limits returns those in force for a tenant.
func (m *Meter) Limits(ctx context.Context, tenant uuid.UUID) (Limits, error) {
	l := m.defaults
	err := m.door.Query(ctx, tenant, `SELECT limits FROM access_limits WHERE tenant_id = $1`, []any{tenant},
		func(rows pgx.Rows) error {
			var raw []byte
			if _, err := pgx.ForEachRow(rows, []any{&raw}, func() error { return nil }); err != nil || raw == nil {
				return err
			}
			l = Limits{}
			return json.Unmarshal(raw, &l)
		})
	if err != nil {
		return l, fmt.Errorf("access: read limits: %w", err)
	}
	return l, nil
}

// State is the state of a limit, as in the RateLimit headers.
type State struct {
	Limit     float64       // a second
	Remaining int           // at once, now
	Reset     time.Duration // until it is whole again
}

// LimitError says that a tenant or a credential used what it may, and when there is more.
type LimitError struct {
	Kind       string
	Quota      string // requests, concurrency, events, searches or bytes
	RetryAfter time.Duration
}

// Error implements error.
func (e *LimitError) Error() string { return e.Kind }

// Begin takes a request of a credential into account, and returns what ends it, or a *LimitError.
func (m *Meter) Begin(ctx context.Context, w Principal) (end func(), st State, err error) {
	t, err := m.tenant(ctx, w.Tenant)
	if err != nil {
		return nil, st, err
	}
	defer func() { m.refuse(w.Tenant, err) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := t.take(w.Credential, Requests, 1, "requests", time.Now()); err != nil {
		return nil, t.state(), err
	}
	if t.limits.Concurrency > 0 && t.running >= t.limits.Concurrency {
		return nil, t.state(), &LimitError{fmt.Sprintf("this tenant has %d requests in progress already", t.running),
			"concurrency", time.Second}
	}
	t.running++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		t.running--
	}, t.state(), nil
}

// SetCapacity takes n of something into account, or returns a *LimitError and takes nothing. What is more than a tenant
// may use at once is let through when nothing was used.
func (m *Meter) SetCapacity(ctx context.Context, w Principal, k Resource, n int, name string) (err error) {
	t, err := m.tenant(ctx, w.Tenant)
	if err != nil {
		return err
	}
	defer func() { m.refuse(w.Tenant, err) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	return t.take(w.Credential, k, n, name, time.Now())
}

// Spend takes n of something into account that was used already: where it was more than there was, what comes next
// waits for it.
func (m *Meter) Spend(w Principal, k Resource, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tenants[w.Tenant]
	if t == nil || t.tenant[k] == nil || n <= 0 {
		return
	}
	for _, b := range []*tokenBucket{t.ownLimits(w.Credential)[k], t.tenant[k]} {
		b.ReserveN(time.Now(), min(n, b.Burst()))
	}
}

// tenant returns a tenant's buckets, with its limits as they were read a moment ago.
func (m *Meter) tenant(ctx context.Context, id uuid.UUID) (*tenantMeter, error) {
	m.mu.Lock()
	t := m.tenants[id]
	if t == nil {
		if len(m.tenants) >= maxMetered {
			m.drop()
		}
		t = &tenantMeter{credentials: map[uuid.UUID]*[meterKinds]*tokenBucket{}}
		m.tenants[id] = t
	}
	t.lastUsed = time.Now()
	fresh := time.Since(t.read) < limitsTTL
	m.mu.Unlock()
	if fresh {
		return t, nil
	}
	l, err := m.Limits(ctx, id)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.read = time.Now(); t.limits != l || t.tenant[0] == nil {
		t.limits, t.credentials = l, map[uuid.UUID]*[meterKinds]*tokenBucket{}
		for k := range t.tenant {
			t.tenant[k] = bucket(l.limit(Resource(k)), 1)
		}
	}
	return t, nil
}

// drop forgets tenants that did nothing for a while, or those that are not working.
func (m *Meter) drop() {
	for id, t := range m.tenants {
		if t.running == 0 && time.Since(t.lastUsed) > burst*time.Second {
			delete(m.tenants, id)
		}
	}
}

// ownLimits returns a credential's buckets.
func (t *tenantMeter) ownLimits(credential uuid.UUID) *[meterKinds]*tokenBucket {
	own := t.credentials[credential]
	if own == nil {
		if len(t.credentials) >= maxCredentials {
			clear(t.credentials)
		}
		own = new([meterKinds]*tokenBucket)
		for i := range own {
			own[i] = bucket(t.limits.limit(Resource(i)), fairShare)
		}
		t.credentials[credential] = own
	}
	return own
}

func (t *tenantMeter) take(credential uuid.UUID, k Resource, n int, name string, now time.Time) error {
	own := t.ownLimits(credential)
	for _, b := range []struct {
		*tokenBucket
		whose string
	}{{own[k], "this credential"}, {t.tenant[k], "this tenant"}} {
		wait := b.wait(now, n)
		if wait > 0 && k == Bytes {
			wait = b.reserve(now, n)
		}
		if wait > 0 {
			return &LimitError{fmt.Sprintf("%s may have %g %s a second", b.whose, float64(b.Limit()), name),
				[meterKinds]string{"requests", "events", "searches", "bytes"}[k], wait}
		}
	}
	for _, b := range []*tokenBucket{own[k], t.tenant[k]} {
		b.AllowN(now, min(n, b.Burst()))
	}
	return nil
}

func (t *tenantMeter) state() State {
	b := t.tenant[Requests]
	if t.limits.RequestsPerSecond == 0 {
		return State{}
	}
	left := b.Tokens()
	return State{Limit: float64(b.Limit()), Remaining: max(0, int(left)),
		Reset: time.Duration((float64(b.Burst()) - left) / float64(b.Limit()) * float64(time.Second))}
}
