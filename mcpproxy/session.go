// Package mcpproxy stands between a client and a server of the Model Context Protocol, over stdio or streamable HTTP.
// It passes frames byte for byte, reads copies of them, and records each tool call, read resource and prompt before its
// response reaches the client. Rules deny a tool call, or let it wait for a person's answer. It knows no database and
// no keys: where events go is its caller's.
package mcpproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/toolrule"
)

// Limits on what one session holds.
const (
	maxPending  = 1000      // recorded requests in progress
	maxHeldSize = 128 << 20 // bytes of their arguments
	// cancelGrace is how long a server may still answer a call that the client cancelled. Then it is recorded without a
	// result.
	cancelGrace = 5 * time.Second
	recordTime  = 30 * time.Second // for one record, unless the trail's own policy ends it before
)

// ErrNobody means that no person can be asked: there is no service, only a spool.
var ErrNobody = errors.New("nobody can be asked: the proxy has no service (KONSTRUCT_URL and KONSTRUCT_KEY)")

// Resolution is what a person decided about an escalation.
type Resolution struct {
	By       string
	Decision string
}

// Cancelled is how the decision of an escalation begins that nobody needs to answer any more. It approves nothing.
const Cancelled = "cancelled: "

// Trail is where the proxy's events go. The service writes to its tenant's trail; a proxy on a user's machine sends to
// a service or a spool.
type Trail interface {
	// Record makes an event durable. With an error the call's result is withheld.
	Record(context.Context, audit.Event) error
	// Escalate records an escalation, which a person can answer once it returns. It returns ErrNobody if nobody can.
	Escalate(context.Context, audit.Event) error
	// Await returns how an escalation is resolved once it is, or nil or an error when ctx ends. An error before that is
	// temporary.
	Await(ctx context.Context, escalation uuid.UUID) (*Resolution, error)
	// Cancel resolves an escalation that nobody needs to answer any more, with Cancelled and the reason. It does
	// nothing if it is resolved already.
	Cancel(ctx context.Context, escalation uuid.UUID, reason string) error
}

// Config configures the sessions of one client with one server.
type Config struct {
	// Server is the name of the server in rules and records, which the operator gives.
	Server    string
	Transport string // OpenTelemetry's network.transport: "pipe" or "tcp"
	// Decide says what becomes of a tool call; nil allows all.
	Decide  func(toolrule.Call) toolrule.Decision
	Trail   Trail
	AgentID uuid.UUID // zero: none
	UserID  string
	// Conversation is gen_ai.conversation.id of calls that name no trace.
	Conversation string
	Logger       *slog.Logger
	// Approvals are shared by the sessions of one client; nil: each session has its own.
	Approvals *Approvals

	caller string // of an HTTP server's sessions
}

// Session reads the frames of one client's connection with one server. It is safe for concurrent use.
type Session struct {
	c            Config
	id           string // Mcp-Session-Id; empty over stdio and in stateless requests
	conversation string

	mu      sync.Mutex
	client  Implementation
	server  Implementation
	version string
	pending map[string][]*call // by the key of their ids, the oldest first
	count   int
	size    int
	ended   string // error.type of calls once the session has ended
}

// NewSession returns a session; id is its Mcp-Session-Id, if it has one.
func NewSession(c Config, id string) *Session {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Approvals == nil {
		c.Approvals = NewApprovals()
	}
	s := &Session{c: c, id: id, conversation: c.Conversation, pending: map[string][]*call{}}
	if s.conversation == "" {
		s.conversation = plain(id, maxName)
	}
	return s
}

// Verdict is what becomes of a frame from the client.
type Verdict struct {
	Pass   bool   // the server gets the frame
	Answer []byte // what the client gets instead, without a newline; nil: nothing
	// Decide is set for a call that is recorded or waits before it passes. It returns the verdict then, and may be
	// called in another goroutine. progress gets frames for the client meanwhile.
	Decide func(ctx context.Context, progress func(frame []byte)) Verdict

	calls   []*call // that the frame makes, where it passes or is decided about
	first   message // of the frame
	waits   bool    // Decide waits for a person
	refused bool    // Answer refuses the frame
}

// FromClient reads a frame from the client.
func (s *Session) FromClient(frame []byte) Verdict {
	all, batch, err := readFrame(frame, true)
	if err != nil {
		var id []byte
		if len(all) == 1 && idKey(all[0].id) != "" {
			id = all[0].id
		}
		return Verdict{Answer: errorFrame(id, codeOf(err), err.Error()), first: message{id: id}, refused: true}
	}
	calls := make([]*call, len(all))
	drop := false
	for i := range all {
		c, dropped, err := s.receive(&all[i])
		if err != nil {
			s.forget(calls[:i]...)
			id := all[i].id
			if idKey(id) == "" {
				id = nil
			}
			return Verdict{Answer: errorFrame(id, codeOf(err), err.Error()), first: message{id: id}, refused: true}
		}
		calls[i], drop = c, dropped
	}
	v := Verdict{first: all[0]}
	for _, c := range calls {
		if c != nil {
			v.calls = append(v.calls, c)
		}
	}
	switch {
	case batch:
		s.decideBatch(&v, all, calls)
	case drop:
	case calls[0] == nil || !calls[0].held:
		v.Pass = true
	default:
		v.waits = calls[0].decision.Action == toolrule.Ask
		v.Decide = func(ctx context.Context, progress func([]byte)) Verdict {
			return s.decide(ctx, calls[0], progress)
		}
	}
	return v
}

// receive reads one message of the client. It returns a call that is in progress from now on, and whether the message
// is for the proxy alone.
func (s *Session) receive(m *message) (c *call, drop bool, err error) {
	if m.method == "" {
		return nil, false, nil
	}
	meta := member(m.params, "_meta")
	client := readImplementation(member(meta, "io.modelcontextprotocol/clientInfo"))
	version, _ := text(member(meta, "io.modelcontextprotocol/protocolVersion"))
	switch m.method {
	case "initialize", "server/discover":
		s.introduce(m, client)
		return nil, false, nil
	case "notifications/cancelled":
		return nil, s.cancel(idKey(member(m.params, "requestId"))), nil
	}
	if methods[m.method].action == "" {
		return nil, false, nil
	}
	if c, err = readCall(m); err != nil {
		return nil, false, err
	}
	if c.decision.Rule = -1; m.method == "tools/call" && s.c.Decide != nil {
		c.decision = s.c.Decide(toolrule.Call{Server: s.c.Server, Tool: c.name, Arguments: c.args})
		s.applyApproval(c)
	}
	c.held = c.decision.Action != "" && c.decision.Action != toolrule.Allow
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.client, c.version = s.client, s.version; client != nil {
		c.client = *client
	}
	if version != "" {
		c.version = plain(version, 100)
	}
	return c, false, s.add(c)
}

// add puts a call into the pending ones. The caller holds mu.
func (s *Session) add(c *call) error {
	switch {
	case s.ended != "":
		return &frameError{codeInternal, "the session has ended"}
	case s.count >= maxPending || s.size+c.size() > maxHeldSize:
		return &frameError{
			codeInternal,
			fmt.Sprintf("%d calls with %d bytes are in progress, the limit is %d with %d: "+
				"wait for responses", s.count, s.size, maxPending, maxHeldSize),
		}
	}
	c.reused = len(s.pending[c.key]) > 0
	c.stopped = make(chan struct{})
	s.pending[c.key] = append(s.pending[c.key], c)
	s.count++
	s.size += c.size()
	return nil
}

// remove takes a call out of the pending ones and reports whether it was there. The caller holds mu.
func (s *Session) remove(c *call) bool {
	for i, p := range s.pending[c.key] {
		if p != c {
			continue
		}
		if len(s.pending[c.key]) == 1 {
			delete(s.pending, c.key)
		} else {
			s.pending[c.key] = append(s.pending[c.key][:i:i], s.pending[c.key][i+1:]...)
		}
		s.count--
		s.size -= c.size()
		if c.cancelled != nil {
			c.cancelled.Stop()
		}
		return true
	}
	return false
}

// expect gives the server some time to answer calls whose response has not come, and then records them without.
func (s *Session) expect(calls []*call, grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range calls {
		for _, p := range s.pending[c.key] {
			if p == c && c.cancelled == nil {
				c.cancelled = time.AfterFunc(grace, func() { s.abandon(c, errNoResponse) })
			}
		}
	}
}

// speak notes the protocol version of a request's header.
func (s *Session) speak(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version != "" {
		s.version = plain(version, 100)
	}
}

// forget takes calls out that will not be made.
func (s *Session) forget(calls ...*call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range calls {
		if c != nil {
			s.remove(c)
		}
	}
}

// introduce notes a request whose response says who the server is.
func (s *Session) introduce(m *message, client *Implementation) {
	if client == nil {
		client = readImplementation(member(m.params, "clientInfo"))
	}
	c := &call{key: idKey(m.id), method: m.method, id: m.id}
	s.mu.Lock()
	defer s.mu.Unlock()
	if client != nil {
		s.client = *client
	}
	if c.key != "" {
		_ = s.add(c) // too many: the server stays unnamed
	}
}

// cancel ends the oldest call with this id that is not cancelled yet, and reports whether the server has not seen it.
func (s *Session) cancel(key string) (unseen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.pending[key] {
		switch {
		case c.why != "" || methods[c.method].action == "":
			continue
		case c.held:
			c.why = errCancelled
			close(c.stopped)
			return true
		}
		c.why = errCancelled
		if c.cancelled != nil {
			c.cancelled.Stop()
		}
		c.cancelled = time.AfterFunc(cancelGrace, func() { s.abandon(c, errCancelled) })
		return false
	}
	return false
}

// abandon records a call that will get no response, if it is still pending.
func (s *Session) abandon(c *call, why string) {
	s.mu.Lock()
	was := s.remove(c)
	s.mu.Unlock()
	if !was || methods[c.method].action == "" {
		return
	}
	if err := s.record(context.Background(), c, outcome{err: why}); err != nil {
		s.c.Logger.Error("a call without a response could not be recorded", "tool", c.name, "error", err)
	}
}

// Leave ends the waits of calls that wait for a person: the client has closed its side. Calls at the server go on.
func (s *Session) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopHeld(errClientLeft)
}

// stopHeld ends the waits of held calls. The caller holds mu.
func (s *Session) stopHeld(why string) {
	for _, calls := range s.pending {
		for _, c := range calls {
			if c.held && c.why == "" {
				c.why = why
				close(c.stopped)
			}
		}
	}
}

// End records the calls that have no response, with an error.type, and ends the waits of those that wait for a person.
// Later requests are refused.
func (s *Session) End(why string) {
	s.mu.Lock()
	if s.ended == "" {
		s.ended = why
	}
	var lost []*call
	s.stopHeld(why)
	for _, calls := range s.pending {
		for _, c := range calls {
			if !c.held {
				lost = append(lost, c)
			}
		}
	}
	s.mu.Unlock()
	var wait sync.WaitGroup
	for _, c := range lost {
		wait.Go(func() { s.abandon(c, why) })
	}
	wait.Wait()
}

// Pending returns the number of calls in progress.
func (s *Session) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// FromServer reads a frame from the server. If it has responses to recorded calls, it returns a function that records
// them, which must return before the client gets the frame. The function returns a frame to send instead if they can't
// be recorded; nil if the frame itself is to be sent.
func (s *Session) FromServer(frame []byte) func(context.Context) (instead []byte) {
	all, batch, err := readFrame(frame, false)
	if err != nil {
		return nil // the client judges what its server sends
	}
	var ended []*call
	var outcomes []outcome
	for i := range all {
		if m := &all[i]; m.isResponse() {
			if c := s.take(m.id); c != nil {
				o := readOutcome(m)
				if s.learn(c, m, o); methods[c.method].action != "" {
					s.keepApproval(c, m.result, o.kind)
					ended, outcomes = append(ended, c), append(outcomes, o)
				}
			}
		}
	}
	if len(ended) == 0 {
		return nil
	}
	return func(ctx context.Context) []byte {
		var failed [][]byte
		for i, c := range ended {
			if err := s.record(ctx, c, outcomes[i]); err != nil {
				failed = append(failed, unrecorded(c, err))
			}
		}
		switch {
		case len(failed) == 0:
			return nil
		case batch:
			return batchFrame(failed)
		}
		return failed[0]
	}
}

// longFromServer is FromServer for a frame that was not held.
func (s *Session) longFromServer(f *longFrame) func(context.Context) error {
	c := s.take(f.id)
	if c == nil || methods[c.method].action == "" {
		return nil
	}
	o := outcome{output: f.String(), kind: f.kind}
	if o.kind == "complete" {
		o.kind = ""
	}
	switch {
	case f.hasError:
		o.err = "_OTHER"
	case f.isError:
		o.err = errTool
	}
	return func(ctx context.Context) error { return s.record(ctx, c, o) }
}

// unrecorded is what the client gets instead of a result that can't be recorded.
func unrecorded(c *call, err error) []byte {
	return errorFrame(
		c.id,
		codeInternal,
		fmt.Sprintf("%s was carried out, but could not be recorded, so that its result "+
			"is withheld: %v", c.method, err),
	)
}

// take takes out the oldest call with this id that the server has seen, or returns nil.
func (s *Session) take(id []byte) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.pending[idKey(id)] {
		if !c.held {
			s.remove(c)
			return c
		}
	}
	return nil
}

// learn takes from a response who the server is.
func (s *Session) learn(c *call, m *message, o outcome) {
	server := o.server
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.method {
	case "initialize":
		if version, ok := text(member(m.result, "protocolVersion")); ok {
			s.version = plain(version, 100)
		}
		fallthrough
	case "server/discover":
		if server == nil {
			server = readImplementation(member(m.result, "serverInfo"))
		}
	}
	if server != nil {
		s.server = *server
	}
}

// record makes the event of a call durable.
func (s *Session) record(ctx context.Context, c *call, o outcome) error {
	if why := s.stopReason(c); o.err == "" { // a server may answer what was cancelled
		o.err = why
	}
	e, err := s.makeEvent(c, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	return s.c.Trail.Record(ctx, e)
}
