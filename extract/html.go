package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
)

// readHTML reads a page token by token. It builds no tree, so deep nesting needs no memory and no stack, and every
// block knows its byte offsets in the page.
func readHTML(ctx context.Context, raw []byte) (*Document, error) {
	text, err := decodeHTML(raw)
	if err != nil {
		return nil, err
	}
	p := &page{z: html.NewTokenizer(bytes.NewReader(text))}
	p.z.SetMaxBuf(MaxText)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		kind := p.z.Next()
		if kind == html.ErrorToken {
			if err := p.z.Err(); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("read HTML at byte %d: %w", p.at, err)
			}
			break
		}
		p.token(kind)
		p.at += len(p.z.Raw())
		if err := tooMany(p.blocks); err != nil {
			return nil, err
		}
	}
	p.flush()
	if len(p.blocks) == 0 { // a page of links only is better than nothing
		p.blocks = p.links
	}
	p.about.Title, p.about.Blocks, p.about.Text = collapseSpaces(p.title.String()), p.blocks, string(text)
	return &p.about, nil
}

// decodeHTML detects the page's encoding as browsers do: byte order mark, meta element, then valid UTF-8.
func decodeHTML(raw []byte) ([]byte, error) {
	if looksUTF16(raw) {
		return decode(raw)
	}
	head := raw[:min(len(raw), 1024)]
	if e, name, certain := charset.DetermineEncoding(head, ""); name != "utf-8" && (certain || !utf8.Valid(raw)) {
		b, err := e.NewDecoder().Bytes(raw)
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", name, err)
		}
		raw = b
	}
	return decode(raw)
}

// page collects text into blocks as tags open and close.
type page struct {
	z      *html.Tokenizer
	at     int // bytes read so far
	blocks []Block
	links  []Block // blocks that consist of links: menus, footers, tables of contents
	title  strings.Builder
	about  Document

	text       strings.Builder // of the current block
	marks      []mark
	start, end int
	solid      int // its bytes that are not white space
	linked     int // those of them in links
	kind       Kind
	level      int

	terms  []string // of the open definition lists, innermost last
	isTerm bool     // the current block is a term

	inTitle, inLink bool
	pre             int       // number of open <pre>
	skip            atom.Atom // the element whose content is skipped
	skipped         int       // its nesting depth
}

func (p *page) token(kind html.TokenType) {
	switch kind {
	case html.TextToken:
		p.words(p.z.Raw(), p.z.Text())
	case html.StartTagToken, html.SelfClosingTagToken:
		name, more := p.z.TagName()
		tag := atom.Lookup(name)
		if p.skip != 0 {
			if tag == p.skip && kind == html.StartTagToken {
				p.skipped++
			}
			return
		}
		if tag == atom.Html || tag == atom.Meta {
			p.says(tag, more)
			return
		}
		if unread(tag) || more && p.hidden() {
			if kind == html.StartTagToken && !void(tag) {
				p.skip, p.skipped = tag, 1
			}
			return
		}
		p.open(tag)
	case html.EndTagToken:
		name, _ := p.z.TagName()
		tag := atom.Lookup(name)
		if p.skip != 0 {
			if tag == p.skip {
				if p.skipped--; p.skipped == 0 {
					p.skip = 0
				}
			}
			return
		}
		p.close(tag)
	}
}

// says reads the page's metadata: language, author and dates.
func (p *page) says(tag atom.Atom, more bool) {
	var name, content string
	for more {
		var key, value []byte
		key, value, more = p.z.TagAttr()
		switch string(key) {
		case "lang", "xml:lang":
			if tag == atom.Html {
				p.about.Language = string(value)
			}
		case "name", "property":
			name = strings.ToLower(string(value))
		case "content":
			content = string(value)
		}
	}
	switch name {
	case "author", "dc.creator", "article:author":
		p.about.Author = firstText(p.about.Author, content)
	case "created", "dcterms.date", "date", "article:published_time":
		p.about.Created = instant(content)
	case "changed", "article:modified_time":
		p.about.Modified = instant(content)
	}
}

// unread reports elements without text for readers.
func unread(tag atom.Atom) bool {
	switch tag {
	case atom.Script, atom.Style, atom.Noscript, atom.Template, atom.Svg, atom.Math, atom.Nav, atom.Select, atom.Button,
		atom.Iframe, atom.Object, atom.Canvas, atom.Textarea:
		return true
	}
	return false
}

func void(tag atom.Atom) bool {
	switch tag {
	case atom.Br, atom.Hr, atom.Img, atom.Input, atom.Meta, atom.Link, atom.Col, atom.Area, atom.Base, atom.Embed,
		atom.Source, atom.Track, atom.Wbr:
		return true
	}
	return false
}

// hidden reports whether the tag's attributes hide the element.
func (p *page) hidden() bool {
	for {
		key, value, more := p.z.TagAttr()
		if string(key) == "hidden" || string(key) == "aria-hidden" && string(value) == "true" {
			return true
		}
		if !more {
			return false
		}
	}
}

func (p *page) open(tag atom.Atom) {
	switch tag {
	case atom.Title:
		p.inTitle = true
	case atom.A:
		p.inLink = true
	case atom.Br:
		if p.pre > 0 {
			p.text.WriteByte('\n')
		} else {
			p.text.WriteByte(' ')
		}
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		p.flush()
		p.kind, p.level = Heading, int(tag.String()[1]-'0')
	case atom.Li, atom.Dt, atom.Dd:
		p.flush()
		p.kind, p.isTerm = Item, tag == atom.Dt
	case atom.Dl:
		p.flush()
		if len(p.terms) < maxTerms {
			p.terms = append(p.terms, "")
		}
	case atom.Tr:
		p.flush()
		p.kind = Row
	case atom.Td, atom.Th:
		if p.kind == Row && strings.TrimSpace(p.text.String()) != "" {
			p.text.WriteString(" | ")
		}
	case atom.Pre:
		p.flush()
		p.kind, p.pre = Code, p.pre+1
	default:
		if breaks(tag) && p.kind != Row && p.kind != Heading {
			keep := p.kind
			p.flush()
			if keep == Item && len(p.blocks) > 0 { // <li><p>text</p></li> is still an item
				p.kind = Item
			}
		} else if breaks(tag) {
			p.text.WriteByte(' ')
		}
	}
}

func (p *page) close(tag atom.Atom) {
	switch tag {
	case atom.Title:
		p.inTitle = false
	case atom.A:
		p.inLink = false
	case atom.Pre:
		p.flush()
		p.pre = max(0, p.pre-1)
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Li, atom.Dt, atom.Dd, atom.Tr, atom.Table:
		p.flush()
	case atom.Dl:
		p.flush()
		p.terms = p.terms[:max(0, len(p.terms)-1)]
	default:
		if breaks(tag) && p.kind != Row && p.kind != Heading {
			p.flush()
		} else if breaks(tag) {
			p.text.WriteByte(' ')
		}
	}
}

// breaks reports block elements, which separate sentences.
func breaks(tag atom.Atom) bool {
	switch tag {
	case atom.P, atom.Div, atom.Section, atom.Article, atom.Main, atom.Header, atom.Footer, atom.Aside, atom.Blockquote,
		atom.Ul, atom.Ol,
		atom.Table, atom.Thead, atom.Tbody, atom.Caption, atom.Figure, atom.Figcaption, atom.Form, atom.Fieldset,
		atom.Address, atom.Hr, atom.Body, atom.Head, atom.Html,
		atom.Details, atom.Summary:
		return true
	}
	return false
}

func (p *page) words(raw, text []byte) {
	if p.inTitle {
		p.title.Write(text)
		return
	}
	if p.skip != 0 {
		return
	}
	if len(bytes.TrimSpace(text)) > 0 {
		if p.end == 0 {
			p.start = p.at + len(raw) - len(bytes.TrimLeftFunc(raw, unicode.IsSpace))
		}
		p.end = p.at + len(bytes.TrimRightFunc(raw, unicode.IsSpace))
		n := 0
		for _, word := range bytes.Fields(text) {
			n += len(word)
		}
		p.solid += n
		if p.inLink {
			p.linked += n
		}
	}
	p.marks = append(p.marks, mark{p.text.Len(), p.at})
	p.text.Write(text)
}

// flush ends the current block.
func (p *page) flush() {
	if s := p.text.String(); strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '|' }) != "" {
		b := Block{Kind: p.kind, Level: p.level, Start: p.start, End: p.end, marks: slices.Clone(p.marks)}
		lead := 0
		if p.pre > 0 {
			b.Kind, b.Level = Code, 0
			lead = len(s) - len(strings.TrimLeft(s, "\r\n"))
			s = strings.TrimRightFunc(s[lead:], unicode.IsSpace)
		} else {
			lead = len(s) - len(strings.TrimLeftFunc(s, unicode.IsSpace))
			s = flat(strings.TrimRightFunc(s[lead:], func(r rune) bool { return unicode.IsSpace(r) || r == '|' }))
		}
		b.Text, b.Term = s, p.term(s)
		for i := range b.marks {
			b.marks[i].text -= lead
		}
		if b.Kind != Heading && b.Kind != Code && p.linked*10 >= p.solid*9 {
			p.links = append(p.links, b)
		} else {
			p.blocks = append(p.blocks, b)
		}
	}
	p.text.Reset()
	p.marks = p.marks[:0]
	p.start, p.end, p.solid, p.linked, p.kind, p.level, p.isTerm = 0, 0, 0, 0, Paragraph, 0, false
}

// maxTerms is the largest nesting of definition lists; deeper terms belong to the last.
const maxTerms = 16

// term returns the term that the ending block defines; an ending term becomes the current one.
func (p *page) term(text string) string {
	if p.isTerm && len(p.terms) > 0 {
		p.terms[len(p.terms)-1] = collapseSpaces(text)
	}
	for _, t := range slices.Backward(p.terms) {
		if t != "" {
			return t
		}
	}
	return ""
}
