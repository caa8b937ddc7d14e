package konstruct_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
)

// Open a database, log, ingest, search, and read the trail. What stands between "docs/go.md" and "end" is the code of
// that page.
func Example_program() {
	d, err := testkit.Clone("konstruct")
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "handbook")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	handbook := filepath.Join(dir, "returns.md")
	text := []byte("A pump may be returned within 30 days of delivery.\n")
	if err := os.WriteFile(handbook, text, 0o600); err != nil {
		log.Fatal(err)
	}
	url, assets, spool := d.URL("konstruct_app"), devpg.AssetsDir(), filepath.Join(dir, "spool")
	tenantID, agentID := acmeID, supportID

	program := func(ctx context.Context) error {
		// docs/go.md
		k, err := konstruct.Open(ctx, konstruct.Config{DatabaseURL: url, AssetsDir: assets, SpoolDir: spool})
		if err != nil {
			return err
		}
		defer k.Close()
		agent := k.Tenant(tenantID).Agent(agentID)

		// Log a call of a model: the event is sealed and committed when this returns.
		call := konstruct.LLMCall{Model: "claude-opus-4-5", Prompt: "Where is order 17?", Completion: "On its way.",
			InputTokens: 120, OutputTokens: 9, Latency: 1900 * time.Millisecond}
		if _, err := agent.LogLLMCall(ctx, call); err != nil {
			return err
		}

		// Log a tool's call without waiting for the database: the event is on this machine's disk when this returns.
		if _, err := agent.Async().LogToolCall(ctx, konstruct.ToolCall{Name: "lookup_order",
			Arguments: `{"order":17}`}); err != nil {
			return err
		}

		// Ingest a file and search. The search is an event: found.EventID names it.
		report := func(file konstruct.IngestResult) { fmt.Println(file.Outcome, filepath.Base(file.Path)) }
		if err := agent.Ingest(ctx, []string{handbook}, konstruct.DocumentOptions{}, report, nil); err != nil {
			return err
		}
		found, err := agent.Search(ctx, "How long may a pump be returned?", 5)
		if err != nil {
			return err
		}
		fmt.Println(found.Hits[0].Content)

		// Read the trail, newest first.
		for event, err := range k.Tenant(tenantID).Events().All(ctx, konstruct.Filter{Action: "retrieval"}) {
			if err != nil {
				return err
			}
			fmt.Println(event.Action, event.ID == found.EventID)
		}
		// end
		return nil
	}
	if err := program(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// added returns.md
	// A pump may be returned within 30 days of delivery.
	// retrieval true
}

// TestTheGoPageIsAnExample compares docs/go.md with the example above, which is run.
func TestTheGoPageIsAnExample(t *testing.T) {
	page, err := os.ReadFile("docs/go.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("docs_example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(source), "\t\t// docs/go.md\n")
	code, _, found := strings.Cut(code, "\t\t// end\n")
	code = strings.TrimPrefix(strings.ReplaceAll("\n"+code, "\n\t\t", "\n"), "\n")
	if !found || !strings.Contains(string(page), "```go\n"+code+"```\n") {
		t.Errorf("docs/go.md has not this code:\n%s", code)
	}
}
