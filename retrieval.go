package konstruct

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// SearchResult is the result of a search, and its retrieval event.
type SearchResult struct {
	EventID uuid.UUID `json:"event_id"`
	Hits    []Hit     `json:"hits"`
	// Plan is how the search was executed.
	Plan search.Plan `json:"plan"`
	// Next is the cursor for SearchRequest.After; empty on the last page.
	Next string `json:"next,omitempty"`
	// Spelled are query words that no passage has, and the words searched instead.
	Spelled []search.Correction `json:"spelled,omitempty"`
	// Fallback is why the search was lexical only; empty when it ran in the requested mode.
	Fallback string `json:"fallback,omitempty"`
}

// SearchRequest is a search with all its options.
type SearchRequest struct {
	Text   string
	TopK   int    // 5 when zero, at most kb.MaxHits
	UserID string // who searches
	// Labels restrict the search to documents with one of these labels, beside those with none. A trusted program sets
	// them for its user; tenantdb.AllLabelsName is every label. Where the context was granted labels (WithLabels), they
	// must be among these, and empty means all that were granted.
	Labels         []string
	ConversationID string
	Extra          Metadata

	// Mode is how to search; empty is search.Hybrid. LexicalFallback permits a lexical search while the model is
	// unavailable; result and event record that.
	Mode            search.Mode
	LexicalFallback bool
	// Operators says whether quotes, hyphens and asterisks are commands, or parts of a natural question. Nil makes them
	// commands in lexical mode only. See search.Query.
	Operators *bool
	// Duplicates returns each of several equal passages. Else they take one place; Hit.Also names the others.
	Duplicates bool
	// Collections are those that are searched, by their names or ids; none searches all of the tenant's documents.
	Collections []string
	// Where are conditions on documents, and Filter is what they must meet beside these. MinScore, Diversity,
	// PerDocument, Neighbours, After and Within are as in search.Query.
	Where       []Condition
	Filter      *search.Filter
	MinScore    *float64
	Diversity   float64
	PerDocument bool
	Neighbours  int
	After       string
	Within      time.Duration
	// Weights are what similarity and words count in hybrid mode; nil is the default.
	Weights *search.Weights
	// Rerank has Config.Reranker reorder the first fifty hits; scores are then the reranker's.
	Rerank bool
}

// Reranks reports whether there is a reranker: see SearchRequest.Rerank.
func (k *Konstruct) Reranks() bool { return k.reranker != nil }

// MaxQuery is the largest length of a query, in bytes; the model reads some 256 tokens of it.
const MaxQuery = search.MaxText

// MaxSearches is the largest number of searches in a SearchBatch.
const MaxSearches = 100

// rerankDepth is the number of hits that a reranker scores.
const rerankDepth = 50

// Search returns the topK passages that match the question best (5 when topK is zero), best first. It records a
// retrieval event that cites them in the same transaction: there is no result without its event.
func (a *Agent) Search(ctx context.Context, question string, topK int) (SearchResult, error) {
	return a.SearchWith(ctx, SearchRequest{Text: question, TopK: topK})
}

// SearchWith is Search with all options.
func (a *Agent) SearchWith(ctx context.Context, q SearchRequest) (SearchResult, error) {
	all, err := a.SearchBatch(ctx, []SearchRequest{q})
	if err != nil {
		return SearchResult{}, err
	}
	return all[0], nil
}

// SearchBatch runs several searches in one transaction: all return a result and record an event, or none does.
func (a *Agent) SearchBatch(ctx context.Context, questions []SearchRequest) (all []SearchResult, err error) {
	start := time.Now()
	if len(questions) < 1 || len(questions) > MaxSearches {
		return nil, &search.QueryError{Field: "questions",
			Reason: fmt.Sprintf("there are %d: it is 1 to %d", len(questions), MaxSearches)}
	}
	questions = slices.Clone(questions)
	sees := make([]tenantdb.Labels, len(questions))
	for i := range questions {
		if err := a.completeRequest(&questions[i]); err != nil {
			return nil, err
		}
		if sees[i], err = a.searchLabels(ctx, &questions[i]); err != nil {
			return nil, err
		}
	}
	ctx = tenantdb.WithLabels(ctx, sees[0])
	model, err := a.t.k.searcher.Model(ctx, a.t.k.door, a.t.id)
	if err != nil {
		return nil, err
	}
	for { // again when the tenant has switched models meanwhile
		all, err = a.searchBatch(ctx, questions, sees, model, start)
		var other *search.ModelChangedError
		if !errors.As(err, &other) || other.Model == model {
			return all, err
		}
		model = other.Model
	}
}

// completeRequest checks a request as far as possible without the database, and fills in defaults.
func (a *Agent) completeRequest(q *SearchRequest) error {
	q.TopK, q.Mode = cmp.Or(q.TopK, 5), cmp.Or(q.Mode, search.Hybrid)
	switch {
	case strings.TrimSpace(q.Text) == "":
		return &search.QueryError{Field: "text", Reason: "the question is empty"}
	case len(q.Text) > MaxQuery:
		return &search.QueryError{Field: "text",
			Reason: fmt.Sprintf("the question is %d bytes long, the limit is %d", len(q.Text), MaxQuery)}
	case kb.CheckSearchLabels(q.Labels) != nil:
		return &search.QueryError{Field: "labels", Reason: kb.CheckSearchLabels(q.Labels).Error()}
	case q.TopK < 1 || q.TopK > search.MaxHits:
		return &search.QueryError{Field: "top-k", Reason: fmt.Sprintf("%d: it is 1 to %d", q.TopK, search.MaxHits)}
	case q.Rerank && a.t.k.reranker == nil:
		return &search.QueryError{Field: "rerank",
			Reason: "there is no reranker: its operator sets KONSTRUCT_RERANK_URL"}
	case q.Rerank && (q.After != "" || q.Diversity > 0):
		return &search.QueryError{Field: "rerank", Reason: "can't be combined with after or diversity"}
	}
	return nil
}

// searchLabels returns the labels that a search may see.
func (a *Agent) searchLabels(ctx context.Context, q *SearchRequest) (tenantdb.Labels, error) {
	asked, door := tenantdb.LabelsOf(q.Labels...), a.t.k.door
	if door.Trusts(ctx) {
		return asked, nil
	}
	granted := door.CanSee(ctx)
	if len(q.Labels) == 0 {
		return granted, nil
	}
	if name, lacks := granted.Missing(asked.Names()); lacks {
		return asked, &tenantdb.GrantError{Field: "labels",
			Reason: fmt.Sprintf("%.120q is not granted to you: leave it out, or ask for it", name)}
	}
	return asked, nil
}

// operators reports whether quotes, hyphens and asterisks are commands.
func (q *SearchRequest) operators() bool {
	if q.Operators == nil {
		return q.Mode == search.Lexical
	}
	return *q.Operators
}

// kbQuery converts a request into a query of the knowledge base.
func (q *SearchRequest) kbQuery(model string, vector []float32) search.Query {
	k := q.TopK
	if q.Rerank {
		k = max(k, rerankDepth)
	}
	return search.Query{Mode: q.Mode, Text: q.Text, Operators: q.operators(), Natural: !q.operators(),
		Duplicates: q.Duplicates, Vector: vector, Model: model, K: k, Where: q.Where, Filter: q.Filter,
		MinScore: q.MinScore, Diversity: q.Diversity, PerDocument: q.PerDocument,
		Neighbours: q.Neighbours, Weights: q.Weights, After: q.After, Within: q.Within}
}

// searchBatch is SearchBatch with one model.
func (a *Agent) searchBatch(ctx context.Context, questions []SearchRequest, sees []tenantdb.Labels, model string,
	start time.Time) ([]SearchResult, error) {
	vectors, name, down := a.t.k.embedQuestions(ctx, a.t.id, questions, model)
	all := make([]SearchResult, len(questions))
	err := a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) (err error) {
		for i := range questions {
			if ctx, err = tenantdb.SetLabels(ctx, tx, sees[i]); err != nil {
				return err
			}
			q := questions[i]
			all[i] = SearchResult{}
			if q.Mode != search.Lexical && down != nil {
				if !q.LexicalFallback || ctx.Err() != nil {
					return down
				}
				q.Mode, all[i].Fallback = search.Lexical, "the model can't be reached: "+down.Error()
			}
			if err := a.searchOne(ctx, tx, &q, q.kbQuery(model, vectors[i]), name, start, &all[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// searchOne runs one search and records its event.
func (a *Agent) searchOne(ctx context.Context, tx pgx.Tx, q *SearchRequest, query search.Query, model string,
	start time.Time, r *SearchResult) (err error) {
	if query.Collections, err = a.findCollections(ctx, tx, q); err != nil {
		return err
	}
	f, err := a.t.k.searcher.SearchInTx(ctx, tx, a.t.id, query)
	if err != nil {
		return err
	}
	r.Hits, r.Plan, r.Next, r.Spelled = f.Hits, f.Plan, f.Next, f.Corrections
	labels, _ := tenantdb.Granted(ctx)
	how := audit.SearchOptions{Mode: string(f.Plan.Mode), Tier: string(f.Plan.Tier), EfSearch: f.Plan.EfSearch,
		Depth: f.Plan.Depth, Collections: query.Collections, Labels: labels.Names(), MinScore: q.MinScore,
		Diversity:   q.Diversity,
		PerDocument: q.PerDocument, Operators: q.Operators, Duplicates: q.Duplicates, Neighbours: q.Neighbours,
		After: q.After, Fallback: r.Fallback}
	if len(query.Collections) > 0 {
		if err := kb.TouchCollections(ctx, tx, a.t.id, query.Collections); err != nil {
			return err
		}
	}
	if len(q.Where) > 0 {
		how.Where = q.Where
	}
	if q.Filter != nil {
		how.Filter = q.Filter
	}
	if q.Weights != nil {
		how.Weights = q.Weights
	}
	if len(f.Corrections) > 0 {
		how.Corrections = visibleCorrections(f.Corrections, labels)
	}
	if q.Rerank {
		if how.Reranker, err = a.rerank(ctx, q, r); err != nil {
			return err
		}
	}
	shown := make([]audit.RetrievedPassage, len(r.Hits))
	for i, h := range r.Hits {
		if query.Model == "" && h.Similarity != nil && h.Recipe != "" && !kb.RecipeModel(h.Recipe, model) {
			return fmt.Errorf(
				"konstruct: %s was ingested with another model than %s: ingest it again, or search with its model",
				h.Filename, model)
		}
		shown[i] = audit.RetrievedPassage{ChunkID: h.ChunkID, Score: h.Score, DocumentID: h.DocumentID,
			SHA256: h.SHA256, Version: h.Version, Similarity: h.Similarity, LexicalScore: h.LexicalScore}
		for _, t := range h.Also[:min(len(h.Also), maxRecordedTwins)] {
			shown[i].Also = append(shown[i].Also, t.ChunkID)
		}
		for _, p := range slices.Concat(h.Before, h.After) {
			sum := sha256.Sum256([]byte(p.Content))
			shown[i].Neighbours = append(shown[i].Neighbours,
				audit.Neighbour{ChunkID: p.ChunkID, SHA256: hex.EncodeToString(sum[:])})
		}
	}
	if q.Mode == search.Lexical {
		model = "" // nothing was embedded
	}
	r.EventID, err = a.record(ctx, tx,
		audit.Retrieval{AgentID: a.id, UserID: q.UserID, Query: q.Text, Model: model, TopK: q.TopK, Passages: shown,
			Options: how,
			Latency: time.Since(start), ConversationID: q.ConversationID, Extra: q.Extra}.Event)
	return err
}

// findCollections returns the ids of the collections that a search names.
func (a *Agent) findCollections(ctx context.Context, tx pgx.Tx, q *SearchRequest) ([]uuid.UUID, error) {
	ids, err := kb.FindCollections(ctx, tx, a.t.id, q.Collections)
	var name *kb.CollectionNameError
	if errors.As(err, &name) {
		return nil, &search.QueryError{Field: "collections", Reason: name.Error()}
	}
	return ids, err
}

// maxRecordedTwins is the largest number of equal passages that an event names beside one.
const maxRecordedTwins = 10

// visibleCorrections returns the spelling corrections for an event. It omits the corrected words when the search could
// see labelled documents: a reader of the trail may not see these.
func visibleCorrections(all []search.Correction, labels tenantdb.Labels) []search.Correction {
	if labels == (tenantdb.Labels{}) {
		return all
	}
	visible := make([]search.Correction, len(all))
	for i := range all {
		visible[i].From = all[i].From
	}
	return visible
}

// rerank sorts hits by the reranker's scores, sets these, and returns its name.
func (a *Agent) rerank(ctx context.Context, q *SearchRequest, r *SearchResult) (string, error) {
	texts := make([]string, len(r.Hits))
	for i := range r.Hits {
		texts[i] = strings.Join(append(slices.Clone(r.Hits[i].Headings), r.Hits[i].Content), "\n")
	}
	name := cmp.Or(a.t.k.reranker.Model, "reranker")
	if len(texts) == 0 {
		return name, nil
	}
	scores, err := a.t.k.reranker.Rerank(ctx, search.PlainText(q.Text, q.operators()), texts)
	if err != nil {
		return "", err
	}
	for i := range r.Hits {
		r.Hits[i].Score = scores[i]
	}
	slices.SortStableFunc(r.Hits, func(x, y Hit) int { return cmp.Compare(y.Score, x.Score) })
	r.Hits, r.Next = r.Hits[:min(q.TopK, len(r.Hits))], ""
	return name, nil
}

// vectorKey is the cache key of a query's vector. It has the tenant, so that response times don't tell one tenant what
// another searched.
type vectorKey struct {
	tenant uuid.UUID
	model  string
	sum    [sha256.Size]byte // of the text
}

// vectorCacheSize is the number of cached query vectors, of some 2 KB each at 384 dimensions.
const vectorCacheSize = 10_000

// embedQuestions returns the vectors of the requests that need one, and the model's name. down is why there are none.
func (k *Konstruct) embedQuestions(ctx context.Context, tenant uuid.UUID, questions []SearchRequest,
	model string) (vectors [][]float32, name string, down error) {
	vectors = make([][]float32, len(questions))
	if !slices.ContainsFunc(questions, func(q SearchRequest) bool { return q.Mode != search.Lexical }) {
		return vectors, "", nil
	}
	e, err := k.model(model)
	if err != nil {
		return vectors, "", err
	}
	var texts []string
	var positions []int
	var keys []vectorKey
	for i := range questions {
		text := search.PlainText(questions[i].Text, questions[i].operators())
		key := vectorKey{tenant, model, sha256.Sum256([]byte(text))}
		if v, ok := k.vectorCache.Get(key); ok {
			vectors[i] = v
		} else if questions[i].Mode != search.Lexical {
			texts, positions, keys = append(texts, text), append(positions, i), append(keys, key)
		}
	}
	if len(texts) == 0 {
		return vectors, e.Name(), nil
	}
	made, err := e.Embed(ctx, texts)
	if err != nil {
		return vectors, e.Name(), err
	}
	for i, v := range made {
		vectors[positions[i]] = v
		k.vectorCache.Add(keys[i], v)
	}
	return vectors, e.Name(), nil
}
