package extract_test

import (
	"archive/zip"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/extract"
)

// TestTheFirstPartDecidesAnOfficeFilesType has a text with an embedded sheet, stored as it is.
func TestTheFirstPartDecidesAnOfficeFilesType(t *testing.T) {
	inner := stored(t, "[Content_Types].xml", "xl/workbook.xml")
	for _, padding := range []int{0, 5000} { // the library inspects 4096 bytes
		raw := stored(t, "[Content_Types].xml", "_rels/.rels", "customXml/item1.xml="+strings.Repeat(" ", padding),
			"word/document.xml", "word/embeddings/sheet.xlsx="+inner)
		for range 50 {
			if got, err := extract.Type("a", []byte(raw)); err != nil || got != extract.TypeWord {
				t.Fatalf("after %d bytes: %q, error %v", padding, got, err)
			}
		}
	}
}

// stored makes an uncompressed ZIP of parts, each NAME or NAME=CONTENT.
func stored(t *testing.T, parts ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, part := range parts {
		name, content, _ := strings.Cut(part, "=")
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = io.WriteString(w, content)
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
