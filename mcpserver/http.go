package mcpserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/konstruct/konstruct/strictjson"
)

// Headers of streamable HTTP.
const (
	versionHeader = "Mcp-Protocol-Version"
	sessionHeader = "Mcp-Session-Id"
)

// Over HTTP, Forbid answers a request whose principal lacks a permission, as OAuth 2.0 has it: with the scopes that
// would do. id is the request's, as JSON.
type Forbid func(lacks *PermissionError, id json.RawMessage)

// ServeHTTP serves one request of streamable HTTP, whose caller is known. It answers POST alone: there is nothing to
// stream beside an answer, and no session to end.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request, caller Caller, forbid Forbid) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, &FrameError{Code: codeInvalid, Reason: "send each message by POST"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxFrame+1))
	if err != nil || len(body) > MaxFrame {
		status, reason := http.StatusBadRequest, "the frame ended early"
		if large := (*http.MaxBytesError)(nil); err == nil || errors.As(err, &large) {
			status, reason = http.StatusRequestEntityTooLarge, fmt.Sprintf("the frame has more than %d bytes", MaxFrame)
		}
		refuse(w, status, &FrameError{Code: codeInvalid, Reason: reason})
		return
	}
	f, refused := readFrame(body)
	if refused != nil {
		refuse(w, http.StatusBadRequest, refused)
		return
	}
	conn, status, refused := s.connect(r, caller, &f)
	if refused != nil {
		refuse(w, status, refused)
		return
	}
	if f.Method == "" { // a response, to what nobody has asked
		w.WriteHeader(http.StatusAccepted)
		return
	}
	life, end := context.WithCancel(r.Context())
	defer end()
	if conn.session != "" { // older revisions: a lost connection is no cancellation
		life, end = context.WithCancel(context.WithoutCancel(r.Context()))
		defer end()
	}
	if caller.Life != nil {
		defer context.AfterFunc(caller.Life, end)()
	}
	defer s.calls.begin(callID{conn.session, string(f.ID)}, end)()
	conn.life = life
	ctx := context.WithValue(r.Context(), connectionKey{}, conn)
	switch {
	case f.Method == "notifications/cancelled" && conn.session != "":
		s.calls.cancel(callID{conn.session, string(f.params.RequestID)})
		w.WriteHeader(http.StatusAccepted)
		return
	case f.Method == "initialize":
		id, err := s.beginSession(caller.Principal, conn.client)
		if err != nil {
			refuse(w, http.StatusInternalServerError, &FrameError{codeInternal, f.ID, "no session can be begun"})
			return
		}
		w.Header().Set(sessionHeader, id)
	}
	if lacks := s.lacks(caller.Principal, f.Method, f.target()); lacks != nil {
		if err := s.recordDenied(ctx, conn, &f, lacks); err != nil {
			refuse(w, http.StatusServiceUnavailable, &FrameError{codeInternal, f.ID, err.Error()})
			return
		}
		forbid(lacks, f.ID)
		return
	}
	limit := callTime
	if s.takesLong(f.params.Name) {
		limit = longTime
	}
	// ignore the error: the connection has no deadlines, or is gone
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + writeTime))
	r = r.WithContext(ctx)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(f.params.Meta.Progress) > 0 {
		s.streams.ServeHTTP(w, r)
		return
	}
	s.plain.ServeHTTP(w, r)
}

// writeTime is how long a client may take to read a response.
const writeTime = time.Minute

// connect reads what a request says of its connection.
func (s *Server) connect(r *http.Request, caller Caller, f *frame) (*connection, int, *FrameError) {
	conn := &connection{Caller: caller, client: f.client(), request: strings.Trim(string(f.ID), `"`)}
	for _, name := range []string{versionHeader, sessionHeader, "Mcp-Method", "Mcp-Name"} {
		if len(r.Header.Values(name)) > 1 {
			return nil, http.StatusBadRequest, &FrameError{codeInvalid, f.ID, "header." + name + ": it occurs twice"}
		}
	}
	conn.version = r.Header.Get(versionHeader)
	if v := conn.version; v != "" && !slices.Contains(versions, v) {
		return nil, http.StatusBadRequest, &FrameError{codeVersion, f.ID, fmt.Sprintf("protocol version %.40q is not "+
			"served: %s are", v, strings.Join(versions, ", "))}
	}
	if conn.version >= stateless || f.params.Meta.Version != "" {
		return conn, 0, nil
	}
	if id := r.Header.Get(sessionHeader); id != "" && f.Method != "initialize" {
		client, known := s.readSession(caller.Principal, id)
		if !known {
			return nil, http.StatusNotFound, &FrameError{codeInvalid, f.ID, "there is no such session of this " +
				"credential: begin a new one"}
		}
		conn.session, conn.client = id, client
		if conn.Conversation == "" {
			conn.Conversation = sessionName(id)
		}
	}
	return conn, 0, nil
}

// sessionName returns a name for a session that says nothing of what its id holds.
func sessionName(id string) string {
	_, mark, _ := strings.Cut(id, ".")
	return "mcp-" + mark
}

// recordDenied records a request that is refused before the SDK sees it.
func (s *Server) recordDenied(ctx context.Context, conn *connection, f *frame, lacks *PermissionError) error {
	c := s.newCall(conn, f.Method, f.target())
	var params struct {
		Arguments json.RawMessage `json:"arguments"`
	}
	_ = json.Unmarshal(f.Params, &params) // an object: readFrame has seen it
	if err := s.admit(ctx, c); err != nil {
		return errors.New(s.explain(ctx, err))
	}
	if err := c.record(ctx, string(params.Arguments), lacks.Error(), errDenied); err != nil {
		return s.notRecorded(ctx, c, err)
	}
	return nil
}

// refuse answers with a JSON-RPC error.
func refuse(w http.ResponseWriter, status int, e *FrameError) {
	raw := e.Frame()
	if e.Code == codeVersion { // the one error with data that clients read
		id := e.ID
		if len(id) == 0 {
			id = json.RawMessage("null")
		}
		raw, _ = strictjson.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": e.Code,
			"message": e.Reason, "data": map[string]any{"supported": versions}}}) // texts
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw) // ignore the error: the client is gone
}
