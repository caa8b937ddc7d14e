package testkit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheSDKsImport imports every package of the lists, so that a list that installs and does not work is found here.
func TestTheSDKsImport(t *testing.T) {
	python := map[SDKs]string{
		NewestSDKs: "anthropic, openai, agents, langchain_openai, langchain_anthropic, mcp, langfuse, " +
			"opentelemetry.sdk, opentelemetry.exporter.otlp.proto.http.trace_exporter, " +
			"opentelemetry.exporter.otlp.proto.grpc.trace_exporter, " +
			"opentelemetry.instrumentation.openai_v2, openinference.instrumentation.openai, standardwebhooks",
		LlamaIndexSDKs: "llama_index.llms.openai, openinference.instrumentation.llama_index",
	}
	for sdks, modules := range python {
		t.Run("python "+string(sdks), func(t *testing.T) {
			if out, err := Python(t, sdks, "-c", "import "+modules).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	for _, sdks := range []SDKs{NewestSDKs, LangfuseSDKs} {
		t.Run("node "+string(sdks), func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("../../scripts/sdk/node", string(sdks), "package.json"))
			if err != nil {
				t.Fatal(err)
			}
			var list struct{ Dependencies map[string]string }
			if err := json.Unmarshal(raw, &list); err != nil {
				t.Fatal(err)
			}
			var script strings.Builder
			for name := range list.Dependencies {
				switch name {
				case "@types/node": // types alone
				case "@modelcontextprotocol/sdk":
					script.WriteString("import '@modelcontextprotocol/sdk/client/index.js';\n")
				default:
					script.WriteString("import '" + name + "';\n")
				}
			}
			file := filepath.Join(t.TempDir(), "imports.ts") // in a folder without node_modules
			if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := Node(t, sdks, file).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
