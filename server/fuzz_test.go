package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

// FuzzStrict: what is read is JSON that every reader reads alike, and a batch that is read can be written and read again.
func FuzzStrict(f *testing.F) {
	for _, s := range []string{`{"events":[{"action_type":"x"}]}`, `{"a":1,"a":2}`, `[[[[]]]]`, `{"a":{"b":[1,{"c":null}]}} `, `{`, `{} {}`, `{"events":[{"action_type":"x","metadata":{"n":1e999}}]}`, `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if unambiguous(raw) == nil && len(bytes.TrimSpace(raw)) > 0 {
			d := json.NewDecoder(bytes.NewReader(raw))
			for { // one value or several: json.Unmarshal refuses what stands behind the first
				var v any
				err := d.Decode(&v)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%q is let through: %v", raw, err)
				}
			}
		}
		b, err := readBatch(raw)
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
		if _, err := readBatch(again); err != nil {
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
		m, err := contains([]string{s})
		if err == nil {
			if _, err := json.Marshal(m); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}
