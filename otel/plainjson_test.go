package otel

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzPlainJSON holds what is decoded without the library against encoding/json.
func FuzzPlainJSON(f *testing.F) {
	for _, s := range []string{`[{"role":"user","parts":[{"type":"text","content":"Grüße \"\\ \n \u00e9 🚰"}]}]`,
		` { "a" : [ 1 , -2.50e+3 , true , false , null , "" , { } , [ ] ] } `, `{"":1}`,
		`{"a":1,"a":2}`, `[1,]`, `[,1]`,
		`{"a":1,}`, `[01]`, `[1.]`, `[-]`, `["\ud83d\udeb0"]`, `["\ud83d"]`, "[\"\xff\"]", "[\"\\u0041\xff\"]",
		"[\"\x01\"]", `["a`, `[1 2]`, `{"a" 1}`, `{a:1}`, `[tru]`, `[truefalse]`, `[nulll]`,
		`1 2`, `[1]x`, `[1]` + " \n",
		strings.Repeat("[", 40) + strings.Repeat("]", 40), `["\u0000"]`, `[1e999]`, `["\`, `["\"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := decodePlain(s)
		if !ok {
			return
		}
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil || d.More() {
			t.Fatalf("%q was decoded as %#v: %v", s, got, err)
		}
		// The library writes U+FFFD for what is no UTF-8, which the encoder does later, and says so.
		if !reflect.DeepEqual(valid(got), want) {
			t.Errorf("%q was decoded as %#v, want %#v", s, got, want)
		}
	})
}

// valid returns a value with texts of valid UTF-8.
func valid(v any) any {
	switch v := v.(type) {
	case string:
		return replaced(v)
	case []any:
		for i := range v {
			v[i] = valid(v[i])
		}
	case map[string]any:
		all := map[string]any{}
		for name, item := range v {
			all[replaced(name)] = valid(item)
		}
		return all
	}
	return v
}

// replaced returns a text with U+FFFD for each byte that is no UTF-8.
func replaced(s string) string { return string([]rune(s)) }

func TestPlainJSONDecodesWhatIsUsual(t *testing.T) {
	for _, s := range []string{`[{"role": "user", "parts": [{"type": "text", "content": "a \"b\" \\ ü 🚰 \u00e9"}]}]`,
		`{"n": [0, -1, 1.5, 2e10], "b": [true, false, null], "o": {}, "l": []}`} {
		if _, ok := decodePlain(s); !ok {
			t.Errorf("it gives up on %s", s)
		}
	}
}
