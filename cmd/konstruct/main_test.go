package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// suite stops the tests' cluster before testscript exits.
type suite struct{ m *testing.M }

func (s suite) Run() int { return testkit.Run(s.m) }

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"konstruct": main,
		"mcp-server": mcptest.Main, "mcp-client": mcptest.ClientMain})
}

// TestScripts runs what a person would type, each script on a database of its own.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	bin := t.TempDir() // the stranger's verifier and the hook are binaries of their own
	build := exec.Command("go", "build", "-o", bin+"/", "../konstruct-verify", "../konstruct-hook")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			d := testkit.Database(t)
			testscript.Run(t, testscript.Params{
				Files: []string{file}, RequireExplicitExec: true, RequireUniqueNames: true,
				Setup: func(env *testscript.Env) error {
					env.Setenv("KONSTRUCT_DATABASE_URL", d.URL("konstruct_app"))
					env.Setenv("KONSTRUCT_OWNER_DATABASE_URL", d.URL("konstruct_owner"))
					env.Setenv("KONSTRUCT_NOTARY_DATABASE_URL", d.URL("konstruct_notary"))
					env.Setenv("KONSTRUCT_COMPLIANCE_DATABASE_URL", d.URL("konstruct_compliance"))
					env.Setenv("KONSTRUCT_WORKER_DATABASE_URL", d.URL("konstruct_worker"))
					env.Setenv("SUPERUSER", d.SuperuserURL())
					env.Setenv("KONSTRUCT_ASSETS_DIR", devpg.AssetsDir())
					env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
					env.Setenv("SCHEMA", strconv.Itoa(tenantdb.Schema))
					env.Setenv("T", "11111111-1111-4111-8111-111111111111")
					env.Setenv("T2", "22222222-2222-4222-8222-222222222222")
					env.Setenv("PASSWORD", strings.Split(strings.SplitN(d.URL("konstruct_app"), ":", 3)[2], "@")[0])
					extract, err := filepath.Abs("../../extract/testdata")
					env.Setenv("PDFS", extract)
					return err
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					// exits CODE COMMAND…: the command must end with this exit code.
					"exits": func(ts *testscript.TestScript, neg bool, args []string) {
						want, err := strconv.Atoi(args[0])
						ts.Check(err)
						err = ts.Exec(args[1], args[2:]...)
						got := 0
						if e := (*exec.ExitError)(nil); err != nil {
							if ok := asExit(err, &e); !ok {
								ts.Fatalf("%v", err)
							}
							got = e.ExitCode()
						}
						if got != want {
							ts.Fatalf("exit code %d, want %d", got, want)
						}
					},
					// downto N: takes migrations back until N is the newest.
					"downto": func(ts *testscript.TestScript, _ bool, args []string) {
						for version := ""; version != args[0]; {
							ts.Check(ts.Exec("konstruct", "migrate", "down", "--destroy-evidence"))
							ts.Check(ts.Exec("konstruct", "migrate", "version"))
							version = strings.TrimSpace(ts.ReadFile("stdout"))
						}
					},
					// owner SQL and super SQL: one statement on the script's database.
					"owner": func(_ *testscript.TestScript, _ bool, args []string) { testkit.Owner(t, d, args[0]) },
					"super": func(ts *testscript.TestScript, _ bool, args []string) {
						_, err := testkit.Connect(t, d.SuperuserURL()).Exec(t.Context(), args[0])
						ts.Check(err)
					},
					"wrong-password": func(ts *testscript.TestScript, _ bool, _ []string) {
						ts.Setenv("KONSTRUCT_DATABASE_URL",
							strings.Replace(ts.Getenv("GOOD"), ts.Getenv("PASSWORD"), "wrongword", 1))
					},
					"strong-role": func(ts *testscript.TestScript, _ bool, _ []string) {
						ts.Setenv("KONSTRUCT_DATABASE_URL", d.SuperuserURL())
					},
					// passage NAME FILE: puts the id of the first passage of a search into a variable.
					"passage": func(ts *testscript.TestScript, _ bool, args []string) {
						var found struct {
							Hits []struct {
								ChunkID string `json:"chunk_id"`
							} `json:"hits"`
						}
						ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &found))
						ts.Setenv(args[0], found.Hits[0].ChunkID)
					},
					// eventually TEXT COMMAND…: runs a command until its output has the text.
					"eventually": func(ts *testscript.TestScript, _ bool, args []string) {
						for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
							if err := ts.Exec(args[1], args[2:]...); err == nil &&
								strings.Contains(ts.ReadFile("stdout"), args[0]) {
								return
							}
							if time.Now().After(end) {
								ts.Fatalf("%q never says %q: %s", args[1:], args[0], ts.ReadFile("stdout"))
							}
						}
					},
					// escalation NAME FILE: puts the id of the first escalation of a list into a variable.
					"escalation": func(ts *testscript.TestScript, _ bool, args []string) {
						var list []struct{ ID string }
						ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &list))
						ts.Setenv(args[0], list[0].ID)
					},
					// capture NAME FILE: puts the last line of a file into a variable.
					"capture": func(ts *testscript.TestScript, _ bool, args []string) {
						lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[1])), "\n")
						fields := strings.Fields(lines[len(lines)-1])
						ts.Setenv(args[0], fields[len(fields)-1])
					},
				},
			})
		})
	}
}

func asExit(err error, to **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*to = e
	return ok
}

func TestSecretsAreMasked(t *testing.T) {
	for in, never := range map[string]string{
		"postgres://u:hunter2@h/d":                  "hunter2",
		"postgres://h/d?password=hunter2&x=1":       "hunter2",
		"host=h user=u password=hunter2 dbname=d":   "hunter2",
		"host=h PASSWORD='hunter2'":                 "hunter2",
		"postgres://u:hun%20ter2@h/d?sslpassword=s": "hun",
	} {
		if got := mask(in); strings.Contains(got, never) {
			t.Errorf("%s is shown as %s", in, got)
		}
	}
}
