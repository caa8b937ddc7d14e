package server_test

import (
	"bytes"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/internal/clientgen"
	"github.com/konstruct/konstruct/internal/testkit"
)

var update = flag.Bool("update", false, "write the generated parts of clients/")

// pythonClient is the client's folder.
const pythonClient = "../clients/python"

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
		pythonClient + "/konstruct": clientgen.Python} {
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
		"KONSTRUCT_OTHER_KEY=" + w.key(uuid.New()), "KONSTRUCT_READER_KEY=" + w.key(acme, "events:read"), "KONSTRUCT_FAULTY_URL=" + front.URL,
		"KONSTRUCT_CLOSED_URL=" + closed.URL}
}

// faultyFront passes requests on to the service, and fails as the first segment of the path says: a fault, and after a
// dot whatever makes it new.
//   - busy: two of three requests are answered with 429 and 503, and Retry-After: 0;
//   - late: as busy, and Retry-After is an hour;
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
			w.Header().Set("Retry-After", "3600")
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
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args[1:], " "), err, out)
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
