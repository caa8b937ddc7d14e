package server

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/otel"
)

// How many events of an export, and how many bytes of them, one transaction has at most.
const (
	captureEvents = 2000
	captureBytes  = 8 << 20
)

// weightJoin is the memory that a byte of a waiting log record needs while it is joined with its span.
const weightJoin = 8

// capture logs the events of one export.
type capture struct {
	s        *Server
	who      access.Principal
	signal   string // for metrics: traces or logs
	pending  []otel.Mapped
	bytes    int
	rejected int64  // records whose event the trail does not take
	reason   string // of the first of them
	dropped  int
	logged   int
}

// captured logs what records map to. Records before an error may be logged: their ids follow from them, so that the
// client sends all again.
func (s *Server) captured(ctx context.Context, who access.Principal, signal string,
	records iter.Seq[otel.Mapped]) (*capture, error) {
	c := &capture{s: s, who: who, signal: signal}
	for m := range records {
		if m.Dropped {
			c.dropped++
			continue
		}
		c.pending = append(c.pending, m)
		c.bytes += len(m.Event.Input) + len(m.Event.Output) + len(m.Event.Metadata)
		if len(c.pending) == captureEvents || c.bytes >= captureBytes {
			if err := c.flush(ctx); err != nil {
				return c, err
			}
		}
	}
	err := c.flush(ctx)
	s.metrics.captured(signal, c.logged, c.dropped, int(c.rejected))
	return c, err
}

// flush logs the pending events in one transaction. Log records whose span is still to come wait for it.
func (c *capture) flush(ctx context.Context) error {
	if len(c.pending) == 0 {
		return nil
	}
	if err := c.s.meter.SetCapacity(ctx, c.who, access.Events, len(c.pending), "events"); err != nil {
		return err
	}
	events := make([]audit.Event, len(c.pending))
	waits := make([]bool, len(c.pending))
	by := otel.Reporter{Tenant: c.who.Tenant, Agent: c.who.Agent}
	for _, i := range otel.RichestFirst(c.pending) {
		m := c.pending[i]
		events[i], waits[i] = m.Event, m.Waits && c.s.c.ReportWait > 0
		if of := c.s.recent.Reported(by, &m.Call); of != uuid.Nil {
			events[i], waits[i] = otel.Details(m.Event, of), false
			m.Call.Event = of // a span around this one is of the same call
		}
		c.s.recent.Add(by, m.Call)
	}
	if err := c.log(ctx, events, waits); err != nil {
		for _, m := range c.pending {
			c.s.recent.Forget(by, m.Call)
		}
		return err
	}
	c.pending, c.bytes = c.pending[:0], 0
	return nil
}

// log logs events, but those that wait.
func (c *capture) log(ctx context.Context, events []audit.Event, waits []bool) error {
	trail, tenant := c.s.c.Konstruct.Trail(), c.who.Tenant
	var now, later []audit.Event
	for i, e := range events {
		if waits[i] {
			later = append(later, e)
		} else {
			now = append(now, e)
		}
	}
	if len(later) > 0 {
		there, err := trail.KeepWaiting(ctx, tenant, later, c.s.c.ReportWait)
		switch {
		case isFieldError(err):
			there = later // each is refused below, or logged
		case err != nil:
			return err
		default:
			c.logged += len(later) - len(there)
		}
		now = append(now, there...)
	}
	if c.signal == "traces" {
		done, err := c.join(ctx, trail, now)
		if done || err != nil {
			return err
		}
	}
	err := trail.LogReports(ctx, tenant, now, otel.Further)
	if isFieldError(err) { // one event is invalid: the others are logged without it
		return c.each(ctx, now)
	}
	if err == nil {
		c.logged += len(now)
	}
	return err
}

// join logs calls' spans and the log records that wait for them as one event each. It reports false if nothing waits,
// or one of the events is invalid: then nothing was logged, and the records wait on.
func (c *capture) join(ctx context.Context, trail *audit.Trail, events []audit.Event) (done bool, err error) {
	tenant := c.who.Tenant
	calls := map[uuid.UUID]int{}
	var ids []uuid.UUID
	for i := range events {
		e := &events[i]
		if _, again := calls[e.ID]; e.Action == audit.ActionLLMCall && e.ID != uuid.Nil && !again {
			calls[e.ID] = i
			ids = append(ids, e.ID)
		}
	}
	if len(ids) == 0 {
		return false, nil
	}
	size, err := trail.WaitingSize(ctx, tenant, ids)
	if err != nil || size == 0 {
		return false, err
	}
	free, err := c.s.memory.reserve(ctx, tenant, size*weightJoin)
	if err != nil {
		return false, err
	}
	defer free()
	waiting, err := trail.Waiting(ctx, tenant, ids)
	if err != nil {
		return false, err
	}
	all := slices.Clone(events)
	for _, w := range waiting {
		i := calls[w.Event.ID]
		span, err := trail.Redacted(tenant, all[i])
		if isFieldError(err) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		both, is := otel.Join(span, w.Event)
		if is && !w.Logged {
			all[i] = both
		} else { // it contradicts its span, or the span was there before
			all = append(all, w.Event)
		}
	}
	err = trail.LogWaiting(ctx, tenant, all, otel.Further, waiting)
	if isFieldError(err) {
		return false, nil
	}
	if err == nil {
		c.logged += len(events)
	}
	return true, err
}

// each logs events one by one, and counts those that the trail does not take.
func (c *capture) each(ctx context.Context, events []audit.Event) error {
	for i := range events {
		err := c.s.tenant(c.who).LogReports(ctx, events[i:i+1], otel.Further)
		switch {
		case isFieldError(err):
			if c.rejected++; c.reason == "" {
				c.reason = err.Error()
			}
		case err != nil:
			return err
		default:
			c.logged++
		}
	}
	return nil
}

func isFieldError(err error) bool {
	var field *audit.FieldError
	return errors.As(err, &field)
}

// captureOptions are a principal's.
func (s *Server) captureOptions(who access.Principal) otel.Options {
	return otel.Options{KeepOther: s.c.Konstruct.Trail().Policy().KeepsOther(who.Tenant), Agent: who.Agent}
}

// remember notes calls of tools that an MCP proxy recorded: a client that is instrumented too reports them again.
func (s *Server) remember(who access.Principal, events ...audit.Event) {
	for _, e := range events {
		if c, is := otel.MCPCall(e); is {
			s.recent.Add(otel.Reporter{Tenant: who.Tenant, Agent: who.Agent}, c)
		}
	}
}
