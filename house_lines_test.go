package konstruct_test

import (
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumn is where lines end, with a tab as four columns.
const maxColumn = 120

// TestLinesEndByColumn120 reads every line of code, SQL and prose. What is data is left alone: the seed, the catalog,
// test data, tables of Markdown, blocks of code in it, and a line that is one word, as a URL is.
func TestLinesEndByColumn120(t *testing.T) {
	out, err := exec.Command("git", "ls-files").Output()
	if err != nil {
		t.Skip("not a checkout: ", err)
	}
	n := 0
	for _, file := range strings.Fields(string(out)) {
		if !linted(file) {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // deleted, and not committed yet
		}
		inBlock := false
		for i, line := range strings.Split(string(raw), "\n") {
			n++
			if strings.HasSuffix(file, ".md") {
				if strings.HasPrefix(strings.TrimSpace(line), "```") {
					inBlock = !inBlock
				}
				if inBlock || strings.HasPrefix(strings.TrimSpace(line), "|") {
					continue
				}
			}
			wide := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    "))
			if wide > maxColumn && strings.Contains(strings.TrimLeft(line, " \t-*/#"), " ") {
				t.Errorf("%s:%d: %d columns: %.80s…", file, i+1, wide, strings.TrimSpace(line))
			}
		}
	}
	if n < 10_000 {
		t.Errorf("only %d lines were read", n)
	}
}

// linted reports whether the test checks a file's lines.
func linted(file string) bool {
	if strings.Contains(file, "testdata/") || strings.HasPrefix(file, "internal/seed/") ||
		strings.HasPrefix(file, "internal/samples/files/") || file == "migrations/00001_seed.sql" ||
		file == "tenantdb/catalog.txt" {
		return false
	}
	switch path.Ext(file) {
	case ".go", ".sql", ".md", ".sh", ".py", ".yaml", ".txt":
		return true
	}
	return file == "Makefile" || file == ".ci/run" || strings.HasPrefix(file, "scripts/")
}
