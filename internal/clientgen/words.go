package clientgen

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// The borders between the words of a name: createLLMCall has three words.
var (
	beforeWord    = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	afterInitials = regexp.MustCompile(`([A-Z]+)([A-Z][a-z])`)
	notInName     = regexp.MustCompile(`[^A-Za-z0-9]+`)
)

// snake returns a name in snake_case.
func snake(name string) string {
	name = afterInitials.ReplaceAllString(beforeWord.ReplaceAllString(name, "${1}_$2"), "${1}_$2")
	return strings.ToLower(notInName.ReplaceAllString(name, "_"))
}

// camel returns a name in camelCase.
func camel(name string) string {
	words := strings.Split(snake(name), "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// wrap breaks text into lines of at most width columns, and keeps its paragraphs.
func wrap(text string, width int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
				lines, line = append(lines, line), ""
			}
			if line != "" {
				line += " "
			}
			line += word
		}
		lines = append(lines, line)
	}
	return lines
}
