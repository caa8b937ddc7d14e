package fetch

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var loopback = netip.MustParsePrefix("127.0.0.1/32")

// site serves pages on 127.0.0.1, and what robots.txt says.
func site(t *testing.T, robots string, pages http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/robots.txt" {
			pages(w, r)
		} else if robots == "" {
			http.NotFound(w, r)
		} else {
			fmt.Fprint(w, robots)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func client(t *testing.T, allow ...netip.Prefix) *Client {
	c := New(allow...)
	t.Cleanup(c.Close)
	return c
}

func TestAPageIsRead(t *testing.T) {
	at := site(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User-Agent") != Agent {
			t.Errorf("it calls itself %q", r.Header.Get("User-Agent"))
		}
		switch r.URL.Path {
		case "/page":
			fmt.Fprint(w, "<p>words")
		case "/on":
			http.Redirect(w, r, "/page", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/large":
			fmt.Fprint(w, strings.Repeat("x", 2000))
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 10<<20))
			_ = z.Close()
		default:
			http.NotFound(w, r)
		}
	})
	c := client(t, loopback)
	for path, want := range map[string]string{"/page": "", "/on": "", "/round": "leads on more than",
		"/file": "not a URL", "/large": "too large", "/bomb": "too large", "/gone": "404"} {
		page, err := c.Get(t.Context(), at+path, "", 1000)
		if want == "" && (err != nil || string(page.Raw) != "<p>words") || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v; want %q", path, page.Raw, err, want)
		}
	}
	for _, u := range []string{"ftp://example.com/x", "http://", "http://user:secret@example.com/", "gopher://x",
		"http:///x", "//x", "http://%zz", "javascript:alert(1)"} {
		if _, err := c.Get(t.Context(), u, "", 1000); !errors.Is(err, ErrURL) {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestOnlyPublicAddressesAreConnectedTo(t *testing.T) {
	var asked atomic.Int64
	at := site(t, "", func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); fmt.Fprint(w, "the secret") })
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(at, "http://"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := client(t)
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port, "127.1.2.3", "[::1]:" + port,
		"[::ffff:127.0.0.1]:" + port, "[::ffff:7f00:1]", "0.0.0.0:" + port, "[::]", "10.0.0.1", "172.16.0.1",
		"192.168.1.1", "100.64.0.1", "169.254.169.254", "[fd00:ec2::254]", "[fe80::1]", "[fc00::1]",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1"} {
		if _, err := c.Get(ctx, "http://"+host+"/latest/meta-data/", "", 1000); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: %v", host, err)
		}
	}
	// Addresses in other spellings are names that lead nowhere, or the same addresses.
	for _, host := range []string{"2130706433", "0x7f000001", "0177.0.0.1", "127.1"} {
		if page, err := c.Get(ctx, "http://"+host+":"+port+"/", "", 1000); err == nil {
			t.Errorf("%s: %q", host, page.Raw)
		}
	}
	// Nor where a page that may be read leads.
	open := site(t, "", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.2:"+port+"/", http.StatusFound)
	})
	if _, err := client(t, loopback).Get(ctx, open+"/x", "", 1000); !errors.Is(err, ErrPrivate) {
		t.Errorf("a redirect: %v", err)
	}
	if asked.Load() != 0 {
		t.Errorf("the server was asked %d times", asked.Load())
	}
}

// A name that leads to a public address when it is looked at and to a private one when it is connected to is refused
// when it is connected to.
func TestANameThatChanges(t *testing.T) {
	var asked atomic.Int64
	at := site(t, "", func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); fmt.Fprint(w, "the secret") })
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(at, "http://"))
	dns, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dns.Close() })
	var answers atomic.Int64
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := dns.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			if m.Questions[0].Type == dnsmessage.TypeA {
				ip := [4]byte{127, 0, 0, 1}
				if answers.Add(1) == 1 {
					ip = [4]byte{192, 0, 2, 1} // a public one would be waited for; this one is refused as well
				}
				m.Answers =
					[]dnsmessage.Resource{
						{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA,
							Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: ip}}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = dns.WriteTo(out, from)
			}
		}
	}()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", dns.LocalAddr().String())
	}}
	c := newClient(resolver, nil)
	defer c.Close()
	for range 2 {
		if _, err := c.Get(t.Context(), "http://rebind.example:"+port+"/", "", 1000); !errors.Is(err, ErrPrivate) {
			t.Errorf("%v", err)
		}
	}
	if answers.Load() < 2 || asked.Load() != 0 {
		t.Errorf("%d answers, the server was asked %d times", answers.Load(), asked.Load())
	}
}

func TestRobotsAreObeyed(t *testing.T) {
	var asked atomic.Int64
	at := site(t, "User-agent: *\nDisallow: /private\nDisallow: /*?print\n",
		func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if r.URL.Path == "/in" {
				http.Redirect(w, r, "/private/x", http.StatusFound)
				return
			}
			fmt.Fprint(w, "words")
		})
	c := client(t, loopback)
	for path, allowed := range map[string]bool{"/page": true, "/private/x": false, "/in": false,
		"/page?print=1": false} {
		if _, err := c.Get(t.Context(), at+path, "", 1000); allowed != (err == nil) ||
			!allowed && !errors.Is(err, ErrRobots) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if asked.Load() != 2 { // /page and /in
		t.Errorf("%d pages were asked for", asked.Load())
	}
	// A robots.txt that the site can't give now forbids everything; requests to one site keep their distance.
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusInternalServerError)
	}))
	defer broken.Close()
	if _, err := c.Get(t.Context(), broken.URL+"/x", "", 1000); !errors.Is(err, ErrRobots) {
		t.Errorf("%v", err)
	}
	begin := time.Now()
	for range 3 {
		if _, err := c.Get(t.Context(), at+"/page", "", 1000); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 2*pause {
		t.Errorf("three requests to one site took %v", took)
	}
}

func TestASiteThatStalls(t *testing.T) {
	stop := make(chan struct{})
	at := site(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	defer close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := client(t, loopback).Get(ctx, at+"/x", "", 1000); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestDelaysOutlastManySites asks a site with a crawl delay, then more sites than are remembered, and the site again.
func TestDelaysOutlastManySites(t *testing.T) {
	at := site(t, "User-agent: *\nCrawl-delay: 2", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })
	c := client(t, loopback)
	if _, err := c.Get(t.Context(), at+"/1", "", 100); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c.mu.Lock()
	old := start.Add(-2 * keepHost)
	for i := range maxHosts {
		c.hosts[fmt.Sprint(i)] = &host{used: old}
	}
	c.mu.Unlock()
	other := site(t, "", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })
	for _, url := range []string{other, at + "/2"} {
		if _, err := c.Get(t.Context(), url, "", 100); err != nil {
			t.Fatal(err)
		}
	}
	if waited := time.Since(start); waited < time.Second {
		t.Errorf("the second page was asked for after %s", waited)
	}
	if len(c.hosts) != 2 {
		t.Errorf("%d sites are remembered", len(c.hosts))
	}
}
