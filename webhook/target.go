package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"code.dny.dev/ssrf"
)

// Limits on a target. attemptTime is that of a whole attempt, however slowly the target sends.
const (
	attemptTime = 15 * time.Second
	dialTime    = 5 * time.Second
	maxHeaders  = 64 << 10
	maxResponse = 4 << 10 // bytes of a response's body that are read; the connection is closed where there are more
	maxIdle     = 2       // connections of a target
)

// ports are those of public targets.
var ports = []uint16{443, 8443}

// errPrivate is what is told of addresses that are not connected to. A name that does not exist is told alike: the
// difference would tell which names there are inside.
var errPrivate = errors.New("it has no public address on port 443 or 8443")

// targets connects to the URLs of endpoints: to public addresses, and to the operator's allowed networks.
type targets struct {
	http  *http.Client
	guard *ssrf.Guardian
	allow []netip.Prefix
}

func newTargets(resolver *net.Resolver, allow []netip.Prefix) *targets {
	t := &targets{guard: ssrf.New(ssrf.WithPorts(ports...)), allow: allow}
	// Control checks the address of each connection, whatever the name resolved to before.
	dialer := &net.Dialer{Timeout: dialTime, Resolver: resolver, Control: t.control}
	t.http = &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
			// no proxy: it would connect to addresses that must not be reached
			TLSHandshakeTimeout: attemptTime, MaxResponseHeaderBytes: maxHeaders, DisableCompression: true,
			MaxIdleConns: 256, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return t
}

// control refuses connections to addresses that are neither public nor allowed.
func (t *targets) control(network, address string, c syscall.RawConn) error {
	if to, err := netip.ParseAddrPort(address); err == nil && t.allowed(to.Addr()) {
		return nil
	}
	if err := t.guard.Safe(network, address, c); err != nil {
		return errPrivate
	}
	return nil
}

func (t *targets) allowed(a netip.Addr) bool {
	return slices.ContainsFunc(t.allow, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// check returns an error for a URL that nothing is sent to. What a name resolves to is checked at each connection.
func (t *targets) check(raw string) error {
	bad := func(format string, args ...any) error { return &FieldError{"url", fmt.Sprintf(format, args...)} }
	if len(raw) > MaxURL {
		return bad("has %d bytes, the limit is %d", len(raw), MaxURL)
	}
	u, err := url.Parse(raw)
	if err != nil || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= unicode.MaxASCII }) {
		return bad("is no URL: write https://HOST/…")
	}
	switch {
	case u.Hostname() == "" || u.Opaque != "":
		return bad("names no host: write https://HOST/…")
	case u.User != nil:
		return bad("has a user or a password, which is not sent: the signature says who sends")
	case u.Fragment != "":
		return bad("has a fragment, which is not sent")
	}
	host, err := netip.ParseAddr(u.Hostname())
	literal := err == nil
	if u.Hostname() == "localhost" {
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	switch own := host.IsValid() && t.allowed(host); {
	case u.Scheme == "http" && own && host.IsLoopback():
		return nil // this machine, which the operator allows
	case u.Scheme != "https":
		return bad("is not https: what is sent could be read and changed on its way")
	case literal && !own && t.guard.SafeAddr(host.Unmap()) != nil:
		return bad("leads to a private address")
	case u.Port() != "" && !own && !slices.ContainsFunc(ports, func(p uint16) bool {
		return u.Port() == fmt.Sprint(p)
	}) && len(t.allow) == 0:
		return bad("has port %s: it is 443 or 8443", u.Port())
	}
	return nil
}
