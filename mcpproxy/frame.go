package mcpproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/konstruct/konstruct/pgtext"
)

// MaxFrame is the largest frame in bytes that is held in memory and read whole. A longer one from a client is refused;
// a longer one from a server passes in pieces, and its size, hash and beginning are recorded.
const MaxFrame = 64 << 20

// Limits on what a frame names.
const (
	maxBatch = 100     // messages of a batch, which revision 2025-03-26 alone has
	maxID    = 1 << 10 // bytes of a request's id as JSON
	maxName  = 1 << 10 // bytes of a tool's or prompt's name
	maxURI   = 8 << 10 // bytes of a resource's URI
)

// JSON-RPC 2.0 error codes.
const (
	codeParse    = -32700
	codeInvalid  = -32600
	codeParams   = -32602
	codeInternal = -32603
	codeHeader   = -32020 // HeaderMismatch of revision 2026-07-28
)

// frameError says why a frame of a client is not passed, with its JSON-RPC code.
type frameError struct {
	code   int
	reason string
}

// Error implements error.
func (e *frameError) Error() string { return e.reason }

// message is what is read of one JSON-RPC message. Its slices are parts of the frame.
type message struct {
	id            []byte // JSON; nil: none, or null
	method        string
	params        []byte
	result, error []byte
}

// isRequest reports whether the message waits for a response.
func (m *message) isRequest() bool { return m.method != "" && m.id != nil }

// isResponse reports whether the message is a response.
func (m *message) isResponse() bool {
	return m.method == "" && m.id != nil && (m.result != nil || m.error != nil)
}

// envelope and known names of params decide what a server does, so no server may read them otherwise than the proxy.
var (
	envelopeNames = []string{"jsonrpc", "id", "method", "params", "result", "error"}
	paramsNames   = []string{
		"name",
		"uri",
		"arguments",
		"_meta",
		"requestId",
		"taskId",
		"requestState",
		"inputResponses",
	}
)

// readFrame reads the messages of a frame, which is one or a batch. A frame of a client must be strict: each name at
// most once and in the letters of the protocol, since a server that decodes otherwise would run what nobody decided on.
func readFrame(frame []byte, strict bool) (all []message, batch bool, err error) {
	frame = bytes.Trim(frame, " \t\r\n")
	if !json.Valid(frame) || strict && !utf8.Valid(frame) {
		return nil, false, &frameError{codeParse, "the frame is not JSON in UTF-8"}
	}
	switch frame[0] {
	case '{':
		m, err := readMessage(frame, strict)
		return []message{m}, false, err
	case '[':
		items, err := elements(frame, maxBatch)
		if err != nil {
			return nil, true, err
		}
		for _, item := range items {
			m, err := readMessage(item, strict)
			if err != nil {
				return nil, true, err
			}
			all = append(all, m)
		}
		return all, true, nil
	}
	return nil, false, &frameError{codeInvalid, "the frame is no JSON-RPC message: it is no object"}
}

// readMessage reads one message of valid JSON.
func readMessage(raw []byte, strict bool) (m message, err error) {
	if raw[0] != '{' {
		return m, &frameError{codeInvalid, "a message of the batch is no object"}
	}
	for name, value := range members(raw) {
		switch name {
		case "id":
			m.id = value
			if string(value) == "null" {
				m.id = nil
			}
		case "method":
			m.method, _ = text(value)
		case "params":
			m.params = value
		case "result":
			m.result = value
		case "error":
			m.error = value
		}
	}
	if !strict {
		return m, nil
	}
	if err := checkNames(raw, envelopeNames, "the message"); err != nil {
		return m, err
	}
	if like := knownMethod(m.method); like != "" && like != m.method {
		return m, &frameError{codeInvalid, fmt.Sprintf("method: %.40q must be written %q", m.method, like)}
	}
	if len(m.params) > 0 && m.params[0] == '{' {
		if err = checkNames(m.params, paramsNames, "params"); err == nil {
			err = checkTexts(m.params)
		}
	}
	if len(m.id) > maxID {
		err = &frameError{codeInvalid, fmt.Sprintf("id: %d bytes long, the limit is %d", len(m.id), maxID)}
		m.id = nil
	}
	return m, err
}

// knownMethod returns the method of those that rules or records are about that a lenient server could take this one
// for, or "".
func knownMethod(method string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(method) {
		if c >= 'a' && c <= 'z' || c == '/' && !strings.HasSuffix(b.String(), "/") {
			b.WriteRune(c)
		}
	}
	switch like := b.String(); like {
	case "tools/call", "resources/read", "prompts/get":
		return like
	}
	return ""
}

// checkTexts refuses a name that readers decode in different ways, as one with half of a surrogate pair.
func checkTexts(params []byte) error {
	for name, value := range members(params) {
		if name != "name" && name != "uri" {
			continue
		}
		if v, is := text(value); is && strings.ContainsRune(v, utf8.RuneError) && bytes.Contains(
			bytes.ToLower(value), []byte(`\ud`)) {
			return &frameError{codeInvalid, "params: " + name + ": it has half of a surrogate pair"}
		}
	}
	return nil
}

// checkNames refuses a known name that occurs twice, or in other letters.
func checkNames(object []byte, known []string, where string) error {
	seen := 0
	for name := range members(object) {
		for i, k := range known {
			if !strings.EqualFold(name, k) {
				continue
			}
			if name != k {
				return &frameError{codeInvalid, fmt.Sprintf("%s: %.40q must be written %q", where, name, k)}
			}
			if seen&(1<<i) != 0 {
				return &frameError{codeInvalid, fmt.Sprintf("%s: %q occurs twice", where, k)}
			}
			seen |= 1 << i
		}
	}
	return nil
}

// members yields the names and values of an object in valid JSON, in order.
func members(object []byte) func(yield func(string, []byte) bool) {
	return func(yield func(string, []byte) bool) {
		if len(object) == 0 || object[0] != '{' {
			return
		}
		for i := skipSpace(object, 1); object[i] != '}'; {
			end := valueEnd(object, i)
			name, _ := text(object[i:end])
			start := skipSpace(object, skipSpace(object, end)+1) // behind the colon
			end = valueEnd(object, start)
			if !yield(name, object[start:end]) {
				return
			}
			if i = skipSpace(object, end); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

// member returns the value of a name in an object of valid JSON; the last one where it occurs twice, nil where it does
// not.
func member(object []byte, name string) (value []byte) {
	for n, v := range members(object) {
		if n == name {
			value = v
		}
	}
	return value
}

// elements returns the values of an array in valid JSON.
func elements(array []byte, limit int) (all [][]byte, err error) {
	for i := skipSpace(array, 1); array[i] != ']'; {
		end := valueEnd(array, i)
		if all = append(all, array[i:end]); len(all) > limit {
			return nil, &frameError{codeInvalid, fmt.Sprintf("the batch has more than %d messages", limit)}
		}
		if i = skipSpace(array, end); array[i] == ',' {
			i = skipSpace(array, i+1)
		}
	}
	if len(all) == 0 {
		return nil, &frameError{codeInvalid, "the batch has no message"}
	}
	return all, nil
}

// skipSpace returns the place of the first byte from i on that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns the end of the value that begins at i in valid JSON.
func valueEnd(b []byte, i int) int {
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		depth := 0
		for ; i < len(b); i++ {
			switch b[i] {
			case '"':
				i = stringEnd(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return i
	}
	for ; i < len(b); i++ {
		switch b[i] {
		case ' ', '\t', '\r', '\n', ',', ']', '}':
			return i
		}
	}
	return i
}

// stringEnd returns the end of the string that begins at i in valid JSON.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// text returns what a JSON string says; false for another value.
func text(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// idKey returns the name of a JSON-RPC id by which requests and responses are matched: 1 and 1.0 are the same, "1" is
// not. It is empty for what is no id.
func idKey(raw []byte) string {
	if len(raw) == 0 || len(raw) > maxID {
		return ""
	}
	switch c := raw[0]; {
	case c == '"':
		s, ok := text(raw)
		if !ok {
			return ""
		}
		return "s" + s
	case c == '-' || c >= '0' && c <= '9':
		if bytes.ContainsAny(raw, ".eE") {
			var f float64
			if json.Unmarshal(raw, &f) == nil && f == float64(int64(f)) {
				return fmt.Sprintf("n%d", int64(f))
			}
		}
		return "n" + string(raw)
	}
	return ""
}

// storable returns why the trail can't hold a name as it was sent, or nil.
func storable(field, s string, limit int) error {
	switch {
	case s == "":
		return &frameError{codeParams, field + ": it is missing or no text"}
	case len(s) > limit:
		return &frameError{codeParams, fmt.Sprintf("%s: %d bytes long, the limit is %d", field, len(s), limit)}
	case !pgtext.Holds(s):
		return &frameError{codeParams, field + ": it is not UTF-8 without NUL"}
	}
	return nil
}

// codeOf returns the JSON-RPC code of an error.
func codeOf(err error) int {
	var bad *frameError
	if errors.As(err, &bad) {
		return bad.code
	}
	return codeInternal
}
