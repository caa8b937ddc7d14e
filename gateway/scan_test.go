package gateway

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/quick"
)

func scanAll(doc string, step int, members ...member) *scanner {
	s := newScanner(members)
	for i := 0; i < len(doc); i += step {
		s.write([]byte(doc[i:min(len(doc), i+step)]))
	}
	return s
}

// TestScannerFindsMembersInAnyChunking: a member has the same value however the bytes arrive.
func TestScannerFindsMembersInAnyChunking(t *testing.T) {
	doc := ` {"a" : [1, {"usage":7}, "x\"}"], "us\u0061ge" : {"n": 12 , "s":"\u00e9\\"}, "data":{"usage":"no"},
		"response": {"id":"r\"1", "usage":{"input":3}, "x":{"id":"no"}}, "t":true,"end":-1.5e3}`
	members := []member{{"", "usage", 100}, {"response", "id", 100}, {"response", "usage", 100}, {"", "end", 10},
		{"", "t", 10}, {"", "none", 10}}
	want := map[string]string{".usage": `{"n":12,"s":"\u00e9\\"}`, "response.id": `"r\"1"`,
		"response.usage": `{"input":3}`, ".end": "-1.5e3", ".t": "true", ".none": ""}
	for step := 1; step <= len(doc); step++ {
		s := scanAll(doc, step, members...)
		for _, m := range members {
			if got := string(s.value(m.outer, m.name)); got != want[m.outer+"."+m.name] {
				t.Fatalf("in steps of %d: %s.%s is %q", step, m.outer, m.name, got)
			}
		}
		if !s.ended() || s.repeated() != "" || s.incomplete() {
			t.Fatalf("in steps of %d: %v %q", step, s.ended(), s.repeated())
		}
	}
}

func TestScannerSeesWhatIsAmbiguous(t *testing.T) {
	s := scanAll(`{"model":"a","Model":"c","mod\u0065l":"b"}`, 3, member{"", "model", 100})
	if s.repeated() != "model" || s.text("", "model") != "b" {
		t.Errorf("%q %q", s.repeated(), s.text("", "model"))
	}
	if s := scanAll(`{"model":"a"`, 5, member{"", "model", 100}); s.ended() {
		t.Error("half a document is over")
	}
	if s := scanAll(`["model","a"]`, 5, member{"", "model", 100}); s.text("", "model") != "" {
		t.Error("an array has members")
	}
}

// TestScannerHoldsNoMoreThanItIsTold: a value over its limit is left out, and a long string is cut between characters.
func TestScannerHoldsNoMoreThanItIsTold(t *testing.T) {
	long := strings.Repeat("é", maxString)
	doc := `{"a":{"s":"` + long + `"},"b":"` + long + `","usage":{"n":1}}`
	for _, step := range []int{7, 4096, len(doc)} {
		s := scanAll(doc, step, member{"", "a", 2 * maxString}, member{"", "b", 1000}, member{"", "usage", 100})
		var a struct{ S string }
		if err := json.Unmarshal(s.get("a"), &a); err != nil || len(a.S) < maxString-8 || len(a.S) > maxString+8 ||
			strings.Trim(a.S, "é") != "" {
			t.Errorf("in steps of %d: %d bytes, %v", step, len(a.S), err)
		}
		if s.get("b") != nil || !s.incomplete() || string(s.get("usage")) != `{"n":1}` {
			t.Errorf("in steps of %d: b %.20q, usage %q", step, s.get("b"), s.get("usage"))
		}
	}
}

// TestScannerReadsWhatEncodingJSONReads compares any members with encoding/json.
func TestScannerReadsWhatEncodingJSONReads(t *testing.T) {
	agrees := func(before, value, name string, number float64, step uint8) bool {
		doc, err := json.Marshal(map[string]any{"a" + before: value, "k": map[string]any{name: value, "n": number},
			"v": []any{value, number}})
		if err != nil {
			return false
		}
		s := scanAll(string(doc), int(step)%17+1, member{"", "k", 1 << 20}, member{"", "v", 1 << 20})
		var all map[string]json.RawMessage
		return json.Unmarshal(doc, &all) == nil && string(s.get("k")) == string(all["k"]) &&
			string(s.get("v")) == string(all["v"]) && s.ended()
	}
	if err := quick.Check(agrees, nil); err != nil {
		t.Error(err)
	}
}
