package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// TrailConfig says how a trail is written.
type TrailConfig struct {
	// Policy is what the operator decided for each tenant; nil decides nothing.
	Policy *Policy
	// SpoolDir is this process's own folder for events that wait, and for gaps; empty: there is none.
	SpoolDir string
	// SpoolLimit bounds the spool's bytes on disk; 0 is spool.DefaultLimit.
	SpoolLimit int64
	// Logger hears when the trail can't be written and when it can again; nil is slog.Default().
	Logger *slog.Logger
}

// Trail writes events as the operator's policy says: redacted, in shared commits or through the spool, and
// failing or going on when the trail can't be written. It is safe for concurrent use.
type Trail struct {
	door   *tenantdb.Door
	policy *Policy
	group  *Group
	spool  *Spool
	gaps   *gaps
	counts counts
}

// ErrNoSpool says that events can't wait on this machine, because no folder was given for them.
var ErrNoSpool = errors.New("audit: there is no spool: set a folder for it (KONSTRUCT_SPOOL_DIR, Config.SpoolDir)")

// OpenTrail opens a trail that writes through door. Close it before the door.
func OpenTrail(door *tenantdb.Door, c TrailConfig) (*Trail, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.SpoolDir == "" && c.Policy.Continues() {
		return nil, fmt.Errorf("audit: the policy lets calls go on when the trail can't be written, and the gap must "+
			"be kept somewhere until then: %w", ErrNoSpool)
	}
	t := &Trail{door: door, policy: c.Policy, group: NewGroup(door)}
	if c.SpoolDir == "" {
		return t, nil
	}
	var err error
	if t.spool, err = OpenSpool(door, c.SpoolDir, c.SpoolLimit, c.Logger); err != nil {
		t.group.Close()
		return nil, err
	}
	record := func(ctx context.Context, tenant uuid.UUID, e Event) error { return log(ctx, door, tenant, e) }
	if t.gaps, err = openGaps(c.SpoolDir, c.Logger, record); err != nil {
		t.group.Close()
		return nil, errors.Join(err, t.spool.Close())
	}
	return t, nil
}

// Close writes what was taken, delivers for two seconds what waits in the spool, and stops.
func (t *Trail) Close() error {
	t.group.Close()
	if t.spool == nil {
		return nil
	}
	t.gaps.close() // whoever waited has been answered
	return t.spool.Close()
}

// Spool returns the trail's spool, or ErrNoSpool.
func (t *Trail) Spool() (*Spool, error) {
	if t.spool == nil {
		return nil, ErrNoSpool
	}
	return t.spool, nil
}

// Log writes one event and returns its id: when it returns nil the event is committed and sealed. Where
// the tenant's policy lets calls go on and the trail can't be written, it returns the zero id and nil, and the gap is
// recorded later.
func (t *Trail) Log(ctx context.Context, tenant uuid.UUID, e Event) (uuid.UUID, error) {
	ids, err := t.each(ctx, tenant, []Event{e}, func(ctx context.Context, events []Event) error {
		return t.group.log(ctx, tenant, events[0])
	})
	if len(ids) == 0 {
		return uuid.Nil, err
	}
	return ids[0], err
}

// LogAsync takes events into the spool and returns their ids: when it returns nil they are on this machine's
// disk, and will be in the trail.
func (t *Trail) LogAsync(ctx context.Context, tenant uuid.UUID, events []Event) ([]uuid.UUID, error) {
	if t.spool == nil {
		return nil, ErrNoSpool
	}
	return t.each(ctx, tenant, events, func(ctx context.Context, events []Event) error {
		return t.spool.put(ctx, tenant, events...)
	})
}

// LogBatch writes all events in one transaction, or none, and returns their ids in order; none where the
// tenant's calls go on without the trail.
func (t *Trail) LogBatch(ctx context.Context, tenant uuid.UUID, events []Event) ([]uuid.UUID, error) {
	return t.each(ctx, tenant, events, func(ctx context.Context, events []Event) error {
		return logBatch(ctx, t.door, tenant, events)
	})
}

// InTx writes events in the caller's own transaction, whose tenant must be set to tenant already. It never
// goes on without the trail: the transaction could not be committed either.
func (t *Trail) InTx(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, events ...Event) ([]uuid.UUID, error) {
	checked, ids, err := t.prepare(tenant, events)
	if err == nil {
		err = insertAll(ctx, tx, tenant, checked)
	}
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// prepare redacts and checks events.
func (t *Trail) prepare(tenant uuid.UUID, events []Event) ([]Event, []uuid.UUID, error) {
	r := t.policy.tenantRules(tenant).redact
	if r == nil {
		return checkAll(events)
	}
	redacted := make([]Event, len(events))
	if err := eachEvent(events, func(i int, e Event) (err error) {
		if err := e.checkReserved(); err != nil {
			return err
		}
		redacted[i], err = redactEvent(r, tenant, e)
		redacted[i].service = true // what the policy says of it is the service's
		return err
	}); err != nil {
		return nil, nil, err
	}
	return checkAll(redacted)
}

// each prepares events, writes them within the tenant's limit, and decides what a failure means.
func (t *Trail) each(ctx context.Context, tenant uuid.UUID, events []Event,
	write func(context.Context, []Event) error) ([]uuid.UUID, error) {
	if err := tenantdb.CanOpen(ctx, tenant); err != nil {
		return nil, err
	}
	checked, ids, err := t.prepare(tenant, events)
	if err != nil || len(events) == 0 {
		t.counts.refused.Add(uint64(len(events)))
		return nil, err
	}
	r := t.policy.tenantRules(tenant)
	within := ctx
	if r.wait > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, r.wait)
		defer cancel()
	}
	err = write(within, checked)
	switch {
	case err == nil:
		t.counts.logged.Add(uint64(len(events)))
		return ids, nil
	case eventsFault(err):
		t.counts.refused.Add(uint64(len(events)))
		return nil, err
	}
	t.counts.unwritable.Add(uint64(len(events)))
	if !r.continues || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return nil, err
	}
	for agent, n := range byAgent(checked) {
		t.gaps.add(tenant, agent, n, err)
	}
	return nil, nil
}

func byAgent(events []Event) map[uuid.UUID]int {
	n := map[uuid.UUID]int{}
	for _, e := range events {
		n[e.AgentID]++
	}
	return n
}
