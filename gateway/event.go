package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/strictjson"
)

// Metadata that the gateway adds to the conventions' names. Only the service writes them.
const (
	metaUpstream = "konstruct.gateway.upstream" // the upstream's name
	metaUsage    = "konstruct.gateway.usage"    // "none" or "partial" where the vendor did not tell all tokens
	metaLost     = "konstruct.gateway.lost"     // bytes of the response that are not recorded, at least
	metaUnread   = "konstruct.gateway.unread"   // events of a stream that could not be read
	metaOmitted  = "konstruct.gateway.omitted"  // names of metadata that did not fit
	metaRetry    = "konstruct.gateway.retry"    // the client's own count of retries
)

// logTime is how long a call waits for the trail where the tenant's policy does not say.
const logTime = 30 * time.Second

// log logs the call, once. Its error is a *Refusal.
func (x *exchange) log() error {
	if x.logged {
		return nil
	}
	x.logged = true
	m, output := x.metadata()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), logTime)
	defer cancel()
	err := x.write(ctx, m, output)
	var field *audit.FieldError
	if errors.As(err, &field) { // it did not fit, with its redactions
		var omitted []string
		for _, name := range []string{"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions",
			"gen_ai.tool.definitions"} {
			if _, there := m[name]; there {
				delete(m, name)
				omitted = append(omitted, name)
			}
		}
		m[metaOmitted] = omitted
		err = x.write(ctx, m, output)
	}
	if err == nil {
		x.charge.logged(x.counted())
		return nil
	}
	x.g.logger.ErrorContext(ctx, "a call of a model could not be logged", "tenant", x.call.Caller.Tenant,
		"model", x.q.model, "error", err)
	return &Refusal{Status: http.StatusServiceUnavailable, Code: faultUnwritable,
		Message: "The call could not be logged on the audit trail, so that its response is withheld: try again."}
}

// ownKey matches keys of Konstruct's.
var ownKey = regexp.MustCompile(keyPrefix + `[A-Za-z0-9_-]{16,}`)

// withoutKeys returns a text without the upstream's key and without Konstruct's.
func (x *exchange) withoutKeys(s string) string {
	if x.up != nil {
		if key, err := x.up.key(); err == nil && len(key) >= 8 {
			s = strings.ReplaceAll(s, key, "[key of the upstream]")
		}
	}
	if strings.Contains(s, keyPrefix) {
		s = ownKey.ReplaceAllString(s, "[key of Konstruct]")
	}
	return s
}

func (x *exchange) write(ctx context.Context, m audit.Metadata, output string) error {
	raw, err := strictjson.Marshal(m)
	if err != nil {
		return fmt.Errorf("gateway: write an event's metadata: %w", err)
	}
	// Some vendors repeat a key that they refuse, and people paste theirs.
	raw = []byte(x.withoutKeys(string(raw)))
	output = x.withoutKeys(output)
	prompt, _ := clean(x.withoutKeys(x.q.prompt))
	user, _ := clean(pgtext.Head(x.ctx.user, audit.MaxName))
	e := audit.Event{AgentID: x.call.Caller.Agent, UserID: user, Action: audit.ActionLLMCall, Input: prompt,
		Output: output, Latency: x.took, Metadata: raw}
	id, err := x.g.trail.Log(ctx, x.call.Caller.Tenant, e.OfService())
	if err == nil && id != uuid.Nil && x.g.logged != nil {
		told, end := x.answer.usage, time.Now()
		l := Logged{Tenant: x.call.Caller.Tenant, Bound: x.call.Caller.Bound, Event: id, Trace: x.ctx.trace,
			Parent:   x.ctx.parent,
			Response: x.answeredAs(), Embedding: x.call.Operation == Embeddings, InputTokens: -1, OutputTokens: -1,
			Begin: end.Add(-x.took), End: end}
		if told.hasInput {
			l.InputTokens = told.input
		}
		if told.hasOutput {
			l.OutputTokens = told.output
		}
		x.g.logged(l)
	}
	return err
}

// metadata returns an event's metadata and its output.
func (x *exchange) metadata() (audit.Metadata, string) {
	m := maps.Clone(x.q.metadata)
	set := func(name, value string) {
		if value != "" {
			m[name] = value
		}
	}
	m["gen_ai.operation.name"], m["gen_ai.request.model"] = x.call.Operation.genAIName(), cleaned(x.q.model)
	m["gen_ai.provider.name"] = string(x.up.API)
	m[metaUpstream] = x.up.Name
	set("gen_ai.response.id", x.answer.id)
	set("gen_ai.response.model", x.answer.model)
	set("openai.response.service_tier", x.answer.tier)
	set("openai.response.system_fingerprint", x.answer.fingerprint)
	set("gen_ai.conversation.id", x.ctx.conversation)
	set("trace_id", x.ctx.trace)
	set("parent_span_id", x.ctx.parent)
	set(metaRetry, x.ctx.retries)
	switch x.call.Operation {
	case ChatCompletions:
		m["openai.api.type"] = "chat_completions"
	case Responses:
		m["openai.api.type"] = "responses"
	}
	m["server.address"] = x.up.base.Hostname()
	if port, err := strconv.Atoi(x.up.base.Port()); err == nil {
		m["server.port"] = port
	} else if m["server.port"] = 443; x.up.base.Scheme == "http" {
		m["server.port"] = 80
	}
	if x.status > 0 {
		m["http.response.status_code"] = x.status
	}
	if x.streamed && x.firstChunk > 0 {
		m["gen_ai.response.time_to_first_chunk"] = float64(x.firstChunk.Microseconds()) / 1e6
	}
	set("error.type", x.errorKind())
	x.answer.usage.record(m)
	x.recordBudget(m)
	if x.own != nil {
		x.own.record(m)
	}
	if x.answer.lost > 0 {
		m[metaLost] = x.answer.lost
	}
	if x.answer.unread > 0 {
		m[metaUnread] = x.answer.unread
	}
	return m, x.output(m)
}

// errorKind returns the event's error.type, or "".
func (x *exchange) errorKind() string {
	switch {
	case x.errorType != "":
		return x.errorType
	case x.answer.errorType != "":
		return x.answer.errorType
	case x.status >= 400:
		return strconv.Itoa(x.status)
	}
	return ""
}

// output returns what the model answered, and adds the messages where they are more than a text.
func (x *exchange) output(m audit.Metadata) string {
	messages := x.answer.messages()
	if reasons := x.answer.reasons(); len(reasons) > 0 {
		m["gen_ai.response.finish_reasons"] = reasons
	}
	if len(messages) > 1 || len(messages) == 1 && contains(messages[0].Parts, func(p part) bool {
		return p.Type != textPart
	}) {
		m["gen_ai.output.messages"] = messages
	}
	out := summary(messages)
	if out == "" && x.answer.errorText != "" {
		out = x.answer.errorText
	}
	if out == "" && x.errorKind() != "" {
		out = cleaned(string(x.errorBody))
	}
	return cleaned(out)
}

func cleaned(s string) string {
	return pgtext.Clean(s)
}

// recordBudget records what the call counts for budgets, and where the vendor did not tell all tokens.
func (x *exchange) recordBudget(m audit.Metadata) {
	u := x.counted()
	m[audit.GatewayTokens] = u.Tokens
	if _, ok := x.g.price(x.q.model); ok {
		m[audit.GatewayCost] = u.Cost
		if told := x.answer.usage; told.hasInput && (told.hasOutput || x.call.Operation == Embeddings) {
			m["gen_ai.usage.cost"] = u.Cost // without an estimate
		}
	}
	if !x.answered() {
		return
	}
	switch told := x.answer.usage; {
	case !told.hasInput && !told.hasOutput:
		m[metaUsage] = "none"
	case !told.hasInput || !told.hasOutput && x.call.Operation != Embeddings:
		m[metaUsage] = "partial"
	}
}

// answered reports whether the upstream began to work on the call, so that it has used tokens.
func (x *exchange) answered() bool {
	return x.status >= 200 && x.status < 300 && x.call.Operation != CountTokens && x.errorType != faultInvalid
}

// counted returns what the call counts for a budget: what the vendor told, and an estimate of what it did not tell, of
// four bytes a token.
func (x *exchange) counted() (u audit.ModelUsage) {
	told := x.answer.usage
	if x.answered() {
		if !told.hasInput {
			told.input = int64(x.q.bytes) / bytesPerToken
		}
		if !told.hasOutput && x.call.Operation != Embeddings {
			told.output = (int64(x.answer.size) + x.answer.lost) / bytesPerToken
		}
	}
	u = audit.ModelUsage{Calls: 1, Tokens: told.input + told.output}
	if price, ok := x.g.price(x.q.model); ok {
		u.Cost = price.cost(told)
	}
	return u
}
