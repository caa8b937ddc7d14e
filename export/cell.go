package export

import (
	"regexp"
	"strings"
	"unicode"
)

// What spreadsheets make of a cell (OWASP, CSV injection). One that takes another separator than ours also cuts
// inside our cells, and does not know our quotes then, so that a formula may begin behind any separator or line end
// of a text.
const (
	formulaSeparators = ",;|\t\r\n"
	// formulaStart are what a formula begins with: Excel takes the full-width forms too. The small forms are there to
	// be sure.
	formulaStart = "=+-@＝＋－＠﹦﹢﹣﹫"
)

// isInvisible reports what a spreadsheet may pass over in front of a formula: control characters, spaces, invisible
// ones, quotes.
func isInvisible(r rune) bool { return unicode.Is(skippedCharacters, r) }

var skippedCharacters = &unicode.RangeTable{R16: []unicode.Range16{
	{0, 0x20, 1}, {'"', '"', 1}, {'\'', '\'', 1}, {0x7f, 0xa0, 1}, {0xad, 0xad, 1}, {0x61c, 0x61c, 1},
	{0x1680, 0x1680, 1},
	{0x180e, 0x180e, 1}, {0x2000, 0x200f, 1}, {0x2028, 0x202f, 1}, {0x205f, 0x206f, 1}, {0x3000, 0x3000, 1},
	{0xfeff, 0xfeff, 1},
}, LatinOffset: 5}

// harmless keeps a spreadsheet from taking a part of a cell for a formula, whatever its separator: an apostrophe
// stands before each sign that would begin one, and before a tab or a line end that begins the cell. PlainCell takes
// them away.
func harmless(cell string) string { return mark(cell, false) }

// harmlessJSON is harmless for JSON, which stays JSON: negative numbers stay what they are, and are no formulas.
func harmlessJSON(cell string) string { return mark(cell, true) }

func mark(cell string, numbers bool) string {
	if !strings.ContainsAny(cell, formulaStart+"\t\r\n") {
		return cell
	}
	var b strings.Builder
	if rest := strings.TrimLeft(cell, "'"); rest != "" && strings.Contains("\t\r\n", rest[:1]) {
		b.WriteByte('\'')
	}
	open, before, from := true, rune(0), 0 // open: a formula may begin here
	for i, r := range cell {
		switch {
		case !open || !strings.ContainsRune(formulaStart, r):
		case numbers && r == '-' && before != '\'' && number.MatchString(cell[i:]):
		default:
			b.WriteString(cell[from:i])
			b.WriteByte('\'')
			from = i
		}
		open, before = strings.ContainsRune(formulaSeparators, r) || open && isInvisible(r), r
	}
	b.WriteString(cell[from:])
	return b.String()
}

// number is a negative number that ends where JSON ends one.
var number = regexp.MustCompile(`^-[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?\s*([,\]}]|$)`)

// PlainCell returns what a cell of a CSV export was before apostrophes were put into it.
func PlainCell(cell string) string {
	var b strings.Builder
	open, before, from := true, rune(0), 0
	start := len(cell) - len(strings.TrimLeft(cell, "'"))
	for i, r := range cell {
		first := i == start && strings.ContainsRune("\t\r\n", r)
		if before == '\'' && open && (first || strings.ContainsRune(formulaStart, r)) {
			b.WriteString(cell[from : i-1])
			from = i
		}
		open, before = strings.ContainsRune(formulaSeparators, r) || open && isInvisible(r), r
	}
	b.WriteString(cell[from:])
	return b.String()
}
