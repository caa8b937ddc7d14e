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

// TestImportRules holds the house's rules: data flows one way.
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
		"disclosure", "server/httpwire", "server/strictjson"} {
		forbid(own, pure, database...)
	}
	// Compliance reads no event; what is exported is handed to export.
	forbid(own, "compliance", module+"/audit", module+"/notary", module+"/kb", module+"/evidence")
	forbid(own, "export", database...)
	// Who may do what knows nothing of what is done; files on their way know nothing of what they hold.
	for _, what := range []string{"audit", "kb", "notary", "evidence", "artifact"} {
		forbid(own, "access", module+"/"+what)
		if what != "artifact" {
			forbid(own, "artifact", module+"/"+what)
		}
	}
	// A search reads what the knowledge base stores, and nothing is stored by way of a search.
	forbid(own, "kb", module+"/search")
	forbid(imports, "search", module+"/audit")
	// The queue knows nothing of the work.
	for _, what := range []string{"kb", "audit", "extract", "parse", "tenantdb"} {
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
	// Verification of a bundle stands on ledger and the standard library alone; ledger on nothing of ours, and on the
	// log libraries.
	for who, may := range map[string][]string{
		"evidence":             {module + "/ledger"},
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
	// Who signs does not verify, and who verifies does not sign; both read the logs by way of logstore.
	forbid(own, "notary", module+"/verify")
	forbid(own, "audit", module+"/verify", module+"/notary", module+"/logstore")
	forbid(own, "verify", module+"/notary", module+"/kb", module+"/server")
	forbid(own, "logstore", module+"/notary", module+"/verify", module+"/kb", module+"/audit")
}
