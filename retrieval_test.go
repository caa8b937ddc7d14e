package konstruct_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

// watched is the real model; it counts what it embeds, and can be made unavailable.
type watched struct {
	embed.Embedder
	away     error
	embedded int
}

func (w *watched) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if w.away != nil {
		return nil, w.away
	}
	w.embedded += len(texts)
	return w.Embedder.Embed(ctx, texts)
}

func (w *watched) Close() error { return nil }

const handbook = "# Handbook\n\n## Returns\n\nA pump may be returned within thirty days.\n\n## Care\n\nRinse the " +
	"rotor weekly.\n\n## Seals\n\nThe mechanical seal is replaced each year.\n"

// shelf opens a database where acme has the handbook.
func shelf(t *testing.T, d *testkit.DB, c konstruct.Config) (*konstruct.Konstruct, *watched, string) {
	t.Helper()
	w := &watched{Embedder: testkit.Model(t)}
	c.DatabaseURL, c.AssetsDir, c.Embedder = d.URL("konstruct_app"), devpg.AssetsDir(), w
	k, err := konstruct.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	path := filepath.Join(t.TempDir(), "handbook.md")
	take(t, k, path, handbook)
	return k, w, path
}

func take(t *testing.T, k *konstruct.Konstruct, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Tenant(acmeID).Agent(supportID).Ingest(t.Context(), []string{path}, konstruct.DocumentOptions{},
		func(r konstruct.IngestResult) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}, nil); err != nil {
		t.Fatal(err)
	}
}

// how reads an event's search options.
func how(t *testing.T, k *konstruct.Konstruct,
	tenant, event uuid.UUID) (h audit.SearchOptions, documents []audit.RetrievedPassage) {
	t.Helper()
	e, err := k.Tenant(tenant).Events().Get(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Documents []audit.RetrievedPassage `json:"gen_ai.retrieval.documents"`
		How       audit.SearchOptions      `json:"konstruct.retrieval"`
	}
	if err := json.Unmarshal(e.Metadata, &said); err != nil {
		t.Fatal(err)
	}
	return said.How, said.Documents
}

func TestSearchesGoOnByWordsWhileTheModelIsAway(t *testing.T) {
	k, w, _ := shelf(t, testkit.Database(t), konstruct.Config{})
	agent := k.Tenant(acmeID).Agent(supportID)
	w.away = errors.New("connection refused")
	if r, err := agent.SearchWith(t.Context(), konstruct.SearchRequest{Text: "rotor"}); err == nil ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody allowed it: %+v, %v", r, err)
	}
	r, err := agent.SearchWith(t.Context(), konstruct.SearchRequest{Text: "rotor", LexicalFallback: true})
	if err != nil || len(r.Hits) != 1 || !strings.Contains(r.Hits[0].Content, "Rinse") ||
		!strings.Contains(r.Fallback, "connection refused") {
		t.Fatalf("%+v, %v", r, err)
	}
	if h, _ := how(t, k, acmeID, r.EventID); h.Mode != "lexical" || h.Fallback != r.Fallback {
		t.Errorf("the record says %+v", h)
	}
	if r, err := agent.SearchWith(t.Context(),
		konstruct.SearchRequest{Text: "rotor", Mode: search.Lexical}); err != nil || len(r.Hits) != 1 ||
		r.Fallback != "" {
		t.Errorf("by words it needs no model: %+v, %v", r, err)
	}
	w.away = nil
	if r, err := agent.SearchWith(t.Context(),
		konstruct.SearchRequest{Text: "rotor", LexicalFallback: true}); err != nil || r.Fallback != "" ||
		r.Plan.Mode != search.Hybrid {
		t.Errorf("it is back: %+v, %v", r, err)
	}
}

func TestAQuestionIsEmbeddedOnceForEachTenant(t *testing.T) {
	k, w, _ := shelf(t, testkit.Database(t), konstruct.Config{})
	w.embedded = 0
	for range 3 {
		if _, err := k.Tenant(acmeID).Agent(supportID).Search(t.Context(), "How do I send it back?", 1); err != nil {
			t.Fatal(err)
		}
	}
	if w.embedded != 1 {
		t.Errorf("embedded %d times", w.embedded)
	}
	if _, err := k.Tenant(globexID).Agent(supportID).Search(t.Context(), "How do I send it back?", 1); err != nil ||
		w.embedded != 2 {
		t.Errorf("another tenant could tell by the time that it was asked: embedded %d times, %v", w.embedded, err)
	}
}

func TestSeveralQuestionsAreAnsweredOrNone(t *testing.T) {
	k, _, _ := shelf(t, testkit.Database(t), konstruct.Config{})
	agent := k.Tenant(acmeID).Agent(supportID)
	all, err := agent.SearchBatch(t.Context(),
		[]konstruct.SearchRequest{{Text: "How do I send it back?", TopK: 1}, {Text: "rotor", Mode: search.Lexical},
			{Text: "How often is the seal changed?", TopK: 1, Mode: search.Semantic}})
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	for i, want := range []string{"thirty days", "rotor", "mechanical seal"} {
		if len(all[i].Hits) != 1 || !strings.Contains(all[i].Hits[0].Content, want) {
			t.Errorf("question %d: %+v", i, all[i].Hits)
		}
		if _, documents := how(t, k, acmeID, all[i].EventID); len(documents) != 1 ||
			documents[0].ChunkID != all[i].Hits[0].ChunkID {
			t.Errorf("question %d: its record says %+v", i, documents)
		}
	}
	count := func() int {
		events, err := k.Tenant(acmeID).Events().List(t.Context(), konstruct.Filter{Action: audit.ActionRetrieval})
		if err != nil {
			t.Fatal(err)
		}
		return len(events)
	}
	before := count()
	if _, err := agent.SearchBatch(t.Context(),
		[]konstruct.SearchRequest{{Text: "rotor"}, {Text: "rotor", After: "nonsense"}}); err == nil ||
		count() != before {
		t.Errorf("one question of two is wrong: %v, %d events more", err, count()-before)
	}
	if _, err := agent.SearchBatch(t.Context(), nil); err == nil {
		t.Error("no question is answered")
	}
}

func TestWhatWasShownIsHeldAgainstWhatIsThere(t *testing.T) {
	d := testkit.Database(t)
	k, _, path := shelf(t, d, konstruct.Config{})
	agent, tenant := k.Tenant(acmeID).Agent(supportID), k.Tenant(acmeID)
	r, err := agent.SearchWith(t.Context(), konstruct.SearchRequest{Text: "pump rotor seal", TopK: 3, Neighbours: 1})
	if err != nil || len(r.Hits) != 3 {
		t.Fatal(r, err)
	}
	states := func() map[string]konstruct.PassageState {
		t.Helper()
		s, err := tenant.Events().CheckRetrieval(t.Context(), r.EventID)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]konstruct.PassageState{}
		for i, p := range s.Passages {
			if d := cmp.Diff([]*float64{r.Hits[i].Similarity, r.Hits[i].LexicalScore},
				[]*float64{p.Similarity, p.LexicalScore}); d != "" || p.Score != r.Hits[i].Score {
				t.Errorf("passage %d's score has other parts in its event:\n%s", i, d)
			}
			if p.Rank != i+1 || p.ChunkID != r.Hits[i].ChunkID || p.SHA256 != r.Hits[i].SHA256 ||
				len(p.Neighbours) != len(r.Hits[i].Before)+len(r.Hits[i].After) {
				t.Errorf("passage %d: %+v", i, p)
			}
			if (p.Content != "") != (p.State == konstruct.Unchanged) || p.Content != "" &&
				p.Content != r.Hits[i].Content {
				t.Errorf("%s with content %q", p.State, p.Content)
			}
			got[strings.Fields(r.Hits[i].Content)[1]] = p.State
		}
		return got
	}
	if d := cmp.Diff(map[string]konstruct.PassageState{"pump": konstruct.Unchanged, "the": konstruct.Unchanged,
		"mechanical": konstruct.Unchanged}, states()); d != "" {
		t.Error(d)
	}
	// The document is replaced: what it still says is still cited, what it says no more is gone.
	take(t, k, path, strings.Replace(handbook, "thirty", "sixty", 1))
	if d := cmp.Diff(map[string]konstruct.PassageState{"pump": konstruct.Deleted, "the": konstruct.Unchanged,
		"mechanical": konstruct.Unchanged}, states()); d != "" {
		t.Error(d)
	}
	// Another client writes over a passage.
	if err := tenant.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE kb_chunks SET content = 'Never rinse the rotor.' WHERE content LIKE 'Rinse%'`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]konstruct.PassageState{"pump": konstruct.Deleted, "the": konstruct.Changed,
		"mechanical": konstruct.Unchanged}, states()); d != "" {
		t.Error(d)
	}
	if _, err := k.Tenant(globexID).Events().CheckRetrieval(t.Context(), r.EventID); !errors.Is(err,
		audit.ErrNotFound) {
		t.Errorf("another tenant sees what was shown: %v", err)
	}
	other, err := agent.LogToolCall(t.Context(), konstruct.ToolCall{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tenant.Events().CheckRetrieval(t.Context(), other); !errors.Is(err, konstruct.ErrNoRetrieval) {
		t.Errorf("a tool call showed something: %v", err)
	}
}

// TestARerankerPutsHitsInOrder asks real servers in both shapes: one that prefers short passages.
func TestARerankerPutsHitsInOrder(t *testing.T) {
	d := testkit.Database(t)
	answer := func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query            string
			Documents, Texts []string
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Query == "" ||
			r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		var list []map[string]any
		for i, text := range append(q.Documents, q.Texts...) {
			list = append(list,
				map[string]any{"index": i, "score": -float64(len(text)), "relevance_score": -float64(len(text))})
		}
		slices.Reverse(list)
		if r.URL.Path == "/rerank" {
			_ = json.NewEncoder(w).Encode(list)
		} else {
			_ = json.NewEncoder(w).Encode(map[string]any{"results": list})
		}
	}
	s := httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(s.Close)
	for _, path := range []string{"/v1/rerank", "/v2/rerank", "/rerank"} {
		k, _, _ := shelf(t, testkit.Database(t),
			konstruct.Config{Reranker: &embed.Reranker{URL: s.URL + path, Key: "secret", Model: "short",
				Client: s.Client()}})
		r, err := k.Tenant(acmeID).Agent(supportID).
			SearchWith(t.Context(), konstruct.SearchRequest{Text: "pump rotor seal", TopK: 2, Rerank: true})
		if err != nil || len(r.Hits) != 2 || !strings.Contains(r.Hits[0].Content, "rotor") ||
			r.Hits[0].Score <= r.Hits[1].Score {
			t.Fatalf("%s: %+v, %v", path, r.Hits, err)
		}
		if h, documents := how(t, k, acmeID, r.EventID); h.Reranker != "short" || len(documents) != 2 ||
			documents[0].Score != r.Hits[0].Score {
			t.Errorf("%s: the record says %+v", path, h)
		}
	}
	k, _, _ := shelf(t, d,
		konstruct.Config{Reranker: &embed.Reranker{URL: s.URL + "/v1/rerank", Key: "wrong", Client: s.Client()}})
	if r, err := k.Tenant(acmeID).Agent(supportID).
		SearchWith(t.Context(), konstruct.SearchRequest{Text: "pump", Rerank: true}); err == nil || len(r.Hits) != 0 ||
		strings.Contains(err.Error(), "wrong") {
		t.Errorf("a reranker that refuses: %+v, %v", r, err)
	}
	without, _, _ := shelf(t, d, konstruct.Config{})
	if _, err := without.Tenant(acmeID).Agent(supportID).
		SearchWith(t.Context(), konstruct.SearchRequest{Text: "pump", Rerank: true}); err == nil ||
		!strings.Contains(err.Error(), "KONSTRUCT_RERANK_URL") {
		t.Errorf("no reranker: %v", err)
	}
}

// TestALargeTenantGetsAnIndexInTheBackground whichever client writes its passages, and it is tuned by the queries
// that were asked.
func TestALargeTenantGetsAnIndexInTheBackground(t *testing.T) {
	d := testkit.Database(t)
	testkit.Owner(t, d, `DROP INDEX ix_kb_chunks_hnsw`) // which would take most of this test's time
	k, _, _ := shelf(t, d, konstruct.Config{})
	tenant, agent := k.Tenant(acmeID), k.Tenant(acmeID).Agent(supportID)
	if err := tenant.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		b.Queue(`INSERT INTO kb_documents (tenant_id, id, agent_id, filename) VALUES ($1, $1, $1, 'many')`, acmeID)
		b.Queue(`INSERT INTO kb_chunks (tenant_id, document_id, content, embedding)
			SELECT $1, $1, 'passage ' || g, ARRAY(SELECT sin(g * i * 0.37 + i)::real
			FROM generate_series(1, 384) i)::vector FROM generate_series(1, 4100) g`, acmeID)
		return tx.SendBatch(ctx, &b).Close()
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Search(t.Context(), "How do I send it back?", 1); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() {
		end <- k.RunWorker(ctx,
			konstruct.WorkerConfig{WorkerURL: d.URL("konstruct_worker"), OwnerURL: d.URL("konstruct_owner")})
	}()
	var e search.Explanation
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		var err error
		if e, err = agent.ExplainSearch(t.Context(),
			konstruct.SearchRequest{Text: "How do I send it back?", Mode: search.Semantic}); err != nil {
			t.Fatal(err)
		}
		if e.Tier == search.Indexed && e.TenantIndex.TunedAt != nil {
			break
		}
		if time.Since(begin) > 90*time.Second {
			t.Fatalf("%s: %s; %+v", e.Tier, e.Reason, e.TenantIndex)
		}
	}
	stop()
	if err := <-end; err != nil {
		t.Error(err)
	}
	if e.Hits != 5 || e.Chunks < 4100 || !strings.Contains(strings.Join(e.Explain, "\n"), e.Index) ||
		e.TenantIndex.Bytes == 0 || e.Actual == 0 {
		t.Errorf("%d hits of %d passages, %d rows by %s: %+v", e.Hits, e.Chunks, e.Actual, e.Index, e.TenantIndex)
	}
	tuned, err := tenant.TuneIndex(t.Context())
	if err != nil || !tuned.Indexed || tuned.Recall == nil || *tuned.Recall < 0.95 || tuned.Queries < 20 ||
		len(tuned.Steps) == 0 {
		t.Errorf("%+v, %v", tuned, err)
	}
	r, err := agent.SearchWith(t.Context(),
		konstruct.SearchRequest{Text: "How do I send it back?", TopK: 3, Mode: search.Semantic,
			Where: []konstruct.Condition{{Field: "filename", Op: search.Prefix, Value: "hand"}}})
	if err != nil || len(r.Hits) != 3 || r.Hits[0].Filename != "handbook.md" {
		t.Fatalf("%+v, %v", r, err)
	}
	if h, _ := how(t, k, acmeID, r.EventID); h.Tier != string(r.Plan.Tier) || h.Depth == 0 ||
		fmt.Sprint(h.Where) == "<nil>" {
		t.Errorf("the record says %+v", h)
	}
}
