package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/server"
)

// turnedAway sends a request's head and so many bytes of its body, all of it before it looks for an answer, as many
// clients do.
func turnedAway(t *testing.T, addr, fields string, size int, chunked bool) (res *http.Response, body string,
	r *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /v1/events/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s\r\n",
		fields)
	piece := strings.Repeat("x", 1<<20)
	if chunked {
		piece = fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
	}
	for range size >> 20 {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatalf("%q: it can't send: %v", fields, err)
		}
	}
	if chunked {
		fmt.Fprint(c, "0\r\n\r\n")
	}
	r = bufio.NewReader(c)
	if res, err = http.ReadResponse(r, nil); err != nil {
		t.Fatalf("%q: no answer: %v", fields, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(raw), r
}

// TestWhoIsTurnedAwayIsAnswered: whatever they still send is dropped, and they see why; who waits to be told to go
// on sends nothing.
func TestWhoIsTurnedAwayIsAnswered(t *testing.T) {
	w := serve(t)
	addr := w.listen(server.Listening{})
	key := "Authorization: Bearer " + w.key(acme) + "\r\n"
	const length = "Content-Length: 31457280\r\n"
	for name, c := range map[string]struct {
		fields  string
		chunked bool
		want    int
	}{
		"no key":                 {length, false, 401},
		"no key, chunked":        {"Transfer-Encoding: chunked\r\n", true, 401},
		"another kind":           {length + key + "Content-Encoding: gzip\r\n", false, 415},
		"a page of another site": {length + key + "Origin: https://evil.example\r\n", false, 403},
		"no JSON, found at once": {length + key, false, 400},
		"no JSON, chunked":       {"Transfer-Encoding: chunked\r\n" + key, true, 400},
	} {
		res, body, r := turnedAway(t, addr, c.fields, 30<<20, c.chunked)
		if res.StatusCode != c.want || !strings.Contains(body, `"detail"`) || !res.Close {
			t.Errorf("%s: %d %s, closes: %t", name, res.StatusCode, body, res.Close)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("%s: the connection goes on: %v", name, err)
		}
	}
	// A small rest is read, and the connection stays.
	res, _, _ := turnedAway(t, addr, "Content-Length: 0\r\n", 0, false)
	if res.StatusCode != 401 || res.Close {
		t.Errorf("without a body: %d, closes: %t", res.StatusCode, res.Close)
	}
	// Larger than anything that is taken: refused at once, before it is sent.
	res, body, _ := turnedAway(t, addr, key+"Content-Length: 99999999999\r\n", 0, false)
	if res.StatusCode != 413 || !res.Close {
		t.Errorf("a body that is too large: %d %s", res.StatusCode, body)
	}
	// Who waits is told before anything is sent, and is not told to go on.
	res, body, r := turnedAway(t, addr, length+"Expect: 100-continue\r\n", 0, false)
	if res.StatusCode != 401 {
		t.Errorf("who waits and has no key: %d %s", res.StatusCode, body)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("who waits: the connection goes on: %v", err)
	}
	if res, _, _ := turnedAway(t, addr, key+"Content-Length: 5\r\nExpect: 100-continue\r\n", 0,
		false); res.StatusCode != 100 {
		t.Errorf("who waits and may go on: %d", res.StatusCode)
	}
}

// TestWhatIsDroppedHoldsUpNoStop: a service that stops does not wait for what nobody wants.
func TestWhatIsDroppedHoldsUpNoStop(t *testing.T) {
	w := serve(t)
	addr, done, stop := make(chan net.Addr, 1), make(chan error, 1), make(chan struct{})
	go func() {
		done <- w.s.Run(untilClosed(t.Context(), stop), server.Listening{Address: "127.0.0.1:0",
			Ready: func(a net.Addr) { addr <- a }})
	}()
	if res, _, _ := turnedAway(t, (<-addr).String(), "Content-Length: 31457280\r\n", 0,
		false); res.StatusCode != 401 {
		t.Fatalf("%d", res.StatusCode)
	}
	close(stop) // while its client still might send
	if err := <-done; err != nil {
		t.Error(err)
	}
}
