package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/verify"
)

type auditProveCmd struct {
	tenantFlag
	ID       uuid.UUID `arg:"" help:"The event's id."`
	Withhold []string  `help:"Do not open this field, named above. Can be repeated." placeholder:"FIELD"`
	Out      string    `short:"o" help:"The proof's file; - is standard output." default:"-" placeholder:"FILE"`
}

// Help is shown by --help.
func (auditProveCmd) Help() string {
	return "Writes a C2SP tlog-proof; its extra data is the event's record with the opened fields " +
		"(docs/evidence.md).\n\nFields: agent_id, user_id, action_type, input_summary, output_summary, latency_ms, " +
		"metadata.\n\nExample:\n\n  konstruct audit prove --tenant $T $EVENT --withhold " +
		"input_summary,output_summary -o event.tlog-proof"
}

// Run writes the proof.
func (r auditProveCmd) Run(ctx context.Context, a *app) error {
	withheld := map[ledger.Field]bool{}
	for _, name := range r.Withhold {
		f, err := ledger.FieldNamed(name)
		if err != nil {
			return coded{fmt.Errorf("--withhold: %w", err), exitUsage}
		}
		withheld[f] = true
	}
	c, done, err := a.openNotary(ctx, "audit prove")
	if err != nil {
		return err
	}
	defer done()
	raw, err := verify.Prove(ctx, c.DB, r.Tenant, r.ID, func(f ledger.Field) bool { return !withheld[f] })
	if err != nil {
		return err
	}
	if err := a.requireRecord(ctx, c.app, r.Tenant, audit.ActionProof,
		map[string]any{"event_id": r.ID, "withheld": r.Withhold}); err != nil {
		return err
	}
	if r.Out == "-" {
		_, err = a.out.Write(raw)
		return err
	}
	if err := os.WriteFile(r.Out, raw, 0o600); err != nil {
		return err
	}
	return a.result(map[string]any{"event_id": r.ID, "file": r.Out, "bytes": len(raw)}, "")
}

type auditEvidenceCmd struct {
	tenantFlag
	Since  string    `help:"Recorded from this time on (RFC 3339), or this long ago (24h)." placeholder:"TIME"`
	Until  string    `help:"Recorded before this time." placeholder:"TIME"`
	Agent  uuid.UUID `help:"Only this agent's." placeholder:"UUID"`
	User   *string   `help:"Only this user's."`
	Action *string   `help:"Only of this type."`

	// Meta names what the metadata contains; a value inside objects is named by /path/to/key=VALUE.
	Meta []string `help:"Metadata has KEY=VALUE or /a/path=VALUE. Can be repeated." placeholder:"KEY=VALUE" sep:"none"`

	Withhold []string `help:"Do not open these fields of the events that match." placeholder:"FIELD"`
	Out      string   `short:"o" required:"" help:"The bundle's file." placeholder:"FILE"`
}

// Help is shown by --help.
func (auditEvidenceCmd) Help() string {
	return "The bundle holds every event that matches, and of each other event in the range just what shows that it " +
		"does not.\n\nExample:\n\n  konstruct audit evidence --tenant $T --since 2026-11-01 --until 2026-11-02 " +
		"--action tool_invocation -o bundle.zip\n  konstruct verify bundle.zip --key \"$(konstruct notary key show)\""
}

func (r auditEvidenceCmd) filter() (f evidence.Filter, err error) {
	f.User, f.Action = r.User, r.Action
	if r.Agent != uuid.Nil {
		f.Agent = r.Agent.String()
	}
	if len(r.Meta) > 0 {
		contains := audit.Metadata{}
		for _, m := range r.Meta {
			if err := parseMetadata(contains, m); err != nil {
				return f, err
			}
		}
		if f.Metadata, err = json.Marshal(contains); err != nil {
			return f, err
		}
	}
	f.Since, f.Until, err = timeRange(r.Since, r.Until)
	f.Since, f.Until = f.Since.UTC().Truncate(time.Microsecond), f.Until.UTC().Truncate(time.Microsecond)
	return f, err
}

// Run makes the bundle.
func (r auditEvidenceCmd) Run(ctx context.Context, a *app) (err error) {
	f, err := r.filter()
	if err != nil {
		return err
	}
	c, done, err := a.openNotary(ctx, "audit evidence")
	if err != nil {
		return err
	}
	defer done()
	out, err := os.CreateTemp(filepath.Dir(r.Out), ".bundle-*")
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	p := a.newProgress("writing evidence", "events", 0)
	w := bufio.NewWriterSize(out, 1<<20)
	made, err := verify.WriteBundle(ctx, c.DB, r.Tenant, f, r.Withhold, w, func(done, total int64) {
		p.set(done, total, done)
	})
	p.done()
	if err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := a.requireRecord(ctx, c.app, r.Tenant, audit.ActionEvidence,
		map[string]any{"filter": f, "withheld": r.Withhold, "matching_events": made.Matching,
			"manifest_sha256": hex.EncodeToString(made.Manifest[:])}); err != nil {
		return err
	}
	if err := os.Rename(out.Name(), r.Out); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	each := int64(0)
	if made.Excluded > 0 {
		each = made.ExcludedBytes / made.Excluded
	}
	if a.JSON {
		return a.json(map[string]any{"bundle": r.Out, "matching_events": made.Matching,
			"excluded_events": made.Excluded, "waiting_events": made.Waiting, "bytes_per_excluded_event": each})
	}
	fmt.Fprintf(a.out, "%s: %s %s", r.Out, plural.Of(made.Matching, "event that matches", "events that match"), f)
	if made.Excluded > 0 {
		fmt.Fprintf(a.out, "; %s to show that %s not",
			plural.Of(made.Excluded, fmt.Sprintf("other, %d bytes", each), fmt.Sprintf("others, %d bytes each", each)),
			plural.Word(made.Excluded, "it does", "they do"))
	}
	key, keyErr := c.Keys.Read()
	if keyErr == nil {
		fmt.Fprintf(a.out, "\nWhoever gets it verifies it with a key that they have from somewhere else:\n  "+
			"konstruct verify %s --key %s", filepath.Base(r.Out), key.Key)
	}
	_, err = fmt.Fprintln(a.out)
	if made.Waiting > 0 {
		fmt.Fprintf(a.err, "konstruct: %s of this tenant %s in no log yet, and not in the bundle: "+
			"run konstruct notary run --once, then make it again\n", plural.Of(made.Waiting, "event", "events"),
			plural.Word(made.Waiting, "is", "are"))
	}
	return err
}

type receiptCmd struct {
	Check receiptCheckCmd `cmd:"" help:"Prove that a receipt's event made it into the log in time, or that it did not."`
	Get   receiptGetCmd   `cmd:"" help:"Sign a receipt for an event that was written."`
}

type receiptGetCmd struct {
	tenantFlag
	ID uuid.UUID `arg:"" help:"The event's id."`
}

// Run prints the receipt.
func (r receiptGetCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	receipt, err := k.Tenant(r.Tenant).Events().Receipt(ctx, r.ID)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(map[string]string{"receipt": receipt})
	}
	_, err = fmt.Fprint(a.out, receipt)
	return err
}

type receiptCheckCmd struct {
	File string `arg:"" complete:"file" help:"The receipt."`
	Key  string `help:"The notary's public key, or its file; without, the database's is believed." placeholder:"KEY"`
}

// Run checks the receipt against the database.
func (r receiptCheckCmd) Run(ctx context.Context, a *app) error {
	raw, err := readSmallFile(r.File, maxConfig)
	if err != nil {
		return coded{err, exitUsage}
	}
	var key *ledger.Key
	if r.Key != "" {
		k, err := readKey(r.Key)
		if err != nil {
			return coded{fmt.Errorf("--key: %w", err), exitUsage}
		}
		key = &k
	}
	c, done, err := a.openNotary(ctx, "audit receipt check")
	if err != nil {
		return err
	}
	defer done()
	p, err := verify.CheckReceipt(ctx, c.DB, string(raw), key, a.RetentionFloor)
	if err != nil {
		return err
	}
	if a.JSON {
		err = a.json(p)
	} else {
		verdict := a.green("kept: ")
		if !p.Kept {
			verdict = a.bold("not due yet: ")
			if p.Due {
				verdict = a.red("broken: ")
			}
		}
		_, err = fmt.Fprintf(a.out, "%s%s\n", verdict, p.What)
	}
	if err == nil && !p.OK() {
		err = errors.New("the receipt's promise is broken")
	}
	return err
}

type verifyCmd struct {
	Bundle  string   `arg:"" help:"The evidence bundle." type:"existingfile"`
	Key     string   `required:"" help:"The notary's public key, or its file; not from the bundle." placeholder:"KEY"`
	Witness []string `help:"The key of a witness that you trust. Can be repeated." placeholder:"KEY" sep:"none"`
	Quorum  int      `help:"How many of them must have cosigned." default:"0"`
	Receipt []string `help:"A receipt that the bundle must keep. Can be repeated." placeholder:"FILE" sep:"none"`
	Text    []string `help:"A file that a search must have shown. Can be repeated." placeholder:"FILE" sep:"none"`
	TSA     string   `name:"tsa" help:"PEM certificates of who must have stamped it." placeholder:"FILE"`
	Events  string   `help:"Write the proven events here, a JSON object a line." placeholder:"FILE"`
}

// Help is shown by --help.
func (verifyCmd) Help() string {
	return "Needs no database, no network and no configuration. Exit code 0: everything holds; 1: something does " +
		"not. A file of --text must have been shown byte for byte. With --tsa the bundle must hold a time stamp of " +
		"an authority whose certificate leads to one of that file.\n\nExample:\n\n" +
		"  konstruct verify bundle.zip --key notary.key --witness \"$WITNESS\" --quorum 1"
}

// Run verifies and says in plain words what holds.
func (r verifyCmd) Run(a *app) error {
	c := evidence.Command{Bundle: r.Bundle, Key: r.Key, Witnesses: r.Witness, Quorum: r.Quorum, Floor: a.RetentionFloor,
		Receipts: r.Receipt, Texts: r.Text, Authority: r.TSA, Events: r.Events}
	p := a.newProgress("verifying", "events", 0)
	c.Progress = func(done, total int64) { p.set(done, total, done) }
	result, err := c.Run()
	p.done()
	if errors.Is(err, evidence.ErrArgument) {
		return coded{err, exitUsage}
	} else if err != nil {
		return err
	}
	if a.JSON {
		err = a.json(result)
	} else {
		err = result.Print(a.out)
	}
	if err == nil && !result.OK() {
		err = errors.New("the bundle does not hold")
	}
	return err
}

// verifiedPath is where the last verification that found everything to hold is remembered.
func (a *app) verifiedPath(id string) string {
	return filepath.Join(a.DataDir, "notary", "verified-"+id+".json")
}

func readState(path string) *verify.State {
	raw, err := readSmallFile(path, maxConfig)
	var s verify.State
	if err != nil || json.Unmarshal(raw, &s) != nil {
		return nil // everything is read
	}
	return &s
}

type auditVerifyCmd struct {
	Tenant    *uuid.UUID `help:"Only this tenant's events and log." placeholder:"UUID"`
	SinceLast bool       `help:"Read only what is new since the last verification that held." xor:"how"`
	Full      bool       `help:"Read everything (the default)." xor:"how"`

	Key string `help:"The notary's public key, or its file; without, the database's is believed." placeholder:"KEY"`

	Receipts string `help:"A folder of receipts to check too." placeholder:"DIR" type:"existingdir"`
}

// Help is shown by --help.
func (auditVerifyCmd) Help() string {
	return "Reads every event, seal, tile, checkpoint and key again, recomputes everything, and compares with the " +
		"anchor. What was changed in what an earlier run read is not seen with --since-last.\n\nExamples:\n\n" +
		"  konstruct audit verify --key notary.key\n  konstruct audit verify " +
		"--since-last        # between full ones, hourly\n  konstruct audit verify --receipts ~/receipts"
}

// Run verifies, names what differs, and fails on anything.
func (r auditVerifyCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openNotary(ctx, "audit verify")
	if err != nil {
		return err
	}
	defer done()
	v := verify.Options{Tenant: r.Tenant, Anchor: c.Anchor, Floor: a.RetentionFloor}
	if r.Key != "" {
		k, err := readKey(r.Key)
		if err != nil {
			return coded{fmt.Errorf("--key: %w", err), exitUsage}
		}
		v.Key = &k
	}
	id, err := notary.Identity(ctx, c.DB)
	if err != nil {
		return err
	}
	if r.SinceLast && r.Tenant != nil {
		return coded{errors.New("--since-last: a tenant's trail is always read whole"), exitUsage}
	}
	if r.SinceLast {
		v.Since = readState(a.verifiedPath(id))
	}
	state, err := a.verify(ctx, c.Config, v, r.Receipts)
	what := map[string]any{"full": v.Since == nil, "holds": err == nil}
	if r.Tenant != nil {
		what["tenant_id"] = r.Tenant
	}
	a.noteRecord(ctx, c.app, audit.ActionVerify, what)
	if state != nil {
		raw, _ := json.Marshal(state) // plain values
		path := a.verifiedPath(id)
		if mkErr := os.MkdirAll(filepath.Dir(path), 0o700); mkErr == nil {
			_ = os.WriteFile(path, raw, 0o600) // without it the next verification reads more
		}
	}
	return err
}

// verify verifies and prints; the state is where the next verification may go on.
func (a *app) verify(ctx context.Context, c notary.Config, v verify.Options,
	receipts string) (*verify.State, error) {
	findings := []verify.Finding{}
	start := time.Now()
	v.OnFinding = func(f verify.Finding) {
		if a.JSON {
			if len(findings) < audit.MaxList {
				findings = append(findings, f)
			}
			return
		}
		switch {
		case f.Event != uuid.Nil:
			fmt.Fprintf(a.out, "event %s of tenant %s %s\n", f.Event, f.Tenant, f.Problem)
		case f.Tenant == logstore.Operator:
			fmt.Fprintf(a.out, "the super-log, %s: %s\n", printable(f.Location), printable(f.Problem))
		default:
			fmt.Fprintf(a.out, "the log of tenant %s, %s: %s\n", f.Tenant, printable(f.Location), printable(f.Problem))
		}
	}
	p := a.newProgress("verifying", "parts", 0)
	v.Progress = func(_ string, done, total int64) { p.set(done, total, done) }
	r, err := verify.Run(ctx, c.DB, v)
	p.done()
	if err != nil {
		return nil, err
	}
	checked, err := a.checkReceipts(ctx, c, v, receipts, r)
	if err != nil {
		return nil, err
	}
	if a.JSON {
		err = a.json(struct {
			*verify.Result
			OK       bool             `json:"ok"`
			Since    *verify.State    `json:"since,omitempty"`
			Receipts receiptSummary   `json:"receipts"`
			Findings []verify.Finding `json:"findings"` // the first thousand
		}{r, r.OK(), v.Since, checked, findings})
	} else {
		err = a.printVerified(r, v.Since, checked, time.Since(start))
	}
	if err == nil && !r.OK() {
		err = errors.New("the trail does not verify")
	}
	return r.State, err
}

// receiptSummary is what became of the receipts of a folder: each is one of these.
type receiptSummary struct {
	Read   int `json:"read"`
	Kept   int `json:"kept"`
	NotDue int `json:"not_due"`
	Broken int `json:"broken"` // those that are no receipts among them
}

// checkReceipts checks the receipts of a folder, and leaves none out.
func (a *app) checkReceipts(ctx context.Context, c notary.Config, v verify.Options, dir string,
	r *verify.Result) (all receiptSummary, err error) {
	if dir == "" {
		return all, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return all, err
	}
	broken := func(f verify.Finding) {
		r.Broken++
		all.Broken++
		r.State = nil
		v.OnFinding(f)
	}
	if len(files) == 0 {
		return all, fmt.Errorf("--receipts: %s holds no file: there is no promise to check", dir)
	}
	for _, f := range files {
		all.Read++
		raw, err := readSmallFile(filepath.Join(dir, f.Name()), maxConfig)
		if err != nil {
			broken(verify.Finding{Tenant: logstore.Operator, Location: "receipt " + f.Name(), Problem: err.Error()})
			continue
		}
		p, err := verify.CheckReceipt(ctx, c.DB, string(raw), v.Key, v.Floor)
		switch {
		case err != nil:
			broken(verify.Finding{Tenant: logstore.Operator, Location: "receipt " + f.Name(), Problem: err.Error()})
		case p.Kept:
			all.Kept++
		case p.OK():
			all.NotDue++
		default:
			broken(verify.Finding{Tenant: p.TenantID, Event: p.EventID,
				Problem: "breaks the promise of receipt " + f.Name() + ": " + p.What})
		}
	}
	return all, nil
}

func (a *app) printVerified(r *verify.Result, since *verify.State, checked receiptSummary,
	took time.Duration) error {
	if since != nil {
		fmt.Fprintf(a.out, "%s were NOT read again: they were read last at %s, and what was "+
			"changed since is not seen (leave --since-last out)\n",
			plural.Of(r.NotRead, "leaf and its event", "leaves and their events"), since.FullAt.Format(time.RFC3339))
	}
	fmt.Fprintf(a.out, "%s; %s, %d missing, %d extra (%s)\n",
		plural.Of(r.Events, "event matches its seal", "events match their seals"),
		plural.Of(r.Changed, "differs", "differ"), r.Missing, r.Extra, took.Round(time.Millisecond))
	if r.Leaves+r.Checkpoints == 0 && since == nil && r.Broken == 0 && checked.Read == 0 {
		_, err := fmt.Fprintf(a.out, "no checkpoint was signed yet: konstruct notary run; %s\n",
			plural.Of(r.Waiting.Events, "event waits", "events wait"))
		return err
	}
	fmt.Fprintf(a.out, "%s in %s %s to %s; %s; %s not hold\n", plural.Of(r.Leaves, "leaf", "leaves"),
		plural.Of(r.Logs, "log", "logs"), plural.Word(r.Leaves, "leads", "lead"),
		plural.Of(r.Checkpoints, "signed checkpoint", "signed checkpoints"),
		plural.Of(r.Waiting.Events, "event waits", "events wait"), plural.Of(r.Broken, "thing does", "things do"))
	if r.Late > 0 {
		fmt.Fprintf(a.out, "%s log late, one %s after it was recorded: a transaction was open "+
			"that long, or no notary worked\n", plural.Of(r.Late, "event entered its", "events entered their"),
			(time.Duration(r.LateBy) * time.Second).String())
	}
	if r.Deleted > 0 {
		fmt.Fprintf(a.out, "of %s deleted under retention, as acts in the trail say\n",
			plural.Of(r.Deleted, "leaf the event was", "leaves the events were"))
	}
	_, err := fmt.Fprintf(a.out, "the anchor: %s\n", r.Anchor)
	if checked.Read > 0 {
		_, err = fmt.Fprintf(a.out, "of %s %s kept, %d not due yet, %d broken\n",
			plural.Of(checked.Read, "receipt", "receipts"), plural.Of(checked.Kept, "is", "are"),
			checked.NotDue, checked.Broken)
	}
	return err
}
