package otel

import (
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
)

// maxRecent is how many keys of calls are remembered, of all tenants together: some 40 MB, and 130 MB at worst.
const maxRecent = 1 << 17

// slack is by how much the clocks and the rounding of two reports of one call may differ.
const slack = 2 * time.Second

// Recent remembers the calls that were logged last, so that a second report of one is recognized: by another
// instrumentation, by the span around it, by a log record beside the span. It is safe for concurrent use. It knows what
// this process logged; an event's own id is what protects from doubles of one span.
type Recent struct {
	mu    sync.Mutex
	calls *lru.Cache[recentKey, []*Call]
}

// Reporter is who reports: a tenant, and the agent that the credential is bound to, if any. What one agent reports is
// not recognized as another's.
type Reporter struct{ Tenant, Agent uuid.UUID }

type recentKey struct {
	by   Reporter
	kind byte // r: by response, t: by tool call, p: by the parent's span, s: by the own span
	id   string
}

// NewRecent returns an empty Recent.
func NewRecent() *Recent {
	c, err := lru.New[recentKey, []*Call](maxRecent)
	if err != nil {
		panic(err) // the size is a constant above zero
	}
	return &Recent{calls: c}
}

// same reports whether b is the same report of the same event.
func (c *Call) same(b *Call) bool { return b.Event == c.Event && b.Span == c.Span }

// maxAlike is how many calls of one key are remembered: some servers give every response one id.
const maxAlike = 8

// Add remembers a call that is on the trail.
func (r *Recent) Add(by Reporter, c Call) {
	if !c.Reportable {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys(by, c) {
		alike, _ := r.calls.Peek(k)
		if i := slices.IndexFunc(alike, c.same); i >= 0 {
			alike = slices.Delete(slices.Clone(alike), i, i+1)
		}
		alike = append(alike, &c)
		r.calls.Add(k, alike[max(0, len(alike)-maxAlike):])
	}
}

func keys(by Reporter, c Call) (all []recentKey) {
	if c.Response != "" {
		all = append(all, recentKey{by, 'r', c.Response})
	}
	if c.ToolCall != "" {
		all = append(all, recentKey{by, 't', c.ToolCall})
	}
	if c.Trace != "" && c.Parent != "" {
		all = append(all, recentKey{by, 'p', c.Trace + c.Parent})
	}
	if c.Trace != "" && c.Span != "" {
		all = append(all, recentKey{by, 's', c.Trace + c.Span})
	}
	return all
}

// Reported returns the event of a call that c reports again, and uuid.Nil if c is the first report. A span around calls
// repeats one of them: a second one below it is another.
func (r *Recent) Reported(by Reporter, c *Call) uuid.UUID {
	if !c.Reportable {
		return uuid.Nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys(by, *c) {
		if alike, _ := r.calls.Peek(k); slices.ContainsFunc(alike, c.same) {
			return uuid.Nil // it was its own call before
		}
	}
	for _, look := range []struct {
		kind byte
		id   string
		same func(a, b *Call) bool
	}{
		{'r', c.Response, sameResponse}, {'t', c.ToolCall, sameTool},
		{'p', spanKey(c.Trace, c.Span), sameNested}, {'s', spanKey(c.Trace, c.Parent), sameNested},
	} {
		if look.id == "" {
			continue
		}
		alike, _ := r.calls.Get(recentKey{by, look.kind, look.id})
		for _, before := range alike {
			if before.Event == c.Event || !overlap(before, c) || !look.same(before, c) {
				continue
			}
			switch look.kind {
			case 's':
				if before.repeats != "" && before.repeats != c.Span {
					continue
				}
				before.repeats = c.Span
			case 'p':
				c.repeats = before.Span
			}
			return before.Event
		}
	}
	return uuid.Nil
}

func spanKey(trace, span string) string {
	if trace == "" || span == "" {
		return ""
	}
	return trace + span
}

// overlap reports whether two reports may be of the same time and conversation. Ids alone don't say that: some servers
// give every response the same.
func overlap(a, b *Call) bool {
	return !a.Begin.After(b.End.Add(slack)) && !b.Begin.After(a.End.Add(slack)) &&
		(a.Conversation == "" || b.Conversation == "" || a.Conversation == b.Conversation)
}

// samePrecise is how closely two reports of one instrumentation must agree on when a call began and ended.
const samePrecise = 5 * time.Millisecond

// sameResponse reports whether two reports are of one response. One instrumentation reports a response once, unless two
// of its callbacks are active: then both have the same call id of its own, or the same times. Others that report the
// same id from the same scope are of a server that gives every response one id, as are log records, which have one time
// alone: those of one call have one span.
func sameResponse(a, b *Call) bool {
	if a.Scope == b.Scope && (a.CallID == "" || a.CallID != b.CallID) &&
		(a.Begin.Sub(b.Begin).Abs() > samePrecise || a.End.Sub(b.End).Abs() > samePrecise ||
			a.Span != b.Span && (a.Begin.Equal(a.End) || b.Begin.Equal(b.End))) {
		return false
	}
	return addsNoTokens(a, b)
}

// addsNoTokens reports whether b adds no tokens to a. A second report that has tokens where the first has none is not
// recognized, so that they are counted. Output may differ: some instrumentations add the counts of a stream's events.
func addsNoTokens(a, b *Call) bool {
	return a.Embedding == b.Embedding && (b.InputTokens < 0 || b.InputTokens == a.InputTokens) &&
		(b.OutputTokens < 0 || a.OutputTokens >= 0)
}

// sameTool reports whether two reports are of one call of a tool.
func sameTool(a, b *Call) bool {
	return a.ToolCall == b.ToolCall && (a.Tool == b.Tool || a.Tool == claudeMCP || b.Tool == claudeMCP)
}

// claudeMCP is what Claude Code's log records call every tool of an MCP server.
const claudeMCP = "mcp_tool"

// sameNested reports whether a span and the span around it report one call: of a model with the same tokens, or the
// second with none, or of a tool where one of them is MCP's.
func sameNested(a, b *Call) bool {
	if a.Tool != "" || b.Tool != "" {
		return a.Tool == b.Tool && (a.MCP || b.MCP) && (a.ToolCall == "" || b.ToolCall == "" ||
			a.ToolCall == b.ToolCall)
	}
	return a.Embedding == b.Embedding && (a.Response == "" || b.Response == "" || a.Response == b.Response) &&
		(b.InputTokens <= 0 && b.OutputTokens <= 0 ||
			a.InputTokens == b.InputTokens && a.OutputTokens == b.OutputTokens)
}

// RichestFirst returns the order in which the records of an export are looked at for second reports: those with tokens
// and contents first, so that what is called the call is the report that says most. Where two reports of a response
// differ in output, the one with less goes first: some instrumentations add the counts that a stream repeats.
func RichestFirst(records []Mapped) []int {
	order, least := make([]int, len(records)), map[string]int64{}
	for i := range records {
		order[i] = i
		if c := &records[i].Call; c.Response != "" && c.OutputTokens > 0 {
			if n, there := least[c.Response]; !there || c.OutputTokens < n {
				least[c.Response] = c.OutputTokens
			}
		}
	}
	rank := func(m *Mapped) int {
		if n, there := least[m.Call.Response]; there && m.Call.OutputTokens > n {
			return -1
		}
		return richness(m)
	}
	slices.SortStableFunc(order, func(i, j int) int { return rank(&records[j]) - rank(&records[i]) })
	return order
}

func richness(m *Mapped) (n int) {
	if !m.Call.Reportable {
		return 8 // its order does not matter
	}
	if m.Call.InputTokens > 0 || m.Call.OutputTokens > 0 {
		n += 4
	}
	if m.Event.Input != "" {
		n += 2
	}
	if m.Event.Output != "" {
		n++
	}
	return n
}

// Forget removes a call that could not be logged.
func (r *Recent) Forget(by Reporter, c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys(by, c) {
		alike, there := r.calls.Peek(k)
		if !there {
			continue
		}
		alike = slices.DeleteFunc(slices.Clone(alike), func(b *Call) bool { return b.Event == c.Event })
		if len(alike) == 0 {
			r.calls.Remove(k)
		} else {
			r.calls.Add(k, alike)
		}
	}
}
