package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestADeadlineOfTheBodyEndsWithIt answers longer than a body may take to arrive, twice on one connection.
func TestADeadlineOfTheBodyEndsWithIt(t *testing.T) {
	const within = 50 * time.Millisecond
	var s Server
	h := httptest.NewServer(s.drainBody(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := func() {
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(within)); err != nil {
				t.Error(err)
			}
		}
		limit()
		if r.URL.Path == "/exactly" { // not as far as the error that says it ends
			_, _ = io.ReadFull(r.Body, make([]byte, r.ContentLength))
		} else if raw, err := io.ReadAll(r.Body); r.URL.Path == "/slow" {
			if err == nil {
				t.Errorf("a body that came late was read: %s", raw)
			}
			return
		}
		limit() // as huma does
		select {
		case <-r.Context().Done():
			t.Errorf("%s %s was cancelled", r.Method, r.URL)
		case <-time.After(3 * within):
		}
	})))
	defer h.Close()
	for _, c := range []struct {
		method, path string
		body         io.Reader
	}{{"GET", "/", nil}, {"POST", "/", strings.NewReader("body")}, {"POST", "/exactly", strings.NewReader("body")},
		{"POST", "/", io.MultiReader(strings.NewReader("chunked"))}, {"POST", "/", nil}} {
		for range 2 {
			if s, is := c.body.(*strings.Reader); is {
				s.Reset("body")
			}
			r, err := http.NewRequest(c.method, h.URL+c.path, c.body)
			if err != nil {
				t.Fatal(err)
			}
			res, err := h.Client().Do(r)
			if err != nil {
				t.Fatalf("%s %s: %v", c.method, c.path, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	}
	late, send := io.Pipe()
	go func() {
		_, _ = send.Write([]byte("a"))
		time.Sleep(4 * within)
		_ = send.Close()
	}()
	if res, err := http.Post(h.URL+"/slow", "text/plain", late); err == nil {
		_ = res.Body.Close()
	}
}
