package embed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
)

// Reranker scores each passage by how well it answers the question, with a cross-encoder.
type Reranker struct {
	// URL is the address of an endpoint with the API of Cohere and Jina, if it contains /v1/rerank or /v2/rerank, or
	// else with that of text-embeddings-inference (…/rerank).
	URL   string
	Key   string // sent as a bearer token; none when empty
	Model string // not sent to text-embeddings-inference, which serves one
	// Client sends the requests, and its timeout limits each; http.DefaultClient when nil.
	Client *http.Client
}

// maxReranked is the largest response in bytes.
const maxReranked = 1 << 20

// Rerank returns a score for each passage, in the order of the passages; higher is better. The scale depends on the
// model.
func (r *Reranker) Rerank(ctx context.Context, question string, passages []string) ([]float64, error) {
	one := !strings.Contains(r.URL, "/v1/rerank") && !strings.Contains(r.URL, "/v2/rerank")
	var body any = map[string]any{"model": r.Model, "query": question, "documents": passages, "top_n": len(passages)}
	if one {
		body = map[string]any{"query": question, "texts": passages, "truncate": true}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("rerank: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("rerank: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if r.Key != "" {
		req.Header.Set("Authorization", "Bearer "+r.Key)
	}
	resp, err := cmp.Or(r.Client, http.DefaultClient).Do(req)
	if err != nil {
		return nil, fmt.Errorf("rerank: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxReranked))
	if err != nil {
		return nil, fmt.Errorf("rerank: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("rerank: %s answers %s: %.200s", req.URL.Redacted(), resp.Status,
			bytes.TrimSpace(answer))
	}
	return readScores(answer, one, len(passages))
}

func readScores(answer []byte, one bool, n int) ([]float64, error) {
	type score struct {
		Index     int      `json:"index"`
		Score     *float64 `json:"score"`
		Relevance *float64 `json:"relevance_score"`
	}
	var list []score
	var err error
	if one {
		err = json.Unmarshal(answer, &list)
	} else {
		var whole struct {
			Results []score `json:"results"`
		}
		err = json.Unmarshal(answer, &whole)
		list = whole.Results
	}
	if err != nil {
		return nil, fmt.Errorf("rerank: the answer is not what it should be: %w", err)
	}
	scores := make([]float64, n)
	for i := range scores {
		scores[i] = math.NaN()
	}
	for _, s := range list {
		value := s.Relevance
		if value == nil {
			value = s.Score
		}
		if s.Index < 0 || s.Index >= n || value == nil {
			return nil, fmt.Errorf("rerank: the answer scores passage %d of %d", s.Index, n)
		}
		scores[s.Index] = *value
	}
	for i, s := range scores {
		if math.IsNaN(s) {
			return nil, fmt.Errorf("rerank: the answer has no score for passage %d of %d", i, n)
		}
	}
	return scores, nil
}
