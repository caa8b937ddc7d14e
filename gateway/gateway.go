// Package gateway passes calls of language models on to the vendors' APIs, byte for byte, and logs each call on the
// trail before its caller has all of the response. It knows the vendors' APIs and audit's events; it must not know how
// callers are authenticated, nor SQL.
package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// Gateway passes calls on. It is safe for concurrent use.
type Gateway struct {
	upstreams []*upstream
	prices    map[string]Price
	trail     *audit.Trail
	logger    *slog.Logger
	transport *http.Transport
	firstByte time.Duration
	idle      time.Duration
	budgets   *budgets
	refusals  *refusals
	buffers   sync.Pool
	active    sync.WaitGroup // calls in progress
	logged    func(Logged)
	files     *FileSearch // nil: file_search is the upstream's
}

// Logged is a call that is on the trail.
type Logged struct {
	Tenant, Event uuid.UUID
	Bound         uuid.UUID // the agent that the caller's credential is bound to
	Trace, Parent string    // of the caller's trace, in hex; empty: none
	Response      string    // the vendor's id of it
	Embedding     bool
	InputTokens   int64 // negative: not told
	OutputTokens  int64
	Begin, End    time.Time
}

// OnLogged calls f with each call once it is on the trail. Set it before the gateway serves.
func (g *Gateway) OnLogged(f func(Logged)) { g.logged = f }

// readSize is how many bytes of a response are read at once, and how many bytes a head may have.
const (
	readSize = 32 << 10
	maxHead  = 64 << 10
)

// New returns a gateway that logs on a trail. It reads the keys of upstreams, and again when their files change. Nil
// for logger is slog.Default().
func New(c Config, trail *audit.Trail, logger *slog.Logger) (*Gateway, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.Default()
	}
	dialer := &net.Dialer{Timeout: time.Duration(c.ConnectTimeout), KeepAlive: 30 * time.Second}
	g := &Gateway{prices: c.Prices, trail: trail, logger: logger, firstByte: time.Duration(c.FirstByteTimeout),
		idle: time.Duration(c.IdleTimeout),
		// Bytes are passed on as they are, and redirects are not followed.
		transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext,
			TLSHandshakeTimeout: time.Duration(c.ConnectTimeout), ForceAttemptHTTP2: true, DisableCompression: true,
			MaxIdleConns: 1024, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: maxHead, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
	g.buffers.New = func() any { b := make([]byte, readSize); return &b }
	g.budgets, g.refusals = newBudgets(trail), newRefusals(trail, logger)
	for _, u := range c.Upstreams {
		own := &upstream{Upstream: u}
		if _, err := own.key(); err != nil {
			return nil, fmt.Errorf("gateway: upstream %s: %w", u.Name, err)
		}
		g.upstreams = append(g.upstreams, own)
	}
	return g, nil
}

// Close waits until the calls in progress are logged, logs the refusals that are not logged yet, and closes idle
// connections. Close it after what serves, and before the trail.
func (g *Gateway) Close() {
	g.active.Wait()
	g.refusals.close()
	g.transport.CloseIdleConnections()
}

// Caller is who calls, as far as the trail names it.
type Caller struct {
	Tenant uuid.UUID
	Agent  uuid.UUID
	Bound  uuid.UUID // the agent that the credential is bound to; zero: any
}

// Call is a request of an authenticated caller.
type Call struct {
	Operation Operation
	Caller    Caller
	Body      []byte
	// Release is called once the body's memory is free, perhaps again later. Nil does nothing.
	Release func()
	// Stopping ends when the service stops; calls that end then did not end by their client. Nil never ends.
	Stopping context.Context
}

// upstream is an upstream with its key.
type upstream struct {
	Upstream

	mu      sync.Mutex
	value   string
	changed time.Time // of the key's file
	looked  time.Time
}

// keyRefresh is how often a key's file is looked at, and maxKeyFile is its size in bytes.
const (
	keyRefresh = 5 * time.Second
	maxKeyFile = 16 << 10
)

// key returns the upstream's key; empty where callers send their own. A file that can't be read any more leaves the key
// as it was.
func (u *upstream) key() (string, error) {
	if u.KeyFile == "" {
		return "", nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.looked) < keyRefresh {
		return u.value, nil
	}
	u.looked = time.Now()
	st, err := os.Stat(u.KeyFile)
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxKeyFile) {
		err = fmt.Errorf("key_file: %s is no file of at most %d bytes", u.KeyFile, maxKeyFile)
	}
	if err == nil && st.ModTime().Equal(u.changed) {
		return u.value, nil
	}
	var raw []byte
	if err == nil {
		raw, err = readFile(u.KeyFile)
	}
	key := strings.TrimSpace(string(raw))
	if err == nil && (key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })) {
		err = fmt.Errorf("key_file: %s holds no key: it is one line of visible ASCII characters", u.KeyFile)
	}
	if err != nil {
		if u.value != "" {
			return u.value, nil
		}
		return "", err
	}
	u.value, u.changed = key, st.ModTime()
	return key, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}
