package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
)

type escalationsCmd struct {
	List escalationsListCmd `cmd:"" default:"withargs" help:"List escalations, the newest first (the default)."`

	Ack     escalationsAcknowledgeCmd `cmd:"" help:"Say that you look after one."`
	Resolve escalationsResolveCmd     `cmd:"" help:"Say what was decided."`
}

type escalationsListCmd struct {
	tenantFlag
	State string `help:"Only those that are open, acknowledged or resolved." placeholder:"STATE"`
	Since string `help:"Opened from this time on (RFC 3339), or this long ago (24h)." placeholder:"TIME"`
	Until string `help:"Opened before this time." placeholder:"TIME"`
	Limit int    `help:"How many at most, up to 1000." default:"50"`
	After string `help:"Continue after this cursor, which the last page printed." placeholder:"CURSOR"`
}

// Help is shown by --help.
func (escalationsListCmd) Help() string {
	return "Examples:\n\n  konstruct audit escalations --tenant $T --state open\n  konstruct audit escalations ack " +
		"--tenant $T $E\n  konstruct audit escalations resolve --tenant $T $E --decision \"refund it\""
}

// Run prints the escalations.
func (r escalationsListCmd) Run(ctx context.Context, a *app) error {
	f := konstruct.EscalationFilter{State: r.State, Limit: r.Limit, After: r.After}
	var err error
	if f.Since, f.Until, err = timeRange(r.Since, r.Until); err != nil {
		return err
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	cases, err := k.Tenant(r.Tenant).Escalations().List(ctx, f)
	if err != nil {
		return err
	}
	if cases == nil {
		cases = []konstruct.EscalationRecord{}
	}
	err = printTable(a, cases, []string{"OPENED", "STATE", "ESCALATION", "REASON", "TO", "WAITED", "BY", "DECISION"},
		func(c konstruct.EscalationRecord) []string {
			by, waited := textOrEmpty(c.ResolvedBy), ""
			if by == "" {
				by = textOrEmpty(c.AcknowledgedBy)
			}
			if c.State != "open" {
				waited = c.WaitTime.Round(time.Second).String()
			}
			return []string{c.OpenedAt.UTC().Format(tableTime), c.State, c.ID.String(),
				oneLine(textOrEmpty(c.Reason), 36),
				oneLine(textOrEmpty(c.Recipient), 16), waited, oneLine(by, 16), oneLine(textOrEmpty(c.Decision), 32)}
		})
	if err == nil && !a.JSON && len(cases) == r.Limit {
		fmt.Fprintf(a.err, "more: --after %s\n", cases[len(cases)-1].Cursor)
	}
	return err
}

// byFlag says who acts.
type byFlag struct {
	By string `help:"Who; the user of this machine when not said." placeholder:"NAME"`
}

func (b byFlag) person() string {
	if b.By == "" {
		return operatorName()
	}
	return b.By
}

type escalationsAcknowledgeCmd struct {
	tenantFlag
	byFlag
	ID uuid.UUID `arg:"" help:"The escalation: the id of the event that opened it."`
}

// Run acknowledges.
func (r escalationsAcknowledgeCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	id, err := k.Tenant(r.Tenant).Escalations().Acknowledge(ctx, r.ID, r.person())
	if err != nil {
		return err
	}
	return a.printEventID(id)
}

type escalationsResolveCmd struct {
	tenantFlag
	byFlag
	ID       uuid.UUID `arg:"" help:"The escalation."`
	Decision string    `required:"" help:"What was decided." placeholder:"TEXT"`
}

// Run resolves.
func (r escalationsResolveCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	id, err := k.Tenant(r.Tenant).Escalations().Resolve(ctx, r.ID, r.person(), r.Decision)
	if err != nil {
		return err
	}
	return a.printEventID(id)
}

// printEventID prints the id of an event that was written.
func (a *app) printEventID(id uuid.UUID) error {
	if a.JSON {
		return a.json(map[string]uuid.UUID{"event_id": id})
	}
	_, err := fmt.Fprintln(a.out, id)
	return err
}
