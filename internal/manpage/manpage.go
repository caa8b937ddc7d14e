// Package manpage writes manual pages from kong's model of the command line: one of the program, and one of each
// command, as git has them.
package manpage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Book is what manual pages are written from.
type Book struct {
	Root    *kong.Node
	Version string                  // of the program
	Detail  func(*kong.Node) string // a command's description and examples, beyond its one line
}

// Write writes a page for the program and for each command into a folder, and returns their names.
func (b Book) Write(dir string) (names []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write manual pages: %w", err)
	}
	for _, n := range commands(b.Root) {
		name := Name(n) + ".1"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b.Page(n)), 0o644); err != nil {
			return names, fmt.Errorf("write manual pages: %w", err)
		}
		names = append(names, name)
	}
	return names, nil
}

// commands are a node and all below it that are not hidden.
func commands(n *kong.Node) []*kong.Node {
	all := []*kong.Node{n}
	for _, c := range n.Children {
		if !c.Hidden {
			all = append(all, commands(c)...)
		}
	}
	return all
}

// Name is the name of a command's page, as konstruct-kb-ingest.
func Name(n *kong.Node) string { return strings.ReplaceAll(fullName(n), " ", "-") }

// fullName is a command with all that stands before it.
func fullName(n *kong.Node) string {
	if n.Parent == nil {
		return n.Name
	}
	return fullName(n.Parent) + " " + n.Name
}

// Page is the manual page of a command, or of the program itself.
func (b Book) Page(n *kong.Node) string {
	p := &page{}
	program := n.Parent == nil
	help, detail, exit := n.Help, b.Detail(n), ""
	if program { // its help is a text of several paragraphs
		help, detail, _ = strings.Cut(n.Help, "\n\n")
		detail, exit, _ = strings.Cut(detail, "Exit codes: ")
	}
	p.line(`.TH "%s" 1 "" "%s" "%s manual"`, strings.ToUpper(escape(Name(n))), escape(b.Version), escape(b.Root.Name))
	p.line(".nh\n.ad l") // names and URLs are copied: they are not hyphenated
	p.section("NAME")
	p.line(`%s \- %s`, escape(Name(n)), escape(strings.TrimSuffix(help, ".")))
	p.section("SYNOPSIS")
	p.synopsis(n)
	p.section("DESCRIPTION")
	p.line("%s", text(help))
	p.prose(detail)
	if len(n.Positional) > 0 {
		p.section("ARGUMENTS")
		for _, arg := range n.Positional {
			p.item(argument(arg), arg.Help)
		}
	}
	p.options(n)
	p.commands(n)
	if exit != "" {
		p.section("EXIT STATUS")
		p.line("%s", text(exit))
	}
	if !program {
		p.section("EXIT STATUS")
		p.line(`As in \fB%s\fR(1).`, escape(b.Root.Name))
	}
	p.seeAlso(n)
	return p.String()
}

// page is a page in the making.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) section(title string) { p.line(`.SH "%s"`, title) }

// item is an entry of a list: what is said of a flag, an argument or a command.
func (p *page) item(head, body string) {
	p.line(".TP\n%s\n%s", head, text(body))
}

func (p *page) synopsis(n *kong.Node) {
	usage := `\fB` + escape(fullName(n)) + `\fR`
	for _, f := range n.Flags {
		if f.Required && !f.Hidden {
			usage += ` ` + option(f)
		}
	}
	if len(n.Children) > 0 {
		usage += ` \fICOMMAND\fR`
	}
	usage += ` [\fIOPTIONS\fR]`
	for _, arg := range n.Positional {
		usage += " " + argument(arg)
	}
	p.line("%s", usage)
}

// prose writes paragraphs; what is indented is printed as it stands, and a heading of examples is a section.
func (p *page) prose(detail string) {
	for paragraph := range strings.SplitSeq(strings.TrimRight(detail, "\n"), "\n\n") {
		paragraph = strings.Trim(paragraph, "\n")
		first, rest, more := strings.Cut(paragraph, "\n")
		switch {
		case strings.TrimSpace(paragraph) == "":
		case first == "Example:" || first == "Examples:":
			p.section("EXAMPLES")
			if more {
				p.code(rest)
			}
		case strings.HasSuffix(first, ":") && strings.HasPrefix(rest, "  "):
			p.line(".PP\n%s", text(first))
			p.code(rest)
		case strings.HasPrefix(paragraph, "  "):
			p.code(paragraph)
		default:
			p.line(".PP\n%s", text(paragraph))
		}
	}
}

// code writes lines that are not broken.
func (p *page) code(block string) {
	p.line(".PP\n.nf\n.RS 4")
	for line := range strings.SplitSeq(block, "\n") {
		p.line("%s", text(strings.TrimPrefix(line, "  ")))
	}
	p.line(".RE\n.fi")
}

// options writes a command's own flags; those that all commands have are on the program's page, by their groups.
func (p *page) options(n *kong.Node) {
	var flags []*kong.Flag
	for _, f := range n.Flags {
		if !f.Hidden {
			flags = append(flags, f)
		}
	}
	if len(flags) > 0 {
		p.section("OPTIONS")
	}
	slices.SortStableFunc(flags, func(a, b *kong.Flag) int { return grouped(a) - grouped(b) })
	group := ""
	for _, f := range flags {
		if f.Group != nil && f.Group.Title != group {
			group = f.Group.Title
			p.line(`.SS "%s"`, escape(strings.TrimSuffix(group, ":")))
		}
		p.item(option(f), describe(f))
	}
	if n.Parent != nil {
		if len(flags) == 0 {
			p.section("OPTIONS")
		}
		p.line(".PP\nThe options that all commands have, as connection URLs and folders, are in \\fB%s\\fR(1).",
			escape(fullName(top(n))))
	}
}

// grouped puts flags without a heading before those with one.
func grouped(f *kong.Flag) int {
	if f.Group == nil {
		return 0
	}
	return 1
}

func top(n *kong.Node) *kong.Node {
	for n.Parent != nil {
		n = n.Parent
	}
	return n
}

// option is a flag as it is typed.
func option(f *kong.Flag) string {
	s := ""
	if f.Short != 0 {
		s = `\fB\-` + escape(string(f.Short)) + `\fR, `
	}
	no := ""
	if f.Tag.Negatable != "" {
		no = "[no-]"
	}
	s += `\fB\-\-` + escape(no+f.Name) + `\fR`
	if !f.IsBool() && !f.IsCounter() {
		s += `=\fI` + escape(f.FormatPlaceHolder()) + `\fR`
	}
	return s
}

// describe is a flag's help with its values, its default and its variables.
func describe(f *kong.Flag) string {
	s := f.Help
	if f.Enum != "" {
		s += " One of: " + strings.Join(f.EnumSlice(), ", ") + "."
	}
	if f.HasDefault && f.Default != "" && !f.IsBool() {
		s += " Default: " + f.Default + "."
	}
	if len(f.Envs) > 0 {
		s += " Environment: " + strings.Join(f.Envs, ", ") + "."
	}
	return s
}

func argument(arg *kong.Positional) string {
	s := `\fI` + escape(strings.ToUpper(arg.Name)) + `\fR`
	if arg.IsCumulative() {
		s += " ..."
	}
	if !arg.Required {
		s = "[" + s + "]"
	}
	return s
}

func (p *page) commands(n *kong.Node) {
	first := true
	for _, c := range n.Children {
		if c.Hidden {
			continue
		}
		if first {
			p.section("COMMANDS")
			first = false
		}
		p.item(`\fB`+escape(Name(c))+`\fR(1)`, c.Help)
	}
}

func (p *page) seeAlso(n *kong.Node) {
	if n.Parent == nil {
		return
	}
	p.section("SEE ALSO")
	names := []string{`\fB` + escape(Name(top(n))) + `\fR(1)`}
	for parent := n.Parent; parent.Parent != nil; parent = parent.Parent {
		names = append(names, `\fB`+escape(Name(parent))+`\fR(1)`)
	}
	p.line("%s", strings.Join(names, ", "))
}

// longWord is how many letters a word may have without a place to break it.
const longWord = 50

// text is a line of roff that begins with no request.
func text(s string) string {
	words := strings.Split(escape(strings.ReplaceAll(s, "\n", " ")), " ")
	for i, word := range words {
		if len(word) > longWord {
			words[i] = strings.ReplaceAll(word, "/", `/\:`) // it may be broken there
		}
	}
	s = strings.Join(words, " ")
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}

// escape writes a text in roff's letters.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '`':
			b.WriteString("\\(ga")
		case r == '…':
			b.WriteString("...")
		case r > 126:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
