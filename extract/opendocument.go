package extract

import (
	"bytes"
	"context"
	"strconv"
	"strings"
)

// Limits on repeated cells and rows of an OpenDocument sheet: sheets end with a million empty rows.
const (
	maxColumns = 1000
	maxRepeats = 1000
)

// readOpenDocument reads text documents, sheets and presentations (OASIS OpenDocument 1.3).
func readOpenDocument(ctx context.Context, raw []byte) (*Document, error) {
	p, err := unpack(ctx, raw)
	if err != nil {
		return nil, err
	}
	manifest, err := p.read("META-INF/manifest.xml")
	if err != nil {
		return nil, err
	}
	if bytes.Contains(manifest, []byte("encryption-data")) {
		return nil, ErrEncrypted
	}
	w := &writer{}
	if err := w.properties(p, "meta.xml", map[string]func(string){
		"title": func(s string) {
			w.Title = s
		}, "initial-creator": func(s string) { w.Author = s }, "language": func(s string) { w.Language = s },
		"creator": func(s string) {
			if w.Author == "" {
				w.Author = s
			}
		},
		"creation-date": func(s string) { w.Created = instant(s) }, "date": func(s string) { w.Modified = instant(s) },
	}); err != nil {
		return nil, err
	}
	content, err := p.read("content.xml")
	if err != nil {
		return nil, err
	}
	o := openDocument{w: w, parents: map[string]string{}}
	if err := readXML(ctx, content, events{open: o.open, close: o.close, text: o.text}); err != nil {
		return nil, err
	}
	return &w.Document, w.endCode()
}

// openDocument is the state of the reader.
type openDocument struct {
	w       *writer
	run     strings.Builder
	depth   int // nesting of paragraphs and headings: notes are inside one
	b       Block
	items   int // nesting of lists
	page    int
	title   int // nesting of title frames
	table   table
	parents map[string]string // of automatic styles
	cell    int               // how often the cell repeats
	rows    int               // how often the row repeats
}

func (o *openDocument) open(e *element) (skip bool, err error) {
	switch e.Name.Local {
	case "tracked-changes", "annotation", "forms", "binary-data", "sequence-decls", "font-face-decls", "note-citation",
		"page-number":
		return true, nil
	case "style":
		if e.attr("family") == "paragraph" {
			o.parents[e.attr("name")] = e.attr("parent-style-name")
		}
	case "h", "p":
		if o.depth++; o.depth == 1 && o.table.depth == 0 {
			o.run.Reset()
			o.b = Block{Page: o.page}
			switch n, _ := strconv.Atoi(e.attr("outline-level")); {
			case e.is("h"):
				o.b.Kind, o.b.Level = Heading, max(1, min(n, 6))
			case o.styled(e, func(style string) bool { return style == "Title" }) || o.title > 0:
				o.b.Kind, o.b.Level = Heading, 1
			case o.styled(e, isCode):
				o.b.Kind = Code
			case o.items > 0:
				o.b.Kind = Item
			}
		}
	case "s":
		for range repeats(e.attr("c"), maxColumns) {
			o.run.WriteByte(' ')
		}
	case "line-break":
		if o.b.Kind == Code && o.table.depth == 0 {
			o.run.WriteByte('\n')
		} else {
			o.run.WriteByte(' ')
		}
	case "tab", "note":
		o.run.WriteByte(' ')
	case "list":
		o.items++
	case "page":
		o.page++
	case "frame":
		if e.attr("class") == "title" || o.title > 0 {
			o.title++
		}
	case "table":
		if o.table.depth++; o.table.depth == 1 {
			o.table = table{depth: 1}
			if e.inside("spreadsheet") {
				o.page++
				return false, o.w.add(Block{Kind: Heading, Level: 1, Text: e.attr("name"), Page: o.page})
			}
		}
	case "table-row":
		if o.table.depth == 1 {
			o.rows = repeats(e.attr("number-rows-repeated"), maxRepeats)
		}
	case "table-cell", "covered-table-cell":
		if o.table.depth == 1 {
			o.run.Reset()
			o.cell = repeats(e.attr("number-columns-repeated"), maxColumns)
		}
	}
	return false, nil
}

// styled reports whether is holds for a paragraph's style or its parent style.
func (o *openDocument) styled(e *element, is func(string) bool) bool {
	style := e.attr("style-name")
	return is(style) || is(o.parents[style])
}

func repeats(s string, most int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 1
	}
	return min(n, most)
}

func (o *openDocument) text(s string) {
	if o.depth > 0 {
		o.run.WriteString(s)
	}
}

func (o *openDocument) close(e *element) error {
	switch e.Name.Local {
	case "h", "p":
		o.depth--
		if o.depth > 0 || o.table.depth > 0 {
			o.run.WriteByte(' ')
			return nil
		}
		o.b.Text = o.run.String()
		o.run.Reset()
		return o.w.paragraph(o.b)
	case "list":
		o.items--
	case "frame":
		o.title = max(0, o.title-1)
	case "table-cell", "covered-table-cell":
		if o.table.depth != 1 {
			return nil
		}
		text := collapseSpaces(o.run.String())
		for range o.cell {
			if len(o.table.cells) < maxColumns {
				o.table.cells = append(o.table.cells, text)
			}
		}
		o.run.Reset()
	case "table-row":
		if o.table.depth != 1 {
			return nil
		}
		cells := append([]string(nil), o.table.cells...)
		for range o.rows {
			o.table.cells = append(o.table.cells[:0], cells...)
			n := len(o.w.Blocks)
			if err := o.w.tableRow(&o.table, o.page); err != nil {
				return err
			}
			if len(o.w.Blocks) == n { // stop repeating an empty row
				break
			}
		}
	case "table":
		o.table.depth--
	}
	return nil
}
