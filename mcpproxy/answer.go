package mcpproxy

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/konstruct/konstruct/strictjson"
)

// errorFrame returns a JSON-RPC error response; without an id where the request has none that could be read.
func errorFrame(id []byte, code int, reason string) []byte {
	return marshal(struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id,omitempty"`
		Error   any             `json:"error"`
	}{"2.0", id, map[string]any{"code": code, "message": reason}})
}

// deniedFrame returns the result of a tool call that was not made. It is a result with isError and not a JSON-RPC
// error, since clients show a result's text to the model, which can then do something else.
func deniedFrame(id []byte, stateless bool, reason string) []byte {
	result := struct {
		Type    string              `json:"resultType,omitempty"` // required since 2026-07-28, unknown before
		Content []map[string]string `json:"content"`
		IsError bool                `json:"isError"`
	}{Content: []map[string]string{{"type": "text", "text": reason}}, IsError: true}
	if stateless {
		result.Type = "complete"
	}
	return marshal(struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Result  any             `json:"result"`
	}{"2.0", id, result})
}

// progressFrame returns a progress notification of a call that waits. Its progress grows by so little that a server's
// own progress, which follows, is larger.
func progressFrame(token []byte, n int, message string) []byte {
	return marshal(struct {
		JSONRPC string `json:"jsonrpc"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
	}{"2.0", "notifications/progress", map[string]any{"progressToken": json.RawMessage(token),
		"progress": json.RawMessage(fmt.Sprintf("%.9f", float64(n)*1e-6)), "message": message}})
}

// batchFrame returns the responses of a batch.
func batchFrame(answers [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(answers, []byte{','})...), ']')
}

func marshal(v any) []byte {
	raw, err := strictjson.Marshal(v)
	if err != nil {
		return nil // unreachable: texts and values that were valid JSON
	}
	return raw
}
