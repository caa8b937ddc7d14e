package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/internal/testkit"
)

// mcpService is a service with rules on tools and a configured MCP server.
type mcpService struct {
	t        *testing.T
	url, key string
	process  *exec.Cmd
}

const mcpTestPolicy = `{"default":{"tools":[
	{"tool":"remove","action":"deny","reason":"nothing is removed in tests"}]}}`

func startMCPService(t *testing.T) *mcpService {
	t.Helper()
	dir := t.TempDir()
	s := mcptest.New()
	up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true}))
	t.Cleanup(up.Close)
	for name, content := range map[string]string{"policy.json": mcpTestPolicy,
		"servers.json": `{"servers":[{"name":"tools","url":"` + up.URL + `"}]}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	process, url, key := serving(t, testkit.Database(t), "KONSTRUCT_METRICS_LISTEN=off",
		"KONSTRUCT_AUDIT_POLICY="+filepath.Join(dir, "policy.json"),
		"KONSTRUCT_MCP_SERVERS_FILE="+filepath.Join(dir, "servers.json"))
	return &mcpService{t, url, key, process}
}

// event is an event as the API has it.
type mcpEvent struct {
	Input    string         `json:"input_summary"`
	Output   string         `json:"output_summary"`
	Metadata map[string]any `json:"metadata"`
}

// wait waits for the events of a server.
func (s *mcpService) wait(server string, n int) (all []mcpEvent) {
	s.t.Helper()
	for range 150 {
		r, err := http.NewRequestWithContext(s.t.Context(), "GET",
			s.url+"/v1/events?limit=1000&action_type=tool_invocation", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var list struct{ Items []mcpEvent }
		if err == nil {
			err = json.Unmarshal(raw, &list)
		}
		if err != nil {
			s.t.Fatalf("%v: %s", err, raw)
		}
		all = nil
		for _, e := range list.Items {
			if e.Metadata["tool_server"] == server {
				all = append(all, e)
			}
		}
		if len(all) >= n {
			return all
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("%d events of %s, want %d", len(all), server, n)
	return nil
}

// environment is a proxy's.
func (s *mcpService) environment(dir string) []string {
	return []string{
		"KONSTRUCT_URL=" + s.url,
		"KONSTRUCT_KEY=" + s.key,
		"KONSTRUCT_CAPTURE_DIR=" + dir,
		"MCP_KEY=" + s.key,
		"PATH=" + os.Getenv("PATH"),
	}
}

func TestSDKsOfOtherLanguagesCallThroughTheMCPProxy(t *testing.T) {
	s := startMCPService(t)
	proxy := []string{testkit.Build(t), "mcp-proxy", "--server"}
	over := s.url + "/mcp/proxy/tools"
	for _, c := range []struct {
		name    string
		cmd     func(args ...string) *exec.Cmd
		args    []string
		server  string
		events  int // of the server, with those of the cases before
		client  string
		version string
	}{
		{"Python over stdio", s.python(t), append([]string{"stdio", "auto"}, append(proxy, "p1", "--",
			"mcp-server")...), "p1", 3, "mcp", "2026-07-28"},
		{"Python over stdio, with a session", s.python(t), append([]string{"stdio", "legacy"}, append(proxy, "p2", "--",
			"mcp-server")...), "p2", 3, "mcp", "2025-11-25"},
		{"Python over HTTP", s.python(t), []string{"http", "auto", over}, "tools", 3, "mcp", "2026-07-28"},
		{"Node over stdio", s.node(t), append([]string{"stdio"}, append(proxy, "n1", "--", "mcp-server")...), "n1", 3,
			"node-client", "2025-11-25"},
		{"Node over HTTP", s.node(t), []string{"http", over}, "tools", 6, "", "2025-11-25"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := c.cmd(c.args...)
			cmd.Env = append(cmd.Env, s.environment(t.TempDir())...)
			out, err := cmd.CombinedOutput()
			text := strings.ReplaceAll(string(out), "True", "true")
			if err != nil || !strings.Contains(text, "grüße\ntrue the tool failed\n") ||
				!strings.Contains(text, "nothing is removed in tests") {
				t.Fatalf("%v: %s", err, out)
			}
			all := s.wait(c.server, c.events)
			if len(all) != c.events {
				t.Errorf("%d events", len(all))
			}
			m := all[0].Metadata
			if m["mcp.protocol.version"] != c.version || c.client != "" && m["mcp.client.name"] != c.client {
				t.Errorf("%v", m)
			}
		})
	}
}

func (s *mcpService) python(t *testing.T) func(args ...string) *exec.Cmd {
	return func(args ...string) *exec.Cmd {
		return testkit.Python(t, testkit.NewestSDKs, append([]string{"testdata/mcp/client.py"}, args...)...)
	}
}

func (s *mcpService) node(t *testing.T) func(args ...string) *exec.Cmd {
	return func(args ...string) *exec.Cmd {
		return testkit.Node(t, testkit.NewestSDKs, append([]string{"testdata/mcp/client.mjs"}, args...)...)
	}
}

func TestServersOfOtherLanguagesAreProxied(t *testing.T) {
	for name, c := range map[string]struct {
		cmd     *exec.Cmd
		version string
	}{"python-server": {testkit.Python(t, testkit.NewestSDKs, "testdata/mcp/server.py"), "4.5.6"},
		"node-server": {testkit.Node(t, testkit.NewestSDKs, "testdata/mcp/server.mjs"), "7.8.9"}} {
		for _, revision := range []string{"", "2025-11-25"} {
			dir := t.TempDir()
			args := []string{
				"mcp-proxy",
				"--server",
				name,
				"--",
				"env",
			} // a server gets no KONSTRUCT_ variable otherwise
			env := slices.DeleteFunc(slices.Clone(c.cmd.Env), func(e string) bool {
				own := strings.HasPrefix(e, "KONSTRUCT_TEST_SDKS=")
				if own {
					args = append(args, e)
				}
				return own
			})
			cmd := exec.Command(testkit.Build(t), append(args, c.cmd.Args...)...)
			cmd.Env, cmd.Stderr = append(env, "KONSTRUCT_CAPTURE_DIR="+dir), os.Stderr
			client := mcp.NewClient(&mcp.Implementation{Name: "tester", Version: "9"}, nil)
			s, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: cmd},
				&mcp.ClientSessionOptions{ProtocolVersion: revision})
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.CallTool(
				t.Context(),
				&mcp.CallToolParams{Name: "add", Arguments: map[string]any{"a": 2, "b": 40}},
			)
			if err != nil || r.Content[0].(*mcp.TextContent).Text != "42" {
				t.Errorf("%s: %v %v", name, r, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			files, err := filepath.Glob(dir + "/*/new/*.jsonl")
			if err != nil || len(files) != 1 {
				t.Fatalf("%v %v", files, err)
			}
			raw, err := os.ReadFile(files[0])
			if err != nil ||
				!strings.Contains(string(raw), fmt.Sprintf(`"mcp.server.name":"%s","mcp.server.version":"%s"`,
					name, c.version)) {
				t.Errorf("%s %q: %s %v", name, revision, raw, err)
			}
		}
	}
}

// TestAKilledProxysCallsReachTheTrail: what the client has seen is on the trail once another proxy has run.
func TestAKilledProxysCallsReachTheTrail(t *testing.T) {
	s, dir := startMCPService(t), t.TempDir()
	start := func() (*exec.Cmd, *mcp.ClientSession) {
		cmd := exec.Command(testkit.Build(t), "mcp-proxy", "--server", "killed", "--", "mcp-server")
		cmd.Env, cmd.Stderr = append(os.Environ(), s.environment(dir)...), os.Stderr
		client := mcp.NewClient(&mcp.Implementation{Name: "tester", Version: "9"}, nil)
		session, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cmd, session
	}
	n := 0
	for range 3 {
		cmd, session := start()
		seen := make(chan int)
		go func() {
			calls := 0
			for {
				_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo",
					Arguments: map[string]any{"text": fmt.Sprint(calls)}})
				if err != nil {
					seen <- calls
					return
				}
				calls++
			}
		}()
		time.Sleep(300 * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		n += <-seen
		session.Close()
	}
	_, last := start()
	all := s.wait("killed", n)
	if n < 10 || len(all) > n+3 { // a call may be recorded and its result not seen, once a kill
		t.Errorf("%d results, %d events", n, len(all))
	}
	last.Close()
}

// TestAnOpenMCPStreamDoesNotHoldTheServiceUp: it ends when the service stops, and does not use up the time that
// requests have.
func TestAnOpenMCPStreamDoesNotHoldTheServiceUp(t *testing.T) {
	s := startMCPService(t)
	client := mcp.NewClient(&mcp.Implementation{Name: "listener", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {}})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: s.url + "/mcp/proxy/tools",
		HTTPClient: &http.Client{Transport: withKey(s.key)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	begin := time.Now()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.process.Wait(); err != nil || time.Since(begin) > 10*time.Second {
		t.Errorf("it ends after %s: %v", time.Since(begin), err)
	}
}

// withKey adds a key to each request.
type withKey string

// RoundTrip implements http.RoundTripper.
func (k withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}
