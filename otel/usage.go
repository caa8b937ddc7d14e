package otel

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// usage is what a call used, in tokens. A negative number is one that nobody sent.
type usage struct {
	input, output, total, cacheRead, cacheWrite, reasoning int64
}

// tokens returns what the record's fields say of usage, by the rules of docs/capture.md:
// input includes what was read from and written to a cache, output includes reasoning, as GenAI has it. Where a library
// counts them beside, which its total shows, or the plain impossibility of a part larger than the whole, they are
// added.
func (r *record) tokens() usage {
	r.langfuseUsage()
	u := usage{r.number(inputTokens), r.number(outputTokens), r.number(totalTokens), r.number(cacheRead),
		r.number(cacheWrite), r.number(reasoning)}
	u.include(r.beside())
	return u
}

// include adds the cached and reasoning tokens that were counted beside input and output.
func (u *usage) include(beside bool) {
	cached := max(u.cacheRead, 0) + max(u.cacheWrite, 0)
	thought := max(u.reasoning, 0)
	in, out := max(u.input, 0), max(u.output, 0)
	switch {
	case cached == 0 && thought == 0:
		return
	case u.total >= 0 && u.total == in+out: // both are inside
		if cached > in && u.input >= 0 {
			u.input = in + cached
		}
		return
	case u.total >= 0 && u.total == in+out+cached+thought:
		u.add(cached, thought)
	case u.total >= 0 && u.total == in+out+cached:
		u.add(cached, 0)
	case u.total >= 0 && u.total == in+out+thought:
		u.add(0, thought)
	default:
		if !beside && cached <= in {
			cached = 0
		}
		if thought <= out {
			thought = 0
		}
		u.add(cached, thought)
	}
}

func (u *usage) add(cached, thought int64) {
	if cached > 0 {
		u.input = max(u.input, 0) + cached
	}
	if thought > 0 {
		u.output = max(u.output, 0) + thought
	}
}

// beside reports whether the record's library counts cached tokens beside input where it sends no total: Langfuse's
// buckets, and the coding agents that hand on Anthropic's own numbers.
func (r *record) beside() bool {
	return strings.HasPrefix(r.from.scopeName, "langfuse") || r.coding != nil && r.coding.beside
}

// langfuseUsage reads Langfuse's usage and cost, which are JSON.
func (r *record) langfuseUsage() {
	for attribute, kinds := range langfuseDetails {
		details, is := decodedText(r.text(attribute)).(map[string]any)
		if !is {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(details)) {
			f, known := kinds[name]
			n, number := details[name].(json.Number)
			if !known || !number || r.has(f) {
				continue
			}
			v := pcommon.NewValueEmpty()
			if i, err := n.Int64(); err == nil {
				v.SetInt(i)
			} else if x, err := n.Float64(); err == nil {
				v.SetDouble(x)
			}
			r.set(f, attribute+"."+name, v, len(names[f]))
		}
	}
}

// langfuseDetails are Langfuse's attributes of usage and cost, and what their names are.
var langfuseDetails = map[string]map[string]field{
	"langfuse.observation.usage_details": {"input": inputTokens, "input_tokens": inputTokens,
		"prompt_tokens": inputTokens, "output": outputTokens, "output_tokens": outputTokens,
		"completion_tokens": outputTokens, "total": totalTokens, "total_tokens": totalTokens,
		"cache_read_input_tokens": cacheRead, "input_cached_tokens": cacheRead, "input_cache_read": cacheRead,
		"cache_creation_input_tokens": cacheWrite, "input_cache_creation": cacheWrite,
		"output_reasoning_tokens": reasoning, "output_reasoning": reasoning, "reasoning_tokens": reasoning},
	"langfuse.observation.cost_details": {"total": cost},
}

// maxTokens is the largest count that a reader of JSON in JavaScript has exactly; larger ones count as unsent.
const maxTokens = 1<<53 - 1

// number returns a field as a count, and -1 if it is none. Some libraries send counts as text.
func (r *record) number(f field) int64 {
	if r.ranks[f] == 0 {
		return -1
	}
	return count(r.slots[f])
}

// count returns a value as a count, and -1 if it is none.
func count(v pcommon.Value) int64 {
	n := int64(-1)
	switch v.Type() {
	case pcommon.ValueTypeInt:
		n = v.Int()
	case pcommon.ValueTypeDouble:
		if d := v.Double(); d == math.Trunc(d) && math.Abs(d) <= maxTokens {
			n = int64(d)
		}
	case pcommon.ValueTypeStr:
		if i, err := strconv.ParseInt(strings.TrimSpace(v.Str()), 10, 64); err == nil {
			n = i
		}
	}
	if n < 0 || n > maxTokens {
		return -1
	}
	return n
}
