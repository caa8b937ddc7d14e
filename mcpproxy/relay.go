package mcpproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// relay passes the response.
func (x *exchange) relay(resp *http.Response, calls []*call) {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	h := x.w.Header()
	for _, name := range returnedHeaders {
		if values := resp.Header.Values(name); len(values) > 0 && !x.events {
			h[name] = values
		}
	}
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" && !x.events {
		if id == x.upstreamID {
			h.Set("Mcp-Session-Id", x.h.bind(x.up.Name, x.caller.ID, id))
		} else if bound, ok := x.h.adopt(x.up.Name, x.caller, id, x.session); ok {
			h.Set("Mcp-Session-Id", bound)
		}
	}
	stream := kind == "text/event-stream" && resp.StatusCode == http.StatusOK
	if !x.events && stream {
		x.w.WriteHeader(resp.StatusCode)
		_ = x.control.Flush()
	}
	var err error
	switch {
	case stream:
		err = x.relayEvents(resp.Body)
	case kind == "application/json" && resp.StatusCode == http.StatusOK:
		err = x.relayJSON(resp.Body)
	default:
		err = x.relayStatus(resp, calls)
	}
	if err != nil && x.r.Context().Err() == nil {
		x.h.Logger.Warn("the response of an MCP server broke off", "server", x.up.Name, "error", err)
	}
	x.unanswered(calls)
	if err != nil { // the connection breaks off, so that the client does not take a part for the whole
		_ = x.control.SetWriteDeadline(time.Now().Add(-time.Second))
	}
}

// unanswered decides about the calls whose response did not come with the response to their request.
func (x *exchange) unanswered(calls []*call) {
	x.session.mu.Lock()
	resumable := x.session.id != ""
	x.session.mu.Unlock()
	if resumable { // it may come on a resumed stream
		x.session.expect(calls, lostGrace)
		return
	}
	why := errNoResponse
	if x.r.Context().Err() != nil {
		why = errCancelled // closing the stream is the cancellation
	}
	x.fail(calls, outcome{err: why})
}

func (x *exchange) relayEvents(body io.Reader) error {
	relay := &eventRelay{session: x.session, send: x.send}
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := relay.write(x.r.Context(), buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return relay.close(x.r.Context())
		case err != nil:
			_ = relay.flush()
			return err
		}
	}
}

// relayJSON passes one frame. The last piece of a long one waits until it is recorded.
func (x *exchange) relayJSON(body io.Reader) error {
	var frame bytes.Buffer
	_, err := io.CopyN(&frame, body, maxEvent+1)
	switch {
	case errors.Is(err, io.EOF):
		out := frame.Bytes()
		if record := x.session.FromServer(out); record != nil {
			if instead := record(x.r.Context()); instead != nil {
				out = instead
			}
		}
		if x.events {
			out = dataEvent(out)
		}
		return x.send(out)
	case err != nil:
		return err
	}
	if x.events {
		return x.relayLongEvent(&frame, body)
	}
	long := newLongFrame()
	held := frame.Bytes()
	_, _ = long.Write(held)
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := x.send(held); err != nil {
				return err
			}
			held = append(held[:0:0], buf[:n]...)
			_, _ = long.Write(held)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if record := x.session.longFromServer(long); record != nil {
		if err := record(x.r.Context()); err != nil {
			return fmt.Errorf("a result could not be recorded, and is withheld: %w", err)
		}
	}
	return x.send(held)
}

// relayLongEvent passes a long frame as an event in a stream that has begun. Line breaks in it are white space of JSON.
func (x *exchange) relayLongEvent(begin io.Reader, body io.Reader) error {
	relay := &eventRelay{session: x.session, send: x.send}
	if err := relay.write(x.r.Context(), []byte("event: message\ndata: ")); err != nil {
		return err
	}
	all, buf := io.MultiReader(begin, body), make([]byte, 64<<10)
	for {
		n, err := all.Read(buf)
		for i, c := range buf[:n] {
			if c == '\n' || c == '\r' {
				buf[i] = ' '
			}
		}
		if err := relay.write(x.r.Context(), buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return relay.write(x.r.Context(), []byte("\n\n"))
		}
		if err != nil {
			return err
		}
	}
}

// relayStatus passes a response that is no result: 202 for a notification, an error, or what is no answer of MCP.
func (x *exchange) relayStatus(resp *http.Response, calls []*call) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxFailure))
	if err != nil {
		return err
	}
	out := raw
	if record := x.session.FromServer(raw); record != nil {
		if instead := record(x.r.Context()); instead != nil {
			out = instead
		}
	}
	if resp.StatusCode >= 400 {
		x.fail(calls, outcome{err: fmt.Sprint(resp.StatusCode), output: plain(string(raw), maxKept)})
	}
	if x.events {
		if !json.Valid(out) || len(calls) != 1 {
			x.failed(0, calls, fmt.Sprintf("the MCP server answered %d", resp.StatusCode))
			return nil
		}
		return x.send(dataEvent(out))
	}
	x.w.WriteHeader(resp.StatusCode)
	if len(out) == 0 {
		return nil
	}
	return x.send(out)
}
