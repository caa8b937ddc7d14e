package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
)

func TestEventsAreLoggedAndReadBack(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	r := w.want(201, "POST", "/v1/events", key, `{"action_type":"tool_invocation","agent_id":"`+bot.String()+
		`","input_summary":"17","metadata":{"big":12345678901234567890}}`)
	where := r.Header.Get("Location")
	got := w.want(200, "GET", where, key, "")
	if got.text("action_type") != "tool_invocation" || !strings.Contains(got.body, "12345678901234567890") {
		t.Errorf("read back: %s", got.body)
	}
	etag := got.Header.Get("ETag")
	if not := w.ask("GET", where, key, "", "If-None-Match", etag); not.StatusCode != 304 || not.body != "" {
		t.Errorf("asked for again under %s: %d %q", etag, not.StatusCode, not.body)
	}
	w.want(201, "POST", "/v1/llm-calls", key, `{"model":"m","provider":"p","input_tokens":3,"prompt":"hello"}`)
	w.want(201, "POST", "/v1/tool-calls", key, `{"name":"grep","arguments":"{}"}`)
	batch := w.want(201, "POST", "/v1/events/batch", key, `{"events":[{"action_type":"a","agent_id":"`+bot.String()+
		`"},{"action_type":"b","latency_ms":7}]}`)
	if ids, _ := batch.field("ids").([]any); len(ids) != 2 {
		t.Errorf("batch: %s", batch.body)
	}
	list := w.want(200, "GET", "/v1/events?limit=3", key, "")
	rest := w.want(200, "GET", "/v1/events?limit=3&after="+list.text("next"), key, "")
	if len(list.items()) != 3 || len(rest.items()) != 3 || rest.text("next") == "" { // five, and the key's own
		t.Errorf("pages: %s\n%s", list.body, rest.body)
	}
	if by := w.want(200, "GET", "/v1/events?agent_id="+bot.String()+"&action_type=a", key, ""); len(by.items()) != 1 {
		t.Errorf("filtered: %s", by.body)
	}
	if by := w.want(200, "GET", "/v1/events?meta=gen_ai.request.model=m", key, ""); len(by.items()) != 1 {
		t.Errorf("by metadata: %s", by.body)
	}
	if by := w.want(200, "GET", "/v1/events?text=hello", key, ""); len(by.items()) != 1 {
		t.Errorf("by words: %s", by.body)
	}
	if stats := w.want(200, "GET", "/v1/stats?by=action", key, ""); len(stats.items()) != 5 {
		t.Errorf("stats: %s", stats.body)
	}
	if agents := w.want(200, "GET", "/v1/agents", key, ""); len(agents.items()) != 2 {
		t.Errorf("agents: %s", agents.body)
	}
	// Another tenant sees none of it.
	other := w.key(globex)
	w.want(404, "GET", where, other, "")
	if list := w.want(200, "GET", "/v1/events?limit=100", other, ""); len(list.items()) != 1 {
		t.Errorf("another tenant: %s", list.body)
	}
}

func TestBadEventsAreRefusedWithTheFieldAndChangeNothing(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	before := w.count(acme, audit.Filter{})
	deep := strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70)
	for _, c := range []struct {
		path, body string
		status     int
		at         string
	}{
		{"/v1/events", `{}`, 422, "body"},
		{"/v1/events", `{"action_type":""}`, 422, "body.action_type"},
		{"/v1/events", `{"action_type":"x","colour":"red"}`, 422, "body.colour"},
		{"/v1/events", `{"action_type":"x","latency_ms":-1}`, 422, "body.latency_ms"},
		{"/v1/events", `{"action_type":"x","agent_id":"17"}`, 422, "body.agent_id"},
		{"/v1/events", `{"action_type":"x","metadata":[]}`, 422, "body.metadata"},
		{"/v1/events", `{"action_type":"x","metadata":{"a":"\u0000"}}`, 422, "body.metadata.a"},
		{"/v1/events", `{"action_type":"x","action_type":"y"}`, 400, "body"},
		{"/v1/events", `{"action_type":"x","metadata":` + deep + `}`, 400, "body.metadata"},
		{"/v1/events", `{"action_type":"x"} {}`, 400, "body"},
		{"/v1/events", `{"action_type":`, 400, "body"},
		{"/v1/events", `[]`, 422, "body"},
		{"/v1/events/batch", `{"events":[]}`, 422, "body.events"},
		{"/v1/events/batch", `{"events":[{"action_type":"a"},{"action_type":""}]}`, 422, "body.events[1].action_type"},
		{"/v1/events/batch", `{"events":[{"action_type":"a"},{"action_type":"b","latency_ms":"soon"}]}`, 422,
			"body.events[1].latency_ms"},
		{"/v1/events/batch", `{"events":[{"action_type":"a"},{"action_type":"b","colour":1}]}`, 422,
			"body.events[1].colour"},
		{"/v1/events/batch", `{"events":[{"action_type":"a","action_type":"b"}]}`, 400, "body"},
		{"/v1/llm-calls", `{"model":""}`, 422, "body.model"},
		{"/v1/tool-calls", `{}`, 422, "body"},
	} {
		r := w.want(c.status, "POST", c.path, key, c.body)
		all, _ := r.field("errors").([]any)
		found := false
		for _, e := range all {
			m, _ := e.(map[string]any)
			found = found || m["location"] == c.at && m["message"] != ""
		}
		if !found {
			t.Errorf("%s %.100s: %s, want an error at %s", c.path, c.body, r.body, c.at)
		}
	}
	w.want(415, "POST", "/v1/events", key, `x`, "Content-Type", "text/plain")
	w.want(422, "GET", "/v1/events?colour=red", key, "")
	w.want(422, "GET", "/v1/events?limit=0", key, "")
	w.want(422, "GET", "/v1/events?since=yesterday", key, "")
	w.want(413, "POST", "/v1/events", key, `{"action_type":"x","input_summary":"`+strings.Repeat("x", 2<<20)+`"}`)
	if after := w.count(acme, audit.Filter{}); after != before {
		t.Errorf("%d events came of what was refused", after-before)
	}
}

// TestTheSameRequestAgainIsDoneOnce by its Idempotency-Key: events by their ids, everything else by what was answered.
func TestTheSameRequestAgainIsDoneOnce(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	var first reply
	for i := range 3 {
		r := w.want(201, "POST", "/v1/events", key, `{"action_type":"once"}`, "Idempotency-Key", "k1")
		if i == 0 {
			first = r
		} else if r.body != first.body {
			t.Errorf("again: %s, before %s", r.body, first.body)
		}
	}
	w.want(422, "POST", "/v1/events", key, `{"action_type":"another"}`, "Idempotency-Key", "k1")
	for range 2 {
		w.want(201, "POST", "/v1/events/batch", key, `{"events":[{"action_type":"many"},{"action_type":"many"}]}`,
			"Idempotency-Key", "k2")
	}
	if n, m := w.count(acme, audit.Filter{Action: "once"}), w.count(acme, audit.Filter{Action: "many"}); n != 1 ||
		m != 2 {
		t.Errorf("%d and %d events, want 1 and 2", n, m)
	}
	hold := `{"reason":"ticket 1"}`
	one := w.want(201, "POST", "/v1/holds", key, hold, "Idempotency-Key", "h")
	two := w.want(201, "POST", "/v1/holds", key, hold, "Idempotency-Key", "h")
	if one.body != two.body || two.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a hold: %s, again %s", one.body, two.body)
	}
	if holds := w.want(200, "GET", "/v1/holds", key, ""); len(holds.items()) != 1 {
		t.Errorf("holds: %s", holds.body)
	}
	w.want(422, "POST", "/v1/holds", key, `{"reason":"ticket 2"}`, "Idempotency-Key", "h")
	// Another's key of the same name is another request.
	w.want(201, "POST", "/v1/holds", w.key(globex), hold, "Idempotency-Key", "h")
	if holds := w.want(200, "GET", "/v1/holds", key, ""); len(holds.items()) != 1 {
		t.Errorf("holds: %s", holds.body)
	}
	// At the same time.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if r := w.ask("POST", "/v1/holds", key, `{"reason":"ticket 3"}`, "Idempotency-Key",
				"h3"); r.StatusCode != 201 && r.StatusCode != 409 {
				t.Errorf("%d %s", r.StatusCode, r.body)
			}
		})
	}
	wg.Wait()
	if holds := w.want(200, "GET", "/v1/holds", key, ""); len(holds.items()) != 2 {
		t.Errorf("holds: %s", holds.body)
	}
	w.want(422, "POST", "/v1/keys", key, `{"name":"x","permissions":["kb:read"]}`, "Idempotency-Key", "s")
}

// TestAKeyIsForOneRequest, of whatever operation.
func TestAKeyIsForOneRequest(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	const event, hold = `{"action_type":"x"}`, `{"reason":"r"}`
	const id = "01a22a29-171b-74a3-aa62-42dde65c7492"
	batch := func(events ...string) string { return `{"events":[` + strings.Join(events, ",") + `]}` }
	requests := map[string][2]string{"/v1/events": {event, ""}, "/v1/holds": {hold, ""},
		"/v1/search": {`{"text":"x"}`, ""}, "/v1/events/batch": {batch(event, event), ""},
		"/v1/llm-calls": {`{"model":"m"}`, ""}}
	for first, request := range requests {
		draw := "key " + first
		if r := w.ask("POST", first, key, request[0], "Idempotency-Key", draw); r.StatusCode >= 300 {
			t.Fatalf("%s: %d %s", first, r.StatusCode, r.body)
		}
		for second, other := range requests {
			r := w.ask("POST", second, key, other[0], "Idempotency-Key", draw)
			if first == second && r.StatusCode >= 300 || first != second && (!r.named("header.Idempotency-Key") ||
				!strings.Contains(r.body, "another request was made with this Idempotency-Key")) {
				t.Errorf("%s after %s: %d %s", second, first, r.StatusCode, r.body)
			}
		}
	}
	for _, other := range []string{batch(event), batch(event, event, event), batch(event, `{"action_type":"y"}`)} {
		if r := w.ask("POST", "/v1/events/batch", key, other, "Idempotency-Key",
			"key /v1/events/batch"); !r.named("header.Idempotency-Key") {
			t.Errorf("%s: %d %s", other, r.StatusCode, r.body)
		}
	}
	for path, body := range map[string]string{"/v1/events": `{"action_type":"x","id":"` + id + `"}`,
		"/v1/tool-calls": `{"name":"n","id":"` + id + `"}`} {
		if r := w.ask("POST", path, key, body, "Idempotency-Key", "with an id"); !r.named("body.id") {
			t.Errorf("%s with an id: %d %s", path, r.StatusCode, r.body)
		}
	}
	if r := w.ask("POST", "/v1/events/batch", key, batch(event, `{"action_type":"x","id":"`+id+`"}`),
		"Idempotency-Key", "with an id"); !r.named("body.events[1].id") {
		t.Errorf("a batch with an id: %d %s", r.StatusCode, r.body)
	}
	if r := w.ask("POST", "/v1/events", key, event, "Idempotency-Key", ""); !r.named("header.Idempotency-Key") {
		t.Errorf("an empty key: %d %s", r.StatusCode, r.body)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/v1/events", strings.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"},
		"Idempotency-Key": {"one", "two"}}
	if r := w.do(r); r.StatusCode != 400 || !strings.Contains(r.body, `"location":"header.Idempotency-Key"`) {
		t.Errorf("two keys: %d %s", r.StatusCode, r.body)
	}
}

// TestTheStreamTellsWhatIsWritten to its own tenant, and goes on where a client was.
func TestTheStreamTellsWhatIsWritten(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	follow := func(last string) *bufio.Scanner {
		r, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/v1/events/stream?action_type=told", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%v %v", res, err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return bufio.NewScanner(res.Body)
	}
	next := func(s *bufio.Scanner) (id, summary string) {
		for s.Scan() {
			if rest, ok := strings.CutPrefix(s.Text(), "id: "); ok {
				id = rest
			}
			if rest, ok := strings.CutPrefix(s.Text(), "data: "); ok {
				var e audit.StoredEvent
				if err := json.Unmarshal([]byte(rest), &e); err != nil {
					t.Fatal(err)
				}
				return id, *e.Input
			}
		}
		t.Fatal("the stream ended", s.Err())
		return "", ""
	}
	s := follow("")
	other := w.key(globex)
	for i := range 5 {
		w.want(201, "POST", "/v1/events", other, `{"action_type":"told","input_summary":"another's"}`)
		w.want(201, "POST", "/v1/events", key, fmt.Sprintf(`{"action_type":"told","input_summary":"%d"}`, i))
	}
	last := ""
	for i := range 5 {
		id, said := next(s)
		if said != fmt.Sprint(i) {
			t.Fatalf("event %d: %s", i, said)
		}
		if i == 2 {
			last = id
		}
	}
	s = follow(last)
	for seen := map[string]bool{}; !seen["3"] || !seen["4"]; { // and perhaps what was told before
		_, said := next(s)
		if seen[said] || said == "2" {
			t.Fatalf("after a break, %s is told twice, or is where it was", said)
		}
		seen[said] = true
	}
}

func TestEscalationsAreAnsweredOnce(t *testing.T) {
	w := serve(t)
	agent, person := w.key(acme, access.EventsWrite), w.key(acme)
	r := w.want(201, "POST", "/v1/escalations", agent, `{"reason":"too large","to":"finance"}`)
	at := "/v1/escalations/" + r.text("id")
	w.want(403, "POST", at+"/acknowledge", agent, "")
	if list := w.want(200, "GET", "/v1/escalations?state=open", person, ""); len(list.items()) != 1 {
		t.Errorf("open: %s", list.body)
	}
	w.want(404, "POST", at+"/acknowledge", w.key(globex), "")
	w.want(201, "POST", at+"/acknowledge", person, "")
	w.want(409, "POST", at+"/acknowledge", person, "")
	w.want(201, "POST", at+"/resolve", person, `{"decision":"no"}`)
	w.want(409, "POST", at+"/resolve", person, `{"decision":"yes"}`)
	if list := w.want(200, "GET", "/v1/escalations?state=resolved&since="+time.Now().Add(-time.Hour).UTC().
		Format(time.RFC3339), person, ""); len(list.items()) != 1 {
		t.Errorf("resolved: %s", list.body)
	}
}

// TestCallsGoOnWhereTheOperatorSaysSo while the trail can't be written: 202, and no id; without such a policy 503.
func TestCallsGoOnWhereTheOperatorSaysSo(t *testing.T) {
	d := testkit.Database(t)
	proxy, url := testkit.NewProxy(t, d.URL("konstruct_app"))
	policy, err :=
		audit.ParsePolicy(
			[]byte(`{"default": {"wait": "300ms"}, "tenants": {"`+acme.String()+
				`": {"when_unwritable": "go_on", "wait": "300ms"}}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := konstruct.Open(t.Context(),
		konstruct.Config{DatabaseURL: url, KeySecret: pepper, Policy: policy, SpoolDir: t.TempDir(),
			Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	w := serveOn(t, d, func(c *server.Config) { c.Konstruct = k })
	going, failing := w.key(acme), w.key(globex)
	for _, key := range []string{going, failing} { // known, as are the limits
		w.soon("the key is known", func() bool { return w.ask("GET", "/v1/me", key, "").StatusCode == 200 })
	}
	proxy.Cut(true)
	defer proxy.Cut(false)
	one := w.want(202, "POST", "/v1/events", going, `{"action_type":"x"}`)
	many := w.want(202, "POST", "/v1/events/batch", going, `{"events":[{"action_type":"x"}]}`)
	if one.field("gap") != true || many.field("gap") != true || one.Header.Get("Location") != "" {
		t.Errorf("%s %s", one.body, many.body)
	}
	if r := w.want(503, "POST", "/v1/events", failing, `{"action_type":"x"}`); r.Header.Get("Retry-After") == "" {
		t.Errorf("%v", r.Header)
	}
}
