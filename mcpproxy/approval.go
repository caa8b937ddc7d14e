package mcpproxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/toolrule"
)

const (
	progressEvery = 5 * time.Second // the SDKs' own timeouts are 60 seconds
	awaitRetry    = time.Second     // after an error
	maxApprovals  = 1000
)

// decide records a denied call, or waits for a person's answer.
func (s *Session) decide(ctx context.Context, c *call, progress func([]byte)) Verdict {
	if c.decision.Action == toolrule.Ask {
		s.ask(ctx, c, progress)
		if c.approval.decision == toolrule.Allow {
			s.mu.Lock()
			defer s.mu.Unlock()
			if c.why == "" && s.ended == "" {
				c.held, c.began = false, time.Now()
				return Verdict{Pass: true}
			}
		}
	}
	s.forget(c)
	if c.approval != nil {
		c.began = time.Now() // after the answer, as it is on the trail
	}
	why, reason := errDenied, s.denial(c)
	if stopped := s.stopReason(c); stopped != "" {
		why = stopped
	}
	o := outcome{err: why}
	if why == errDenied {
		o.output = reason
	}
	if err := s.record(ctx, c, o); err != nil {
		return Verdict{
			Answer: errorFrame(c.id, codeInternal, "the tool call was denied, and that could not be recorded: "+
				err.Error()),
		}
	}
	if why == errCancelled {
		return Verdict{} // no response to what was cancelled
	}
	return Verdict{Answer: deniedFrame(c.id, c.stateless(), reason)}
}

// stopReason returns the error.type of a call that the client cancelled, or whose session has ended.
func (s *Session) stopReason(c *call) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.why
}

// denial is what the model reads instead of a result.
func (s *Session) denial(c *call) string {
	head := fmt.Sprintf("The call of the tool %q was not made: ", c.name)
	a := c.approval
	switch {
	case a == nil:
		return head + c.decision.Reason + "."
	case a.decision == "expired":
		return head + fmt.Sprintf("nobody answered within %s. A person has to allow it: %s.", c.decision.Within,
			c.decision.Reason)
	case a.decision == "nobody":
		return head + fmt.Sprintf("a person has to allow it, and %s.", a.words)
	case a.by != "":
		return head + fmt.Sprintf("%s denied it: %s", a.by, a.words)
	}
	return head + c.decision.Reason + "."
}

// ask opens an escalation and waits. It sets the call's approval, whose decision is "allow" only if the call may pass.
func (s *Session) ask(ctx context.Context, c *call, progress func([]byte)) {
	c.approval = &approval{decision: "nobody"}
	begin := time.Now()
	e, err := s.escalation(c)
	if err == nil {
		c.approval.escalation = e.ID
		err = s.c.Trail.Escalate(ctx, e)
	}
	if err != nil {
		c.approval.escalation, c.approval.words = uuid.Nil, err.Error()
		if !errors.Is(err, ErrNobody) {
			s.c.Logger.Error("an escalation could not be opened", "tool", c.name, "error", err)
		}
		s.otherwise(c)
		return
	}
	found := s.await(ctx, c, e.ID, progress)
	c.approval.waited = time.Since(begin)
	switch {
	case found != nil:
		c.approval.by, c.approval.words, c.approval.decision = found.By, found.Decision, toolrule.Deny
		if toolrule.Approves(found.Decision) {
			c.approval.decision = toolrule.Allow
		}
	case s.stopReason(c) != "" || ctx.Err() != nil:
		c.approval.decision = errCancelled
	default:
		c.approval.decision = "expired"
		s.otherwise(c)
	}
}

// otherwise lets a call pass that nobody answered, where the rule says so.
func (s *Session) otherwise(c *call) {
	if c.decision.Otherwise == toolrule.Allow {
		c.approval.words = strings.TrimSpace(c.approval.decision + " " + c.approval.words)
		c.approval.decision = toolrule.Allow
	}
}

// await waits for the answer, the rule's time, the client's cancellation or the session's end. Whoever answers after
// that finds the escalation resolved.
func (s *Session) await(ctx context.Context, c *call, escalation uuid.UUID, progress func([]byte)) *Resolution {
	ctx, cancel := context.WithTimeout(ctx, c.decision.Within)
	defer cancel()
	answers := make(chan *Resolution, 1)
	go func() { answers <- s.answer(ctx, escalation) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	why := ""
	for n := 0; why == ""; {
		select {
		case found := <-answers:
			if found != nil {
				return found
			}
			answers = nil // ctx has ended
		case <-tick.C:
			if n++; len(c.token) > 0 && progress != nil {
				progress(progressFrame(c.token, n, "waiting for a person's answer to escalation "+escalation.String()))
			}
		case <-c.stopped:
			why = "the client no longer waits for the call"
		case <-ctx.Done():
			why = fmt.Sprintf("nobody answered within %s", c.decision.Within)
		}
	}
	within, done := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer done()
	if err := s.c.Trail.Cancel(within, escalation, why); err != nil {
		s.c.Logger.Warn("an escalation that nobody needs to answer stays open", "escalation", escalation, "error", err)
	}
	if s.stopReason(c) == "" { // answered at the last moment?
		soon, end := context.WithTimeout(within, time.Second)
		defer end()
		if found, err := s.c.Trail.Await(soon, escalation); err == nil && found != nil &&
			found.Decision != Cancelled+why {
			return found
		}
	}
	return nil
}

// answer returns how an escalation is resolved, or nil when ctx ends.
func (s *Session) answer(ctx context.Context, escalation uuid.UUID) *Resolution {
	for ctx.Err() == nil {
		found, err := s.c.Trail.Await(ctx, escalation)
		if found != nil {
			return found
		}
		if err != nil && ctx.Err() == nil {
			s.c.Logger.Warn("an escalation's answer can't be read: it is tried again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(awaitRetry):
			}
		}
	}
	return nil
}

// escalation returns the event that asks a person about a call.
func (s *Session) escalation(c *call) (audit.Event, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return audit.Event{}, fmt.Errorf("draw an event id: %w", err)
	}
	m := s.metadata(c)
	m["gen_ai.tool.name"], m["span_id"] = c.name, newSpan()
	conversation, _ := m["gen_ai.conversation.id"].(string)
	delete(m, "gen_ai.conversation.id")
	question := fmt.Sprintf(
		"May the tool %q of the MCP server %q run with these arguments? Resolve with allow or deny.",
		c.name,
		s.c.Server,
	)
	if len(c.args) > 0 {
		question += "\n" + string(c.args)
	}
	return audit.Escalation{ID: id, AgentID: s.c.AgentID, UserID: s.c.UserID, Reason: c.decision.Reason,
		Question: question, To: c.decision.To, ConversationID: conversation, Extra: m}.Event()
}

// Approvals remember what a person approved while a call takes several rounds (multi round-trip requests): the rounds
// are one call with the same arguments, so the person is asked once. It is safe for concurrent use.
type Approvals struct {
	mu    sync.Mutex
	given map[[sha256.Size]byte]*approval
	order [][sha256.Size]byte
}

// NewApprovals returns an empty memory of at most a thousand approvals.
func NewApprovals() *Approvals { return &Approvals{given: map[[sha256.Size]byte]*approval{}} }

func (s *Session) approvalKey(c *call, state string) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range []string{s.c.caller, s.c.Server, c.name, string(c.args), state} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// keepApproval remembers an approval if the server needs more input before it completes the call.
func (s *Session) keepApproval(c *call, result []byte, kind string) {
	state, ok := text(member(result, "requestState"))
	if kind != "input_required" || !ok || c.approval == nil || c.approval.by == "" {
		return
	}
	a := s.c.Approvals
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.order) >= maxApprovals {
		delete(a.given, a.order[0])
		a.order = a.order[1:]
	}
	key := s.approvalKey(c, state)
	a.given[key] = c.approval
	a.order = append(a.order, key)
}

// applyApproval lets the next round of an approved call pass, once.
func (s *Session) applyApproval(c *call) {
	if c.decision.Action != toolrule.Ask || c.state == "" {
		return
	}
	a := s.c.Approvals
	a.mu.Lock()
	defer a.mu.Unlock()
	key := s.approvalKey(c, c.state)
	if given := a.given[key]; given != nil {
		delete(a.given, key)
		again := *given
		again.before, again.waited = true, 0
		c.approval, c.decision.Action = &again, toolrule.Allow
	}
}

// decideBatch decides about a batch, which passes as a whole or not at all.
func (s *Session) decideBatch(v *Verdict, all []message, calls []*call) {
	v.Pass = true
	for _, c := range v.calls {
		v.Pass = v.Pass && !c.held
	}
	if v.Pass {
		return
	}
	v.Decide = func(ctx context.Context, _ func([]byte)) Verdict {
		var answers [][]byte
		for i, c := range calls {
			switch {
			case c != nil && c.held:
				c.decision.Action = toolrule.Deny // nobody is asked about a part of a batch
				if v := s.decide(ctx, c, nil); v.Answer != nil {
					answers = append(answers, v.Answer)
				}
				continue
			case c != nil:
				s.forget(c)
			}
			if all[i].isRequest() {
				answers = append(
					answers,
					errorFrame(all[i].id, codeInvalid, "it is in a batch with a tool call that a rule "+
						"denies or asks about, and was not passed: send it by itself"),
				)
			}
		}
		return Verdict{Answer: batchFrame(answers)}
	}
}
