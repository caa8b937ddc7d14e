package server_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/internal/testkit"
)

// runOpenAI runs a program that uses OpenAI's client with the environment alone changed, and says ok at its end. There
// is no gateway: files and vector stores are the service's own.
func (w *world) runOpenAI(cmd *exec.Cmd) {
	w.t.Helper()
	w.work()
	cmd.Env = append(cmd.Env, "OPENAI_BASE_URL="+w.url+"/openai/v1",
		"OPENAI_API_KEY="+w.key(acme, access.KBRead, access.KBWrite))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		w.t.Errorf("%v\n%s", err, out)
	}
}

func TestOpenAIVectorStoresForPython(t *testing.T) {
	cmd := testkit.Python(t, testkit.NewestSDKs, "testdata/openai/documented.py")
	serve(t).runOpenAI(cmd)
}

func TestOpenAIVectorStoresForNode(t *testing.T) {
	cmd := testkit.Node(t, testkit.NewestSDKs, "testdata/openai/documented.mjs")
	serve(t).runOpenAI(cmd)
}

func TestOpenAICookbook(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"pumps.md": handbook, "valves.md": "A valve is turned to the left.",
		"tax.txt": "Taxes are due in April."} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := testkit.Python(t, testkit.NewestSDKs, "testdata/openai/cookbook.py", dir)
	serve(t).runOpenAI(cmd)
}

func TestLangChainSearchesAVectorStore(t *testing.T) {
	cmd := testkit.Python(t, testkit.NewestSDKs, "testdata/openai/langchain_retriever.py")
	serve(t).runOpenAI(cmd)
}

func TestLlamaIndexSearchesAVectorStore(t *testing.T) {
	cmd := testkit.Python(t, testkit.LlamaIndexSDKs, "testdata/openai/llamaindex_retriever.py")
	serve(t).runOpenAI(cmd)
}

// TestOpenAIFilesBesideTheGateway: with upstreams, files and vector stores are the service's own all the same.
func TestOpenAIFilesBesideTheGateway(t *testing.T) {
	w := serve(t, withGateway(t, testkit.LLM(t)))
	key := w.key(acme, access.KBRead, access.KBWrite, access.GatewayUse)
	vs := w.openAIOK("POST", "vector_stores", key, `{}`).text("id")
	if r := w.openAIOK("GET", "vector_stores", key, ""); len(r.ids()) != 1 || r.ids()[0] != vs {
		t.Errorf("%s", r.body)
	}
	w.openAIOK("POST", "chat/completions", key, `{"model":"gpt-fake-5","messages":[{"role":"user","content":"Hi"}]}`)
	if r := w.ask("GET", "/openai/v1/assistants", key, ""); r.StatusCode != 404 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}
