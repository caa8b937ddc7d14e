package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
)

type escalationsCmd struct {
	List    escalationsListCmd `cmd:"" default:"withargs" help:"List escalations, the newest first (the default)."`
	Ack     escalationAckCmd   `cmd:"" help:"Say that you look after one."`
	Resolve escalationDoneCmd  `cmd:"" help:"Say what was decided."`
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
	return "Examples:\n\n  konstruct audit escalations --tenant $T --state open\n  konstruct audit escalations ack --tenant $T $E\n  konstruct audit escalations resolve --tenant $T $E --decision \"refund it\""
}

// Run prints the escalations.
func (r escalationsListCmd) Run(ctx context.Context, a *app) error {
	f := konstruct.CaseFilter{State: r.State, Limit: r.Limit, After: r.After}
	var err error
	if f.Since, f.Until, err = between(r.Since, r.Until); err != nil {
		return err
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	cases, err := k.Tenant(r.Tenant).Escalations(ctx, f)
	if err != nil {
		return err
	}
	if cases == nil {
		cases = []konstruct.Case{}
	}
	err = printTable(a, cases, []string{"OPENED", "STATE", "ESCALATION", "REASON", "TO", "WAITED", "BY", "DECISION"}, func(c konstruct.Case) []string {
		by, waited := text(c.ResolvedBy), ""
		if by == "" {
			by = text(c.AcknowledgedBy)
		}
		if c.State != "open" {
			waited = c.Waited.Round(time.Second).String()
		}
		return []string{c.OpenedAt.Format("2006-01-02 15:04:05"), c.State, c.ID.String(), oneLine(text(c.Reason), 36), oneLine(text(c.To), 16), waited, oneLine(by, 16), oneLine(text(c.Decision), 32)}
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

func (b byFlag) who() string {
	if b.By == "" {
		return operator()
	}
	return b.By
}

type escalationAckCmd struct {
	tenantFlag
	byFlag
	ID uuid.UUID `arg:"" help:"The escalation: the id of the event that opened it."`
}

// Run acknowledges.
func (r escalationAckCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	id, err := k.Tenant(r.Tenant).Acknowledge(ctx, r.ID, r.who())
	if err != nil {
		return err
	}
	return a.logged(id)
}

type escalationDoneCmd struct {
	tenantFlag
	byFlag
	ID       uuid.UUID `arg:"" help:"The escalation."`
	Decision string    `required:"" help:"What was decided." placeholder:"TEXT"`
}

// Run resolves.
func (r escalationDoneCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	id, err := k.Tenant(r.Tenant).Resolve(ctx, r.ID, r.who(), r.Decision)
	if err != nil {
		return err
	}
	return a.logged(id)
}

// logged prints the id of an event that was written.
func (a *app) logged(id uuid.UUID) error {
	if a.JSON {
		return a.json(map[string]uuid.UUID{"event_id": id})
	}
	_, err := fmt.Fprintln(a.out, id)
	return err
}
