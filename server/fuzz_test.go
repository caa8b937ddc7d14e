package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/konstruct/konstruct/strictjson"
)

// FuzzStrict: what is read is JSON that every reader reads alike, and a batch that is read can be written and read
// again.
func FuzzStrict(f *testing.F) {
	for _, s := range []string{`{"events":[{"action_type":"x"}]}`, `{"a":1,"a":2}`, `[[[[]]]]`,
		`{"a":{"b":[1,{"c":null}]}} `, `{`, `{} {}`, `{"events":[{"action_type":"x","metadata":{"n":1e999}}]}`,
		`"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if json.Valid(raw) { // then both find the same names twice
			if got, want := strictjson.CheckDuplicates(raw) == nil, plainly(raw); got != want {
				t.Fatalf("%q: %t, want %t", raw, got, want)
			}
		}
		b, err := readBatch(bytes.NewReader(raw))
		if err != nil {
			if p := (*Problem)(nil); !errors.As(err, &p) || p.Status < 400 || p.Status > 422 {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		again, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readBatch(bytes.NewReader(again)); err != nil {
			t.Fatalf("%q is read, and %q is not: %v", raw, again, err)
		}
	})
}

// FuzzMeta: conditions on metadata are read or refused.
func FuzzMeta(f *testing.F) {
	f.Add("a=b")
	f.Add("/a/b~1c=[1,2]")
	f.Add("=")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := metadataFilter([]string{s})
		if err == nil {
			if _, err := json.Marshal(m); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}

// plainly is unambiguous by a decoder's tokens.
func plainly(raw []byte) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value func(depth int) bool
	value = func(depth int) bool {
		t, err := d.Token()
		delim, nested := t.(json.Delim)
		switch {
		case err != nil || nested && depth == strictjson.MaxDepth:
			return false
		case !nested:
			return true
		}
		seen := map[string]bool{}
		for d.More() {
			if delim == '{' {
				name, err := d.Token()
				s, _ := name.(string)
				if err != nil || seen[s] {
					return false
				}
				seen[s] = true
			}
			if !value(depth + 1) {
				return false
			}
		}
		_, err = d.Token()
		return err == nil
	}
	return value(0)
}
