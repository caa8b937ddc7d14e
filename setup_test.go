package konstruct_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestSetupBringsWhatTestsRun looks for every program that a test starts by its name, and in the tours, and
// holds that the setup step looks for it: what is on this machine already may not be on the next.
func TestSetupBringsWhatTestsRun(t *testing.T) {
	raw, err := os.ReadFile("scripts/setup")
	if err != nil {
		t.Fatal(err)
	}
	setup := string(raw)
	// What the README asks for, what every Debian and macOS has, and a name that is meant to lead nowhere.
	given := []string{"go", "git", "sh", "env", "false", "prlimit", "/nowhere/program"}
	found := map[string]string{"curl": "docs/http.md", "bash": "README.md", "psql": "README.md"}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return err
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(path, "internal/testkit/") ||
			!strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			s, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := s.X.(*ast.Ident)
			at, starts := map[string]int{"Command": 0, "CommandContext": 1, "LookPath": 0}[s.Sel.Name]
			if !ok || pkg.Name != "exec" || !starts || at >= len(call.Args) {
				return true
			}
			if lit, ok := call.Args[at].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if name, err := strconv.Unquote(lit.Value); err == nil {
					found[name] = path
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 8 {
		t.Fatalf("only %v were found", found)
	}
	for name, where := range found {
		if !slices.Contains(given, name) && !strings.Contains(setup, "command -v "+name+" ") {
			t.Errorf("%s runs %s, which scripts/setup does not look for", where, name)
		}
	}
}

// TestTheThreatModelNamesTestsThatAreThere: each attack in its tables is executed by the test it names.
func TestTheThreatModelNamesTestsThatAreThere(t *testing.T) {
	raw, err := os.ReadFile("docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				there[f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(raw), -1)
	if len(named) < 30 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("there is no %s", m[1])
		}
	}
}

// TestTheSDKsArePinned holds the lists of SDKs that tests send from: every package has one version and a hash, the lock
// has what the list asks for, testkit names the folders that are there, and docs/parts.md says what they hold.
func TestTheSDKsArePinned(t *testing.T) {
	parts, err := os.ReadFile("docs/parts.md")
	if err != nil {
		t.Fatal(err)
	}
	helper, err := os.ReadFile("internal/testkit/sdks.go")
	if err != nil {
		t.Fatal(err)
	}
	documented := func(name, version string) {
		if !strings.Contains(string(parts), "`"+name+"` "+version) {
			t.Errorf("docs/parts.md does not say `%s` %s", name, version)
		}
	}
	locks, err := filepath.Glob("scripts/sdk/*/*/*")
	if err != nil || len(locks) < 8 {
		t.Fatal(err, locks)
	}
	for _, path := range locks {
		folder := filepath.Base(filepath.Dir(path))
		if !strings.Contains(string(helper), strconv.Quote(folder)) {
			t.Errorf("testkit names no folder %q", folder)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Base(path) {
		case "requirements.txt":
			pinned := regexp.MustCompile(`(?m)^(\S+?)==(\S+).*\\\n    --hash=sha256:`)
			packages := pinned.FindAllStringSubmatch(string(raw), -1)
			if lines := regexp.MustCompile(`(?m)^[^ #\n]`).FindAllString(string(raw), -1); len(packages) < 20 ||
				len(lines) != len(packages) {
				t.Errorf("%s: of %d packages %d have a version and a hash", path, len(lines), len(packages))
			}
			wanted, err := os.ReadFile(filepath.Join(filepath.Dir(path), "requirements.in"))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^[a-z][a-z0-9-]*`).FindAllString(string(wanted), -1) {
				i := slices.IndexFunc(packages, func(p []string) bool { return p[1] == m })
				if i < 0 {
					t.Errorf("%s has no %s", path, m)
					continue
				}
				documented(m, packages[i][2])
			}
		case "package.json":
			var list struct{ Dependencies map[string]string }
			if err := json.Unmarshal(raw, &list); err != nil || len(list.Dependencies) < 2 {
				t.Errorf("%s: %v, %d packages", path, err, len(list.Dependencies))
			}
			for name, version := range list.Dependencies {
				documented(name, version)
			}
		case "package-lock.json":
			var lock struct {
				Packages map[string]struct{ Integrity string }
			}
			if err := json.Unmarshal(raw, &lock); err != nil || len(lock.Packages) < 20 {
				t.Errorf("%s: %v, %d packages", path, err, len(lock.Packages))
			}
			for name, p := range lock.Packages {
				if name != "" && !strings.HasPrefix(p.Integrity, "sha512-") {
					t.Errorf("%s: %s has no hash", path, name)
				}
			}
		}
	}
}
