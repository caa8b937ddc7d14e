package server_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/internal/testkit"
)

// BenchmarkMCPProxy measures a tool call of the official SDK's client and server over HTTP, alternately without and with
// the service between them, whose record is committed and sealed before the client has the result; and beside both the
// commit of one event alone.
func BenchmarkMCPProxy(b *testing.B) {
	s := mcptest.New()
	up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true}))
	b.Cleanup(up.Close)
	w := serveFor(b, testkit.Database(b), withMCP(b, map[string]string{"tools": up.URL}))
	key := w.key(acme)
	direct := connectMCP(b, up.URL, key, "", nil)
	proxied := connectMCP(b, w.url+"/mcp/proxy/tools", key, "", nil)
	agent := w.k.Tenant(acme).Agent(bot)
	times := map[string][]time.Duration{}
	measure := func(name string, call func() error) {
		begin := time.Now()
		if err := call(); err != nil {
			b.Fatal(err)
		}
		times[name] = append(times[name], time.Since(begin))
	}
	echo := func(s *mcp.ClientSession) func() error {
		return func() error {
			_, err := s.CallTool(
				b.Context(),
				&mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hi"}},
			)
			return err
		}
	}
	for b.Loop() {
		measure("direct", echo(direct))
		measure("proxied", echo(proxied))
		measure("commit", func() error {
			_, err := agent.Log(b.Context(), konstruct.Event{Action: "bench", Input: `{"text":"hi"}`})
			return err
		})
	}
	for name, of := range times {
		slices.Sort(of)
		b.ReportMetric(float64(of[len(of)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(of[len(of)*99/100].Microseconds()), name+"-p99-µs")
	}
}
