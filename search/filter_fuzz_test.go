package search_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

// FuzzFilter reads a filter from JSON and a condition as people write it, writes both and reads them again, and runs
// them: PostgreSQL takes whatever we do.
func FuzzFilter(f *testing.F) {
	door := testkit.Door(f)
	store(f, door, tenantA, "", `{"a":[1,"x",null,{"b":true}],"d":"2024-01-01","n":{"m":"5"},"a.b":1e3}`)
	for _, s := range [][2]string{
		{`{"type":"eq","key":"metadata.a","value":"x"}`, `metadata.a=5`},
		{`{"type":"in","key":"metadata.a.b","value":[1,"2024-01-01",null,true]}`, `metadata.d in 2024-01-01,"a,\"b"`},
		{`{"type":"and","filters":[{"type":"gte","key":"metadata.d","value":"2024-01-01T00:00:00Z"},
			{"type":"or","filters":[{"type":"starts_with","key":"source","value":"t"}]}]}`, `metadata."a.b" exists`},
		{`{"type":"exists","key":"label","value":false}`, `metadata.n.m>=1e10`},
		{`{"type":"lt","key":"version","value":-1.5e-7}`, `metadata.a"b\c'd$v.x<=null`},
		{`{"type":"nin","key":"ingested","value":["0001-01-01T00:00:00+23:59"]}`, `metadata.a=,`},
		{`{"type":"gt","key":"metadata.n","value":1e308}`, `metadata.\u0001^="\\"`},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, raw, written string) {
		var q search.Query
		if filter, err := search.ParseFilter([]byte(raw)); err == nil {
			q.Filter = filter
			first, err := json.Marshal(filter)
			if err != nil {
				t.Fatalf("%s is not written: %v", raw, err)
			}
			again, err := search.ParseFilter(first)
			if second, _ := json.Marshal(again); err != nil || string(first) != string(second) {
				t.Fatalf("%s is written as %s and then as %s: %v", raw, first, second, err)
			}
		} else if msg := err.Error(); !strings.HasPrefix(msg, "search: filter") {
			t.Fatalf("%q: %v", raw, err)
		}
		if c, err := search.ParseCondition(written); err == nil {
			again, err := search.ParseCondition(c.String())
			if err != nil || !reflect.DeepEqual(c, again) {
				t.Fatalf("%q is read as %#v and, written as %q, as %#v: %v", written, c, c.String(), again, err)
			}
			if c.Check() == nil {
				q.Where = []search.Condition{c}
			}
		}
		if q.Filter == nil && q.Where == nil {
			return
		}
		if _, err := met(context.Background(), door, tenantA, q); err != nil {
			t.Fatalf("%s, %s: %v", fmt.Sprintf("%.2000q", raw), fmt.Sprintf("%.2000q", written), err)
		}
	})
}
