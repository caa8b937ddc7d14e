package gateway

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/konstruct/konstruct/audit"
)

// usage are the tokens of a call, by one rule for all vendors, which is that of the GenAI conventions: input is the
// total, with what was read from and written to the vendor's cache; output is the total, with reasoning. OpenAI counts
// so itself. Anthropic's input_tokens has neither cache_read_input_tokens nor cache_creation_input_tokens: they are
// added.
type usage struct {
	input, output, cacheRead, cacheWrite, reasoning int64
	// Which of them the vendor told.
	hasInput, hasOutput, hasRead, hasWrite, hasReasoning bool
}

// wireUsage is usage as the vendors write it.
type wireUsage struct {
	PromptTokens     count `json:"prompt_tokens"`
	CompletionTokens count `json:"completion_tokens"`
	InputTokens      count `json:"input_tokens"`
	OutputTokens     count `json:"output_tokens"`
	CacheRead        count `json:"cache_read_input_tokens"`
	CacheCreation    count `json:"cache_creation_input_tokens"`

	PromptDetails     tokenDetails `json:"prompt_tokens_details"`
	InputDetails      tokenDetails `json:"input_tokens_details"`
	CompletionDetails tokenDetails `json:"completion_tokens_details"`
	OutputDetails     tokenDetails `json:"output_tokens_details"`
}

type tokenDetails struct {
	Cached    count `json:"cached_tokens"`
	Write     count `json:"cache_write_tokens"`
	Reasoning count `json:"reasoning_tokens"`
	Thinking  count `json:"thinking_tokens"`
}

// count is a number of tokens: a whole number, perhaps as a string. What is none is not told.
type count struct {
	n    int64
	told bool
}

// maxCount is more than any call has; statistics count a larger number as none.
const maxCount = 1_000_000_000

// UnmarshalJSON implements json.Unmarshaler.
func (c *count) UnmarshalJSON(raw []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	if err == nil && f >= 0 && f <= maxCount && f == float64(int64(f)) {
		c.n, c.told = int64(f), true
	}
	return nil
}

// first returns the first count that was told.
func first(all ...count) count {
	for _, c := range all {
		if c.told {
			return c
		}
	}
	return count{}
}

// add takes what a vendor told. What is told again, as by the events of a stream, is the total until then, so that it
// takes the place of what was told before.
func (u *usage) add(api API, raw json.RawMessage) {
	if len(raw) == 0 || raw[0] != '{' {
		return
	}
	var w wireUsage
	if json.Unmarshal(raw, &w) != nil {
		return
	}
	set := func(to *int64, has *bool, c count) {
		if c.told {
			*to, *has = c.n, true
		}
	}
	read := first(w.CacheRead, w.PromptDetails.Cached, w.InputDetails.Cached)
	write := first(w.CacheCreation, w.PromptDetails.Write, w.InputDetails.Write)
	set(&u.cacheRead, &u.hasRead, read)
	set(&u.cacheWrite, &u.hasWrite, write)
	set(&u.reasoning, &u.hasReasoning, first(w.CompletionDetails.Reasoning, w.OutputDetails.Reasoning,
		w.OutputDetails.Thinking))
	set(&u.output, &u.hasOutput, first(w.CompletionTokens, w.OutputTokens))
	if input := first(w.PromptTokens, w.InputTokens); input.told {
		if api == Anthropic {
			input.n += u.cacheRead + u.cacheWrite
		}
		u.input, u.hasInput = input.n, true
	}
}

// record writes the tokens that the vendor told into an event's metadata.
func (u *usage) record(m audit.Metadata) {
	for _, t := range []struct {
		name string
		n    int64
		told bool
	}{{"gen_ai.usage.input_tokens", u.input, u.hasInput}, {"gen_ai.usage.output_tokens", u.output, u.hasOutput},
		{"gen_ai.usage.cache_read.input_tokens", u.cacheRead, u.hasRead},
		{"gen_ai.usage.cache_creation.input_tokens", u.cacheWrite, u.hasWrite},
		{"gen_ai.usage.reasoning.output_tokens", u.reasoning, u.hasReasoning}} {
		if t.told {
			m[t.name] = t.n
		}
	}
}
