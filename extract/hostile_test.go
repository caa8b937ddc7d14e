package extract_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/extract"
)

// packed is a ZIP of parts, each a name and what it holds.
func packed(t testing.TB, parts ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		w, err := z.Create(parts[i])
		if err == nil {
			_, err = w.Write([]byte(parts[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const wordBegin, wordEnd = `<w:document xmlns:w="w"><w:body>`, `</w:body></w:document>`

func word(t testing.TB, body string) string {
	return packed(t, "[Content_Types].xml", "<Types/>", "word/document.xml", wordBegin+body+wordEnd)
}

// workbook is one of a sheet of one cell, whose string stands in the part named.
func workbook(t testing.TB, strings, content string) string {
	const ns = `xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"`
	const rel, office = `http://schemas.openxmlformats.org/package/2006/relationships`,
		`http://schemas.openxmlformats.org/officeDocument/2006/relationships`
	return packed(t, "[Content_Types].xml",
		`<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override `+
			`PartName="/xl/workbook.xml" `+
			`ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override `+
			`PartName="/xl/`+strings+
			`" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/></Types>`,
		"_rels/.rels", `<Relationships xmlns="`+rel+`"><Relationship Id="r" Type="`+office+
			`/officeDocument" Target="xl/workbook.xml"/></Relationships>`,
		"xl/_rels/workbook.xml.rels", `<Relationships xmlns="`+rel+`"><Relationship Id="r1" Type="`+office+
			`/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="`+office+
			`/sharedStrings" Target="`+strings+`"/></Relationships>`,
		"xl/workbook.xml", `<workbook `+ns+` xmlns:r="`+office+
			`"><sheets><sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>`,
		"xl/worksheets/sheet1.xml",
		`<worksheet `+ns+`><sheetData><row><c t="s"><v>1</v></c></row></sheetData></worksheet>`, "xl/"+strings, content)
}

func para(text string) string { return "<w:p><w:r><w:t>" + text + "</w:t></w:r></w:p>" }

func TestHostileFormatsGetTheirReason(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the secret of the machine"), 0o600); err != nil {
		t.Fatal(err)
	}
	laughs := `<!DOCTYPE l [<!ENTITY a "lol">` + func() (s string) {
		for c := 'b'; c < 'l'; c++ {
			s += fmt.Sprintf(`<!ENTITY %c "%s">`, c, strings.Repeat(fmt.Sprintf("&%c;", c-1), 10))
		}
		return s
	}() + `]><l>&k;</l>`
	outside := `<!DOCTYPE l [<!ENTITY x SYSTEM "file://` + secret + `">]><l>words and &x; more</l>`
	deep := strings.Repeat("<a>", 100_000) + "x" + strings.Repeat("</a>", 100_000)
	for name, c := range map[string]struct{ kind, raw, want string }{
		"no ZIP": {extract.TypeWord, "PK\x03\x04 and then nothing", "damaged"},
		"a bomb": {extract.TypeWord,
			packed(t, "word/document.xml", wordBegin+strings.Repeat(" ", 65<<20)+wordEnd), "unpacks to more than"},
		"a bomb of many": {extract.TypeSheets,
			packed(t, "xl/a", strings.Repeat("\x00", 130<<20), "xl/b", strings.Repeat("\x00", 130<<20)),
			"unpacks to more than"},
		"a workbook of ten million strings": {extract.TypeSheets,
			packed(t, "xl/sharedStrings.xml", `<sst>`+strings.Repeat(`<si><t>a</t></si>`, 10_000_000)+`</sst>`),
			"unpacks to more than"},
		"a sheet's strings where sheets are": {extract.TypeSheets,
			workbook(t, "worksheets/shared.xml",
				`<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">`+
					strings.Repeat(`<si><r><t>a</t></r></si>`, 10_000_000)+`</sst>`), ""},
		"a part twice": {extract.TypeWord,
			packed(t, "word/document.xml", wordBegin+para("one")+wordEnd, "word/document.xml",
				wordBegin+para("two")+wordEnd), "inside it twice"},
		"a part twice by its path": {extract.TypeWord,
			packed(t, "word/document.xml", wordBegin+para("one")+wordEnd, "word/x/../document.xml",
				wordBegin+para("two")+wordEnd), "inside it twice"},
		"billion laughs": {extract.TypeXML, laughs, "damaged"},
		"billion laughs in Word": {extract.TypeWord,
			packed(t, "word/document.xml", strings.Replace(laughs, "<l>&k;</l>", wordBegin+para("&k;")+wordEnd, 1)),
			"damaged"},
		"a file from outside": {extract.TypeXML, outside, "damaged"},
		"deep XML":            {extract.TypeXML, deep, "deep"},
		"deep XML in Word":    {extract.TypeWord, word(t, deep), "deep"},
		"XML that ends early": {extract.TypeXML, "<a><b>text", "ends inside"},
		"crossed tags":        {extract.TypeXML, "<a>text</b></a>", "damaged"},
		"deep JSON": {extract.TypeJSON,
			strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "deep"},
		"JSON that ends early":    {extract.TypeJSON, `{"a": [1, 2`, "damaged at byte"},
		"deep RTF":                {extract.TypeRTF, `{\rtf1` + strings.Repeat("{", 100_000), "deep"},
		"a notebook that is none": {extract.TypeNotebook, `{"cells": 5}`, "notebook"},
		"a sheet that is none":    {extract.TypeSheets, packed(t, "xl/workbook.xml", "x"), "workbook"},
		"a book that points outside": {extract.TypeBook,
			packed(t, "META-INF/container.xml", `<c><rootfile full-path="../../../etc/passwd"/></c>`), "no text"},
		"a book whose chapters are out": {extract.TypeBook,
			packed(t, "META-INF/container.xml", `<c><rootfile full-path="b.opf"/></c>`, "b.opf",
				`<p><item id="a" media-type="application/xhtml+xml" href="../`+secret+
					`"/><item id="b" media-type="application/xhtml+xml" href="file://`+secret+
					`"/><itemref idref="a"/><itemref idref="b"/></p>`), "no text"},
		"an encrypted document": {extract.TypeODT,
			packed(t, "META-INF/manifest.xml", "<m><encryption-data/></m>", "content.xml", "x"), "encrypted"},
		"a row repeated a billion times": {extract.TypeODS,
			packed(t, "content.xml",
				`<o><spreadsheet><table name="t"><table-row number-rows-repeated="1000000000"><table-cell `+
					`number-columns-repeated="1000000000"><p>x</p></table-cell></table-row>`+
					strings.Repeat(`<table-row number-rows-repeated="1000000000"><table-cell `+
						`number-columns-repeated="1000000000"><p>x</p></table-cell></table-row>`, 20)+
					`</table></spreadsheet></o>`), "too large"},
		"mail that doubles with each part": {extract.TypeMail, func() string {
			s := "From: a@b\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
			for i := range 40 {
				s += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
			}
			return s + "Content-Type: text/plain\r\n\r\nhi\r\n"
		}(), "multiparts"},
		"mail of many parts": {extract.TypeMail,
			"From: a@b\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
				strings.Repeat("--b\r\n\r\nx\r\n", 200_000), "parts"},
		"a program of 200,000 paragraphs": {extract.TypeWord,
			packed(t, "word/styles.xml", `<s><style styleId="c"><name val="Source Code"/></style></s>`,
				"word/document.xml",
				wordBegin+
					strings.Repeat(
						`<w:p><w:pPr><w:pStyle w:val="c"/></w:pPr><w:r><w:t>pump.valve.close()</w:t></w:r></w:p>`,
						200_000)+wordEnd), ""},
		"control characters for a message": {extract.TypeMail, "From: a@b\r\nSubject: \x1b[31m\r\n\r\n\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			d, err := shared.Extract(t.Context(), c.kind, []byte(c.raw))
			runtime.ReadMemStats(&after)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if grew := int64(after.TotalAlloc - before.TotalAlloc); grew > 3<<30 {
				t.Errorf("it took %d MB of memory in all", grew>>20)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
			if d != nil {
				for _, b := range d.Blocks {
					if strings.Contains(b.Text, "secret of the machine") {
						t.Errorf("it reads what lies outside: %q", b.Text)
					}
				}
			}
		})
	}
}

func TestASheetOfTenMillionCells(t *testing.T) {
	var sheet strings.Builder
	sheet.WriteString(`<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>`)
	row := strings.Repeat(`<c><v>1</v></c>`, 1000)
	for range 10_000 {
		sheet.WriteString("<row>" + row + "</row>")
	}
	sheet.WriteString(`</sheetData></worksheet>`)
	raw := packed(t, "[Content_Types].xml",
		`<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override `+
			`PartName="/xl/workbook.xml" `+
			`ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>`,
		"_rels/.rels",
		`<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r" `+
			`Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" `+
			`Target="xl/workbook.xml"/></Relationships>`,
		"xl/_rels/workbook.xml.rels",
		`<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" `+
			`Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" `+
			`Target="worksheets/sheet1.xml"/></Relationships>`,
		"xl/workbook.xml",
		`<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" `+
			`xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="s" `+
			`sheetId="1" r:id="r1"/></sheets></workbook>`,
		"xl/worksheets/sheet1.xml", sheet.String())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := shared.Extract(ctx, extract.TypeSheets, []byte(raw)); !errors.Is(err, extract.ErrTooLarge) {
		t.Errorf("error %v, want that it is too large", err)
	}
}

// A wrong name does no harm: the content tells.
func TestWrongAndDoubleNames(t *testing.T) {
	doc := word(t, para("words"))
	for name, want := range map[string]string{"a.pdf.docx": extract.TypeWord, "a.txt": extract.TypeWord,
		"a": extract.TypeWord, "a.html": extract.TypeWord} {
		if got, err := extract.Type(name, []byte(doc)[:min(len(doc), 4096)]); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := extract.Type("a.docx", []byte("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1 and more")); !errors.Is(err,
		extract.ErrLegacy) {
		t.Errorf("an encrypted or old file of Office: %v", err)
	}
	for name, head := range map[string]string{"a.docx": "\x7fELF\x02\x01\x01", "a.txt": "MZ\x90\x00\x03\x00\x00\x00",
		"a.csv": "\x89PNG\r\n\x1a\n\x00"} {
		if got, err := extract.Type(name, []byte(head)); !errors.Is(err, extract.ErrKind) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestTextOfTenEncodings(t *testing.T) {
	for name, text := range encoded {
		raw, err := encode(name, text)
		if err != nil {
			t.Fatal(err)
		}
		d, err := shared.Extract(t.Context(), extract.TypeText, raw)
		if err != nil || d.Blocks[0].Text != text {
			t.Errorf("%s: %+v, %v; want %q", name, d, err, text)
		}
	}
}

func TestMailWithAttachments(t *testing.T) {
	doc := word(t, para("The order number is 4711."))
	mail := "From: Ada <ada@example.com>\r\nTo: bob@example.com\r\nDate: Mon, 02 Nov 2026 10:00:00 +0100\r\nSubject: " +
		"=?utf-8?q?Gr=C3=B6=C3=9Fe?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nSee the file.\r\n--b\r\nContent-Type: " +
		"application/octet-stream\r\nContent-Disposition: attachment; " +
		"filename=\"../../order.docx\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64Of(doc) + "\r\n--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment; " +
		"filename=x.png\r\n\r\n\x89PNG\r\n\x1a\n\x00\r\n--b--\r\n"
	kind, err := extract.Type("x", []byte(mail))
	if err != nil || kind != extract.TypeMail {
		t.Fatalf("%q, %v", kind, err)
	}
	d, err := shared.Extract(t.Context(), kind, []byte(mail))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, b := range d.Blocks {
		all = append(all, b.Text)
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{"See the file.", "The order number is 4711.", "order.docx", "x.png", "not read"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if d.Title != "Größe" || !strings.Contains(d.Author, "ada@example.com") ||
		!d.Created.Equal(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)) {
		t.Errorf("%q by %q at %v", d.Title, d.Author, d.Created)
	}
	// Mail in mail in mail ends.
	for range 6 {
		mail = "From: a@b\r\nSubject: deeper\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; " +
			"boundary=c\r\n\r\n--c\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; " +
			"filename=m.eml\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64Of(mail) + "\r\n--c--\r\n"
	}
	d, err = shared.Extract(t.Context(), extract.TypeMail, []byte(mail))
	if err != nil || !strings.Contains(fmt.Sprint(d.Blocks), "attached more than 3 deep") {
		t.Errorf("%+v, %v", d, err)
	}
}

// pdf makes a PDF of objects, numbered from 1, the first being its catalog; the reader finds them without a table of
// where they are.
func pdf(objects ...string) string {
	var b strings.Builder
	b.WriteString("%PDF-1.7\n")
	for i, o := range objects {
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	fmt.Fprintf(&b, "trailer\n<< /Root 1 0 R /Size %d >>\n%%%%EOF\n", len(objects)+1)
	return b.String()
}

func stream(dict, content string) string {
	return fmt.Sprintf("<< %s /Length %d >>\nstream\n%s\nendstream", dict, len(content), content)
}

// TestPDFsThatLoop, run programs, or draw without end: each is read or refused in its time.
func TestPDFsThatLoop(t *testing.T) {
	const page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Resources << /Font << /F 5 0 R >> /XObject " +
		"<< /X 6 0 R >> >> /Contents 4 0 R >>"
	const pages, font = "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
	words := stream("", "BT /F 12 Tf 20 100 Td (The words of the page) Tj ET")
	drawsItself := stream("/Type /XObject /Subtype /Form /BBox [0 0 200 200] /Resources << /XObject << /X 6 0 R >> >>",
		"/X Do")
	type3 := "<< /Type /Font /Subtype /Type3 /FontBBox [0 0 1 1] /FontMatrix [1 0 0 1 0 0] /FirstChar 84 /LastChar " +
		"84 /Widths [1] /Encoding << /Differences [84 /T] >> /CharProcs << /T 7 0 R >> /Resources << /Font << /F 5 0 " +
		"R >> >> >>"
	deep := strings.Repeat("q ", 200_000) + "BT /F 12 Tf (x) Tj ET" + strings.Repeat(" Q", 200_000)
	for name, c := range map[string]struct{ raw, want string }{
		"a page tree in a circle": {pdf("<< /Type /Catalog /Pages 2 0 R >>",
			"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 1000000 /Parent 2 0 R >>", page, words, font, words), ""},
		"a million pages claimed": {pdf("<< /Type /Catalog /Pages 2 0 R >>",
			"<< /Type /Pages /Kids [3 0 R] /Count 1000000 >>", page, words, font, words), ""},
		"a program that runs on open": {
			pdf("<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /JavaScript /JS (while \\(true\\) {}) >> >>", pages,
				page, words, font, words), "words of the page"},
		"a form that draws itself": {pdf("<< /Type /Catalog /Pages 2 0 R >>", pages, page,
			stream("", "BT /F 12 Tf 20 100 Td (The words of the page) Tj ET /X Do"), font, drawsItself),
			"words of the page"},
		"a font that draws itself": {pdf("<< /Type /Catalog /Pages 2 0 R >>", pages, page,
			stream("", "BT /F 12 Tf (TTTT) Tj ET"), type3, words, stream("", "1 0 d0 BT /F 1 Tf (TTTT) Tj ET")), ""},
		"states within each other": {pdf("<< /Type /Catalog /Pages 2 0 R >>", pages, page, stream("", deep), font,
			words), ""},
		"a stream that is a bomb": {pdf("<< /Type /Catalog /Pages 2 0 R >>", pages, page,
			stream("/Filter [/RunLengthDecode /RunLengthDecode /RunLengthDecode]", strings.Repeat("\x81\x81", 200_000)),
			font, words), ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		begin := time.Now()
		d, err := shared.Extract(ctx, extract.TypePDF, []byte(c.raw))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 25*time.Second {
			t.Errorf("%s: took %v, %v", name, time.Since(begin), err)
		}
		if c.want != "" && (err != nil || !strings.Contains(d.Text, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
