package extract

import (
	"context"
	"strconv"
	"strings"
)

// readWord reads a Word document (ECMA-376, WordprocessingML).
func readWord(ctx context.Context, raw []byte) (*Document, error) {
	p, err := unpack(ctx, raw)
	if err != nil {
		return nil, err
	}
	w := &writer{}
	if err := w.core(p); err != nil {
		return nil, err
	}
	levels, err := wordStyles(p)
	if err != nil {
		return nil, err
	}
	for _, part := range []string{"word/document.xml", "word/footnotes.xml", "word/endnotes.xml"} {
		if err := w.word(p, part, levels); err != nil {
			return nil, err
		}
	}
	return &w.Document, w.endCode()
}

// codeStyle is the level of styles for source code.
const codeStyle = -1

// wordStyles returns the heading levels of styles by their ids, from their outline level or their name, which is
// English in every language version.
func wordStyles(p *parcel) (map[string]int, error) {
	raw, err := p.read("word/styles.xml")
	if err != nil || raw == nil {
		return nil, err
	}
	levels, based := map[string]int{}, map[string]string{}
	var id string
	err = readXML(p.ctx, raw, events{open: func(e *element) (bool, error) {
		switch {
		case e.is("style"):
			id = e.attr("styleId")
		case e.is("name"):
			name := strings.ToLower(e.attr("val"))
			if n, err := strconv.Atoi(strings.TrimPrefix(name, "heading ")); err == nil && n >= 1 && n <= 9 {
				levels[id] = min(n, 6)
			} else if name == "title" {
				levels[id] = 1
			} else if isCode(name) {
				levels[id] = codeStyle
			}
		case e.is("basedOn"):
			based[id] = e.attr("val")
		case e.is("outlineLvl"):
			if level := outline(strconv.Atoi(e.attr("val"))); level > 0 {
				levels[id] = level
			}
		}
		return false, nil
	}})
	for id := range based {
		for at, steps := id, 0; steps < 10 && levels[id] == 0 && based[at] != ""; steps++ {
			at = based[at]
			levels[id] = levels[at]
		}
	}
	return levels, err
}

func (w *writer) word(p *parcel, part string, levels map[string]int) error {
	raw, err := p.read(part)
	if err != nil || raw == nil {
		return err
	}
	var text strings.Builder
	var b Block
	var t table
	inText := false
	return readXML(p.ctx, raw, events{
		open: func(e *element) (bool, error) {
			switch e.Name.Local {
			case "del", "moveFrom", "Fallback", "instrText", "rPr":
				return true, nil
			case "footnote", "endnote":
				if kind := e.attr("type"); kind != "" && kind != "normal" {
					return true, nil // separator lines
				}
			case "p":
				if t.depth == 0 {
					text.Reset()
				}
				b = Block{}
			case "pStyle":
				if level := levels[e.attr("val")]; level > 0 {
					b.Kind, b.Level = Heading, level
				} else if level == codeStyle {
					b.Kind = Code
				}
			case "outlineLvl":
				if level := outline(strconv.Atoi(e.attr("val"))); level > 0 {
					b.Kind, b.Level = Heading, level
				}
			case "numPr":
				if b.Kind == Paragraph {
					b.Kind = Item
				}
			case "t":
				inText = true
			case "tab", "br", "cr":
				switch {
				case e.inside("pPr"):
				case b.Kind == Code && !e.is("tab") && t.depth == 0:
					text.WriteByte('\n')
				default:
					text.WriteByte(' ')
				}
			case "tbl":
				if t.depth++; t.depth == 1 {
					t = table{depth: 1}
				}
			}
			return false, nil
		},
		text: func(s string) {
			if inText {
				text.WriteString(s)
			}
		},
		close: func(e *element) error {
			switch e.Name.Local {
			case "t":
				inText = false
			case "p":
				if t.depth > 0 {
					text.WriteByte(' ')
					return nil
				}
				b.Text = text.String()
				text.Reset()
				return w.paragraph(b)
			case "tc":
				if t.depth == 1 {
					t.cells = append(t.cells, text.String())
					text.Reset()
				}
			case "tr":
				if t.depth == 1 {
					return w.tableRow(&t, 0)
				}
			case "tbl":
				t.depth = max(0, t.depth-1)
			}
			return nil
		},
	})
}
