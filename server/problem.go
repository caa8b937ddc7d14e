package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/artifact"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/strictjson"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/webhook"
)

// Problem is an error response (RFC 9457).
type Problem struct {
	Title  string `json:"title" doc:"The kind of problem"`
	Status int    `json:"status" doc:"The HTTP status"`
	Detail string `json:"detail" doc:"What is wrong, and what to do"`
	// Instance is the request's id, which is also in the service's log.
	Instance string         `json:"instance,omitempty" doc:"The request's id, as in the service's log"`
	Errors   []FieldProblem `json:"errors,omitempty" doc:"Each field that is wrong"`

	after time.Duration
}

// FieldProblem is an invalid field.
type FieldProblem struct {
	Location string `json:"location" doc:"Such as query.limit" example:"body.events[3].action_type"`
	Message  string `json:"message" doc:"Why, and what is valid"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.after.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="konstruct"`)
	}
	return h
}

func problem(status int, format string, args ...any) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// fieldProblem returns the problem of an invalid field.
func fieldProblem(location, reason string) *Problem {
	p := problem(http.StatusUnprocessableEntity, "%s: %s", location, reason)
	p.Errors = []FieldProblem{{location, reason}}
	return p
}

// permissionDenied returns the problem of a field that exceeds the principal's rights.
func permissionDenied(location, reason string) *Problem {
	p := fieldProblem(location, reason)
	p.Title, p.Status = http.StatusText(http.StatusForbidden), http.StatusForbidden
	return p
}

// retryLater returns a problem with Retry-After.
func retryLater(status int, after time.Duration, format string, args ...any) *Problem {
	p := problem(status, format, args...)
	p.after = after
	return p
}

// errorResponse converts an error into a problem, without internal details.
func (s *Server) errorResponse(ctx context.Context, err error) *Problem {
	var p *Problem
	var field *audit.FieldError
	var query *search.QueryError
	var own *access.FieldError
	var hook *webhook.FieldError
	var limit *access.LimitError
	var lawful *compliance.Error
	var offset *artifact.OffsetError
	var serving *search.ModelChangedError
	var grant *tenantdb.GrantError
	switch {
	case errors.As(err, &p):
		own := *p // a shared problem is copied: each response sets its own instance
		return &own
	case errors.Is(err, access.ErrKeyReused), errors.Is(err, audit.ErrIDTaken) && ctx.Value(idempotencyKey) != nil:
		return fieldProblem("header.Idempotency-Key", access.ErrKeyReused.Error())
	case errors.As(err, &field):
		return fieldProblem(fieldLocation(ctx)+field.Field, field.Reason)
	case errors.As(err, &query):
		return fieldProblem(fieldLocation(ctx)+strings.ReplaceAll(query.Field, "-", "_"), query.Reason)
	case errors.As(err, &own):
		return fieldProblem(locate(ctx, own.Field), own.Reason)
	case errors.As(err, &hook):
		return fieldProblem(locate(ctx, hook.Field), hook.Reason)
	case errors.As(err, &grant):
		return permissionDenied(locate(ctx, grant.Field), grant.Reason)
	case errors.As(err, &limit):
		return retryLater(http.StatusTooManyRequests, limit.RetryAfter, "%s: try again in %s", limit.Kind,
			limit.RetryAfter.Round(time.Millisecond))
	case errors.As(err, &offset):
		return problem(http.StatusConflict, "%s", offset.Error())
	case errors.As(err, &serving):
		return problem(http.StatusConflict, "%s", serving.Error())
	case errors.As(err, &lawful):
		status := http.StatusUnprocessableEntity
		switch {
		case errors.Is(err, compliance.ErrNotFound):
			status = http.StatusNotFound
		case errors.Is(err, compliance.ErrHeld), errors.Is(err, compliance.ErrErased),
			errors.Is(err, compliance.ErrBusy):
			status = http.StatusConflict
		case errors.Is(err, compliance.ErrRefused):
			status = http.StatusForbidden
		}
		return problem(status, "%s", lawful.Error())
	}
	for _, known := range []struct {
		err    error
		status int
	}{
		{access.ErrUnauthenticated, http.StatusUnauthorized}, {access.ErrNotFound, http.StatusNotFound},
		{audit.ErrNoRun, http.StatusNotFound}, {audit.ErrNotFound, http.StatusNotFound},
		{kb.ErrNotFound, http.StatusNotFound}, {kb.ErrNoJob, http.StatusNotFound}, {kb.ErrNoModel, http.StatusNotFound},
		{konstruct.ErrModelNotHere, http.StatusConflict}, {kb.ErrCollectionExpired, http.StatusConflict},
		{kb.ErrNoCollection, http.StatusNotFound}, {kb.ErrTooManyCollections, http.StatusTooManyRequests},
		{artifact.ErrNotFound, http.StatusNotFound}, {notary.ErrNoFile, http.StatusNotFound},
		{audit.ErrIDTaken, http.StatusConflict}, {audit.ErrResolved, http.StatusConflict},
		{audit.ErrAcknowledged, http.StatusConflict}, {artifact.ErrFinished, http.StatusConflict},
		{artifact.ErrTooLarge, http.StatusRequestEntityTooLarge}, {konstruct.ErrNoRetrieval, http.StatusConflict},
		{search.ErrSlow, http.StatusUnprocessableEntity},
		{kb.ErrIncomplete, http.StatusConflict}, {search.ErrUntunable, http.StatusConflict},
		{webhook.ErrNotFound, http.StatusNotFound}, {webhook.ErrDisabled, http.StatusConflict},
		{webhook.ErrQueued, http.StatusConflict},
		{kb.ErrVector, http.StatusUnprocessableEntity}, {tenantdb.ErrNoTenant, http.StatusUnprocessableEntity},
	} {
		if errors.Is(err, known.err) {
			return problem(known.status, "%s", known.err.Error())
		}
	}
	for _, known := range []struct {
		err    error
		status int
	}{
		{access.ErrInProgress, http.StatusConflict}, {artifact.ErrFull, http.StatusTooManyRequests},
		{kb.ErrFull, http.StatusTooManyRequests}, {logstore.ErrNotInLog, http.StatusConflict},
		{konstruct.ErrNoReceipts, http.StatusConflict}, {notary.ErrNoKey, http.StatusConflict},
	} {
		if errors.Is(err, known.err) {
			return retryLater(known.status, retryAfter, "%s", known.err.Error())
		}
	}
	if access.ErrUnavailable(err) {
		return retryLater(http.StatusServiceUnavailable, retryAfter, "the identity provider does not answer: try again")
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && strings.HasPrefix(pg.Code, "22") { // data exception: a NUL, a time out of range
		s.logger.WarnContext(ctx, "the database can't hold a value", "request", requestID(ctx), "error", err)
		return problem(http.StatusUnprocessableEntity,
			"the database can't hold a value of this request: the service's log says which, under this request's id")
	}
	if isUnavailable(err) {
		s.logger.WarnContext(ctx, "the database can't be reached", "request", requestID(ctx), "error", err)
		return retryLater(http.StatusServiceUnavailable, retryAfter,
			"the database can't be reached: nothing was acknowledged; try again with the same Idempotency-Key")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return retryLater(http.StatusServiceUnavailable, retryAfter,
			"it took longer than it may: try again, or ask for less")
	}
	s.logger.LogAttrs(ctx, slog.LevelError, "a request failed", slog.String("request", requestID(ctx)),
		slog.Any("error", err))
	return problem(http.StatusInternalServerError,
		"something went wrong here: the service's log has it under this request's id")
}

// fieldLocation returns where a request has its fields: in the query if it has no body.
func fieldLocation(ctx context.Context) string {
	if bodiless, _ := ctx.Value(bodilessKey).(bool); bodiless {
		return "query."
	}
	return "body."
}

// locate returns the location of a field; the id is in the path.
func locate(ctx context.Context, field string) string {
	if field == "id" {
		return "path.id"
	}
	return fieldLocation(ctx) + field
}

// isUnavailable reports whether an error means that the database is unavailable.
func isUnavailable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		class := pg.Code[:min(2, len(pg.Code))]
		// server shutdown, resources, connection, system error
		return class == "57" && pg.Code != "57014" || class == "53" || class == "08" || class == "58"
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || tenantdb.Unreachable(err) || pgconn.Timeout(err) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "unexpected EOF") ||
		strings.Contains(err.Error(), "connection reset") || strings.Contains(err.Error(), "broken pipe")
}

// hideValues converts huma's own errors into problems, without the values that were sent, which may be secrets.
func hideValues(ctx huma.Context, _ string, v any) (any, error) {
	if e, ok := v.(*huma.ErrorModel); ok {
		p := &Problem{Title: e.Title, Status: e.Status, Detail: e.Detail, Instance: requestID(ctx.Context())}
		for _, d := range e.Errors {
			at, message := d.Location, d.Message
			if at == "" {
				at = "body"
			}
			if field, is := strictjson.ParseFieldError(message); is && at == "body" {
				at, message = "body."+field.Field, field.Reason
			}
			p.Errors = append(p.Errors, FieldProblem{at, message})
		}
		if len(p.Errors) > 0 {
			p.Detail = p.Errors[0].Location + ": " + p.Errors[0].Message
		}
		return p, nil
	}
	if p, ok := v.(*Problem); ok {
		p.Instance = requestID(ctx.Context())
	}
	return v, nil
}
