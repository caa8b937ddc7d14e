package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/konstruct/konstruct/server/httpwire"
)

// protocol says how requests below a path are authenticated and refused. The API itself is one; others have clients
// that send their credential elsewhere, compress bodies, and understand errors of another form only.
type protocol struct {
	prefix string // of the path; without a slash at its end it is the whole path
	// credential returns the key or token of a request, or a *Problem. Nil: Authorization with Bearer.
	credential func(*http.Request) (string, error)
	// refuse writes a problem in the protocol's own form. Nil: RFC 9457.
	refuse func(http.ResponseWriter, *http.Request, *Problem)
	// encodings are the accepted values of Content-Encoding beside identity.
	encodings []string
	// bodySize is the largest body in bytes; 0: as the API's operations.
	bodySize int64
	// bodyMemory returns the memory that a body of n bytes needs; nil: as the API's operations.
	bodyMemory func(n int64) int64
	// streams: responses have no time limit.
	streams bool
	// passes: responses are another service's, whose bytes stay as they are, and so is an Idempotency-Key.
	passes bool
	// resource: access tokens that the provider issued for the service's resource are accepted, too.
	resource bool
}

// protocols lists what this server speaks beside the public paths. A longer prefix comes before a shorter one.
func (s *Server) protocols() []protocol {
	all := append(s.otlpProtocols(), s.openAIProtocols()...)
	all = append(all, s.gatewayProtocols()...)
	return append(all, mcpProtocol(), s.mcpServerProtocol(), protocol{prefix: "/v1/"})
}

// protocolOf returns the protocol of a path, or nil for a public path.
func (s *Server) protocolOf(path string) *protocol {
	for i := range s.spoken {
		p := &s.spoken[i]
		if path == p.prefix || strings.HasSuffix(p.prefix, "/") && strings.HasPrefix(path, p.prefix) {
			return p
		}
	}
	return nil
}

// bearer returns the credential of a request that has one as Authorization: Bearer.
func bearer(r *http.Request) (string, error) {
	all := r.Header.Values("Authorization")
	if len(all) == 0 {
		return "", problem(http.StatusUnauthorized,
			"header.Authorization: it is missing: send Bearer and a key (kst_…)")
	}
	scheme, credential, _ := strings.Cut(all[0], " ")
	if len(all) > 1 || !strings.EqualFold(scheme, "Bearer") || credential == "" ||
		len(credential) > httpwire.MaxHeader/4 {
		return "", problem(http.StatusUnauthorized,
			"header.Authorization: it must be Bearer and one key (kst_…) or token")
	}
	return credential, nil
}

// accepts reports whether a body may have this Content-Encoding.
func (p *protocol) accepts(encoding string) bool {
	encoding = strings.ToLower(encoding)
	return encoding == "" || encoding == "identity" || p != nil && slices.Contains(p.encodings, encoding)
}
