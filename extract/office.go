package extract

import (
	"context"
	"path"
	"strconv"
	"strings"
	"time"
)

// core reads docProps/core.xml: what Office files say of themselves.
func (w *writer) core(p *parcel) error {
	return w.properties(p, "docProps/core.xml", map[string]func(string){
		"title": func(s string) { w.Title = s }, "creator": func(s string) { w.Author = s }, "language": func(s string) { w.Language = s },
		"created": func(s string) { w.Created = instant(s) }, "modified": func(s string) { w.Modified = instant(s) },
	})
}

// properties reads the elements of a part that hold one value each.
func (w *writer) properties(p *parcel, part string, set map[string]func(string)) error {
	raw, err := p.read(part)
	if err != nil || raw == nil {
		return err
	}
	var text strings.Builder
	return readXML(p.ctx, raw, events{
		open: func(*element) (bool, error) { text.Reset(); return false, nil },
		text: func(s string) { text.WriteString(s) },
		close: func(e *element) {
			if to := set[e.Name.Local]; to != nil {
				if s := squeeze(text.String()); s != "" {
					to(s)
				}
			}
			text.Reset()
		},
	})
}

// instant reads a time as files write it; the zero time where it is none.
func instant(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}

// relations are the parts that a part of an Office file points to inside it, by their ids.
func relations(p *parcel, part string) (byID map[string]relation, err error) {
	raw, err := p.read(path.Join(path.Dir(part), "_rels", path.Base(part)+".rels"))
	if err != nil || raw == nil {
		return nil, err
	}
	byID = map[string]relation{}
	err = readXML(p.ctx, raw, events{open: func(e *element) (bool, error) {
		if e.is("Relationship") && e.attr("TargetMode") != "External" {
			target := e.attr("Target")
			if strings.HasPrefix(target, "/") {
				target = target[1:]
			} else {
				target = path.Join(path.Dir(part), target)
			}
			byID[e.attr("Id")] = relation{path.Base(e.attr("Type")), target}
		}
		return false, nil
	}})
	return byID, err
}

type relation struct{ kind, target string }

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
	return &w.Document, nil
}

// codeStyle stands for the level of a style that programs are written in.
const codeStyle = -1

// wordStyles are the heading levels of styles, by their ids: they go by their outline, or by their names, which are English in every language.
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
			if n, err := strconv.Atoi(e.attr("val")); err == nil && n >= 0 && n < 9 {
				levels[id] = min(n+1, 6)
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

// table gathers rows, of which the first is the header of those behind it.
type table struct {
	cells []string
	depth int    // tables within tables: an inner one's text is its cell's
	head  string // the first row, once there is one
}

func (w *writer) word(p *parcel, part string, levels map[string]int) error {
	raw, err := p.read(part)
	if err != nil || raw == nil {
		return err
	}
	var text strings.Builder
	var failed error
	var b Block
	var t table
	inText := false
	return orFailed(&failed, readXML(p.ctx, raw, events{
		open: func(e *element) (bool, error) {
			switch e.Name.Local {
			case "del", "moveFrom", "Fallback", "instrText", "rPr":
				return true, nil
			case "footnote", "endnote":
				if kind := e.attr("type"); kind != "" && kind != "normal" {
					return true, nil // the lines that separate them
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
				if n, err := strconv.Atoi(e.attr("val")); err == nil && n >= 0 && n < 9 {
					b.Kind, b.Level = Heading, min(n+1, 6)
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
			return false, failed
		},
		text: func(s string) {
			if inText {
				text.WriteString(s)
			}
		},
		close: func(e *element) {
			switch e.Name.Local {
			case "t":
				inText = false
			case "p":
				if t.depth > 0 {
					text.WriteByte(' ')
					return
				}
				b.Text = text.String()
				if b.Kind == Code {
					failed = firstError(failed, w.codeLine(b))
				} else {
					failed = firstError(failed, w.add(b))
				}
				text.Reset()
			case "tc":
				if t.depth == 1 {
					t.cells = append(t.cells, text.String())
					text.Reset()
				}
			case "tr":
				if t.depth == 1 {
					failed = firstError(failed, w.tableRow(&t, 0))
				}
			case "tbl":
				t.depth = max(0, t.depth-1)
			}
		},
	}))
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

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// orFailed is what a callback that can't return an error met, or the reader's own.
func orFailed(failed *error, err error) error { return firstError(*failed, err) }

// readSlides reads a PowerPoint presentation (ECMA-376, PresentationML): each slide in order, with its notes.
func readSlides(ctx context.Context, raw []byte) (*Document, error) {
	p, err := unpack(ctx, raw)
	if err != nil {
		return nil, err
	}
	w := &writer{}
	if err := w.core(p); err != nil {
		return nil, err
	}
	const main = "ppt/presentation.xml"
	byID, err := relations(p, main)
	if err != nil {
		return nil, err
	}
	index, err := p.read(main)
	if err != nil {
		return nil, err
	}
	var slides []string
	if err := readXML(ctx, index, events{open: func(e *element) (bool, error) {
		if e.is("sldId") {
			for _, a := range e.Attr { // id is the slide's number, r:id its relation
				if r, ok := byID[a.Value]; ok && a.Name.Space != "" {
					slides = append(slides, r.target)
				}
			}
		}
		return false, nil
	}}); err != nil {
		return nil, err
	}
	for i, slide := range slides {
		if err := w.slide(p, slide, i+1, false); err != nil {
			return nil, err
		}
		more, err := relations(p, slide)
		if err != nil {
			return nil, err
		}
		for _, r := range more {
			if r.kind == "notesSlide" {
				if err := w.slide(p, r.target, i+1, true); err != nil {
					return nil, err
				}
			}
		}
	}
	return &w.Document, nil
}

func (w *writer) slide(p *parcel, part string, page int, notes bool) error {
	raw, err := p.read(part)
	if err != nil || raw == nil {
		return err
	}
	var text strings.Builder
	var failed error
	var t table
	var holder string // what the shape stands for: title, body, sldNum
	level, inText, inTable := 0, false, false
	return orFailed(&failed, readXML(p.ctx, raw, events{
		open: func(e *element) (bool, error) {
			switch e.Name.Local {
			case "Fallback":
				return true, nil
			case "sp", "graphicFrame":
				holder = ""
			case "ph":
				if holder = e.attr("type"); holder == "" {
					holder = "body"
				}
			case "p":
				if !inTable {
					text.Reset()
				}
				level = 0
			case "pPr":
				level, _ = strconv.Atoi(e.attr("lvl"))
			case "t":
				inText = true
			case "br":
				text.WriteByte(' ')
			case "tbl":
				t, inTable = table{}, true
			}
			return false, failed
		},
		text: func(s string) {
			if inText {
				text.WriteString(s)
			}
		},
		close: func(e *element) {
			switch e.Name.Local {
			case "t":
				inText = false
			case "p":
				if inTable {
					text.WriteByte(' ')
					return
				}
				b := Block{Text: text.String(), Page: page}
				switch {
				case holder == "sldNum" || holder == "dt" || holder == "ftr" || holder == "hdr" || notes && holder != "body":
					b.Text = ""
				case !notes && (holder == "title" || holder == "ctrTitle"):
					b.Kind, b.Level = Heading, 1
				case !notes && holder == "body" || level > 0:
					b.Kind = Item
				}
				failed = firstError(failed, w.add(b))
				text.Reset()
			case "tc":
				t.cells = append(t.cells, text.String())
				text.Reset()
			case "tr":
				failed = firstError(failed, w.tableRow(&t, page))
			case "tbl":
				inTable = false
			}
		},
	}))
}
