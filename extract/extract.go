// Package extract extracts a file's text with its structure: headings, paragraphs, list items, code, tables and pages,
// each with its position. It must not know tokens, models or databases.
package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is the kind of a block.
type Kind int

// The kinds of blocks.
const (
	Paragraph Kind = iota
	Heading
	Item // of a list
	Code
	Row // of a table, its cells joined with " | "
)

// Block is one piece of a document, in reading order.
type Block struct {
	Kind  Kind
	Level int    // of a heading, 1 to 6
	Text  string // UTF-8 without markup; line breaks only in code, elsewhere they are spaces
	// Start and End are its position: byte offsets into Document.Text.
	Start, End int
	Page       int // page, slide, sheet or chapter, from 1; 0 where the file has none
	// Head is the header row of a table, in each row after it.
	Head string
	// Term is the term that the block defines, in a definition list; the term itself is an Item with this Term.
	Term string

	marks []mark // maps Text to the document, in order; none when Text is the document's own bytes
}

// mark maps byte text of a block's Text to byte source of the document.
type mark struct{ text, source int }

// Place returns the position in the document of the bytes [from, to) of Text. It is exact, except that a character
// reference such as &amp; shifts the rest of the text up to the next tag by its length.
func (b Block) Place(from, to int) (start, end int) {
	at := func(n, limit int) int {
		i, found := slices.BinarySearchFunc(b.marks, n, func(m mark, n int) int { return m.text - n })
		if !found {
			i--
		}
		if i < 0 {
			return min(b.Start+n, limit)
		}
		if i+1 < len(b.marks) {
			limit = min(limit, b.marks[i+1].source)
		}
		return min(b.marks[i].source+n-b.marks[i].text, limit)
	}
	start = max(b.Start, at(from, b.End))
	return start, max(start, at(to, b.End))
}

// Document is a file's content and properties.
type Document struct {
	Title             string // from the file's metadata; empty if absent, as the next two
	Author, Language  string
	Created, Modified time.Time // from the file's metadata; zero if absent
	ContentType       string    // one of the types above
	Blocks            []Block
	// Text is what the blocks' Start and End refer to, as UTF-8: the file itself if it is text, the text of all pages
	// of a PDF, and otherwise all blocks' texts, one per line.
	Text string
}

// Limits on one file.
const (
	MaxText   = 16 << 20  // bytes of a text file, and of the text in any other
	MaxPDF    = 128 << 20 // bytes of a PDF or another file that is not just text
	MaxPages  = 10_000    // of a PDF
	MaxBlocks = 1_000_000
)

// Reasons why a file can't be ingested.
var (
	ErrEmpty     = errors.New("the file is empty")
	ErrNoText    = errors.New("the file holds no text")
	ErrTooLarge  = errors.New("the file is too large")
	ErrEncrypted = errors.New("it is encrypted: remove its password first")
	ErrKind      = errors.New("not a kind of file that is read here (docs/formats.md lists them)")
)

// Limit returns the largest size of a file of a content type, in bytes. A mailbox, a ZIP or a tar has no limit; the
// files in it have.
func Limit(contentType string) int64 {
	switch contentType {
	case TypeText, TypeMarkdown, TypeRST, TypeASCIIDoc, TypeHTML, TypeCSV, TypeCode, TypeXML, TypeJSON:
		return MaxText
	}
	return MaxPDF
}

// Extractor extracts files. Its zero value is ready to use; it is safe for concurrent use.
type Extractor struct{ pdf pdfReader }

// Close releases the PDF reader.
func (x *Extractor) Close() error { return x.pdf.close() }

// Extract extracts a file's content. It returns an error when the file has no text, and stops when ctx ends.
func (x *Extractor) Extract(ctx context.Context, contentType string, raw []byte) (d *Document, err error) {
	if len(raw) == 0 {
		return nil, ErrEmpty
	}
	if int64(len(raw)) > Limit(contentType) {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(raw), Limit(contentType))
	}
	switch contentType {
	case TypePDF:
		d, err = x.pdf.read(ctx, raw)
	case TypeHTML:
		d, err = readHTML(ctx, raw)
	case TypeMarkdown:
		d, err = readMarkdown(raw)
	case TypeText:
		d, err = readText(raw)
	case TypeRST, TypeASCIIDoc:
		d, err = readLines(raw, contentType)
	case TypeCode:
		d, err = readCode(raw)
	case TypeCSV:
		d, err = readTable(ctx, raw)
	case TypeJSON:
		d, err = readJSON(ctx, raw)
	case TypeNotebook:
		d, err = readNotebook(ctx, raw)
	case TypeXML:
		d, err = readPlainXML(ctx, raw)
	case TypeRTF:
		d, err = readRTF(ctx, raw)
	case TypeWord:
		d, err = readWord(ctx, raw)
	case TypeSlides:
		d, err = readSlides(ctx, raw)
	case TypeSheets:
		d, err = readSheets(ctx, raw)
	case TypeODT, TypeODS, TypeODP:
		d, err = readOpenDocument(ctx, raw)
	case TypeBook:
		d, err = readBook(ctx, raw)
	case TypeMail:
		d, err = x.readMail(ctx, raw)
	default:
		err = fmt.Errorf("%s: %w", contentType, ErrKind)
	}
	if err != nil {
		return nil, err
	}
	if len(d.Blocks) == 0 {
		return nil, ErrNoText
	}
	if d.Text == "" { // build it from the blocks, one per line
		texts := make([]string, len(d.Blocks))
		for i := range d.Blocks {
			texts[i] = d.Blocks[i].Text
		}
		d.Text = strings.Join(texts, "\n")
	}
	d.ContentType, d.Title, d.Author, d.Language = contentType, clean(d.Title), clean(d.Author), clean(d.Language)
	return d, nil
}

// maxProperty is the largest size of a title, author or language, in bytes.
const maxProperty = 1000

// clean makes a metadata value valid, single-line and short.
func clean(s string) string {
	s = collapseSpaces(strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD"))
	if len(s) > maxProperty {
		s = strings.ToValidUTF8(s[:maxProperty], "")
	}
	return s
}

// flat replaces line breaks and tabs by spaces, byte for byte.
func flat(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '\n', '\r', '\t', '\f', '\v':
			return ' '
		}
		return r
	}, s)
}

// collapseSpaces replaces every run of white space by one space.
func collapseSpaces(s string) string { return strings.Join(strings.Fields(s), " ") }

// tooMany bounds the number of blocks.
func tooMany(blocks []Block) error {
	if len(blocks) > MaxBlocks {
		return fmt.Errorf("%w: more than %d blocks", ErrTooLarge, MaxBlocks)
	}
	return nil
}

// looksUTF16 reports text with a UTF-16 byte order mark, or mostly ASCII text of two bytes a character.
func looksUTF16(b []byte) bool {
	if bytes.HasPrefix(b, []byte{0xFF, 0xFE}) || bytes.HasPrefix(b, []byte{0xFE, 0xFF}) {
		return true
	}
	even, odd := nuls(b)
	n := min(len(b), sniff) / 2
	return n >= 2 && (even*4 > n*3 && odd*8 < n || odd*4 > n*3 && even*8 < n)
}

// sniff is the number of bytes inspected for UTF-16.
const sniff = 4096

func nuls(b []byte) (even, odd int) {
	for i, c := range b[:min(len(b), sniff)] {
		if c == 0 && i%2 == 0 {
			even++
		} else if c == 0 {
			odd++
		}
	}
	return even, odd
}
