// Package mcpserver is Konstruct's server of the Model Context Protocol: a tenant's knowledge base and trail as tools,
// resources and prompts, over streamable HTTP and stdio, in the stateless revision (2026-07-28) and in those with
// sessions. A tool is the library's call by a principal, and an event on the trail. The package knows principals and
// what they may do; it must not know how they were authenticated, nor SQL.
package mcpserver

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// Config configures a server.
type Config struct {
	Konstruct *konstruct.Konstruct
	// Evidence is what verify_event reads; nil: the tool is not there. Anchor and Floor are as in verify.Options.
	Evidence *tenantdb.Evidence
	Anchor   verify.Anchor
	Floor    int
	// Verifying bounds the verifications of whole logs in progress; nil: any number.
	Verifying chan struct{}
	// Admit returns an error when a principal has used what it may of a resource; nil admits all.
	Admit func(ctx context.Context, who access.Principal, r access.Resource, n int) error
	// Recorded is called with the event of each call of a tool that is on the trail; nil: nobody is told.
	Recorded func(who access.Principal, e audit.Event)
	// Explain returns what a caller may read of an error: nothing of what is inside.
	Explain func(ctx context.Context, err error) string
	// Stopping ends when the server stops: waits end then, and say how far they came.
	Stopping context.Context
	// SessionSecret binds the sessions of older revisions to their credentials. Processes that share clients share it;
	// nil: drawn for this process.
	SessionSecret []byte
	Version       string
	Logger        *slog.Logger
}

// Versions are the revisions of the protocol that are served, newest first. The first is stateless. Older ones than
// these have batches, in which one request would be many.
var versions = []string{stateless, "2025-11-25", "2025-06-18"}

// stateless is the first revision without sessions: revisions are dates.
const stateless = "2026-07-28"

// Server serves tenants' principals. It is safe for concurrent use.
type Server struct {
	c       Config
	tools   []tool
	plain   *mcp.StreamableHTTPHandler // answers with JSON
	streams *mcp.StreamableHTTPHandler // answers with events, for progress
	calls   inFlight

	mu      sync.Mutex
	servers map[string]*mcp.Server // by what their principals may do
}

// New returns a server.
func New(c Config) *Server {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Stopping == nil {
		c.Stopping = context.Background()
	}
	if len(c.SessionSecret) == 0 {
		c.SessionSecret = []byte(rand.Text())
	}
	if c.Explain == nil {
		c.Explain = func(_ context.Context, err error) string { return err.Error() }
	}
	s := &Server{c: c, servers: map[string]*mcp.Server{}, calls: inFlight{all: map[callID]context.CancelFunc{}}}
	s.tools = s.allTools()
	forCaller := func(r *http.Request) *mcp.Server { return s.of(callOf(r.Context()).Principal) }
	// The API's own check of Host and Origin knows the service's names; the SDK's knows loopback addresses alone.
	options := mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true, DisableLocalhostProtection: true,
		MaxRequestBodyBytes: MaxFrame + 1, PropagateRequestCancellation: true}
	s.plain = mcp.NewStreamableHTTPHandler(forCaller, &options)
	options.JSONResponse = false
	s.streams = mcp.NewStreamableHTTPHandler(forCaller, &options)
	return s
}

// Needs lists the permissions of which each lets a principal use something here: they are the scopes of RFC 9728.
func (s *Server) Needs() (all []access.Permission) {
	for _, t := range s.tools {
		for _, p := range t.needs {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	slices.Sort(all)
	return all
}

// instructions say what every client's model should know.
const instructions = "Konstruct is a knowledge base and an audit trail. search finds passages of documents, " +
	"fetch reads " +
	"a document, cite gives a passage with its place, version and hash. log_event and escalate write to the trail, " +
	"timeline reads a run, and verify_event proves an event. Every call is recorded.\n\n" + frameRule

// of returns the server for what a principal may do.
func (s *Server) of(who access.Principal) *mcp.Server {
	key := ""
	for _, p := range who.Permissions() {
		key += string(p) + " "
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.servers[key]; have != nil {
		return have
	}
	if len(s.servers) >= maxServers {
		clear(s.servers)
	}
	made := s.build(who)
	s.servers[key] = made
	return made
}

// maxServers is how many sets of permissions are remembered.
const maxServers = 1000

// build makes the server of a principal: what it may not use is not there.
func (s *Server) build(who access.Principal) *mcp.Server {
	m := mcp.NewServer(&mcp.Implementation{Name: "konstruct", Title: "Konstruct", Version: s.c.Version},
		&mcp.ServerOptions{Instructions: instructions, SupportedProtocolVersions: versions, SetCacheable: setCacheable,
			Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{},
				Resources: &mcp.ResourceCapabilities{},
				Prompts:   &mcp.PromptCapabilities{}}})
	for _, t := range s.tools {
		if t.allows(who) {
			m.AddTool(t.definition, t.handle)
		}
	}
	for _, t := range s.templates() {
		if who.Can(t.needs) {
			m.AddResourceTemplate(t.definition, t.read)
		}
	}
	for _, p := range s.prompts() {
		if who.Can(p.needs) {
			m.AddPrompt(p.definition, p.get)
		}
	}
	m.AddReceivingMiddleware(s.receive)
	return m
}

// How long clients may keep lists, in milliseconds. What a list has depends on the principal.
const listTTL = 60_000

// setCacheable says that lists hold for a minute, and what was read for no time: each reading is an event.
func setCacheable(_ context.Context, req mcp.Request, c *mcp.Cacheable) {
	c.CacheScope = "private"
	switch req.(type) {
	case *mcp.ReadResourceRequest, *mcp.ListResourcesRequest:
	default:
		c.TTLMs = listTTL
	}
}
