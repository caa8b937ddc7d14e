package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestDocumentedCommandsAreCommands parses every command that README and docs show in a block or between backticks, and
// the examples of every command's help: a command, a flag or an argument that is none fails.
func TestDocumentedCommandsAreCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n, pages := 0, map[string]string{"--help": "```\n" + helpPages(t) + "```\n"}
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md", "../../SECURITY.md") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[file] = string(raw)
	}
	for file, page := range pages {
		for _, line := range documentedCommands(page) {
			words, err := exec.Command("bash", "-c", `printf '%s\0' `+line).Output()
			if err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(file), line, err)
				continue
			}
			args := strings.Split(strings.TrimSuffix(string(words), "\x00"), "\x00")
			var c cli
			k, err := kong.New(&c, helpVars(), kong.Exit(func(int) {}),
				kong.Writers(io.Discard, io.Discard))
			if err != nil {
				t.Fatal(err)
			}
			n++
			if err := parses(k, args[1:]); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(file), line, err)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d commands were found", n)
	}
}

// helpPages is what the help of each command says beyond its flags.
func helpPages(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	k, err := (&app{cli: &cli{}, out: io.Discard, err: io.Discard}).newParser(t.Context(), false, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range k.Model.Leaves(true) {
		fmt.Fprintln(&b, detail(n))
	}
	return b.String()
}

// parses reports what is wrong with arguments, but for those that a mention leaves out: a text names a command without
// all that it needs.
func parses(k *kong.Kong, args []string) error {
	args, _ = parseHelp(args)
	if len(args) > 0 && args[0] == "11111111-1111-4111-8111-111111111111" {
		return nil // COMMAND
	}
	_, err := k.Parse(args)
	if err == nil {
		return nil
	}
	for _, unsaid := range []string{"missing flags", "expected \"<", "expected one of", "missing positional",
		"missing value",
		"no such file"} {
		if strings.Contains(err.Error(), unsaid) {
			return nil
		}
	}
	return err
}

var (
	inlineCommand = regexp.MustCompile("`((?:bin/)?konstruct [^`]+)`")
	variable      = regexp.MustCompile(`\$\{?[A-Za-z_]+\}?`)
	placeholder   = regexp.MustCompile(`(^|[ =])\[?[A-Z][A-Z_0-9]*\]?( |$)`)
	comment       = regexp.MustCompile(`\s#\s.*$`)
)

// documentedCommands are the commands of a page, with what stands for a value replaced by one.
func documentedCommands(page string) (all []string) {
	in, pending := false, ""
	take := func(line string) {
		line = comment.ReplaceAllString(line, "")
		for _, end := range []string{" | ", " > ", " && ", "; ", " & ", " 2>"} {
			line, _, _ = strings.Cut(line, end)
		}
		line = strings.TrimSuffix(strings.TrimSpace(line), " &")
		if strings.ContainsAny(line, "|…[{") && !strings.Contains(line, "'") || strings.Contains(line, "...") {
			return // alternatives, and what is left out
		}
		line = variable.ReplaceAllString(line, "11111111-1111-4111-8111-111111111111")
		for placeholder.MatchString(line) {
			line = placeholder.ReplaceAllString(line, "${1}11111111-1111-4111-8111-111111111111${2}")
		}
		all = append(all, strings.TrimPrefix(line, "bin/"))
	}
	for line := range strings.SplitSeq(page, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			in = !in
			continue
		}
		if !in {
			for _, m := range inlineCommand.FindAllStringSubmatch(line, -1) {
				take(m[1])
			}
			continue
		}
		line = strings.TrimPrefix(pending+strings.TrimSpace(line), "$ ")
		if rest, more := strings.CutSuffix(line, "\\"); more {
			pending = rest
			continue
		}
		pending = ""
		if strings.HasPrefix(line, "konstruct ") || strings.HasPrefix(line, "bin/konstruct ") {
			take(line)
		}
	}
	return all
}
