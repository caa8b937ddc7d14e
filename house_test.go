package konstruct_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/konstruct/konstruct"

// TestImportRules checks which packages may import which: data flows one way.
func TestImportRules(t *testing.T) {
	imports := map[string][]string{} // package below the module → what it and its tests import
	own := map[string][]string{}     // without tests
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		own[name] = p.Imports
		imports[name] = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
	}
	if len(own) < 10 {
		t.Fatalf("go list named %d packages", len(own))
	}

	database := []string{"github.com/jackc/pgx/v5", "database/sql", module + "/tenantdb"}
	forbid := func(list map[string][]string, who string, what ...string) {
		t.Helper()
		if list[who] == nil {
			t.Errorf("there is no package %s", who)
		}
		for _, i := range list[who] {
			for _, w := range what {
				if i == w || strings.HasPrefix(i, w+"/") {
					t.Errorf("%s imports %s", who, i)
				}
			}
		}
	}
	forbid(imports, "audit", module+"/kb")
	forbid(imports, "kb", module+"/audit")
	for _, pure := range []string{"ledger", "extract", "chunk", "embed", "parse", "redact", "spool", "blob", "fetch",
		"disclosure", "server/httpwire", "strictjson", "toolrule", "mcpproxy",
		"otel", "capture", "pgtext"} {
		forbid(own, pure, database...)
	}
	// Programs beside an agent start with each call: what they import must not know the database, nor decide alone.
	for _, who := range []string{"client", "hook", "cmd/konstruct-hook"} {
		for _, what := range []string{"audit", "kb", "search", "access"} {
			forbid(own, who, append(slices.Clone(database), module+"/"+what)...)
		}
	}
	// Compliance reads no event, and export gets what it exports from its caller.
	forbid(own, "compliance", module+"/audit", module+"/notary", module+"/kb", module+"/evidence")
	forbid(own, "export", database...)
	// Access control imports no domain package, and neither do packages that only move files.
	for _, what := range []string{"audit", "kb", "notary", "evidence", "artifact"} {
		forbid(own, "access", module+"/"+what)
		if what != "artifact" {
			forbid(own, "artifact", module+"/"+what)
		}
	}
	// Webhooks carry what triggers write: they know neither what happened nor who may see it.
	for _, what := range []string{"audit", "kb", "notary", "evidence", "access", "artifact", "fairqueue", "server"} {
		forbid(own, "webhook", module+"/"+what)
	}
	// Files are kept without knowing what is made of them.
	for _, what := range []string{"kb", "audit", "search", "access", "artifact"} {
		forbid(own, "files", module+"/"+what)
	}
	forbid(own, "kb", module+"/files")
	// Search reads what the knowledge base stores, and stores nothing.
	forbid(own, "kb", module+"/search")
	forbid(imports, "search", module+"/audit")
	// The gateway knows calls and the trail, and neither who calls nor how events are stored.
	forbid(own, "gateway", database...)
	for _, what := range []string{"access", "server", "kb", "search", "notary", "evidence"} {
		forbid(own, "gateway", module+"/"+what)
	}
	// The MCP server knows principals and the library, and neither credentials nor how anything is stored.
	forbid(own, "mcpserver", "github.com/jackc/pgx/v5", "database/sql", module+"/server", module+"/gateway",
		module+"/artifact", module+"/notary")
	// The queue does not know its jobs' work.
	for _, what := range []string{"kb", "audit", "extract", "parse", "tenantdb", "webhook"} {
		forbid(own, "fairqueue", module+"/"+what)
	}
	for who, list := range own {
		switch path.Base(who) {
		case "util", "utils", "common", "helpers", "models":
			t.Errorf("%s is no name for a package: say what it is about", who)
		}
		for _, i := range list {
			if i == module+"/server" && !strings.HasPrefix(who, "cmd/") || strings.HasPrefix(i, module+"/cmd/") {
				t.Errorf("%s imports %s", who, i)
			}
			// One door: a pool is tenantdb's alone, and that of tickets, whose role sees no tenant's rows.
			if i == "github.com/jackc/pgx/v5/pgxpool" && who != "tenantdb" && who != "fairqueue" {
				t.Errorf("%s holds a pool", who)
			}
			if strings.HasPrefix(i, module) && !strings.HasPrefix(who, "cmd/") &&
				!strings.HasPrefix(who, "internal/") && strings.HasPrefix(i, module+"/internal/") {
				t.Errorf("%s imports %s: internal is for development", who, i)
			}
		}
	}
	// A bundle's verification imports ledger, plural and the standard library only; ledger imports nothing of ours, and
	// the log libraries; plural imports nothing.
	for who, may := range map[string][]string{
		"evidence":             {module + "/ledger", module + "/plural"},
		"plural":               {},
		"ledger":               {"golang.org/x/mod/sumdb", "github.com/transparency-dev"},
		"cmd/konstruct-verify": {module + "/evidence"},
	} {
		if own[who] == nil {
			t.Errorf("there is no package %s", who)
		}
		for _, i := range own[who] {
			first, _, _ := strings.Cut(i, "/")
			if strings.Contains(first, ".") && !slices.ContainsFunc(may, func(m string) bool {
				return i == m || strings.HasPrefix(i, m+"/")
			}) {
				t.Errorf("%s imports %s", who, i)
			}
			if i == "net" || strings.HasPrefix(i, "net/") || strings.HasPrefix(i, "database/") {
				t.Errorf("%s imports %s: it needs no network", who, i)
			}
		}
	}
	forbid(imports, "notary", module+"/kb")
	// The notary does not verify and verify does not sign; both read the logs through logstore.
	forbid(own, "notary", module+"/verify")
	forbid(own, "audit", module+"/verify", module+"/notary", module+"/logstore")
	forbid(own, "verify", module+"/notary", module+"/kb", module+"/server")
	forbid(own, "logstore", module+"/notary", module+"/verify", module+"/kb", module+"/audit")
}
