package extract

import (
	"context"
	"errors"
	"path"
	"strings"
)

// readBook reads an e-book (EPUB 2 and 3): its chapters, in the order of its spine.
func readBook(ctx context.Context, raw []byte) (*Document, error) {
	p, err := unpack(ctx, raw)
	if err != nil {
		return nil, err
	}
	if cipher, err := p.read("META-INF/encryption.xml"); err != nil || strings.Contains(string(cipher), ".xhtml") ||
		strings.Contains(string(cipher), ".html") {
		return nil, errors.Join(ErrEncrypted, err) // encrypted fonts alone do not matter
	}
	container, err := p.read("META-INF/container.xml")
	if err != nil {
		return nil, err
	}
	var opf string
	if err := readXML(ctx, container, events{open: func(e *element) (bool, error) {
		if e.is("rootfile") && opf == "" {
			opf = path.Clean(e.attr("full-path"))
		}
		return false, nil
	}}); err != nil {
		return nil, err
	}
	w := &writer{}
	if err := w.properties(p, opf, map[string]func(string){
		"title": func(s string) {
			w.Title = firstText(w.Title, s)
		}, "creator": func(s string) { w.Author = firstText(w.Author, s) },
		"language": func(s string) {
			w.Language = firstText(w.Language, s)
		}, "date": func(s string) { w.Created = instant(s) },
	}); err != nil {
		return nil, err
	}
	chapters, err := spine(p, opf)
	if err != nil {
		return nil, err
	}
	for i, chapter := range chapters {
		raw, err := p.read(chapter)
		if err != nil {
			return nil, err
		}
		if raw == nil { // a missing or external chapter
			continue
		}
		d, err := readHTML(ctx, raw)
		if err != nil {
			return nil, err
		}
		for j := range d.Blocks {
			d.Blocks[j].Page = i + 1
		}
		if err := w.all(d, 0); err != nil {
			return nil, err
		}
	}
	return &w.Document, nil
}

func firstText(have, more string) string {
	if have != "" {
		return have
	}
	return more
}

// spine returns the paths of a book's chapters in reading order.
func spine(p *parcel, opf string) (chapters []string, err error) {
	raw, err := p.read(opf)
	if err != nil || raw == nil {
		return nil, err
	}
	byID := map[string]string{}
	var order []string
	err = readXML(p.ctx, raw, events{open: func(e *element) (bool, error) {
		switch {
		case e.is("item") && strings.Contains(e.attr("media-type"), "html") &&
			!strings.Contains(e.attr("properties"), "nav"):
			byID[e.attr("id")] = path.Join(path.Dir(opf), e.attr("href"))
		case e.is("itemref"):
			order = append(order, e.attr("idref"))
		}
		return false, nil
	}})
	for _, id := range order {
		if part, ok := byID[id]; ok {
			chapters = append(chapters, part)
			delete(byID, id) // once, even if referenced twice
		}
	}
	return chapters, err
}
