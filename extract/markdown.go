package extract

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	east "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
)

// readMarkdown reads CommonMark with GitHub's tables.
func readMarkdown(raw []byte) (*Document, error) {
	src, err := decode(raw)
	if err != nil {
		return nil, err
	}
	if err := tooDeep(src); err != nil {
		return nil, err
	}
	d := &Document{Text: string(src)}
	src = d.frontMatter(src)
	root := goldmark.New(goldmark.WithExtensions(extension.Table)).Parser().Parse(text.NewReader(src))
	err = ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering || n.Type() == ast.TypeInline {
			return ast.WalkContinue, nil
		}
		b := Block{}
		switch n := n.(type) {
		case *ast.Heading:
			b.Kind, b.Level = Heading, n.Level
		case *ast.Paragraph, *ast.TextBlock:
			if _, ok := n.Parent().(*ast.ListItem); ok {
				b.Kind = Item
			}
		case *ast.FencedCodeBlock, *ast.CodeBlock:
			b.Kind = Code
		case *east.TableHeader, *east.TableRow:
			b.Kind = Row
		default:
			return ast.WalkContinue, nil
		}
		w := words{src: src, start: -1}
		if b.Kind == Code {
			w.lines(n)
		} else {
			w.inline(n)
		}
		b.Text, b.marks = w.text.String(), w.marks
		if b.Kind != Code {
			b.Text = flat(b.Text)
		}
		b.Text = strings.TrimRightFunc(b.Text, unicode.IsSpace)
		if strings.TrimFunc(b.Text, func(r rune) bool { return unicode.IsSpace(r) || r == '|' }) != "" && w.start >= 0 {
			b.Start, b.End = w.start, w.end
			if b.Kind == Heading && d.Title == "" {
				d.Title = collapseSpaces(b.Text)
			}
			d.Blocks = append(d.Blocks, b)
		}
		return ast.WalkSkipChildren, tooMany(d.Blocks)
	})
	return d, err
}

// frontMatter reads the properties between two lines of dashes, one name: value per line, and blanks them.
func (d *Document) frontMatter(src []byte) []byte {
	const fence = "---\n"
	body, is := bytes.CutPrefix(src, []byte(fence))
	end := bytes.Index(body, []byte("\n"+fence))
	if !is || end < 0 || end > 64<<10 {
		return src
	}
	for l := range strings.Lines(string(body[:end+1])) {
		name, value, _ := strings.Cut(l, ":")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		switch strings.TrimSpace(name) {
		case "title":
			d.Title = collapseSpaces(value)
		case "author":
			d.Author = value
		case "lang", "language":
			d.Language = value
		case "date":
			d.Created = instant(value)
		}
	}
	out := bytes.Clone(src)
	for i := range out[:len(fence)+end+1+len(fence)] {
		if out[i] != '\n' {
			out[i] = ' '
		}
	}
	return out
}

// maxNesting is the largest number of quotes and lists that one line opens. The parser's time grows with its square: 15
// s for 100,000, and next to nothing for this many.
const maxNesting = 100

func tooDeep(src []byte) error {
	n := 1
	for line := range bytes.Lines(src) {
		depth := 0
	markers:
		for i, c := range line {
			blank := i+1 == len(line) || line[i+1] == ' ' || line[i+1] == '\t' || line[i+1] == '\n'
			switch {
			case c == '>', (c == '-' || c == '+' || c == '*' || c == '.' || c == ')') && blank:
				depth++
			case c == ' ', c == '\t', '0' <= c && c <= '9':
			default:
				break markers
			}
		}
		if depth > maxNesting {
			return fmt.Errorf("line %d opens %d quotes and lists, the limit is %d", n, depth, maxNesting)
		}
		n++
	}
	return nil
}

// words collects the text of a block and its source positions.
type words struct {
	src        []byte
	text       strings.Builder
	marks      []mark
	start, end int
}

func (w *words) saw(s text.Segment) {
	w.marks = append(w.marks, mark{w.text.Len(), s.Start})
	w.text.Write(s.Value(w.src))
	if w.start < 0 || s.Start < w.start {
		w.start = s.Start
	}
	w.end = max(w.end, s.Stop)
}

func (w *words) lines(n ast.Node) {
	for i := range n.Lines().Len() {
		w.saw(n.Lines().At(i))
	}
}

func (w *words) inline(n ast.Node) {
	_ = ast.Walk(n, func(c ast.Node, entering bool) (ast.WalkStatus, error) {
		switch c := c.(type) {
		case *ast.Text:
			if entering {
				w.saw(c.Segment)
				if c.SoftLineBreak() || c.HardLineBreak() {
					w.text.WriteByte(' ')
				}
			}
		case *ast.String:
			if entering {
				w.text.Write(c.Value)
			}
		case *ast.AutoLink:
			if entering {
				w.text.Write(c.Label(w.src))
			}
		case *east.TableCell:
			if entering && c.PreviousSibling() != nil {
				w.text.WriteString(" | ")
			}
		}
		return ast.WalkContinue, nil
	})
}
