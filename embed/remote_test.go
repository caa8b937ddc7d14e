package embed_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/konstruct/konstruct/embed"
)

// endpoint answers like OpenAI's: vectors of dims numbers, in reverse order, failing the first times.
func endpoint(t *testing.T, dims int, fail int32, failStatus int,
	header map[string]string) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		if n <= fail {
			for k, v := range header {
				w.Header().Set(k, v)
			}
			http.Error(w, `{"error":{"message":"slow down"}}`, failStatus)
			return
		}
		var in struct {
			Model string
			Input []string
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("Authorization") != "Bearer k" ||
			in.Model != "m" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		var data []string
		for i := len(in.Input) - 1; i >= 0; i-- {
			v := make([]float32, dims)
			v[len(in.Input[i])%dims] = 3
			b, _ := json.Marshal(v)
			data = append(data, fmt.Sprintf(`{"index":%d,"embedding":%s}`, i, b))
		}
		fmt.Fprintf(w, `{"object":"list","data":[%s]}`, strings.Join(data, ","))
	}))
	t.Cleanup(s.Close)
	return s, &calls
}

func TestRemoteKeepsOrderAndLength(t *testing.T) {
	s, calls := endpoint(t, embed.Dimensions, 0, 0, nil)
	r := &embed.Remote{BaseURL: s.URL, Key: "k", Model: "m"}
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = strings.Repeat("x", i)
	}
	got, err := r.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if v[i] != 1 {
			t.Fatalf("vector %d is not text %d's, or not of unit length", i, i)
		}
	}
	if calls.Load() != 2 {
		t.Errorf("%d requests for 100 texts, want 2", calls.Load())
	}
}

func TestRemoteNamesWrongDimensions(t *testing.T) {
	s, _ := endpoint(t, 1536, 0, 0, nil)
	_, err := (&embed.Remote{BaseURL: s.URL, Key: "k", Model: "m"}).Embed(t.Context(), []string{"x"})
	if err == nil || !strings.Contains(err.Error(), "1536 dimensions") || !strings.Contains(err.Error(), "384") {
		t.Errorf("error %v", err)
	}
}

func TestRemoteWaitsAsRetryAfterSays(t *testing.T) {
	s, calls := endpoint(t, embed.Dimensions, 1, http.StatusTooManyRequests, map[string]string{"Retry-After": "1"})
	start := time.Now()
	if _, err := (&embed.Remote{BaseURL: s.URL, Key: "k", Model: "m"}).Embed(t.Context(), []string{"x"}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second || calls.Load() != 2 {
		t.Errorf("%d requests in %v, want 2 with a second between", calls.Load(), took)
	}
}

func TestRemoteGivesUpAndDoesNotRepeatARefusal(t *testing.T) {
	s, calls := endpoint(t, embed.Dimensions, 99, http.StatusServiceUnavailable, nil)
	_, err := (&embed.Remote{BaseURL: s.URL, Key: "k", Model: "m", Attempts: 2}).Embed(t.Context(), []string{"x"})
	if err == nil || !strings.Contains(err.Error(), "gave up after 2 tries") || calls.Load() != 2 {
		t.Errorf("%d requests, error %v", calls.Load(), err)
	}
	s, calls = endpoint(t, embed.Dimensions, 99, http.StatusUnauthorized, nil)
	_, err = (&embed.Remote{BaseURL: s.URL, Key: "wrong", Model: "m"}).Embed(t.Context(), []string{"x"})
	if err == nil || !strings.Contains(err.Error(), "401") || calls.Load() != 1 {
		t.Errorf("%d requests, error %v", calls.Load(), err)
	}
}

// TestARerankerNeedsNoClient has one without.
func TestARerankerNeedsNoClient(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`[{"index":0,"score":0.5}]`))
	}))
	defer s.Close()
	scores, err := (&embed.Reranker{URL: s.URL + "/rerank"}).Rerank(t.Context(), "x", []string{"y"})
	if err != nil || len(scores) != 1 || scores[0] != 0.5 {
		t.Errorf("%v, %v", scores, err)
	}
}
