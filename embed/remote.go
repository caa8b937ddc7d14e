package embed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/konstruct/konstruct/disclosure"
)

// Remote is an OpenAI-compatible endpoint: POST {BaseURL}/embeddings. Set its fields before the first use.
type Remote struct {
	BaseURL string // for example https://api.openai.com/v1
	Key     string // sent as a bearer token; empty for none
	Model   string // for example text-embedding-3-small
	Client  *http.Client
	// Length is the requested number of dimensions; 384 when zero.
	Length int
	// Attempts is the number of attempts for a request, 5 when zero. Between attempts it waits as Retry-After says, or
	// 0.5 s, doubled each time, at most a minute.
	Attempts int
}

// Limits on requests and responses.
const (
	remoteBatch    = 64
	remoteResponse = 16 << 20
	longestWait    = time.Minute
	firstWait      = 500 * time.Millisecond
)

// Name implements Embedder.
func (r *Remote) Name() string { return r.Model }

// Dimensions implements Embedder.
func (r *Remote) Dimensions() int {
	if r.Length > 0 {
		return r.Length
	}
	return Dimensions
}

// Close implements Embedder.
func (r *Remote) Close() error { return nil }

// errRemote is what a tenant may read of a failure of the endpoint.
var errRemote = errors.New("the embedding model can't be asked now")

// Embed implements Embedder.
func (r *Remote) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, 0, len(texts))
	for batch := range slices.Chunk(texts, remoteBatch) {
		vectors, err := r.batch(ctx, batch)
		if err != nil {
			return nil, disclosure.Hide(errRemote, fmt.Errorf("embed with %s at %s: %w", r.Model, r.BaseURL, err))
		}
		out = append(out, vectors...)
	}
	return out, nil
}

// retryable is an error after which the request can be tried again, after wait.
type retryable struct {
	err  error
	wait time.Duration
}

func (e *retryable) Error() string { return e.err.Error() }
func (e *retryable) Unwrap() error { return e.err }

func (r *Remote) batch(ctx context.Context, texts []string) ([][]float32, error) {
	body, err := json.Marshal(map[string]any{"model": r.Model, "input": texts, "dimensions": r.Dimensions(),
		"encoding_format": "float"})
	if err != nil {
		return nil, err
	}
	attempts := r.Attempts
	if attempts == 0 {
		attempts = 5
	}
	for try := 1; ; try++ {
		vectors, err := r.post(ctx, body, len(texts))
		var again *retryable
		if !errors.As(err, &again) || ctx.Err() != nil {
			return vectors, err
		}
		if try >= attempts {
			return nil, fmt.Errorf("gave up after %d tries: %w", try, again.err)
		}
		wait := again.wait
		if wait == 0 {
			wait = backoff(try)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w while waiting to try again after: %w", ctx.Err(), again.err)
		case <-time.After(min(wait, longestWait)):
		}
	}
}

// backoff is the wait after a failed attempt, counted from 1: it doubles up to longestWait, plus up to a quarter at
// random, so that many clients spread out.
func backoff(try int) time.Duration {
	wait := firstWait
	for range try - 1 {
		if wait = min(2*wait, longestWait); wait == longestWait { // which keeps it from overflowing
			break
		}
	}
	return wait + rand.N(wait/4)
}

func (r *Remote) post(ctx context.Context, body []byte, n int) ([][]float32, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.BaseURL, "/")+"/embeddings",
		bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if r.Key != "" {
		req.Header.Set("Authorization", "Bearer "+r.Key)
	}
	resp, err := cmp.Or(r.Client, http.DefaultClient).Do(req)
	if err != nil {
		return nil, &retryable{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, remoteResponse+1))
	if err != nil {
		return nil, &retryable{err: fmt.Errorf("read the answer: %w", err)}
	}
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("the endpoint answered %s: %.300s", resp.Status, bytes.TrimSpace(raw))
		if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout ||
			resp.StatusCode >= 500 {
			return nil, &retryable{err, retryAfter(resp.Header.Get("Retry-After"), time.Now())}
		}
		return nil, err
	}
	if len(raw) > remoteResponse {
		return nil, fmt.Errorf("the answer is larger than %d bytes", remoteResponse)
	}
	return r.decode(raw, n)
}

// retryAfter parses Retry-After (RFC 9110): seconds or a date. It is zero if the header is missing or invalid.
func retryAfter(h string, now time.Time) time.Duration {
	if s, err := strconv.Atoi(h); err == nil && s > 0 {
		return time.Duration(min(s, int(longestWait/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(h); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

func (r *Remote) decode(raw []byte, n int) ([][]float32, error) {
	var answer struct {
		Data []struct {
			Index     int       `json:"index"`
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("the answer is not that of an embeddings endpoint: %w", err)
	}
	out := make([][]float32, n)
	for _, d := range answer.Data {
		if d.Index < 0 || d.Index >= n || out[d.Index] != nil {
			return nil, fmt.Errorf("the answer has a vector for text %d of %d, or two", d.Index, n)
		}
		if len(d.Embedding) != r.Dimensions() {
			return nil, fmt.Errorf("model %s gives vectors of %d dimensions, and %d are wanted: choose a model that "+
				"has so many or can be asked for them",
				r.Model, len(d.Embedding), r.Dimensions())
		}
		for _, x := range d.Embedding {
			if math.IsInf(float64(x), 0) {
				return nil, errors.New("the answer has a vector that is not finite")
			}
		}
		out[d.Index] = normalize(d.Embedding)
	}
	for i, v := range out {
		if v == nil {
			return nil, fmt.Errorf("the answer has no vector for text %d of %d", i, n)
		}
	}
	return out, nil
}
