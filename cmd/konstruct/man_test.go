package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/konstruct/konstruct/internal/manpage"
)

// visible are all commands that are not hidden, of the whole parser.
func visible(t *testing.T) (all []*kong.Node) {
	t.Helper()
	a := &app{cli: &cli{}}
	k, err := a.newParser(context.Background(), false, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		for _, c := range n.Children {
			if !c.Hidden {
				all = append(all, c)
				walk(c)
			}
		}
	}
	walk(k.Model.Node)
	if len(all) < 90 {
		t.Fatalf("%d commands", len(all))
	}
	return all
}

func TestEveryCommandAndFlagHasItsManualPage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"man", "--dir", dir}, &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	page := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Error(err)
		}
		return strings.ReplaceAll(string(raw), `\-`, "-")
	}
	nodes := visible(t)
	root := nodes[0].Parent
	for _, n := range append(nodes, root) {
		text := page(manpage.Name(n))
		for _, f := range n.Flags {
			name := "--" + f.Name
			if f.Tag.Negatable != "" {
				name = "--[no-]" + f.Name
			}
			if !f.Hidden && !strings.Contains(text, name+`\fR`) {
				t.Errorf("%s does not say %s", manpage.Name(n), name)
			}
		}
		for _, arg := range n.Positional {
			if !strings.Contains(text, strings.ToUpper(arg.Name)) {
				t.Errorf("%s does not say %s", manpage.Name(n), arg.Name)
			}
		}
		if len(n.Children) == 0 && !strings.Contains(text, `.SH "EXAMPLES"`) {
			t.Errorf("%s has no example", manpage.Name(n))
		}
	}
	if text := page("konstruct"); !strings.Contains(text, "KONSTRUCT_NOTARY_KEY_FILE") ||
		!strings.Contains(text, `.SH "EXIT STATUS"`) {
		t.Error("konstruct.1 lacks the settings or the exit status")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != len(nodes)+1 {
		t.Errorf("%d pages of %d commands, %v", len(files), len(nodes), err)
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Log("groff is not installed: the pages' format is not checked")
		return
	}
	args := append([]string{"-man", "-ww", "-z", "-Tutf8"}, files...)
	if out, err := exec.CommandContext(t.Context(), "groff", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}
