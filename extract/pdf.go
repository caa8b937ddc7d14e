package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/klippa-app/go-pdfium"
	pdfium_errors "github.com/klippa-app/go-pdfium/errors"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// pdfMemory bounds PDFium's memory, in pages of 64 KiB: half a GiB.
const pdfMemory = 8192

// pdfReader runs PDFium in a WebAssembly sandbox: no files, no network, bounded memory, stopped when its context ends.
// It is compiled on first use, which takes one or two seconds.
type pdfReader struct {
	mu   sync.Mutex
	pool pdfium.Pool
}

func (p *pdfReader) start() (pdfium.Pool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool != nil {
		return p.pool, nil
	}
	config := wazero.NewRuntimeConfig().WithMemoryLimitPages(pdfMemory).WithCloseOnContextDone(true).
		WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling)
	pool, err := webassembly.Init(webassembly.Config{MaxTotal: 2, RuntimeConfig: config, FSConfig: wazero.NewFSConfig(),
		Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		return nil, fmt.Errorf("start the PDF reader: %w", err)
	}
	p.pool = pool
	return pool, nil
}

func (p *pdfReader) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool == nil {
		return nil
	}
	err := p.pool.Close()
	p.pool = nil
	return err
}

// read extracts the text of each page; the layout tells headings, paragraphs, lists, tables and programs.
func (p *pdfReader) read(ctx context.Context, raw []byte) (d *Document, err error) {
	pool, err := p.start()
	if err != nil {
		return nil, err
	}
	worker, err := pool.GetInstanceWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the PDF reader: %w", err)
	}
	// A worker serves one file and is discarded, so that files share no state.
	stop := context.AfterFunc(ctx, func() { _ = worker.Kill() })
	defer func() {
		if stop() {
			_ = worker.Close()
		}
		if r := recover(); r != nil { // the sandbox fails on a broken file
			d, err = nil, fmt.Errorf("read the PDF: %v", r)
		}
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("read the PDF: %w", ctx.Err())
		}
	}()
	return readPages(ctx, worker, raw)
}

func readPages(ctx context.Context, worker pdfium.Pdfium, raw []byte) (*Document, error) {
	doc, err := worker.OpenDocument(&requests.OpenDocument{File: &raw})
	if errors.Is(err, pdfium_errors.ErrPassword) || errors.Is(err, pdfium_errors.ErrSecurity) {
		return nil, ErrEncrypted
	}
	if err != nil {
		return nil, fmt.Errorf("read the PDF: it is damaged or no PDF: %w", err)
	}
	count, err := worker.FPDF_GetPageCount(&requests.FPDF_GetPageCount{Document: doc.Document})
	if err != nil {
		return nil, fmt.Errorf("count the PDF's pages: %w", err)
	}
	if count.PageCount > MaxPages {
		return nil, fmt.Errorf("%w: %d pages, the limit is %d", ErrTooLarge, count.PageCount, MaxPages)
	}
	d := &Document{}
	if meta, err := worker.GetMetaData(&requests.GetMetaData{Document: doc.Document,
		Tags: &[]string{"Title", "Author", "CreationDate", "ModDate"}}); err == nil {
		for _, tag := range meta.Tags {
			value := clean(tag.Value)
			switch tag.Tag {
			case "Title":
				d.Title = value
			case "Author":
				d.Author = value
			case "CreationDate":
				d.Created = pdfTime(value)
			case "ModDate":
				d.Modified = pdfTime(value)
			}
		}
	}
	pages := make([][][]row, count.PageCount)
	chars, scanned := 0, 0
	var ocr *recognizer
	for i := range pages {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		page, n, err := readPage(worker,
			requests.Page{ByIndex: &requests.PageByIndex{Document: doc.Document, Index: i}})
		if err == nil && n == 0 {
			if scanned++; scanned == 1 {
				ocr, err = findRecognizer(ctx)
			}
			if err == nil && ocr != nil && scanned <= maxScanned {
				page, err = ocr.page(ctx, worker, doc.Document, i)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read page %d of the PDF: %w", i+1, err)
		}
		if chars += n; chars > MaxText {
			return nil, fmtTooMuch(i + 1)
		}
		pages[i] = page
	}
	l := &layout{d: d}
	l.measure(pages)
	for i, page := range pages {
		for _, column := range unnumbered(page) {
			if err := l.column(column, i+1); err != nil {
				return nil, err
			}
		}
	}
	if d.Text = l.text.String(); scanned > maxScanned {
		return nil, fmt.Errorf("%w: %d of its pages are scanned, the limit is %d: have its text recognized first, "+
			"for example with ocrmypdf", ErrTooLarge, scanned, maxScanned)
	}
	if len(d.Blocks) == 0 && scanned > 0 {
		return nil, fmt.Errorf("%w: its pages are scanned; where tesseract is installed, their text is recognized",
			ErrNoText)
	}
	if d.Title == "" && len(d.Blocks) > 0 && d.Blocks[0].Kind == Heading && d.Blocks[0].Level == 1 {
		d.Title = d.Blocks[0].Text
	}
	return d, nil
}

// fmtTooMuch returns the error of a document with too much text.
func fmtTooMuch(page int) error {
	return fmt.Errorf("%w: more than %d bytes of text by page %d", ErrTooLarge, MaxText, page)
}

// readPage returns a page's rows in reading order, and its number of characters.
func readPage(worker pdfium.Pdfium, page requests.Page) (columnsRead [][]row, n int, err error) {
	structured, err := worker.GetPageTextStructured(&requests.GetPageTextStructured{Page: page,
		Mode: requests.GetPageTextStructuredModeChars})
	if err != nil {
		return nil, 0, err
	}
	text, err := worker.FPDFText_LoadPage(&requests.FPDFText_LoadPage{Page: page})
	if err != nil {
		return nil, 0, err
	}
	defer worker.FPDFText_ClosePage(&requests.FPDFText_ClosePage{TextPage: text.TextPage})
	glyphs := make([]glyph, len(structured.Chars))
	for i, c := range structured.Chars {
		glyphs[i] = glyph{' ', c.PointPosition.Left, c.PointPosition.Right, c.PointPosition.Top, c.PointPosition.Bottom}
		for _, r := range c.Text {
			if r != 0 && r != utf8.RuneError {
				glyphs[i].r = r
			}
		}
	}
	all := segments(glyphs, func(i int) (s style) {
		if size, err := worker.FPDFText_GetFontSize(&requests.FPDFText_GetFontSize{TextPage: text.TextPage,
			Index: i}); err == nil {
			s.size = size.FontSize
		}
		if m, err := worker.FPDFText_GetMatrix(&requests.FPDFText_GetMatrix{TextPage: text.TextPage,
			Index: i}); err == nil {
			s.size *= math.Hypot(float64(m.Matrix.C), float64(m.Matrix.D))
		}
		if s.size = math.Round(s.size*2) / 2; !(s.size >= 1 && s.size < 1000) {
			s.size = 10
		}
		if font, err := worker.FPDFText_GetFontInfo(&requests.FPDFText_GetFontInfo{TextPage: text.TextPage,
			Index: i}); err == nil {
			name := strings.ToLower(font.FontName)
			s.mono = font.Flags&1 != 0 || strings.Contains(name, "mono") || strings.Contains(name, "courier")
		}
		return s
	})
	for _, s := range all {
		n += len(s.text)
	}
	return columns(all), n, nil
}

// pdfTime parses a PDF date (ISO 32000-1, 7.9.4): D:YYYYMMDDHHmmSS and the offset from UTC, such as +01'00'.
func pdfTime(s string) time.Time {
	s = strings.NewReplacer("D:", "", "'", "").Replace(s)
	for _, layout := range []string{"20060102150405Z0700", "20060102150405Z", "20060102150405", "20060102"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}
