package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

// The stream's intervals: how often it polls, how far back it looks for events that were committed out of order, its
// longest duration, and its heartbeat.
const (
	pollEvery      = 500 * time.Millisecond
	pollOverlap    = 3 * time.Second
	streamTime     = time.Hour
	heartbeatEvery = 15 * time.Second
	maxStreamed    = 100_000 // largest number of remembered ids within pollOverlap
)

// messageSchema is the extension that names the schema of a stream's messages: OpenAPI 3.1 has no word for it.
const messageSchema = "x-konstruct-message-schema"

// stream registers the stream of new events (server-sent events). A client that resumes with Last-Event-ID misses
// nothing, and may get the last three seconds again, because events may commit out of order.
func (s *Server) stream() {
	op := huma.Operation{OperationID: "streamEvents", Method: "GET", Path: "/v1/events/stream",
		Tags: []string{"Events"}, Summary: "Stream new events (server-sent events)",
		Description: "Each message is an event, named `event`. Send its id as Last-Event-ID to resume: the events " +
			"since then are sent, and perhaps those of the three seconds before once more. Events whose " +
			"created_at is more than three seconds ago when they are written do not appear. The stream ends after an " +
			"hour, or when the service stops: clients reconnect by themselves.",
		Extensions: map[string]any{messageSchema: "Event"},
		Responses: map[string]*huma.Response{"200": {Description: "Events, until the client disconnects",
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: "string"}}}}}}
	register(s, op, access.EventsRead, func(ctx context.Context, w access.Principal, in *struct {
		Agent  string `query:"agent_id" format:"uuid"`
		Action string `query:"action_type" maxLength:"1024"`
		Last   string `header:"Last-Event-ID" maxLength:"200" doc:"Resume after this message"`
	}) (*huma.StreamResponse, error) {
		f, err := EventFilter{Agent: in.Agent, Action: in.Action}.filter(w)
		if err != nil {
			return nil, err
		}
		since := time.Now()
		eid, err := optionalID("header.Last-Event-ID", in.Last)
		if err != nil {
			return nil, err
		}
		if eid != uuid.Nil {
			last, err := s.getEvent(ctx, w, PathID{in.Last})
			if err != nil {
				return nil, err
			}
			since = last.CreatedAt
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, rw := humago.Unwrap(hc)
			rw.Header().Set("Content-Type", "text/event-stream")
			rw.Header().Set("X-Accel-Buffering", "no")
			follower := &eventStream{s: s, w: w, asked: r, f: f, since: since, sent: map[uuid.UUID]time.Time{}, out: rw,
				control: http.NewResponseController(rw)}
			follower.sent[eid] = since
			if err := follower.run(r.Context()); err != nil && r.Context().Err() == nil {
				s.logger.WarnContext(r.Context(), "a stream ended", "request", requestID(r.Context()), "error", err)
			}
		}}, nil
	})
}

// eventStream is one client's stream.
type eventStream struct {
	s       *Server
	w       access.Principal
	asked   *http.Request
	f       audit.Filter
	since   time.Time
	sent    map[uuid.UUID]time.Time // by created_at
	out     http.ResponseWriter
	control *http.ResponseController
}

func (f *eventStream) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, streamTime)
	defer cancel()
	if err := f.write(": hello\nretry: 1000\n\n"); err != nil {
		return err
	}
	for beat := time.Now(); ; {
		n, err := f.poll(ctx)
		if err != nil {
			return err
		}
		if n > 0 {
			beat = time.Now()
		} else if time.Since(beat) > heartbeatEvery {
			if err := f.write(": still here\n\n"); err != nil {
				return err
			}
			beat = time.Now()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.s.lifetime.Done():
			return nil
		case <-time.After(pollEvery):
		}
		if f.s.draining.Load() {
			return nil
		}
		if _, err := f.s.authenticate(ctx, f.asked); err != nil { // the credential may have been revoked
			return err
		}
	}
}

// poll sends the events written since the last poll, the oldest first.
func (f *eventStream) poll(ctx context.Context) (n int, err error) {
	filter := f.f
	filter.Since = f.since.Add(-pollOverlap)
	newest := f.since
	for e, err := range f.s.tenant(f.w).Events().All(ctx, filter) {
		if err != nil {
			return n, err
		}
		if _, before := f.sent[e.ID]; before || e.CreatedAt.Before(f.since.Add(-pollOverlap)) {
			continue
		}
		raw, err := json.Marshal(e)
		if err != nil {
			return n, err
		}
		if err := f.write(fmt.Sprintf("id: %s\nevent: event\ndata: %s\n\n", e.ID, raw)); err != nil {
			return n, err
		}
		if f.sent[e.ID] = e.CreatedAt; e.CreatedAt.After(newest) && e.CreatedAt.Before(time.Now().Add(time.Minute)) {
			newest = e.CreatedAt
		}
		if n++; len(f.sent) > maxStreamed {
			break
		}
	}
	f.since = newest
	for id, at := range f.sent {
		if at.Before(f.since.Add(-pollOverlap)) {
			delete(f.sent, id)
		}
	}
	return n, nil
}

// write sends text, and fails when the client does not read within bodyTime.
func (f *eventStream) write(text string) error {
	if err := f.control.SetWriteDeadline(time.Now().Add(bodyTime)); err != nil &&
		!errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := f.out.Write([]byte(text)); err != nil {
		return err
	}
	return f.control.Flush()
}
