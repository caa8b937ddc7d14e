package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/konstruct/konstruct/gateway"
)

// Hosts are the names of a service. Addresses and localhost are always accepted: a browser can't be tricked into
// sending one of them as Host by a page of another site, whose own name can resolve to any address (DNS rebinding).
type Hosts []string

// hostName matches a DNS name.
var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*$`)

// ParseHosts parses names separated by commas.
func ParseHosts(list string) (all Hosts, err error) {
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.ToLower(strings.TrimSpace(s)); s == "" {
			continue
		}
		if !hostName.MatchString(s) || len(s) > 253 {
			return nil, fmt.Errorf("%.100q is no host name: write it as audit.example.com, without a scheme or a port",
				s)
		}
		all = append(all, s)
	}
	return all, nil
}

// Known reports whether a request's Host is one of the names, with any port.
func (h Hosts) Known(host string) bool {
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "localhost" || slices.Contains(h, name) {
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// crossOrigin reports whether a request may come from another site's page: it has no header with a credential, which a
// page of another site can't send unasked, it has cookies, or the browser sent it as same-origin.
func crossOrigin(r *http.Request, sameOrigin bool) bool {
	return r.Header.Get("Authorization") == "" && r.Header.Get("X-Api-Key") == "" &&
		r.Header.Get(gateway.KeyHeader) == "" || r.Header.Get("Cookie") != "" || sameOrigin
}

// probes are open under any host name: they only say whether the service is up.
var probes = map[string]bool{"/healthz": true, "/readyz": true}

// misdirected returns the problem of a request for another service's host name.
func (s *Server) misdirected(r *http.Request, sameOrigin bool) *Problem {
	if probes[r.URL.Path] || !crossOrigin(r, sameOrigin) || s.c.Hosts.Known(r.Host) {
		return nil
	}
	return problem(http.StatusMisdirectedRequest,
		"header.Host: %.100q is not a name of this service: the operator lists them in KONSTRUCT_HOSTS", r.Host)
}
