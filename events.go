package konstruct

import (
	"context"
	"iter"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// List returns the events that the filter names, newest first.
func (g Events) List(ctx context.Context, f Filter) ([]StoredEvent, error) {
	return audit.List(ctx, g.t.k.door, g.t.id, f)
}

// Get returns one event.
func (g Events) Get(ctx context.Context, id uuid.UUID) (StoredEvent, error) {
	return audit.Get(ctx, g.t.k.door, g.t.id, id)
}

// Receipt returns a signed receipt for an event that was written: its leaf hash, when the database recorded it, and by
// when it will stand in the tenant's log, IntegrateWithin from now. Whoever holds it can prove that the event was left
// out or changed: see [ledger.Receipt].
func (g Events) Receipt(ctx context.Context, event uuid.UUID) (string, error) {
	if g.t.k.receipts == nil {
		return "", ErrNoReceipts
	}
	r, err := audit.Receipt(ctx, g.t.k.door, g.t.id, event, IntegrateWithin)
	if err != nil {
		return "", err
	}
	return g.t.k.receipts.Sign(g.t.k.receipts.Name, r.Text())
}

// All yields every event that a filter names, the oldest first, however many there are. An error is the last that is
// yielded.
func (g Events) All(ctx context.Context, f Filter) iter.Seq2[*StoredEvent, error] {
	return audit.All(ctx, g.t.k.door, g.t.id, f)
}

// Run returns what happened in one conversation or trace, as a tree; audit.ErrNotFound when no event names it.
func (g Events) Run(ctx context.Context, id string) (audit.Run, error) {
	return audit.GetRun(ctx, g.t.k.door, g.t.id, id)
}

// Search returns the newest events in whose summaries words stand.
func (g Events) Search(ctx context.Context, w audit.TextQuery) ([]StoredEvent, error) {
	return audit.SearchText(ctx, g.t.k.door, g.t.id, w)
}

// Stats counts events, and says their latencies, tokens and cost.
func (g Events) Stats(ctx context.Context, f audit.StatsFilter) ([]audit.Stats, error) {
	return audit.ComputeStats(ctx, g.t.k.door, g.t.id, f)
}
