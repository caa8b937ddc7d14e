package konstruct

import (
	"context"
	"iter"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// List returns the events that match the filter, newest first.
func (g Events) List(ctx context.Context, f Filter) ([]StoredEvent, error) {
	return audit.List(ctx, g.t.k.door, g.t.id, f)
}

// Get returns one event.
func (g Events) Get(ctx context.Context, id uuid.UUID) (StoredEvent, error) {
	return audit.Get(ctx, g.t.k.door, g.t.id, id)
}

// CountIDs returns how many of the ids are of events of the tenant.
func (g Events) CountIDs(ctx context.Context, ids []uuid.UUID) (int, error) {
	return audit.CountIDs(ctx, g.t.k.door, g.t.id, ids)
}

// Receipt returns a signed receipt for a recorded event: its leaf hash, when the database recorded it, and by when it
// will be in the tenant's log, IntegrateWithin from now. With it anyone can prove that the event was omitted or
// changed: see [ledger.Receipt].
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

// All yields every event that matches the filter, the oldest first, without a limit. After an error it stops.
func (g Events) All(ctx context.Context, f Filter) iter.Seq2[*StoredEvent, error] {
	return audit.All(ctx, g.t.k.door, g.t.id, f)
}

// Run returns the events of one conversation or trace, as a tree; audit.ErrNotFound when no event names it.
func (g Events) Run(ctx context.Context, id string) (audit.Run, error) {
	return audit.GetRun(ctx, g.t.k.door, g.t.id, id)
}

// Search returns the newest events whose summaries match the query.
func (g Events) Search(ctx context.Context, w audit.TextQuery) ([]StoredEvent, error) {
	return audit.SearchText(ctx, g.t.k.door, g.t.id, w)
}

// Stats returns counts, latencies, tokens and cost of events.
func (g Events) Stats(ctx context.Context, f audit.StatsFilter) ([]audit.Stats, error) {
	return audit.ComputeStats(ctx, g.t.k.door, g.t.id, f)
}
