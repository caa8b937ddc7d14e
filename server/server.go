// Package server is Konstruct over HTTP: it authenticates, checks limits, calls the library and encodes the answer. It
// must not decide what the library decides, and holds no SQL.
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
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/server/httpwire"
	"github.com/konstruct/konstruct/tenantdb"
)

// Config says what is served, and to whom.
type Config struct {
	Konstruct *konstruct.Konstruct // with Config.KeySecret
	Evidence  *tenantdb.Evidence   // for proofs, bundles and tiles; nil serves none
	// where the last signed checkpoint is kept, for verifications; nil: they do not look
	Anchor        notary.Anchor
	Floor         int                   // below how many days no retention rule may go, for verifications; 0 is none
	Compliance    *tenantdb.Compliance  // for erasures, holds and retention; nil serves none
	OIDC          *access.Authenticator // whom an identity provider knows; nil: keys alone
	Notary        *notary.Keys          // whose public key is shown; nil shows none
	DefaultLimits access.Limits         // of tenants that have none of their own; zero: access.UsualLimits
	// Proxies are those whose X-Forwarded-For and X-Forwarded-Proto are believed.
	Proxies []netip.Prefix
	// Origins are web sites whose pages may ask, by CORS; none when empty.
	Origins []string
	// Hosts are the names of the service, beside localhost and addresses. Requests without a key or token must
	// come under one.
	Hosts Hosts
	// RequestMemory bounds what the bodies of all requests take together, in bytes; DefaultRequestMemory when zero.
	RequestMemory int64
	Version       string
	Logger        *slog.Logger
}

// Limits on what a stranger may send.
const (
	maxJSON    = 1 << 20  // bytes of most bodies
	maxBatch   = 32 << 20 // bytes of a batch of events
	maxUpload  = 64 << 20 // bytes of a file in one request; larger ones come in pieces
	maxURL     = 8 << 10
	bodyTime   = 30 * time.Second
	uploadTime = 10 * time.Minute
	answerTime = 60 * time.Second // for most requests
	idleTime   = 2 * time.Minute
	// requests of all tenants together; more are sent away, so that those in progress are answered soon
	maxInFlight     = 128
	maxStreams      = 1024 // streams and downloads
	retryAfter      = time.Second
	drainTime       = 20 * time.Second
	maxTasksRunning = 4 // bundles, exports and verifications made at the same time
)

// Server answers requests. Close it before what it was given.
type Server struct {
	c         Config
	keys      *access.Keys
	meter     *access.Meter
	replies   access.Replies
	artifacts artifact.Store
	trail     trailHealth
	api       huma.API
	mux       *http.ServeMux
	refused   map[string]bool // patterns of the mux that serve nothing
	handler   http.Handler
	metrics   *metrics
	logger    *slog.Logger
	working   atomic.Int64 // requests in progress
	// streaming are those whose answer goes on for as long as its caller likes.
	streaming   atomic.Int64
	makingTasks chan struct{} // room for maxWorkings

	background sync.WaitGroup
	lifetime   context.Context // of what goes on behind requests
	end        context.CancelFunc
	draining   atomic.Bool
	stopping   context.Context // ends when no more requests are taken
	stop       context.CancelFunc
	memory     *memoryBudget
}

// New returns a server, and begins to listen for revoked keys.
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
		artifacts: artifact.Store{Door: door}, logger: c.Logger, makingTasks: make(chan struct{}, maxTasksRunning)}
	s.memory = newMemoryBudget(cmp.Or(c.RequestMemory, DefaultRequestMemory))
	s.metrics = newMetrics(s)
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.lifetime, s.end = context.WithCancel(context.Background())
	s.background.Go(func() { keys.Listen(s.lifetime, s.logger, s.meter.Forget) })
	s.mux = http.NewServeMux()
	s.api = humago.New(s.mux, s.apiConfig())
	s.routes()
	if err := s.describe(); err != nil { // the program's own mistake
		s.stop()
		s.end()
		return nil, err
	}
	s.publicRoutes()
	s.handler = s.drainBody(s.protect(s.mux))
	return s, nil
}

// Handler answers requests.
func (s *Server) Handler() http.Handler { return s.handler }

// OpenAPI returns the description of the API, as JSON.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().MarshalJSON() }

// Close stops what goes on behind requests: files that were being made are left to the next process that is asked for
// them.
func (s *Server) Close() {
	s.stop()
	s.end()
	s.background.Wait()
}

// Listening is how a server is reached.
type Listening struct {
	Address string
	TLS     *tls.Config // nil is plain HTTP, for this machine alone or behind a proxy
	// Ready hears the address once it is listened on.
	Ready func(net.Addr)
	// HeaderTime is how long a request's head may take to come; ten seconds when zero.
	HeaderTime time.Duration
}

// Run serves until the context ends, and then answers what was begun before it returns.
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
	s.draining.Store(true) // streams end, and /readyz says so
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err = h.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("some requests were cut off after %s: %w", drainTime, err), h.Close())
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
