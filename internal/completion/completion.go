// Package completion computes completions of a command line, and contains the scripts of the shells. It knows kong's
// model of the command line and nothing of what commands do: it reads no configuration and opens no database.
package completion

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Command is the argument with which a shell's script calls the program; the word at the cursor, after a =, and the
// words before it follow.
const Command = "__complete"

// Kind is what completes a word besides the candidates.
type Kind string

// The kinds.
const (
	Nothing Kind = ""
	Files   Kind = ":files"
	Folders Kind = ":folders"
)

// Candidate is a possible word at the cursor.
type Candidate struct{ Word, Help string }

// Answer writes the completions for a shell's script: one candidate with its help on each line, and the kind of files.
func Answer(w io.Writer, root *kong.Node, args []string) error {
	word := ""
	if len(args) > 0 {
		word, args = strings.TrimPrefix(args[0], "="), args[1:]
	}
	candidates, kind := Complete(root, args, word)
	var b strings.Builder
	for _, c := range candidates {
		fmt.Fprintf(&b, "%s\t%s\n", c.Word, strings.ReplaceAll(c.Help, "\n", " "))
	}
	if kind != Nothing {
		fmt.Fprintln(&b, kind)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Complete returns the possible completions of word, the text at the cursor, after the words before it.
func Complete(root *kong.Node, before []string, word string) ([]Candidate, Kind) {
	l := line{node: root, used: map[*kong.Flag]bool{}}
	if len(before) > 0 && before[0] == "help" {
		l.help, before = true, before[1:]
	}
	for _, w := range before {
		l.take(w)
	}
	name, value, assigned := strings.Cut(word, "=")
	switch {
	case l.flag != nil:
		return values(l.flag.Value, "", word)
	case l.plain:
		return l.argument(word)
	case strings.HasPrefix(word, "--") && assigned:
		if f := l.find(name); f != nil {
			return values(f.Value, name+"=", value)
		}
		return nil, Nothing
	case strings.HasPrefix(word, "-") && !l.help:
		return l.flags(word), Nothing
	}
	return l.argument(word)
}

// line is the parsed part of the command line before the cursor.
type line struct {
	node  *kong.Node
	flag  *kong.Flag // whose value the next word is
	used  map[*kong.Flag]bool
	args  int  // how many arguments there were
	plain bool // -- was there: all that follows are arguments
	help  bool // help COMMAND
}

// take parses a word before the cursor.
func (l *line) take(word string) {
	switch {
	case l.flag != nil:
		l.flag = nil
	case l.plain:
		l.args++
	case word == "--":
		l.plain = true
	case len(word) > 1 && word[0] == '-':
		name, _, assigned := strings.Cut(word, "=")
		f := l.find(name)
		if f == nil {
			return
		}
		l.used[f] = true
		if !assigned && takesValue(f) && (strings.HasPrefix(word, "--") || len(word) == 2) {
			l.flag = f
		}
	default:
		if child := childNamed(l.node, word); child != nil && l.args == 0 {
			l.node = child
			return
		}
		l.args++
	}
}

func takesValue(f *kong.Flag) bool { return !f.IsBool() && !f.IsCounter() }

func childNamed(n *kong.Node, name string) *kong.Node {
	for _, c := range n.Children {
		if c.Name == name || slices.Contains(c.Aliases, name) {
			return c
		}
	}
	return nil
}

// all returns the flags that apply here: the command's own, then those of its parents.
func (l *line) all() (flags []*kong.Flag) {
	if d := l.node.DefaultCmd; d != nil {
		flags = append(flags, d.Flags...)
	}
	for n := l.node; n != nil; n = n.Parent {
		flags = append(flags, n.Flags...)
	}
	return flags
}

// find returns the flag for a name as typed: --name, --no-name or -n.
func (l *line) find(typed string) *kong.Flag {
	name, long := strings.CutPrefix(typed, "--")
	for _, f := range l.all() {
		named := f.Name == name || slices.Contains(f.Aliases, name) || f.Tag.Negatable != "" && name == "no-"+f.Name
		if long && named || !long && f.Short != 0 && strings.HasPrefix(typed, "-"+string(f.Short)) {
			return f
		}
	}
	return nil
}

// flags are those that begin with a word. The settings that all commands have come once a letter is typed: there are
// many of them.
func (l *line) flags(word string) (found []Candidate) {
	add := func(name, help string) {
		if strings.HasPrefix(name, word) {
			found = append(found, Candidate{name, help})
		}
	}
	for _, f := range l.all() {
		common := len(f.Envs) > 0 && slices.Contains(root(l.node).Flags, f)
		if f.Hidden && !common || common && strings.Trim(word, "-") == "" || l.used[f] && !f.IsCumulative() {
			continue
		}
		add("--"+f.Name, f.Help)
		if f.Tag.Negatable != "" {
			add("--no-"+f.Name, "Not: "+f.Help)
		}
	}
	return found
}

func root(n *kong.Node) *kong.Node {
	for n.Parent != nil {
		n = n.Parent
	}
	return n
}

// argument completes a command's name or an argument.
func (l *line) argument(word string) (found []Candidate, kind Kind) {
	if !l.plain && l.args == 0 {
		for _, c := range l.node.Children {
			if !c.Hidden && strings.HasPrefix(c.Name, word) {
				found = append(found, Candidate{c.Name, c.Help})
			}
		}
		if l.node.Parent == nil && !l.help && strings.HasPrefix("help", word) {
			found = append(found, Candidate{"help", "Show the help of a command."})
		}
	}
	n := l.node
	if n.DefaultCmd != nil {
		n = n.DefaultCmd
	}
	if l.help || len(n.Positional) == 0 {
		return found, Nothing
	}
	arg := n.Positional[min(l.args, len(n.Positional)-1)]
	if l.args >= len(n.Positional) && !arg.IsCumulative() {
		return found, Nothing
	}
	more, kind := values(arg, "", word)
	return append(found, more...), kind
}

// values completes a flag's value or an argument; prefix is what stands before it in the same word.
func values(v *kong.Value, prefix, word string) (found []Candidate, kind Kind) {
	var choices []string
	if v.Enum != "" {
		choices = v.EnumSlice()
	}
	if list := v.Tag.Get("complete"); strings.Contains(list, ",") { // what the program itself checks
		choices = strings.Split(list, ",")
	}
	if len(choices) > 0 {
		for _, one := range choices {
			if one != "" && strings.HasPrefix(one, word) {
				found = append(found, Candidate{prefix + one, ""})
			}
		}
		return found, Nothing
	}
	if v.IsBool() {
		return nil, Nothing
	}
	what := v.Tag.Get("complete")
	switch v.Tag.Type {
	case "path", "existingpath", "existingfile", "filecontent":
		what = "file"
	case "existingdir":
		what = "folder"
	}
	if v.Flag != nil {
		switch v.Flag.PlaceHolder {
		case "FILE", "PLACE":
			what = "file"
		case "DIR":
			what = "folder"
		}
	}
	switch what {
	case "file":
		return nil, Files
	case "folder":
		return nil, Folders
	}
	return nil, Nothing
}
