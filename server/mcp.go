package server

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/mcpserver"
)

// mcpPath is where Konstruct's own MCP server is, and resourcePath where its metadata as a protected resource is (RFC
// 9728, 3.1): with and without the server's path behind it.
const (
	mcpPath      = "/mcp"
	resourcePath = "/.well-known/oauth-protected-resource"
)

// mcpScopes are what a client asks for at first; a tool that needs more says so.
var mcpScopes = []access.Permission{access.EventsRead, access.EventsWrite, access.KBRead}

// mcpServerProtocol is how requests to /mcp are authenticated and refused.
func (s *Server) mcpServerProtocol() protocol {
	return protocol{prefix: mcpPath, refuse: s.refuseMCPServer, bodySize: mcpserver.MaxFrame, streams: true,
		passes:   true,
		resource: true}
}

// refuseMCPServer writes a problem as a JSON-RPC error. Who has no credential learns where to get one.
func (s *Server) refuseMCPServer(w http.ResponseWriter, r *http.Request, p *Problem) {
	if p.Status == http.StatusUnauthorized {
		detail := ""
		if r.Header.Get("Authorization") != "" {
			detail = `error="invalid_token", `
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer %sresource_metadata="%s", scope="%s"`, detail,
			s.baseURL(r)+resourcePath+mcpPath, access.JoinPermissions(mcpScopes, " ")))
	}
	refuseMCP(w, r, p)
}

// baseURL returns the address by which a client reaches the service.
func (s *Server) baseURL(r *http.Request) string {
	if s.isTLS(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// mcpServer registers Konstruct's own MCP server and its metadata.
func (s *Server) mcpServer() {
	given := s.c.MCPSessionSecret
	if len(given) == 0 {
		given = []byte(rand.Text()) // of this process alone
	}
	secret := hmac.New(sha256.New, given)
	secret.Write([]byte("konstruct MCP server sessions"))
	s.tools = mcpserver.New(mcpserver.Config{Konstruct: s.c.Konstruct, Evidence: s.c.Evidence, Anchor: s.c.Anchor,
		Floor: s.c.Floor, Verifying: s.makingTasks, Stopping: s.stopping, SessionSecret: secret.Sum(nil),
		Version: s.c.Version, Logger: s.logger,
		Admit: func(ctx context.Context, who access.Principal, r access.Resource, n int) error {
			name := "events"
			if r == access.Searches {
				name = "searches"
			}
			return s.meter.SetCapacity(ctx, who, r, n, name)
		},
		Recorded: func(who access.Principal, e audit.Event) { s.remember(who, e) },
		Explain:  func(ctx context.Context, err error) string { return s.errorResponse(ctx, err).Detail }})
	s.mux.HandleFunc(mcpPath, s.serveMCPServer)
	s.mux.HandleFunc("GET "+resourcePath, s.protectedResource)
	s.mux.HandleFunc("GET "+resourcePath+mcpPath, s.protectedResource)
}

// ProtectedResource is the metadata of /mcp as a protected resource (RFC 9728).
type ProtectedResource struct {
	Resource      string              `json:"resource"`
	Servers       []string            `json:"authorization_servers,omitempty"`
	Scopes        []access.Permission `json:"scopes_supported"`
	Methods       []string            `json:"bearer_methods_supported"`
	Name          string              `json:"resource_name"`
	Documentation string              `json:"resource_documentation"`
}

// protectedResource says who issues tokens for /mcp.
func (s *Server) protectedResource(w http.ResponseWriter, r *http.Request) {
	p := ProtectedResource{Resource: s.baseURL(r) + mcpPath, Scopes: s.tools.Needs(), Methods: []string{"header"},
		Name: "Konstruct", Documentation: "https://github.com/konstruct/konstruct/blob/main/docs/mcp.md"}
	if s.c.OIDC != nil {
		p.Servers = []string{s.c.OIDC.Issuer()}
		if named := s.c.OIDC.Resource(); named != "" {
			p.Resource = named
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // ignore the error: the client is gone
}

// serveMCPServer serves a request to /mcp.
func (s *Server) serveMCPServer(w http.ResponseWriter, r *http.Request) {
	who := principalOf(r.Context())
	caller, err := mcpCaller(who, r.Header)
	if err != nil {
		s.writeResponseProblem(w, r, s.errorResponse(r.Context(), err))
		return
	}
	life, end := context.WithCancel(r.Context())
	defer end()
	revoked, revoke := context.WithCancel(context.WithoutCancel(r.Context()))
	defer revoke()
	go s.watchCredential(life, r, revoke)
	caller.Life = revoked
	s.tools.ServeHTTP(w, r, caller, func(lacks *mcpserver.PermissionError, id json.RawMessage) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(
			`Bearer error="insufficient_scope", scope="%s", resource_metadata="%s", error_description="%s"`,
			access.JoinPermissions(lacks.Needs, " "), s.baseURL(r)+resourcePath+mcpPath, lacks.Error()))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		refused := mcpserver.FrameError{Code: http.StatusForbidden, ID: id, Reason: lacks.Error()}
		_, _ = w.Write(refused.Frame()) // ignore the error: the client is gone
	})
}

// mcpCaller returns who calls: the principal, and what the headers say beside it, as those of the gateway do.
func mcpCaller(who access.Principal, h http.Header) (c mcpserver.Caller, err error) {
	c = mcpserver.Caller{Principal: who, Transport: "tcp", AgentID: who.Agent}
	if given := h.Get(gateway.AgentHeader); given != "" {
		id, err := uuid.Parse(given)
		if err != nil {
			return c, fieldProblem("header."+gateway.AgentHeader, "it is not a UUID")
		}
		if c.AgentID, err = agentID(who, &id, "header."+gateway.AgentHeader); err != nil {
			return c, err
		}
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{gateway.UserHeader, &c.UserID}, {gateway.ConversationHeader, &c.Conversation}} {
		v := h.Get(f.name)
		if reason := unstorable(v); reason != "" || len(v) > audit.MaxName {
			return c, fieldProblem("header."+f.name, fmt.Sprintf("it is UTF-8 text of at most %d bytes", audit.MaxName))
		}
		*f.to = v
	}
	if who.Role != "" { // a person speaks for nobody else
		c.UserID = who.Name
	}
	return c, nil
}
