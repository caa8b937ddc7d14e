package search

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// lexicalQuery is a question's text, read for what it asks of words.
type lexicalQuery struct {
	ranked   string   // the words that count, those of phrases among them
	phrases  string   // the words of phrases, all of which must be there
	prefixes []string // of words that begin so
	// required is what a passage must meet, as websearch_to_tsquery reads it: phrases, and what must not be there;
	// empty where anything will do.
	required string
}

// maxPrefixes is how many words of a question may be beginnings.
const maxPrefixes = 8

// minPrefix is how many characters a beginning has at least.
const minPrefix = 2

// parseQuery reads a question: "a phrase" must be there, -word and -"a phrase" must not, begin* is the beginning of a
// word.
func parseQuery(text string) (w lexicalQuery) {
	var ranked, phrases, must []string
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
			must = append(must, `-"`+part+`"`)
		case phrase:
			ranked, phrases, must = append(ranked, part), append(phrases, part), append(must, `"`+part+`"`)
		case begins && utf8.RuneCountInString(stem) >= minPrefix && len(w.prefixes) < maxPrefixes:
			w.prefixes = append(w.prefixes, strings.ToLower(stem))
		default:
			ranked = append(ranked, part)
		}
	}
	w.ranked, w.phrases, w.required = strings.Join(ranked, " "), strings.Join(phrases, " "), strings.Join(must, " ")
	return w
}

// PlainText is a question's text as it is embedded: without what must not be there, and without marks.
func PlainText(text string) string {
	w := parseQuery(text)
	if plain := strings.TrimSpace(w.ranked + " " + strings.Join(w.prefixes, " ")); plain != "" {
		return plain
	}
	return strings.TrimSpace(text)
}

// snippetAfter is the first text that sorts behind every one that begins with prefix, byte by byte.
func snippetAfter(prefix string) string {
	b := []byte(prefix)
	b[len(b)-1]++ // the last byte of UTF-8 is never 0xff
	return string(b)
}
