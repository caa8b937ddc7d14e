package extract

import (
	"fmt"
	"strings"
)

// writer makes blocks of a document that has no text of its own to point into: their places are bytes into all their
// texts, a line each.
type writer struct {
	Document
	at     int
	code   strings.Builder // a program's paragraphs, not added yet
	codeAt Block           // the first of them
}

// add appends a block, unless it says nothing.
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

// all appends another document's blocks, headings that much deeper.
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

// paragraph appends a block, or a line of a program.
func (w *writer) paragraph(b Block) error {
	if b.Kind == Code {
		return w.codeLine(b)
	}
	return w.add(b)
}

// codeLine adds a paragraph of a program: those that follow one another are one block, which the next block or endCode
// ends.
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

// endCode adds the program that was gathered.
func (w *writer) endCode() error {
	if w.code.Len() == 0 {
		return nil
	}
	b := w.codeAt
	b.Text = strings.Trim(w.code.String(), "\n")
	w.code.Reset()
	return w.add(b)
}

// outline is the heading level of an outline's, which counts from 0; 0 of what is none.
func outline(n int, err error) int {
	if err != nil || n < 0 || n > 8 {
		return 0
	}
	return min(n+1, 6)
}

// isCode reports the name of a paragraph's style that programs are written in.
func isCode(style string) bool {
	style = strings.ToLower(strings.NewReplacer("_20_", "", " ", "", "_", "").Replace(style))
	return style == "sourcecode" || style == "preformattedtext" || style == "htmlpreformatted" || style == "code" ||
		style == "verbatim" || style == "plaintext"
}

// row appends cells as one row of a table; empty ones at its end are left out.
func (w *writer) row(cells []string, page int) error {
	for len(cells) > 0 && strings.TrimSpace(cells[len(cells)-1]) == "" {
		cells = cells[:len(cells)-1]
	}
	for i := range cells {
		cells[i] = collapseSpaces(cells[i])
	}
	return w.add(Block{Kind: Row, Text: strings.Join(cells, " | "), Page: page})
}

// table gathers rows, of which the first is the header of those behind it.
type table struct {
	cells []string
	depth int    // tables within tables: an inner one's text is its cell's
	head  string // the first row, once there is one
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
