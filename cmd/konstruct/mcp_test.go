package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
)

// stdioServers are konstruct mcp on a database, and through a service that runs on it.
func stdioServers(t *testing.T) (commands map[string]func() *exec.Cmd, d *testkit.DB) {
	t.Helper()
	d = testkit.Database(t)
	service, url, key := serving(t, d, "KONSTRUCT_METRICS_LISTEN=off")
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const tenant = "11111111-1111-4111-8111-111111111111"
	program := service.Path // built once
	start := func(args []string, env ...string) func() *exec.Cmd {
		return func() *exec.Cmd {
			cmd := exec.Command(program, append([]string{"mcp"}, args...)...)
			cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
			return cmd
		}
	}
	return map[string]func() *exec.Cmd{
		"service": start([]string{"--url", url, "--key-file", file}),
		"database": start([]string{"--tenant", tenant}, "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"),
			"KONSTRUCT_NOTARY_DATABASE_URL="+d.URL("konstruct_notary"), "KONSTRUCT_ASSETS_DIR="+devpg.AssetsDir(),
			"KONSTRUCT_DATA_DIR="+t.TempDir()),
	}, d
}

// TestMCPOverStdio uses konstruct mcp by the official client in each revision, on a database and through a service.
func TestMCPOverStdio(t *testing.T) {
	commands, _ := stdioServers(t)
	for kind, command := range commands {
		for _, revision := range []string{"2026-07-28", "2025-11-25", "2025-06-18"} {
			t.Run(kind+" "+revision, func(t *testing.T) {
				client := mcp.NewClient(&mcp.Implementation{Name: "stdio-client", Version: "7"}, nil)
				s, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: command()},
					&mcp.ClientSessionOptions{ProtocolVersion: revision})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				tools, err := s.ListTools(t.Context(), nil)
				if err != nil || len(tools.Tools) != 9 {
					t.Fatalf("%+v, %v", tools, err)
				}
				call := func(name string, arguments any) map[string]any {
					t.Helper()
					r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: arguments})
					if err != nil || r.IsError {
						t.Fatalf("%s: %+v, %v", name, r, err)
					}
					fields, _ := r.StructuredContent.(map[string]any)
					return fields
				}
				run := kind + " " + revision
				logged := call("log_event", map[string]any{"action_type": "x", "conversation_id": run})
				call("search", map[string]any{"query": "anything", "mode": "lexical", "conversation_id": run})
				r, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "konstruct://events/" +
					logged["id"].(string)})
				if err != nil || !strings.Contains(r.Contents[0].Text, `"mcp.client.name":"stdio-client"`) &&
					!strings.Contains(r.Contents[0].Text, `"mcp.client.name": "stdio-client"`) {
					t.Errorf("%+v, %v", r, err)
				}
				if got := call("timeline", map[string]any{"run": run}); got["total"] != 2.0 {
					t.Errorf("%v", got)
				}
				if r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "fetch",
					Arguments: map[string]any{"id": "x"}}); err !=
					nil || !r.IsError {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
	}
}

// TestMCPOverStdioSurvivesBadInput sends lines that are no messages: each has one answer, and the next one works.
func TestMCPOverStdioSurvivesBadInput(t *testing.T) {
	commands, _ := stdioServers(t)
	for kind, command := range commands {
		t.Run(kind, func(t *testing.T) {
			cmd := command()
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReaderSize(out, 1<<20)
			ask := func(frame string) (code float64, id any) {
				t.Helper()
				if _, err := io.WriteString(in, frame+"\n"); err != nil {
					t.Fatal(err)
				}
				line, err := lines.ReadBytes('\n')
				if err != nil {
					t.Fatalf("%.80s: %v", frame, err)
				}
				var answer struct {
					ID    any
					Error struct{ Code float64 }
				}
				if err := json.Unmarshal(line, &answer); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				return answer.Error.Code, answer.ID
			}
			if code, _ := ask(
				`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
					`"capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`); code != 0 {
				t.Fatalf("initialize: %g", code)
			}
			_, _ = io.WriteString(in,
				`{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n") // the next write has an error
			for frame, want := range map[string]float64{
				"no JSON": -32700,
				`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`:                                                    -32600,
				`{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}`:                                 -32600,
				`{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}`:                                               -32600,
				`{"jsonrpc":"2.0","id":1}`:                                                                      -32600,
				`{"jsonrpc":"2.0","id":1,"method":"nothing/at/all"}`:                                            -32601,
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nothing"}}`:                    -32602,
				`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"` + strings.Repeat("a", 10<<20) + `"}}`: -32600,
			} {
				if code, _ := ask(frame); code != want && !(kind == "service" && want == -32601) {
					t.Errorf("%.80s: %g, want %g", frame, code, want)
				}
				if code, id := ask(`{"jsonrpc":"2.0","id":"next","method":"ping"}`); code != 0 || id != "next" {
					t.Fatalf("after %.80s: %g %v", frame, code, id)
				}
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMCPOverStdioServesThePythonSDK in its revision with sessions, which is the older one.
func TestMCPOverStdioServesThePythonSDK(t *testing.T) {
	commands, d := stdioServers(t)
	file := filepath.Join(t.TempDir(), "handbook.md")
	if err := os.WriteFile(file, []byte("# Returns\n\nA pump is sent back within thirty days. Pack it dry.\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	ingest := exec.Command(commands["database"]().Path, "kb", "ingest", file, "--tenant",
		"11111111-1111-4111-8111-111111111111")
	ingest.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"), "KONSTRUCT_ASSETS_DIR="+
		devpg.AssetsDir(), "KONSTRUCT_DATA_DIR="+t.TempDir())
	if out, err := ingest.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for kind, command := range commands {
		for mode, revision := range map[string]string{"legacy": "2025-11-25", "auto": "2026-07-28"} {
			cmd := command()
			program, err := json.Marshal(cmd.Args)
			if err != nil {
				t.Fatal(err)
			}
			client := testkit.Python(t, testkit.NewestSDKs, "../../server/testdata/mcp/client.py")
			client.Env = append(append(cmd.Env, client.Env...), "MCP_MODE="+mode, "MCP_COMMAND="+string(program))
			client.Stderr = os.Stderr
			out, err := client.Output()
			if err != nil || !strings.Contains(string(out), "thirty days") || !strings.Contains(string(out),
				`"version": "`+revision+`"`) {
				t.Errorf("%s, %s: %v: %s", kind, mode, err, out)
			}
		}
	}
}
