package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

var agentOne, agentTwo = uuid.MustParse("aaaaaaaa-0000-4000-8000-00000000000a"),
	uuid.MustParse("aaaaaaaa-0000-4000-8000-00000000000b")

func logAll(t *testing.T, door *tenantdb.Door, tenant uuid.UUID, events ...audit.Event) []uuid.UUID {
	t.Helper()
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	for i := range events {
		if events[i].At.IsZero() {
			events[i].At = at.Add(time.Duration(i) * time.Second)
		}
	}
	ids, err := audit.LogBatch(t.Context(), door, tenant, events)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func meta(pairs ...any) json.RawMessage {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	raw, _ := json.Marshal(m)
	return raw
}

// shape writes a tree as action(children).
func shape(steps []*audit.Step) string {
	var parts []string
	for _, s := range steps {
		part := s.Action
		if len(s.Steps) > 0 {
			part += "(" + shape(s.Steps) + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

func TestARunIsATree(t *testing.T) {
	door := testkit.Door(t)
	run := func(key string, more ...any) json.RawMessage { return meta(append([]any{key, "run-1"}, more...)...) }
	ids := logAll(t, door, tenantA,
		audit.Event{Action: "retrieval", AgentID: agentOne, Metadata: run("gen_ai.conversation.id")},
		audit.Event{Action: "llm_call", AgentID: agentOne, Metadata: run("gen_ai.conversation.id")},
		audit.Event{Action: "tool_invocation", AgentID: agentOne, Metadata: run("gen_ai.conversation.id")},
		audit.Event{Action: "tool_invocation", AgentID: agentTwo, Metadata: run("gen_ai.conversation.id")},
		audit.Event{Action: "retrieval", AgentID: agentOne, Metadata: run("gen_ai.conversation.id")},
		audit.Event{Action: "llm_call", AgentID: agentOne, Metadata: run("trace_id", "span_id", "s1")},
		audit.Event{Action: "tool_invocation", AgentID: agentTwo,
			Metadata: run("trace_id", "span_id", "s2", "parent_span_id", "s1")},
		audit.Event{Action: "other", AgentID: agentTwo,
			Metadata: run("trace_id", "span_id", "s3", "parent_span_id", "s2")},
		audit.Event{Action: "loop", Metadata: run("trace_id", "span_id", "s4", "parent_span_id", "s5")},
		audit.Event{Action: "loop", Metadata: run("trace_id", "span_id", "s5", "parent_span_id", "s4")},
		audit.Event{Action: "escalation", AgentID: agentOne, Input: "help", Metadata: run("gen_ai.conversation.id")},
		audit.Event{Action: "not of it", Metadata: meta("gen_ai.conversation.id", "run-2")},
		audit.Event{Action: "not of it", Metadata: meta("gen_ai.conversation.id", 1)},
	)
	logAll(t, door, tenantB, audit.Event{Action: "theirs", Metadata: run("gen_ai.conversation.id")})
	trail, err := audit.OpenTrail(door, audit.TrailConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	if _, err := trail.Resolve(t.Context(), tenantA, ids[10], "ada", "done"); err != nil {
		t.Fatal(err)
	}
	r, err := audit.GetRun(t.Context(), door, tenantA, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	want := "retrieval llm_call(tool_invocation retrieval) tool_invocation llm_call(tool_invocation(other)) " +
		"loop(loop) escalation(escalation_resolved)"
	if got := shape(r.Steps); got != want || r.Events != 12 {
		t.Errorf("%d events: %s\nwant %s", r.Events, got, want)
	}
	if r, err := audit.GetRun(t.Context(), door, tenantB, "run-1"); err != nil || shape(r.Steps) != "theirs" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, run := range []string{"run-3", "RUN-1", "'; DROP TABLE audit_events; --"} {
		if _, err := audit.GetRun(t.Context(), door, tenantA, run); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("%q: %v", run, err)
		}
	}
	if _, err := audit.GetRun(t.Context(), door, uuid.New(), "run-1"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("a tenant that is not there: %v", err)
	}
	// A run id too long for an index entry is stored and found.
	long := strings.Repeat("long ", 200)
	logAll(t, door, tenantA,
		audit.Event{Action: "x", Metadata: meta("gen_ai.conversation.id", strings.Repeat("y", 100_000))},
		audit.Event{Action: "x", Metadata: meta("gen_ai.conversation.id", long)})
	if r, err := audit.GetRun(t.Context(), door, tenantA, long); err != nil || r.Events != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWordsAreFoundInSummaries(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	ids := logAll(t, door, tenantA,
		audit.Event{Action: "x", Input: "The pump arrived damaged", Output: "refund offered"},
		audit.Event{Action: "x", Input: "a damaged valve"},
		audit.Event{Action: "x", Input: "Straße nach Zürich: DAMAGED pump, again"},
		audit.Event{Action: "x", Input: strings.Repeat("filler ", 5000) + "hidden"},
	)
	logAll(t, door, tenantB, audit.Event{Action: "x", Input: "their damaged pump tenant " + tenantA.String()})
	for _, on := range []bool{false, true} { // results are the same with and without the index
		s, err := migrations.Open(d.URL("konstruct_owner"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.TextIndex(t.Context(), on); err != nil {
			t.Fatal(err)
		}
		finds(t, door, ids)
	}
	// Nor does it matter who owns the functions: until superuser/finder.sql runs, it is the schema's owner.
	super := testkit.Connect(t, d.SuperuserURL())
	if _, err := super.Exec(t.Context(),
		`SET konstruct.allow_ddl = on; ALTER FUNCTION audit_find_words OWNER TO konstruct_owner;
			ALTER FUNCTION audit_find_run OWNER TO konstruct_owner;
			DROP POLICY finder_reads ON audit_events`); err != nil {
		t.Fatal(err)
	}
	finds(t, door, ids)
	logAll(t, door, tenantA, audit.Event{Action: "x", Metadata: meta("trace_id", "t-1")})
	if r, err := audit.GetRun(t.Context(), door, tenantA, "t-1"); err != nil || r.Events != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := audit.GetRun(t.Context(), door, tenantB, "t-1"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("%+v, %v", r, err)
	}
	first, err := audit.SearchText(t.Context(), door, tenantA, audit.TextQuery{Text: "damaged", Limit: 2})
	if err != nil || len(first) != 2 {
		t.Fatal(first, err)
	}
	second, err := audit.SearchText(t.Context(), door, tenantA,
		audit.TextQuery{Text: "damaged", Limit: 2, After: first[1].Cursor})
	if err != nil || len(second) != 1 || second[0].ID != ids[0] {
		t.Errorf("%+v, %v", second, err)
	}
	if found, err := audit.SearchText(t.Context(), door, uuid.New(), audit.TextQuery{Text: "damaged"}); err != nil ||
		len(found) != 0 {
		t.Errorf("a tenant that is not there finds %+v, %v", found, err)
	}
	for _, w := range []audit.TextQuery{{}, {Text: strings.Repeat("x", 2000)}, {Text: "x", Limit: 1001},
		{Text: "x", After: "?"}, {Text: "x", Since: time.Now(), Until: time.Now().Add(-time.Hour)}} {
		var field *audit.FieldError
		if _, err := audit.SearchText(t.Context(), door, tenantA, w); !errors.As(err, &field) {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

// finds compares the results of searches in the first tenant's events.
func finds(t *testing.T, door *tenantdb.Door, ids []uuid.UUID) {
	t.Helper()
	for text, want := range map[string][]int{
		"damaged": {2, 1, 0}, "damaged pump": {2, 0}, `"damaged pump"`: {2}, "damaged -refund": {2, 1},
		"valve or refund": {1, 0}, "zürich": {2}, "straße": {2},
		"nothing": {}, "hidden": {}, "'; --": {}, "tenant": {}, "their": {}, tenantA.String(): {}, "tenant " +
			tenantB.String(): {}, ":* & | ! ( ) <->": {}, "-absent": {3, 2, 1, 0},
	} {
		found, err := audit.SearchText(t.Context(), door, tenantA, audit.TextQuery{Text: text})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		got := []uuid.UUID{}
		for _, e := range found {
			got = append(got, e.ID)
		}
		should := []uuid.UUID{}
		for _, i := range want {
			should = append(should, ids[i])
		}
		if fmt.Sprint(got) != fmt.Sprint(should) {
			t.Errorf("%q finds %v, want %v", text, got, should)
		}
	}
}

func TestEventsAreCounted(t *testing.T) {
	door := testkit.Door(t)
	call := func(agent uuid.UUID, model string, ms int, in, out any, day int) audit.Event {
		return audit.Event{Action: "llm_call", AgentID: agent, Latency: time.Duration(ms) * time.Millisecond,
			At: time.Date(2026, 11, day, 23, 30, 0, 0, time.UTC),
			Metadata: meta("gen_ai.request.model", model, "gen_ai.usage.input_tokens", in,
				"gen_ai.usage.output_tokens", out)}
	}
	logAll(t, door, tenantA, call(agentOne, "big", 100, 1000, 10, 1), call(agentOne, "big", 300, 3000, 30, 1),
		call(agentTwo, "small", 10, 500, 5, 2),
		call(agentTwo, "small", 20, "many", -7, 2), call(agentTwo, "small", 30, 1e300, nil, 2),
		audit.Event{Action: "tool_invocation", AgentID: agentOne, At: time.Date(2026, 11, 2, 1, 0, 0, 0, time.UTC),
			Metadata: meta("error.type", "timeout")})
	logAll(t, door, tenantB, call(agentOne, "big", 1, 99, 99, 1))
	prices := audit.Prices{}
	if err := json.Unmarshal([]byte(`{"big": {"input": 5, "output": 25}}`), &prices); err != nil {
		t.Fatal(err)
	}
	got, err := audit.ComputeStats(t.Context(), door, tenantA,
		audit.StatsFilter{By: []string{"model", "day"}, Prices: prices})
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	small, big := got[0], got[2]
	if *small.Model != "small" || small.Day.Day() != 2 || small.Events != 3 || small.InputTokens != 500 ||
		small.OutputTokens != 5 || *small.P50 != 20 || small.Cost != nil {
		t.Errorf("%+v", small)
	}
	if *big.Model != "big" || big.Events != 2 || big.InputTokens != 4000 || *big.P50 != 100 || *big.P99 != 300 ||
		*big.Cost != (4000*5+40*25)/1e6 {
		t.Errorf("%+v", big)
	}
	if got[1].Model != nil || got[1].Errors != 1 || got[1].P50 != nil {
		t.Errorf("%+v", got[1])
	}
	all, err := audit.ComputeStats(t.Context(), door, tenantA, audit.StatsFilter{})
	if err != nil || len(all) != 1 || all[0].Events != 6 || all[0].Day != nil {
		t.Errorf("%+v, %v", all, err)
	}
	one, err := audit.ComputeStats(t.Context(), door, tenantA,
		audit.StatsFilter{By: []string{"agent"}, AgentID: agentOne, Action: "llm_call",
			Until: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)})
	if err != nil || len(one) != 1 || one[0].Events != 2 || *one[0].AgentID != agentOne {
		t.Errorf("%+v, %v", one, err)
	}
	if none, err := audit.ComputeStats(t.Context(), door, uuid.New(),
		audit.StatsFilter{By: []string{"day"}}); err != nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	var field *audit.FieldError
	if _, err := audit.ComputeStats(t.Context(), door, tenantA,
		audit.StatsFilter{By: []string{"color; DROP"}}); !errors.As(err, &field) || field.Field != "by" {
		t.Errorf("%v", err)
	}
}

func TestEachReadsEverythingOnce(t *testing.T) {
	door := testkit.Door(t)
	same := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	for range 3 {
		events := make([]audit.Event, 1700)
		for i := range events {
			events[i] = audit.Event{Action: "x", At: same} // the same created_at: pages end among equal times
		}
		logAll(t, door, tenantA, events...)
	}
	logAll(t, door, tenantB, audit.Event{Action: "x"})
	seen := map[uuid.UUID]bool{}
	all := audit.All(t.Context(), door, tenantA, audit.Filter{Limit: 1})
	for range 2 { // the sequence can be ranged over again
		clear(seen)
		for e, err := range all {
			if err != nil {
				t.Fatal(err)
			}
			seen[e.ID] = true
		}
		if len(seen) != 5100 {
			t.Errorf("%d events", len(seen))
		}
	}
	n := 0
	for _, err := range all {
		if n++; err != nil {
			t.Error(err)
		}
		break
	}
	if n != 1 {
		t.Errorf("%d", n)
	}
	for e, err := range audit.All(t.Context(), door, uuid.New(), audit.Filter{}) {
		t.Errorf("another tenant sees %v, %v", e, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	n = 0
	for e, err := range audit.All(ended, door, tenantA, audit.Filter{}) {
		if n++; e != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", e, err)
		}
	}
	if n != 1 {
		t.Errorf("an error is yielded %d times", n)
	}
}

// TestAKeyOfMetadataIsGivenOnce holds that no condition replaces another in silence.
func TestAKeyOfMetadataIsGivenOnce(t *testing.T) {
	for _, given := range [][]string{{"a=1", "a=2"}, {"a=1", "a=1"}, {"a=1", "/a/b=2"}, {"/a/b=2", "a=1"},
		{"/a/b=1", "/a/b=2"}, {`a={"b":1}`, "/a/b=2"}, {"a=null", "a=1"}} {
		m := audit.Metadata{}
		if err := m.Put(given[0]); err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprint(m)
		if err := m.Put(given[1]); err == nil || !strings.Contains(err.Error(), "is set already") ||
			fmt.Sprint(m) != before {
			t.Errorf("%q: %v, %v", given, m, err)
		}
	}
	m := audit.Metadata{}
	for _, one := range []string{`a={"b":1}`, "/a/c=2", "d=3", "/e~1f/g=4"} {
		if err := m.Put(one); err != nil {
			t.Errorf("%s: %v", one, err)
		}
	}
	if got := fmt.Sprint(m); got != "map[a:map[b:1 c:2] d:3 e/f:map[g:4]]" {
		t.Errorf("it is %s", got)
	}
}
