package server_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
)

// sdkSession is what the clients in testdata/mcp print.
type sdkSession struct {
	Version, Text, Quote, Event, Wrong, Read, Missing string
	Tools, Prompts                                    []string
	Content, Untrusted                                bool
	Templates, Resources, Messages, Progress          int
}

// runMCP runs a client of testdata/mcp.
func runMCP(t *testing.T, cmd *exec.Cmd, settings ...string) (s sdkSession) {
	t.Helper()
	cmd.Env = append(cmd.Env, settings...)
	out, err := cmd.Output()
	if err != nil {
		if failed, is := err.(*exec.ExitError); is { //nolint:errorlint // as Output returns it
			t.Fatalf("%v: %s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

// check holds what a client got.
func (s sdkSession) check(t *testing.T, revision string) {
	t.Helper()
	if s.Version != revision || len(s.Tools) != 9 || len(s.Prompts) != 2 || !s.Content || !s.Untrusted ||
		s.Templates != 4 || s.Resources != 1 || s.Messages != 2 || s.Progress < 1 ||
		!strings.Contains(s.Text, "thirty days") || !strings.Contains(s.Quote, "thirty days") ||
		!strings.Contains(s.Read, "thirty days") || !strings.Contains(s.Wrong, "limit: 1000: it is 1 to 100") ||
		s.Missing == "" || uuid.Validate(s.Event) != nil {
		t.Errorf("%+v", s)
	}
}

// TestMCPServesThePythonSDK in both kinds of revision.
func TestMCPServesThePythonSDK(t *testing.T) {
	w := serve(t)
	w.ingest(acme, "handbook.md", handbook)
	for mode, revision := range map[string]string{"auto": "2026-07-28", "2026-07-28": "2026-07-28",
		"legacy": "2025-11-25"} {
		t.Run(mode, func(t *testing.T) {
			s := runMCP(t, testkit.Python(t, testkit.NewestSDKs, "testdata/mcp/client.py"), "MCP_MODE="+mode,
				"MCP_URL="+w.url+"/mcp", "MCP_KEY="+w.key(acme))
			s.check(t, revision)
			e, err := w.k.Tenant(acme).Events().Get(t.Context(), uuid.MustParse(s.Event))
			if m := metadataOf(t, e); err != nil || m["mcp.client.name"] != "python-sdk" ||
				m["mcp.protocol.version"] != revision {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
}

// TestMCPServesTheTypeScriptSDK in its revision, which has sessions.
func TestMCPServesTheTypeScriptSDK(t *testing.T) {
	w := serve(t)
	w.ingest(acme, "handbook.md", handbook)
	s := runMCP(t, testkit.Node(t, testkit.NewestSDKs, "testdata/mcp/client.mjs"), "MCP_URL="+w.url+"/mcp",
		"MCP_KEY="+w.key(acme))
	s.check(t, "2025-11-25")
	e, err := w.k.Tenant(acme).Events().Get(t.Context(), uuid.MustParse(s.Event))
	if m := metadataOf(t, e); err != nil || m["mcp.client.name"] != "typescript-sdk" {
		t.Errorf("%v, %v", m, err)
	}
}

// TestMCPServesTheInspector runs the inspector's command line against /mcp.
func TestMCPServesTheInspector(t *testing.T) {
	w := serve(t)
	doc := w.ingest(acme, "handbook.md", handbook)
	key := w.key(acme)
	inspect := func(args ...string) string {
		t.Helper()
		cmd := testkit.Node(t, testkit.MCPTools, append([]string{mcpProgram(
			"inspector/clients/launcher/build/index.js"),
			"--cli", w.url + "/mcp", "--transport", "http", "--header", "Authorization: Bearer " + key}, args...)...)
		cmd.Env = append(cmd.Env, "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	for want, args := range map[string][]string{
		`"verify_event"`: {"--method", "tools/list", "--strict"},
		"thirty days": {"--method", "tools/call", "--tool-name", "search", "--tool-arg",
			"query=send a pump back"},
		doc.String():    {"--method", "resources/list"},
		"Pack it dry":   {"--method", "resources/read", "--uri", "konstruct://documents/" + doc.String()},
		`"uriTemplate"`: {"--method", "resources/templates/list"},
		`"explain_run"`: {"--method", "prompts/list"},
		"list the sources:": {"--method", "prompts/get", "--prompt-name", "answer_with_citations", "--prompt-args",
			"question=q"},
	} {
		if out := inspect(args...); !strings.Contains(out, want) {
			t.Errorf("%v has no %s: %s", args, want, out)
		}
	}
	if n := w.count(acme, audit.Filter{Action: audit.ActionRetrieval}); n != 1 {
		t.Errorf("%d retrievals", n)
	}
}

// mcpProgram is a program of MCP's makers, among the SDKs.
func mcpProgram(path string) string {
	return filepath.Join(devpg.AssetsDir(), "sdk", "node", string(testkit.MCPTools), "node_modules",
		"@modelcontextprotocol", path)
}

// TestMCPConforms runs the official conformance tests for servers. Those that call the fixtures of their own reference
// server are expected to fail: testdata/mcp/conformance.yaml says why, one by one, and one that passes is an error.
func TestMCPConforms(t *testing.T) {
	w := serve(t)
	w.ingest(acme, "handbook.md", handbook)
	to, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	key := w.key(acme)
	// The tests send no credential: a proxy adds it, and nothing else.
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // the tests forge some
		r.Out.Header.Set("Authorization", "Bearer "+key)
	}})
	t.Cleanup(proxy.Close)
	for _, revision := range []string{"2025-06-18", "2025-11-25"} {
		cmd := testkit.Node(t, testkit.MCPTools, mcpProgram("conformance/dist/index.js"), "server", "--url",
			proxy.URL+"/mcp", "--suite", "all", "--spec-version", revision, "--expected-failures",
			"testdata/mcp/conformance.yaml")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", revision, err, out)
		}
		for _, passed := range []string{"server-initialize", "ping", "tools-list", "resources-list", "prompts-list"} {
			if !strings.Contains(string(out), "✓ "+passed+": 1 passed") {
				t.Errorf("%s: %s did not pass: %s", revision, passed, out)
			}
		}
	}
}
