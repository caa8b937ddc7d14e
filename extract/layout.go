package extract

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// glyph is a character and its box, in points from the page's lower left.
type glyph struct {
	r                        rune
	left, right, top, bottom float64
}

// style is the font size and family of a text.
type style struct {
	size float64 // in points
	mono bool
}

// segment is text on one line without a wide gap.
type segment struct {
	style
	text                     string
	left, right, top, bottom float64
}

// maxSegments is the largest number of segments for layout analysis; larger pages are read in drawing order.
const maxSegments = 2000

// wide is the gap that separates segments, relative to the font size; narrower gaps are within a segment.
const wide = 1.0

// segments splits a page's glyphs, in drawing order, into segments. styled returns the style of the glyph at an index;
// it is called for the first glyph of a segment, and for the last if that may differ.
func segments(page []glyph, styled func(int) style) (all []segment) {
	var text strings.Builder
	var s segment
	last := 0
	flush := func() {
		if text.Len() > 0 && s.mono {
			s.mono = styled(last).mono
		}
		if s.text = strings.TrimSpace(text.String()); s.text != "" {
			all = append(all, s)
		}
		text.Reset()
	}
	for i, g := range page {
		if g.r == '\r' || g.r == '\n' {
			flush()
			continue
		}
		space := unicode.IsSpace(g.r)
		if text.Len() > 0 && !space &&
			(g.left-s.right > wide*s.size || g.left < s.left-s.size ||
				math.Abs((g.top+g.bottom)-(s.top+s.bottom)) > 2*max(s.size, s.top-s.bottom)) {
			flush()
		}
		if text.Len() == 0 {
			if space {
				continue
			}
			s = segment{style: styled(i), left: g.left, right: g.right, top: g.top, bottom: g.bottom}
		}
		text.WriteRune(g.r)
		if !space {
			last = i
			s.right, s.top, s.bottom = max(s.right, g.right), max(s.top, g.top), min(s.bottom, g.bottom)
		}
	}
	flush()
	return all
}

// row is the segments on one line of a column, from left to right.
type row []segment

func (r row) left() float64  { return r[0].left }
func (r row) right() float64 { return r[len(r)-1].right }
func (r row) bottom() float64 {
	return slices.MinFunc(r, func(a, b segment) int { return cmp.Compare(a.bottom, b.bottom) }).bottom
}
func (r row) top() float64 {
	return slices.MaxFunc(r, func(a, b segment) int { return cmp.Compare(a.top, b.top) }).top
}

// rows groups segments that overlap vertically into rows, from the top down.
func rows(all []segment) (lines []row) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b segment) int { return cmp.Compare(b.top+b.bottom, a.top+a.bottom) })
	for _, s := range all {
		if n := len(lines) - 1; n >= 0 {
			last := lines[n][0]
			if overlap := min(s.top, last.top) - max(s.bottom, last.bottom); overlap > 0.5*min(s.top-s.bottom,
				last.top-last.bottom) {
				lines[n] = append(lines[n], s)
				continue
			}
		}
		lines = append(lines, row{s})
	}
	for _, l := range lines {
		slices.SortStableFunc(l, func(a, b segment) int { return cmp.Compare(a.left, b.left) })
	}
	return lines
}

// columns returns a page's rows in reading order: the rows above columns, column after column, and the rows below.
func columns(all []segment) (read [][]row) {
	if len(all) > maxSegments {
		for _, s := range all {
			read = append(read, []row{{s}})
		}
		return read
	}
	lines := rows(all)
	for from := 0; from < len(lines) && sided(all); from++ {
		for to := len(lines); to >= from+leastLines; to-- {
			left, right := split(lines[from:to])
			if left == nil {
				continue
			}
			if from > 0 {
				read = append(read, lines[:from])
			}
			read = append(append(read, columns(left)...), columns(right)...)
			return append(read, columns(slices.Concat(lines[to:]...))...)
		}
	}
	if len(lines) > 0 {
		read = append(read, lines)
	}
	return read
}

// sided reports whether each side of a page's middle has enough segments for a column.
func sided(all []segment) bool {
	from, to := math.Inf(1), math.Inf(-1)
	for _, s := range all {
		from, to = min(from, s.left), max(to, s.right)
	}
	left, right := 0, 0
	for _, s := range all {
		if s.right < (from+to)/2 {
			left++
		} else if s.left > (from+to)/2 {
			right++
		}
	}
	return left >= leastLines && right >= leastLines
}

// The least number of lines in a column, and the least average number of characters in its segments: table cells have
// fewer.
const (
	leastLines = 4
	leastProse = 20
)

// split splits rows into two columns of prose at a gap that no segment crosses, or returns nil.
func split(lines []row) (left, right []segment) {
	type edge struct {
		at float64
		in int
	}
	var edges []edge
	for _, l := range lines {
		for _, s := range l {
			edges = append(edges, edge{s.left, 1}, edge{s.right, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	gap, at, open := 0.0, 0.0, 0
	for i, e := range edges {
		if open += e.in; open == 0 && i+1 < len(edges) && edges[i+1].at-e.at > gap {
			gap, at = edges[i+1].at-e.at, (edges[i+1].at+e.at)/2
		}
	}
	if gap < 6 { // points
		return nil, nil
	}
	chars := [2]int{}
	for _, l := range lines {
		for _, s := range l {
			if s.left < at {
				left, chars[0] = append(left, s), chars[0]+len(s.text)
			} else {
				right, chars[1] = append(right, s), chars[1]+len(s.text)
			}
		}
	}
	for i, side := range [][]segment{left, right} {
		if len(rows(side)) < leastLines || chars[i] < leastProse*len(side) {
			return nil, nil
		}
	}
	return left, right
}

// bulleted are the bullets of list items; numbered matches their numbers.
const bulleted = "•◦▪▫‣⁃∙·○●■□–—-*"

var numbered = regexp.MustCompile(`^(\(?[0-9]{1,3}[.)]|[a-zA-Z][.)])$`)

// marked matches a bullet or number with the space after it.
var marked = regexp.MustCompile(`^([•◦▪▫‣⁃∙○●■□]|\(?[0-9]{1,3}[.)])\s+`)

// marker reports whether a segment is the bullet or number of a list item.
func marker(s string) bool {
	return strings.Trim(s, bulleted) == "" && len([]rune(s)) == 1 || numbered.MatchString(s)
}

// layout builds a document from pages.
type layout struct {
	d     *Document
	text  strings.Builder
	body  float64   // the most common font size
	sizes []float64 // font sizes of headings, the largest first
}

// measure determines the font sizes of text and headings.
func (l *layout) measure(pages [][][]row) {
	chars := map[float64]int{}
	for _, page := range pages {
		for _, column := range page {
			for _, r := range column {
				for _, s := range r {
					chars[s.size] += len(s.text)
				}
			}
		}
	}
	for size, n := range chars {
		if n > chars[l.body] || n == chars[l.body] && size < l.body {
			l.body = size
		}
	}
	for size := range chars {
		if size >= l.body*1.15 {
			l.sizes = append(l.sizes, size)
		}
	}
	slices.SortFunc(l.sizes, func(a, b float64) int { return cmp.Compare(b, a) })
}

// heading returns the level of a heading row, or 0.
func (l *layout) heading(r row) int {
	n := 0
	for _, s := range r {
		if s.size < l.body*1.15 || s.mono {
			return 0
		}
		n += len(s.text)
	}
	if n > longestHeading || !strings.ContainsFunc(r[0].text+r[len(r)-1].text, unicode.IsLetter) {
		return 0
	}
	return min(slices.Index(l.sizes, r[0].size)+1, 6)
}

// longestHeading is the largest size of a heading, in bytes; longer text is just large.
const longestHeading = 200

// pageNumber matches a row that is a page number.
var pageNumber = regexp.MustCompile(`^[-– ]*[0-9]{1,4}[-– ]*$`)

// unnumbered removes the page number at the foot of a page.
func unnumbered(page [][]row) [][]row {
	n := len(page) - 1
	if n < 0 || n == 0 && len(page[0]) < 2 {
		return page
	}
	if last := page[n][len(page[n])-1]; len(last) == 1 && pageNumber.MatchString(last[0].text) &&
		(len(page[n]) == 1 || !isNear(page[n][len(page[n])-2], last, 1.2)) {
		if page[n] = page[n][:len(page[n])-1]; len(page[n]) == 0 {
			return page[:n]
		}
	}
	return page
}

// add appends a block to the document and its text.
func (l *layout) add(b Block) error {
	b.Text = strings.TrimSpace(b.Text)
	if b.Text == "" {
		return nil
	}
	if l.text.Len() > 0 {
		l.text.WriteByte('\n')
	}
	b.Start = l.text.Len()
	l.text.WriteString(b.Text)
	if b.End = l.text.Len(); b.End > MaxText {
		return fmtTooMuch(b.Page)
	}
	l.d.Blocks = append(l.d.Blocks, b)
	return tooMany(l.d.Blocks)
}

// column appends the blocks of a column.
func (l *layout) column(lines []row, page int) error {
	left, right := math.Inf(1), math.Inf(-1)
	for _, r := range lines {
		left, right = min(left, r.left()), max(right, r.right())
	}
	for i := 0; i < len(lines); {
		n, blocks := l.next(lines[i:], left, right)
		for _, b := range blocks {
			b.Page = page
			if err := l.add(b); err != nil {
				return err
			}
		}
		i += n
	}
	return nil
}

// next returns the blocks of the next heading, program, table, item or paragraph, and its number of rows.
func (l *layout) next(lines []row, left, right float64) (n int, blocks []Block) {
	first := lines[0]
	if level := l.heading(first); level > 0 {
		b := Block{Kind: Heading, Level: level}
		for n < len(lines) && l.heading(lines[n]) == level && (n == 0 || isNear(lines[n-1], lines[n], 1.2)) {
			b.Text = join(b.Text, joined(lines[n]))
			n++
		}
		return n, []Block{b}
	}
	if program(first) {
		for n < len(lines) && program(lines[n]) && (n == 0 || isNear(lines[n-1], lines[n], 2)) {
			n++
		}
		return n, []Block{{Kind: Code, Text: indented(lines[:n])}}
	}
	if n := tableRows(lines); n > 1 {
		for _, r := range lines[:n] {
			cells := make([]string, len(r))
			for i, s := range r {
				cells[i] = collapseSpaces(s.text)
			}
			b := Block{Kind: Row, Text: strings.Join(cells, " | ")}
			if len(blocks) > 0 {
				b.Head = blocks[0].Text
			}
			blocks = append(blocks, b)
		}
		return n, blocks
	}
	b, hang := Block{}, first.left()
	if len(first) > 1 && marker(first[0].text) {
		b.Kind, hang = Item, first[1].left
		first = first[1:]
	}
	b.Text = joined(first)
	if mark := marked.FindString(b.Text); mark != "" && b.Kind != Item {
		b.Kind, b.Text, hang = Item, b.Text[len(mark):], hang+float64(len([]rune(mark)))*first[0].size/2
	}
	for n = 1; n < len(lines); n++ {
		r, before := lines[n], lines[n-1]
		short := before.right() < right-(right-left)*0.2
		ended := strings.ContainsAny(b.Text[len(b.Text)-1:], ".!?:;")
		if l.heading(r) > 0 || program(r) || len(r) > 1 && marker(r[0].text) || !isNear(before, r, 1) ||
			math.Abs(r[0].size-before[0].size) > 0.2*before[0].size ||
			b.Kind == Item && math.Abs(r.left()-hang) > r[0].size || marked.MatchString(r[0].text) || b.Kind != Item &&
			r.left() > before.left()+r[0].size*0.7 || short && ended || tableRows(lines[n:]) > 1 {
			break
		}
		b.Text = join(b.Text, joined(r))
	}
	return n, []Block{b}
}

// isNear reports whether the gap between two rows is that of lines of one paragraph; more is a factor on it.
func isNear(above, below row, more float64) bool {
	return above.bottom()-below.top() < 0.75*more*max(above[0].size, below[0].size)
}

// program reports whether a row is set in a monospaced font.
func program(r row) bool {
	return !slices.ContainsFunc(r, func(s segment) bool { return !s.mono })
}

// indented returns a program's rows, with indentation as spaces.
func indented(lines []row) string {
	left := slices.MinFunc(lines, func(a, b row) int { return cmp.Compare(a.left(), b.left()) }).left()
	var b strings.Builder
	for i, r := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		at := left
		for _, s := range r {
			advance := s.size * 0.6
			if n := len([]rune(s.text)); n > 2 {
				advance = (s.right - s.left) / (float64(n) - 0.3)
			}
			b.WriteString(strings.Repeat(" ", int(min(200, math.Round(max(0, s.left-at)/max(advance, 1))))))
			b.WriteString(s.text)
			at = s.right
		}
	}
	return b.String()
}

// tableRows returns how many of the first rows form a table: rows with equally many cells, aligned left, right or
// centred.
func tableRows(lines []row) (n int) {
	cells := len(lines[0])
	if cells < 2 || cells == 2 && marker(lines[0][0].text) {
		return 0
	}
	for n = 1; n < len(lines) && len(lines[n]) == cells && isNear(lines[n-1], lines[n], 3); n++ {
		for i, s := range lines[n] {
			head := lines[0][i]
			if off := min(math.Abs(s.left-head.left), math.Abs(s.right-head.right),
				math.Abs(s.left+s.right-head.left-head.right)/2); off > 4 {
				return n
			}
		}
	}
	return n
}

// joined returns a row's text.
func joined(r row) string {
	text := ""
	for _, s := range r {
		text = join(text, s.text)
	}
	return text
}

// join appends text to text with a space between, except within a hyphenated word, which PDFium marks, and in scripts
// without spaces.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	for _, mark := range []string{"\uFFFE", "\x02"} {
		if whole, broken := strings.CutSuffix(a, mark); broken {
			return whole + b
		}
	}
	last, first := []rune(a[max(0, len(a)-4):]), []rune(b[:min(len(b), 4)])
	if l, f := last[len(last)-1], first[0]; spaceless(l) && spaceless(f) {
		return a + b
	}
	return a + " " + b
}

// spaceless reports characters of scripts without spaces between words.
func spaceless(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai) || r >= 0x3000 && r < 0x3040
}
