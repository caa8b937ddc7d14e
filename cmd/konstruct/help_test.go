package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// TestHelpFitsAScreen: of every command, its own things first, with an example, on 40 lines of 80 columns; and the
// settings that all have in common are a help of their own.
func TestHelpFitsAScreen(t *testing.T) {
	var leaves func(n *kong.Node, path []string)
	help := func(args ...string) string {
		var out, bad bytes.Buffer
		if code := run(t.Context(), args, &out, &bad); code != 0 {
			t.Fatalf("%v: %d %s", args, code, bad.String())
		}
		return out.String()
	}
	n := 0
	leaves = func(node *kong.Node, path []string) {
		for _, c := range node.Children {
			if c.Hidden {
				continue
			}
			at := append(append([]string{}, path...), c.Name)
			leaves(c, at)
			text := help(append(append([]string{}, at...), "--help")...)
			n++
			if lines := strings.Count(text, "\n"); lines > 40 {
				t.Errorf("%s: %d lines", strings.Join(at, " "), lines)
			}
			for line := range strings.SplitSeq(text, "\n") {
				if utf8.RuneCountInString(line) > 80 && !strings.HasPrefix(line, "    ") &&
					!strings.HasPrefix(line, "Usage: ") {
					// examples are copied, and not broken
					t.Errorf("%s: %q", strings.Join(at, " "), line)
				}
			}
			if strings.Contains(text, "KONSTRUCT_NOTARY_KEY_FILE") {
				t.Errorf("%s: it has what all have", strings.Join(at, " "))
			}
			if len(c.Children) == 0 && !strings.Contains(text, "Example") {
				t.Errorf("%s: no example", strings.Join(at, " "))
			}
			if got := help(append([]string{"help"}, at...)...); at[0] != "config" && got != text {
				t.Errorf("help %s is another", strings.Join(at, " "))
			}
		}
	}
	var c cli
	k, err := kong.New(&c, helpVars())
	if err != nil {
		t.Fatal(err)
	}
	leaves(k.Model.Node, nil)
	for name, example := range examples { // each can be run as it stands
		args := strings.Fields(strings.NewReplacer("$ID", "11111111-1111-4111-8111-111111111111", "$T",
			"11111111-1111-4111-8111-111111111111", "$URL", "postgres://x").Replace(example))
		if parsed, err := k.Parse(args[1:]); err != nil || !strings.HasPrefix(parsed.Command(), name) {
			t.Errorf("%s: %v", example, err)
		}
	}
	if n < 50 {
		t.Errorf("%d commands", n)
	}
	if text := help("help", "config"); !strings.Contains(text, "KONSTRUCT_NOTARY_KEY_FILE") ||
		!strings.Contains(text, "KONSTRUCT_DATABASE_URL") {
		t.Errorf("help config: %s", text)
	}
}
