package server

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/mcpproxy"
)

// mcpProxyPath is the path below which the configured MCP servers are, each by its name.
const mcpProxyPath = "/mcp/proxy/"

// credentialEvery is how often the credential of a long request is checked again.
const credentialEvery = 5 * time.Second

// weightMCP is the memory that a byte of an MCP frame needs: the frame, its arguments and the event's text.
const weightMCP = 3

// mcpProtocol is how the MCP proxy's requests are authenticated and refused.
func mcpProtocol() protocol {
	return protocol{prefix: mcpProxyPath, refuse: refuseMCP, bodySize: mcpproxy.MaxFrame, streams: true,
		bodyMemory: func(n int64) int64 { return n * weightMCP }}
}

// refuseMCP writes a problem as a JSON-RPC error without an id, as the protocol has it for what is wrong with the HTTP
// request. The code is the HTTP status: MCP has none for it, and reserves negative ones.
func refuseMCP(w http.ResponseWriter, _ *http.Request, p *Problem) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", // ignore the error: the client is gone
		"error": map[string]any{
			"code":    p.Status,
			"message": p.Detail,
			"data":    map[string]string{"request": p.Instance},
		}})
}

// mcpProxy registers the proxy of MCP servers.
func (s *Server) mcpProxy() error {
	for _, up := range s.c.MCPServers {
		if _, err := s.c.Konstruct.Trail().Spool(); err != nil && up.Spooled {
			return fmt.Errorf(`the MCP server %q has "record": "spool": %w`, up.Name, err)
		}
	}
	given := s.c.MCPSessionSecret
	if len(given) == 0 {
		given = []byte(rand.Text()) // of this process alone
	}
	secret := hmac.New(sha256.New, given)
	secret.Write([]byte("konstruct MCP sessions"))
	s.mcp = mcpproxy.NewHandler(s.c.MCPServers, secret.Sum(nil), s.logger)
	context.AfterFunc(s.stopping, s.mcp.Stop)
	s.mux.HandleFunc(mcpProxyPath+"{name}", s.serveMCP)
	return nil
}

// serveMCP passes a request to a configured MCP server.
func (s *Server) serveMCP(w http.ResponseWriter, r *http.Request) {
	who := principalOf(r.Context())
	if !who.Can(access.GatewayUse) { // a call uses the operator's credentials: more than to log one's own
		s.writeResponseProblem(w, r,
			problem(http.StatusForbidden, "permission denied: it needs %s", access.GatewayUse))
		return
	}
	up := s.mcp.Servers[r.PathValue("name")]
	if up == nil || !up.Serves(who.Tenant) {
		s.writeResponseProblem(
			w,
			r,
			problem(http.StatusNotFound, "there is no MCP server %.80q: the operator configures "+
				"them (KONSTRUCT_MCP_SERVERS_FILE)", r.PathValue("name")),
		)
		return
	}
	// Not through the compressor, which sends the head of a response with its first bytes only.
	w = watcherOf(r.Context())
	caller := mcpproxy.Caller{ID: who.Tenant.String() + " " + who.Credential.String(),
		Config: mcpproxy.Config{
			Decide:  s.tenant(who).ToolRules().Decide,
			Trail:   mcpTrail{s, who, up.Spooled},
			AgentID: who.Agent,
			Logger:  s.logger,
		},
		Admit: func(ctx context.Context, calls int) error {
			return s.meter.SetCapacity(ctx, who, access.Events, calls, "events")
		},
		Refuse: func(err error) { s.writeResponseProblem(w, r, s.errorResponse(r.Context(), err)) }}
	if who.Role != "" {
		caller.UserID = who.Name
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go s.watchCredential(ctx, r, cancel)
	s.mcp.Serve(w, r.WithContext(ctx), up, caller)
}

// watchCredential ends a long request whose credential is revoked or has expired.
func (s *Server) watchCredential(ctx context.Context, r *http.Request, end context.CancelFunc) {
	tick := time.NewTicker(credentialEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := s.authenticate(ctx, r); errors.Is(err, access.ErrUnauthenticated) {
				end()
				return
			}
		}
	}
}

// mcpTrail is the trail of a principal's tenant.
type mcpTrail struct {
	s       *Server
	who     access.Principal
	spooled bool
}

// errNotOnTrail means that an escalation is not on the trail, since the tenant's calls go on without it.
var errNotOnTrail = errors.New("the trail can't be written, so that nobody can be asked")

// Record implements mcpproxy.Trail.
func (t mcpTrail) Record(ctx context.Context, e audit.Event) error {
	agent := t.s.agent(t.who, e.AgentID)
	if t.spooled {
		agent = agent.Async()
	}
	id, err := agent.Log(ctx, e)
	if e.ID = id; err == nil {
		t.s.remember(t.who, e)
	}
	return err
}

// Escalate implements mcpproxy.Trail.
func (t mcpTrail) Escalate(ctx context.Context, e audit.Event) error {
	id, err := t.s.agent(t.who, e.AgentID).Log(ctx, e)
	if err == nil && id == uuid.Nil {
		err = errNotOnTrail
	}
	return err
}

// Await implements mcpproxy.Trail.
func (t mcpTrail) Await(ctx context.Context, escalation uuid.UUID) (*mcpproxy.Resolution, error) {
	c, err := t.s.tenant(t.who).Escalations().Wait(ctx, escalation, maxWait)
	if err != nil || c.State != audit.StateResolved {
		return nil, err
	}
	r := &mcpproxy.Resolution{}
	if c.ResolvedBy != nil {
		r.By = *c.ResolvedBy
	}
	if c.Decision != nil {
		r.Decision = *c.Decision
	}
	return r, nil
}

// Cancel implements mcpproxy.Trail.
func (t mcpTrail) Cancel(ctx context.Context, escalation uuid.UUID, reason string) error {
	_, err := t.s.tenant(t.who).Escalations().Resolve(ctx, escalation, t.who.Name, mcpproxy.Cancelled+reason)
	if errors.Is(err, audit.ErrResolved) {
		return nil
	}
	return err
}
