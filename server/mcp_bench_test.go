package server_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
)

// BenchmarkMCPSearch measures a search of the HTTP API and the search tool of /mcp alternately, by the same kind of
// HTTP
// client, and by the official SDK's: the difference is what MCP adds.
func BenchmarkMCPSearch(b *testing.B) {
	w := serveFor(b, testkit.Database(b), func(c *server.Config) {
		c.DefaultLimits = access.Limits{Concurrency: 64} // no rates
	})
	w.ingest(acme, "handbook.md", handbook)
	key := w.key(acme)
	session := connectMCP(b, w.url+"/mcp", key, "", nil)
	frame, headers := modern("tools/call", "search",
		`"name":"search","arguments":{"query":"send a pump back","limit":2}`)
	post := func(path, body string, headers ...string) func() {
		return func() {
			r, err := http.NewRequestWithContext(b.Context(), "POST", w.url+path, strings.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+key)
			r.Header.Set("Content-Type", "application/json")
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			raw, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != 200 || !strings.Contains(string(raw), "thirty days") {
				b.Fatalf("%d %s, %v", res.StatusCode, raw, err)
			}
		}
	}
	ways := []struct {
		name   string
		search func()
	}{{"api", post("/v1/search", `{"text":"send a pump back","top_k":2}`)},
		{"mcp", post("/mcp", frame, append(headers, "Accept", "application/json, text/event-stream")...)},
		{"sdk", func() {
			r, err := session.CallTool(b.Context(), &mcp.CallToolParams{Name: "search",
				Arguments: map[string]any{"query": "send a pump back", "limit": 2}})
			if err != nil || r.IsError {
				b.Fatal(r, err)
			}
		}}}
	times := map[string][]time.Duration{}
	var added []time.Duration
	for b.Loop() {
		for _, way := range ways {
			begin := time.Now()
			way.search()
			times[way.name] = append(times[way.name], time.Since(begin))
		}
		n := len(times["api"]) - 1
		added = append(added, times["mcp"][n]-times["api"][n])
	}
	for name, all := range times {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-p50-µs")
	}
	slices.Sort(added)
	b.ReportMetric(float64(added[len(added)/2].Microseconds()), "added-p50-µs")
}
