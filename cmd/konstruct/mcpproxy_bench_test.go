package main

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/internal/testkit"
)

// BenchmarkMCPProxy measures a tool call of the official SDK's client and server over stdio, alternately without and
// with the proxy between them, whose record is on the disk before the client has the result.
func BenchmarkMCPProxy(b *testing.B) {
	konstruct := testkit.Build(b)
	connect := func(command ...string) *mcp.ClientSession {
		b.Helper()
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env, cmd.Stderr = append(os.Environ(), "KONSTRUCT_CAPTURE_DIR="+b.TempDir()), os.Stderr
		client := mcp.NewClient(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
		s, err := client.Connect(b.Context(), &mcp.CommandTransport{Command: cmd}, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		return s
	}
	direct, proxied := connect("mcp-server"), connect(konstruct, "mcp-proxy", "--", "mcp-server")
	times := map[*mcp.ClientSession][]time.Duration{}
	for b.Loop() {
		for _, s := range []*mcp.ClientSession{direct, proxied} {
			begin := time.Now()
			if _, err := s.CallTool(b.Context(), &mcp.CallToolParams{Name: "echo",
				Arguments: map[string]any{"text": "hello"}}); err != nil {
				b.Fatal(err)
			}
			times[s] = append(times[s], time.Since(begin))
		}
	}
	for s, of := range times {
		slices.Sort(of)
		name := "direct"
		if s == proxied {
			name = "proxied"
		}
		b.ReportMetric(float64(of[len(of)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(of[len(of)*99/100].Microseconds()), name+"-p99-µs")
	}
}
