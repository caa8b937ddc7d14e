package mcpserver

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

type escalateArguments struct {
	Reason   string `json:"reason" min:"1" max:"65536" jsonschema:"why a person is needed"`
	Question string `json:"question,omitempty" max:"65536" jsonschema:"what the person is asked"`
	To       string `json:"to,omitempty" max:"1000" jsonschema:"a person, team or queue"`
	ID       string `json:"id,omitempty" max:"36" jsonschema:"a UUID for it: a retry with the same one asks once"`
	conversation
}

type escalated struct {
	ID    uuid.UUID `json:"id" jsonschema:"check_escalation says what was decided"`
	State string    `json:"state" jsonschema:"open"`
}

// errNobody means that an escalation is not on the trail, since the tenant's calls go on without it.
var errNobody = errors.New("the trail can't be written, so that nobody can be asked")

func (s *Server) escalateTool() tool {
	return newTool("escalate", "Ask a person to decide",
		"Hands a decision to a person, and returns at once with the escalation's id. Ask check_escalation what was "+
			"decided, and do nothing that needs the decision before.", asks,
		func(ctx context.Context, c *call, in escalateArguments) (escalated, error) {
			id, err := optionalID("id", in.ID)
			if err != nil {
				return escalated{}, err
			}
			e, err := konstruct.Escalation{ID: id, AgentID: c.AgentID, UserID: c.UserID, Reason: in.Reason,
				Question: in.Question, To: in.To, ConversationID: c.run(), Extra: c.toolMetadata()}.Event()
			if err != nil {
				return escalated{}, err
			}
			done, err := c.log(ctx, e)
			switch {
			case err != nil:
				return escalated{}, err
			case done.ID == nil:
				return escalated{}, errNobody
			}
			return escalated{ID: *done.ID, State: audit.StateOpen}, nil
		}, access.EventsWrite)
}

type checkArguments struct {
	ID   string `json:"id" min:"1" max:"200" jsonschema:"the escalation's"`
	Wait int    `json:"wait_seconds,omitempty" min:"0" max:"50" jsonschema:"how long to wait for the decision"`
	conversation
}

// escalationState is an escalation as it is now.
type escalationState struct {
	ID             uuid.UUID  `json:"id"`
	State          string     `json:"state" jsonschema:"open, acknowledged or resolved"`
	Reason         string     `json:"reason,omitempty"`
	Question       string     `json:"question,omitempty"`
	To             string     `json:"to,omitempty"`
	OpenedAt       time.Time  `json:"opened_at"`
	AcknowledgedBy string     `json:"acknowledged_by,omitempty"`
	ResolvedAt     *time.Time `json:"resolved_at,omitempty"`
	ResolvedBy     string     `json:"resolved_by,omitempty"`
	Decision       string     `json:"decision,omitempty" jsonschema:"in the person's own words"`
}

func newEscalationState(r konstruct.EscalationRecord) escalationState {
	return escalationState{ID: r.ID, State: r.State, Reason: textOr(r.Reason), Question: textOr(r.Question),
		To: textOr(r.Recipient), OpenedAt: r.OpenedAt, AcknowledgedBy: textOr(r.AcknowledgedBy),
		ResolvedAt: r.ResolvedAt,
		ResolvedBy: textOr(r.ResolvedBy), Decision: textOr(r.Decision)}
}

// textOr returns a text that may be missing.
func textOr(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// framed implements untrusted. The decision is the answer to what the agent asked, and stays as it is.
func (e escalationState) framed(b boundary) any {
	e.Reason, e.Question = b.frame(eventURI(e.ID), e.Reason), b.frame(eventURI(e.ID), e.Question)
	return e
}

// sources implements untrusted.
func (e escalationState) sources() []string { return []string{eventURI(e.ID)} }

// lookEvery is how long one look for a decision waits, after which the client is told that the call is at work.
const lookEvery = 5 * time.Second

func (s *Server) checkTool() tool {
	return newTool("check_escalation", "See what a person decided",
		"Returns an escalation with its state and the person's decision. With wait_seconds it returns as soon as "+
			"there is one.", reads,
		func(ctx context.Context, c *call, in checkArguments) (escalationState, error) {
			id, err := givenID("id", in.ID, "events")
			if err != nil {
				return escalationState{}, err
			}
			r, err := c.awaitDecision(ctx, id, time.Duration(in.Wait)*time.Second)
			if err != nil {
				return escalationState{}, err
			}
			c.summary = map[string]any{"escalation_id": id, "state": r.State}
			return newEscalationState(r), nil
		}, access.EventsRead, access.EventsWrite)
}

// awaitDecision returns an escalation once it is resolved, or as it is when the time has passed or the server stops.
func (c *call) awaitDecision(ctx context.Context, id uuid.UUID, within time.Duration) (konstruct.EscalationRecord,
	error) {
	escalations := c.tenant().Escalations()
	r, err := escalations.Get(ctx, id)
	if err == nil && !c.Principal.Sees(r.AgentID) {
		err = audit.ErrNotFound
	}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.s.c.Stopping, stop)()
	for end := c.began.Add(within); err == nil && r.State != audit.StateResolved && time.Now().Before(end); {
		var now konstruct.EscalationRecord
		now, err = escalations.Wait(waiting, id, min(lookEvery, time.Until(end)))
		if err != nil && c.s.c.Stopping.Err() != nil {
			return r, nil
		}
		if r = now; c.progress != nil && err == nil {
			c.progress(time.Since(c.began).Seconds(), within.Seconds(), "waiting for a person")
		}
	}
	return r, err
}
