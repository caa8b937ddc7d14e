package toolrule_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/redact"
	"github.com/konstruct/konstruct/toolrule"
)

func parse(t testing.TB, file string) *toolrule.Set {
	t.Helper()
	rules, err := toolrule.Parse([]byte(`{"tools":[` + file + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	set, err := toolrule.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	set := parse(t, `
		{"server":"github","tool":"get_*","action":"allow"},
		{"server":"github","tool":"delete_*","arguments":{"/path":"*.env"},"action":"ask","to":"ops","within":"10m",
		 "otherwise":"allow","reason":"secrets"},
		{"server":"git*","tool":"delete_*","action":"deny","reason":"nothing is deleted"},
		{"tool":"Bash","arguments":{"/command":{"pattern":"\\brm\\s+-rf?\\b"}},"action":"deny"},
		{"tool":"WebFetch","action":"ask","via":"prompt"}`)
	for _, c := range []struct {
		server, tool, args string
		want               toolrule.Decision
	}{
		{"github", "get_file", `{"path":".env"}`, toolrule.Decision{Action: "allow", Rule: 0}},
		{"github", "delete_file", `{"path":"a/.env"}`, toolrule.Decision{Action: "ask", Rule: 1, Reason: "secrets",
			To: "ops", Via: "escalation", Within: 10 * time.Minute, Otherwise: "allow"}},
		{"github", "delete_file", `{"path":"a/.envrc"}`,
			toolrule.Decision{Action: "deny", Rule: 2, Reason: "nothing is deleted"}},
		{"gitlab", "delete_file", ``, toolrule.Decision{Action: "deny", Rule: 2, Reason: "nothing is deleted"}},
		{"jira", "delete_file", ``, toolrule.Decision{Action: "allow", Rule: -1}},
		{"claude-code", "Bash", `{"command":"cd /; rm -rf *"}`,
			toolrule.Decision{Action: "deny", Rule: 3, Reason: "a rule denies this tool call"}},
		{"claude-code", "Bash", `{"command":"farm -rf"}`, toolrule.Decision{Action: "allow", Rule: -1}},
		{"claude-code", "WebFetch", `{}`, toolrule.Decision{Action: "ask", Rule: 4, Via: "prompt",
			Reason: "a rule asks a person first", Within: 5 * time.Minute, Otherwise: "deny"}},
	} {
		got := set.Decide(toolrule.Call{Server: c.server, Tool: c.tool, Arguments: json.RawMessage(c.args)})
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s %s %s:\n got %+v\nwant %+v", c.server, c.tool, c.args, got, c.want)
		}
	}
	var none *toolrule.Set
	if d := none.Decide(toolrule.Call{Tool: "Bash"}); d.Action != toolrule.Allow || d.Rule != -1 {
		t.Errorf("no rules: %+v", d)
	}
}

// unreadable are arguments that two readers could read differently, or that nobody can read.
var unreadable = map[string]string{
	"no JSON": `{"path":`, "cut": `{"path":"x`, "after": `{"path":"x"}{"path":".env"}`,
	"twice":            `{"path":"x","path":".env"}`,
	"twice by escape":  `{"path":"x","p\u0061th":".env"}`,
	"no object":        `".env"`,
	"list":             `[{"path":".env"}]`,
	"half a surrogate": `{"path":"\ud800.env"}`,
	"no UTF-8":         "{\"path\":\"\xff.env\"}",
	"NUL":              `{"path":"a\u0000.env"}`,
	"deep":             `{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `,"path":"x"}`,
	"deeper":           strings.Repeat("[", 1<<20-1),
	"long":             `{"a":"` + strings.Repeat("x", toolrule.MaxArguments) + `","path":"x"}`,
	"garbage":          "\x00\x01\x02",
}

func TestUnreadableArgumentsNeverSlipPastADeny(t *testing.T) {
	rules := `{"tool":"t","arguments":{"/path":"/tmp/*"},"action":"allow"},
		{"tool":"t","arguments":{"/path":"*.env"},"action":%q}`
	for name, args := range unreadable {
		for _, action := range []string{"deny", "ask"} {
			d := parse(t, fmt.Sprintf(rules, action)).Decide(toolrule.Call{Tool: "t",
				Arguments: json.RawMessage(args)})
			if d.Action != action || d.Unreadable == "" || !strings.Contains(d.Reason, d.Unreadable) {
				t.Errorf("%s: %+v", name, d)
			}
		}
		redacts := parse(t, `{"arguments":{"/path":"*.env"},"action":"redact","redact":[{"detect":"secret"}]}`)
		if d := redacts.Decide(toolrule.Call{Arguments: json.RawMessage(args)}); len(d.Redact) != 1 {
			t.Errorf("%s: it is recorded unredacted: %+v", name, d)
		}
		// A rule without conditions on arguments needs none.
		if d := parse(t, `{"tool":"t","action":"allow"}`).Decide(toolrule.Call{Tool: "t",
			Arguments: json.RawMessage(args)}); d.Action != "allow" || d.Unreadable != "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestPointersSelect(t *testing.T) {
	for _, c := range []struct {
		pointer, want, args string
		deny, allow         bool // whether a rule with this action matches
	}{
		{"/path", "*.env", `{"path":"a.env"}`, true, true},
		{"/path", "*.env", `{"Path":"a.env"}`, true, false}, // a server in Go reads it as path
		{"/path", "*", `{"path":"x","PATH":"y"}`, true, false},
		{"/path", "*.env", `{"other":"a.env"}`, false, false},
		{"/path", "*.env", ``, false, false}, {"/path", "*.env", `null`, false, false},
		{"/a/b", "x", `{"a":{"b":"x"}}`, true, true},
		{"/a/b", "x", `{"a":"x"}`, false, false},
		{"/files/*", "/tmp/*", `{"files":["/tmp/a","/etc/b"]}`, true, false},
		{"/files/*", "/tmp/*", `{"files":["/tmp/a","/tmp/b"]}`, true, true},
		{"/files/*", "/tmp/*", `{"files":[]}`, false, false},
		{"/files/1", "b", `{"files":["a","b"]}`, true, true},
		{"/a~1b/c~0d", "x", `{"a/b":{"c~d":"x"}}`, true, true},
		{"/n", "1.50", `{"n":1.50}`, true, true},
		{"/o", `{"a":"<b>","z":[1,null]}`, `{"o":{ "z":[1, null],"a":"<b>"}}`, true, true},
		{"", `*"secret"*`, `{"x":[{"y":"secret"}]}`, true, true},
		{"/path", "*.env", `{"path":"\u002eenv"}`, true, true},
	} {
		for action, want := range map[string]bool{"deny": c.deny, "allow": c.allow} {
			set, err := toolrule.New([]toolrule.Rule{{Action: action,
				Arguments: map[string]toolrule.Condition{c.pointer: {Glob: c.want}}}})
			if err != nil {
				t.Fatal(err)
			}
			if d := set.Decide(toolrule.Call{Arguments: json.RawMessage(c.args)}); (d.Rule == 0) != want {
				t.Errorf("%s %q=%q with %s: matched %v", action, c.pointer, c.want, c.args, d.Rule == 0)
			}
		}
	}
}

func TestGlobs(t *testing.T) {
	for pattern, cases := range map[string]map[string]bool{
		"":         {"": true, "a": false},
		"*":        {"": true, "a/b\nc": true},
		"a*":       {"a": true, "ab": true, "ba": false},
		"*a":       {"a": true, "ba": true, "ab": false},
		"a*b*c":    {"abc": true, "a--b--c": true, "acb": false, "ab": false},
		"a*bc*bcd": {"a-bc-bcd": true, "abcd": false, "abcbcd": true},
		"?":        {"a": true, "é": true, "": false, "ab": false},
		"a?c*?":    {"abcd": true, "abc": false, "aécé": true},
		"*?b*":     {"ab": true, "b": false, "bb": true},
		`\*\?\\`:   {`*?\`: true, `aa\`: false},
		"**x**":    {"x": true, "axb": true, "": false},
		"*é":       {"é": true, "aé": true, "e": false},
		"a*a":      {"a": false, "aa": true},
	} {
		set, err := toolrule.New([]toolrule.Rule{{Tool: pattern, Arguments: map[string]toolrule.Condition{
			"/v": {Glob: pattern}}, Action: "deny"}})
		if err != nil {
			t.Fatal(pattern, err)
		}
		for text, want := range cases {
			args, _ := json.Marshal(map[string]string{"v": text})
			d := set.Decide(toolrule.Call{Tool: text, Arguments: args})
			if (d.Action == "deny") != want && pattern != "" {
				t.Errorf("%q on %q: %+v", pattern, text, d)
			}
		}
	}
}

func TestRedactRulesAddUp(t *testing.T) {
	set := parse(t, `
		{"tool":"*","action":"redact","redact":[{"detect":"secret"}]},
		{"tool":"mail","action":"deny"},
		{"tool":"mail","action":"redact","redact":[{"name":"to","path":"/to"},{"detect":"email"}]},
		{"tool":"other","action":"redact","redact":[{"detect":"card"}]}`)
	d := set.Decide(toolrule.Call{Tool: "mail"})
	if d.Action != "deny" || d.Rule != 1 || fmt.Sprint(d.Redact) != "[0 2]" || !set.Redacts() {
		t.Fatalf("%+v", d)
	}
	check := func(json.RawMessage) error { return nil }
	r, err := set.Redactor(d, []redact.Rule{{Name: "order", Pattern: "ORD-[0-9]+"}}, make([]byte, 32), check)
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Apply(uuid.New(), redact.Fields{Input: "ORD-1 ada@example.org sk-ant-api03-" +
		strings.Repeat("a", 90)})
	if err != nil || strings.Count(f.Input, "[redacted:") != 3 {
		t.Errorf("%q, %v", f.Input, err)
	}
	if again, _ := set.Redactor(d, nil, make([]byte, 32), check); again != r {
		t.Error("it is compiled for each call")
	}
	if none, err := set.Redactor(toolrule.Decision{}, nil, nil, check); none != nil || err != nil {
		t.Errorf("nothing to redact: %v, %v", none, err)
	}
}

func TestMistakesAreNamedByTheirPlace(t *testing.T) {
	for rule, want := range map[string]string{
		`{}`:                                                   `tools[0].action: "" is none of`,
		`{"action":"block"}`:                                   `tools[0].action: "block" is none of`,
		`{"action":"deny","to":"ops"}`:                         `tools[0].to: only a rule with the action "ask"`,
		`{"action":"ask","within":"5"}`:                        `tools[0].within: "5"`,
		`{"action":"ask","within":"25h"}`:                      `tools[0].within: "25h"`,
		`{"action":"ask","otherwise":"ask"}`:                   `tools[0].otherwise: "ask"`,
		`{"action":"ask","via":"mail"}`:                        `tools[0].via: "mail"`,
		`{"action":"redact"}`:                                  `tools[0].redact: a rule with`,
		`{"action":"deny","redact":[{"detect":"card"}]}`:       `tools[0].redact: a rule with`,
		`{"action":"redact","redact":[{"detect":"x"}]}`:        `tools[0].redact[0].detect: "x"`,
		`{"action":"deny","arguments":{"path":"x"}}`:           `tools[0].arguments: "path" is no JSON pointer`,
		`{"action":"deny","arguments":{"/p":{"pattern":"("}}}`: `tools[0].arguments["/p"]: error parsing regexp`,
		`{"action":"deny","tool":"a\\"}`:                       `tools[0].tool: it ends with \`,

		`{"action":"deny","server":"` + strings.Repeat("a", 2e3) + `"}`: `tools[0].server: 2000 bytes`,
		`{"action":"deny","reason":"a\u0000"}`:                          `tools[0].reason: it is not UTF-8 without NUL`,
		`{"action":"deny","arguments":{"/p":1}}`:                        `arguments: 1 is neither`,
		`{"action":"deny","arguments":{"/p":{"glob":"x"}}}`:             `is neither a glob`,
		`{"action":"deny","argument":{"/p":"x"}}`:                       `unknown field "argument"`,
		`{"action":"deny","action":"allow"}`:                            `"action" is repeated`,
	} {
		rules, err := toolrule.Parse([]byte(`{"tools":[` + rule + `]}`))
		if err == nil {
			_, err = toolrule.New(rules)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v", rule, err)
		}
	}
	if _, err := toolrule.New(make([]toolrule.Rule, toolrule.MaxRules+1)); err == nil {
		t.Error("too many rules pass")
	}
	if _, err := toolrule.Parse([]byte(`{"tools":[]} x`)); err == nil {
		t.Error("data after the object passes")
	}
}

func TestRulesAreWrittenAsTheyWereRead(t *testing.T) {
	const file = `[{"server":"a","arguments":{"/c":{"pattern":"x"},"/p":"*.env"},"action":"ask","to":"ops","via":` +
		`"prompt","within":"10m","otherwise":"deny","reason":"r"},{"action":"redact","redact":[{"detect":"card"}]}]`
	rules, err := toolrule.Parse([]byte(`{"tools":` + file + `}`))
	if err != nil {
		t.Fatal(err)
	}
	set, err := toolrule.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := json.Marshal(set.Rules()); err != nil || string(out) != file {
		t.Errorf("%s, %v", out, err)
	}
}

func TestOnlyClearWordsApprove(t *testing.T) {
	for words, want := range map[string]bool{"allow": true, "Allowed: fine by me": true, " YES, once": true,
		"approve": true, "deny": false, "": false, "no, don't allow it": false, "yesterday": false,
		"allow-list it":              true,
		"cancelled: nobody answered": false, "ok": false} {
		if toolrule.Approves(words) != want {
			t.Errorf("%q: %v", words, !want)
		}
	}
}
