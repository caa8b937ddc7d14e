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

// Limits on pages that are pictures.
const (
	maxScanned = 30  // in one file
	scanDPI    = 200 // what they are drawn at
	maxPixels  = 30_000_000
	languages  = 4 // that are looked for at once
)

// recognizer is tesseract with the languages that it knows.
type recognizer struct{ bin, languages string }

// findRecognizer finds tesseract; nil where it is not installed.
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

// page reads a page that is a picture. Tesseract gets a picture that we drew, and not the file.
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
	// What stands between empty lines is a paragraph; it is laid out as pages are, a line each.
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
