package konstruct_test

import (
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
