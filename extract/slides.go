package extract

import (
	"context"
	"strconv"
	"strings"
)

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
			for _, a := range e.Attr { // id is the slide's number, r:id its relationship
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
	var t table
	var holder string // the shape's placeholder: title, body, sldNum
	level, inText, inTable := 0, false, false
	return readXML(p.ctx, raw, events{
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
				if inTable {
					text.WriteByte(' ')
					return nil
				}
				b := Block{Text: text.String(), Page: page}
				switch {
				case holder == "sldNum" || holder == "dt" || holder == "ftr" || holder == "hdr" ||
					notes && holder != "body":
					b.Text = ""
				case !notes && (holder == "title" || holder == "ctrTitle"):
					b.Kind, b.Level = Heading, 1
				case !notes && holder == "body" || level > 0:
					b.Kind = Item
				}
				text.Reset()
				return w.add(b)
			case "tc":
				t.cells = append(t.cells, text.String())
				text.Reset()
			case "tr":
				return w.tableRow(&t, page)
			case "tbl":
				inTable = false
			}
			return nil
		},
	})
}
