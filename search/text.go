package search

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// lexicalQuery is a query's text, read for what it asks of words.
type lexicalQuery struct {
	ranked   string   // the words that count, those of phrases among them
	phrases  []string // each must stand there, or in a natural question should
	never    []string // words and phrases that must not
	prefixes []string // beginnings of words
	strict   bool     // operators are commands
}

// maxPrefixes is the largest number of prefixes in a query.
const maxPrefixes = 8

// maxQuotations is the largest number of a natural question's quotations that are preferred.
const maxQuotations = 8

// minPrefix is the least number of characters of a prefix.
const minPrefix = 2

// read reads a query's text: for its operators in lexical mode and where the query says so, else as a question.
func (q *Query) read() lexicalQuery {
	if q.Mode == Lexical && !q.Natural || q.Operators {
		return parseQuery(q.Text)
	}
	return readQuestion(q.Text)
}

// readQuestion reads a natural question: its quotations are phrases that should stand there, and its hyphens and
// asterisks are nothing.
func readQuestion(text string) (w lexicalQuery) {
	w.ranked = text
	quotes := strings.NewReplacer("“", `"`, "”", `"`, "„", `"`, "«", `"`, "»", `"`)
	for i, part := range strings.Split(quotes.Replace(text), `"`) {
		if part = strings.TrimSpace(part); i%2 == 1 && strings.ContainsFunc(part, unicode.IsSpace) {
			w.phrases = append(w.phrases, part)
		}
	}
	if strings.Count(text, `"`) == 1 {
		w.phrases = nil // inches, or a quotation that does not end
	}
	w.phrases = w.phrases[:min(len(w.phrases), maxQuotations)]
	return w
}

// parseQuery reads operators: "a phrase" must be there, -word and -"a phrase" must not, begin* is the beginning of a
// word.
func parseQuery(text string) (w lexicalQuery) {
	w.strict = true
	var ranked []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		rest, not := strings.CutPrefix(text, "-")
		if not && rest != "" && !unicode.IsSpace(rune(rest[0])) {
			text = rest
		} else {
			not = false
		}
		var part string
		phrase := false
		if after, ok := strings.CutPrefix(text, `"`); ok {
			if end := strings.IndexByte(after, '"'); end >= 0 {
				part, text, phrase = after[:end], after[end+1:], true
			} else {
				text = after // a lone mark
				continue
			}
		} else {
			end := strings.IndexFunc(text, unicode.IsSpace)
			if end < 0 {
				end = len(text)
			}
			part, text = text[:end], text[end:]
		}
		part = strings.TrimSpace(strings.ReplaceAll(part, `"`, " "))
		switch stem, begins := strings.CutSuffix(part, "*"); {
		case part == "":
		case not:
			w.never = append(w.never, part)
		case phrase:
			ranked, w.phrases = append(ranked, part), append(w.phrases, part)
		case begins && utf8.RuneCountInString(stem) >= minPrefix && len(w.prefixes) < maxPrefixes:
			w.prefixes = append(w.prefixes, strings.ToLower(stem))
		default:
			ranked = append(ranked, part)
		}
	}
	w.ranked = strings.Join(ranked, " ")
	return w
}

// operators counts what a passage must be read for.
func (w lexicalQuery) operators() int { return len(w.phrases) + len(w.never) }

// required reports whether a passage must meet more than its score.
func (w *lexicalQuery) required() bool { return w.strict && len(w.phrases)+len(w.never) > 0 }

// PlainText returns a query's text as it is embedded: a natural question as it stands, and one with operators without
// what must not be there and without marks.
func PlainText(text string, operators bool) string {
	if !operators {
		return strings.TrimSpace(text)
	}
	w := parseQuery(text)
	if plain := strings.TrimSpace(w.ranked + " " + strings.Join(w.prefixes, " ")); plain != "" {
		return plain
	}
	return strings.TrimSpace(text)
}

// textAfter returns the first text that sorts after every one with the prefix, by code points.
func textAfter(prefix string) string {
	last, size := utf8.DecodeLastRuneInString(prefix)
	next := last + 1
	if utf16.IsSurrogate(next) {
		next = 0xe000
	}
	if next > utf8.MaxRune {
		return prefix + string(utf8.MaxRune) // no text is longer than those
	}
	return prefix[:len(prefix)-size] + string(next)
}
