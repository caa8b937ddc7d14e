package extract

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"
)

// asciiHeading matches an AsciiDoc heading.
var asciiHeading = regexp.MustCompile(`^(={1,6})\s+(\S.*)$`)

// rstMarks are the characters that underline a reStructuredText heading.
const rstMarks = "=-`:.'\"~^_*+#"

// readLines reads reStructuredText and AsciiDoc: headings are recognized, other markup stays as written.
func readLines(raw []byte, contentType string) (*Document, error) {
	text, err := decode(raw)
	if err != nil {
		return nil, err
	}
	d := &Document{Text: string(text)}
	level := asciiLevel
	if contentType == TypeRST {
		level = rstLevels()
	}
	// The text between two headings is plain text.
	plain := 0
	for at := 0; at < len(text); {
		n, title, end := level(text, at)
		if n > 0 {
			if err := paragraphs(d, text[plain:at], plain, 0); err != nil {
				return nil, err
			}
			start := at + bytes.Index(text[at:end], []byte(title))
			d.Blocks = append(d.Blocks,
				Block{Kind: Heading, Level: n, Text: title, Start: start, End: start + len(title)})
			if d.Title == "" {
				d.Title = collapseSpaces(title)
			}
			at, plain = end, end
			continue
		}
		_, at = line(text, at)
	}
	return d, paragraphs(d, text[plain:], plain, 0)
}

// line returns the line at an offset, without its end, and the offset of the next.
func line(text []byte, at int) (string, int) {
	end := len(text)
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		end = at + i + 1
	}
	return strings.TrimRight(string(text[at:end]), "\r\n"), end
}

func asciiLevel(text []byte, at int) (level int, title string, end int) {
	s, end := line(text, at)
	if m := asciiHeading.FindStringSubmatch(s); m != nil {
		return len(m[1]), strings.TrimSpace(m[2]), end
	}
	return 0, "", end
}

// rstLevels returns a function that finds underlined headings; levels are in the order in which underlines first occur.
func rstLevels() func(text []byte, at int) (level int, title string, end int) {
	var order []string
	of := func(mark string) int {
		for i, m := range order {
			if m == mark {
				return min(i+1, 6)
			}
		}
		order = append(order, mark)
		return min(len(order), 6)
	}
	return func(text []byte, at int) (int, string, int) {
		first, next := line(text, at)
		second, behind := "", next
		if next < len(text) {
			second, behind = line(text, next)
		}
		if underline(first) && strings.TrimSpace(second) != "" && behind < len(text) { // overline and underline
			third, end := line(text, behind)
			if third == first && utf8.RuneCountInString(first) >= utf8.RuneCountInString(strings.TrimSpace(second)) {
				return of("over" + first[:1]), strings.TrimSpace(second), end
			}
		}
		if first != "" && !underline(first) && first[0] != ' ' && underline(second) &&
			utf8.RuneCountInString(second) >= utf8.RuneCountInString(first) {
			return of(second[:1]), strings.TrimSpace(first), behind
		}
		return 0, "", next
	}
}

// underline reports a line of at least three times the same mark.
func underline(s string) bool {
	return len(s) >= 3 && strings.IndexByte(rstMarks, s[0]) >= 0 && strings.Trim(s, s[:1]) == ""
}

// readCode reads source code: an unindented line and the indented lines after it are a block.
func readCode(raw []byte) (*Document, error) {
	text, err := decode(raw)
	if err != nil {
		return nil, err
	}
	d := &Document{Text: string(text)}
	start, blank := 0, true
	add := func(end int) error {
		lead := len(text[start:end]) - len(bytes.TrimLeft(text[start:end], "\r\n"))
		body := bytes.TrimRight(text[start+lead:end], " \t\r\n")
		if len(body) > 0 {
			d.Blocks = append(d.Blocks,
				Block{Kind: Code, Text: string(body), Start: start + lead, End: start + lead + len(body)})
		}
		start = end
		return tooMany(d.Blocks)
	}
	for at := 0; at < len(text); {
		s, next := line(text, at)
		margin := s != "" && strings.IndexByte(" \t})]", s[0]) < 0
		if blank && margin {
			if err := add(at); err != nil {
				return nil, err
			}
		}
		blank = strings.TrimSpace(s) == ""
		at = next
	}
	return d, add(len(text))
}
