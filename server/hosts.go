package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Hosts are the names by which a service is reached. An address, and localhost, always are: a browser that has a
// page of another site can't be brought to send one of those, while the site can let its own name lead anywhere
// (DNS rebinding).
type Hosts []string

// hostName is a name as DNS has them.
var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*$`)

// ParseHosts reads names, separated by commas.
func ParseHosts(list string) (all Hosts, err error) {
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.ToLower(strings.TrimSpace(s)); s == "" {
			continue
		}
		if !hostName.MatchString(s) || len(s) > 253 {
			return nil, fmt.Errorf("%.100q is no name: write it as audit.example.com, without a scheme or a port", s)
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

// crossOrigin reports whether a request may come from a page whose site has no say here: it has no credential that only
// its sender knows, or a browser says that a page of this very name sent it.
func crossOrigin(r *http.Request, sameOrigin bool) bool {
	return r.Header.Get("Authorization") == "" || r.Header.Get("Cookie") != "" || sameOrigin
}

// probes are what anybody may ask by any name: they say no more than that the service is there.
var probes = map[string]bool{"/healthz": true, "/readyz": true}

// misdirected says that a request names another service.
func (s *Server) misdirected(r *http.Request, sameOrigin bool) *Problem {
	if probes[r.URL.Path] || !crossOrigin(r, sameOrigin) || s.c.Hosts.Known(r.Host) {
		return nil
	}
	return problem(http.StatusMisdirectedRequest,
		"header.Host: %.100q is no name of this service: the operator lists them in KONSTRUCT_HOSTS", r.Host)
}
