package otel

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// plainJSON decodes JSON as it mostly comes, without copying its texts: messages take a third of the time that a
// general decoder takes for them. It gives up on what is unusual, which then is decoded by the library.
type plainJSON struct {
	text string
	at   int // of the next byte
}

// maxPlainDepth is how deep values nest at most.
const maxPlainDepth = 32

// decodePlain returns what JSON says: objects as map[string]any, lists as []any, numbers as json.Number. It reports
// false where it gives up.
func decodePlain(text string) (v any, ok bool) {
	d := plainJSON{text: text}
	if v, ok = d.value(0); !ok {
		return nil, false
	}
	d.space()
	return v, d.at == len(text)
}

// space skips white space, and returns the byte behind it, or 0 at the end.
func (d *plainJSON) space() byte {
	for ; d.at < len(d.text); d.at++ {
		if c := d.text[d.at]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
	}
	return 0
}

func (d *plainJSON) value(depth int) (any, bool) {
	switch c := d.space(); {
	case depth > maxPlainDepth:
		return nil, false
	case c == '"':
		return d.string()
	case c == '{':
		return d.object(depth)
	case c == '[':
		return d.list(depth)
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	}
	for _, word := range [...]struct {
		text  string
		value any
	}{{"true", true}, {"false", false}, {"null", nil}} {
		if strings.HasPrefix(d.text[d.at:], word.text) {
			d.at += len(word.text)
			return word.value, true
		}
	}
	return nil, false
}

// string returns the text that begins here.
func (d *plainJSON) string() (string, bool) {
	begin, escaped := d.at, false
	for d.at++; d.at < len(d.text); d.at++ {
		switch c := d.text[d.at]; {
		case c == '\\':
			escaped = true
			d.at++
		case c < ' ':
			return "", false
		case c == '"':
			d.at++
			if !escaped {
				return d.text[begin+1 : d.at-1], true
			}
			var s string
			quoted := d.text[begin:d.at]
			if !utf8.ValidString(quoted) || json.Unmarshal([]byte(quoted), &s) != nil {
				return "", false
			}
			return s, !strings.Contains(s, "\ufffd") // perhaps half a surrogate pair
		}
	}
	return "", false
}

func (d *plainJSON) object(depth int) (any, bool) {
	m := map[string]any{}
	for d.at++; d.space() != '}'; {
		if len(m) > 0 {
			if d.space() != ',' {
				return nil, false
			}
			d.at++
		}
		if d.space() != '"' {
			return nil, false
		}
		name, ok := d.string()
		if _, twice := m[name]; !ok || twice || d.space() != ':' {
			return nil, false
		}
		d.at++
		if m[name], ok = d.value(depth + 1); !ok {
			return nil, false
		}
	}
	d.at++
	return m, true
}

func (d *plainJSON) list(depth int) (any, bool) {
	all := []any{}
	for d.at++; d.space() != ']'; {
		if len(all) > 0 {
			if d.space() != ',' {
				return nil, false
			}
			d.at++
		}
		v, ok := d.value(depth + 1)
		if !ok {
			return nil, false
		}
		all = append(all, v)
	}
	d.at++
	return all, true
}

// number returns the number that begins here, as it is written.
func (d *plainJSON) number() (any, bool) {
	begin := d.at
	for d.at < len(d.text) && strings.IndexByte("+-.0123456789eE", d.text[d.at]) >= 0 {
		d.at++
	}
	n := d.text[begin:d.at]
	return json.Number(n), json.Valid([]byte(n))
}
