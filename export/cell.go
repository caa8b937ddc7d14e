package export

import (
	"regexp"
	"strings"
	"unicode"
)

// How spreadsheets find formulas in a cell (OWASP, CSV injection). A spreadsheet with another separator than ours also
// splits our cells and does not know our quotes, so a formula may begin after any separator or line end in a text.
const (
	formulaSeparators = ",;|\t\r\n"
	// formulaStart are the characters that begin a formula. Excel accepts the full-width forms too; the small forms are
	// a precaution.
	formulaStart = "=+-@＝＋－＠﹦﹢﹣﹫"
)

// isInvisible reports whether a spreadsheet may skip a character before a formula: control characters, spaces,
// invisible characters, quotes.
func isInvisible(r rune) bool { return unicode.Is(skippedCharacters, r) }

var skippedCharacters = &unicode.RangeTable{R16: []unicode.Range16{
	{0, 0x20, 1}, {'"', '"', 1}, {'\'', '\'', 1}, {0x7f, 0xa0, 1}, {0xad, 0xad, 1}, {0x61c, 0x61c, 1},
	{0x1680, 0x1680, 1},
	{0x180e, 0x180e, 1}, {0x2000, 0x200f, 1}, {0x2028, 0x202f, 1}, {0x205f, 0x206f, 1}, {0x3000, 0x3000, 1},
	{0xfeff, 0xfeff, 1},
}, LatinOffset: 5}

// harmless keeps a spreadsheet with any separator from reading a part of a cell as a formula. It puts an apostrophe
// before each character that would begin one, and before a tab or line end at the cell's start. PlainCell removes the
// apostrophes.
func harmless(cell string) string { return mark(cell, false) }

// harmlessJSON is harmless for JSON. The result is still JSON: negative numbers, which are not formulas, are not
// changed.
func harmlessJSON(cell string) string { return mark(cell, true) }

func mark(cell string, numbers bool) string {
	if !strings.ContainsAny(cell, formulaStart+"\t\r\n") {
		return cell
	}
	var b strings.Builder
	if rest := strings.TrimLeft(cell, "'"); rest != "" && strings.Contains("\t\r\n", rest[:1]) {
		b.WriteByte('\'')
	}
	open, before, from := true, rune(0), 0 // open: a formula could begin at this character
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

// number matches a negative JSON number with what ends it.
var number = regexp.MustCompile(`^-[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?\s*([,\]}]|$)`)

// PlainCell returns a cell of a CSV export without the apostrophes that the export added.
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
