package server_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
)

// BenchmarkMCPProxy measures a tool call of the official SDK's client and server over HTTP, alternately without and
// with the service between them, whose record is committed and sealed before the client has the result, or in its
// spool; and beside them the commit of one event alone.
func BenchmarkMCPProxy(b *testing.B) {
	s := mcptest.New()
	up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true}))
	b.Cleanup(up.Close)
	d := testkit.Database(b)
	w := serveFor(b, d, withMCP(b, map[string]string{"tools": up.URL, "spooled": up.URL}), withSpool(b, d))
	key := w.key(acme)
	direct := connectMCP(b, up.URL, key, "", nil)
	proxied := connectMCP(b, w.url+"/mcp/proxy/tools", key, "", nil)
	spooled := connectMCP(b, w.url+"/mcp/proxy/spooled", key, "", nil)
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
		measure("spooled", echo(spooled))
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

// withSpool opens the library again, with a spool, where the server "spooled" records.
func withSpool(b *testing.B, d *testkit.DB) func(*server.Config) {
	return func(c *server.Config) {
		k, err := konstruct.Open(b.Context(), konstruct.Config{DatabaseURL: d.URL("konstruct_app"),
			AssetsDir: devpg.AssetsDir(), KeySecret: pepper, SpoolDir: b.TempDir(), Logger: c.Logger})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = k.Close() })
		c.Konstruct = k
		c.MCPServers["spooled"].Spooled = true
	}
}
