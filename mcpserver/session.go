package mcpserver

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/pgtext"
)

// session is what the older revisions say once, when they begin: who the client is. The server keeps nothing of it. A
// session's id holds it, bound to the credential, so any process serves the next request.
type session struct {
	Name    string `json:"n,omitempty"`
	Version string `json:"v,omitempty"`
	Nonce   string `json:"i"`
}

// Limits on what a session's id holds, and on the id, in bytes.
const (
	maxClientName = 200
	maxSession    = 1 << 10
)

// beginSession returns a new session's id.
func (s *Server) beginSession(who access.Principal, client implementation) (string, error) {
	raw, err := json.Marshal(session{pgtext.Head(client.Name, maxClientName), pgtext.Head(client.Version,
		maxClientName),
		rand.Text()[:markSize]})
	if err != nil {
		return "", fmt.Errorf("begin a session: %w", err)
	}
	said := base64.RawURLEncoding.EncodeToString(raw)
	return said + "." + s.mark(who, said), nil
}

// mark binds a session to a tenant and a credential.
func (s *Server) mark(who access.Principal, said string) string {
	m := hmac.New(sha256.New, s.c.SessionSecret)
	fmt.Fprintf(m, "konstruct mcp session\n%s\n%s\n%s", who.Tenant, who.Credential, said)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:18])
}

// readSession returns what a session's id holds; false for one of another credential or service.
func (s *Server) readSession(who access.Principal, id string) (implementation, bool) {
	said, mark, _ := strings.Cut(id, ".")
	if len(id) > maxSession || !hmac.Equal([]byte(mark), []byte(s.mark(who, said))) {
		return implementation{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(said)
	var one session
	if err != nil || json.Unmarshal(raw, &one) != nil {
		return implementation{}, false
	}
	return implementation{one.Name, one.Version}, true
}

// callID names a request of a session in progress.
type callID struct{ session, request string }

// inFlight are the requests of sessions in progress, so that another request can cancel one. It is this process's: a
// cancellation that reaches another process does nothing, and the request ends by its own limit.
type inFlight struct {
	mu  sync.Mutex
	all map[callID]context.CancelFunc
}

// begin notes a request until end is called.
func (f *inFlight) begin(id callID, cancel context.CancelFunc) (end func()) {
	if id.session == "" || id.request == "" {
		return func() {}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[id] != nil { // an id in use: the client can't mean both
		return func() {}
	}
	f.all[id] = cancel
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.all, id)
	}
}

// cancel ends a request.
func (f *inFlight) cancel(id callID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end := f.all[id]; end != nil {
		end()
	}
}
