package konstruct_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// The examples' tenants and agent.
var (
	acmeID    = uuid.MustParse("ac3e0000-0000-4000-8000-000000000001")
	globexID  = uuid.MustParse("910be000-0000-4000-8000-000000000002")
	supportID = uuid.MustParse("a9e20000-0000-4000-8000-000000000003")
)

// open opens a fresh database; in your program the URL is KONSTRUCT_DATABASE_URL's.
func open(ctx context.Context) *konstruct.Konstruct {
	d, err := testkit.Clone("konstruct")
	if err != nil {
		log.Fatal(err)
	}
	k, err := konstruct.Open(ctx, konstruct.Config{DatabaseURL: d.URL("konstruct_app"), AssetsDir: devpg.AssetsDir()})
	if err != nil {
		log.Fatal(err)
	}
	return k
}

// Log what an agent did in one turn, and read it back.
func Example() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()
	agent := k.Tenant(acmeID).Agent(supportID)

	if _, err := agent.LogLLMCall(ctx,
		konstruct.LLMCall{Model: "claude-opus-4-5", Prompt: "Where is order 17?", Completion: "On its way.",
			InputTokens: 120, OutputTokens: 9, Latency: 1900 * time.Millisecond}); err != nil {
		log.Fatal(err)
	}
	if _, err := agent.LogEscalation(ctx,
		konstruct.Escalation{Reason: "The customer wants a refund above the limit.", To: "billing"}); err != nil {
		log.Fatal(err)
	}
	events, err := k.Tenant(acmeID).Events().List(ctx, konstruct.Filter{})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range events { // newest first
		fmt.Println(e.Action, "|", *e.Input, "| sealed:", e.LeafHash != "")
	}
	// Output:
	// escalation | The customer wants a refund above the limit. | sealed: true
	// llm_call | Where is order 17? | sealed: true
}

// Log many events at once: all of them, or none.
func ExampleAgent_LogBatch() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()

	events := make([]konstruct.Event, 500)
	for i := range events {
		events[i] = konstruct.Event{Action: audit.ActionToolCall, Input: fmt.Sprintf("row %d", i)}
	}
	ids, err := k.Tenant(acmeID).Agent(supportID).LogBatch(ctx, events)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(ids), "events are committed and sealed")
	// Output: 500 events are committed and sealed
}

// Log an event twice, as a retry does: its id makes the call idempotent.
func ExampleAgent_Log() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()
	agent := k.Tenant(acmeID).Agent(supportID)

	event := konstruct.Event{ID: uuid.MustParse("018f4e5a-0000-7000-8000-000000000001"), Action: "payment",
		Input: "order 17, 20 EUR"}
	for range 2 {
		if _, err := agent.Log(ctx, event); err != nil {
			log.Fatal(err)
		}
	}
	event.Input = "order 17, 2000 EUR"
	_, err := agent.Log(ctx, event)
	fmt.Println(errors.Is(err, audit.ErrIDTaken))

	_, err = agent.Log(ctx, konstruct.Event{Action: "payment", Latency: -time.Second})
	fmt.Println(err)
	// Output:
	// true
	// audit: latency_ms: -1s is not between 0 and 2147483647 ms
}

// Commit an event together with a change of your own, or neither.
func ExampleAgent_InTx() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()
	acme := k.Tenant(acmeID)

	err := acme.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx,
			`INSERT INTO kb_documents (tenant_id, agent_id, filename) VALUES ($1, $2, 'note.txt')`, acmeID,
			supportID); err != nil {
			return err
		}
		_, err := acme.Agent(supportID).InTx(ctx, tx, konstruct.Event{Action: "note_added"})
		return err
	})
	fmt.Println(err)
	// Output: <nil>
}

// Ingest documents and search them. The trail records the search and the passages it returned.
func ExampleAgent_Search() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()
	agent := k.Tenant(acmeID).Agent(supportID)

	dir, err := os.MkdirTemp("", "handbook")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "pumps.md"),
		[]byte("# Pumps\n\n## Returns\n\nA pump may be returned within thirty days.\n\n## Care\n\nRinse the rotor "+
			"weekly.\n"), 0o600); err != nil {
		log.Fatal(err)
	}
	report := func(f konstruct.IngestResult) { fmt.Println(filepath.Base(f.Path), f.Outcome, f.Chunks, f.Err) }
	if err := agent.Ingest(ctx, []string{dir}, konstruct.DocumentOptions{}, report, nil); err != nil {
		log.Fatal(err)
	}

	found, err := agent.Search(ctx, "How do I send it back?", 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Hits[0].Headings, found.Hits[0].Content)

	event, err := k.Tenant(acmeID).Events().Get(ctx, found.EventID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(event.Action, "|", *event.Input)

	other, err := k.Tenant(globexID).Agent(supportID).Search(ctx, "How do I send it back?", 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("another tenant finds", len(other.Hits))
	// Output:
	// pumps.md added 2 <nil>
	// [Pumps Returns] A pump may be returned within thirty days.
	// retrieval | How do I send it back?
	// another tenant finds 0
}

// Search with options: the mode, conditions on documents, the user.
func ExampleAgent_SearchWith() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()
	agent := k.Tenant(globexID).Agent(supportID)

	dir, err := os.MkdirTemp("", "terms")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "terms.md"), []byte("# Terms\n\n## Seals\n\nSeals are worn by use, and "+
		"not covered.\n\n## Rotors\n\nA rotor is covered for a year.\n"), 0o600); err != nil {
		log.Fatal(err)
	}
	given := konstruct.DocumentOptions{Metadata: map[string]any{"team": "legal"}}
	if err := agent.Ingest(ctx, []string{dir}, given, func(konstruct.IngestResult) {}, nil); err != nil {
		log.Fatal(err)
	}
	found, err := agent.SearchWith(ctx,
		konstruct.SearchRequest{Text: `rotor -seals`, Mode: search.Lexical, UserID: "ada",
			Where: []konstruct.Condition{{Field: "metadata.team", Op: search.Equal, Value: "legal"}}})
	if err != nil {
		log.Fatal(err)
	}
	for _, h := range found.Hits {
		fmt.Println(h.Filename, h.Headings, h.Content)
	}
	shown, err := k.Tenant(globexID).Events().CheckRetrieval(ctx, found.EventID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(shown.Options.Mode, shown.Passages[0].State)
	// Output:
	// terms.md [Terms Rotors] A rotor is covered for a year.
	// lexical unchanged
}

// Act for a person with the labels they were granted: the context carries the labels, and the database enforces
// it.
func ExampleWithLabels() {
	ctx := context.Background()
	k := open(ctx)
	defer k.Close()
	tenant := k.Tenant(acmeID)
	passages := kb.PreparedDocument{Source: "test:merger", Filename: "merger.md", Model: "mine",
		Text:   "The merger is secret.",
		Chunks: []chunk.Chunk{{Content: "The merger is secret."}}, Vectors: [][]float32{vector()},
		DocumentOptions: konstruct.DocumentOptions{Labels: []string{"board"}}}
	id, _, err := tenant.Agent(supportID).StoreDocument(ctx, passages)
	if err != nil {
		log.Fatal(err)
	}

	for _, granted := range [][]string{{"board", "legal"}, {"legal"}} {
		d, _, err := tenant.Documents().Get(konstruct.WithLabels(ctx, granted...), id)
		fmt.Println(granted, d.Filename, errors.Is(err, kb.ErrNotFound))
	}
	narrowed := konstruct.WithLabels(konstruct.WithLabels(ctx, "legal"), "board", "legal") // what both grant
	_, _, err = tenant.Agent(supportID).StoreDocument(narrowed, passages)
	var refused *tenantdb.GrantError
	fmt.Println(errors.As(err, &refused), refused.Field)
	// Output:
	// [board legal] merger.md false
	// [legal]  true
	// true labels
}

// vector stands for a vector of your own model.
func vector() []float32 {
	v := make([]float32, embed.Dimensions)
	v[0] = 1
	return v
}

func TestOpenRefusesADatabaseThatDoesNotHold(t *testing.T) {
	d := testkit.Database(t)
	testkit.Owner(t, d, `GRANT DELETE ON audit_events TO konstruct_app`)
	_, err := konstruct.Open(t.Context(), konstruct.Config{DatabaseURL: d.URL("konstruct_app")})
	var failed *konstruct.CheckError
	if !errors.As(err, &failed) || len(failed.Checks) < 30 {
		t.Fatalf("error %v", err)
	}
	if k, err := konstruct.Open(t.Context(),
		konstruct.Config{DatabaseURL: d.URL("konstruct_app"), SkipCheck: true}); err != nil {
		t.Error(err)
	} else {
		k.Close()
	}
	if _, err := konstruct.Open(t.Context(), konstruct.Config{}); err == nil {
		t.Error("no URL is no error")
	}
}

// TestNoAnswerWithoutItsRecord makes the retrieval's own event impossible: the search then shows nothing.
func TestNoAnswerWithoutItsRecord(t *testing.T) {
	d := testkit.Database(t)
	k, err := konstruct.Open(t.Context(),
		konstruct.Config{DatabaseURL: d.URL("konstruct_app"), AssetsDir: devpg.AssetsDir(), Embedder: testkit.Model(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	agent := k.Tenant(acmeID).Agent(supportID)
	if r, err := agent.SearchWith(t.Context(),
		konstruct.SearchRequest{Text: "x", Extra: konstruct.Metadata{"konstruct.retrieval.top_k": 1}}); err == nil ||
		r.Hits != nil {
		t.Errorf("%+v, %v", r, err)
	}
	testkit.Owner(t, d, `REVOKE INSERT ON audit_events FROM konstruct_app`)
	if r, err := agent.Search(t.Context(), "x", 1); err == nil || r.Hits != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestTheZeroTenantIsRefusedEverywhere(t *testing.T) {
	d := testkit.Database(t)
	k, err := konstruct.Open(t.Context(),
		konstruct.Config{DatabaseURL: d.URL("konstruct_app"), AssetsDir: devpg.AssetsDir(), Embedder: testkit.Model(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	none := k.Tenant(uuid.Nil)
	for name, call := range map[string]func() error{
		"events":    func() error { _, err := none.Events().List(t.Context(), konstruct.Filter{}); return err },
		"event":     func() error { _, err := none.Events().Get(t.Context(), acmeID); return err },
		"documents": func() error { _, err := none.Documents().List(t.Context(), uuid.Nil, 1); return err },
		"document":  func() error { _, _, err := none.Documents().Get(t.Context(), acmeID); return err },
		"remove":    func() error { _, err := none.Agent(supportID).Remove(t.Context(), acmeID); return err },
		"versions":  func() error { _, err := none.Documents().Versions(t.Context(), acmeID); return err },
		"where":     func() error { _, err := none.Documents().Passage(t.Context(), acmeID, 0); return err },
		"jobs":      func() error { _, err := none.Jobs().List(t.Context(), "", uuid.Nil, 1); return err },
		"count":     func() error { _, err := none.Jobs().Count(t.Context()); return err },
		"cancel":    func() error { _, err := none.Jobs().Cancel(t.Context()); return err },
		"retry":     func() error { _, err := none.Jobs().Retry(t.Context()); return err },
		"forget":    func() error { _, err := none.Jobs().Delete(t.Context()); return err },
		"enqueue": func() error {
			_, err := none.Agent(supportID).
				Enqueue(t.Context(), konstruct.Upload{Source: "x:y", Filename: "y", Content: []byte("x")})
			return err
		},
		"log": func() error {
			_, err := none.Agent(supportID).Log(t.Context(), konstruct.Event{Action: "x"})
			return err
		},
		"batch": func() error {
			_, err := none.Agent(supportID).LogBatch(t.Context(), []konstruct.Event{{Action: "x"}})
			return err
		},
		"search": func() error { _, err := none.Agent(supportID).Search(t.Context(), "x", 1); return err },
	} {
		if err := call(); !errors.Is(err, tenantdb.ErrNoTenant) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Log to this machine's disk when a caller can't wait for the database; the spool ships the event later.
func ExampleAgent_Async() {
	ctx := context.Background()
	d, err := testkit.Clone("konstruct")
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	k, err := konstruct.Open(ctx, konstruct.Config{DatabaseURL: d.URL("konstruct_app"), SpoolDir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer k.Close()
	agent := k.Tenant(acmeID).Agent(supportID).Async()
	if _, err := agent.LogToolCall(ctx,
		konstruct.ToolCall{Name: "lookup_order", Arguments: `{"order":17}`}); err != nil {
		log.Fatal(err)
	}
	spool, err := k.Trail().Spool()
	if err != nil {
		log.Fatal(err)
	}
	if err := spool.Drain(ctx); err != nil { // only to see it arrive
		log.Fatal(err)
	}
	events, err := k.Tenant(acmeID).Events().List(ctx, konstruct.Filter{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(events), events[0].Action)
	// Output: 1 tool_invocation
}

// Redact e-mail addresses in one tenant's events before anything stores them.
func ExampleConfig_policy() {
	policy, err :=
		audit.ParsePolicy(
			[]byte(`{"tenants": {"ac3e0000-0000-4000-8000-000000000001": {"redact": [{"detect": "email"}]}}}`),
			[]byte("at least thirty-two secret bytes"))
	if err != nil {
		log.Fatal(err)
	}
	// Config.Policy does it for every event
	e, err := policy.Redact(acmeID, konstruct.Event{Action: "mail", Input: "write to ada@example.org"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.Input[:len("write to [redacted:email:")])
	// Output: write to [redacted:email:
}
