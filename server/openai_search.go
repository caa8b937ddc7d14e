package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
)

// openAISearch is a search in a vector store.
type openAISearch struct {
	Query          json.RawMessage `json:"query"`
	Filters        json.RawMessage `json:"filters"`
	MaxNumResults  *int            `json:"max_num_results"`
	RewriteQuery   bool            `json:"rewrite_query"` // it is not done
	RankingOptions *struct {
		Ranker         *string  `json:"ranker"`
		ScoreThreshold *float64 `json:"score_threshold"`
		HybridSearch   *struct {
			EmbeddingWeight *float64 `json:"embedding_weight"`
			TextWeight      *float64 `json:"text_weight"`
		} `json:"hybrid_search"`
	} `json:"ranking_options"`
}

// Limits on a search.
const (
	maxStoreResults     = 50
	defaultStoreResults = 10
	maxStoreQueries     = 10
)

// openAIResult is a passage of a file.
type openAIResult struct {
	FileID     string          `json:"file_id"`
	Filename   string          `json:"filename"`
	Score      float64         `json:"score"`
	Attributes map[string]any  `json:"attributes"`
	Content    []openAIContent `json:"content"`
}

// queries are the texts that are searched.
func (q *openAISearch) queries() (all []string, err error) {
	var one string
	switch {
	case json.Unmarshal(q.Query, &one) == nil && string(q.Query) != "null":
		return []string{one}, nil
	case json.Unmarshal(q.Query, &all) != nil || len(all) == 0:
		return nil, openAIField("query", "it is a text, or a list of texts")
	case len(all) > maxStoreQueries:
		return nil, openAIField("query", fmt.Sprintf("there are %d, the limit is %d", len(all), maxStoreQueries))
	}
	return all, nil
}

// request is the search of one text, without it, and the least score; rerank says whether there is a reranker.
func (q *openAISearch) request(store uuid.UUID, rerank bool) (out konstruct.SearchRequest, least float64, err error) {
	out = konstruct.SearchRequest{Collections: []string{store.String()}, Mode: search.Hybrid, Rerank: rerank,
		TopK: defaultStoreResults}
	if q.MaxNumResults != nil {
		if out.TopK = *q.MaxNumResults; out.TopK < 1 || out.TopK > maxStoreResults {
			return out, 0, openAIField("max_num_results", fmt.Sprintf("%d: it is 1 to %d", out.TopK, maxStoreResults))
		}
	}
	o := q.RankingOptions
	if o == nil {
		return out, 0, nil
	}
	if o.ScoreThreshold != nil {
		if least = *o.ScoreThreshold; least < 0 || least > 1 {
			return out, 0, openAIField("ranking_options.score_threshold", fmt.Sprintf("%v: it is 0 to 1", least))
		}
	}
	if o.Ranker != nil {
		switch *o.Ranker {
		case "none":
			out.Mode, out.Rerank = search.Semantic, false
		case "auto", "default-2024-11-15", "default_2024_08_21":
		default:
			return out, 0, openAIField("ranking_options.ranker", fmt.Sprintf("%.40q: it is auto or none", *o.Ranker))
		}
	}
	if h := o.HybridSearch; h != nil {
		if h.EmbeddingWeight == nil || h.TextWeight == nil || !(*h.EmbeddingWeight >= 0 && *h.TextWeight >= 0 &&
			*h.EmbeddingWeight+*h.TextWeight > 0 && *h.EmbeddingWeight+*h.TextWeight < math.MaxFloat64) {
			return out, 0, openAIField("ranking_options.hybrid_search",
				"it has embedding_weight and text_weight, which are 0 or more and not both 0")
		}
		// The weights decide the order: a reranker would not obey them.
		out.Mode, out.Rerank, out.Weights = search.Hybrid, false,
			&search.Weights{Semantic: *h.EmbeddingWeight, Lexical: *h.TextWeight}
	}
	if least > 0 && !out.Rerank {
		out.MinScore = &least
	}
	return out, least, nil
}

// searchStore searches a vector store. Each text of a list is searched and recorded, and a passage that several find
// has its best score.
func (s *Server) searchStore(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
	store, err := pathID(r, "store", storePrefix)
	if err != nil {
		return nil, err
	}
	var in openAISearch
	if err := readOpenAI(r, &in); err != nil {
		return nil, err
	}
	texts, err := in.queries()
	if err != nil {
		return nil, err
	}
	one, least, err := in.request(store, s.c.Konstruct.Reranks())
	if err != nil {
		return nil, err
	}
	if one.Filter, err = storeFilter(in.Filters); err != nil {
		return nil, err
	}
	requests := make([]konstruct.SearchRequest, len(texts))
	for i, text := range texts {
		requests[i] = one
		requests[i].Text = text
	}
	if err := s.meter.SetCapacity(ctx, w, access.Searches, len(requests), "searches"); err != nil {
		return nil, err
	}
	found, err := s.agent(w, w.Agent).SearchBatch(ctx, requests)
	if err != nil {
		return nil, s.storeSearchError(ctx, w, store, err)
	}
	hits := mergeHits(found, one.Rerank)
	documents := make([]uuid.UUID, len(hits))
	for i := range hits {
		documents[i] = hits[i].DocumentID
	}
	entries, err := s.tenant(w).Collections().EntriesIn(ctx, []uuid.UUID{store}, documents)
	if err != nil {
		return nil, err
	}
	results := []openAIResult{}
	for _, h := range hits {
		e, there := entries[h.DocumentID] // else it was taken out meanwhile
		if there && h.Score >= least && len(results) < one.TopK {
			results = append(results, openAIResult{fileID(e.ID), h.Filename, h.Score, e.Attributes,
				[]openAIContent{{"text", h.Content}}})
		}
	}
	return map[string]any{"object": "vector_store.search_results.page", "search_query": texts, "data": results,
		"has_more": false, "next_page": nil}, nil
}

// storeFilter reads a filter of the attributes of files; nil where there is none.
func storeFilter(raw json.RawMessage) (*search.Filter, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	f, err := search.ParseAttributeFilter(raw)
	var bad *search.QueryError
	if errors.As(err, &bad) {
		return nil, openAIField(bad.Field, bad.Reason)
	}
	return f, err
}

// mergeHits returns the hits of all searches, the best first, each passage once, with scores from 0 to 1. Those of a
// reranker that has others are mapped by the logistic function, which keeps their order.
func mergeHits(found []konstruct.SearchResult, reranked bool) (hits []konstruct.Hit) {
	logistic := reranked && slices.ContainsFunc(found, func(f konstruct.SearchResult) bool {
		return slices.ContainsFunc(f.Hits, func(h konstruct.Hit) bool { return h.Score < 0 || h.Score > 1 })
	})
	for _, f := range found {
		for _, h := range f.Hits {
			if logistic {
				h.Score = 1 / (1 + math.Exp(-h.Score))
			}
			h.Score = min(max(h.Score, 0), 1)
			hits = append(hits, h)
		}
	}
	if len(found) == 1 {
		return hits
	}
	slices.SortStableFunc(hits, func(a, b konstruct.Hit) int { return cmp.Compare(b.Score, a.Score) })
	seen := map[uuid.UUID]bool{}
	return slices.DeleteFunc(hits, func(h konstruct.Hit) bool {
		again := seen[h.ChunkID]
		seen[h.ChunkID] = true
		return again
	})
}

// storeSearchError names the field of OpenAI's API, and says whether the vector store is gone or has expired.
func (s *Server) storeSearchError(ctx context.Context, w access.Principal, store uuid.UUID, err error) error {
	var query *search.QueryError
	if !errors.As(err, &query) {
		return err
	}
	switch query.Field {
	case "collections":
		c, getErr := s.tenant(w).Collections().Get(ctx, store.String())
		if getErr == nil && c.Expired {
			return kb.ErrCollectionExpired
		}
		return kb.ErrNoCollection
	case "text":
		return openAIField("query", query.Reason)
	}
	return err
}
