package gateway_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
)

// TestModelsAreRoutedBySpecificName: by name, by the longest beginning, and not at all.
func TestModelsAreRoutedBySpecificName(t *testing.T) {
	others := map[string]*llmfake.Upstream{"exact": testkit.LLM(t), "long": testkit.LLM(t)}
	w := start(t, settings{change: func(c *gateway.Config) {
		for name, models := range map[string][]string{"exact": {"gpt-fake-5"}, "long": {"gpt-fake*"}} {
			u := c.Upstreams[0]
			u.Name, u.BaseURL, u.Models = name, others[name].URL+"/openai/v1", models
			c.Upstreams = append(c.Upstreams, u)
		}
	}})
	for i, c := range []struct{ model, upstream string }{{"gpt-fake-5", "exact"}, {"gpt-fake-5-mini", "long"},
		{"gpt-other", "openai"}} {
		if r := w.post(chatPath, `{"model":"`+c.model+`","messages":[]}`); r.StatusCode != 200 {
			t.Errorf("%s: %d %s", c.model, r.StatusCode, r.body)
		}
		w.call(i+1).has(t, map[string]any{"konstruct.gateway.upstream": c.upstream})
	}
	for _, c := range []struct{ path, want string }{
		{chatPath, `{"error":{"type":"invalid_request_error","message":"The model \"llama\" does not exist here: no ` +
			`upstream of this API serves it.","code":"model_not_found"}}`},
		{responsesPath, `"code":"model_not_found"`}} {
		r := w.post(c.path, `{"model":"llama"}`)
		if r.StatusCode != 404 || !strings.Contains(r.body, c.want) || r.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	if n := len(w.up.Requests()) + len(others["exact"].Requests()) + len(others["long"].Requests()); n != 3 {
		t.Errorf("the upstreams got %d requests", n)
	}
}

// TestRequestsThatReadersReadDifferently: a model that a policy sees must be the model that the upstream sees.
func TestRequestsThatReadersReadDifferently(t *testing.T) {
	w := start(t, settings{})
	for _, body := range []string{"", "{", `["model","gpt-a"]`, `{"model":7}`, `{"messages":[]}`, "\xff\xfe{\x00}",
		`{"model":"gpt-a","model":"gpt-b"}`, `{"model":"gpt-a","mod\u0065l":"gpt-b"}`, `{"MODEL":"gpt-a"}`,
		`{"model":"gpt-a","Model":"gpt-b"}`, `{"MODEL":"gpt-b","model":"gpt-a"}`, `{"model":"gpt-a ,gpt-b"}`,
		`{"model":"gpt-a\u0000"}`, `{"model":"gpt-a\ud800"}`,
		`{"model":"gpt-a"} trailing {"model":"gpt-b"`} {
		r := w.post(chatPath, body)
		if r.StatusCode != http.StatusBadRequest || !strings.Contains(r.body, `"type":"invalid_request_error"`) {
			t.Errorf("%q: %d %s", body, r.StatusCode, r.body)
		}
	}
	if n := len(w.up.Requests()); n != 0 {
		t.Errorf("the upstream got %d requests", n)
	}
}

// TestPolicyAllowsModels: others are refused, and one event a minute says so.
func TestPolicyAllowsModels(t *testing.T) {
	w := start(t, settings{policy: `{"default":{},"tenants":{"` + acme.String() +
		`":{"models":{"allow":["gpt-fake*"]}}}}`})
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			r := w.post(messagesPath, `{"model":"claude-`+strconv.Itoa(i)+`","max_tokens":5,"messages":[]}`)
			if r.StatusCode != 403 || !strings.Contains(r.body, `"type":"permission_error"`) {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
		})
	}
	wait.Wait()
	for tenant, path := range map[string]string{"acme": chatPath, "globex": messagesPath} {
		o := operations()[0]
		if path == messagesPath {
			o = operations()[4]
		}
		if r := w.post(path, o.body+"}", "Tenant", tenant); r.StatusCode != 200 {
			t.Errorf("%s: %d %s", tenant, r.StatusCode, r.body)
		}
	}
	testkit.Until(t, "the refusal is recorded", func() bool {
		return len(w.events(acme, audit.ActionModelRefused)) == 1
	})
	w.g.Close()
	all := w.events(acme, audit.ActionModelRefused)
	if len(all) != 2 {
		t.Fatalf("%d events", len(all))
	}
	all[0].has(t, map[string]any{"error.type": "model_not_allowed", "konstruct.gateway.refused_calls": 1})
	all[1].has(t, map[string]any{"error.type": "model_not_allowed", "konstruct.gateway.refused_calls": 19})
}

func budget(amount string) string {
	return `{"tenants":{"` + acme.String() + `":{"models":{` + amount + `}}}}`
}

// TestBudgetsHoldInAllProcessesAndAfterRestarts: what was used is what the trail says.
func TestBudgetsHoldInAllProcessesAndAfterRestarts(t *testing.T) {
	const each = llmfake.Input + llmfake.Output
	door := testkit.DoorOf(t, testkit.Database(t))
	s := settings{policy: budget(fmt.Sprintf(`"tokens_per_day":%d`, 3*each-10))}
	first, second := startOn(t, door, s), startOn(t, door, s)
	o := operations()[1]
	for i, w := range []*world{first, second, first} {
		if r := w.post(o.path, o.body+"}"); r.StatusCode != 200 {
			t.Fatalf("call %d: %d %s", i, r.StatusCode, r.body)
		}
	}
	time.Sleep(2100 * time.Millisecond) // as old as a sum may be
	for name, w := range map[string]*world{"one process": first, "another": second, "a new one": startOn(t, door, s)} {
		r := w.post(o.path, o.body+"}")
		after, _ := strconv.Atoi(r.Header.Get("Retry-After"))
		if r.StatusCode != 429 || !strings.Contains(r.body, `"insufficient_quota"`) || after < 1 || after > 86400 ||
			!strings.Contains(r.body, "6918 tokens") || r.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: %d %q %s", name, r.StatusCode, r.Header, r.body)
		}
		if r := w.post(o.path, o.body+"}", "Tenant", "globex"); r.StatusCode != 200 {
			t.Errorf("%s: another tenant: %d", name, r.StatusCode)
		}
	}
	testkit.Until(t, "the refusal is recorded", func() bool {
		return len(first.events(acme, audit.ActionModelRefused)) > 0
	})
	first.events(acme, audit.ActionModelRefused)[0].has(t, map[string]any{"error.type": "budget_exceeded",
		"konstruct.gateway.used_tokens": 3 * each})
}

// TestBudgetsOfMoney: by the gateway's prices; a model without one is not counted, and so not called.
func TestBudgetsOfMoney(t *testing.T) {
	w := start(t, settings{policy: budget(`"cost_per_day":6`)})
	o := operations()[0]
	for i, status := range []int{200, 200, 429} { // 5.006 each
		if r := w.post(o.path, o.body+"}"); r.StatusCode != status {
			t.Errorf("call %d: %d %s", i, r.StatusCode, r.body)
		}
	}
	r := w.post(messagesPath, operations()[4].body+"}")
	if r.StatusCode != 403 || !strings.Contains(r.body, "no price") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

// TestCallsAtTheSameTimeShareABudget: calls in progress count by an estimate, so that many at once do not pass it all.
func TestCallsAtTheSameTimeShareABudget(t *testing.T) {
	w := start(t, settings{policy: budget(`"tokens_per_day":5000`)})
	var admitted atomic.Int64
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			r := w.post(chatPath, operations()[1].body+`,"max_tokens":1000}`, "X-Fake", "slow")
			switch {
			case r.StatusCode == 200:
				admitted.Add(1)
			case r.StatusCode != 429 || r.Header.Get("Retry-After") == "":
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
		})
	}
	wait.Wait()
	if n := admitted.Load(); n < 3 || n > 6 {
		t.Errorf("%d calls of 1000 tokens were admitted at once", n)
	}
}

// TestRecordedCallsAreRedacted: texts, tool calls and instructions, by the tenant's rules; the upstream gets all.
func TestRecordedCallsAreRedacted(t *testing.T) {
	w := start(t, settings{policy: `{"default":{"redact":[{"detect":"email"},
		{"name":"order","pattern":"\\bORD-[0-9]{6}"}]}}`})
	secret := "ada@example.org"
	r := w.post(messagesPath, `{"model":"claude-fake-5","max_tokens":9,"system":"You serve `+secret+`.","messages":[
		{"role":"user","content":"I am\n`+secret+`\nORD-123456"},{"role":"assistant","content":[{"type":"tool_use",
		"id":"c","name":"f","input":{"mail":"`+secret+`"}}]},{"role":"user","content":[{"type":"tool_result",
		"tool_use_id":"c","content":"sent to:\n`+secret+`\nORD-123456"}]}]}`)
	if r.StatusCode != 200 || !strings.Contains(string(w.up.Last().Body), secret) {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	e := w.call(1)
	stored := text(e.Input) + text(e.Output) + string(e.Metadata)
	if strings.Contains(stored, "example.org") || strings.Contains(stored, "123456") ||
		strings.Count(stored, "[redacted:email:") < 5 || strings.Count(stored, "[redacted:order:") < 3 {
		t.Errorf("%s", stored)
	}
}

// TestKeysStayWhereTheyBelong: Konstruct's key and headers never reach an upstream, and no key is on the trail.
func TestKeysStayWhereTheyBelong(t *testing.T) {
	const konstruct = "kst_0123456789"
	w := start(t, settings{change: func(c *gateway.Config) {
		c.Upstreams = append(c.Upstreams, gateway.Upstream{Name: "own", API: gateway.OpenAI,
			BaseURL: c.Upstreams[0].BaseURL, Models: []string{"own-*"}}, gateway.Upstream{Name: "own-claude",
			API: gateway.Anthropic, BaseURL: c.Upstreams[1].BaseURL, Models: []string{"own-*"}})
	}})
	for i, c := range []struct {
		name, path, model string
		headers           []string
		status            int
	}{
		{"the operator's key", chatPath, "gpt-a", []string{"Authorization", "Bearer " + konstruct}, 200},
		{"the operator's key", messagesPath, "claude-a", []string{"X-Api-Key", konstruct}, 200},
		{"the operator's key", messagesPath, "claude-a", []string{"Authorization", "Bearer " + konstruct}, 200},
		{"beside the caller's", chatPath, "gpt-a", []string{"Authorization", "Bearer sk-caller", "X-Konstruct-Key",
			konstruct}, 200},
		{"the caller's key", chatPath, "own-a", []string{"Authorization", "Bearer " + llmfake.Key, "X-Konstruct-Key",
			konstruct}, 200},
		{"the caller's key", messagesPath, "own-a", []string{"X-Api-Key", llmfake.Key, "X-Konstruct-Key",
			konstruct}, 200},
		{"none for the upstream", chatPath, "own-a", []string{"Authorization", "Bearer " + konstruct}, 401},
		{"none for the upstream", messagesPath, "own-a", []string{"X-Api-Key", konstruct}, 401},
	} {
		before := len(w.up.Requests())
		r := w.post(c.path, `{"model":"`+c.model+`","max_tokens":5,"messages":[]}`, append(c.headers,
			"X-Konstruct-User", "ada", "X-Konstruct-Conversation", "talk", "X-Forwarded-For", "10.0.0.1",
			"X-Mine", "a "+konstruct, "Anthropic-Version", "2023-06-01", "Connection", "close, X-Hop", "X-Hop", "1")...)
		if r.StatusCode != c.status {
			t.Errorf("%d %s: %d %s", i, c.name, r.StatusCode, r.body)
		}
		sent := w.up.Requests()[before:]
		if len(sent) == 0 {
			continue
		}
		all := fmt.Sprint(sent[0].Header)
		if strings.Contains(all, "kst_") || strings.Contains(all, "Konstruct") || strings.Contains(all, "Forwarded") ||
			strings.Contains(all, "Hop") || sent[0].Header.Get("Anthropic-Version") != "2023-06-01" {
			t.Errorf("%d %s: the upstream gets %s", i, c.name, all)
		}
	}
	for _, e := range w.events(acme, "") {
		if all := text(e.Input) + text(e.Output) + string(e.Metadata); strings.Contains(all, "kst_") ||
			strings.Contains(all, "sk-") {
			t.Errorf("%s", all)
		}
		e.has(t, map[string]any{"gen_ai.conversation.id": "talk"})
	}
}

// TestTracesAreKept: a run's tree is the caller's trace.
func TestTracesAreKept(t *testing.T) {
	w := start(t, settings{})
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for i, c := range []struct {
		header string
		kept   bool
	}{{"00-" + trace + "-" + span + "-01", true}, {"00-" + strings.Repeat("0", 32) + "-" + span + "-01", false},
		{"nonsense", false}, {"00-" + trace + "-" + span, false},
		{"cc-" + trace + "-" + span + "-01-what-ever", true}} {
		w.post(chatPath, operations()[0].body+"}", "Traceparent", c.header)
		want := map[string]any{"trace_id": nil, "parent_span_id": nil}
		if c.kept {
			want = map[string]any{"trace_id": trace, "parent_span_id": span}
		}
		w.call(i+1).has(t, want)
	}
	run, err := audit.GetRun(t.Context(), w.door, acme, trace)
	if err != nil || run.Events != 2 {
		t.Errorf("%+v %v", run, err)
	}
}

// TestModelListsAreMerged: one upstream's passes as it is, several upstreams' are one.
func TestModelListsAreMerged(t *testing.T) {
	second := testkit.LLM(t)
	w := start(t, settings{change: func(c *gateway.Config) {
		u := c.Upstreams[0]
		u.Name, u.BaseURL, u.Models = "second", second.URL+"/openai/v1", []string{"embed-*"}
		c.Upstreams = append(c.Upstreams, u)
	}})
	get := func(path string) string {
		r, err := http.Get(w.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		raw := make([]byte, 10_000)
		n, _ := r.Body.Read(raw)
		return string(raw[:n])
	}
	if all := get("/openai/v1/models"); strings.Count(all, "gpt-fake-5") != 1 ||
		strings.Count(all, "embed-fake") != 1 || !strings.HasPrefix(all, `{"data":[`) {
		t.Errorf("%s", all)
	}
	if one := get("/anthropic/v1/models"); !strings.Contains(one, `"first_id":"claude-fake-5"`) {
		t.Errorf("%s", one)
	}
	if n := len(w.events(acme, "")); n != 0 {
		t.Errorf("%d events", n)
	}
}
