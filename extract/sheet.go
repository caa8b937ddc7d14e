package extract

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/xuri/excelize/v2"
)

// readSheets reads an Excel workbook: a heading for each sheet, and each row with its cells as displayed.
func readSheets(ctx context.Context, raw []byte) (*Document, error) {
	p, err := unpack(ctx, raw) // its unpacked size is checked before the library gets it
	if err != nil {
		return nil, err
	}
	if err := p.bounded(); err != nil {
		return nil, err
	}
	w := &writer{}
	if err := w.core(p); err != nil {
		return nil, err
	}
	f, err := excelize.OpenReader(bytes.NewReader(raw),
		excelize.Options{UnzipSizeLimit: maxUnpacked, UnzipXMLSizeLimit: maxUnpacked})
	if err != nil {
		return nil, fmt.Errorf("read the workbook: %w", err)
	}
	defer f.Close()
	for i, sheet := range f.GetSheetList() {
		if err := w.sheet(ctx, f, sheet, i+1); err != nil {
			return nil, err
		}
	}
	return &w.Document, nil
}

func (w *writer) sheet(ctx context.Context, f *excelize.File, name string, page int) error {
	rows, err := f.Rows(name)
	if err != nil {
		return fmt.Errorf("read sheet %.80q: %w", name, err)
	}
	defer rows.Close()
	if err := w.add(Block{Kind: Heading, Level: 1, Text: name, Page: page}); err != nil {
		return err
	}
	var t table
	for n := 0; rows.Next(); n++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		cells, err := rows.Columns()
		if err != nil {
			return fmt.Errorf("read row %d of sheet %.80q: %w", n+1, name, err)
		}
		t.cells = cells[:min(len(cells), maxColumns)]
		if err := w.tableRow(&t, page); err != nil {
			return err
		}
	}
	return rows.Error()
}

// maxStrings is the largest unpacked size of a part that is no sheet, in bytes: the library needs twenty times as much
// memory for shared strings. It streams sheets.
const maxStrings = 24 << 20

// bounded refuses a workbook that unpacks to too much. It unpacks everything once and keeps nothing.
func (p *parcel) bounded() error {
	total := int64(0)
	for name := range p.files {
		limit := maxUnpacked - total
		if !strings.HasPrefix(name, "xl/worksheets/") {
			limit = min(limit, maxStrings)
		}
		r, err := p.open(name, limit)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("unpack %.80q: %w", name, err)
		}
		if total += n; n > limit {
			return fmt.Errorf("%w: %.80q unpacks to more than %d bytes", ErrTooLarge, name, limit)
		}
	}
	return nil
}

// readTable reads CSV (RFC 4180) and similar formats; it detects the separator.
func readTable(ctx context.Context, raw []byte) (*Document, error) {
	text, err := decode(raw)
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma, r.LazyQuotes, r.FieldsPerRecord, r.ReuseRecord = separator(text), true, -1, true
	d := &Document{Text: string(text)}
	var head string
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		start := int(r.InputOffset())
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the table: %w", err)
		}
		row := make([]string, len(cells))
		for i := range cells {
			row[i] = collapseSpaces(cells[i])
		}
		b := Block{Kind: Row, Text: strings.TrimRight(strings.Join(row, " | "), " |"), Start: start,
			End: int(r.InputOffset()), Head: head}
		if b.Text == "" {
			continue
		}
		for b.Start < b.End && (text[b.Start] == '\n' || text[b.Start] == '\r') {
			b.Start++
		}
		for b.End > b.Start && (text[b.End-1] == '\n' || text[b.End-1] == '\r') {
			b.End--
		}
		if head == "" {
			head = b.Text
		}
		if d.Blocks = append(d.Blocks, b); len(d.Blocks) > MaxBlocks {
			return nil, tooMany(d.Blocks)
		}
	}
}

// separator returns the comma, semicolon, tab or bar that splits the first lines most evenly.
func separator(text []byte) rune {
	lines := strings.SplitN(string(text[:min(len(text), 16<<10)]), "\n", 21)
	if len(lines) > 1 {
		lines = lines[:len(lines)-1] // it may be incomplete
	}
	best, most := ',', 0
	for _, s := range []rune{',', '\t', ';', '|'} {
		least := -1
		for _, line := range lines {
			if strings.TrimSpace(line) != "" {
				if n := strings.Count(line, string(s)); least < 0 || n < least {
					least = n
				}
			}
		}
		if least > most {
			best, most = s, least
		}
	}
	return best
}
