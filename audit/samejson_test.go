package audit

import "testing"

func TestSameJSON(t *testing.T) {
	for _, c := range []struct {
		sent, stored string
		want         bool
	}{
		{`{}`, `{}`, true}, {` { "b":1, "a" : [1,2] }`, `{"a": [1, 2], "b": 1}`, true}, {`{"a":1e2}`, `{"a": 100}`,
			true}, {`{"a":1.50}`, `{"a": 1.5}`, true},
		{`{"a":-0.0}`, `{"a": 0.0}`, true}, {`{"a":"\u00e9"}`, `{"a": "é"}`, true}, {`{"a":1E+2}`, `{"a": 100}`, true},
		{`{"a":12e-1}`, `{"a": 1.2}`, true},
		{`{"a":1}`, `{"a": 2}`, false}, {`{"a":1}`, `{"a": -1}`, false}, {`{"a":1}`, `{"a": 10}`, false},
		{`{"a":1}`, `{"a": "1"}`, false}, {`{"a":[1,2]}`, `{"a": [2, 1]}`, false},
		{`{"a":null}`, `{}`, false}, {`{"a":9007199254740993}`, `{"a": 9007199254740992}`, false},
		{`{"a":true}`, `{"a": false}`, false}, {`{"a":{}}`, `{"a": []}`, false},
	} {
		if got := sameJSON([]byte(c.sent), c.stored); got != c.want {
			t.Errorf("%s and %s: %v", c.sent, c.stored, got)
		}
	}
}
