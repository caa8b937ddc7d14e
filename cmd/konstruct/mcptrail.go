package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/client"
	"github.com/konstruct/konstruct/mcpproxy"
	"github.com/konstruct/konstruct/spool"
	"github.com/konstruct/konstruct/toolrule"
)

// decideFunc says what becomes of a tool call.
type decideFunc = func(toolrule.Call) toolrule.Decision

// libraryTrail is the trail of a tenant in a database.
type libraryTrail struct {
	tenant *konstruct.Tenant
	by     string
}

// Record implements mcpproxy.Trail.
func (t libraryTrail) Record(ctx context.Context, e audit.Event) error {
	_, err := t.tenant.Agent(e.AgentID).Log(ctx, e)
	return err
}

// Escalate implements mcpproxy.Trail.
func (t libraryTrail) Escalate(ctx context.Context, e audit.Event) error {
	id, err := t.tenant.Agent(e.AgentID).Log(ctx, e)
	if err == nil && id == uuid.Nil {
		err = errors.New("the trail can't be written, so that nobody can be asked")
	}
	return err
}

// awaitTime is how long one look for an answer waits.
const awaitTime = 10 * time.Second

// Await implements mcpproxy.Trail.
func (t libraryTrail) Await(ctx context.Context, escalation uuid.UUID) (*mcpproxy.Resolution, error) {
	c, err := t.tenant.Escalations().Wait(ctx, escalation, awaitTime)
	if err != nil || c.State != audit.StateResolved {
		return nil, err
	}
	return &mcpproxy.Resolution{By: textOrEmpty(c.ResolvedBy), Decision: textOrEmpty(c.Decision)}, nil
}

// Cancel implements mcpproxy.Trail.
func (t libraryTrail) Cancel(ctx context.Context, escalation uuid.UUID, reason string) error {
	_, err := t.tenant.Escalations().Resolve(ctx, escalation, t.by, mcpproxy.Cancelled+reason)
	if errors.Is(err, audit.ErrResolved) {
		return nil
	}
	return err
}

// journalDir is the folder, in that of the spool, with a journal for each running proxy. A call waits for its record to
// be on the disk: appending to a journal needs one sync, and a file of its own in the spool needs two and a rename.
const journalDir = "mcp-proxy"

// spooledTrail keeps events in a journal of this process, from where they go on to the spool, which delivers them.
type spooledTrail struct {
	client  *client.Client
	dir     string
	journal *spool.Spool
	plain   bool // nothing is redacted here
	goOn    bool
	closed  bool // calls are denied while the rules are not known
	logger  *slog.Logger
	warn    sync.Once

	stop    context.CancelFunc
	running sync.WaitGroup
}

// newSpooledTrail takes over the journals of proxies that were killed, and begins to deliver.
func newSpooledTrail(
	ctx context.Context,
	k *client.Client,
	f captureFlags,
	logger *slog.Logger,
) (*spooledTrail, error) {
	own, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("name a journal: %w", err)
	}
	all := filepath.Join(k.Folder(), journalDir)
	s := &spooledTrail{client: k, dir: filepath.Join(all, own.String()), logger: logger, plain: !k.Redacts(),
		goOn: f.WhenUnwritable == "go_on", closed: f.WhenUnwritable == "fail"}
	if s.journal, err = spool.Open(s.dir, 0); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	within, stop := context.WithCancel(ctx)
	s.stop = stop
	s.running.Go(func() {
		var err error
		s.recoverJournals(within, all)
		for err == nil {
			if err = s.forwardSome(within, s.journal); err == nil {
				err = sleep(within, gatherTime)
			}
		}
		if within.Err() == nil && !errors.Is(err, spool.ErrClosed) {
			logger.Error("the journal can't be read", "folder", s.dir, "error", err)
		}
	})
	if f.URL != "" {
		s.running.Go(func() {
			if err := k.Run(within, 0); err != nil && within.Err() == nil {
				logger.Error("events wait for the service", "error", err)
			}
		})
	}
	return s, nil
}

// recoverJournals forwards what killed proxies have left.
func (s *spooledTrail) recoverJournals(ctx context.Context, all string) {
	entries, err := os.ReadDir(all)
	if err != nil {
		s.logger.Warn("the journals of other proxies can't be read", "error", err)
	}
	for _, entry := range entries {
		dir := filepath.Join(all, entry.Name())
		if dir == s.dir || !entry.IsDir() {
			continue
		}
		if err := s.takeOver(ctx, dir); err != nil && !errors.Is(err, spool.ErrInUse) && ctx.Err() == nil {
			s.logger.Warn("a killed proxy's journal can't be read", "folder", dir, "error", err)
		}
	}
}

// takeOver forwards a journal that no process has open, and removes it.
func (s *spooledTrail) takeOver(ctx context.Context, dir string) error {
	j, err := spool.Open(dir, 0)
	if err != nil {
		return err
	}
	for j.Status().Waiting > 0 {
		if err := s.forwardSome(ctx, j); err != nil {
			return errors.Join(err, j.Close())
		}
	}
	return errors.Join(j.Close(), os.RemoveAll(dir))
}

// gatherTime is how long events gather in the journal before they are moved together: each move needs two syncs.
const gatherTime = 50 * time.Millisecond

// sleep waits, or returns the context's error when it ends before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// maxForward is how many events are moved at a time: they are in one file of the spool.
const maxForward = 200

// forwardSome moves the oldest events of a journal to the spool, once there are some.
func (s *spooledTrail) forwardSome(ctx context.Context, j *spool.Spool) error {
	records, err := j.Next(ctx, maxForward)
	if err != nil {
		return err
	}
	events := make([]client.Event, 0, len(records))
	for _, r := range records {
		var e client.Event
		d := json.NewDecoder(bytes.NewReader(r.Payload))
		d.UseNumber()
		if err := d.Decode(&e); err != nil {
			s.logger.Error("a record of the journal is no event", "error", err)
			continue
		}
		events = append(events, e)
	}
	log := func() error { return s.client.LogBatch(context.WithoutCancel(ctx), events) }
	for err := log(); err != nil; err = log() {
		s.logger.Error("events stay in the journal: the spool can't be written", "error", err)
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return j.Done(records[len(records)-1].End, len(records))
}

// decide implements decideFunc by the rules of the service and the local ones.
func (s *spooledTrail) decide(call toolrule.Call) toolrule.Decision {
	d, err := s.client.Decide(context.Background(), call)
	if err == nil || d.Action != toolrule.Allow {
		return d
	}
	s.warn.Do(func() { s.logger.Warn("the rules on tools are not known", "error", err) })
	if s.closed {
		return toolrule.Decision{
			Action: toolrule.Deny,
			Rule:   -1,
			Reason: "the rules on tools are not known: " + err.Error(),
		}
	}
	return d
}

// Record implements mcpproxy.Trail.
func (s *spooledTrail) Record(ctx context.Context, e audit.Event) error {
	err := s.keep(ctx, e)
	if err != nil && s.goOn {
		s.logger.Error("a call goes on unrecorded", "error", err)
		return nil
	}
	return err
}

func (s *spooledTrail) keep(ctx context.Context, e audit.Event) error {
	m := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(e.Metadata))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return fmt.Errorf("read an event's metadata: %w", err)
	}
	own := client.Event{ID: e.ID, AgentID: e.AgentID, UserID: e.UserID, Action: e.Action, Input: e.Input,
		Output: e.Output, Latency: e.Latency, At: e.At, Metadata: m}
	if s.plain && len(e.Input)+len(e.Output)+len(e.Metadata) < spool.MaxRecord/2 {
		raw, err := json.Marshal(own)
		if err == nil && len(raw) < spool.MaxRecord {
			err = s.journal.Append(ctx, raw)
		}
		if err == nil && len(raw) < spool.MaxRecord {
			return nil
		}
	}
	if e.Action != audit.ActionToolCall {
		return s.client.Log(ctx, own)
	}
	tool, _ := m["gen_ai.tool.name"].(string)
	server, _ := m[audit.MetadataToolServer].(string)
	return s.client.LogCall(ctx, client.ToolCall{ID: e.ID, AgentID: e.AgentID, UserID: e.UserID, Server: server,
		Name: tool, Arguments: e.Input, Result: e.Output, Latency: e.Latency, At: e.At, Extra: m}, client.Verdict{})
}

// Escalate implements mcpproxy.Trail.
func (s *spooledTrail) Escalate(ctx context.Context, e audit.Event) error {
	q := client.Question{ID: e.ID, Reason: e.Input, Text: e.Output, AgentID: e.AgentID, UserID: e.UserID,
		Metadata: map[string]any{}}
	if err := json.Unmarshal(e.Metadata, &q.Metadata); err != nil {
		return fmt.Errorf("read an escalation's metadata: %w", err)
	}
	q.To, _ = q.Metadata["konstruct.escalation.to"].(string)
	q.ConversationID, _ = q.Metadata["gen_ai.conversation.id"].(string)
	delete(q.Metadata, "konstruct.escalation.to")
	delete(q.Metadata, "gen_ai.conversation.id")
	_, err := s.client.Escalate(ctx, q)
	if errors.Is(err, client.ErrNoService) {
		return mcpproxy.ErrNobody
	}
	return err
}

// Await implements mcpproxy.Trail.
func (s *spooledTrail) Await(ctx context.Context, escalation uuid.UUID) (*mcpproxy.Resolution, error) {
	a, err := s.client.Await(ctx, escalation)
	if err != nil || !a.Answered {
		return nil, err
	}
	return &mcpproxy.Resolution{By: a.By, Decision: a.Decision}, nil
}

// Cancel implements mcpproxy.Trail.
func (s *spooledTrail) Cancel(ctx context.Context, escalation uuid.UUID, reason string) error {
	err := s.client.Cancel(ctx, escalation, reason)
	var refused *client.RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusConflict {
		return nil
	}
	return err
}

// lastDelivery is how long an ending proxy delivers what waits. The rest waits for the next one.
const lastDelivery = 2 * time.Second

// close moves the journal to the spool, and delivers for a short time.
func (s *spooledTrail) close() error {
	s.stop()
	s.running.Wait() // before the journal: it notes there what it has moved
	err := s.journal.Close()
	within, cancel := context.WithTimeout(context.Background(), lastDelivery)
	defer cancel()
	if taken := s.takeOver(within, s.dir); taken != nil {
		s.logger.Warn("events stay in the journal for the next proxy", "folder", s.dir, "error", taken)
		return err
	}
	if _, delivered := s.client.Deliver(within); delivered != nil && !errors.Is(delivered, client.ErrNoService) &&
		!errors.Is(delivered, client.ErrDelivering) {
		s.logger.Warn("events wait in the spool", "error", delivered)
	}
	return err
}
