package extract_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/konstruct/konstruct/extract"
)

// What the files in ../internal/samples/files say; internal/samples/make.sh has pandoc 2.17 and LibreOffice 7.4 write
// them.
var (
	realHeadings = []string{"Starting the station", "What to check first", "Limits",
		"When something goes wrong", "Leaks"}
	realRows = []string{"Pump | Flow (m³/h) | Pressure (bar)", "North | 120 | 4.5", "South | 95 | 6.25",
		"Reserve | 40 | 3"}
	realItems = []string{"The oil stands between the two marks.", "The pressure gauge reads zero.",
		"Nobody works below the platform.", "Look twice.", "Call out.", "Turn the main switch.",
		"Wait for the green lamp."}
	realCode = "def stop(pump):\n    pump.valve.close()\n    return pump.state"
)

// wordsOf are the words that a text has, without what markup and numbering add.
func wordsOf(s string) (words []string) {
	for w := range strings.FieldsFuncSeq(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.'
	}) {
		if w = strings.Trim(w, "."); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// kept is the share of the words of want that stand in got in the same order: the longest common subsequence.
func kept(want, got []string) float64 {
	row := make([]int, len(got)+1)
	for i := range want {
		before := 0
		for j := range got {
			above := row[j+1]
			if want[i] == got[j] {
				row[j+1] = before + 1
			} else {
				row[j+1] = max(row[j+1], row[j])
			}
			before = above
		}
	}
	return float64(row[len(got)]) / float64(len(want))
}

func readFile(t *testing.T, path string) *extract.Document {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The name says nothing: the content does, but for what only a name can tell.
	name := "file"
	if ext := filepath.Ext(path); slices.Contains([]string{".md", ".rst", ".adoc", ".csv"}, ext) {
		name += ext
	}
	kind, err := extract.Type(name, raw[:min(len(raw), 4096)])
	if err != nil {
		t.Fatal(err)
	}
	d, err := shared.Extract(t.Context(), kind, raw)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	for i, b := range d.Blocks {
		if b.End < b.Start || i > 0 && b.Start < d.Blocks[i-1].Start {
			t.Errorf("block %d stands at %d to %d, after one at %d", i, b.Start, b.End, d.Blocks[i-1].Start)
		}
	}
	return d
}

func TestFilesOfRealApplications(t *testing.T) {
	source, err := os.ReadFile("../internal/samples/files/source.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source[4:]), "---\n")
	body = strings.NewReplacer("[^1]: ", "", "[^1]", "", "1. ", "", "2. ", "", "python", "").Replace(body)
	want := wordsOf(body)
	t.Log("file | words kept, in order | headings | table | list items | code | title, author, language")
	for _, f := range []struct {
		name                         string
		least                        float64 // of the words
		headings, rows, items, coded bool
		by                           string
	}{
		{"source.md", 1, true, true, true, true, "Ada Byron"}, {"pandoc.docx", 1, true, true, true, true, "Ada Byron"},
		{"office.docx", 1, true, true, true, true, "Ada Byron"},
		{"pandoc.odt", 0.95, true, true, true, true, "Ada Byron"}, {"office.odt", 0.95, true, true, true, true,
			"Ada Byron"},
		{"pandoc.rtf", 0.95, true, true, false, false, ""}, {"office.rtf", 0.95, true, true, true, false, "Ada Byron"},
		{"pandoc.epub", 0.99, true, true, true, true, "Ada Byron"}, {"pandoc.html", 0.99, true, true, true, true,
			"Ada Byron"}, {"office.html", 0.98, true, true, true, true, "Ada Byron"},
		{"pandoc.ipynb", 1, true, true, true, true, ""}, {"pandoc.rst", 0.99, true, false, false, false, ""},
		{"pandoc.adoc", 0.95, true, false, false, false, ""},
		{"office.pdf", 0.99, true, true, true, true, "Ada Byron"}, {"chromium.pdf", 0.98, true, true, false, true, ""},
	} {
		t.Run(f.name, func(t *testing.T) {
			d := readFile(t, filepath.Join("../internal/samples/files", f.name))
			var words, headings, rows, items []string
			var code string
			for _, b := range d.Blocks {
				words = append(words, wordsOf(b.Text)...)
				switch text := strings.Join(strings.Fields(b.Text), " "); b.Kind {
				case extract.Heading:
					if text != "Handbook of the Pump Station" {
						headings = append(headings, text)
					}
				case extract.Row:
					rows = append(rows, text)
				case extract.Item:
					if !strings.HasPrefix(text, "Gaskets") { // a note is an item of a list in some
						items = append(items, text)
					}
				case extract.Code:
					code = b.Text
				}
			}
			share := kept(want, words)
			if share < f.least {
				t.Errorf("%.3f of the words are kept in their order, want %v:\n%q", share, f.least, words)
			}
			is := func(what string, has bool, want, got any) string {
				diff := cmp.Diff(want, got)
				if has != (diff == "") {
					t.Errorf("%s are kept: %v, want %v (-want +got):\n%s", what, diff == "", has, diff)
				}
				if has {
					return "all"
				}
				return "as text"
			}
			if d.Author != f.by {
				t.Errorf("author %q, want %q", d.Author, f.by)
			}
			t.Logf("%s | %.1f %% | %s | %s | %s | %s | %s, %s, %s", f.name, 100*share,
				is("headings", f.headings, realHeadings, headings), is("rows", f.rows, realRows, rows),
				is("items", f.items, realItems, items), is("code", f.coded, realCode, code), d.Title,
				d.Author, d.Language)
		})
	}
}

// TestColumnsAreReadOneAfterTheOther reads what LaTeX set in two columns, with a title across both and a page more.
func TestColumnsAreReadOneAfterTheOther(t *testing.T) {
	d := readFile(t, "../internal/samples/files/latex.pdf")
	source, err := os.ReadFile("../internal/samples/files/columns.tex")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), `\maketitle`)
	body = regexp.MustCompile(`\\[a-z]+(\{(verbatim|itemize|enumerate|tabular|document|lrr)\})*|[{}&]|\\\\`).
		ReplaceAllString(body, " ")
	var words, headings, items, rows []string
	code := ""
	for _, b := range d.Blocks {
		words = append(words, wordsOf(b.Text)...)
		switch b.Kind {
		case extract.Heading:
			headings = append(headings, b.Text)
		case extract.Item:
			items = append(items, b.Text)
		case extract.Row:
			rows = append(rows, b.Text)
		case extract.Code:
			code += b.Text
		}
	}
	if share := kept(wordsOf(body), words); share < 0.99 {
		t.Errorf("%.3f of the words are kept in their order:\n%q\n%q", share, wordsOf(body), words)
	}
	if diff := cmp.Diff([]string{"Handbook of the Pump Station", "Ada Byron", "2 November 2026",
		"1 Starting the station", "1.1 What to check first", "1.2 Limits", "2 When something goes wrong", "2.1 Leaks",
		"3 Stopping the station", "4 Whom to call"}, headings); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"The oil stands between the two marks.", "The pressure gauge reads zero.",
		"Nobody works below the platform.", "Turn the main switch.", "Wait for the green lamp."}, items); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"Pump | Flow | Pressure", "North | 120 | 4.5", "South | 95 | 6.25",
		"Reserve | 40 | 3"}, rows); diff != "" || code != realCode {
		t.Errorf("%s %q", diff, code)
	}
	if last := d.Blocks[len(d.Blocks)-1]; last.Page != 2 || d.Title != "Handbook of the Pump Station" {
		t.Errorf("%+v of %q", last, d.Title)
	}
}

// TestAScannedPageIsRecognized needs tesseract, which scripts/setup test brings; without it the file says what it
// lacks.
func TestAScannedPageIsRecognized(t *testing.T) {
	d := readFile(t, "testdata/scanned.pdf")
	var text []string
	for _, b := range d.Blocks {
		text = append(text, b.Text)
	}
	want := "Notice of the pump station The station draws water from the lake. Before anybody starts it, the valve " +
		"at the inlet must be open; a closed valve ruins the impeller within minutes. The keys hang behind the door " +
		"that is painted green."
	if share := kept(wordsOf(want), wordsOf(strings.Join(text, " "))); share < 0.95 {
		t.Errorf("%.2f of the words: %q", share, text)
	}
	t.Setenv("PATH", t.TempDir())
	raw, err := os.ReadFile("testdata/scanned.pdf")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Extract(t.Context(), extract.TypePDF, raw); !errors.Is(err, extract.ErrNoText) ||
		!strings.Contains(err.Error(), "tesseract") {
		t.Errorf("without tesseract: %v", err)
	}
}

func TestANotebookThatRan(t *testing.T) {
	d := readFile(t, "../internal/samples/files/jupyter.ipynb")
	var got []string
	for _, b := range d.Blocks {
		got = append(got, b.Text)
	}
	if diff := cmp.Diff([]string{"Handbook of the Pump Station", "The station draws water from the lake.", "Limits",
		"The oil stands between the two marks.",
		"flow = {'North': 120, 'South': 95}\nprint('The sum is', sum(flow.values()))", "The sum is 215", "flow",
		"{'North': 120, 'South': 95}"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSlidesOfRealApplications(t *testing.T) {
	for _, name := range []string{"pandoc.pptx", "office.pptx", "office.odp"} {
		d := readFile(t, filepath.Join("../internal/samples/files", name))
		var got []string
		for _, b := range d.Blocks {
			got = append(got, strings.Repeat("#", b.Level)+string(rune('0'+b.Page))+" "+b.Text)
		}
		want := []string{"#1 Pumps in a minute", "1 Ada Byron", "#2 Starting", "2 Open the valve at the inlet.",
			"2 Turn the main switch.", "2 Say that a closed valve ruins the impeller.",
			"#3 Limits", "3 Pump | Flow", "3 North | 120", "3 South | 95"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if d.Title != "Pumps in a minute" || d.Author != "Ada Byron" {
			t.Errorf("%s: %q by %q", name, d.Title, d.Author)
		}
	}
}

func TestSheetsOfRealApplications(t *testing.T) {
	for name, note := range map[string]string{"office.xlsx": "xlsx", "office.ods": "ods", "table.csv": "csv"} {
		d := readFile(t, filepath.Join("../internal/samples/files", name))
		var rows []string
		for _, b := range d.Blocks {
			if b.Kind == extract.Row {
				rows = append(rows, b.Text)
				if len(rows) > 1 && b.Head != rows[0] {
					t.Errorf("%s: row %q has head %q", name, b.Text, b.Head)
				}
			}
		}
		if len(rows) != 4 || rows[0] != "Pump | Flow | Installed | Note" {
			t.Fatalf("%s: %q", note, rows)
		}
		for i, want := range [][]string{{"North", "120", "draws from the lake, always"}, {"South", "95.5", "Größe XL"},
			{"Reserve", "40", `kept "dry"`}} {
			for _, cell := range want {
				if !slices.Contains(strings.Split(rows[i+1], " | "), cell) {
					t.Errorf("%s: %q lacks the cell %q", name, rows[i+1], cell)
				}
			}
		}
	}
}
