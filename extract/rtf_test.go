package extract_test

import (
	"testing"

	"github.com/konstruct/konstruct/extract"
)

// TestRTFPropertiesAreNoText has properties, running heads and index entries, none of which is in a document's text.
func TestRTFPropertiesAreNoText(t *testing.T) {
	d, err := read(t, extract.TypeRTF, `{\rtf1\ansi{\info{\title Pumps}{\author Ada}{\subject secret}`+
		`{\company Acme {\b Ltd}}{\doccomm caf\'e9 \u233?}{\title Second}}{\headerf running}{\footerf page}`+
		`The pump{\xe pumps}{\tc Pumps} draws water.\par}`)
	if err != nil {
		t.Fatal(err)
	}
	if d.Title != "Pumps" || d.Author != "Ada" {
		t.Errorf("title %q, author %q", d.Title, d.Author)
	}
	if len(d.Blocks) != 1 || d.Blocks[0].Text != "The pump draws water." {
		t.Errorf("blocks %+v", d.Blocks)
	}
}
