package mcpserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/strictjson"
)

// Limits on a frame.
const (
	MaxFrame = 1 << 20 // bytes
	maxID    = 1 << 10 // bytes of a request's id as JSON
	maxName  = 1 << 10 // bytes of a name that is recorded
)

// JSON-RPC 2.0 error codes, and MCP's for a version that is not served.
const (
	codeParse    = -32700
	codeInvalid  = -32600
	codeMethod   = -32601
	codeParams   = -32602
	codeInternal = -32603
	codeVersion  = -32022
)

// FrameError says why a frame is refused, with its JSON-RPC code and the request's id as JSON, if it has one.
type FrameError struct {
	Code   int
	ID     json.RawMessage
	Reason string
}

// Error implements error.
func (e *FrameError) Error() string { return e.Reason }

// Frame returns the JSON-RPC response that refuses the frame.
func (e *FrameError) Frame() []byte {
	id := e.ID
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	raw, err := strictjson.Marshal(map[string]any{"jsonrpc": "2.0", "id": id,
		"error": map[string]any{"code": e.Code, "message": e.Reason}})
	if err != nil {
		return []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"the error can't be written"}}`)
	}
	return raw
}

// frame is what is read of a JSON-RPC message before the SDK reads it.
type frame struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`

	params struct {
		Name       string          `json:"name"`
		URI        string          `json:"uri"`
		RequestID  json.RawMessage `json:"requestId"`
		Version    string          `json:"protocolVersion"`
		ClientInfo *implementation `json:"clientInfo"`
		Meta       struct {
			Version    string          `json:"io.modelcontextprotocol/protocolVersion"`
			ClientInfo *implementation `json:"io.modelcontextprotocol/clientInfo"`
			Progress   json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	}
}

// implementation is what a client says that it is. Nobody has verified it.
type implementation struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// envelopeNames are the names of a JSON-RPC message.
var envelopeNames = map[string]bool{"jsonrpc": true, "id": true, "method": true, "params": true, "result": true,
	"error": true}

// readFrame reads a message, and refuses what two readers could read differently, and what is not one message.
func readFrame(raw []byte) (f frame, refused *FrameError) {
	refuse := func(code int, reason string, args ...any) *FrameError {
		return &FrameError{Code: code, ID: f.ID, Reason: fmt.Sprintf(reason, args...)}
	}
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) > MaxFrame:
		return f, refuse(codeInvalid, "the frame has more than %d bytes", MaxFrame)
	case !json.Valid(raw) || !utf8.Valid(raw):
		return f, refuse(codeParse, "the frame is not JSON in UTF-8")
	case raw[0] == '[':
		return f, refuse(codeInvalid, "batches are not served: send each message by itself")
	case raw[0] != '{':
		return f, refuse(codeInvalid, "the frame is no JSON-RPC message: it is no object")
	}
	var named struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(raw, &named) == nil && validID(named.ID) {
		f.ID = named.ID // so that the client knows which of its requests is refused
	}
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return f, refuse(codeInvalid, "the frame: %s", err)
	}
	if name, known := strictjson.CheckNames(raw, envelopeNames); !known {
		return f, refuse(codeInvalid, "the frame has %.80q: a message has jsonrpc, id, method, params, result or error",
			name)
	}
	var envelope struct {
		Version string          `json:"jsonrpc"`
		Result  json.RawMessage `json:"result"`
		Error   json.RawMessage `json:"error"`
		frame
	}
	if err := strictjson.Decode(raw, &envelope); err != nil {
		return f, refuse(codeInvalid, "the frame: %s", err)
	}
	f = envelope.frame
	if !validID(f.ID) {
		f.ID = nil
		return f, refuse(codeInvalid, "id: it is a text of at most %d bytes, or a whole number of at most 2⁵³ - 1",
			maxID)
	}
	notification := strings.HasPrefix(f.Method, "notifications/")
	switch {
	case envelope.Version != "2.0":
		return f, refuse(codeInvalid, `jsonrpc: it must be "2.0"`)
	case notification && f.ID != nil:
		return f, refuse(codeInvalid, "id: a notification has none")
	case f.Method != "" && !notification && f.ID == nil:
		return f, refuse(codeInvalid, "id: it is missing: the request would have no answer")
	case f.Method == "" && (f.ID == nil || envelope.Result == nil && envelope.Error == nil):
		return f, refuse(codeInvalid, "method: it is missing")
	case len(f.Params) > 0 && f.Params[0] != '{' && string(f.Params) != "null":
		return f, refuse(codeParams, "params: it must be an object")
	}
	if len(f.Params) > 0 {
		if err := json.Unmarshal(f.Params, &f.params); err != nil {
			return f, refuse(codeParams, "params: %s", fieldReason(err))
		}
	}
	return f, nil
}

// fieldReason says what is wrong with JSON in no words of Go.
func fieldReason(err error) string {
	if kind, is := err.(*json.UnmarshalTypeError); is &&
		kind.Field != "" { //nolint:errorlint // as the decoder returns it
		return kind.Field + ": it must not be " + kind.Value
	}
	return "it can't be read"
}

// validID reports whether a message may have this id: a text or a whole number; none is nil.
func validID(raw json.RawMessage) bool {
	switch {
	case len(raw) == 0:
		return true
	case len(raw) > maxID:
		return false
	case raw[0] == '"':
		return true
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return err == nil && n >= -maxInt && n <= maxInt
}

// maxInt is the largest number that a 64-bit float holds with its neighbours: the SDK answers with ids that are floats.
const maxInt = 1<<53 - 1

// client returns what the client says that it is.
func (f *frame) client() implementation {
	said := f.params.Meta.ClientInfo
	if said == nil {
		said = f.params.ClientInfo
	}
	if said == nil {
		return implementation{}
	}
	return implementation{recordable(said.Name), recordable(said.Version)}
}

// recordable returns a text that the trail can hold: clients send what they like.
func recordable(s string) string { return pgtext.Head(pgtext.Clean(s), maxName) }

// target is what Mcp-Name mirrors: the name of a tool or prompt, or a resource's address.
func (f *frame) target() string {
	if f.Method == "resources/read" {
		return f.params.URI
	}
	return f.params.Name
}
