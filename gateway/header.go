package gateway

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"github.com/konstruct/konstruct/audit"
)

// Headers of the gateway's own. They are not passed on.
const (
	// KeyHeader has the Konstruct key of a caller that sends its own key for the upstream.
	KeyHeader = "X-Konstruct-Key"
	// AgentHeader is the agent's id, UserHeader the user for whom it acts, ConversationHeader the conversation.
	AgentHeader        = "X-Konstruct-Agent"
	UserHeader         = "X-Konstruct-User"
	ConversationHeader = "X-Konstruct-Conversation"

	ownHeaders = "X-Konstruct-"
)

// keyPrefix begins Konstruct's keys.
const keyPrefix = "kst_"

// hopHeaders are of one connection (RFC 9110, 7.6.1).
var hopHeaders = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// requestHeaders returns the headers that are passed on: the caller's, without those of the connection, of proxies, and
// of Konstruct, and with the upstream's key.
func (x *exchange) requestHeaders() (http.Header, error) {
	h := x.r.Header.Clone()
	dropHops(h)
	for name := range h {
		if strings.HasPrefix(name, ownHeaders) || strings.HasPrefix(name, "X-Forwarded-") {
			delete(h, name)
		}
	}
	for _, name := range []string{"Cookie", "Origin", "Referer", "Forwarded", "Expect", "Content-Length", "Host"} {
		h.Del(name)
	}
	for name, values := range h { // a key of Konstruct's that is where none belongs
		if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, keyPrefix) }) {
			delete(h, name)
		}
	}
	key, err := x.up.key()
	if err != nil {
		return nil, err
	}
	if x.up.KeyFile != "" {
		h.Del("Authorization")
		h.Del("X-Api-Key")
		if x.up.API == Anthropic {
			h.Set("X-Api-Key", key)
		} else {
			h.Set("Authorization", "Bearer "+key)
		}
	} else if x.r.Header.Get(KeyHeader) == "" { // the caller's only credential is Konstruct's
		h.Del("Authorization")
		h.Del("X-Api-Key")
	}
	if h.Get("Authorization") == "" && h.Get("X-Api-Key") == "" {
		return nil, &Refusal{Status: http.StatusUnauthorized, Code: "invalid_api_key", Final: true,
			Message: "Upstream " + x.up.Name + " has no key here: send your own where your client sends keys, and " +
				"the Konstruct key (kst_…) in the header " + KeyHeader + "."}
	}
	if x.own != nil && x.own.number > 1 { // another request than the client's
		h.Del("Idempotency-Key")
	}
	if x.q.stream || x.own != nil {
		h.Set("Accept-Encoding", "identity") // so that the last event can be held
	} else if accepted := h.Values("Accept-Encoding"); len(accepted) > 0 {
		h.Set("Accept-Encoding", readable(accepted))
	}
	return h, nil
}

func dropHops(h http.Header) {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopHeaders {
		h.Del(name)
	}
}

// readable returns the encodings that a caller accepts and that the gateway can read, for the record.
func readable(accepted []string) string {
	var all []string
	for _, line := range accepted {
		for one := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(one), ";")
			if name = strings.ToLower(strings.TrimSpace(name)); name == "identity" || decodes(name) {
				all = append(all, strings.TrimSpace(one))
			}
		}
	}
	if len(all) == 0 {
		return "identity"
	}
	return strings.Join(all, ", ")
}

// originHeaders speak of the upstream's own address, and must not be said of this service's.
var originHeaders = []string{"Set-Cookie", "Strict-Transport-Security", "Alt-Svc", "Nel", "Report-To",
	"Reporting-Endpoints", "Content-Length", "Clear-Site-Data"}

// passHeaders sets the headers of an upstream's response.
func passHeaders(to, from http.Header) {
	from = from.Clone()
	dropHops(from)
	for _, name := range originHeaders {
		from.Del(name)
	}
	for name, values := range from {
		if !strings.HasPrefix(name, "Access-Control-") {
			to[name] = values
		}
	}
}

// context of a call, as its headers say.
type callContext struct {
	user, conversation, trace, parent string
	retries                           string
}

// readContext reads the headers that say for whom and in what run a call is.
func readContext(h http.Header) (c callContext, err error) {
	for _, f := range []struct {
		to   *string
		name string
	}{{&c.user, UserHeader}, {&c.conversation, ConversationHeader}} {
		v := h.Get(f.name)
		if _, bad := clean(v); bad || len(v) > audit.MaxName {
			return c, &Refusal{Status: http.StatusBadRequest, Code: "invalid_header", Final: true,
				Message: "The header " + f.name + " is UTF-8 text of at most 1024 bytes."}
		}
		*f.to = v
	}
	c.trace, c.parent = traceContext(h.Get("Traceparent"))
	if n := h.Get("X-Stainless-Retry-Count"); len(n) == 1 && n[0] > '0' && n[0] <= '9' {
		c.retries = n
	}
	return c, nil
}

// traceContext reads a traceparent (https://www.w3.org/TR/trace-context/). One that is not valid is none.
func traceContext(s string) (trace, parent string) {
	const size = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f := strings.SplitN(s, "-", 5)
	if len(s) < size || len(f) < 4 || len(f[0]) != 2 || f[0] == "ff" || len(f[1]) != 32 || len(f[2]) != 16 ||
		strings.ToLower(s) != s || strings.Trim(f[1], "0") == "" || strings.Trim(f[2], "0") == "" {
		return "", ""
	}
	for _, v := range f[1:3] {
		if _, err := hex.DecodeString(v); err != nil {
			return "", ""
		}
	}
	return f[1], f[2]
}
