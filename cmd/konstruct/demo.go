package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/samples"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

type demoCmd struct {
	Dir string `help:"Your own folder of documents instead of samples." placeholder:"DIR" type:"existingdir"`

	Configured bool `help:"Log the demonstration in the database of the env file."`
}

// Help is shown by --help.
func (demoCmd) Help() string {
	return "Uses the private database in the data folder, or the one that the environment names. What it logs stays " +
		"there: no event can be deleted. So it uses the database of an env file only with --configured."
}

// demoTenant is one tenant of the demonstration.
type demoTenant struct {
	name      string
	id        uuid.UUID
	paths     []string
	questions []string
}

// owns reports whether a document's source is one of the party's files, or lies in one of its folders.
func (p *demoTenant) owns(source string) bool {
	u, err := url.Parse(source)
	for _, path := range p.paths {
		if abs, absErr := filepath.Abs(path); err == nil && absErr == nil &&
			(u.Path == abs || strings.HasPrefix(u.Path, abs+"/")) {
			return true
		}
	}
	return false
}

// The tenants keep their ids, so that a second run finds the documents there.
var (
	gopherID  = uuid.MustParse("60600000-0000-4000-8000-000000000001")
	newtonID  = uuid.MustParse("60600000-0000-4000-8000-000000000002")
	folderID  = uuid.MustParse("60600000-0000-4000-8000-000000000003")
	stationID = uuid.MustParse("60600000-0000-4000-8000-000000000005")
	emptyID   = uuid.MustParse("60600000-0000-4000-8000-000000000004")
)

func (c demoCmd) tenants(dataDir string) ([]demoTenant, error) {
	gopher := []string{"When does a read observe a write of another goroutine?",
		"What does a select statement do when several cases are ready?",
		"How are constants that overflow their type treated?", "In what order are package variables initialized?",
		"What happens when a nil map is written to?"}
	newton := []string{"Are rays of different colours refracted by different amounts?",
		"What is the white light of the sun made of?",
		"Why does a rainbow show its colours?", "How thick must a film be to show a colour?",
		"What does Newton ask about light and gross bodies turning into each other?"}
	if c.Dir != "" {
		return []demoTenant{{"your folder", folderID, []string{c.Dir},
			[]string{"What is this about?", "What are the main steps?", "What can go wrong?", "Who is responsible?",
				"What is required first?"}},
			{"an empty tenant", emptyID, nil, nil}}, nil
	}
	handbook := filepath.Join(dataDir, "samples") // one handbook, as many applications write it
	if err := samples.Write(handbook); err != nil {
		return nil, err
	}
	root := goRoot()
	if root == "" {
		return nil, fmt.Errorf("no Go installation with its documents was found: run konstruct demo --dir FOLDER on " +
			"a folder of your own")
	}
	return []demoTenant{
		{"gophers", gopherID,
			[]string{filepath.Join(root, "doc", "go_spec.html"), filepath.Join(root, "doc", "go_mem.html")}, gopher},
		{"newton", newtonID, []string{filepath.Join(root, "src", "testdata", "Isaac.Newton-Opticks.txt")}, newton},
		{"station", stationID, []string{handbook},
			[]string{"What ruins the impeller?", "Which pump draws from the lake?", "How is a leak mended?"}}}, nil
}

// goRoot finds the Go installation, whose documents every machine that can build this has.
func goRoot() string {
	out, _ := exec.Command("go", "env", "GOROOT").Output() // no go here is no mistake
	roots := []string{strings.TrimSpace(string(out)), "/usr/local/go", "/usr/lib/go", "/usr/share/go",
		"/opt/homebrew/opt/go/libexec"}
	for _, r := range roots {
		if _, err := os.Stat(filepath.Join(r, "src", "testdata", "Isaac.Newton-Opticks.txt")); r != "" && err == nil {
			if _, err := os.Stat(filepath.Join(r, "doc", "go_spec.html")); err == nil {
				return r
			}
		}
	}
	return ""
}

// Run is the whole demonstration.
func (c demoCmd) Run(ctx context.Context, a *app) error {
	if a.envFile != "" && !c.Configured {
		return coded{fmt.Errorf("%s names a database of your own, and a demonstration stays there: no event can be "+
			"deleted. Run it in another folder, on a private database, or with --configured", a.envFile), exitUsage}
	}
	parties, err := c.tenants(a.DataDir)
	if err != nil {
		return err
	}
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	for _, n := range []struct{ url, name string }{{u.app, "KONSTRUCT_DATABASE_URL"},
		{u.notary, "KONSTRUCT_NOTARY_DATABASE_URL"}} {
		if _, err := requireURL(n.url, n.name, "the demonstration"); err != nil {
			return err
		}
	}
	k, err := konstruct.Open(ctx, konstruct.Config{DatabaseURL: u.app, AssetsDir: a.AssetsDir, Embedder: a.embedder()})
	if err != nil {
		return err
	}
	defer k.Close()
	for _, p := range parties {
		if len(p.paths) == 0 {
			continue
		}
		a.title("Tenant %s ingests its documents", p.name)
		s, err := a.ingest(ctx, k.Tenant(p.id).Agent(demoAgent(p.id)), p.paths, false, konstruct.DocumentOptions{})
		if err != nil {
			return err
		}
		s.print(a)
	}
	for i, p := range parties {
		if err := c.search(ctx, a, k, p, parties[(i+1)%len(parties)]); err != nil {
			return err
		}
	}
	if err := c.agentTurn(ctx, a, k, parties[0]); err != nil {
		return err
	}
	if err := c.evidence(ctx, a, u.notary, parties[0]); err != nil {
		return err
	}
	if err := c.attemptRewrite(ctx, a, k.Tenant(parties[0].id)); err != nil {
		return err
	}
	a.tryThis(u, parties[0].id, parties[0].questions[0])
	return nil
}

func (a *app) title(format string, args ...any) {
	fmt.Fprintf(a.out, "\n%s\n", a.bold(fmt.Sprintf("── "+format+" ──", args...)))
}

func demoAgent(tenant uuid.UUID) uuid.UUID { return uuid.NewSHA1(tenant, []byte("demo agent")) }

// search asks a tenant's questions, and one of the other's, which finds only what is this tenant's own.
func (c demoCmd) search(ctx context.Context, a *app, k *konstruct.Konstruct, p, other demoTenant) error {
	agent := k.Tenant(p.id).Agent(demoAgent(p.id))
	for _, q := range p.questions {
		a.title("%s asks: %s", p.name, q)
		r, err := agent.SearchWith(ctx, konstruct.SearchRequest{Text: q, TopK: 3, UserID: "demo"})
		if err != nil {
			return err
		}
		a.printHits(r.Hits, r.Plan.Mode, 2)
		fmt.Fprintln(a.out, a.dim("event "+r.EventID.String()))
	}
	if len(other.questions) == 0 {
		return nil
	}
	a.title("%s asks %s's question: %s", p.name, other.name, other.questions[0])
	r, err := agent.Search(ctx, other.questions[0], 3)
	if err != nil {
		return err
	}
	a.printHits(r.Hits, r.Plan.Mode, 1)
	for _, h := range r.Hits {
		if c.Dir == "" && !p.owns(h.Source) {
			return fmt.Errorf("tenant %s was shown %s, which is not its own", p.name, h.Filename)
		}
	}
	fmt.Fprintf(a.out, "%s, all of %s's own documents: the database shows it no others\n",
		plural.Of(len(r.Hits), "passage", "passages"), p.name)
	return nil
}

// agentTurn logs what an agent does in one turn, and lists it.
func (c demoCmd) agentTurn(ctx context.Context, a *app, k *konstruct.Konstruct, p demoTenant) error {
	a.title("An agent's turn is logged: a tool call, an LLM call, an escalation")
	t := k.Tenant(p.id)
	agent := t.Agent(demoAgent(p.id))
	if _, err := agent.LogToolCall(ctx,
		konstruct.ToolCall{Name: "run_tests", CallID: "call_1", Type: "function", UserID: "demo",
			Arguments: `{"package":"./..."}`, Result: "2 failures", Latency: 4200 * time.Millisecond}); err != nil {
		return err
	}
	if _, err := agent.LogLLMCall(ctx,
		konstruct.LLMCall{Provider: "anthropic", Model: "claude-opus-4-5", UserID: "demo",
			Prompt: "Why do two tests fail under -race?", Completion: "The counter is written without a lock.",
			InputTokens: 812, OutputTokens: 96, FinishReasons: []string{"end_turn"},
			Latency: 1900 * time.Millisecond}); err != nil {
		return err
	}
	if _, err := agent.LogEscalation(ctx,
		konstruct.Escalation{UserID: "demo", Reason: "The fix changes an exported type.",
			Question: "May Counter become a struct?", To: "maintainers"}); err != nil {
		return err
	}
	events, err := t.Events().List(ctx, audit.Filter{Limit: 8})
	if err != nil {
		return err
	}
	return a.printEvents(events)
}

// evidence has the notary sign, verifies everything, and lets a stranger verify what one tenant's agents did.
func (c demoCmd) evidence(ctx context.Context, a *app, notaryURL string, p demoTenant) error {
	o, err := a.notaryConfig()
	if err != nil {
		return err
	}
	if o.DB, err = tenantdb.OpenEvidence(ctx, notaryURL); err != nil {
		return err
	}
	defer o.DB.Close()
	a.title("The notary puts every event in order and signs")
	n, err := notary.New(o)
	if err != nil {
		return err
	}
	defer n.Close()
	if err := a.catchUp(ctx, n, o); err != nil {
		return err
	}
	if err := a.printStatus(ctx, o); err != nil {
		return err
	}
	a.title("The trail holds: every event is read again and verified against its seal and its log")
	if _, err := a.verify(ctx, o, verify.Options{Anchor: o.Anchor, Floor: a.RetentionFloor}, ""); err != nil {
		return err
	}
	a.title("A stranger verifies %s's retrievals, with the public key and one file", p.name)
	dir, err := os.MkdirTemp("", "konstruct-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bundle := filepath.Join(dir, "bundle.zip")
	out, err := os.Create(bundle)
	if err != nil {
		return err
	}
	action := audit.ActionRetrieval
	_, err = verify.WriteBundle(ctx, o.DB, p.id, evidence.Filter{Action: &action}, nil, out, nil)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	key, err := o.Keys.Read()
	if err != nil {
		return err
	}
	result, err := evidence.Command{Bundle: bundle, Key: key.String()}.Run()
	if err != nil {
		return err
	}
	if err := result.Print(a.out); err != nil {
		return err
	}
	if !result.OK() {
		return errors.New("the bundle does not hold")
	}
	return nil
}

// attemptRewrite tries what the trail must refuse, as the application's own role.
func (c demoCmd) attemptRewrite(ctx context.Context, a *app, t *konstruct.Tenant) error {
	const sql = `UPDATE audit_events SET output_summary = 'nothing happened'`
	a.title("Somebody tries to rewrite it, as the application's own role")
	fmt.Fprintln(a.out, "  "+sql)
	err := t.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return err
	})
	if err == nil {
		return errors.New("the database let the trail be rewritten")
	}
	fmt.Fprintln(a.out, a.red("  "+strings.TrimSpace(err.Error())))
	return nil
}
