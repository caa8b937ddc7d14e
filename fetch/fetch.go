// Package fetch downloads web pages from untrusted URLs: it connects only to public addresses, obeys robots.txt, and
// limits time and size. It knows nothing of documents.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"code.dny.dev/ssrf"
	"github.com/temoto/robotstxt"

	"github.com/konstruct/konstruct/disclosure"
)

// Limits on one page.
const (
	Timeout      = time.Minute
	maxRedirects = 5
	maxHeaders   = 64 << 10
	maxRobots    = 500 << 10 // RFC 9309, 2.5
	pause        = 500 * time.Millisecond
	maxTag       = 200              // bytes of an entity tag
	maxPause     = 10 * time.Second // of what robots.txt asks for
)

// Agent is the User-Agent header, and the name in robots.txt.
const Agent = "Konstruct"

// Reasons why a page is not read.
var (
	ErrURL     = errors.New("not a URL that is read here: http://HOST/… or https://HOST/…, without a user")
	ErrPrivate = errors.New("it has no public address: allow its network (KONSTRUCT_ALLOW_NETWORKS) if it is yours")
	ErrRobots  = errors.New("its robots.txt does not allow it")
	ErrLarge   = errors.New("it is too large")
	ErrAway    = errors.New("its site does not answer now")
	// ErrUnchanged means that the page has not changed since the given ETag.
	ErrUnchanged = errors.New("it has not changed")
)

// Page is a downloaded page.
type Page struct {
	Raw []byte
	// ETag identifies the content: the site's entity tag, which begins with " or W/, or else its Last-Modified time.
	ETag string
}

// Client downloads pages. It is safe for concurrent use, and waits between requests to the same host.
type Client struct {
	http, plain *http.Client // plain asks for robots.txt, of which no robots.txt speaks

	mu    sync.Mutex
	hosts map[string]*host
}

// host is the state of a site.
type host struct {
	mu    sync.Mutex
	rules *robotstxt.RobotsData
	until time.Time // when rules are asked for again
	next  time.Time // when the next request may go out
	used  time.Time // when a request was last asked for; guarded by Client.mu
}

// New returns a client that connects to public addresses, and to the allowed networks of the operator, there on any
// port.
func New(allow ...netip.Prefix) *Client { return newClient(nil, allow) }

func newClient(resolver *net.Resolver, allow []netip.Prefix) *Client {
	var options []ssrf.Option
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	if len(allow) > 0 {
		options = append(options, ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...),
			ssrf.WithAnyPort())
	}
	guard := ssrf.New(options...)
	// Control checks the address of each connection, whatever the name resolved to before.
	dialer := &net.Dialer{Timeout: 10 * time.Second, Resolver: resolver, Control: guard.Safe}
	c := &Client{hosts: map[string]*host{}}
	transport := &http.Transport{DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 20 * time.Second,
		// no proxy: it would connect to addresses that the client must not reach
		MaxResponseHeaderBytes: maxHeaders, MaxIdleConns: 10, IdleConnTimeout: 30 * time.Second}
	redirect := func(ask func(context.Context, *url.URL) error) func(*http.Request, []*http.Request) error {
		return func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("it leads on more than %d times", maxRedirects)
			}
			if err := readable(r.URL); err != nil || ask == nil {
				return err
			}
			return ask(r.Context(), r.URL)
		}
	}
	c.plain = &http.Client{Transport: transport, CheckRedirect: redirect(nil)}
	c.http = &http.Client{Transport: transport, CheckRedirect: redirect(c.ask)}
	return c
}

// Close ends idle connections.
func (c *Client) Close() { c.plain.CloseIdleConnections() }

// Get downloads a page of at most limit bytes. The error is ErrAway if a later attempt may succeed. etag identifies
// content that the caller has already; empty for none. If the page still has it, the error is ErrUnchanged (RFC 9110,
// 13).
func (c *Client) Get(ctx context.Context, rawURL, etag string, limit int64) (Page, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return Page{}, fmt.Errorf("%w: %w", ErrURL, err)
	}
	if err := readable(u); err != nil {
		return Page{}, err
	}
	inTime, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	page, status, err := Page{}, 0, c.ask(inTime, u)
	if err == nil {
		page, status, err = get(inTime, c.http, u, etag, limit)
	}
	var network net.Error
	switch {
	case ctx.Err() != nil:
		return Page{}, ctx.Err()
	case inTime.Err() != nil || errors.As(err, &network) && !errors.Is(err, ErrPrivate):
		return Page{}, disclosure.Hide(ErrAway, err) // refused, silent or cut off: that tells what stands at an address
	case err != nil:
		return Page{}, err
	case status == http.StatusNotModified && etag != "":
		return Page{}, ErrUnchanged
	case status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		return Page{}, fmt.Errorf("%w: it answers %d %s", ErrAway, status, http.StatusText(status))
	case status != http.StatusOK:
		return Page{}, fmt.Errorf("the site answers %d %s", status, http.StatusText(status))
	}
	return page, nil
}

// readable returns an error for a URL that is not supported.
func readable(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return ErrURL
	}
	return nil
}

func get(ctx context.Context, from *http.Client, u *url.URL, etag string,
	limit int64) (page Page, status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return page, 0, fmt.Errorf("%w: %w", ErrURL, err)
	}
	r.Header.Set("User-Agent", Agent)
	if isTag(etag) {
		r.Header.Set("If-None-Match", etag)
	} else if etag != "" {
		r.Header.Set("If-Modified-Since", etag)
	}
	answer, err := from.Do(r)
	if err != nil {
		return page, 0, reason(err)
	}
	defer answer.Body.Close()
	if answer.ContentLength > limit {
		return page, 0, fmt.Errorf("%w: %d bytes, the limit is %d", ErrLarge, answer.ContentLength, limit)
	}
	page.Raw, err = io.ReadAll(io.LimitReader(answer.Body, limit+1)) // unpacked, where it came packed
	if err != nil {
		return page, 0, reason(err)
	}
	if int64(len(page.Raw)) > limit {
		return page, 0, fmt.Errorf("%w: more than %d bytes", ErrLarge, limit)
	}
	if tag := answer.Header.Get("ETag"); isTag(tag) && len(tag) <= maxTag {
		page.ETag = tag
	} else if _, err := http.ParseTime(answer.Header.Get("Last-Modified")); err == nil {
		page.ETag = answer.Header.Get("Last-Modified")
	}
	return page, answer.StatusCode, nil
}

// isTag reports whether s is an entity tag and not a time.
func isTag(s string) bool { return strings.HasPrefix(s, `"`) || strings.HasPrefix(s, `W/"`) }

// reason replaces errors of the address check by ones that say what to do.
func reason(err error) error {
	if errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedPort) ||
		errors.Is(err, ssrf.ErrProhibitedNetwork) {
		return disclosure.Hide(ErrPrivate, err) // which address it is tells what a name inside leads to
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound { // told apart, they would tell which names there are inside
		return disclosure.Hide(ErrPrivate, err)
	}
	return err
}

// maxHosts is how many sites are remembered, except those that were used within keepHost, longer than a request
// waits: to forget one of these would skip its crawl delay, and requests in progress would not wait for each other.
const (
	maxHosts = 1000
	keepHost = Timeout + maxPause
)

// forget removes the sites that were not used for keepHost. c.mu is held.
func (c *Client) forget(now time.Time) {
	maps.DeleteFunc(c.hosts, func(_ string, h *host) bool { return now.Sub(h.used) > keepHost })
}

// ask waits for the site's delay between requests, and checks its robots.txt (RFC 9309).
func (c *Client) ask(ctx context.Context, u *url.URL) error {
	origin := u.Scheme + "://" + u.Host
	c.mu.Lock()
	h := c.hosts[origin]
	if h == nil {
		if len(c.hosts) >= maxHosts {
			c.forget(time.Now())
		}
		h = &host{}
		c.hosts[origin] = h
	}
	h.used = time.Now()
	c.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().After(h.until) {
		page, status, err := get(ctx, c.plain, &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/robots.txt"},
			"", maxRobots)
		switch {
		case errors.Is(err, ErrLarge):
			return fmt.Errorf("%w: it has more than %d bytes", ErrRobots, maxRobots)
		case err != nil:
			return err
		}
		robots, err := robotstxt.FromStatusAndBytes(status, page.Raw) // 4xx allows everything, 5xx nothing
		if err != nil {
			return fmt.Errorf("%w: it can't be read: %w", ErrRobots, err)
		}
		h.rules, h.until = robots, time.Now().Add(time.Hour)
	}
	if !h.rules.TestAgent(u.RequestURI(), Agent) {
		return ErrRobots
	}
	wait := time.Until(h.next)
	h.next = time.Now().Add(max(0, wait) + max(pause, min(h.rules.FindGroup(Agent).CrawlDelay, maxPause)))
	if wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
