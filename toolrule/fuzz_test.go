package toolrule_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/toolrule"
)

// FuzzDecide holds decisions to two promises: whoever reads /path as "secret" in the arguments is denied, and a glob
// matches what its regular expression matches.
func FuzzDecide(f *testing.F) {
	for _, args := range unreadable {
		if len(args) < 1000 {
			f.Add(args, "*.env", "a.env")
		}
	}
	f.Add(`{"path":"secret"}`, "a*b?c", "aabbc")
	f.Add(`{"PATH":"secret"}`, `\*a`, "*a")
	set, err := toolrule.New([]toolrule.Rule{
		{Arguments: map[string]toolrule.Condition{"/path": {Glob: "/tmp/*"}}, Action: toolrule.Allow},
		{Arguments: map[string]toolrule.Condition{"/path": {Glob: "secret"}}, Action: toolrule.Deny}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, args, pattern, text string) {
		d := set.Decide(toolrule.Call{Arguments: json.RawMessage(args)})
		var tool struct{ Path string } // as a server written in Go reads it
		if json.Unmarshal([]byte(args), &tool) == nil && tool.Path == "secret" && d.Action != toolrule.Deny {
			t.Errorf("%q passes: %+v", args, d)
		}
		rule, err := toolrule.New([]toolrule.Rule{{Tool: pattern, Action: toolrule.Deny}})
		if err != nil || pattern == "" || strings.ContainsRune(pattern, '\uFFFD') {
			return
		}
		re := regexp.MustCompile("(?s)^" + translate(pattern) + "$")
		got := rule.Decide(toolrule.Call{Tool: text}).Action == toolrule.Deny
		if want := re.MatchString(text); got != want {
			t.Errorf("%q on %q: %v, as %s: %v", pattern, text, got, re, want)
		}
	})
}

// translate writes a glob as a regular expression.
func translate(pattern string) string {
	var b strings.Builder
	escaped := false
	for _, r := range pattern {
		switch {
		case escaped:
			b.WriteString(regexp.QuoteMeta(string(r)))
			escaped = false
		case r == '\\':
			escaped = true
		case r == '*':
			b.WriteString(".*")
		case r == '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return b.String()
}
