package server

import (
	"context"
	"errors"
	"iter"

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

// flush logs the pending events in one transaction.
func (c *capture) flush(ctx context.Context) error {
	if len(c.pending) == 0 {
		return nil
	}
	if err := c.s.meter.SetCapacity(ctx, c.who, access.Events, len(c.pending), "events"); err != nil {
		return err
	}
	events := make([]audit.Event, len(c.pending))
	by := otel.Reporter{Tenant: c.who.Tenant, Agent: c.who.Agent}
	for _, i := range otel.RichestFirst(c.pending) {
		m := c.pending[i]
		events[i] = m.Event
		if of := c.s.recent.Reported(by, &m.Call); of != uuid.Nil {
			events[i] = otel.Details(m.Event, of)
			m.Call.Event = of // a span around this one is of the same call
		}
		c.s.recent.Add(by, m.Call)
	}
	err := c.s.tenant(c.who).LogReports(ctx, events, otel.Further)
	if isFieldError(err) { // one event is invalid: the others are logged without it
		err = c.each(ctx, events)
	} else if err == nil {
		c.logged += len(events)
	}
	if err != nil {
		for _, m := range c.pending {
			c.s.recent.Forget(by, m.Call)
		}
		return err
	}
	c.pending, c.bytes = c.pending[:0], 0
	return nil
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
