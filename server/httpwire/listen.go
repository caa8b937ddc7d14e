// Package httpwire accepts connections: no more than MaxConns at the same time, and such that a request which two
// HTTP/1.1 readers could read differently (RFC 9112, 11.2) is seen and refused. It knows net/http and TLS; it knows
// nothing of the API.
package httpwire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Limits on what a stranger may send before a request is there.
const (
	MaxHeader  = 64 << 10         // bytes of a request's head
	HeaderTime = 10 * time.Second // for a head, and for a TLS handshake
	MaxConns   = 4096             // connections at the same time
)

// Listener yields connections, no more than MaxConns at the same time: HTTP/2 over TLS as it is, and HTTP/1.1 such that
// malformed requests are seen.
type Listener struct {
	net.Listener
	TLS    *tls.Config // with the protocols that are offered; nil: plain HTTP
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
	ready  chan accepted // with TLS: connections after their handshake
}

// accepted is a connection, or the error instead.
type accepted struct {
	conn net.Conn
	err  error
}

// handshakeTime is how long a TLS handshake may take.
const handshakeTime = HeaderTime

// NewListener returns a listener on l, which speaks TLS where c is not nil.
func NewListener(l net.Listener, c *tls.Config) *Listener {
	own := &Listener{Listener: l, slots: make(chan struct{}, MaxConns), closed: make(chan struct{}),
		ready: make(chan accepted)}
	if c != nil {
		own.TLS = c.Clone()
		own.TLS.NextProtos = []string{"h2", "http/1.1"}
		go own.handshakes()
	}
	return own
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	if l.TLS != nil {
		select {
		case a := <-l.ready:
			return a.conn, a.err
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	c, err := l.next()
	if err != nil {
		return nil, err
	}
	return newWireConn(c, true), nil
}

// next waits for a free slot, and accepts a connection.
func (l *Listener) next() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// handshakes does the TLS handshakes: http.Server does them itself only for a plain *tls.Conn.
func (l *Listener) handshakes() {
	for {
		c, err := l.next()
		if err != nil {
			l.yield(accepted{err: err})
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // http.Server backs off before it accepts again
		}
		go func() {
			t := tls.Server(c, l.TLS)
			err := c.SetDeadline(time.Now().Add(handshakeTime))
			if err == nil {
				err = t.Handshake()
			}
			var record tls.RecordHeaderError
			if errors.As(err, &record) && record.Conn != nil && string(record.RecordHeader[:3]) == "GET" {
				_, _ = io.WriteString(c,
					"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
			}
			if err != nil || c.SetDeadline(time.Time{}) != nil {
				_ = c.Close()
				return
			}
			if t.ConnectionState().NegotiatedProtocol == "h2" {
				l.yield(accepted{conn: t})
				return
			}
			l.yield(accepted{conn: &tlsWireConn{newWireConn(t, false), t}})
		}()
	}
}

// yield passes a connection to Accept.
func (l *Listener) yield(a accepted) {
	select {
	case l.ready <- a:
	case <-l.closed:
		if a.conn != nil {
			_ = a.conn.Close()
		}
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// slotConn frees its slot when it is closed.
type slotConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *slotConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite closes the sending side.
func (c *slotConn) CloseWrite() error {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return nil
}

// tlsWireConn is a wireConn over TLS; net/http gets the TLS state from it.
type tlsWireConn struct {
	*wireConn
	tls *tls.Conn
}

// ConnectionState returns the state of the TLS connection.
func (c *tlsWireConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
