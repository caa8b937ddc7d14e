package otel_test

import (
	"encoding/json"
	"math"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/otel"
)

// TestEachRuleOfUsage holds the rules of docs/capture.md: what a span says, and what is counted.
func TestEachRuleOfUsage(t *testing.T) {
	const in, out, total = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.total_tokens"
	const read, write = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
	const thought = "gen_ai.usage.reasoning.output_tokens"
	type says map[string]any
	for name, c := range map[string]struct {
		scope    string
		says     says
		in, out  any    // counted; nil: nothing
		reported string // a name that keeps what was sent
	}{
		"cached inside, no total":     {says: says{in: 100, out: 20, read: 30}, in: 100., out: 20.},
		"cached inside, by the total": {says: says{in: 100, out: 20, read: 30, total: 120}, in: 100., out: 20.},
		"cached beside, by the total": {says: says{in: 70, out: 20, read: 30, total: 120}, in: 100., out: 20.,
			reported: in},
		"read and written beside": {says: says{in: 61, out: 20, read: 30, write: 9, total: 120}, in: 100.,
			out: 20., reported: in},
		"more cached than all, no total": {says: says{in: 5, out: 20, read: 30}, in: 35., out: 20., reported: in},
		"Langfuse counts beside": {scope: "langfuse-sdk",
			says: says{"langfuse.observation.usage_details": `{"input":70,` +
				`"cache_read_input_tokens":30,"output":20}`}, in: 100., out: 20.},
		"reasoning inside": {says: says{in: 10, out: 20, thought: 8, total: 30}, in: 10., out: 20.},
		"reasoning beside, by the total": {says: says{in: 10, out: 12, thought: 8, total: 30}, in: 10., out: 20.,
			reported: out},
		"more reasoning than output": {says: says{in: 10, out: 2, thought: 8}, in: 10., out: 10., reported: out},
		"both beside": {says: says{in: 70, out: 12, read: 30, thought: 8, total: 120}, in: 100., out: 20.,
			reported: in},
		"text":          {says: says{in: "100", out: " 20 "}, in: 100., out: 20.},
		"a whole float": {says: says{in: 100.0, out: 20.0}, in: 100., out: 20.},
		"old names": {says: says{"gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 20},
			in: 100., out: 20.},
		"two names agree":    {says: says{in: 100, "llm.token_count.prompt": 100, out: 20}, in: 100., out: 20.},
		"two names differ":   {says: says{in: 100, "llm.token_count.prompt": 90, out: 20}, in: 100., out: 20.},
		"the first is none":  {says: says{in: "many", "llm.token_count.prompt": 90, out: 20}, in: 90., out: 20.},
		"negative":           {says: says{in: -1, out: 20}, out: 20., reported: in},
		"no number":          {says: says{in: math.NaN(), out: 20}, out: 20., reported: in},
		"a fraction":         {says: says{in: 1.5, out: 20}, out: 20., reported: in},
		"beyond 2^53":        {says: says{in: 1 << 53, out: 20}, out: 20., reported: in},
		"a truth, not count": {says: says{in: true, out: 20}, out: 20., reported: in},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // FromRaw puts attributes in another order each time
				usageOf(t, c.scope, c.says, c.in, c.out, c.reported)
			}
		})
	}
}

func usageOf(t *testing.T, scope string, says map[string]any, in, out any, reported string) {
	t.Helper()
	traces := ptrace.NewTraces()
	scoped := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	scoped.Scope().SetName(scope)
	says["gen_ai.operation.name"] = "chat"
	if err := scoped.Spans().AppendEmpty().Attributes().FromRaw(says); err != nil {
		t.Fatal(err)
	}
	for m := range otel.Spans(traces, otel.Options{}) {
		var got map[string]any
		if err := json.Unmarshal(m.Event.Metadata, &got); err != nil {
			t.Fatal(err)
		}
		if got["gen_ai.usage.input_tokens"] != in || got["gen_ai.usage.output_tokens"] != out {
			t.Errorf("want %v in, %v out: %s", in, out, m.Event.Metadata)
		}
		if _, kept := got["reported."+reported]; reported != "" && !kept {
			t.Errorf("what was sent as %s is not kept: %s", reported, m.Event.Metadata)
		}
	}
}

// TestUsageOfOthersIsNotCounted holds that what is no call of a model has its usage under a name that is not counted.
func TestUsageOfOthersIsNotCounted(t *testing.T) {
	for _, op := range []string{"invoke_agent", "invoke_workflow", "execute_tool", "plan", "retrieval"} {
		traces := ptrace.NewTraces()
		a := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().Attributes()
		a.PutStr("gen_ai.operation.name", op)
		a.PutInt("gen_ai.usage.input_tokens", 7)
		for m := range otel.Spans(traces, otel.Options{}) {
			var got map[string]any
			if err := json.Unmarshal(m.Event.Metadata, &got); err != nil {
				t.Fatal(err)
			}
			aggregate, _ := got["aggregate_usage"].(map[string]any)
			if got["gen_ai.usage.input_tokens"] != nil || aggregate["gen_ai.usage.input_tokens"] != 7. {
				t.Errorf("%s: %s", op, m.Event.Metadata)
			}
		}
	}
}
