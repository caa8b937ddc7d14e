package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const maxKey = 200 // bytes of a key in a JSON object

// Key names a value in a JSON object of a document, as Condition.Field and Filter.Key take it: root is metadata, and
// each segment is a name within the object before. A name that a key can't have as it is gets quotes.
func Key(root string, segments ...string) string {
	var b strings.Builder
	b.WriteString(root)
	for _, s := range segments {
		b.WriteByte('.')
		if s == "" || strings.HasPrefix(s, `"`) || strings.ContainsAny(s, ".=<>!^ ") || strings.TrimSpace(s) != s {
			s = quote(s)
		}
		b.WriteString(s)
	}
	return b.String()
}

// keyPaths reads a key: nested.deep is deep within nested, and also a name of its own, as metadata may have it;
// "nested.deep" with quotes is that name alone.
func keyPaths(key string) (paths [][]string, err error) {
	if key == "" || len(key) > maxKey {
		return nil, fmt.Errorf("the key has 1 to %d bytes", maxKey)
	}
	if err := storable(key); err != nil {
		return nil, fmt.Errorf("the key %w", err)
	}
	var path []string
	quoted := false
	for rest, more := key, true; more; {
		var name string
		if strings.HasPrefix(rest, `"`) {
			var ok bool
			if name, rest, ok = unquote(rest); !ok {
				return nil, errors.New(`a name in quotes has no end: write it as metadata."a.b".c`)
			}
			if rest != "" && rest[0] != '.' {
				return nil, errors.New(`a dot or nothing follows a name in quotes: write it as metadata."a.b".c`)
			}
			quoted, more, rest = true, rest != "", strings.TrimPrefix(rest, ".")
		} else if name, rest, more = strings.Cut(rest, "."); name == "" {
			return nil, errors.New(`a name is empty: where it has dots, write it as metadata."a..b"`)
		}
		path = append(path, name)
	}
	if paths = [][]string{path}; len(path) > 1 && !quoted {
		paths = append(paths, []string{key})
	}
	return paths, nil
}

// accessors are the jsonpath accessors of a path: ."nested"."deep".
func accessors(path []string) string {
	var b strings.Builder
	for _, name := range path {
		raw, _ := json.Marshal(name) // a string always has its JSON, whose escapes jsonpath reads alike
		b.WriteByte('.')
		b.Write(raw)
	}
	return b.String()
}

// quote writes text in quotes, in which \" and \\ are a quote and a backslash.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// unquote reads text in quotes at the beginning of s.
func unquote(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
