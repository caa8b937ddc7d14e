package extract_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/konstruct/konstruct/extract"
)

// fuzzTime is how long one input of a fuzzer's size may take.
const fuzzTime = 30 * time.Second

// sound checks what every extraction holds, whatever the file.
func sound(t *testing.T, kind string, raw []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), fuzzTime)
	defer cancel()
	d, err := shared.Extract(ctx, kind, raw)
	if ctx.Err() != nil {
		t.Fatalf("%d bytes took longer than %v", len(raw), fuzzTime)
	}
	if err != nil {
		return
	}
	for _, b := range d.Blocks {
		if !utf8.ValidString(b.Text) || strings.TrimSpace(b.Text) == "" || strings.ContainsRune(b.Text, 0) {
			t.Errorf("block %q", b.Text)
		}
		if b.Kind != extract.Code && strings.ContainsAny(b.Text, "\r\n\t") {
			t.Errorf("a block with a line break: %q", b.Text)
		}
		if b.Start < 0 || b.Start > b.End {
			t.Errorf("block %q stands at %d-%d of %d", b.Text, b.Start, b.End, len(raw))
		}
		if s, e := b.Place(0, len(b.Text)); s < b.Start || e > b.End || s > e {
			t.Errorf("block %q of %d-%d places itself at %d-%d", b.Text, b.Start, b.End, s, e)
		}
	}
}

func FuzzHTML(f *testing.F) {
	f.Add([]byte(`<!doctype html><title>t</title><h1>a</h1><p>b &amp; c<ul><li>d<table><tr><td>e<td>f</table><pre>g`))
	f.Add([]byte("<svg><p>x</svg><nav><nav></nav>y</nav><h2>z"))
	f.Add([]byte(`<meta charset=latin1><p>caf` + "\xe9"))
	f.Fuzz(func(t *testing.T, raw []byte) { sound(t, "text/html", raw) })
}

func FuzzMarkdown(f *testing.F) {
	f.Add([]byte("# a\n\nb *c* `d`\n\n- e\n  - f\n\n| g | h |\n|---|---|\n| i | j |\n\n```\nk\n```\n"))
	f.Add([]byte("> > x\n\n<div>y</div>\n\n[z]: http://a\n"))
	f.Fuzz(func(t *testing.T, raw []byte) { sound(t, "text/markdown", raw) })
}

func FuzzPDF(f *testing.F) {
	for _, name := range []string{"handbook.pdf", "encrypted.pdf", "drawing.pdf"} {
		raw, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	first, err := os.ReadFile("testdata/handbook.pdf")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := shared.Extract(f.Context(), "application/pdf", first); err != nil {
		// compiles, which fuzzing makes slow
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) { sound(t, "application/pdf", raw) })
}

// FuzzFormats reads the same bytes as each kind of file that is made of parts, markup or data.
func FuzzFormats(f *testing.F) {
	kinds := []string{extract.TypeWord, extract.TypeSlides, extract.TypeSheets, extract.TypeODT, extract.TypeBook,
		extract.TypeRTF, extract.TypeMail, extract.TypeJSON, extract.TypeNotebook,
		extract.TypeXML, extract.TypeCSV, extract.TypeRST, extract.TypeASCIIDoc, extract.TypeCode, extract.TypeText}
	files, err := filepath.Glob("../internal/samples/files/*.*")
	if err != nil || len(files) < 15 {
		f.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for i := range kinds {
			f.Add(byte(i), raw)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, raw []byte) {
		_, _ = extract.Type("x", raw)
		sound(t, kinds[int(kind)%len(kinds)], raw)
	})
}
