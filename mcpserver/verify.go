package mcpserver

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/verify"
)

type verifyArguments struct {
	ID    string `json:"id" min:"1" max:"200" jsonschema:"the event's"`
	Whole bool   `json:"whole_log,omitempty" jsonschema:"verify every event of the trail, too: it may take minutes"`
	conversation
}

type verified struct {
	ID         uuid.UUID `json:"id"`
	Verified   bool      `json:"verified" jsonschema:"the event is as it was recorded, and in the signed log"`
	Waiting    bool      `json:"waiting,omitempty" jsonschema:"it is sealed, and enters the signed log within a minute"`
	Problem    string    `json:"problem,omitempty" jsonschema:"what does not hold"`
	LeafHash   string    `json:"leaf_hash"`
	RecordedAt time.Time `json:"recorded_at,omitzero" jsonschema:"by the database's clock"`
	LeafIndex  int64     `json:"leaf_index"`
	LogSize    int64     `json:"log_size"`
	Checkpoint string    `json:"checkpoint,omitempty" jsonschema:"a signed note (C2SP tlog-checkpoint)"`
	Log        *wholeLog `json:"log,omitempty"`
}

type wholeLog struct {
	Verified bool     `json:"verified"`
	Events   int64    `json:"events"`
	Problems []string `json:"problems,omitempty" jsonschema:"the first ones"`
}

// maxProblems is how many problems of a log are named.
const maxProblems = 20

func (s *Server) verifyTool() tool {
	t := newTool("verify_event", "Verify an event",
		"Recomputes an event's hash from what is stored, compares it with its seal, proves that the log has it, "+
			"and verifies the notary's signature of the log. With whole_log it does so for every event.", reads,
		func(ctx context.Context, c *call, in verifyArguments) (verified, error) {
			id, err := givenID("id", in.ID, "events")
			if err != nil {
				return verified{}, err
			}
			out, err := c.verifyEvent(ctx, id)
			if err == nil && in.Whole {
				out.Log, err = c.verifyLog(ctx)
			}
			if err == nil {
				c.summary = out
			}
			return out, err
		}, access.EvidenceRead)
	t.long = true
	return t
}

func (c *call) verifyEvent(ctx context.Context, id uuid.UUID) (out verified, err error) {
	e, err := c.tenant().Events().Get(ctx, id)
	if err == nil && !c.Principal.Sees(e.AgentID) {
		err = audit.ErrNotFound
	}
	if err != nil {
		return out, err
	}
	check, err := verify.CheckEvent(ctx, c.s.c.Evidence, c.Principal.Tenant, id, func(done int, what string) {
		if c.progress != nil {
			c.progress(float64(done), verify.Steps, what)
		}
	})
	if err != nil {
		return out, err
	}
	return verified{ID: id, Verified: check.OK(), Waiting: check.Waiting, Problem: check.Problem,
		LeafHash: hex.EncodeToString(check.Leaf[:]), RecordedAt: check.RecordedAt, LeafIndex: check.Index,
		LogSize:    check.Size,
		Checkpoint: check.Note}, nil
}

// errManyAgents refuses the whole log to who sees one agent's events only.
var errManyAgents = errors.New(
	"permission denied: the log has events of several agents, and this key sees one agent's only")

// verifyLog verifies every event of the tenant.
func (c *call) verifyLog(ctx context.Context) (*wholeLog, error) {
	if c.Principal.Agent != uuid.Nil {
		return nil, errManyAgents
	}
	if room := c.s.c.Verifying; room != nil {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	out := &wholeLog{}
	base, last := float64(verify.Steps), time.Now()
	var reached map[string]int64
	o := verify.Options{Tenant: &c.Principal.Tenant, Anchor: c.s.c.Anchor, Floor: c.s.c.Floor,
		OnFinding: func(f verify.Finding) {
			if len(out.Problems) < maxProblems {
				out.Problems = append(out.Problems, f.Problem)
			}
		}}
	if c.progress != nil {
		reached = map[string]int64{}
		o.Progress = func(what string, done, total int64) { // progress only rises, whatever is read
			if reached[what] = done; time.Since(last) < progressEvery {
				return
			}
			last = time.Now()
			var sum int64
			for _, n := range reached {
				sum += n
			}
			c.progress(base+float64(sum), 0, "reading "+what)
		}
	}
	r, err := verify.Run(ctx, c.s.c.Evidence, o)
	if err != nil {
		return nil, err
	}
	out.Verified, out.Events = r.OK(), r.Leaves
	return out, nil
}

// progressEvery is how often a client is told how far a call came.
const progressEvery = 200 * time.Millisecond

// allTools returns the tools of every principal.
func (s *Server) allTools() []tool {
	all := []tool{s.searchTool(), s.fetchTool(), s.listTool(), s.citeTool(), s.logTool(), s.escalateTool(),
		s.checkTool(),
		s.timelineTool()}
	if s.c.Evidence != nil {
		all = append(all, s.verifyTool())
	}
	return all
}
