package gateway

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/strictjson"
)

// maxArguments bounds arguments that are recorded as JSON, in bytes and in depth; others are recorded as text.
const (
	maxArguments     = 64 << 10
	maxArgumentDepth = 16
)

// storable reports whether an event's metadata can hold an object as it is: no name twice or reserved, nothing that
// PostgreSQL's jsonb can't store.
func storable(raw []byte) bool {
	if len(raw) > maxArguments || !utf8.Valid(raw) || !json.Valid(raw) || bytes.Contains(raw, []byte("konstruct.")) ||
		depth(raw) > maxArgumentDepth || strictjson.CheckDuplicates(raw) != nil {
		return false
	}
	if bytes.Contains(raw, []byte(`\u`)) { // an escape could hide a reserved name
		var v any
		if json.Unmarshal(raw, &v) != nil {
			return false
		}
		plain, err := json.Marshal(v)
		if err != nil || bytes.Contains(plain, []byte("konstruct.")) {
			return false
		}
	}
	_, wrong := strictjson.CheckStorable(raw)
	return wrong == ""
}

// depth returns how deep valid JSON nests.
func depth(raw []byte) (most int) {
	now, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\':
			i++
		case quoted:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// clean replaces what PostgreSQL's text can't hold, bytes that are no UTF-8 and NUL, and reports whether there was any.
func clean(s string) (string, bool) {
	return pgtext.Clean(s), !pgtext.Holds(s)
}
