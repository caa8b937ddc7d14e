package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/otel"
)

type auditRunCmd struct {
	tenantFlag
	ID string `arg:"" help:"The run: a gen_ai.conversation.id or a trace_id."`
}

// Help is shown by --help.
func (auditRunCmd) Help() string {
	return "Shows what happened in one conversation or trace, in its order: each tool call and retrieval below the " +
		"model's call that led to it, or below its parent span.\n\nExample:\n\n  konstruct audit run --tenant $T " +
		"conversation-17"
}

// Run prints the tree.
func (r auditRunCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	run, err := k.Tenant(r.Tenant).Events().Run(ctx, r.ID)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(run)
	}
	a.printTree(run.Steps, "")
	if run.Truncated {
		fmt.Fprintf(a.err, "only the first %d events are shown\n", run.Events)
	}
	return nil
}

// printTree prints steps, a line an event.
func (a *app) printTree(steps []*audit.Step, indent string) {
	for i, s := range steps {
		branch, below := "├─ ", "│  "
		if i == len(steps)-1 {
			branch, below = "└─ ", "   "
		}
		took := ""
		if s.LatencyMS != nil {
			took = fmt.Sprintf("  %d ms", *s.LatencyMS)
		}
		said := oneLine(textOrEmpty(s.Input), 60)
		if out := oneLine(textOrEmpty(s.Output), 40); out != "" {
			said += a.dim(" → ") + out
		}
		fmt.Fprintf(a.out, "%s%s%s  %s%s  %s\n", a.dim(indent+branch), s.CreatedAt.UTC().Format("15:04:05.000Z"),
			a.dim(took), a.bold(s.Action), a.subject(s), said)
		a.printTree(s.Steps, indent+below)
	}
}

// subject is the agent, the tool, the model or the person of an event.
func (a *app) subject(s *audit.Step) string {
	var m struct {
		Model string `json:"gen_ai.request.model"`
		Tool  string `json:"gen_ai.tool.name"`
		Agent string `json:"gen_ai.agent.name"`
		Error string `json:"error.type"`
	}
	_ = json.Unmarshal(s.Metadata, &m) // what is of another type is not shown
	out := ""
	if s.Action != otel.ActionAgentRun {
		m.Agent = "" // which is that of the events above
	}
	for _, v := range []string{m.Agent, m.Tool, m.Model} {
		if v != "" {
			out += " " + oneLine(v, 32)
		}
	}
	if s.Action == audit.ActionAcknowledged || s.Action == audit.ActionResolved {
		out += " by " + oneLine(textOrEmpty(s.UserID), 32)
	}
	if m.Error != "" {
		out += " " + a.red(oneLine(m.Error, 32))
	}
	return out
}

type auditSearchCmd struct {
	tenantFlag
	Text  []string `arg:"" help:"Words that must all be there; \"a phrase\", or, -not."`
	Since string   `help:"From this time on (RFC 3339), or this long ago (24h)." placeholder:"TIME"`
	Until string   `help:"Before this time." placeholder:"TIME"`
	Limit int      `help:"How many at most, up to 1000." default:"50"`
	After string   `help:"Continue after this cursor, which the last page printed." placeholder:"CURSOR"`
}

// Help is shown by --help.
func (auditSearchCmd) Help() string {
	return "Looks through the summaries, newest first.\n\nExample:\n\n" +
		"  konstruct audit search --tenant $T -- damaged pump -refund"
}

// Run prints the events.
func (r auditSearchCmd) Run(ctx context.Context, a *app) error {
	w := audit.TextQuery{Text: strings.Join(r.Text, " "), After: r.After, Limit: r.Limit}
	var err error
	if w.Since, w.Until, err = timeRange(r.Since, r.Until); err != nil {
		return err
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	events, err := k.Tenant(r.Tenant).Events().Search(ctx, w)
	if err != nil {
		return err
	}
	if err := a.printEvents(events); err != nil {
		return err
	}
	if !a.JSON && len(events) == r.Limit {
		fmt.Fprintf(a.err, "more: --after %s\n", events[len(events)-1].Cursor)
	}
	return nil
}

type auditStatsCmd struct {
	tenantFlag
	By     []string  `help:"Group by day, agent, model, action; several with commas." default:"day,model"`
	Since  string    `help:"From this time on (RFC 3339), or this long ago; else 168h." placeholder:"TIME"`
	Until  string    `help:"Before this time." placeholder:"TIME"`
	Agent  uuid.UUID `help:"Only this agent's." placeholder:"UUID"`
	Action string    `help:"Only of this type."`
	OfRun  string    `name:"run" help:"Only of this conversation or trace, of whatever time." placeholder:"ID"`

	Prices string `help:"JSON file of what a million tokens of a model cost." placeholder:"FILE"`
}

// Help is shown by --help.
func (auditStatsCmd) Help() string {
	return "Counts events, latencies (p50, p95, p99), tokens and, with a price list, cost. The list is {\"MODEL\": " +
		"{\"input\": 3, \"output\": 15}}.\n\nExamples:\n\n  " +
		"konstruct audit stats --tenant $T\n  konstruct audit stats --tenant $T --by agent,model --since 720h " +
		"--prices prices.json"
}

// Run prints the statistics.
func (r auditStatsCmd) Run(ctx context.Context, a *app) error {
	f := audit.StatsFilter{By: r.By, AgentID: r.Agent, Action: r.Action, Run: r.OfRun}
	var err error
	if r.Since == "" && r.OfRun == "" {
		r.Since = "168h"
	}
	if f.Since, f.Until, err = timeRange(r.Since, r.Until); err != nil {
		return err
	}
	if r.Prices != "" {
		raw, err := readSmallFile(r.Prices, maxConfig)
		if err == nil {
			err = json.Unmarshal(raw, &f.Prices)
		}
		if err != nil {
			return coded{fmt.Errorf("--prices: %w", err), exitUsage}
		}
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	all, err := k.Tenant(r.Tenant).Events().Stats(ctx, f)
	if err != nil {
		return err
	}
	if all == nil {
		all = []audit.Stats{}
	}
	if len(all) == audit.MaxGroups && !a.JSON {
		fmt.Fprintf(a.err, "only the first %d groups are shown: narrow the time, or group by less\n", len(all))
	}
	return printTable(a, all, []string{"DAY", "AGENT", "MODEL", "ACTION", "EVENTS", "ERRORS", "P50 MS", "P95 MS",
		"P99 MS", "TOKENS IN", "OUT", "COST"}, statsCells)
}

func statsCells(g audit.Stats) []string {
	day, agent := "", ""
	if g.Day != nil {
		day = g.Day.UTC().Format(time.DateOnly)
	}
	if g.AgentID != nil {
		agent = g.AgentID.String()
	}
	cost := ""
	if g.Cost == nil {
		g.Cost = g.ReportedCost // what the calls of a run say themselves
	}
	if g.Cost != nil {
		cost = strconv.FormatFloat(*g.Cost, 'f', 4, 64)
	}
	return []string{day, agent, oneLine(textOrEmpty(g.Model), 32), oneLine(textOrEmpty(g.Action), 24),
		strconv.FormatInt(g.Events, 10), strconv.FormatInt(g.Errors, 10),
		numberOrEmpty(g.P50), numberOrEmpty(g.P95), numberOrEmpty(g.P99), strconv.FormatInt(g.InputTokens, 10),
		strconv.FormatInt(g.OutputTokens, 10), cost}
}
