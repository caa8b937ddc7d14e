package strictjson

import (
	"strings"
	"testing"
)

func TestWhatCannotBeStoredAsItWasSentIsNamed(t *testing.T) {
	for raw, want := range map[string][2]string{
		`{"a":"é😀","b":"\u00e9\ud83d\ude00\\ud800","n":[1,-2.5e10,123456789012345678901234567890]}`: {},
		"{\"input_summary\":\"caf\xe9\"}": {".input_summary", "byte 3 is not UTF-8"},
		`{"input_summary":"x\ud800y"}`: {".input_summary",
			`byte 1: \ud800 is half of a surrogate pair, not a character`},
		`{"a":"\udc00"}`: {".a",
			`byte 0: \udc00 is half of a surrogate pair, not a character`},
		`{"a":"\ud800\ud800"}`: {".a",
			`byte 0: \ud800 is half of a surrogate pair, not a character`},
		`{"a":"\ud83d"}`: {".a",
			`byte 0: \ud83d is half of a surrogate pair, not a character`},
		`{"events":[{"a":1},{"m":{"k":["x","\ud800"]}}]}`: {".events[1].m.k[1]",
			`byte 0: \ud800 is half of a surrogate pair, not a character`},
		`{"metadata":{"n":1000000e400}}`: {".metadata.n",
			"the number 1000000e400 is past what a 64-bit float holds"},
		`{"n":-99999999e9999}`: {".n",
			"the number -99999999e9999 is past what a 64-bit float holds"},
		`{"n":0.00000000e9999,"m":1.0000000e-9999}`: {}, `{"n":1e-16383}`: {}, `{"n":"\\\\u0000"}`: {},
		`{"n":[0,1e-16384]}`: {".n[1]", "the number 1e-16384 has more digits than PostgreSQL stores: 131072 before " +
			"the point, 16383 after it"},
		`{"a":{"x\u0000":1}}`: {".a", `byte 1: \u0000 is NUL, which PostgreSQL's text does not hold`},
		"{\"a\xff\":1}":       {"", "byte 1 is not UTF-8"},
	} {
		if at, what := CheckText([]byte(raw)); at != want[0] || what != want[1] {
			t.Errorf("%s: %q, %q; want %q", raw, at, what, want)
		}
	}
}

// TestNumbersHaveTheDigitsOfNumeric: those that PostgreSQL 17 casts to jsonb, and those that it does not.
func TestNumbersHaveTheDigitsOfNumeric(t *testing.T) {
	zeros := strings.Repeat("0", 131071)
	for number, want := range map[string]bool{"1e131071": true, "1e131072": false, "0.1e131072": true,
		"0.1e131073": false, "-12e131070": true, "-12e131071": false, "1e-16383": true, "1e-16384": false,
		"1.0e-16383": false, "0e-16384": false, "0e131072": true, "1e-99999999": false, "1e99999999999999999999": false,
		"1e-99999999999999999999": false, "1" + zeros: true, "1" + zeros + "0": false,
		"0." + zeros[:16383]: true, "0." + zeros[:16384]: false, "0e99999999999999999999": false} {
		if _, what := CheckStorable([]byte(`[` + number + `]`)); (what == "") != want {
			t.Errorf("%.40s: %q", number, what)
		}
	}
}

func TestNamesAreComparedExactly(t *testing.T) {
	names := map[string]bool{"action_type": true, "metadata": true}
	for raw, want := range map[string]string{
		`{"action_type":"x","metadata":{"Any":1,"thing":{"x":[{"y":2}]}}}`: "", `{"Action_Type":"x"}`: "Action_Type",
		`{"metadata":{},"actionType":1}`:       "actionType",
		`{"metadata":[{"a":1},{"b":2}],"x":1}`: "x", `{"action_type":"{\"q\":1,\"Z\":2}"}`: "",
	} {
		if got, ok := CheckNames([]byte(raw), names); got != want || ok != (want == "") {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}
