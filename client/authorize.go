package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/toolrule"
)

// Verdict is what becomes of a call before its tool runs.
type Verdict struct {
	Allowed bool
	// Prompt is true if the agent's own permission prompt is to ask its user.
	Prompt bool
	// Reason is what the agent is told when it is denied, or its user when he is prompted.
	Reason string
	// Metadata says in the call's event what decided; nil if no rule matched.
	Metadata map[string]any

	sets *ruleSets
	both [2]toolrule.Decision
}

// Limits is what the caller of Authorize can do.
type Limits struct {
	// Wait bounds how long Authorize waits for a person, whatever the rule says; 0 is the rule's time alone. A hook
	// must end before the agent's program kills it.
	Wait time.Duration
	// Prompt is true if the agent's program can ask its own user.
	Prompt bool
}

// Authorize decides about a call before its tool runs, and asks a person where a rule says so; question and answer are
// on the trail when it returns. It never fails: where the rules are not known or nobody can be asked, Config.FailClosed
// and the rule's otherwise decide, and the verdict says so. The caller logs the call, with the verdict's metadata.
func (c *Client) Authorize(ctx context.Context, call ToolCall, can Limits) Verdict {
	sets := c.loadRules(ctx)
	d, both := sets.decide(toolrule.Call{Server: call.Server, Tool: call.Name, Arguments: []byte(call.Arguments)})
	v := Verdict{Allowed: d.Action == toolrule.Allow, Reason: d.Reason, sets: sets, both: both}
	if d.Rule >= 0 {
		v.Metadata = map[string]any{MetadataAction: d.Action, MetadataRule: d.Rule}
		if d.Reason != "" {
			v.Metadata[MetadataReason] = d.Reason
		}
	}
	if sets.problem != nil && v.Allowed {
		c.c.Logger.Warn("the rules on tools are not known", "error", sets.problem)
		v.Allowed = !c.c.FailClosed
		v.Reason = "the rules on tools are not known: " + sets.problem.Error()
		v.Metadata = map[string]any{MetadataReason: v.Reason}
	}
	switch {
	case d.Action != toolrule.Ask:
	case d.Via == toolrule.ViaPrompt && can.Prompt:
		v.Prompt, v.Metadata[MetadataApproval] = true, toolrule.ViaPrompt
	default:
		c.ask(ctx, &v, d, call, can)
	}
	return v
}

// LogCall keeps a call's event, with what its verdict says, redacted if this machine has the key.
func (c *Client) LogCall(ctx context.Context, call ToolCall, v Verdict) error {
	e, err := c.CallEvent(call, v)
	if err != nil {
		return errors.Join(err, c.spool.addLost(1, err, c.clock()))
	}
	return c.Log(ctx, e)
}

// CallEvent returns the event that LogCall keeps.
func (c *Client) CallEvent(call ToolCall, v Verdict) (Event, error) {
	e := call.Event()
	maps.Copy(e.Metadata, v.Metadata)
	if len(c.c.RedactKey) == 0 {
		return e, nil
	}
	if v.sets == nil {
		v.sets = c.loadRules(context.Background())
		_, v.both = v.sets.decide(toolrule.Call{Server: call.Server, Tool: call.Name,
			Arguments: []byte(call.Arguments)})
	}
	return c.redactEvent(v.sets, v.both, e)
}

// ask asks a person and waits.
func (c *Client) ask(ctx context.Context, v *Verdict, d toolrule.Decision, call ToolCall, can Limits) {
	within := d.Within
	if can.Wait > 0 {
		within = min(within, can.Wait)
	}
	m := maps.Clone(call.Extra)
	if m == nil {
		m = map[string]any{}
	}
	for name, value := range map[string]string{"gen_ai.tool.name": call.Name, MetadataServer: call.Server,
		"gen_ai.tool.call.id": call.CallID} {
		if value != "" {
			m[name] = value
		}
	}
	text := fmt.Sprintf("May the tool %q of %q run with these arguments? Resolve with allow or deny.\n%s", call.Name,
		call.Server, call.Arguments)
	begin := c.clock()
	// Redacted as the call itself is: its arguments decided which rules redact.
	question, err := c.redactEvent(v.sets, v.both, Event{Output: text, Metadata: m})
	var a Answer
	if err == nil {
		a, err = c.Ask(ctx, Question{Reason: d.Reason, Text: question.Output, To: d.To,
			ConversationID: call.ConversationID, AgentID: call.AgentID, UserID: call.UserID,
			Metadata: question.Metadata, Within: within})
	}
	v.Metadata[MetadataWaited] = c.clock().Sub(begin).Milliseconds()
	if a.Escalation != uuid.Nil {
		v.Metadata[MetadataEscalation] = a.Escalation.String()
	}
	switch {
	case a.Answered:
		v.Allowed, v.Reason = a.Allowed, fmt.Sprintf("%s decided: %s", a.By, a.Decision)
		v.Metadata[MetadataApproval], v.Metadata[MetadataApprovedBy] = toolrule.Deny, a.By
		if v.Metadata[MetadataWords] = pgtext.Cut(a.Decision, maxName); a.Allowed {
			v.Metadata[MetadataApproval] = toolrule.Allow
		}
		return
	case err != nil:
		v.Reason = fmt.Sprintf("a person has to allow it, and nobody can be asked: %v (%s)", err, d.Reason)
		v.Metadata[MetadataApproval], v.Metadata[MetadataWords] = "nobody", pgtext.Cut(err.Error(), maxName)
	default:
		v.Reason = fmt.Sprintf("a person has to allow it, and nobody answered within %s (%s)", within, d.Reason)
		v.Metadata[MetadataApproval] = "expired"
	}
	v.Allowed = d.Otherwise == toolrule.Allow
}

// Question is a decision that a person must make.
type Question struct {
	ID             uuid.UUID // zero: drawn
	Reason         string    // why a person is needed
	Text           string    // what the person is asked
	To             string    // a person, team or queue
	ConversationID string
	AgentID        uuid.UUID
	UserID         string
	Metadata       map[string]any
	At             time.Time     // zero: now
	Within         time.Duration // how long Ask waits for the answer
}

// Answer is what a person decided.
type Answer struct {
	Escalation uuid.UUID
	Answered   bool // false: time was up
	Allowed    bool
	By         string
	Decision   string // the person's own words
}

// Ask opens an escalation and waits until a person has answered it or time is up; then it cancels the escalation. It
// fails if the question could not be put; later failures of the service use up the time.
func (c *Client) Ask(ctx context.Context, q Question) (a Answer, err error) {
	end := c.clock().Add(q.Within)
	within, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	if a.Escalation, err = c.Escalate(within, q); err != nil {
		return Answer{}, err
	}
	got, err := c.Await(within, a.Escalation)
	if err == nil {
		return got, nil
	}
	late, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	if err := c.Cancel(late, a.Escalation, "nobody answered within "+q.Within.String()); err != nil {
		// Answered at the last moment, or the service is unavailable.
		if got, err := c.answer(late, a.Escalation, 0); err == nil && got.Answered {
			return got, nil
		}
		c.c.Logger.Warn("an escalation that nobody needs to answer stays open", "escalation", a.Escalation,
			"error", err)
	}
	return a, nil
}

// Escalate opens an escalation, and returns its id when people can answer it. Its retries are safe: they have its id.
func (c *Client) Escalate(ctx context.Context, q Question) (uuid.UUID, error) {
	body, err := c.escalationBody(&q)
	if err != nil {
		return uuid.Nil, err
	}
	within, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	for pause := firstRetry; ; pause *= 2 {
		status, _, err := c.do(within, "POST", "/v1/escalations", body, nil)
		if err == nil && status == 202 {
			err = &unavailableError{errors.New("the service can't write the trail now"), 0}
		}
		var away *unavailableError
		if err == nil {
			return q.ID, nil
		}
		if !errors.As(err, &away) || !sleep(within, pause) {
			return uuid.Nil, fmt.Errorf("ask a person: %w", err)
		}
	}
}

// pollWait is how long one request waits for the answer: the service's longest.
const pollWait = 8 * time.Second

// Await returns a person's answer to an escalation, or an error when ctx ends. Failures of the service use up the time.
func (c *Client) Await(ctx context.Context, escalation uuid.UUID) (Answer, error) {
	for {
		wait := pollWait
		if end, ok := ctx.Deadline(); ok {
			wait = min(wait, max(time.Second, end.Sub(c.clock()).Truncate(time.Second)))
		}
		a, err := c.answer(ctx, escalation, wait)
		var refused *RefusedError
		switch {
		case err == nil && a.Answered:
			return a, nil
		case ctx.Err() != nil:
			return a, fmt.Errorf("wait for an answer: %w", ctx.Err())
		case errors.As(err, &refused) && refused.Status == 404:
			return a, err
		case err != nil:
			c.c.Logger.Debug("an answer can't be read: it is tried again", "escalation", escalation, "error", err)
			sleep(ctx, time.Second)
		}
	}
}

// answer asks the service once; it waits for up to wait, in whole seconds.
func (c *Client) answer(ctx context.Context, escalation uuid.UUID, wait time.Duration) (Answer, error) {
	var got struct {
		State      string `json:"state"`
		ResolvedBy string `json:"resolved_by"`
		Decision   string `json:"decision"`
	}
	within, cancel := context.WithTimeout(ctx, wait+requestTime)
	defer cancel()
	path := fmt.Sprintf("/v1/escalations/%s?wait=%d", escalation, wait/time.Second)
	_, _, err := c.do(within, "GET", path, nil, &got)
	if err != nil || got.State != "resolved" {
		return Answer{Escalation: escalation}, err
	}
	return Answer{escalation, true, toolrule.Approves(got.Decision), got.ResolvedBy, got.Decision}, nil
}

// Cancel resolves an escalation that nobody needs to answer any more. It fails if it is resolved already.
func (c *Client) Cancel(ctx context.Context, escalation uuid.UUID, reason string) error {
	within, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	_, _, err := c.do(within, "POST", fmt.Sprintf("/v1/escalations/%s/cancel", escalation),
		map[string]string{"reason": reason}, nil)
	return err
}

// maxQuestion is how many bytes of a question are sent; the service keeps 64 KiB, after it has redacted them.
const maxQuestion = 256 << 10

// escalationBody is the request that opens an escalation. It gives the question its id.
func (c *Client) escalationBody(q *Question) (map[string]any, error) {
	if q.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("draw an escalation's id: %w", err)
		}
		q.ID = id
	}
	at, agent, user := q.At, q.AgentID, q.UserID
	if at.IsZero() {
		at = c.clock()
	}
	if agent == uuid.Nil {
		agent = c.c.AgentID
	}
	if user == "" {
		user = c.c.UserID
	}
	body := map[string]any{"id": q.ID, "created_at": at.UTC().Truncate(time.Microsecond)}
	if len(q.Metadata) > 0 {
		raw, err := storableMetadata(q.Metadata, false)
		if err != nil {
			return nil, fmt.Errorf("a question's metadata: %w", err)
		}
		body["metadata"] = json.RawMessage(raw)
	}
	for name, value := range map[string]string{"user_id": user, "reason": q.Reason, "question": q.Text, "to": q.To,
		"conversation_id": q.ConversationID} {
		if text, _ := storable(value); text != "" {
			body[name] = pgtext.Cut(text, maxQuestion)
		}
	}
	if agent != uuid.Nil {
		body["agent_id"] = agent
	}
	return body, nil
}

// sleep waits for d; it returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
