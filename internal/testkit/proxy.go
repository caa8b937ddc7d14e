package testkit

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy between a program and PostgreSQL that can simulate a bad network.
type Proxy struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	conns []net.Conn
	cut   bool          // no data passes, and no connection is closed
	delay time.Duration // before each chunk of data
}

// NewProxy starts a proxy for the server of a connection URL, and returns the URL through it. It stops with the test.
func NewProxy(t testing.TB, rawURL string) (p *Proxy, throughIt string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	p = &Proxy{to: u.Host}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.listener.Close(); p.Drop() })
	go p.serve()
	u.Host = p.listener.Addr().String()
	return p, u.String()
}

func (p *Proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		to := p.to
		p.mu.Unlock()
		out, err := net.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		go p.pass(in, out)
		go p.pass(out, in)
	}
}

func (p *Proxy) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		for {
			p.mu.Lock()
			cut, delay := p.cut, p.delay
			p.mu.Unlock()
			if !cut {
				time.Sleep(delay)
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// To directs new connections to the server of another URL.
func (p *Proxy) To(t testing.TB, rawURL string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = u.Host
}

// Cut stops all data without closing connections, like a pulled cable.
func (p *Proxy) Cut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
}

// Delay delays every chunk of data.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Drop resets every connection.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
	p.conns = nil
}
