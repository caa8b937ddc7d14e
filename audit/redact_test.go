package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/redact"
)

var redactKey = bytes.Repeat([]byte("k"), redact.MinKey)

const detectAll = `{"default": {"redact": [{"detect":"email"},{"detect":"card"},{"detect":"secret"}]}}`

func policy(t testing.TB, raw string) *audit.Policy {
	t.Helper()
	p, err := audit.ParsePolicy([]byte(raw), redactKey)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func redactEvent(t testing.TB, p *audit.Policy, tenant uuid.UUID, e audit.Event) audit.Event {
	t.Helper()
	out, err := p.Redact(tenant, e)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDetectorsFindWhatTheyShould has texts with what must be redacted and what must stay.
func TestDetectorsFindWhatTheyShould(t *testing.T) {
	p := policy(t, detectAll)
	pem := "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----"
	for _, c := range []struct{ text, rule, gone, rest string }{
		{"write to ada@example.org.", "email", "ada@example.org", "write to ␟."},
		{"<Ada.Lovelace+x@mail.example.co.uk>", "email", "Ada.Lovelace+x@mail.example.co.uk", "<␟>"},
		{"to=ada@example.org&x=1", "email", "ada@example.org", "to=␟&x=1"},
		{"ändrea@bücher.de sagt", "email", "ändrea@bücher.de", "␟ sagt"},
		{"pay 4111 1111 1111 1111 12/29", "card", "4111 1111 1111 1111", "pay ␟ 12/29"},
		{"5555-5555-5555-4444", "card", "5555-5555-5555-4444", "␟"},
		{"378282246310005,", "card", "378282246310005", "␟,"},
		{"no 12 6011111111111117", "card", "6011111111111117", "no 12 ␟"},
		{"key AKIAIOSFODNN7EXAMPLE.", "secret", "AKIAIOSFODNN7EXAMPLE", "key ␟."},
		{"ghp_" + strings.Repeat("a1B2", 9), "secret", "ghp_" + strings.Repeat("a1B2", 9), "␟"},
		{"OPENAI_API_KEY=sk-proj-" + strings.Repeat("aB3_", 12) + "x", "secret", "sk-proj-", "OPENAI_API_KEY=␟"},
		{"Bearer eyJhbGciOi.eyJzdWIiOi.SflKxw-_x ok", "secret", "eyJhbGciOi.eyJzdWIiOi.SflKxw-_x", "Bearer ␟ ok"},
		{"a\n" + pem + "\nb", "secret", pem, "a\n␟\nb"},
		{"cut -----BEGIN PRIVATE KEY-----\nMHcC", "secret", "MHcC", "cut ␟"},
	} {
		e := redactEvent(t, p, tenantA,
			audit.Event{Input: c.text, Metadata: json.RawMessage(`{"k":` + quote(c.text) + `}`)})
		if strings.Contains(e.Input+string(e.Metadata), c.gone) {
			t.Errorf("%q stays in %q, %s", c.gone, e.Input, e.Metadata)
		}
		begin, end := strings.Index(e.Input, "[redacted:"+c.rule+":"), strings.Index(e.Input, "]")
		if begin < 0 || e.Input[:begin]+"␟"+e.Input[end+1:] != c.rest {
			t.Errorf("%q became %q", c.text, e.Input)
		}
	}
	for _, text := range []string{
		"", "me @ home", "a@b", "@example.org", "x@example.1", "user@host",
		"4111111111111112", "1234567812345670", "score 0.4111111111111111", "41111111111111111111111",
		"55512345-1234-4123-8123-123456789012",
		"0123456789abcdef4111111111111111f", "1732431231123", "desk-lamp-with-a-long-name-indeed", "AKIA", "sk-short",
		"eyJ.eyJ", "-----BEGIN CERTIFICATE-----\nMII", "the mask-" + strings.Repeat("x", 30),
	} {
		if e := redactEvent(t, p, tenantA, audit.Event{Input: text}); e.Input != text || e.Metadata != nil {
			t.Errorf("%q became %q", text, e.Input)
		}
	}
}

func quote(s string) string {
	raw, _ := json.Marshal(s)
	return string(raw)
}

func TestEqualValuesHaveEqualMarksWithinATenantOnly(t *testing.T) {
	p := policy(t, detectAll)
	mark := func(tenant uuid.UUID, text string) string {
		return redactEvent(t, p, tenant, audit.Event{Input: text}).Input
	}
	if mark(tenantA, "Ada@Example.org") != mark(tenantA, "ada@example.ORG") ||
		mark(tenantA, "4111 1111 1111 1111") != mark(tenantA, "4111111111111111") {
		t.Error("one value has two marks")
	}
	if mark(tenantA, "ada@example.org") == mark(tenantB, "ada@example.org") {
		t.Error("a value's mark is the same for two tenants")
	}
	other, err := audit.ParsePolicy([]byte(detectAll), bytes.Repeat([]byte("o"), redact.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	if redactEvent(t, other, tenantA, audit.Event{Input: "ada@example.org"}).Input == mark(tenantA, "ada@example.org") {
		t.Error("a mark does not depend on the key")
	}
}

func TestRulesReachWhatTheyNameAndSaySo(t *testing.T) {
	p := policy(t, `{"tenants": {"`+tenantA.String()+`": {"redact": [
	  {"name":"order", "pattern":"ORD-[0-9]+", "in":["input_summary"]},
	  {"name":"ssn", "path":"/people/*/ssn"}, {"name":"who", "path":"user_id"},
	  {"name":"hex", "pattern":"[0-9a-f]{16}"}, {"detect":"email"}, {"detect":"card"}]}}}`)
	e := audit.Event{Input: "ORD-17 and ORD-18", Output: "ORD-19", UserID: "ada@example.org",
		Metadata: json.RawMessage(
			`{"people":[{"ssn":"078-05-1120","n":1},{"ssn":219099999},{"ssn":null}],"card":4111111111111111,` +
				`"bob\u0040example.org":true,"score":0.4111111111111111}`)}
	got := redactEvent(t, p, tenantA, e)
	for _, gone := range []string{"ORD-17", "ORD-18", "ada@", "078-05", "219099999", "4111111111111111,", "bob@",
		"bob\\u0040"} {
		if strings.Contains(got.Input+got.UserID+string(got.Metadata), gone) {
			t.Errorf("%q stays: %+v %s", gone, got, got.Metadata)
		}
	}
	if got.Output != "ORD-19" || !strings.HasPrefix(got.UserID, "[redacted:who:") {
		t.Errorf("output %q, user %q", got.Output, got.UserID)
	}
	var m struct {
		Score json.Number `json:"score"`
		Done  []struct {
			Rule, Field string
			Count       int
		} `json:"konstruct.redactions"`
	}
	if err := json.Unmarshal(got.Metadata, &m); err != nil {
		t.Fatal(err)
	}
	done := map[string]int{}
	for _, d := range m.Done {
		done[d.Rule+" "+d.Field] = d.Count
	}
	for what, n := range map[string]int{"order input_summary": 2, "who user_id": 1, "ssn metadata": 2,
		"card metadata": 1, "email metadata": 1, "hex metadata": 1} {
		// found by both hex and card
		if done[what] != n {
			t.Errorf("%s is said to be redacted %d times, want %d (%v)", what, done[what], n, done)
		}
	}
	if len(done) != 6 || m.Score != "0.4111111111111111" {
		t.Errorf("said: %v, score %s", done, m.Score)
	}
	if other := redactEvent(t, p, tenantB, e); other.Input != e.Input || string(other.Metadata) != string(e.Metadata) {
		t.Errorf("a tenant without rules: %+v", other)
	}
	// A caller can't set konstruct.redactions.
	if _, err := p.Redact(tenantA,
		audit.Event{Metadata: json.RawMessage(`{"konstruct\u002eredactions":[]}`)}); err == nil ||
		!strings.Contains(err.Error(), "only redaction sets") {
		t.Errorf("a forged note: %v", err)
	}
}

// TestOverlappingFindsAllGo checks that overlapping finds of two rules are redacted as a whole.
func TestOverlappingFindsAllGo(t *testing.T) {
	p := policy(t, `{"default":{"redact":[{"name":"tail","pattern":"example.org secret"},{"detect":"email"}]}}`)
	e := redactEvent(t, p, tenantA, audit.Event{Input: "ada@example.org secret!"})
	if !strings.HasPrefix(e.Input, "[redacted:email:") || !strings.HasSuffix(e.Input, "]!") ||
		strings.Contains(e.Input, "secret") {
		t.Errorf("became %q", e.Input)
	}
	if !strings.Contains(string(e.Metadata), `"rule":"tail"`) {
		t.Errorf("metadata %s", e.Metadata)
	}
}

func TestAPolicyThatCannotBeMeantIsRefusedByPlace(t *testing.T) {
	rule := func(r string) string { return `{"default":{"redact":[` + r + `]}}` }
	for raw, want := range map[string]string{
		`{"defualt":{}}`:       `unknown field "defualt"`,
		`{} {}`:                "there is data after",
		`{"tenants":{"x":{}}}`: "invalid UUID",
		`{"default":{"when_unwritable":"maybe"}}`: "default.when_unwritable",
		`{"default":{"wait":"soon"}}`:             "default.wait",
		`{"default":{"wait":"2h"}}`:               "default.wait",
		rule(
			`{}`): "redact[0].detect: a rule has exactly one",
		rule(`{"detect":"email","pattern":"x"}`):                                  "exactly one",
		rule(`{"detect":"email"},{"detect":"fax"}`):                               "redact[1].detect",
		rule(`{"name":"A b","pattern":"x"}`):                                      "redact[0].name",
		rule(`{"pattern":"x"}`):                                                   "redact[0].name",
		rule(`{"name":"a","pattern":"("}`):                                        "redact[0].pattern: error parsing",
		rule(`{"name":"a","path":"nowhere"}`):                                     "redact[0].path",
		rule(`{"name":"a","path":"/x","in":["metadata"]}`):                        "redact[0].in",
		rule(`{"detect":"email","in":["agent_id"]}`):                              "redact[0].in",
		rule(`{"name":"a","pattern":"` + strings.Repeat("x", 5000) + `"}`):        "the limit is 4096",
		rule(strings.TrimSuffix(strings.Repeat(`{"detect":"email"},`, 101), ",")): "101 rules",
	} {
		if _, err := audit.ParsePolicy([]byte(raw), redactKey); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", raw, err, want)
		}
	}
	if _, err := audit.ParsePolicy([]byte(detectAll), []byte("short")); err == nil ||
		!strings.Contains(err.Error(), "at least 32 bytes") {
		t.Errorf("a short key: %v", err)
	}
}

// FuzzRedact plants a value of each kind in any text. The value must be redacted, the rest must stay, and the result
// must be storable.
func FuzzRedact(f *testing.F) {
	p := policy(f,
		`{"default":{"redact":[{"detect":"email"},{"detect":"card"},{"detect":"secret"},{"name":"order",`+
			`"pattern":"ORD-[0-9]{6}"}]}}`)
	planted := []string{"ada@example.org", "4111 1111 1111 1111", "AKIAIOSFODNN7EXAMPLE", "ORD-123456"}
	f.Add("before ", " after", 0)
	f.Add("x\u00a0", "\n", 1)
	f.Add("{\"", "\\u0040\"", 2)
	f.Add("4111 ", "-1", 1)
	f.Fuzz(func(t *testing.T, before, after string, which int) {
		value := planted[uint(which)%uint(len(planted))]
		text := before + " " + value + " " + after
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) || len(text) > 8<<10 {
			return
		}
		raw, err := json.Marshal(map[string]any{"k": text, "l": []string{text}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := p.Redact(tenantA, audit.Event{Action: "x", Input: text, Metadata: raw})
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.ValidString(e.Input) || !json.Valid(e.Metadata) ||
			!strings.Contains(string(e.Metadata), "konstruct.redactions") {
			t.Fatalf("%q became %q, %s", text, e.Input, e.Metadata)
		}
		var m map[string]any
		if err := json.Unmarshal(e.Metadata, &m); err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{e.Input, m["k"].(string), m["l"].([]any)[0].(string)} {
			if strings.Count(out, value) > 0 {
				t.Fatalf("%q stays in %q", value, out)
			}
			if out != e.Input {
				t.Fatalf("one text became %q and %q", e.Input, out)
			}
		}
		// The text between marks is unchanged and in order.
		rest := text
		for _, piece := range strings.Split(e.Input, "[redacted:") {
			if rule, kept, ok := strings.Cut(piece, "]"); ok && len(rule) < 60 {
				piece = kept
			}
			i := strings.Index(rest, piece)
			if i < 0 {
				t.Fatalf("%q became %q: %q was not there", text, e.Input, piece)
			}
			rest = rest[i+len(piece):]
		}
	})
}

// FuzzPolicy parses any policy. An accepted policy redacts any event, or fails with an error that names a field.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(detectAll), "ada@example.org", []byte(`{"a":["4111111111111111"]}`))
	f.Add([]byte(`{"default":{"redact":[{"name":"p","pattern":"a*"},{"name":"x","path":"/*/~1/0"}]}}`), "aa",
		[]byte(`{"k":{"/":[1,null]}}`))
	f.Add([]byte(`{"tenants":{"`+tenantA.String()+`":{"when_unwritable":"go_on","wait":"1s"}}}`), "", []byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte, text string, metadata []byte) {
		p, err := audit.ParsePolicy(raw, redactKey)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "policy: ") {
				t.Fatalf("error %v", err)
			}
			return
		}
		e, err := p.Redact(tenantA, audit.Event{Action: "x", Input: text, Metadata: metadata})
		var field *audit.FieldError
		if err != nil && !errors.As(err, &field) {
			t.Fatalf("error %v", err)
		}
		if err == nil && json.Valid(metadata) != json.Valid(e.Metadata) {
			t.Fatalf("%q became %q", metadata, e.Metadata)
		}
	})
}

// TestNamesWithOneMarkKeepTheirValues: keys of the metadata that are redacted to one mark keep their values, the same
// way each time.
func TestNamesWithOneMarkKeepTheirValues(t *testing.T) {
	p := policy(t, `{"tenants": {"`+tenantA.String()+`": {"redact": [{"detect":"email"}]}}}`)
	var before string
	for range 20 {
		got := redactEvent(t, p, tenantA, audit.Event{Metadata: json.RawMessage(
			`{"ada@example.org":"first","ADA@example.org":"second","Ada@example.org":"third"}`)})
		var m map[string]any
		if err := json.Unmarshal(got.Metadata, &m); err != nil {
			t.Fatal(err)
		}
		delete(m, "konstruct.redactions")
		raw, _ := json.Marshal(m)
		if len(m) != 3 || before != "" && string(raw) != before {
			t.Fatalf("%s, before %s", raw, before)
		}
		before = string(raw)
	}
}
