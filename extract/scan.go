package extract

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"os/exec"
	"slices"
	"strings"

	"github.com/klippa-app/go-pdfium"
	"github.com/klippa-app/go-pdfium/references"
	"github.com/klippa-app/go-pdfium/requests"
)

// Limits on scanned pages.
const (
	maxScanned = 30  // pages in one file
	scanDPI    = 200 // resolution of rendering
	maxPixels  = 30_000_000
	languages  = 4 // languages recognized at a time
)

// recognizer is tesseract with its installed languages.
type recognizer struct{ bin, languages string }

// findRecognizer returns tesseract, or nil if it is not installed.
func findRecognizer(ctx context.Context) (*recognizer, error) {
	bin, err := exec.LookPath("tesseract")
	if err != nil {
		return nil, nil
	}
	known, err := exec.CommandContext(ctx, bin, "--list-langs").Output()
	if err != nil {
		return nil, fmt.Errorf("ask tesseract for its languages: %w", err)
	}
	names := slices.DeleteFunc(strings.Fields(string(known)[strings.IndexByte(string(known), '\n')+1:]),
		func(n string) bool {
			return n == "osd" || n == "equ"
		})
	return &recognizer{bin, strings.Join(names[:min(len(names), languages)], "+")}, nil
}

// page recognizes a scanned page. Tesseract gets an image that we rendered, never the file.
func (r *recognizer) page(ctx context.Context, worker pdfium.Pdfium, doc references.FPDF_DOCUMENT,
	index int) ([][]row, error) {
	page := requests.Page{ByIndex: &requests.PageByIndex{Document: doc, Index: index}}
	size, err := worker.GetPageSize(&requests.GetPageSize{Page: page})
	if err != nil {
		return nil, err
	}
	if w, h := size.Width*scanDPI/72, size.Height*scanDPI/72; !(w > 0 && h > 0 && w*h <= maxPixels) {
		return nil, fmt.Errorf("%w: it is drawn with %.0f by %.0f points", ErrTooLarge, size.Width, size.Height)
	}
	drawn, err := worker.RenderPageInDPI(&requests.RenderPageInDPI{Page: page, DPI: scanDPI})
	if err != nil {
		return nil, err
	}
	defer drawn.Cleanup()
	var picture bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&picture, drawn.Result.RenderedImage); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, r.bin, "stdin", "stdout", "-l", r.languages)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = &picture, &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("recognize text: %w: %.200s", err, said.String())
	}
	// Empty lines separate paragraphs; build rows as of a page, one per line.
	var lines []row
	y := 0.0
	for line := range strings.Lines(strings.ToValidUTF8(string(out), "")) {
		y -= 12
		if line = strings.TrimSpace(strings.ReplaceAll(line, "\f", "")); line == "" {
			y -= 12
			continue
		}
		lines = append(lines,
			row{{style: style{size: 10}, text: line, left: 0, right: float64(len(line)), top: y, bottom: y - 10}})
	}
	return [][]row{lines}, nil
}
