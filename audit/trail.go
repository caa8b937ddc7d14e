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

// TrailConfig configures a Trail.
type TrailConfig struct {
	// Policy is the operator's policy for each tenant; nil means the zero Policy.
	Policy *Policy
	// SpoolDir is this process's own folder for the spool and for gaps; empty: no spool.
	SpoolDir string
	// SpoolLimit bounds the spool's size on disk in bytes; 0 means spool.DefaultLimit.
	SpoolLimit int64
	// Logger gets a message when the trail can't be written and when it can again; nil means slog.Default().
	Logger *slog.Logger
}

// Trail writes events by the operator's policy: redacted, in shared commits or through the spool; when the trail can't
// be written, calls fail or go on. It is safe for concurrent use.
type Trail struct {
	door   *tenantdb.Door
	policy *Policy
	group  *Group
	spool  *Spool
	gaps   *gaps
	counts counts
}

// ErrNoSpool is returned if a spool is needed and no folder is configured for it.
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
	if t.gaps, err = openGaps(c.SpoolDir, c.Logger, record, t.spool.setAside); err != nil {
		t.group.Close()
		return nil, errors.Join(err, t.spool.Close())
	}
	return t, nil
}

// Close logs the events already taken, delivers the spool's events for up to two seconds, and stops.
func (t *Trail) Close() error {
	t.group.Close()
	if t.spool == nil {
		return nil
	}
	t.gaps.close() // after the group: no more gaps can be added
	return t.spool.Close()
}

// Policy returns the policy that the trail is written by; nil is the zero Policy.
func (t *Trail) Policy() *Policy { return t.policy }

// Spool returns the trail's spool, or ErrNoSpool.
func (t *Trail) Spool() (*Spool, error) {
	if t.spool == nil {
		return nil, ErrNoSpool
	}
	return t.spool, nil
}

// Log writes one event and returns its id. If it returns nil, the event is committed and sealed. If the trail can't be
// written and the tenant's policy is Continue, it returns the zero id and nil, and the gap is recorded later.
func (t *Trail) Log(ctx context.Context, tenant uuid.UUID, e Event) (uuid.UUID, error) {
	ids, err := t.each(ctx, tenant, []Event{e}, func(ctx context.Context, events []Event) error {
		return t.group.log(ctx, tenant, events[0])
	})
	if len(ids) == 0 {
		return uuid.Nil, err
	}
	return ids[0], err
}

// LogAsync appends events to the spool and returns their ids. If it returns nil, they are on this machine's disk and
// will be delivered to the trail.
func (t *Trail) LogAsync(ctx context.Context, tenant uuid.UUID, events []Event) ([]uuid.UUID, error) {
	if t.spool == nil {
		return nil, ErrNoSpool
	}
	return t.each(ctx, tenant, events, func(ctx context.Context, events []Event) error {
		return t.spool.put(ctx, tenant, events...)
	})
}

// LogBatch writes all events in one transaction, or none, and returns their ids in order. If the trail can't be written
// and the tenant's policy is Continue, it returns no ids and nil.
func (t *Trail) LogBatch(ctx context.Context, tenant uuid.UUID, events []Event) ([]uuid.UUID, error) {
	return t.each(ctx, tenant, events, func(ctx context.Context, events []Event) error {
		return logBatch(ctx, t.door, tenant, events)
	})
}

// InTx writes events in the caller's own transaction, in which the tenant must already be set. It always fails if the
// trail can't be written: the transaction could not commit either.
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
	r := t.policy.tenantRules(tenant)
	if r.redact == nil && !r.tools.Redacts() {
		return checkAll(events)
	}
	redacted := make([]Event, len(events))
	if err := eachEvent(events, func(i int, e Event) (err error) {
		redacted[i], err = r.redactOnce(tenant, e)
		return err
	}); err != nil {
		return nil, nil, err
	}
	return checkAll(redacted)
}

// each prepares events, writes them within the policy's wait, and on failure fails or goes on by the policy.
func (t *Trail) each(ctx context.Context, tenant uuid.UUID, events []Event,
	write func(context.Context, []Event) error) ([]uuid.UUID, error) {
	checked, ids, err := t.surely(ctx, tenant, events, write)
	if err == nil || len(checked) == 0 || eventsFault(err) || !t.policy.tenantRules(tenant).continues ||
		errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return ids, err
	}
	for agent, n := range byAgent(checked) {
		t.gaps.add(tenant, agent, n, err)
	}
	return nil, nil
}

// surely prepares events, and writes them within the policy's wait or fails. It returns the prepared events too.
func (t *Trail) surely(ctx context.Context, tenant uuid.UUID, events []Event,
	write func(context.Context, []Event) error) (checked []Event, ids []uuid.UUID, err error) {
	if err := tenantdb.CanOpen(ctx, tenant); err != nil {
		return nil, nil, err
	}
	checked, ids, err = t.prepare(tenant, events)
	if err != nil || len(events) == 0 {
		t.counts.refused.Add(uint64(len(events)))
		return nil, nil, err
	}
	if r := t.policy.tenantRules(tenant); r.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.wait)
		defer cancel()
	}
	err = write(ctx, checked)
	switch {
	case err == nil:
		t.counts.logged.Add(uint64(len(events)))
		return checked, ids, nil
	case eventsFault(err):
		t.counts.refused.Add(uint64(len(events)))
	default:
		t.counts.unwritable.Add(uint64(len(events)))
	}
	return checked, nil, err
}

func byAgent(events []Event) map[uuid.UUID]int {
	n := map[uuid.UUID]int{}
	for _, e := range events {
		n[e.AgentID]++
	}
	return n
}
