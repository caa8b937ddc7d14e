package audit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/toolrule"
)

const toolPolicy = `{"tenants": {
	"11111111-1111-4111-8111-111111111111": {"redact": [{"detect":"card"}], "tools": [
		{"server":"mail","tool":"send","action":"redact","redact":[{"detect":"email"}]},
		{"tool":"send","arguments":{"/to":"*@example.com"},"action":"redact","redact":[{"name":"body","path":"/body"}]},
		{"tool":"drop_*","action":"deny"}]},
	"22222222-2222-4222-8222-222222222222": {}}}`

func TestEachTenantHasItsOwnRulesOnTools(t *testing.T) {
	p := policy(t, toolPolicy)
	call := toolrule.Call{Server: "db", Tool: "drop_table"}
	if d := p.Tools(tenantA).Decide(call); d.Action != toolrule.Deny || d.Rule != 2 {
		t.Errorf("%+v", d)
	}
	if d := p.Tools(tenantB).Decide(call); d.Action != toolrule.Allow {
		t.Errorf("another tenant's rule decides: %+v", d)
	}
	var none *audit.Policy
	if none.Tools(tenantA) != nil {
		t.Error("no policy has rules")
	}
}

func TestRulesOnToolsRedactWhatIsRecorded(t *testing.T) {
	p := policy(t, toolPolicy)
	const text = `{"to":"ada@example.com","card":"4111 1111 1111 1111"}`
	for _, c := range []struct {
		metadata, input string
		want            string // kinds of marks, in order
	}{
		{`{"gen_ai.tool.name":"send","tool_server":"mail"}`, text, "email card"},
		{`{"gen_ai.tool.name":"send","tool_server":"other"}`, text, "card"},
		{`{"g\u0065n_ai.tool.name":"send","tool_server":"mail"}`, text, "email card"},
		{`{}`, text, "card"},
		{`{"gen_ai.tool.name":"send","tool_server":"mail"}`, text[:30], "email"},
	} {
		e := redactEvent(t, p, tenantA, audit.Event{Action: audit.ActionToolCall, Input: c.input,
			Metadata: json.RawMessage(c.metadata)})
		var marks []string
		for _, part := range strings.Split(e.Input, "[redacted:")[1:] {
			rule, _, _ := strings.Cut(part, ":")
			marks = append(marks, rule)
		}
		if got := strings.Join(marks, " "); got != c.want {
			t.Errorf("%s %s: %s, want %q", c.metadata, c.input, e.Input, c.want)
		}
	}
	e := audit.Event{Input: text, Metadata: json.RawMessage(`{"gen_ai.tool.name":"send"}`)}
	if e = redactEvent(t, p, tenantB, e); e.Input != text {
		t.Errorf("another tenant's rules redact: %s", e.Input)
	}
}

func TestMistakesInRulesOnToolsAreNamed(t *testing.T) {
	for raw, want := range map[string]string{
		`{"default":{"tools":[{"action":"deny"},{"action":"x"}]}}`: `policy: default.tools[1].action: "x"`,
		`{"tenants":{"` + tenantA.String() + `":{"tools":[{"action":"ask","within":"1ms"}]}}}`: `policy: tenants.` +
			tenantA.String() + `.tools[0].within`,
		`{"default":{"tools":[{"action":"deny","tol":"x"}]}}`: `unknown field "tol"`,
	} {
		if _, err := audit.ParsePolicy([]byte(raw), redactKey); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", raw, err)
		}
	}
	_, err := audit.ParsePolicy([]byte(`{"default":{"tools":[{"action":"redact","redact":[{"detect":"card"}]}]}}`),
		nil)
	if err == nil || !strings.Contains(err.Error(), "policy: default.tools: redaction needs a key") {
		t.Errorf("without a key: %v", err)
	}
}
