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

// TestAKilledGatewayLosesNoCompleteCall kills the service while clients stream. Whoever had a stream's last event finds
// the call on the trail, and once.
func TestAKilledGatewayLosesNoCompleteCall(t *testing.T) {
	up := testkit.LLM(t)
	w := serve(t) // for its database and keys
	key := w.key(acme, access.GatewayUse)
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
					id := fmt.Sprintf("talk-%d-%d-%d", round, client, n)
					if streamed(ctx, "http://"+addr, key, id) {
						mu.Lock()
						done[id] = true
						mu.Unlock()
					}
				}
			})
		}
		time.Sleep(time.Duration(700+round*137) * time.Millisecond)
		p.kill()
		cancel()
		wait.Wait()
	}
	recorded := map[string]int{}
	for e, err := range w.k.Tenant(acme).Events().All(t.Context(), audit.Filter{Action: audit.ActionLLMCall}) {
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(e.Metadata), `"gen_ai.conversation.id": "`)
		id, _, _ := strings.Cut(rest, `"`)
		recorded[id]++
	}
	for id := range done {
		if recorded[id] != 1 {
			t.Errorf("%s was complete, and is on the trail %d times", id, recorded[id])
		}
	}
	if len(done) < 10 {
		t.Errorf("only %d streams were complete", len(done))
	}
}

// streamed makes a call, and reports whether its last event came.
func streamed(ctx context.Context, url, key, conversation string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/openai/v1/chat/completions",
		strings.NewReader(`{"model":"gpt-fake-5","stream":true,"messages":[{"role":"user","content":"Hello"}]}`))
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
