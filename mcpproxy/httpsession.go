package mcpproxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// bind returns the session id that a client gets for a server's: a client can't use another one's.
func (h *Handler) bind(server, caller, id string) string {
	return id + "." + h.mark(server, caller, id)
}

func (h *Handler) mark(server, caller, id string) string {
	m := hmac.New(sha256.New, h.Secret)
	for _, part := range []string{server, caller, id} {
		fmt.Fprintf(m, "%d:%s", len(part), part)
	}
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:18])
}

func (h *Handler) unbind(server, caller, bound string) (id string, ok bool) {
	end := strings.LastIndexByte(bound, '.')
	if end < 1 || len(bound) > maxSessionID {
		return "", false
	}
	id = bound[:end]
	return id, hmac.Equal([]byte(bound[end+1:]), []byte(h.mark(server, caller, id)))
}

// session returns what is known of a session, and makes it where this process has not seen it yet.
func (h *Handler) session(key sessionKey, c Config) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[key]; s != nil {
		s.used = time.Now()
		return s.Session
	}
	h.makeRoom(key.caller)
	s := &httpSession{NewSession(c, key.id), time.Now()}
	h.sessions[key] = s
	return s.Session
}

// makeRoom forgets sessions that are idle, and the one that was idle longest if there are too many. The caller holds
// mu.
func (h *Handler) makeRoom(caller string) {
	var oldest, own sessionKey
	mine := 0
	for key, s := range h.sessions {
		switch {
		case time.Since(s.used) > sessionIdle && s.Pending() == 0:
			delete(h.sessions, key)
			continue
		case h.sessions[oldest] == nil || s.used.Before(h.sessions[oldest].used):
			oldest = key
		}
		if key.caller == caller {
			if mine++; h.sessions[own] == nil || s.used.Before(h.sessions[own].used) {
				own = key
			}
		}
	}
	drop := own
	if mine < maxCallerSessions {
		if drop = oldest; len(h.sessions) < maxSessions {
			return
		}
	}
	if s := h.sessions[drop]; s != nil {
		delete(h.sessions, drop)
		go s.End(errNoResponse)
	}
}

// adopt keeps a session that a server has begun, and returns the id that the client gets.
func (h *Handler) adopt(server string, c Caller, id string, s *Session) (bound string, ok bool) {
	bound = h.bind(server, c.ID, id)
	if len(bound) > maxSessionID {
		return "", false
	}
	s.mu.Lock()
	s.id = id
	if s.conversation == "" {
		s.conversation = plain(id, maxName)
	}
	s.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	key := sessionKey{server, c.ID, id}
	if h.sessions[key] == nil {
		h.makeRoom(c.ID)
		h.sessions[key] = &httpSession{s, time.Now()}
	}
	return bound, true
}

// end forgets a session that the client or the server has ended.
func (h *Handler) end(key sessionKey) {
	h.mu.Lock()
	s := h.sessions[key]
	delete(h.sessions, key)
	h.mu.Unlock()
	if s != nil {
		s.End(errSessionEnd)
	}
}
