package fetch

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/konstruct/konstruct/disclosure"
)

// TestWhatIsInsideIsNotTold: neither to which addresses names lead, nor which there are, nor what answers at an
// address of the operator's own: a reason is the same for all of them, while the whole error has the rest.
func TestWhatIsInsideIsNotTold(t *testing.T) {
	dns, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dns.Close() })
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
			switch name := m.Questions[0].Name; {
			case strings.HasPrefix(name.String(), "nowhere."):
				m.RCode = dnsmessage.RCodeNameError
			case m.Questions[0].Type == dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: name,
					Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{10,
					20, 30, 40}}}}
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
	told := func(c *Client, ctx context.Context, url string, kind error) string {
		t.Helper()
		_, err := c.Get(ctx, url, "", 1000)
		if !errors.Is(err, kind) {
			t.Fatalf("%s: %v", url, err)
		}
		text, _ := disclosure.Reason(err)
		return text
	}
	inside, nowhere := told(c, t.Context(), "http://vault.inside.example/", ErrPrivate), told(c, t.Context(),
		"http://nowhere.inside.example/", ErrPrivate)
	if inside != nowhere || inside != ErrPrivate.Error() || strings.Contains(inside, "10.20") {
		t.Errorf("a name inside: %q; none: %q", inside, nowhere)
	}
	if _, err := c.Get(t.Context(), "http://vault.inside.example/", "", 1000); !strings.Contains(err.Error(),
		"10.20.30.40") {
		t.Errorf("the log does not have it: %v", err)
	}

	// At an address that may be read: nothing listens, something listens and says nothing, something closes,
	// something that is no site.
	own := newClient(nil, []netip.Prefix{loopback})
	defer own.Close()
	listen := func(answer func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go answer(c)
			}
		}()
		return l.Addr().String()
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	wait, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for what, url := range map[string]string{
		"nothing": "http://" + closed.Addr().String(), "what closes": "http://" +
			listen(func(c net.Conn) { c.Close() }), "another protocol": "http://" + listen(func(c net.Conn) {
			_,
				_ = c.Write([]byte("220 mail.inside.example ESMTP\r\n"))
			c.Close()
		}),
		"a certificate that does not hold": secure.URL, "no TLS": "https://" + listen(func(c net.Conn) {
			_,
				_ = c.Write([]byte("SSH-2.0-x\r\n"))
			c.Close()
		}),
	} {
		if text := told(own, wait, url, ErrAway); text != ErrAway.Error() {
			t.Errorf("%s: %q", what, text)
		}
	}
}
