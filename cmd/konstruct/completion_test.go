package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/completion"
	"github.com/konstruct/konstruct/internal/testkit"
)

// completed are the words that the program offers at the end of a command line.
func completed(t *testing.T, words ...string) []string {
	t.Helper()
	last := len(words) - 1
	var out, errs bytes.Buffer
	args := append([]string{completion.Command, "=" + words[last]}, words[:last]...)
	if code := run(t.Context(), args, &out, &errs); code != 0 || errs.Len() > 0 {
		t.Fatalf("%v: %d %s", words, code, errs.String())
	}
	var found []string
	for line := range strings.Lines(out.String()) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		found = append(found, word)
	}
	return found
}

func TestCompletionNamesWhatMayFollow(t *testing.T) {
	t.Setenv("KONSTRUCT_NONSENSE", "a wrong configuration leaves no shell silent")
	for _, c := range []struct{ line, want, never string }{
		{"k", "kb key", "audit"},
		{"", "audit kb help", "read-files __complete"},
		{"kb se", "search", "list"},
		{"help kb se", "search", ""},
		{"help kb search --", "", "--mode"},
		{"kb search --mo", "--mode", "--model"},
		{"kb search -", "--mode --tenant --json", "--data-dir --every"},
		{"kb search --d", "--diversity --data-dir --database-url", ""},
		{"kb search --mode ", "semantic lexical hybrid", "--mode"},
		{"kb search --mode=h", "--mode=hybrid", "--mode=lexical"},
		{"kb search --mode hybrid --", "--label", "--mode"},
		{"kb search --label a --la", "--label", ""},
		{"kb search -- --", "", "--mode"},
		{"serve --no-", "--no-work --no-notary", ""},
		{"kb ingest --tenant x ", ":files", ""},
		{"kb ingest a ", ":files", ""},
		{"verify ", ":files", ""},
		{"verify bundle.zip ", "", ":files"},
		{"audit verify --receipts ", ":folders", ":files"},
		{"--data-dir ", ":folders", ""},
		{"--data-dir=", ":folders", ""},
		{"audit escalations --st", "--state", ""},
		{"audit escalations ", "list ack resolve", ""},
		{"bench g", "growth", "audit"},
		{"completion ", "bash zsh fish powershell", ""},
		{"audit prove -o ", ":files", ""},
		{"nonsense more ", "", ":files"},
	} {
		found := completed(t, strings.Split(c.line, " ")...)
		for _, w := range strings.Fields(c.want) {
			if !slices.Contains(found, w) {
				t.Errorf("%q does not offer %s: %v", c.line, w, found)
			}
		}
		for _, w := range strings.Fields(c.never) {
			if slices.Contains(found, w) {
				t.Errorf("%q offers %s", c.line, w)
			}
		}
	}
}

// TestEveryCommandAndFlagIsCompleted walks the whole command line as somebody who presses the tab key would.
func TestEveryCommandAndFlagIsCompleted(t *testing.T) {
	n := 0
	for _, node := range visible(t) {
		path := strings.Fields(commandOf(node))
		if !slices.Contains(completed(t, path...), node.Name) {
			t.Errorf("konstruct %s is not completed", strings.Join(path, " "))
		}
		for _, f := range node.Flags {
			if !f.Hidden && !slices.Contains(completed(t, append(slices.Clone(path), "--"+f.Name)...), "--"+f.Name) {
				t.Errorf("konstruct %s --%s is not completed", strings.Join(path, " "), f.Name)
			}
			n++
		}
	}
	if n < 200 {
		t.Errorf("%d flags", n)
	}
}

// TestBashCompletes has a real bash read the script and complete.
func TestBashCompletes(t *testing.T) {
	bin := filepath.Dir(testkit.Build(t))
	dir := t.TempDir()
	for _, name := range []string{"a b.md", "bundle.zip"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "receipts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ words, want string }{ // the words as bash takes the line apart
		{"konstruct k", "kb\nkey"},
		{"konstruct kb search --mo", "--mode"},
		{"konstruct kb search --mode ''", "semantic\nlexical\nhybrid"},
		{"konstruct kb search --mode = hy", "hybrid"},
		{"konstruct kb search --mode =", "semantic\nlexical\nhybrid"},
		{"konstruct kb ingest a", "a b.md"},
		{"konstruct verify b", "bundle.zip"},
		{"konstruct audit verify --receipts = ''", "receipts"},
		{"konstruct audit verify --receipts r", "receipts"},
	} {
		script := fmt.Sprintf(`source <(konstruct completion bash) && COMP_WORDS=(%s) &&
			COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) && _konstruct konstruct &&
			printf '%%s\n' "${COMPREPLY[@]}"`, c.words)
		cmd := exec.CommandContext(t.Context(), "bash", "-u", "-c", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			t.Errorf("%s: %q, not %q: %v", c.words, got, c.want, err)
		}
	}
}

// TestOtherShellsReadTheirScripts checks the syntax where a shell is installed, and has fish complete.
func TestOtherShellsReadTheirScripts(t *testing.T) {
	bin := filepath.Dir(testkit.Build(t))
	path := bin + string(filepath.ListSeparator) + os.Getenv("PATH")
	for shell, check := range map[string][]string{
		"bash": {"bash", "-n"}, "zsh": {"zsh", "-n"}, "fish": {"fish", "--no-execute"},
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("%s is not installed", shell)
			}
			script, err := completion.Script(shell)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), check[0], append(check[1:], file)...).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("%v: %s", err, out)
			}
			if shell != "fish" {
				return
			}
			cmd := exec.CommandContext(t.Context(), "fish", "-c", "source "+file+
				"; complete -C 'konstruct kb search --mode='; complete -C 'konstruct kb se'")
			cmd.Env = append(os.Environ(), "PATH="+path, "HOME="+t.TempDir())
			if out, err = cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--mode=lexical") ||
				!strings.Contains(string(out), "search\tFind") {
				t.Errorf("fish: %v: %s", err, out)
			}
		})
	}
	if _, err := completion.Script("tcsh"); err == nil {
		t.Error("there is a script for tcsh")
	}
}
