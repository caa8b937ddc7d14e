package mcpserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Bridge passes a client's messages over stdio on to a service's /mcp, so that a client that speaks stdio alone uses
// the
// service with its checks, limits and records.
type Bridge struct {
	URL    *url.URL // of the service
	Key    string
	Header http.Header // of every request, beside what the protocol has
	Client *http.Client

	to *frameWriter

	mu      sync.Mutex
	session string
	version string
	calls   map[string]context.CancelFunc // by the requests' ids
}

// Limits of a bridge.
const (
	maxBridged  = 64       // requests in progress
	maxResponse = 32 << 20 // bytes of a response
)

// Run passes messages until the stream ends or ctx does.
func (b *Bridge) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.to, b.calls = &frameWriter{w: out}, map[string]context.CancelFunc{}
	var running sync.WaitGroup
	room := make(chan struct{}, maxBridged)
	read := make(chan error, 1)
	go func() {
		read <- readFrames(in, b.to, func(f *frame, raw []byte) error {
			one, body := *f, bytes.Clone(raw)
			if f.Method == "initialize" || strings.HasPrefix(f.Method, "notifications/") { // in their order
				b.pass(ctx, &one, body)
				return ctx.Err()
			}
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			within, end := context.WithCancel(ctx)
			b.note(string(one.ID), end)
			running.Go(func() {
				defer func() { b.note(string(one.ID), nil); end(); <-room }()
				b.pass(within, &one, body)
			})
			return nil
		})
	}()
	select {
	case err := <-read:
		running.Wait() // what was asked is answered
		return err
	case <-ctx.Done():
		running.Wait()
		return nil
	}
}

// note notes how a request is cancelled, or with nil that it has ended.
func (b *Bridge) note(id string, cancel context.CancelFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cancel == nil {
		delete(b.calls, id)
		return
	}
	b.calls[id] = cancel
}

// pass sends a message to the service, and its answer to the client.
func (b *Bridge) pass(ctx context.Context, f *frame, raw []byte) {
	b.mu.Lock()
	session := b.session
	cancel := b.calls[string(f.params.RequestID)]
	b.mu.Unlock()
	if f.Method == "notifications/cancelled" && session == "" { // without sessions the connection is the request
		if cancel != nil {
			cancel()
		}
		return
	}
	err := b.exchange(ctx, f, raw, session)
	if err == nil || f.ID == nil || ctx.Err() != nil {
		return
	}
	var refused *FrameError
	if !errors.As(err, &refused) {
		refused = &FrameError{Code: codeInternal, Reason: err.Error()}
	}
	_ = b.to.send((&FrameError{refused.Code, f.ID, refused.Reason}).Frame()) // ignore the error: the client is gone
}

// exchange is one request and its response.
func (b *Bridge) exchange(ctx context.Context, f *frame, raw []byte, session string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL.JoinPath("mcp").String(), bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	for name, values := range b.Header {
		r.Header[name] = values
	}
	r.Header.Set("Authorization", "Bearer "+b.Key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	b.mirror(r.Header, f, session)
	res, err := b.Client.Do(r)
	if err != nil {
		return fmt.Errorf("the service can't be reached: %w", err)
	}
	defer res.Body.Close()
	if f.Method == "initialize" {
		b.mu.Lock()
		b.session = res.Header.Get(sessionHeader)
		b.mu.Unlock()
	}
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	switch {
	case res.StatusCode == http.StatusAccepted || f.ID == nil:
		return nil
	case kind == "text/event-stream" && res.StatusCode == http.StatusOK:
		return b.events(res.Body)
	case kind != "application/json":
		return fmt.Errorf("%s is no Konstruct service: it answers %s", b.URL.Host, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	if err != nil || len(body) > maxResponse {
		return errors.New("the service's response broke off, or is too long")
	}
	if res.StatusCode != http.StatusOK {
		return errorOf(res, body)
	}
	if f.Method == "initialize" {
		var answer struct {
			Result struct {
				Version string `json:"protocolVersion"`
			} `json:"result"`
		}
		if json.Unmarshal(body, &answer) == nil {
			b.mu.Lock()
			b.version = answer.Result.Version
			b.mu.Unlock()
		}
	}
	return b.to.send(body)
}

// mirror sets the headers that say what the body does.
func (b *Bridge) mirror(h http.Header, f *frame, session string) {
	version := f.params.Meta.Version
	if version == "" {
		b.mu.Lock()
		version = b.version
		b.mu.Unlock()
		if session != "" && f.Method != "initialize" {
			h.Set(sessionHeader, session)
		}
	}
	if version != "" && f.Method != "initialize" {
		h.Set(versionHeader, version)
	}
	h.Set("Mcp-Method", f.Method)
	if name := f.target(); name != "" && strings.IndexFunc(name, func(c rune) bool { return c < ' ' || c > '~' }) < 0 {
		h.Set("Mcp-Name", name)
	}
}

// errorOf returns the error of a response that is none.
func errorOf(res *http.Response, body []byte) error {
	var answer struct {
		Error *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error == nil {
		return fmt.Errorf("the service answers %s", res.Status)
	}
	code := answer.Error.Code
	if code > 0 { // an HTTP status
		code = codeInternal
	}
	return &FrameError{Code: code, Reason: answer.Error.Message}
}

// events passes the messages of a stream of server-sent events on (the WHATWG's HTML standard, 9.2).
func (b *Bridge) events(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), maxResponse)
	var data []byte
	for lines.Scan() {
		line := lines.Bytes()
		if rest, is := bytes.CutPrefix(line, []byte("data:")); is {
			data = append(append(data, bytes.TrimPrefix(rest, []byte(" "))...), '\n')
		}
		if len(data) > maxResponse {
			return errors.New("the service's response is too long")
		}
		if len(line) == 0 && len(bytes.TrimSpace(data)) > 0 {
			if err := b.to.send(bytes.TrimSpace(data)); err != nil {
				return err
			}
			data = data[:0]
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the service's response broke off: %w", err)
	}
	return nil
}

// BridgeTimeout is how long a bridge waits for the head of a response: longer than the longest call takes.
const BridgeTimeout = longTime + time.Minute
