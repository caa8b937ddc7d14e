// Package server is Konstruct's HTTP API: it authenticates, applies limits, calls the library and encodes responses. It
// must not decide what the library decides, and must not contain SQL.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/artifact"
	"github.com/konstruct/konstruct/files"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/mcpproxy"
	"github.com/konstruct/konstruct/mcpserver"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/server/httpwire"
	"github.com/konstruct/konstruct/tenantdb"
)

// Config configures a server.
type Config struct {
	Konstruct *konstruct.Konstruct // opened with Config.KeySecret
	Evidence  *tenantdb.Evidence   // for proofs, bundles and tiles; nil serves none
	// the anchor to compare with in verifications; nil skips the comparison
	Anchor        notary.Anchor
	Floor         int                   // least period of a retention rule in days, for verifications; 0 is none
	Compliance    *tenantdb.Compliance  // for erasures, holds and retention; nil serves none
	OIDC          *access.Authenticator // checks ID tokens; nil: API keys only
	Notary        *notary.Keys          // its public key is served; nil serves none
	DefaultLimits access.Limits         // of tenants without limits of their own; zero: access.DefaultLimits
	// Proxies are the trusted proxies, whose X-Forwarded-For and X-Forwarded-Proto are used.
	Proxies []netip.Prefix
	// Origins are the web sites whose pages may call the API (CORS).
	Origins []string
	// Hosts are the names of the service, beside localhost and addresses. A request without a key or token must use one
	// of them.
	Hosts Hosts
	// ReportWait is how long a log record of a model call waits for the call's span, so that both become one event. A
	// worker (konstruct.RunWorker with Further) must run: it logs those whose span does not come. 0: none waits.
	ReportWait time.Duration
	// RequestMemory bounds the memory of all request bodies together, in bytes; 0 is DefaultRequestMemory.
	RequestMemory int64
	// Gateway passes calls of language models on; nil serves none. Close it after the server.
	Gateway *gateway.Gateway
	// MCPServers are the servers of the Model Context Protocol to which clients are passed on. MCPSessionSecret binds
	// their sessions to principals; processes that share sessions share it.
	MCPServers       map[string]*mcpproxy.Upstream
	MCPSessionSecret []byte
	Version          string
	Logger           *slog.Logger
}

// Limits on requests.
const (
	maxJSON    = 1 << 20  // bytes of most bodies
	maxBatch   = 32 << 20 // bytes of a batch of events
	maxUpload  = 64 << 20 // bytes of a file in one request; larger ones are uploaded in pieces
	maxURL     = 8 << 10
	bodyTime   = 30 * time.Second
	uploadTime = 10 * time.Minute
	answerTime = 60 * time.Second // for most requests
	idleTime   = 2 * time.Minute
	// requests of all tenants together; more get 503, so that those in progress finish soon
	maxInFlight     = 128
	maxStreams      = 1024 // streams and downloads
	retryAfter      = time.Second
	drainTime       = 20 * time.Second
	maxTasksRunning = 4 // bundles, exports and verifications in progress
)

// Server serves the API. Close it before the databases in its Config.
type Server struct {
	c         Config
	keys      *access.Keys
	meter     *access.Meter
	quotas    *quotas
	replies   access.Replies
	artifacts artifact.Store
	files     files.Store
	trail     trailHealth
	api       huma.API
	mux       *http.ServeMux
	spoken    []protocol   // see protocols
	recent    *otel.Recent // calls that exports reported last
	// dropMetrics says once that OTLP's metrics are dropped.
	dropMetrics sync.Once
	refused     map[string]bool // patterns of the mux that only respond 404 or 405
	handler     http.Handler
	metrics     *metrics
	logger      *slog.Logger
	working     atomic.Int64 // requests in progress
	// streaming counts streams and downloads in progress.
	streaming   atomic.Int64
	makingTasks chan struct{} // semaphore of maxTasksRunning
	tasks       sync.Map      // the ids of the tasks that this process runs, or that wait for the semaphore

	background sync.WaitGroup
	lifetime   context.Context // of background work
	end        context.CancelFunc
	draining   atomic.Bool
	stopping   context.Context // ends when the server stops accepting requests
	stop       context.CancelFunc
	memory     *memoryBudget
	mcp        *mcpproxy.Handler
	tools      *mcpserver.Server
}

// New returns a server, and starts to listen for revoked keys.
func New(c Config) (*Server, error) {
	strictList()
	keys, err := c.Konstruct.Keys()
	if err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.DefaultLimits == (access.Limits{}) {
		c.DefaultLimits = access.DefaultLimits
	}
	door := c.Konstruct.Door()
	s := &Server{c: c, keys: keys, meter: access.NewMeter(door, c.DefaultLimits), replies: access.Replies{Door: door},
		artifacts: artifact.Store{Door: door}, files: files.Store{Door: door}, logger: c.Logger,
		makingTasks: make(chan struct{}, maxTasksRunning)}
	s.quotas = &quotas{s: s}
	s.meter.OnRefused(s.quotas.refused)
	s.memory = newMemoryBudget(cmp.Or(c.RequestMemory, DefaultRequestMemory))
	s.metrics = newMetrics(s)
	s.spoken, s.recent = s.protocols(), otel.NewRecent()
	if c.Gateway != nil {
		c.Gateway.SearchFiles(s.fileSearch())
		// A client that is instrumented too reports the same calls.
		c.Gateway.OnLogged(func(l gateway.Logged) {
			s.recent.Add(otel.Reporter{Tenant: l.Tenant, Agent: l.Bound}, otel.Call{Event: l.Event, Trace: l.Trace,
				Parent: l.Parent, Response: l.Response,
				Scope: gatewayScope, Embedding: l.Embedding, InputTokens: l.InputTokens,
				OutputTokens: l.OutputTokens, Begin: l.Begin, End: l.End, Reportable: true})
		})
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.lifetime, s.end = context.WithCancel(context.Background())
	s.background.Go(func() { keys.Listen(s.lifetime, s.logger, s.meter.Forget) })
	s.mux = http.NewServeMux()
	s.api = humago.New(s.mux, s.apiConfig())
	s.routes()
	if err := s.describe(); err != nil { // a programming error
		s.stop()
		s.end()
		return nil, err
	}
	s.publicRoutes()
	s.mcpServer()
	if err := s.mcpProxy(); err != nil {
		s.stop()
		s.end()
		return nil, err
	}
	s.handler = s.drainBody(s.protect(s.mux))
	return s, nil
}

// Handler returns the HTTP handler.
func (s *Server) Handler() http.Handler { return s.handler }

// OpenAPI returns the API description as JSON.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().MarshalJSON() }

// Close stops background work. Unfinished tasks are resumed by the next process that is asked for them.
func (s *Server) Close() {
	s.stop()
	s.mcp.Close()
	s.end()
	s.background.Wait()
}

// Listening configures how the server listens.
type Listening struct {
	Address string
	TLS     *tls.Config // nil is plain HTTP, for localhost or behind a proxy
	// Ready is called with the address once the server listens.
	Ready func(net.Addr)
	// HeaderTime is the timeout for a request's head; 0 is ten seconds.
	HeaderTime time.Duration
}

// Run serves until the context ends, and then finishes the requests in progress.
func (s *Server) Run(ctx context.Context, l Listening) error {
	raw, err := net.Listen("tcp", l.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", l.Address, err)
	}
	listener := httpwire.NewListener(raw, l.TLS)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(l.TLS == nil)
	h := &http.Server{Handler: s.handler, TLSConfig: listener.TLS, ReadHeaderTimeout: cmp.Or(l.HeaderTime,
		httpwire.HeaderTime), IdleTimeout: idleTime, MaxHeaderBytes: httpwire.MaxHeader, Protocols: protocols,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context {
			return s.lifetime
		},
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 128}}
	if l.Ready != nil {
		l.Ready(listener.Addr())
	}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.stop()
	s.draining.Store(true) // streams end, and /readyz reports it
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err = h.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("some requests were aborted after %s: %w", drainTime, err), h.Close())
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
