package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
)

type auditCmd struct {
	List         auditListCmd      `cmd:"" help:"List a tenant's events, newest first."`
	Show         auditShowCmd      `cmd:"" help:"Show one event whole."`
	Explain      auditRetrievalCmd `cmd:"" help:"Show what a search showed, and what became of it."`
	Log          auditLogCmd       `cmd:"" help:"Log one event."`
	Tail         auditTailCmd      `cmd:"" help:"Print a tenant's events as they are written."`
	Verify       auditVerifyCmd    `cmd:"" help:"Read and recompute everything, and name what differs."`
	Prove        auditProveCmd     `cmd:"" help:"Prove that an event stands in the log (C2SP)."`
	Evidence     auditEvidenceCmd  `cmd:"" help:"Make a bundle of events that a stranger can verify."`
	Receipt      receiptCmd        `cmd:"" help:"Signed receipts: get one, check one."`
	Run          auditRunCmd       `cmd:"" help:"Show a conversation or trace as a tree."`
	Search       auditSearchCmd    `cmd:"" help:"Find words in summaries."`
	Stats        auditStatsCmd     `cmd:"" help:"Counts, latencies, tokens and cost."`
	Escalations  escalationsCmd    `cmd:"" help:"Decisions that agents left to people, and what became of them."`
	Export       auditExportCmd    `cmd:"" help:"Export events as files, for other programs."`
	ExportVerify exportVerifyCmd   `cmd:"" help:"Verify an export against its manifest."`
	Erase        auditEraseCmd     `cmd:"" help:"Erase fields of events; proofs still verify."`
	Erasures     erasuresCmd       `cmd:"" help:"Erasures that wait for a second person."`
	Hold         holdCmd           `cmd:"" help:"Legal holds: place, release, list."`
	Retention    retentionCmd      `cmd:"" help:"How long events are kept, and deletion after."`
	Scrub        auditScrubCmd     `cmd:"" help:"Rewrite the pages that still hold what was erased."`
	Spool        spoolCmd          `cmd:"" help:"What waits on this machine, or was refused."`
	Policy       policyCmd         `cmd:"" help:"What is redacted, and whose calls go on."`
	Redact       redactCmd         `cmd:"" help:"Show what would be stored of a text."`
}

// tenantFlag names the tenant of a command.
type tenantFlag struct {
	Tenant uuid.UUID `required:"" help:"The tenant's UUID." env:"KONSTRUCT_TENANT" placeholder:"UUID"`
}

// filterFlags say which events are wanted.
type filterFlags struct {
	Since  string    `help:"From this time on (RFC 3339), or this long ago (24h)." placeholder:"TIME"`
	Until  string    `help:"Before this time." placeholder:"TIME"`
	Agent  uuid.UUID `help:"Only this agent's." placeholder:"UUID"`
	User   string    `help:"Only this user's."`
	Action string    `help:"Only of this type: llm_call, tool_invocation, escalation, retrieval, or your own."`

	// Meta names what the metadata contains; a value inside objects is named by /path/to/key=VALUE.
	Meta []string `help:"Metadata has KEY=VALUE or /a/path=VALUE. Can be repeated." placeholder:"KEY=VALUE" sep:"none"`
}

func (f filterFlags) filter() (audit.Filter, error) {
	out := audit.Filter{AgentID: f.Agent, UserID: f.User, Action: f.Action, Metadata: audit.Metadata{}}
	var err error
	if out.Since, out.Until, err = timeRange(f.Since, f.Until); err != nil {
		return out, err
	}
	for _, m := range f.Meta {
		if err := parseMetadata(out.Metadata, m); err != nil {
			return out, err
		}
	}
	return out, nil
}

// timeRange reads --since and --until.
func timeRange(since, until string) (from, to time.Time, err error) {
	if from, err = parseTime("--since", since); err == nil {
		to, err = parseTime("--until", until)
	}
	return from, to, err
}

func parseTime(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{},
		coded{fmt.Errorf("%s: %q is neither a time (2026-11-24, 2026-11-24T10:00:00Z) nor a duration (24h)", flag, s),
			exitUsage}
}

// parseMetadata reads a --meta.
func parseMetadata(to audit.Metadata, s string) error {
	if err := to.Put(s); err != nil {
		return coded{fmt.Errorf("--meta: %w", err), exitUsage}
	}
	return nil
}

type auditListCmd struct {
	tenantFlag
	filterFlags
	Limit int    `help:"How many at most, up to 1000." default:"50"`
	After string `help:"Continue after this cursor, which the last page printed." placeholder:"CURSOR"`
}

// Help is shown by --help.
func (auditListCmd) Help() string {
	return "Examples:\n\n  konstruct audit list --tenant $T --since 24h --action llm_call\n  konstruct audit list " +
		"--tenant $T --meta gen_ai.request.model=claude-opus-4-5 --json"
}

// Run prints the events.
func (c auditListCmd) Run(ctx context.Context, a *app) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	f.Limit, f.After = c.Limit, c.After
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	events, err := k.Tenant(c.Tenant).Events().List(ctx, f)
	if err != nil {
		return err
	}
	if err := a.printEvents(events); err != nil {
		return err
	}
	if !a.JSON && len(events) == c.Limit {
		fmt.Fprintf(a.err, "more: --after %s\n", events[len(events)-1].Cursor)
	}
	return nil
}

func (a *app) printEvents(events []audit.StoredEvent) error {
	if events == nil {
		events = []audit.StoredEvent{}
	}
	return printTable(a, events, []string{"CREATED", "ACTION", "EVENT", "USER", "INPUT", "OUTPUT", "MS"},
		func(e audit.StoredEvent) []string {
			return []string{e.CreatedAt.UTC().Format(tableTime), e.Action, e.ID.String(),
				oneLine(textOrEmpty(e.UserID), 12), oneLine(textOrEmpty(e.Input), 36),
				oneLine(textOrEmpty(e.Output), 24), numberOrEmpty(e.LatencyMS)}
		})
}

func textOrEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func numberOrEmpty(n *int32) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

type auditShowCmd struct {
	tenantFlag
	ID uuid.UUID `arg:"" help:"The event's id."`
}

// Run prints one event.
func (c auditShowCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	e, err := k.Tenant(c.Tenant).Events().Get(ctx, c.ID)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(e)
	}
	sealed := "not sealed yet"
	if e.RecordedAt != nil {
		sealed = e.RecordedAt.Format(time.RFC3339Nano)
		if e.Adopted {
			sealed += " (when the database was adopted)"
		}
	}
	agent := ""
	if e.AgentID != nil {
		agent = e.AgentID.String()
	}
	for _, l := range [][2]string{{"event", e.ID.String()}, {"action", e.Action},
		{"created", e.CreatedAt.Format(time.RFC3339Nano)}, {"recorded", sealed}, {"leaf hash", e.LeafHash},
		{"agent", agent}, {"user", textOrEmpty(e.UserID)}, {"latency ms", numberOrEmpty(e.LatencyMS)},
		{"input", textOrEmpty(e.Input)}, {"output", textOrEmpty(e.Output)}, {"metadata", string(e.Metadata)},
		{"erased", strings.Join(e.Erased, ", ")}} {
		if l[1] != "" {
			var lines []string
			for _, line := range strings.Split(l[1], "\n") {
				lines = append(lines, printable(line))
			}
			fmt.Fprintf(a.out, "%s %s\n", a.bold(fmt.Sprintf("%-11s", l[0])), strings.Join(lines, "\n            "))
		}
	}
	return nil
}

type auditLogCmd struct {
	tenantFlag
	Agent    uuid.UUID     `help:"The agent that acted." env:"KONSTRUCT_AGENT" placeholder:"UUID"`
	ID       uuid.UUID     `help:"The event's id; the same id with the same content is logged once." placeholder:"UUID"`
	User     string        `help:"On whose behalf."`
	Action   string        `required:"" help:"llm_call, tool_invocation, escalation, retrieval, or your own."`
	Input    string        `help:"What went in; - reads it from standard input."`
	Output   string        `help:"What came out."`
	Latency  time.Duration `help:"How long it took, for example 1.2s."`
	Metadata string        `help:"A JSON object." placeholder:"JSON"`
	Receipt  string        `help:"Write a signed receipt for the event to this file." placeholder:"FILE"`
	Later    bool          `help:"Acknowledge from this machine's spool; ship it when the database is there."`
}

// Help is shown by --help.
func (auditLogCmd) Help() string {
	return "Example:\n\n  konstruct audit log --tenant $T --action tool_invocation --input '{\"order\":17}' --output " +
		"found --latency 120ms --metadata '{\"gen_ai.tool.name\":\"lookup\"}'"
}

// maxInput bounds what is read from standard input; a summary is cut far below it.
const maxInput = 16 << 20

// readInput is a text given as an argument, or standard input where that is "-".
func readInput(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	raw, err := io.ReadAll(io.LimitReader(os.Stdin, maxInput+1))
	if err != nil {
		return "", fmt.Errorf("read the input: %w", err)
	}
	if len(raw) > maxInput {
		return "", fmt.Errorf("the input is longer than %d bytes", maxInput)
	}
	return string(raw), nil
}

// Run logs the event and prints its id.
func (c auditLogCmd) Run(ctx context.Context, a *app) error {
	var err error
	if c.Receipt != "" && c.Later {
		return coded{errors.New("--receipt: an event that waits in the spool has no seal yet: take the receipt later " +
			"(konstruct audit receipt get), or log it without --later"), exitUsage}
	}
	if c.Input, err = readInput(c.Input); err != nil {
		return err
	}
	k, done, err := a.openWith(ctx, func(p *audit.Policy) bool {
		return c.Later || p.Tenant(c.Tenant).WhenUnwritable == audit.Continue
	})
	if err != nil {
		return err
	}
	defer done()
	e := konstruct.Event{ID: c.ID, UserID: c.User, Action: c.Action, Input: c.Input, Output: c.Output,
		Latency: c.Latency}
	if c.Metadata != "" {
		e.Metadata = json.RawMessage(c.Metadata)
	}
	agent := k.Tenant(c.Tenant).Agent(c.Agent)
	if c.Later {
		agent = agent.Async()
	}
	id, err := agent.Log(ctx, e)
	if err != nil {
		return err
	}
	if id == uuid.Nil {
		fmt.Fprintln(a.err, "konstruct: the trail can't be written: the event is not logged, and the gap will be "+
			"recorded, as the policy says")
	}
	if c.Receipt != "" && id != uuid.Nil {
		receipt, err := k.Tenant(c.Tenant).Events().Receipt(ctx, id)
		if err == nil {
			err = os.WriteFile(c.Receipt, []byte(receipt), 0o600)
		}
		if err != nil {
			return fmt.Errorf("event %s is logged, and has no receipt: %w", id, err)
		}
	}
	if a.JSON {
		return a.json(map[string]uuid.UUID{"id": id})
	}
	_, err = fmt.Fprintln(a.out, id)
	return err
}

type auditTailCmd struct {
	tenantFlag
	filterFlags
	Every time.Duration `help:"How often to look." default:"1s"`
}

// tailOverlap is how far back tail looks each time: an event written within it is not missed, whatever
// order writers commit in.
const tailOverlap = time.Minute

// Run prints events that are created from now on, oldest first, until stopped.
func (c auditTailCmd) Run(ctx context.Context, a *app) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	if c.Every < 100*time.Millisecond {
		return coded{errors.New("--every: at least 100ms"), exitUsage}
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	t := k.Tenant(c.Tenant)
	begin := time.Now()
	if !f.Since.IsZero() {
		begin = f.Since
	}
	seen := map[uuid.UUID]time.Time{}
	for {
		f.Since = begin
		if back := time.Now().Add(-tailOverlap); back.After(begin) {
			f.Since = back
		}
		for id, at := range seen {
			if at.Before(f.Since) {
				delete(seen, id)
			}
		}
		if err := c.printNew(ctx, a, t, f, seen); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.Every):
		}
	}
}

func (c auditTailCmd) printNew(ctx context.Context, a *app, t *konstruct.Tenant, f audit.Filter,
	seen map[uuid.UUID]time.Time) error {
	var fresh []audit.StoredEvent
	for f.Limit = audit.MaxList; ; {
		events, err := t.Events().List(ctx, f)
		if err != nil {
			return err
		}
		for _, e := range events {
			if _, ok := seen[e.ID]; !ok {
				seen[e.ID] = e.CreatedAt
				fresh = append(fresh, e)
			}
		}
		if len(events) < f.Limit {
			break
		}
		f.After = events[len(events)-1].Cursor
	}
	for i := len(fresh) - 1; i >= 0; i-- {
		e := fresh[i]
		if a.JSON {
			raw, err := json.Marshal(e)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s\n", raw)
			continue
		}
		fmt.Fprintf(a.out, "%s  %-15s  %s  %s\n", e.CreatedAt.UTC().Format(tableTime), printable(e.Action), e.ID,
			printable(oneLine(textOrEmpty(e.Input), 60)))
	}
	return nil
}
