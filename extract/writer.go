package extract

import (
	"fmt"
	"strings"
)

// writer builds a document without a text of its own: positions refer to the blocks' texts, one per line.
type writer struct {
	Document
	at     int
	code   strings.Builder // pending paragraphs of source code
	codeAt Block           // the first of them
}

// add appends a block, unless it is empty.
func (w *writer) add(b Block) error {
	if w.code.Len() > 0 {
		if err := w.endCode(); err != nil {
			return err
		}
	}
	if b.Kind != Code {
		b.Text = collapseSpaces(b.Text)
	}
	if strings.Trim(b.Text, " |\n\t") == "" {
		return nil
	}
	b.Text = strings.ToValidUTF8(strings.ReplaceAll(b.Text, "\x00", ""), "\uFFFD")
	b.Start, b.End = w.at, w.at+len(b.Text)
	if w.at = b.End + 1; w.at > MaxText {
		return fmt.Errorf("%w: more than %d bytes of text", ErrTooLarge, MaxText)
	}
	w.Blocks = append(w.Blocks, b)
	return tooMany(w.Blocks)
}

// all appends another document's blocks, with headings deeper by the given levels.
func (w *writer) all(d *Document, deeper int) error {
	for _, b := range d.Blocks {
		b.marks = nil
		if b.Kind == Heading {
			b.Level = min(b.Level+deeper, 6)
		}
		if err := w.add(b); err != nil {
			return err
		}
	}
	return nil
}

// paragraph appends a block, or a line of source code.
func (w *writer) paragraph(b Block) error {
	if b.Kind == Code {
		return w.codeLine(b)
	}
	return w.add(b)
}

// codeLine adds a line of source code. Consecutive lines form one block, which the next block or endCode ends.
func (w *writer) codeLine(b Block) error {
	if w.code.Len() > 0 {
		w.code.WriteByte('\n')
	} else {
		w.codeAt = b
	}
	w.code.WriteString(strings.TrimRight(b.Text, " \t\n"))
	if w.code.Len() > MaxText {
		return w.endCode()
	}
	return nil
}

// endCode appends the pending source code.
func (w *writer) endCode() error {
	if w.code.Len() == 0 {
		return nil
	}
	b := w.codeAt
	b.Text = strings.Trim(w.code.String(), "\n")
	w.code.Reset()
	return w.add(b)
}

// outline converts an outline level, which counts from 0, to a heading level; 0 if invalid.
func outline(n int, err error) int {
	if err != nil || n < 0 || n > 8 {
		return 0
	}
	return min(n+1, 6)
}

// isCode reports whether a paragraph style is for source code.
func isCode(style string) bool {
	style = strings.ToLower(strings.NewReplacer("_20_", "", " ", "", "_", "").Replace(style))
	return style == "sourcecode" || style == "preformattedtext" || style == "htmlpreformatted" || style == "code" ||
		style == "verbatim" || style == "plaintext"
}

// row appends cells as a table row, without trailing empty cells.
func (w *writer) row(cells []string, page int) error {
	for len(cells) > 0 && strings.TrimSpace(cells[len(cells)-1]) == "" {
		cells = cells[:len(cells)-1]
	}
	for i := range cells {
		cells[i] = collapseSpaces(cells[i])
	}
	return w.add(Block{Kind: Row, Text: strings.Join(cells, " | "), Page: page})
}

// table collects rows; the first is the header of the others.
type table struct {
	cells []string
	depth int    // nesting: the text of an inner table belongs to its cell
	head  string // the first row, once read
}

// tableRow ends a row.
func (w *writer) tableRow(t *table, page int) error {
	n := len(w.Blocks)
	err := w.row(t.cells, page)
	t.cells = t.cells[:0]
	if len(w.Blocks) > n {
		if t.head == "" {
			t.head = w.Blocks[n].Text
		} else {
			w.Blocks[n].Head = t.head
		}
	}
	return err
}
