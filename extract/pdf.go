package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/klippa-app/go-pdfium"
	pdfium_errors "github.com/klippa-app/go-pdfium/errors"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// pdfMemory bounds what a hostile PDF can make PDFium take: pages of 64 KiB, half a GiB in all.
const pdfMemory = 8192

// pdfReader is PDFium in a WebAssembly sandbox: no files, no network, bounded memory, stopped when its
// context ends. It is compiled on first use, which takes a second or two.
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
	pool, err := webassembly.Init(webassembly.Config{MaxTotal: 2, RuntimeConfig: config, FSConfig: wazero.NewFSConfig(), Stdout: io.Discard, Stderr: io.Discard})
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

// read takes the text of each page; what stands between empty lines is a paragraph.
func (p *pdfReader) read(ctx context.Context, raw []byte) (d *Document, err error) {
	pool, err := p.start()
	if err != nil {
		return nil, err
	}
	worker, err := pool.GetInstanceWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the PDF reader: %w", err)
	}
	// A worker serves one file and is thrown away: nothing of one file is there for the next.
	stop := context.AfterFunc(ctx, func() { _ = worker.Kill() })
	defer func() {
		if stop() {
			_ = worker.Close()
		}
		if r := recover(); r != nil { // the sandbox's own failure on a broken file
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
	d, base := &Document{}, 0
	var all strings.Builder
	if meta, err := worker.GetMetaData(&requests.GetMetaData{Document: doc.Document, Tags: &[]string{"Title", "Author", "CreationDate", "ModDate"}}); err == nil {
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
	for i := range count.PageCount {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		page, err := worker.GetPageText(&requests.GetPageText{Page: requests.Page{ByIndex: &requests.PageByIndex{Document: doc.Document, Index: i}}})
		if err != nil {
			return nil, fmt.Errorf("read page %d of the PDF: %w", i+1, err)
		}
		text := cleanPage(page.Text)
		all.WriteString(text)
		if base += len(text); base > MaxText {
			return nil, fmt.Errorf("%w: more than %d bytes of text by page %d", ErrTooLarge, MaxText, i+1)
		}
		if err := paragraphs(d, []byte(text), base-len(text), i+1); err != nil {
			return nil, err
		}
	}
	d.Text = all.String()
	return d, nil
}

// cleanPage joins words that a line's end broke (PDFium marks them with U+FFFE or U+0002) and drops what
// is no text.
func cleanPage(s string) string {
	for _, mark := range []string{"\uFFFE", "\x02"} {
		s = strings.ReplaceAll(s, mark+"\r\n", "")
		s = strings.ReplaceAll(s, mark, "")
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
}

// pdfTime reads a time as PDFs write it (ISO 32000-1, 7.9.4): D:YYYYMMDDHHmmSS, then the distance from UTC, as +01'00'.
func pdfTime(s string) time.Time {
	s = strings.NewReplacer("D:", "", "'", "").Replace(s)
	for _, layout := range []string{"20060102150405Z0700", "20060102150405Z", "20060102150405", "20060102"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}
