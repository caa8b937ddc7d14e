package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// maxReportRounds is how often LogReports resolves ids that others took meanwhile.
const maxReportRounds = 4

// LogReports writes events in one transaction, or none. Their ids follow from what they report, so that several may
// report one thing: a retry, a span and a log record of one call. Where an id is taken by another event, further
// decides what is logged instead: it gets the stored event and the new one, as redacted, and returns false if the new
// one says nothing that is not there. Of an event whose content was erased, no report brings it back.
func (t *Trail) LogReports(ctx context.Context, tenant uuid.UUID, events []Event,
	further func(stored StoredEvent, e Event) (Event, bool)) error {
	return t.logReports(ctx, tenant, events, further, func(ctx context.Context, events []Event) error {
		_, err := t.LogBatch(ctx, tenant, events)
		return err
	})
}

// logReports is LogReports with what writes a batch.
func (t *Trail) logReports(ctx context.Context, tenant uuid.UUID, events []Event,
	further func(StoredEvent, Event) (Event, bool), write func(context.Context, []Event) error) error {
	first, later := firstOfEachID(events)
	if err := write(ctx, first); err == nil && len(later) == 0 {
		return nil
	} else if err != nil && !errors.Is(err, ErrIDTaken) {
		return err
	} else if err == nil {
		first = nil
	}
	rest := append(first, later...)
	for range maxReportRounds {
		open, err := t.unreported(ctx, tenant, rest, further)
		if err != nil {
			return err
		}
		now, later := firstOfEachID(open)
		if len(now) > 0 {
			err = write(ctx, now)
		}
		switch {
		case errors.Is(err, ErrIDTaken):
			rest = append(now, later...)
		case err != nil:
			return err
		case len(later) == 0:
			return nil
		default:
			rest = later
		}
	}
	return fmt.Errorf("audit: reports: other writers took ids %d times: %w", maxReportRounds, ErrIDTaken)
}

// firstOfEachID returns the first event of each id, and those after them.
func firstOfEachID(events []Event) (first, later []Event) {
	seen := make(map[uuid.UUID]struct{}, len(events))
	for i, e := range events {
		if _, there := seen[e.ID]; !there {
			seen[e.ID] = struct{}{}
			if later != nil {
				first = append(first, e)
			}
			continue
		}
		if later == nil {
			first = append(make([]Event, 0, len(events)), events[:i]...)
		}
		later = append(later, e)
	}
	if later == nil {
		return events, nil
	}
	return first, later
}

// unreported returns what is still to be logged of events, after a look at the stored ones of the same ids.
func (t *Trail) unreported(ctx context.Context, tenant uuid.UUID, events []Event,
	further func(StoredEvent, Event) (Event, bool)) (open []Event, err error) {
	ids := make([]uuid.UUID, len(events))
	for i := range events {
		ids[i] = events[i].ID
	}
	stored, err := getAll(ctx, t.door, tenant, ids)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		before, taken := stored[e.ID]
		if !taken {
			open = append(open, e)
			continue
		}
		if len(before.Erased) > 0 {
			continue
		}
		redacted, err := t.Redacted(tenant, e)
		if err != nil {
			return nil, err
		}
		if redacted, err = redacted.check(); err != nil {
			return nil, err
		}
		if redacted.equals(before) {
			continue
		}
		if more, is := further(before, redacted); is {
			open = append(open, more)
		}
	}
	return open, nil
}

// equals reports whether a checked event has the content of a stored one.
func (e *Event) equals(s StoredEvent) bool {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	latency := int32(0)
	if s.LatencyMS != nil {
		latency = *s.LatencyMS
	}
	agent := uuid.Nil
	if s.AgentID != nil {
		agent = *s.AgentID
	}
	return e.Action == s.Action && e.AgentID == agent && e.UserID == text(s.UserID) && e.Input == text(s.Input) &&
		e.Output == text(s.Output) && int32(e.Latency.Milliseconds()) == latency &&
		(e.At.IsZero() || e.At.Equal(s.CreatedAt)) && sameJSON(e.Metadata, string(s.Metadata))
}

// getAll returns the tenant's events of these ids.
func getAll(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	ids []uuid.UUID) (map[uuid.UUID]StoredEvent, error) {
	var events []StoredEvent
	err := door.Query(ctx, tenant, storedSQL+` AND e.id = ANY($2)`+sealsSQL, []any{tenant, ids},
		func(rows pgx.Rows) (err error) {
			events, err = pgx.CollectRows(rows, scanStored)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("audit: look for events that are reported again: %w", err)
	}
	all := make(map[uuid.UUID]StoredEvent, len(events))
	for _, e := range events {
		all[e.ID] = e
	}
	return all, nil
}
