package mcpproxy_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/mcpproxy"
)

const askAboutRemove = `{"tools":[{"tool":"remove","action":"ask","to":"ops","reason":"it deletes","within":"20s"}]}`

func TestADeniedCallNeverReachesTheServer(t *testing.T) {
	for _, revision := range revisions[:2] {
		file := t.TempDir() + "/ran"
		p := startProxy(
			t,
			"server",
			withRules(t, `{"tools":[{"server":"test","tool":"remove","arguments":{"/text":"*.db"},
			"action":"deny","reason":"databases stay"}]}`),
		)
		s := p.connect(t, revision, nil)
		r := call(t, s, "remove", map[string]any{"text": "a.db", "file": file})
		if !r.IsError || !strings.Contains(textOf(r), "databases stay") {
			t.Errorf("%s: %+v", revision, r)
		}
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the tool ran", revision)
		}
		if got := textOf(call(t, s, "remove", map[string]any{"text": "a.txt", "file": file})); got != "removed a.txt" {
			t.Errorf("%s: %s", revision, got)
		}
		all := p.trail.recorded()
		m := metadata(t, all[0])
		if len(all) != 2 || m["error.type"] != "denied" || m["tool_rule.action"] != "deny" ||
			!strings.Contains(all[0].Output, "databases stay") || !strings.Contains(all[0].Input, "a.db") {
			t.Errorf("%s: %d events, %s %v", revision, len(all), all[0].Output, m)
		}
	}
}

func TestAPersonsAnswerDecides(t *testing.T) {
	for _, c := range []struct {
		answer  string
		allowed bool
	}{{"approved", true}, {"Allow, but only once", true}, {"yes", true}, {"deny", false}, {"allowance is over", false},
		{"no", false}, {"looks fine to me", false}} {
		p := startProxy(t, "server", withRules(t, askAboutRemove))
		s := p.connect(t, "", nil)
		var result *mcp.CallToolResult
		var waiting sync.WaitGroup
		waiting.Go(func() { result = call(t, s, "remove", map[string]any{"text": "a"}) })
		if got := textOf(call(t, s, "echo", map[string]any{"text": "meanwhile"})); got != "meanwhile" {
			t.Errorf("another call said %q", got)
		}
		id := p.trail.resolve(t, c.answer)
		waiting.Wait()
		if result.IsError == c.allowed {
			t.Errorf("%q: %s", c.answer, textOf(result))
		}
		if !c.allowed && !strings.Contains(textOf(result), "ada denied it: "+c.answer) {
			t.Errorf("%q: %s", c.answer, textOf(result))
		}
		all := p.trail.recorded()
		m := metadata(t, all[len(all)-1])
		if m["tool_approval.by"] != "ada" || m["tool_approval.words"] != c.answer ||
			m["tool_approval.escalation_id"] != id.String() || (m["tool_approval.decision"] == "allow") != c.allowed {
			t.Errorf("%q: %v", c.answer, m)
		}
		var escalation audit.Event
		for _, e := range all {
			if e.Action == audit.ActionEscalation {
				escalation = e
			}
		}
		if escalation.Input != "it deletes" || !strings.Contains(escalation.Output, `{"text":"a"}`) ||
			metadata(t, escalation)["konstruct.escalation.to"] != "ops" {
			t.Errorf("%s %s %s", escalation.Input, escalation.Output, escalation.Metadata)
		}
	}
}

func TestAnApprovedCallIsAskedAboutOnceInAllItsRounds(t *testing.T) {
	p := startProxy(t, "server", withRules(t, `{"tools":[{"tool":"confirm","action":"ask","within":"20s"}]}`))
	s := p.connect(t, "", &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept"}, nil
		}})
	go p.trail.resolve(t, "allow")
	if got := textOf(call(t, s, "confirm", map[string]any{"text": "x"})); got != "confirmed" {
		t.Fatalf("the tool said %q", got)
	}
	all := p.trail.recorded() // the escalation, and two rounds
	if last := metadata(t, all[len(all)-1]); len(all) != 3 || last["tool_approval.before"] != true ||
		last["tool_approval.by"] != "ada" {
		t.Errorf("%d events: %v", len(all), last)
	}
}

func TestAWaitEnds(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		p := startProxy(t, "server", withRules(t, `{"tools":[{"tool":"remove","action":"ask","within":"1s"}]}`))
		r := call(t, p.connect(t, "", nil), "remove", nil)
		all := p.trail.recorded()
		if !r.IsError || !strings.Contains(textOf(r), "nobody answered within 1s") ||
			metadata(t, all[1])["tool_approval.decision"] != "expired" ||
			p.trail.closed[all[0].ID] != "nobody answered within 1s" {
			t.Errorf("%s %s %v", textOf(r), all[1].Metadata, p.trail.closed)
		}
	})
	t.Run("and the rule lets it pass", func(t *testing.T) {
		p := startProxy(t, "server",
			withRules(t, `{"tools":[{"tool":"remove","action":"ask","within":"1s","otherwise":"allow"}]}`))
		if r := call(t, p.connect(t, "", nil), "remove", map[string]any{"text": "b"}); textOf(r) != "removed b" {
			t.Errorf("%s", textOf(r))
		}
	})
	t.Run("where nobody can be asked", func(t *testing.T) {
		p := startProxy(t, "server", withRules(t, askAboutRemove))
		p.trail.nobody = true
		r := call(t, p.connect(t, "", nil), "remove", nil)
		if !r.IsError || !strings.Contains(textOf(r), "nobody can be asked") {
			t.Errorf("%s", textOf(r))
		}
	})
	t.Run("by the client's cancellation", func(t *testing.T) {
		for _, revision := range revisions[:2] {
			p := startProxy(t, "server", withRules(t, askAboutRemove))
			s := p.connect(t, revision, nil)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				p.trail.wait(t, 1)
				cancel()
			}()
			if _, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "remove"}); err == nil {
				t.Error("a cancelled call has a result")
			}
			all := p.trail.wait(t, 2)
			if m := metadata(t, all[1]); m["error.type"] != "cancelled" || m["tool_approval.decision"] != "cancelled" {
				t.Errorf("%s: %v", revision, m)
			}
		}
	})
	t.Run("by the client's leaving", func(t *testing.T) {
		p := startProxy(t, "server", withRules(t, askAboutRemove))
		p.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"remove"}}`+"\n")
		p.trail.wait(t, 1)
		p.in.Close()
		line, _ := p.lines().ReadString('\n') // for a client that closed one direction only
		all := p.trail.wait(t, 2)
		if p.exit(t); metadata(t, all[1])["error.type"] != "client_left" || !strings.Contains(line, `"isError":true`) {
			t.Errorf("%s %s", all[1].Metadata, line)
		}
	})
}

func TestAWaitingCallReportsProgress(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for six seconds")
	}
	progress := make(chan *mcp.ProgressNotificationParams, 10)
	p := startProxy(t, "server", withRules(t, askAboutRemove))
	s := p.connect(t, "", &mcp.ClientOptions{ProgressNotificationHandler: func(_ context.Context,
		r *mcp.ProgressNotificationClientRequest) {
		progress <- r.Params
	}})
	var escalation uuid.UUID
	go func() {
		escalation = p.trail.wait(t, 1)[0].ID
		n := <-progress
		if n.ProgressToken != "t1" || !strings.Contains(n.Message, escalation.String()) || n.Progress <= 0 {
			t.Errorf("%+v", n)
		}
		p.trail.resolve(t, "allow")
	}()
	params := &mcp.CallToolParams{Name: "remove", Arguments: map[string]any{"text": "c"}}
	params.SetProgressToken("t1")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if r, err := s.CallTool(ctx, params); err != nil || textOf(r) != "removed c" {
		t.Errorf("%v %v", r, err)
	}
}

func TestAResultThatCannotBeRecordedIsWithheld(t *testing.T) {
	p := startProxy(t, "server")
	s := p.connect(t, "", nil)
	p.trail.mu.Lock()
	p.trail.fails = errors.New("the disk is full")
	p.trail.mu.Unlock()
	_, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "secret"}})
	if err == nil || !strings.Contains(err.Error(), "the disk is full") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if _, err := s.ListTools(t.Context(), nil); err != nil {
		t.Errorf("what is not recorded fails too: %v", err)
	}
}

func TestABatchPassesAsAWholeOrNotAtAll(t *testing.T) {
	const two = `[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":"a","method":"tools/call",` +
		`"params":{"name":"remove"}},{"jsonrpc":"2.0","method":"notifications/x"}]` + "\n"
	p := startProxy(t, "mirror")
	lines := p.lines()
	p.send(t, two, `[{"jsonrpc":"2.0","id":"a","result":{}},{"jsonrpc":"2.0","id":1,"result":{}}]`+"\n")
	for range 2 {
		if line, err := lines.ReadString('\n'); err != nil || line[0] != '[' {
			t.Fatalf("%s %v", line, err)
		}
	}
	if all := p.trail.wait(t, 1); metadata(t, all[0])["jsonrpc.request.id"] != "a" {
		t.Errorf("%s", all[0].Metadata)
	}
	p = startProxy(t, "mirror", withRules(t, `{"tools":[{"tool":"remove","action":"deny"}]}`))
	p.send(t, two)
	line, err := p.lines().ReadString('\n')
	if err != nil || !strings.HasPrefix(line, `[{"jsonrpc":"2.0","id":1,"error":{"code":-32600`) ||
		!strings.Contains(line, `"id":"a","result":{"content"`) || strings.Contains(line, "notifications/x") {
		t.Errorf("%s %v", line, err)
	}
}

var _ mcpproxy.Trail = (*trail)(nil)
