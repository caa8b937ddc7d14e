package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
)

// openCompliance opens the database as konstruct_compliance.
func (a *app) openCompliance(ctx context.Context, what string) (*tenantdb.Compliance, func(), error) {
	u, done, err := a.database(ctx)
	if err != nil {
		return nil, nil, err
	}
	url, err := requireURL(u.compliance, "KONSTRUCT_COMPLIANCE_DATABASE_URL", what)
	if err != nil {
		done()
		return nil, nil, err
	}
	c, err := tenantdb.OpenCompliance(ctx, url)
	if err != nil {
		done()
		return nil, nil, err
	}
	return c, func() { c.Close(); done() }, nil
}

// usageError gives what was asked wrongly its exit code.
func usageError(err error) error {
	if errors.Is(err, compliance.ErrInvalid) {
		return coded{err, exitUsage}
	}
	return err
}

// reasonFlag says why.
type reasonFlag struct {
	Reason string `required:"" help:"Why; kept for good, so name a ticket and not a person." placeholder:"TEXT"`
}

type auditEraseCmd struct {
	tenantFlag
	reasonFlag
	Event  []uuid.UUID `help:"The event's id. Can be repeated, up to a thousand times." placeholder:"UUID"`
	UserID string      `help:"Instead of events: every event of this user." placeholder:"USER"`

	Field []string `required:"" help:"Field to erase, named above. Can be repeated." placeholder:"FIELD"`
}

// Help is shown by --help.
func (auditEraseCmd) Help() string {
	return "The text and what could prove a guess of it are destroyed; every proof still verifies and says what was " +
		"erased, by whom and why. It can't be taken back. docs/compliance.md says where else the text may be.\n\n" +
		"Fields: agent_id, user_id, input_summary, output_summary, latency_ms, metadata.\n\n" +
		"Examples:\n\n  konstruct audit erase --tenant $T --event $E --field input_summary --reason \"ticket 17\"\n  " +
		"konstruct audit erase --tenant $T --user-id ada --field user_id --field input_summary --field " +
		"output_summary --field metadata --reason \"request 18, GDPR article 17\""
}

// Run erases, or asks for it.
func (r auditEraseCmd) Run(ctx context.Context, a *app) error {
	e := compliance.Erasure{Events: r.Event, User: r.UserID, Reason: r.Reason}
	for _, name := range r.Field {
		f, err := ledger.FieldNamed(name)
		if err != nil {
			return coded{fmt.Errorf("--field: %w", err), exitUsage}
		}
		e.Fields = append(e.Fields, f)
	}
	c, done, err := a.openCompliance(ctx, "audit erase")
	if err != nil {
		return err
	}
	defer done()
	erased, err := compliance.Erase(ctx, c, r.Tenant, e)
	if err != nil {
		return usageError(err)
	}
	if a.JSON {
		return a.json(erased)
	}
	if erased.Request != nil {
		_, err = fmt.Fprintf(a.out, "nothing is erased yet: another person must agree\n  konstruct audit erasures "+
			"approve --reason … --tenant %s %s\n", r.Tenant, *erased.Request)
		return err
	}
	a.warnErased(erased.Events)
	return nil
}

// warnErased says what an erasure does not reach.
func (a *app) warnErased(n int64) {
	fmt.Fprintf(a.out, "erased fields of %s\n", plural.Of(n, "event", "events"))
	fmt.Fprintln(a.out, "Old pages of the database hold the text until konstruct audit scrub clears them. Archived "+
		"WAL, backups, exports and other machines' files are yours to clear (docs/compliance.md).")
	if a.SpoolDir == "" {
		return
	}
	if st, err := audit.InspectSpool(a.SpoolDir); err == nil && st.Waiting+st.Rejected > 0 {
		fmt.Fprintf(a.out, "this machine's spool holds %s and %s refused: they were not "+
			"looked at (konstruct audit spool)\n", plural.Of(st.Waiting, "event that waits", "events that wait"),
			plural.Of(st.Rejected, "that was", "that were"))
	}
}

type erasuresCmd struct {
	List       erasuresListCmd    `cmd:"" default:"withargs" help:"List what waits for a second person (the default)."`
	Approve    erasuresApproveCmd `cmd:"" help:"Carry out what another person asked for."`
	Decline    erasuresDeclineCmd `cmd:"" help:"Drop a request."`
	RequireTwo requireTwoCmd      `cmd:"" help:"Have what keeps less wait for a second person from now on."`
	RequireOne requireOneCmd      `cmd:"" help:"Ask that one person be enough again; another must agree."`
}

type erasuresListCmd struct{ tenantFlag }

// Run lists what waits.
func (r erasuresListCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit erasures")
	if err != nil {
		return err
	}
	defer done()
	all, err := compliance.Pending(ctx, c, r.Tenant)
	if err != nil {
		return err
	}
	if all == nil {
		all = []compliance.Request{}
	}
	return printTable(a, all, []string{"REQUEST", "ASKED", "BY", "WHAT", "FIELDS", "REASON"},
		func(q compliance.Request) []string {
			return []string{q.ID.String(), q.At.Format("2006-01-02 15:04"), q.RequestedBy, oneLine(q.String(), 48),
				strings.Join(q.Fields, ","), oneLine(q.Reason, 40)}
		})
}

type erasuresApproveCmd struct {
	tenantFlag
	reasonFlag
	ID uuid.UUID `arg:"" help:"The request."`
}

// Run erases.
func (r erasuresApproveCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit erasures approve")
	if err != nil {
		return err
	}
	defer done()
	n, err := compliance.Approve(ctx, c, r.Tenant, r.ID, r.Reason)
	if err != nil {
		return usageError(err)
	}
	if a.JSON {
		return a.json(compliance.Erased{Events: n})
	}
	a.warnErased(n)
	return nil
}

type erasuresDeclineCmd struct {
	tenantFlag
	reasonFlag
	ID uuid.UUID `arg:"" help:"The request."`
}

// Run drops the request.
func (r erasuresDeclineCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit erasures decline")
	if err != nil {
		return err
	}
	defer done()
	return usageError(compliance.Decline(ctx, c, r.Tenant, r.ID, r.Reason))
}

type requireTwoCmd struct {
	tenantFlag
	reasonFlag
}

// Help is shown by --help.
func (requireTwoCmd) Help() string {
	return "Erasures, releases of holds, and retention rules that keep less then wait for a second person's approval."
}

// Run has two people agree from now on.
func (r requireTwoCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit erasures require-two")
	if err != nil {
		return err
	}
	defer done()
	if err := compliance.RequireTwo(ctx, c, r.Tenant, r.Reason); err != nil {
		return usageError(err)
	}
	if a.JSON {
		return a.json(map[string]any{"tenant_id": r.Tenant, "two_people": true})
	}
	_, err = fmt.Fprintf(a.out, "from now on erasures, releases of holds and shorter rules of tenant %s "+
		"wait for a second person\n", r.Tenant)
	return err
}

type requireOneCmd struct {
	tenantFlag
	reasonFlag
}

// Run asks for it.
func (r requireOneCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit erasures require-one")
	if err != nil {
		return err
	}
	defer done()
	request, err := compliance.RequireOne(ctx, c, r.Tenant, r.Reason)
	if err != nil {
		return usageError(err)
	}
	return a.printDecision(r.Tenant, &request, "")
}

// printDecision says what was done, or what to do where another person must agree.
func (a *app) printDecision(tenant uuid.UUID, request *uuid.UUID, done string) (err error) {
	switch {
	case a.JSON:
		return a.json(map[string]*uuid.UUID{"request": request})
	case request != nil:
		_, err = fmt.Fprintf(a.out, "nothing is done yet: another person must agree\n  konstruct audit erasures "+
			"approve --reason … --tenant %s %s\n", tenant, *request)
	default:
		_, err = fmt.Fprintln(a.out, done)
	}
	return err
}

type holdCmd struct {
	Place   holdPlaceCmd   `cmd:"" help:"Protect events from erasure and deletion."`
	Release holdReleaseCmd `cmd:"" help:"End a hold."`
	List    holdListCmd    `cmd:"" help:"List a tenant's holds."`
}

type holdPlaceCmd struct {
	tenantFlag
	reasonFlag
	Since  string  `help:"Only events created from this time on." placeholder:"TIME"`
	Until  string  `help:"Only events created before this time." placeholder:"TIME"`
	Agent  string  `help:"Only this agent's." placeholder:"UUID"`
	User   *string `help:"Only this user's."`
	Action *string `help:"Only of this type."`
}

// Help is shown by --help.
func (holdPlaceCmd) Help() string {
	return "Without conditions it holds all of the tenant's events.\n\nExample:\n\n  konstruct audit hold place " +
		"--tenant $T --user ada --reason \"case 9\""
}

// Run places the hold and prints its id.
func (r holdPlaceCmd) Run(ctx context.Context, a *app) error {
	h := compliance.Hold{Reason: r.Reason, User: r.User, Action: r.Action}
	for _, t := range []struct {
		flag, value string
		to          **time.Time
	}{{"--since", r.Since, &h.Since}, {"--until", r.Until, &h.Until}} {
		at, err := parseTime(t.flag, t.value)
		if err != nil {
			return err
		}
		if !at.IsZero() {
			*t.to = &at
		}
	}
	if r.Agent != "" {
		id, err := uuid.Parse(r.Agent)
		if err != nil {
			return coded{errors.New("--agent: it is not a UUID"), exitUsage}
		}
		h.Agent = &id
	}
	c, done, err := a.openCompliance(ctx, "audit hold place")
	if err != nil {
		return err
	}
	defer done()
	id, err := compliance.Place(ctx, c, r.Tenant, h)
	if err != nil {
		return usageError(err)
	}
	if a.JSON {
		return a.json(map[string]uuid.UUID{"hold": id})
	}
	_, err = fmt.Fprintln(a.out, id)
	return err
}

type holdReleaseCmd struct {
	tenantFlag
	reasonFlag
	ID uuid.UUID `arg:"" help:"The hold."`
}

// Run releases the hold.
func (r holdReleaseCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit hold release")
	if err != nil {
		return err
	}
	defer done()
	request, err := compliance.Release(ctx, c, r.Tenant, r.ID, r.Reason)
	if err != nil {
		return usageError(err)
	}
	return a.printDecision(r.Tenant, request, fmt.Sprintf("hold %s is released", r.ID))
}

type holdListCmd struct{ tenantFlag }

// Run lists the holds.
func (r holdListCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit hold list")
	if err != nil {
		return err
	}
	defer done()
	all, err := compliance.Holds(ctx, c, r.Tenant)
	if err != nil {
		return err
	}
	if all == nil {
		all = []compliance.Hold{}
	}
	return printTable(a, all, []string{"HOLD", "PLACED", "BY", "EVENTS", "REASON", "RELEASED"},
		func(h compliance.Hold) []string {
			released := ""
			if h.ReleasedAt != nil {
				released = h.ReleasedAt.Format("2006-01-02 15:04") + " by " + *h.ReleasedBy
			}
			return []string{h.ID.String(), h.PlacedAt.Format("2006-01-02 15:04"), h.PlacedBy, oneLine(h.String(), 48),
				oneLine(h.Reason, 40), released}
		})
}

type retentionCmd struct {
	Rules retentionRulesCmd `cmd:"" default:"withargs" help:"List a tenant's rules (the default)."`
	Keep  retentionKeepCmd  `cmd:"" help:"Set how long events are kept."`
	Run   retentionRunCmd   `cmd:"" help:"Delete what need not be kept any more."`
}

type retentionRulesCmd struct{ tenantFlag }

// Run lists the rules.
func (r retentionRulesCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit retention")
	if err != nil {
		return err
	}
	defer done()
	rules, floor, err := compliance.Rules(ctx, c, r.Tenant)
	if err != nil {
		return err
	}
	if rules == nil {
		rules = []compliance.Rule{}
	}
	if !a.JSON {
		fmt.Fprintf(a.err, "no rule goes under %s; what no rule names is kept for good\n",
			plural.Of(floor, "day", "days"))
	}
	return printTable(a, rules, []string{"ACTION", "KEPT FOR", "SET", "BY"}, func(l compliance.Rule) []string {
		action := l.Action
		if action == "" {
			action = "(all others)"
		}
		return []string{action, strconv.Itoa(l.Days) + " days", l.SetAt.Format("2006-01-02 15:04"), l.SetBy}
	})
}

type retentionKeepCmd struct {
	tenantFlag
	reasonFlag
	Action string `help:"Only events of this type; without it, all that have no rule of their own."`
	Days   int    `required:"" help:"How many days; 0 takes the rule back, and they are kept for good."`
}

// Help is shown by --help.
func (retentionKeepCmd) Help() string {
	return "Example:\n\n  konstruct audit retention keep --tenant $T --action llm_call --days 365 --reason \"policy 7\""
}

// Run sets the rule.
func (r retentionKeepCmd) Run(ctx context.Context, a *app) error {
	if r.Days < 0 {
		return coded{fmt.Errorf("--days: %d is negative", r.Days), exitUsage}
	}
	c, done, err := a.openCompliance(ctx, "audit retention keep")
	if err != nil {
		return err
	}
	defer done()
	request, err := compliance.SetRule(ctx, c, r.Tenant, r.Action, r.Days, r.Reason)
	if err != nil {
		return usageError(err)
	}
	if request != nil || a.JSON {
		return a.printDecision(r.Tenant, request, "")
	}
	what, until := "events without a rule of their own are", "for good"
	if r.Action != "" {
		what = "events of type " + printable(r.Action) + " are"
	}
	if r.Days > 0 {
		until = fmt.Sprintf("for %s, and deleted after that by konstruct audit retention run",
			plural.Of(r.Days, "day", "days"))
	} else if r.Action != "" {
		what, until = "events of type "+printable(r.Action)+" have no rule of their own any more",
			"as those without one"
		_, err = fmt.Fprintf(a.out, "%s, and are kept %s\n", what, until)
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s kept %s\n", what, until)
	return err
}

type retentionRunCmd struct {
	tenantFlag
	reasonFlag
	DryRun bool `help:"Say what would go, and delete nothing."`
}

// Help is shown by --help.
func (retentionRunCmd) Help() string {
	return "Deletes what the tenant's rules no longer keep, a signed checkpoint covers and no hold protects. Leaf " +
		"hashes stay, so everything else still verifies. It can be killed and run again; run it " +
		"daily.\n\nExample:\n\n  konstruct audit retention run --tenant $T --reason \"policy 7\" --dry-run"
}

// Run deletes, or says what would be deleted.
func (r retentionRunCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openCompliance(ctx, "audit retention run")
	if err != nil {
		return err
	}
	defer done()
	p := a.newProgress("looking at", "events", 0)
	gone, err := compliance.Expire(ctx, c, r.Tenant, r.Reason, r.DryRun, func(leaves, _ int64) {
		p.set(leaves, 0, leaves)
	})
	p.done()
	if err != nil {
		return usageError(err)
	}
	if a.JSON {
		return a.json(gone)
	}
	did := "deleted"
	if r.DryRun {
		did = "would delete"
	}
	fmt.Fprintf(a.out, "%s %d events (%d bytes of rows)", did, gone.Events, gone.Bytes)
	if gone.Held > 0 {
		fmt.Fprintf(a.out, "; %d are under legal hold", gone.Held)
	}
	_, err = fmt.Fprintln(a.out)
	return err
}

type auditScrubCmd struct{}

// Help is shown by --help.
func (auditScrubCmd) Help() string {
	return "Rewrites the tables from which something was erased, as their owner: deleted rows' bytes stay on their " +
		"pages until then. Each table is locked meanwhile.\n\nExample:\n\n  konstruct audit scrub"
}

// Run rewrites the tables.
func (auditScrubCmd) Run(ctx context.Context, a *app) error {
	s, superuser, done, err := a.openSchemaFor(ctx, "audit scrub")
	if err != nil {
		return err
	}
	defer done()
	left, err := s.Scrub(ctx, superuser, func(what string) { fmt.Fprintf(a.err, "rewriting %s\n", what) })
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(map[string][]string{"left": left})
	}
	fmt.Fprintln(a.out, "no page of the tables holds what was erased before")
	for _, sql := range left {
		fmt.Fprintf(a.out, "this role may not; a superuser must run: %s\n", sql)
	}
	_, err = fmt.Fprintln(a.out, "the server's log, its archive and backups made before still do: docs/compliance.md")
	return err
}
