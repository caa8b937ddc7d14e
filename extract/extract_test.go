package extract_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/konstruct/konstruct/extract"
)

// shared compiles the PDF reader once for all tests.
var shared extract.Extractor

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Close()
	os.Exit(code)
}

func read(t *testing.T, contentType, raw string) (*extract.Document, error) {
	t.Helper()
	return shared.Extract(t.Context(), contentType, []byte(raw))
}

// places checks that every block's bytes hold its first and last word.
func places(t *testing.T, d *extract.Document, raw string) {
	t.Helper()
	for _, b := range d.Blocks {
		words := strings.Fields(b.Text)
		if b.Start < 0 || b.End > len(raw) || b.Start >= b.End {
			t.Errorf("block %q stands at %d-%d of %d bytes", b.Text, b.Start, b.End, len(raw))
			continue
		}
		at := raw[b.Start:b.End]
		if !strings.HasPrefix(at, words[0]) || !strings.HasSuffix(at, words[len(words)-1]) {
			t.Errorf("block %q stands at %d-%d, which reads %q", b.Text, b.Start, b.End, at)
		}
	}
}

// noPlace compares what blocks say: not where they stand, nor how much white space they have.
var noPlace = cmp.Options{cmpopts.IgnoreFields(extract.Block{}, "Start", "End"),
	cmpopts.IgnoreUnexported(extract.Block{}),
	cmp.Comparer(func(a, b string) bool {
		return runs.ReplaceAllString(a, "$1 ") == runs.ReplaceAllString(b, "$1 ")
	})}

var runs = regexp.MustCompile(`([^\n ]) +`)

func TestHTMLKeepsStructure(t *testing.T) {
	raw := `<!doctype html><html><head><title>The
 manual</title><style>p{}</style><script>var x = "<p>no</p>"</script></head><body>
<nav><a href=/>Home</a></nav><div class=menu><a href=1>Prev</a> <a href=2>Next</a></div>
<h1>Vacuum <a name=x></a></h1><p>Dead rows are <b>removed</b> &amp; space is
 reused.</p><ul><li>First item</li><li><p>Second item</p></li></ul>
<h2>Syntax</h2><pre>VACUUM
  (FULL)</pre><table><tr><th>Option</th><th>Meaning</th></tr><tr><td>FULL</td><td><p>rewrites</p></td></tr></table>
<p hidden>Not shown</p><blockquote>Said once.</blockquote><dl><dt>one<dd><p>first</p>` +
		`<dl><dt>inner</dt><dd>deep</dl><dd>more<dt>two<dd>second</dl>text at the end`
	d, err := read(t, "text/html", raw)
	if err != nil {
		t.Fatal(err)
	}
	want := &extract.Document{Title: "The manual", ContentType: "text/html", Text: raw, Blocks: []extract.Block{
		{Kind: extract.Heading, Level: 1, Text: "Vacuum"},
		{Text: "Dead rows are removed & space is reused."},
		{Kind: extract.Item, Text: "First item"}, {Kind: extract.Item, Text: "Second item"},
		{Kind: extract.Heading, Level: 2, Text: "Syntax"},
		{Kind: extract.Code, Text: "VACUUM\n  (FULL)"},
		{Kind: extract.Row, Text: "Option | Meaning"}, {Kind: extract.Row, Text: "FULL | rewrites"},
		{Text: "Said once."},
		{Kind: extract.Item, Text: "one", Term: "one"}, {Kind: extract.Item, Text: "first", Term: "one"},
		{Kind: extract.Item, Text: "inner", Term: "inner"}, {Kind: extract.Item, Text: "deep", Term: "inner"},
		{Kind: extract.Item, Text: "more", Term: "one"}, {Kind: extract.Item, Text: "two", Term: "two"},
		{Kind: extract.Item, Text: "second", Term: "two"},
		{Text: "text at the end"},
	}}
	if diff := cmp.Diff(want, d, noPlace); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	places(t, d, raw)
}

func TestMarkdownKeepsStructure(t *testing.T) {
	raw := "# Title *here*\n\nA paragraph with `code` and\na [link](http://x).\n\nSetext\n------\n\n- one\n- two\n  " +
		"1. nested\n\n```go\nfunc f() {}\n\nreturn\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n"
	d, err := read(t, "text/markdown", raw)
	if err != nil {
		t.Fatal(err)
	}
	want := &extract.Document{Title: "Title here", ContentType: "text/markdown", Text: raw, Blocks: []extract.Block{
		{Kind: extract.Heading, Level: 1, Text: "Title here"},
		{Text: "A paragraph with code and a link."},
		{Kind: extract.Heading, Level: 2, Text: "Setext"},
		{Kind: extract.Item, Text: "one"}, {Kind: extract.Item, Text: "two"}, {Kind: extract.Item, Text: "nested"},
		{Kind: extract.Code, Text: "func f() {}\n\nreturn"},
		{Kind: extract.Row, Text: "a | b"}, {Kind: extract.Row, Text: "1 | 2"},
		{Text: "quoted"},
	}}
	if diff := cmp.Diff(want, d, noPlace); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTextBreaksAtEmptyLines(t *testing.T) {
	raw := "\xEF\xBB\xBFFirst line\r\nsecond line.\r\n \t\r\n\r\nNext   paragraph.\n"
	d, err := read(t, "text/plain", raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]extract.Block{{Text: "First line second line."}, {Text: "Next paragraph."}}, d.Blocks,
		noPlace); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	places(t, d, raw[3:])
}

func TestPDFKeepsPages(t *testing.T) {
	raw, err := os.ReadFile("testdata/handbook.pdf")
	if err != nil {
		t.Fatal(err)
	}
	d, err := read(t, "application/pdf", string(raw))
	if err != nil {
		t.Fatal(err)
	}
	pages := map[int]string{}
	for _, b := range d.Blocks {
		pages[b.Page] += b.Text + "\n"
	}
	if d.Title != "Vessel handbook" || len(pages) != 2 || !strings.Contains(pages[1], "wall thickness") ||
		!strings.Contains(pages[2], "certified welders") {
		t.Errorf("title %q, pages %v", d.Title, pages)
	}
}

func utf16Bytes(s string, big, mark bool) string {
	units := utf16.Encode([]rune(s))
	if mark {
		units = append([]uint16{0xFEFF}, units...)
	}
	var b []byte
	for _, u := range units {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	return string(b)
}

func TestUTF16IsReadWithAndWithoutItsMark(t *testing.T) {
	for _, big := range []bool{false, true} {
		for _, mark := range []bool{false, true} {
			raw := utf16Bytes("A plain text, naïve in two bytes.", big, mark)
			kind, err := extract.Type("x.txt", []byte(raw))
			if err != nil || kind != "text/plain" {
				t.Fatalf("type %q, error %v", kind, err)
			}
			d, err := read(t, kind, raw)
			if err != nil || d.Blocks[0].Text != "A plain text, naïve in two bytes." {
				t.Errorf("big %v, mark %v: %+v, error %v", big, mark, d, err)
			}
		}
	}
}

func TestHostileFilesGetTheirReason(t *testing.T) {
	pdf := func(name string) string {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	handbook := pdf("handbook.pdf")
	for name, c := range map[string]struct {
		kind, raw, want string
	}{
		"empty":            {"text/plain", "", "empty"},
		"only white space": {"text/plain", " \n\n\t", "no text"},
		"0xFF bytes":       {"text/plain", strings.Repeat("\xff", 1001), "0xFF"},
		"a NUL":            {"text/plain", "text\x00text text text", "NUL at byte 4"},
		"too large":        {"text/plain", strings.Repeat("x", extract.MaxText+1), "too large"},
		"empty page":       {"text/html", "<html><script>1</script></html>", "no text"},
		"drawn PDF":        {"application/pdf", pdf("drawing.pdf"), "no text"},
		"encrypted PDF":    {"application/pdf", pdf("encrypted.pdf"), "encrypted"},
		"truncated PDF":    {"application/pdf", handbook[:len(handbook)/3], "damaged"},
		"a PDF in name":    {"application/pdf", "%PDF-1.7\nnot really", "damaged"},
		"another kind":     {"image/png", "\x89PNG", "not a kind of file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := read(t, c.kind, c.raw); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

func TestDeepNestingTakesNoStack(t *testing.T) {
	deep := strings.Repeat("<div>", 100_000) + "the core" + strings.Repeat("</div>", 100_000)
	d, err := read(t, "text/html", deep)
	if err != nil || len(d.Blocks) != 1 || d.Blocks[0].Text != "the core" {
		t.Errorf("%+v, error %v", d, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, raw := range map[string]string{
		"quotes": strings.Repeat(">", 100_000) + " the core", "brackets": strings.Repeat("[", 100_000) + "the core",
		"lists": strings.Repeat("- ", 100_000) + "the core",
		"stars": strings.Repeat("*a **b ", 20_000), "table": strings.Repeat("|", 100_000) + "\n" +
			strings.Repeat("|-", 100_000),
	} {
		start := time.Now()
		if _, err := shared.Extract(ctx, "text/markdown", []byte(raw)); err != nil {
			t.Logf("%s: %v", name, err)
		}
		t.Logf("%s took %v", name, time.Since(start))
		if ctx.Err() != nil {
			t.Fatalf("%s took longer than the time limit", name)
		}
	}
}

func TestExtractStopsWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	raw, err := os.ReadFile("testdata/handbook.pdf")
	if err != nil {
		t.Fatal(err)
	}
	for kind, raw := range map[string][]byte{"application/pdf": raw, "text/html": []byte("<p>x")} {
		if _, err := shared.Extract(ctx, kind, raw); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want context.Canceled", kind, err)
		}
	}
}

func TestTypeLooksAtNameAndContent(t *testing.T) {
	for _, c := range []struct{ name, head, want string }{
		{"README.md", "# x", "text/markdown"}, {"a.html", "hello", "text/html"}, {"noext", "<!DOCTYPE html><p>",
			"text/html"},
		{"x.bin", "%PDF-1.4", "application/pdf"}, {"main.go", "package main", "text/x-source"}, {"x.csv", "a,b\n1,2",
			"text/csv"}, {"x.json", `{"a":1}`, "application/json"},
		{"run", "#!/bin/sh\necho", "text/x-source"}, {"a.rst", "A\n=\n", "text/x-rst"}, {"noext", `{"a": [1, 2]}`,
			"application/json"}, {"noext", "From: a@b\nTo: c@d\nSubject: x\n\nhi", "message/rfc822"},
		{"noext", "From a@b Mon Jan  1 00:00:00 2026\nFrom: a@b\nSubject: x\n\nhi", "application/mbox"},
		{"a.pdf.txt", "%PDF-1.4", "application/pdf"}, {"a.txt", "{\\rtf1\\ansi x}", "text/rtf"},
		{"a.docx", "just words", "text/plain"},
	} {
		if got, err := extract.Type(c.name, []byte(c.head)); err != nil || got != c.want {
			t.Errorf("%s: %q, error %v, want %q", c.name, got, err, c.want)
		}
	}
	if _, err := extract.Type("x.png", []byte("\x89PNG\r\n\x1a\n0000")); !errors.Is(err, extract.ErrKind) {
		t.Errorf("a picture: error %v", err)
	}
}
