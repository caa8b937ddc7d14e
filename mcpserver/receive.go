package mcpserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

// How long a request may take: callTime, or longTime for a tool that says so.
const (
	callTime = time.Minute
	longTime = 10 * time.Minute
)

// receive is the SDK's middleware for every request: it bounds and records it, and answers for what the SDK has no
// hook.
func (s *Server) receive(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (res mcp.Result, err error) {
		defer func() {
			if thrown := recover(); thrown != nil {
				s.c.Logger.ErrorContext(ctx, "an MCP request panicked", "method", method, "panic", thrown, "stack",
					string(debug.Stack()))
				res, err = nil, &jsonrpc.Error{Code: codeInternal, Message: "something went wrong here"}
			}
		}()
		conn := callOf(ctx)
		limit := callTime
		if r, is := req.(*mcp.CallToolRequest); is && s.takesLong(r.Params.Name) {
			limit = longTime
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if limit == longTime {
			defer context.AfterFunc(s.c.Stopping, cancel)()
		}
		defer context.AfterFunc(conn.life, cancel)()
		switch r := req.(type) {
		case *mcp.CallToolRequest:
			return s.callTool(ctx, conn, r, next)
		case *mcp.ReadResourceRequest:
			return s.recordReading(ctx, s.begin(conn, method, r.Params.URI, r), "", next, req)
		case *mcp.GetPromptRequest:
			arguments, _ := json.Marshal(r.Params.Arguments) // texts
			return s.recordReading(ctx, s.begin(conn, method, r.Params.Name, r), string(arguments), next, req)
		case *mcp.ListResourcesRequest:
			if r.Params == nil {
				r.Params = &mcp.ListResourcesParams{}
			}
			return s.listResources(ctx, s.begin(conn, method, "", r), r)
		case *mcp.SubscriptionsListenRequest: // nothing here changes by itself: a stream would be open for nothing
			return nil, &jsonrpc.Error{Code: codeMethod, Message: "this server sends no notifications of changes"}
		}
		return next(ctx, method, req)
	}
}

// takesLong reports whether a tool may take long.
func (s *Server) takesLong(name string) bool {
	return slices.ContainsFunc(s.tools, func(t tool) bool { return t.long && t.definition.Name == name })
}

// request is what requests of every kind have.
type request interface {
	ProtocolVersion() string
	ClientInfo() *mcp.Implementation
	GetParams() mcp.Params
	GetSession() mcp.Session
}

// newCall returns a call that begins now.
func (s *Server) newCall(conn *connection, method, name string) *call {
	own := *conn
	c := &call{connection: &own, s: s, method: method, name: recordable(name), began: time.Now(), span: newSpan()}
	c.event, _ = uuid.NewV7() // on an error the trail draws one
	return c
}

// begin notes a call.
func (s *Server) begin(conn *connection, method, name string, r request) *call {
	c := s.newCall(conn, method, name)
	own := c.connection
	if own.version == "" {
		own.version = r.ProtocolVersion()
	}
	if said := r.ClientInfo(); own.client == (implementation{}) && said != nil {
		own.client = implementation{recordable(said.Name), recordable(said.Version)}
	}
	meta := r.GetParams().GetMeta()
	if text, is := meta["traceparent"].(string); is {
		c.trace = parseTraceparent(text)
	}
	for _, known := range callIDNames {
		if text, is := meta[known].(string); is {
			c.callID = recordable(text)
		}
	}
	return c
}

func newSpan() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// callTool runs a tool and records the call.
func (s *Server) callTool(ctx context.Context, conn *connection, r *mcp.CallToolRequest,
	next mcp.MethodHandler) (mcp.Result, error) {
	c := s.begin(conn, "tools/call", r.Params.Name, r)
	if session, token := r.Session, r.Params.GetProgressToken(); token != nil {
		c.progress = func(done, total float64, what string) {
			// ignore the error: the client is gone, or its request is
			_ = session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: done,
				Total: total, Message: what})
		}
	}
	arguments := string(r.Params.Arguments)
	if err := s.admit(ctx, c); err != nil {
		return nil, &jsonrpc.Error{Code: codeInvalid, Message: s.explain(ctx, err)} // too many to record each
	}
	if lacks := s.lacks(c.Principal, "tools/call", r.Params.Name); lacks != nil {
		if err := c.record(ctx, arguments, lacks.Error(), errDenied); err != nil {
			return nil, s.notRecorded(ctx, c, err)
		}
		return c.failed(lacks.Error()), nil
	}
	res, err := next(context.WithValue(ctx, callKey{}, c), "tools/call", r)
	output, errorType := summarize(c.summary), ""
	if result, is := res.(*mcp.CallToolResult); is && err == nil && result.IsError {
		errorType, output = errTool, textOf(result)
		if ctx.Err() != nil {
			errorType = errCancelled
		}
	}
	if err != nil {
		errorType, output = errorCode(ctx, err), s.explain(ctx, err)
	}
	if failed := c.record(ctx, arguments, output, errorType); failed != nil {
		return nil, s.notRecorded(ctx, c, failed)
	}
	if result, is := res.(*mcp.CallToolResult); is && result != nil && c.event != uuid.Nil {
		if result.Meta == nil {
			result.Meta = mcp.Meta{}
		}
		result.Meta[metaEvent] = c.event.String()
	}
	return res, err
}

// callKey is the key of a context's call.
type callKey struct{}

// recordReading reads a resource or a prompt and records that.
func (s *Server) recordReading(ctx context.Context, c *call, arguments string, next mcp.MethodHandler,
	req mcp.Request) (mcp.Result, error) {
	if err := s.admit(ctx, c); err != nil {
		return nil, &jsonrpc.Error{Code: codeInvalid, Message: s.explain(ctx, err)}
	}
	if lacks := s.lacks(c.Principal, c.method, c.name); lacks != nil {
		if err := c.record(ctx, arguments, lacks.Error(), errDenied); err != nil {
			return nil, s.notRecorded(ctx, c, err)
		}
		return nil, &jsonrpc.Error{Code: codeInvalid, Message: lacks.Error()}
	}
	res, err := next(context.WithValue(ctx, callKey{}, c), c.method, req)
	output, errorType := summarize(c.summary), ""
	if err != nil {
		errorType, output = errorCode(ctx, err), s.explain(ctx, err)
	}
	if failed := c.record(ctx, arguments, output, errorType); failed != nil {
		return nil, s.notRecorded(ctx, c, failed)
	}
	if err != nil {
		return nil, s.protocolError(ctx, err)
	}
	return res, nil
}

// protocolError returns an error as JSON-RPC has it.
func (s *Server) protocolError(ctx context.Context, err error) error {
	var known *jsonrpc.Error
	if errors.As(err, &known) {
		return known
	}
	return &jsonrpc.Error{Code: codeParams, Message: s.explain(ctx, err)}
}

// admit takes a call into account.
func (s *Server) admit(ctx context.Context, c *call) error {
	if s.c.Admit == nil {
		return nil
	}
	kind := access.Events
	if c.method == "tools/call" && c.name == searchName {
		kind = access.Searches
	}
	return s.c.Admit(ctx, c.Principal, kind, 1)
}

// notRecorded is the answer to a call whose event could not be written: nothing is done unseen.
func (s *Server) notRecorded(ctx context.Context, c *call, err error) error {
	s.c.Logger.ErrorContext(ctx, "a call over MCP could not be recorded", "method", c.method, "name", c.name, "error",
		err)
	return &jsonrpc.Error{Code: codeInternal,
		Message: "the call could not be recorded, so its result is withheld: " + s.explain(ctx, err)}
}

// errorCode is the error.type of an error.
func errorCode(ctx context.Context, err error) string {
	var known *jsonrpc.Error
	switch {
	case ctx.Err() != nil:
		return errCancelled
	case errors.As(err, &known):
		return fmt.Sprint(known.Code)
	}
	return errOther
}

// explain returns what a caller may read of an error.
func (s *Server) explain(ctx context.Context, err error) string {
	var own *argumentError
	var lacks *PermissionError
	var known *jsonrpc.Error
	var field *audit.FieldError
	switch {
	case errors.As(err, &own):
		return own.Error()
	case errors.As(err, &lacks):
		return lacks.Error()
	case errors.Is(err, errOneAgent), errors.Is(err, errManyAgents), errors.Is(err, errNobody):
		return err.Error()
	case errors.As(err, &known):
		return known.Message
	case errors.As(err, &field):
		return field.Field + ": " + field.Reason
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return "it was cancelled"
	}
	return s.c.Explain(ctx, err)
}

// PermissionError says that a principal lacks what it takes to use something.
type PermissionError struct {
	Needs []access.Permission // one of them
}

// Error implements error.
func (e *PermissionError) Error() string {
	return "permission denied: it needs " + access.JoinPermissions(e.Needs, " or ")
}

// lacks returns why a principal may not use something that there is, or nil.
func (s *Server) lacks(who access.Principal, method, name string) *PermissionError {
	switch method {
	case "tools/call":
		for _, t := range s.tools {
			if t.definition.Name == name && !t.allows(who) {
				return &PermissionError{t.needs}
			}
		}
	case "resources/read":
		for _, t := range s.templates() {
			if strings.HasPrefix(name, t.prefix) && !who.Can(t.needs) {
				return &PermissionError{[]access.Permission{t.needs}}
			}
		}
	case "prompts/get":
		for _, p := range s.prompts() {
			if p.definition.Name == name && !who.Can(p.needs) {
				return &PermissionError{[]access.Permission{p.needs}}
			}
		}
	}
	return nil
}
