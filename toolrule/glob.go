package toolrule

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// glob is a compiled glob: the literal parts between its stars, each of characters or anyOne.
type glob struct {
	parts [][]rune
	plain []string // a part as text where it has no anyOne, otherwise ""
}

// anyOne stands for ?: no rune of a text is negative.
const anyOne rune = -1

// compileGlob compiles a glob: * is any text, ? is one character, \ takes the next character literally.
func compileGlob(pattern string) (*glob, error) {
	if len(pattern) > MaxGlob {
		return nil, fmt.Errorf("%d bytes long, the limit is %d", len(pattern), MaxGlob)
	}
	if !utf8.ValidString(pattern) {
		return nil, errors.New("it is not UTF-8")
	}
	parts, escaped := [][]rune{{}}, false
	for _, r := range pattern {
		last := len(parts) - 1
		switch {
		case escaped:
			parts[last], escaped = append(parts[last], r), false
		case r == '\\':
			escaped = true
		case r == '*':
			parts = append(parts, []rune{})
		case r == '?':
			parts[last] = append(parts[last], anyOne)
		default:
			parts[last] = append(parts[last], r)
		}
	}
	if escaped {
		return nil, errors.New(`it ends with \, which takes the next character literally`)
	}
	g := &glob{}
	for i, p := range parts {
		if i > 0 && i < len(parts)-1 && len(p) == 0 { // ** is *
			continue
		}
		g.parts = append(g.parts, p)
		plain := ""
		if !strings.ContainsRune(string(p), utf8.RuneError) { // string turns anyOne into RuneError
			plain = string(p)
		}
		g.plain = append(g.plain, plain)
	}
	return g, nil
}

// match reports whether the glob matches the whole text.
func (g *glob) match(text string) bool {
	last := len(g.parts) - 1
	rest, ok := cutPart(text, g.parts[0])
	if last == 0 || !ok {
		return ok && rest == ""
	}
	for i := 1; i < last; i++ {
		if rest, ok = g.find(rest, i); !ok {
			return false
		}
	}
	// The last part is at the end: as many characters from there as it has.
	at := len(rest)
	for range g.parts[last] {
		if at == 0 {
			return false
		}
		_, n := utf8.DecodeLastRuneInString(rest[:at])
		at -= n
	}
	rest, ok = cutPart(rest[at:], g.parts[last])
	return ok && rest == ""
}

// find returns what follows the first place of a part.
func (g *glob) find(text string, part int) (rest string, ok bool) {
	if p := g.plain[part]; p != "" {
		i := strings.Index(text, p)
		if i < 0 {
			return "", false
		}
		return text[i+len(p):], true
	}
	for {
		if rest, ok = cutPart(text, g.parts[part]); ok {
			return rest, true
		}
		_, n := utf8.DecodeRuneInString(text)
		if n == 0 {
			return "", false
		}
		text = text[n:]
	}
}

// cutPart returns the text without a part at its beginning.
func cutPart(text string, part []rune) (rest string, ok bool) {
	for _, want := range part {
		r, n := utf8.DecodeRuneInString(text)
		if n == 0 || want != anyOne && r != want {
			return "", false
		}
		text = text[n:]
	}
	return text, true
}
