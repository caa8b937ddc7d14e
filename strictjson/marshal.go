package strictjson

import (
	"bytes"
	"encoding/json"
)

// Marshal returns v as JSON with texts as they are. json.Marshal writes <, > and & as six bytes each, so that HTML and
// code take up to six times their size, and exceed limits that they keep.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
