package export

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// golden are cells and how they are written.
var golden = []struct{ cell, want string }{
	{"", ""},
	{"plain", "plain"},
	{"=1+1", "'=1+1"},
	{"+1", "'+1"},
	{"-1", "'-1"},
	{"@SUM(A1)", "'@SUM(A1)"},
	{" =1+1", " '=1+1"},
	{"\u00a0\u200b\ufeff=1+1", "\u00a0\u200b\ufeff'=1+1"},
	{"\t=1+1", "'\t'=1+1"},
	{"\tplain", "'\tplain"},
	{"\r=1+1", "'\r'=1+1"},
	{"\n=1+1", "'\n'=1+1"},
	{";=1+1", ";'=1+1"},
	{",=1+1", ",'=1+1"},
	{"|=1+1", "|'=1+1"},
	{" ; , | =1+1", " ; , | '=1+1"},
	{"hello;=1+1", "hello;'=1+1"},
	{"hello,=1+1;+2|@3\t-4", "hello,'=1+1;'+2|'@3\t'-4"},
	{"hello\n=1+1", "hello\n'=1+1"},
	{"hello\r\n=1+1", "hello\r\n'=1+1"},
	{`"=1+1"`, `"'=1+1"`},
	{`;"=1+1"`, `;"'=1+1"`},
	{`;'=1+1`, `;''=1+1`},
	{"＝1+1", "'＝1+1"},
	{"＋1", "'＋1"},
	{"－1", "'－1"},
	{"＠1", "'＠1"},
	{";﹦1", ";'﹦1"},
	{"=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"},
	{"a=b, c - d, 1+1, x@y", "a=b, c - d, 1+1, x@y"},
	{"it's, 'quoted'", "it's, 'quoted'"},
	{"'", "'"},
	{"''=1", "'''=1"},
	{"'\t=", "''\t'="},
	{"well, -5 °C", "well, '-5 °C"},
}

func TestACellIsNoFormulaForAnySeparator(t *testing.T) {
	for _, c := range golden {
		if got := harmless(c.cell); got != c.want {
			t.Errorf("%q is written as %q, want %q", c.cell, got, c.want)
		}
	}
}

func TestMetadataStaysJSON(t *testing.T) {
	for _, c := range []struct{ cell, want string }{
		{`{"a":[1,-2,-3.5e-7],"b":-1}`, `{"a":[1,-2,-3.5e-7],"b":-1}`},
		{`{"a": 1, "=b": ";=1+1", "c": [ -2 , -2]}`, `{"a": 1, "'=b": ";'=1+1", "c": [ -2 , -2]}`},
		{`{"a":"x,-2+1,-2"}`, `{"a":"x,'-2+1,'-2"}`},
		{`{"a":",'-2,"}`, `{"a":",''-2,"}`},
		{`{"a":"b\n=1","c":", =1"}`, `{"a":"b\n=1","c":", '=1"}`},
	} {
		got := harmlessJSON(c.cell)
		if got != c.want || !json.Valid([]byte(got)) {
			t.Errorf("%s is written as %s, want %s", c.cell, got, c.want)
		}
		if back := PlainCell(got); back != c.cell {
			t.Errorf("%s comes back as %s", c.cell, back)
		}
	}
}

// formula matches the start of a cell that a spreadsheet runs as a formula.
var formula = regexp.MustCompile("^[\\s\\pZ\\p{Cc}\u00ad\u200b-\u200f\u2060-\u206f\ufeff\"]*[=+\\-@＝＋－＠]")

// cells returns the cells that a spreadsheet with some separator may find in a line, with and without respect for
// quotes.
func cells(separator rune, line string) []string {
	r := csv.NewReader(strings.NewReader(line))
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = separator, true, -1
	var all []string
	rows, _ := r.ReadAll()
	for _, row := range rows {
		all = append(all, row...)
	}
	for _, row := range strings.FieldsFunc(line, func(r rune) bool { return r == '\n' || r == '\r' }) {
		all = append(all, strings.Split(row, string(separator))...)
	}
	return all
}

func FuzzCell(f *testing.F) {
	for _, c := range golden {
		f.Add(c.cell)
	}
	f.Fuzz(func(t *testing.T, cell string) {
		cell = strings.ToValidUTF8(cell, "")
		for name, got := range map[string]string{"text": harmless(cell), "json": harmlessJSON(cell)} {
			if back := PlainCell(got); back != cell {
				t.Fatalf("%s: %q is written as %q and read as %q", name, cell, got, back)
			}
		}
		var line strings.Builder
		w := csv.NewWriter(&line)
		if err := w.Write([]string{"0190", harmless(cell), "x", harmless(cell)}); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		for _, separator := range ",;|\t" {
			for _, c := range cells(separator, line.String()) {
				if formula.MatchString(c) {
					t.Fatalf("%q is written as %q: with %q a spreadsheet runs %q", cell, line.String(), separator, c)
				}
			}
		}
	})
}

// TestCellsAreReadBackAsDocumented uses the regular expression of docs/questions.md, for readers without PlainCell.
func TestCellsAreReadBackAsDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "questions.md"))
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(page)
	if code == nil {
		t.Fatal("docs/questions.md does not say how a cell is read back")
	}
	var pairs [][2]string
	for _, c := range golden {
		pairs = append(pairs, [2]string{c.cell, c.want})
	}
	raw, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", string(code[1])+`
import json, sys
for cell, written in json.loads(sys.argv[1]):
    if plain(written) != cell:
        print(repr(written), "is read as", repr(plain(written)), "and not as", repr(cell))
`, string(raw))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s%v", out, err)
	}
}
