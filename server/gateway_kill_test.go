package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
)

// TestAKilledGatewayLosesNoCompleteCall kills the service while clients stream, half of them answers about files that
// the service searches. Whoever had a stream's last event finds the call on the trail, and once; of a search of files,
// both calls of the model and the search.
func TestAKilledGatewayLosesNoCompleteCall(t *testing.T) {
	up := testkit.LLM(t)
	w := serve(t) // for its database and keys
	key := w.key(acme, access.GatewayUse, access.KBRead)
	tools := `,"tools":[` + fileTool(w.store(acme, "handbook", nil, map[string]string{"a.md": returnsText}), "") + `]`
	dir := t.TempDir()
	config := filepath.Join(dir, "gateway.json")
	vendor := filepath.Join(dir, "vendor.key")
	for path, text := range map[string]string{vendor: llmfake.Key, filepath.Join(dir, "secret"): string(pepper),
		config: `{"upstreams":[{"name":"fake","api":"openai","base_url":"` + up.URL + `/openai/v1","key_file":"` +
			vendor + `"}]}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	p := &process{t: t, bin: testkit.Build(t), addr: addr, log: &logBuffer{}, env: []string{"KONSTRUCT_LISTEN=" + addr,
		"KONSTRUCT_DATABASE_URL=" + w.d.URL("konstruct_app"), "KONSTRUCT_METRICS_LISTEN=off",
		"KONSTRUCT_DATA_DIR=" + dir, "KONSTRUCT_KEY_SECRET_FILE=" + filepath.Join(dir, "secret"),
		"KONSTRUCT_GATEWAY_FILE=" + config}}
	done := map[string]bool{} // the conversations that were complete
	var mu sync.Mutex
	for round := range 3 {
		p.start()
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		for client := range 4 {
			wait.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					id, more := fmt.Sprintf("talk-%d-%d-%d", round, client, n), ""
					if client%2 == 1 {
						id, more = "search-"+id, tools
					}
					if streamed(ctx, "http://"+addr, key, id, more) {
						mu.Lock()
						done[id] = true
						mu.Unlock()
					}
				}
			})
		}
		testkit.Until(t, "files are searched", func() bool { // the embedding model is loaded first
			mu.Lock()
			defer mu.Unlock()
			for id := range done {
				if strings.HasPrefix(id, fmt.Sprintf("search-talk-%d-", round)) {
					return true
				}
			}
			return false
		})
		time.Sleep(time.Duration(700+round*137) * time.Millisecond)
		p.kill()
		cancel()
		wait.Wait()
	}
	recorded := map[string]int{}
	for _, action := range []string{audit.ActionLLMCall, audit.ActionRetrieval} {
		for e, err := range w.k.Tenant(acme).Events().All(t.Context(), audit.Filter{Action: action}) {
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(e.Metadata), `"gen_ai.conversation.id": "`)
			id, _, _ := strings.Cut(rest, `"`)
			recorded[id]++
		}
	}
	searches := 0
	for id := range done {
		want := 1
		if strings.HasPrefix(id, "search-") {
			want = 3
			searches++
		}
		if recorded[id] != want {
			t.Errorf("%s was complete, and has %d events on the trail, want %d", id, recorded[id], want)
		}
	}
	if len(done)-searches < 10 || searches < 3 {
		t.Errorf("only %d streams were complete, %d with searches", len(done), searches)
	}
}

// streamed makes a call with more members, and reports whether its last event came.
func streamed(ctx context.Context, url, key, conversation, more string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/openai/v1/chat/completions",
		strings.NewReader(`{"model":"gpt-fake-5","stream":true,"messages":[{"role":"user","content":"Hello"}]`+
			more+`}`))
	if err != nil {
		return false
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("X-Konstruct-Conversation", conversation)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return false
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body) // as far as it came
	return bytes.Contains(raw, []byte("[DONE]"))
}
