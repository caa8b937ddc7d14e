package server

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
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
	tenant := c.s.tenant(c.who)
	var now, later []audit.Event
	for i, e := range events {
		if waits[i] {
			later = append(later, e)
		} else {
			now = append(now, e)
		}
	}
	if len(later) > 0 {
		there, err := tenant.KeepWaiting(ctx, later, time.Now().Add(c.s.c.ReportWait))
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
	var joined []audit.WaitingReport
	if c.s.c.ReportWait > 0 && c.signal == "traces" {
		var err error
		var done func()
		if now, joined, done, err = c.join(ctx, tenant, now); err != nil {
			return err
		}
		defer done()
	}
	err := tenant.LogReports(ctx, now, otel.Further)
	if isFieldError(err) { // one event is invalid: the others are logged without it
		err = c.each(ctx, now)
	} else if err == nil {
		c.logged += len(now)
	}
	if err == nil && len(joined) > 0 {
		err = tenant.Reported(ctx, joined)
	}
	return err
}

// join makes one event each of calls' spans and the log records that wait for them. It returns the events to log, the
// records that then no longer wait, and what frees their memory. A record that contradicts its span is logged beside
// it.
func (c *capture) join(ctx context.Context, tenant *konstruct.Tenant, events []audit.Event) (all []audit.Event,
	joined []audit.WaitingReport, done func(), err error) {
	calls := map[uuid.UUID]int{}
	var ids []uuid.UUID
	for i := range events {
		e := &events[i]
		if _, again := calls[e.ID]; e.Action == audit.ActionLLMCall && e.ID != uuid.Nil && !again {
			calls[e.ID] = i
			ids = append(ids, e.ID)
		}
	}
	nothing := func() {}
	if len(ids) == 0 {
		return events, nil, nothing, nil
	}
	size, err := tenant.WaitingSize(ctx, ids)
	if err != nil || size == 0 {
		return events, nil, nothing, err
	}
	if done, err = c.s.memory.reserve(ctx, c.who.Tenant, size*weightJoin); err != nil {
		return nil, nil, nil, err
	}
	if joined, err = tenant.Waiting(ctx, ids); err != nil {
		done()
		return nil, nil, nil, err
	}
	for _, w := range joined {
		i := calls[w.Event.ID]
		if both, is := otel.Join(events[i], w.Event); is {
			events[i] = both
		} else {
			events = append(events, w.Event)
		}
	}
	return events, joined, done, nil
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
