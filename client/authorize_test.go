package client_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/client"
	"github.com/konstruct/konstruct/internal/testkit"
)

const rules = `{"tenants": {"11111111-1111-4111-8111-111111111111": {"tools": [
	{"tool":"ask_*","action":"ask","to":"ops","within":"1m","reason":"it deletes"},
	{"tool":"open_*","action":"ask","within":"1s","otherwise":"allow"},
	{"tool":"prompt_*","action":"ask","via":"prompt","within":"1s"},
	{"tool":"deny_*","action":"deny","reason":"never"},
	{"tool":"mail","action":"redact","redact":[{"detect":"email"}]}]}}}`

func tool(name string) client.ToolCall {
	return client.ToolCall{Server: "github", Name: name, CallID: "call_1", ConversationID: "s1",
		Arguments: `{"to":"ada@example.org"}`}
}

// person answers the first escalation that opens.
func (w *service) person(decision string) (escalation chan konstruct.EscalationRecord) {
	seen := make(chan konstruct.EscalationRecord, 1)
	go func() {
		defer close(seen) // whoever waits goes on, also where nobody was asked
		testkit.Until(w.t, "a person is asked", func() bool {
			open, err := w.k.Tenant(acme).Escalations().List(w.t.Context(),
				konstruct.EscalationFilter{State: audit.StateOpen})
			if err != nil || len(open) == 0 {
				return false
			}
			_, err = w.k.Tenant(acme).Escalations().Resolve(w.t.Context(), open[0].ID, "ada", decision)
			if err != nil {
				w.t.Error(err)
			}
			seen <- open[0]
			return true
		})
	}()
	return seen
}

func TestAPersonsAnswerIsOnTheTrailBeforeTheToolRuns(t *testing.T) {
	w := serve(t, rules)
	k := w.open(acme)
	for decision, allowed := range map[string]bool{"Allow, once": true, "no": false} {
		asked := w.person(decision)
		v := k.Authorize(t.Context(), tool("ask_delete"), client.Limits{})
		// From here on the tool may run.
		record, err := w.k.Tenant(acme).Escalations().Get(t.Context(), (<-asked).ID)
		if err != nil || v.Allowed != allowed || record.State != audit.StateResolved || *record.Decision != decision ||
			*record.Reason != "it deletes" || *record.Recipient != "ops" ||
			!strings.Contains(*record.Question, "ask_delete") ||
			!strings.Contains(v.Reason, "ada decided: "+decision) {
			t.Fatalf("%+v, %+v, %v", v, record, err)
		}
		if v.Metadata[client.MetadataEscalation] != record.ID.String() ||
			v.Metadata[client.MetadataApprovedBy] != "ada" ||
			v.Metadata[client.MetadataRule] != 0 {
			t.Errorf("%v", v.Metadata)
		}
		e, err := w.k.Tenant(acme).Events().Get(t.Context(), record.ID)
		if err != nil || !strings.Contains(string(e.Metadata), `"gen_ai.tool.call.id": "call_1"`) ||
			!strings.Contains(string(e.Metadata), `"gen_ai.conversation.id": "s1"`) {
			t.Errorf("the question isn't tied to the call: %s, %v", e.Metadata, err)
		}
	}
}

func TestWhenNobodyAnswersTheRuleDecides(t *testing.T) {
	w := serve(t, rules)
	k := w.open(acme)
	begin := time.Now()
	v := k.Authorize(t.Context(), tool("ask_delete"), client.Limits{Wait: time.Second})
	if v.Allowed || !strings.Contains(v.Reason, "nobody answered within 1s") || time.Since(begin) > 4*time.Second ||
		v.Metadata[client.MetadataApproval] != "expired" {
		t.Errorf("after %v: %+v", time.Since(begin), v)
	}
	id := uuid.MustParse(v.Metadata[client.MetadataEscalation].(string))
	if c, err := w.k.Tenant(acme).Escalations().Get(t.Context(), id); err != nil || c.State != audit.StateResolved ||
		!strings.HasPrefix(*c.Decision, "cancelled: nobody answered") {
		t.Errorf("%+v, %v", c, err)
	}
	if v := k.Authorize(t.Context(), tool("open_door"), client.Limits{}); !v.Allowed {
		t.Errorf("%+v", v)
	}
	if v := k.Authorize(t.Context(), tool("prompt_x"), client.Limits{Prompt: true}); !v.Prompt || v.Allowed {
		t.Errorf("%+v", v)
	}
	w.away.Store(true)
	v = k.Authorize(t.Context(), tool("ask_delete"), client.Limits{Wait: time.Second})
	if v.Allowed || !strings.Contains(v.Reason, "nobody can be asked") ||
		v.Metadata[client.MetadataApproval] != "nobody" {
		t.Errorf("%+v", v)
	}
	if v := k.Authorize(t.Context(), tool("open_door"), client.Limits{Wait: time.Second}); !v.Allowed {
		t.Errorf("%+v", v)
	}
}

func TestRulesAreInForceWhileTheServiceIsUnavailable(t *testing.T) {
	w := serve(t, rules)
	dir, key := t.TempDir(), w.key(acme)
	in := func(c *client.Config) { c.SpoolDir, c.Key = dir, key }
	v := w.open(acme, in).Authorize(t.Context(), tool("deny_it"), client.Limits{})
	if v.Allowed || v.Reason != "never" {
		t.Fatalf("%+v", v)
	}
	if v := w.open(globex).Authorize(t.Context(), tool("deny_it"), client.Limits{}); !v.Allowed {
		t.Errorf("another tenant's rule: %+v", v)
	}
	w.away.Store(true)
	if v := w.open(acme, in).Authorize(t.Context(), tool("deny_it"), client.Limits{}); v.Allowed {
		t.Errorf("%+v", v)
	}
	// Rules that were never fetched.
	if v := w.open(acme).Authorize(t.Context(), tool("deny_it"), client.Limits{}); !v.Allowed ||
		!strings.Contains(v.Metadata[client.MetadataReason].(string), "never fetched") {
		t.Errorf("%+v", v)
	}
	closed := w.open(acme, func(c *client.Config) { c.FailClosed = true })
	asked := w.asked.Load()
	for range 5 {
		if v := closed.Authorize(t.Context(), tool("x"), client.Limits{}); v.Allowed ||
			!strings.Contains(v.Reason, "not known") {
			t.Errorf("%+v", v)
		}
	}
	if n := w.asked.Load() - asked; n > 3 { // a request may be sent again by net/http
		t.Errorf("%d requests for 5 calls: each call waits", n)
	}
	// A refreshed set is in force in a client that is open.
	k := w.open(acme, in)
	w.away.Store(false)
	if err := k.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheStricterOfTwoRulesDecides(t *testing.T) {
	w := serve(t, rules)
	file := filepath.Join(t.TempDir(), "rules.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"tools":[{"tool":"deny_*","action":"allow"},{"tool":"x","action":"deny"}]}`)
	local := func(c *client.Config) { c.RulesFile = file }
	k := w.open(acme, local)
	for _, name := range []string{"deny_it", "x"} {
		if v := k.Authorize(t.Context(), tool(name), client.Limits{}); v.Allowed {
			t.Errorf("%s: %+v", name, v)
		}
	}
	write(`{"tools":[{"tool":`)
	k = w.open(acme, local)
	if v := k.Authorize(t.Context(), tool("deny_it"), client.Limits{}); v.Allowed {
		t.Errorf("a bad local file ends the service's rules: %+v", v)
	}
	if v := k.Authorize(t.Context(), tool("x"), client.Limits{}); !v.Allowed || !strings.Contains(v.Reason, file) {
		t.Errorf("%+v", v)
	}
}

func TestWithTheKeyNothingUnredactedIsKept(t *testing.T) {
	w := serve(t, rules)
	for _, key := range [][]byte{nil, pepper} {
		k := w.open(acme, func(c *client.Config) { c.RedactKey = key })
		v := k.Authorize(t.Context(), tool("mail"), client.Limits{})
		if err := k.LogCall(t.Context(), tool("mail"), v); err != nil {
			t.Fatal(err)
		}
		kept := ""
		files, _ := filepath.Glob(filepath.Join(k.Dir(), "new", "*"))
		for _, f := range files {
			raw, _ := os.ReadFile(f)
			kept += string(raw)
		}
		if strings.Contains(kept, "ada@example.org") != (key == nil) {
			t.Errorf("with a key of %d bytes: %s", len(key), kept)
		}
		if _, err := k.Deliver(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all := w.events(acme, client.ActionToolCall)
	if len(all) != 2 || *all[0].Input != *all[1].Input || !strings.Contains(*all[0].Input, "[redacted:email:") {
		t.Fatalf("%+v", all) // equal marks, whoever redacts
	}
	if !strings.Contains(string(all[1].Metadata), `"redactions"`) {
		t.Errorf("%s", all[1].Metadata)
	}
}
