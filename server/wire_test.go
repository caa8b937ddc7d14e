package server_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/konstruct/konstruct/server"
)

// listen has the service listen as it does for strangers, and returns where.
func (w *world) listen(l server.Listening) string {
	w.t.Helper()
	addr, done, stop := make(chan net.Addr, 1), make(chan error, 1), make(chan struct{})
	l.Address, l.Ready = "127.0.0.1:0", func(a net.Addr) { addr <- a }
	go func() { done <- w.s.Run(untilClosed(w.t.Context(), stop), l) }()
	w.t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	select {
	case a := <-addr:
		return a.String()
	case err := <-done:
		w.t.Fatal(err)
		return ""
	}
}

// speak sends what no client would, in pieces, and returns the statuses that are answered until the connection is
// closed.
func speak(t *testing.T, c net.Conn, request string, piece int) (statuses []int, closed bool) {
	t.Helper()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() {
		for part := range slices.Chunk([]byte(request), piece) {
			if _, err := c.Write(part); err != nil {
				return
			}
		}
	}()
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, strings.Contains(err.Error(), "EOF")
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatalf("%d breaks off: %v", res.StatusCode, err)
		}
		statuses = append(statuses, res.StatusCode)
	}
}

// TestRequestsThatTwoReadersReadDifferentlyAreRefused, with 400 and the connection's end, as a connection's first
// request and behind another one, in one piece and byte by byte: what stands behind them is not answered.
func TestRequestsThatTwoReadersReadDifferentlyAreRefused(t *testing.T) {
	w := serve(t)
	addr := w.listen(server.Listening{})
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const good = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
	const last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	post := func(fields, body string) string { return "POST /nowhere HTTP/1.1\r\n" + fields + "\r\n" + body }
	for name, bad := range map[string]string{
		"length and chunked": post("Host: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
			"0\r\n\r\n"),
		"chunked and length": post("Host: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
			"0\r\n\r\n"),
		"two lengths":            post("Host: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
		"one length twice":       post("Host: localhost\r\nContent-Length: 5\r\ncontent-length: 5\r\n", "hello"),
		"a list of lengths":      post("Host: localhost\r\nContent-Length: 5, 5\r\n", "hello"),
		"a length with a sign":   post("Host: localhost\r\nContent-Length: +5\r\n", "hello"),
		"a length below nothing": post("Host: localhost\r\nContent-Length: -5\r\n", "hello"),
		"no length":              post("Host: localhost\r\nContent-Length:\r\n", ""),
		"chunked twice": post(
			"Host: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
		"two codings":           post("Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
		"another coding":        post("Host: localhost\r\nTransfer-Encoding: identity\r\n", ""),
		"a coding behind a tab": post("Host: localhost\r\nTransfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
		"a coding in an old one": "POST /nowhere HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: " +
			"chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
		"a space before the colon": post(
			"Host: localhost\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
		"a space in a name":          post("Host: localhost\r\nBad Header: 1\r\n", ""),
		"a name of nothing":          post("Host: localhost\r\n: 1\r\n", ""),
		"no colon":                   post("Host: localhost\r\nnothing\r\n", ""),
		"a value over two lines":     post("Host: localhost\r\nX: a\r\n b\r\n", ""),
		"a coding over two lines":    post("Host: localhost\r\nTransfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
		"a first line with a space":  post(" X: a\r\nHost: localhost\r\n", ""),
		"a bare LF":                  post("Host: localhost\nX: a\r\n", ""),
		"a bare LF at the end":       "POST /nowhere HTTP/1.1\r\nHost: localhost\r\n\n",
		"a bare LF at the beginning": "GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n",
		"a bare CR":                  post("Host: localhost\r\nX: a\rContent-Length: 5\r\n", ""),
		"a NUL":                      post("Host: localhost\r\nX: \x00\r\n", ""),
		"two hosts":                  post("Host: localhost\r\nHost: y\r\n", ""),
		"one host twice":             post("Host: localhost\r\nhost: localhost\r\n", ""),
		"no host":                    post("X: y\r\n", ""),
		"its own mark":               post("Host: localhost\r\nKonstruct-Malformed: 1\r\n", ""),
	} {
		for _, piece := range []int{1 << 20, 1} {
			if got, closed := speak(t, dial(), bad+last, piece); !slices.Equal(got, []int{400}) || !closed {
				t.Errorf("%s, %d at a time: %v, closed: %t", name, piece, got, closed)
			}
			if got, closed := speak(t, dial(), good+bad+last, piece); !slices.Equal(got, []int{404, 400}) || !closed {
				t.Errorf("%s behind another, %d at a time: %v, closed: %t", name, piece, got, closed)
			}
		}
	}
	// Where a body is wrong, what stands behind it is not a request.
	const chunked = "Host: localhost\r\nTransfer-Encoding: chunked\r\n"
	for name, bad := range map[string]string{
		"a chunk's line with a bare LF": post(chunked, "1\na\r\n0\r\n\r\n"),
		"an extension with a bare LF":   post(chunked, "1;a\nb\r\na\r\n0\r\n\r\n"),
		"a chunk that is longer":        post(chunked, "1\r\nab\r\n0\r\n\r\n"), "a length that is none": post(chunked,
			"0x1\r\na\r\n0\r\n\r\n"),
		"a length with a sign": post(chunked, "+1\r\na\r\n0\r\n\r\n"), "a trailer over two lines": post(chunked,
			"0\r\nX: a\r\n b\r\n\r\n"), "a trailer with a bare LF": post(chunked, "0\r\nX: a\n\r\n"),
		"a chunk larger than any":          post(chunked, "fffffffffffffffff\r\na"),
		"a chunk with a bare LF behind it": post(chunked, "1\r\na\n0\r\n\r\n"),
		"a long extension":                 post(chunked, "1;"+strings.Repeat("x", 5000)+"\r\na\r\n0\r\n\r\n"),
	} {
		for _, piece := range []int{1 << 20, 1} {
			if got, closed := speak(t, dial(), bad+last, piece); len(got) > 1 || !closed {
				t.Errorf("%s, %d at a time: %v, closed: %t", name, piece, got, closed)
			}
		}
	}
	key := w.key(acme)
	event := func(fields, body string) string {
		return "POST /v1/events HTTP/1.1\r\nAuthorization: Bearer " + key +
			"\r\nContent-Type: application/json\r\n" + fields + "\r\n" + body
	}
	// And what is as it should be is answered, one after the other.
	for name, all := range map[string]struct {
		requests string
		want     []int
	}{
		"three in one":                {good + good + last, []int{404, 404, 200}},
		"an empty line behind a body": {good + "\r\n" + last, []int{404, 200}},
		"chunks, extensions, trailers": {event(chunked, "1;a=b\r\n{\r\n00001 \r\n}\r\n0\r\nX: y\r\n\r\n") + last,
			[]int{422, 200}},
		"many chunks": {event(chunked, strings.Repeat("4\r\n    \r\n",
			30_000)+"2\r\n{}\r\n0\r\n\r\n") + last, []int{422, 200}},
		"an empty field, tabs": {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX:\r\nY:\t a\t\r\n\r\n" +
			last, []int{200, 200}},
		"a body that looks like a head": {post("Host: localhost\r\nContent-Length: 39\r\n",
			"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\r\n") + last, []int{404, 200}},
		"an old version": {"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", []int{200}},
		"a body of nothing": {post("Host: localhost\r\nContent-Length: 0\r\n", "") + last, []int{404,
			200}},
		"the whole address, as to proxy": {"GET http://x/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + last,
			[]int{200, 200}},
	} {
		for _, piece := range []int{1 << 20, 7, 1} {
			if got, _ := speak(t, dial(), all.requests, piece); !slices.Equal(got, all.want) {
				t.Errorf("%s, %d at a time: %v, want %v", name, piece, got, all.want)
			}
		}
	}
	if got, _ := speak(t, dial(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x",
		100<<10)+"\r\n\r\n", 1<<20); !slices.Equal(got, []int{431}) {
		t.Errorf("a head of 100 KiB: %v", got)
	}
}

// certificate is one for tests.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// TestEveryProtocolIsServed: HTTP/1.1 and HTTP/2, with TLS and without, and none of them takes what is malformed.
func TestEveryProtocolIsServed(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	plain, secure := w.listen(server.Listening{}), w.listen(server.Listening{TLS: &tls.Config{
		Certificates: []tls.Certificate{certificate(t)}}})
	trusting := &tls.Config{InsecureSkipVerify: true}
	for _, c := range []struct {
		name, url  string
		http2, tls bool
	}{{"HTTP/1.1", "http://" + plain, false, false}, {"HTTP/2", "http://" + plain, true, false},
		{"HTTP/1.1 and TLS", "https://" + secure, false, true}, {"HTTP/2 and TLS", "https://" + secure, true, true}} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!c.http2)
		protocols.SetHTTP2(c.http2 && c.tls)
		protocols.SetUnencryptedHTTP2(c.http2 && !c.tls)
		client := &http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: trusting.Clone()}}
		for _, body := range []string{`{"action_type":"x"}`, `{"action_type":"x","input_summary":"` +
			strings.Repeat("x", 500<<10) + `"}`} {
			r, err := http.NewRequestWithContext(t.Context(), "POST", c.url+"/v1/events", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+key)
			r.Header.Set("Content-Type", "application/json")
			res, err := client.Do(r)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			res.Body.Close()
			if (res.ProtoMajor == 2) != c.http2 || res.StatusCode != 201 ||
				(res.Header.Get("Strict-Transport-Security") != "") != c.tls {
				t.Errorf("%s: %s %d %v", c.name, res.Proto, res.StatusCode, res.Header)
			}
		}
		client.CloseIdleConnections()
	}
	c, err := tls.Dial("tcp", secure, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := speak(t, c,
		"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: "+
			"chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 1<<20); !slices.Equal(got,
		[]int{400}) {
		t.Errorf("length and chunked over TLS: %v", got)
	}
	for name, fields := range map[string][]hpack.HeaderField{
		"a transfer coding": {{Name: "transfer-encoding", Value: "chunked"}},
		"two lengths":       {{Name: "content-length", Value: "2"}, {Name: "content-length", Value: "2"}},
		"another host":      {{Name: "host", Value: "y"}}, "two hosts": {{Name: "host", Value: "localhost"},
			{Name: "host", Value: "localhost"}},
		"its own mark": {{Name: "konstruct-malformed", Value: "1"}},
	} {
		if status := speakHTTP2(t, plain, "/nowhere", fields); status != "400" && status != "reset" {
			t.Errorf("%s in HTTP/2: %s", name, status)
		}
	}
	events := []hpack.HeaderField{{Name: "authorization", Value: "Bearer " + key}, {Name: "content-type",
		Value: "application/json"}}
	if status := speakHTTP2(t, plain, "/v1/events", append(events, hpack.HeaderField{Name: "content-length",
		Value: "3"})); status != "400" && status != "reset" {
		t.Errorf("a length that does not hold in HTTP/2: %s", status)
	}
	if status := speakHTTP2(t, plain, "/nowhere", []hpack.HeaderField{{Name: "content-length", Value: "2"},
		{Name: "host", Value: "localhost"}}); status != "404" {
		t.Errorf("a good one in HTTP/2: %s", status)
	}
}

// speakHTTP2 sends a request with a body of two bytes, and returns the status that is answered, or that its stream
// is reset.
func speakHTTP2(t *testing.T, addr, path string, fields []hpack.HeaderField) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var head strings.Builder
	encoder := hpack.NewEncoder(&head)
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "localhost"}, {Name: ":path", Value: path}}, fields...) {
		if err := encoder.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprint(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(head.String()),
		EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteData(1, true, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "reset"
		}
	}
}
