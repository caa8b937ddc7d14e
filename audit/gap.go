package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
)

// ActionGap is the action type of an event that records a gap: by the operator's policy, an agent's calls went on while
// the trail could not be written, and their events are missing.
const ActionGap = "audit_gap"

// Limits of gaps.
const (
	// gapsFile is the file in the spool's folder with gaps that are not recorded yet.
	gapsFile = "gaps.json"
	// gapEvery is how often growing gaps are saved to that file, and how often recording is tried.
	gapEvery = time.Second
	// gapTime is the time limit of one attempt to record gaps.
	gapTime = 10 * time.Second
	// maxGapAgents is how many agents a gap names at most.
	maxGapAgents = 100
)

// gap is a period in which a tenant's events were not logged.
type gap struct {
	ID     uuid.UUID         `json:"id"` // id of the event that will record it
	From   time.Time         `json:"from"`
	To     time.Time         `json:"to"`
	Count  int               `json:"count"`
	Agents map[uuid.UUID]int `json:"agents"`
	Reason string            `json:"reason"` // why the first event was not logged
	// AtLeast is true if the process ended before it closed the gap: events of up to a second more may be missing.
	AtLeast bool `json:"at_least,omitempty"`
	// Growing is true in the file until the process closes the gap.
	Growing bool `json:"growing,omitempty"`
	// Attempted is true if its event may be in the trail already. Then no events are added to the gap.
	Attempted bool `json:"tried,omitempty"`
}

// gaps keeps gaps on this machine's disk until they are recorded in the trail.
type gaps struct {
	path  string
	log   *slog.Logger
	write func(ctx context.Context, tenant uuid.UUID, e Event) error
	keep  func(ctx context.Context, tenant uuid.UUID, e Event, reason error) error // for a gap that write refuses
	stop  chan struct{}
	done  sync.WaitGroup

	mu    sync.Mutex
	open  map[uuid.UUID][]*gap // by tenant: at most one attempted and one growing
	dirty bool
	total uint64 // events not logged since the process started
}

// openGaps reads the gaps that an earlier process left, and starts to record them through write. keep gets those that
// the database refuses.
func openGaps(dir string, log *slog.Logger, write func(context.Context, uuid.UUID, Event) error,
	keep func(context.Context, uuid.UUID, Event, error) error) (*gaps, error) {
	g := &gaps{path: filepath.Join(dir, gapsFile), log: log, write: write, keep: keep, stop: make(chan struct{})}
	var err error
	if g.open, err = readGaps(g.path); err != nil {
		return nil, err
	}
	for _, list := range g.open {
		for _, one := range list {
			one.AtLeast, one.Growing = one.AtLeast || one.Growing, false
		}
	}
	g.done.Go(g.run)
	return g, nil
}

// readGaps reads the file; a missing file has no gaps.
func readGaps(path string) (map[uuid.UUID][]*gap, error) {
	open := map[uuid.UUID][]*gap{}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return open, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &open)
	}
	if err != nil {
		return nil, fmt.Errorf("audit: read the gaps that are not recorded yet: %s: %w", path, err)
	}
	return open, nil
}

// close saves the gaps and tries once more to record them.
func (g *gaps) close() {
	close(g.stop)
	g.done.Wait()
}

// add counts n events of an agent that were not logged because of why.
func (g *gaps) add(tenant, agent uuid.UUID, n int, why error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total += uint64(n)
	g.dirty = true
	list := g.open[tenant]
	if len(list) == 0 || list[len(list)-1].Attempted {
		id, err := uuid.NewV7()
		if err != nil {
			id = uuid.New()
		}
		list = append(list, &gap{ID: id, Growing: true, From: now, Agents: map[uuid.UUID]int{}, Reason: gapReason(why)})
		g.open[tenant] = list
		g.log.Warn("the trail can't be written; calls go on, and the gap will be recorded", "tenant", tenant,
			"error", why)
		defer g.save() // a new gap at once: it must survive a crash
	}
	last := list[len(list)-1]
	last.To = now
	last.Count += n
	if _, named := last.Agents[agent]; named || len(last.Agents) < maxGapAgents {
		last.Agents[agent] += n
	}
}

// gapReason returns why the trail could not be written, in words that the tenant may read. The details are in the
// service's log.
func gapReason(why error) string {
	switch {
	case errors.Is(why, context.DeadlineExceeded):
		return "it took longer than it may"
	case tenantdb.Unreachable(why):
		return "the database can't be reached"
	}
	text, _ := disclosure.Reason(why)
	return pgtext.Cut(text, MaxSummary)
}

// waiting returns how many events are missing in gaps that are not recorded yet, and how many were not logged since the
// process started.
func (g *gaps) waiting() (n int, total uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, list := range g.open {
		for _, one := range list {
			n += one.Count
		}
	}
	return n, g.total
}

// closeAll marks every gap as closed: this process adds no more events. The lock is held.
func (g *gaps) closeAll() {
	for _, list := range g.open {
		for _, one := range list {
			one.Growing = false
		}
	}
	g.dirty = true
}

// save writes the file if something changed. The lock is held.
func (g *gaps) save() {
	if !g.dirty {
		return
	}
	err := func() error {
		if len(g.open) == 0 {
			err := os.Remove(g.path)
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}
		raw, err := json.Marshal(g.open)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(g.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(raw)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := os.Rename(f.Name(), g.path); err != nil {
			return err
		}
		return blob.SyncDir(filepath.Dir(g.path)) // or the new name may not survive a crash
	}()
	if err != nil {
		g.log.Error("can't save the trail's gaps to disk: they are only in memory", "file", g.path, "error", err)
		return
	}
	g.dirty = false
}

// run records gaps as soon as the trail can be written, until close.
func (g *gaps) run() {
	tick := time.NewTicker(gapEvery)
	defer tick.Stop()
	pause, last := gapEvery, time.Time{}
	for closing := false; !closing; {
		select {
		case <-tick.C:
		case <-g.stop:
			closing = true
		}
		g.mu.Lock()
		if closing {
			g.closeAll()
		}
		g.save()
		any := len(g.open) > 0
		g.mu.Unlock()
		if !any || !closing && time.Since(last) < pause {
			continue
		}
		limit := gapTime
		if closing {
			limit = closeTimeout
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		ok := g.record(ctx)
		cancel()
		if pause, last = gapEvery, time.Now(); !ok {
			pause = lastRetry
		}
		g.mu.Lock()
		g.save()
		g.mu.Unlock()
	}
}

// record logs each tenant's oldest gap. It returns false if the trail can't be written yet.
func (g *gaps) record(ctx context.Context) bool {
	g.mu.Lock()
	first := map[uuid.UUID]gap{}
	for tenant, list := range g.open {
		list[0].Attempted, list[0].Growing = true, false
		first[tenant] = *list[0]
	}
	g.dirty = true
	g.save() // the event may be committed even if we see an error: a retry must log the same event
	g.mu.Unlock()
	for tenant, one := range first {
		e, err := one.event()
		if err == nil {
			err = g.write(ctx, tenant, e)
		}
		if err != nil && !eventsFault(err) {
			return false
		}
		if err != nil {
			g.log.Error("the database refuses to record a gap in the trail", "tenant", tenant, "from", one.From, "to",
				one.To, "count", one.Count, "error", err)
			if err := g.keep(ctx, tenant, e, err); err != nil {
				g.log.Error("a refused gap can't be kept; it is tried again", "tenant", tenant, "error", err)
				return false
			}
		}
		g.mu.Lock()
		if g.open[tenant] = g.open[tenant][1:]; len(g.open[tenant]) == 0 {
			delete(g.open, tenant)
		}
		g.dirty = true
		g.mu.Unlock()
	}
	return true
}

// event returns the event that records the gap.
func (one gap) event() (Event, error) {
	agents := Metadata{}
	for _, id := range slices.SortedFunc(maps.Keys(one.Agents), func(a, b uuid.UUID) int {
		return slices.Compare(a[:], b[:])
	}) {
		agents[id.String()] = one.Agents[id]
	}
	m := Metadata{"konstruct.gap.from": one.From, "konstruct.gap.to": one.To, "konstruct.gap.count": one.Count,
		"konstruct.gap.at_least": one.AtLeast, "konstruct.gap.reason": one.Reason, "konstruct.gap.agents": agents}
	raw, err := json.Marshal(m)
	if err != nil {
		return Event{}, err
	}
	return Event{service: true, ID: one.ID, Action: ActionGap, At: one.To, Metadata: raw,
		Input: plural.Of(one.Count, "event was", "events were") + " not logged: the trail could not be written"}.check()
}
