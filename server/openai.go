package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/files"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/strictjson"
)

// openAIPaths are those of OpenAI's files, uploads and vector stores, which are the knowledge base's. OpenAI describes
// them, and they are not in this API's description. Other paths below openAIPrefix are the gateway's.
var openAIPaths = []string{openAIPrefix + "files", openAIPrefix + "uploads", openAIPrefix + "vector_stores"}

// openAIProtocols are those of openAIPaths; and, where there is no gateway, of what is not there.
func (s *Server) openAIProtocols() (all []protocol) {
	for _, path := range openAIPaths {
		for _, prefix := range []string{path, path + "/"} {
			all = append(all, protocol{prefix: prefix, credential: vendorCredential, refuse: s.refuseOpenAI})
		}
	}
	if s.c.Gateway == nil {
		all = append(all, protocol{prefix: openAIPrefix, credential: vendorCredential, refuse: s.refuseOpenAI})
	}
	return all
}

// openAIRoutes registers OpenAI's operations on the knowledge base.
func (s *Server) openAIRoutes() {
	s.openAIFiles()
	s.openAIUploads()
	s.openAIStores()
	s.openAIStoreFiles()
	s.openAIBatches()
	if s.c.Gateway == nil {
		s.mux.HandleFunc(openAIPrefix, s.notFound)
		s.refused[openAIPrefix] = true
	}
}

// openAIHandler handles a request of OpenAI's API. What it returns is the response, as JSON.
type openAIHandler func(ctx context.Context, w access.Principal, r *http.Request) (any, error)

// openAI registers an operation of OpenAI's API below openAIPrefix.
func (s *Server) openAI(pattern string, may access.Permission, h openAIHandler) {
	s.openAIRaw(pattern, may, func(w http.ResponseWriter, r *http.Request) error {
		out, err := h(r.Context(), principalOf(r.Context()), r)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(raw, '\n'))
		return nil
	})
}

// openAIRaw is openAI for a handler that writes the response itself, unless it returns an error.
func (s *Server) openAIRaw(pattern string, may access.Permission, h func(http.ResponseWriter, *http.Request) error) {
	method, path, _ := strings.Cut(pattern, " ")
	s.mux.HandleFunc(method+" "+openAIPrefix+path, func(w http.ResponseWriter, r *http.Request) {
		who := principalOf(r.Context())
		var err error
		if !who.Can(may) {
			err = problem(http.StatusForbidden, "permission denied: it needs %s", may)
		} else if p := checkQuery(r.URL.RawQuery); p != nil {
			err = p
		} else {
			err = h(w, r)
		}
		if err != nil {
			s.writeResponseProblem(w, r, s.openAIProblem(r.Context(), err))
		}
	})
}

// openAIProblem converts an error of an operation of OpenAI's API.
func (s *Server) openAIProblem(ctx context.Context, err error) *Problem {
	var none *kb.NoFileError
	var state *files.StateError
	var parts *files.PartsError
	switch {
	case errors.As(err, &none):
		return problem(http.StatusNotFound, "No such File object: %s", fileID(none.ID))
	case errors.Is(err, files.ErrNotFound), errors.Is(err, kb.ErrNotFound), errors.Is(err, files.ErrNoUpload),
		errors.Is(err, kb.ErrNoCollection), errors.Is(err, kb.ErrNoBatch):
		return problem(http.StatusNotFound, "there is no such object of this tenant")
	case errors.As(err, &state):
		return problem(http.StatusBadRequest, "%s", state.Error())
	case errors.As(err, &parts):
		return openAIField(parts.Field, parts.Reason)
	case errors.Is(err, kb.ErrNoCursor):
		return problem(http.StatusBadRequest, "%s", kb.ErrNoCursor.Error())
	case errors.Is(err, kb.ErrCollectionExpired):
		return problem(http.StatusBadRequest, "The vector store has expired: it holds no files any more.")
	case errors.Is(err, files.ErrEmpty), errors.Is(err, files.ErrTaken):
		return problem(http.StatusBadRequest, "%s", err.Error())
	case errors.Is(err, files.ErrTooLarge):
		return problem(http.StatusRequestEntityTooLarge, "%s", files.ErrTooLarge.Error())
	case errors.Is(err, files.ErrPartTooLarge):
		return problem(http.StatusRequestEntityTooLarge, "%s", files.ErrPartTooLarge.Error())
	case errors.Is(err, files.ErrFull):
		return retryLater(http.StatusTooManyRequests, time.Minute, "%s", files.ErrFull.Error())
	}
	return s.errorResponse(ctx, err)
}

// openAIField is the problem of a field of a request of OpenAI's API.
func openAIField(field, reason string) *Problem {
	p := problem(http.StatusBadRequest, "%s: %s", field, reason)
	p.Errors = []FieldProblem{{field, reason}}
	return p
}

// openAIFieldOf is the problem of an error that begins with a field's name.
func openAIFieldOf(err error) error {
	if err == nil {
		return nil
	}
	field, reason, _ := strings.Cut(err.Error(), ": ")
	return openAIField(field, reason)
}

// openAIErrorBody is an error as OpenAI's clients read it.
type openAIErrorBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// refuseOpenAI writes a problem as OpenAI's API does, where what can't be processed is a bad request.
func (s *Server) refuseOpenAI(w http.ResponseWriter, r *http.Request, p *Problem) {
	code := map[int]string{http.StatusUnauthorized: "invalid_api_key", http.StatusForbidden: "permission_denied",
		http.StatusNotFound: "not_found", http.StatusRequestEntityTooLarge: "request_too_large",
		http.StatusTooManyRequests: "rate_limit_exceeded"}[p.Status]
	status := p.Status
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	e := openAIErrorBody{Message: p.Detail, Type: "invalid_request_error"}
	if len(p.Errors) > 0 {
		at := p.Errors[0].Location
		for _, place := range []string{"body.", "query.", "path."} {
			at = strings.TrimPrefix(at, place)
		}
		e.Message, e.Param = strings.Replace(p.Detail, p.Errors[0].Location, at, 1), &at
	}
	switch {
	case status == http.StatusTooManyRequests:
		e.Type = "rate_limit_error"
	case status >= http.StatusInternalServerError:
		e.Type = "server_error"
	case code == "" && e.Param != nil:
		code = "invalid_value"
	}
	if code != "" {
		e.Code = &code
	}
	raw, err := json.Marshal(map[string]openAIErrorBody{"error": e})
	if err == nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, err = w.Write(append(raw, '\n'))
	}
	if err != nil {
		s.logger.DebugContext(r.Context(), "a response could not be sent", "request", p.Instance, "error", err)
	}
}

// Prefixes of ids, as OpenAI has them.
const (
	filePrefix   = "file-"
	storePrefix  = "vs_"
	uploadPrefix = "upload_"
	partPrefix   = "part_"
	batchPrefix  = "vsfb_"
)

func openAIID(prefix string, id uuid.UUID) string { return prefix + hex.EncodeToString(id[:]) }

func fileID(id uuid.UUID) string { return openAIID(filePrefix, id) }

// parseOpenAIID reads an id. One that can't be one is that of nothing: 404.
func parseOpenAIID(prefix, id string) (uuid.UUID, error) {
	digits, is := strings.CutPrefix(id, prefix)
	raw, err := hex.DecodeString(digits)
	if !is || err != nil || len(raw) != 16 || strings.ToLower(digits) != digits {
		return uuid.Nil, problem(http.StatusNotFound, "there is no %.100q: an id like %s… is expected here", id, prefix)
	}
	return uuid.UUID(raw), nil
}

// pathID reads the id of a path.
func pathID(r *http.Request, name, prefix string) (uuid.UUID, error) {
	return parseOpenAIID(prefix, r.PathValue(name))
}

// fileIDs reads the ids of a field.
func fileIDs(field string, all []string) (ids []uuid.UUID, err error) {
	if len(all) > kb.MaxAttachments {
		return nil, openAIField(field, fmt.Sprintf("there are %d, the limit is %d", len(all), kb.MaxAttachments))
	}
	for i, one := range all {
		id, err := parseOpenAIID(filePrefix, one)
		if err != nil {
			p := problem(http.StatusNotFound, "No such File object: %.100s", one)
			p.Errors = []FieldProblem{{fmt.Sprintf("%s[%d]", field, i), ""}}
			return nil, p
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// readOpenAI reads a request's body; an empty one is an empty object.
func readOpenAI(r *http.Request, to any) error {
	raw, err := readBody(r)
	if raw == nil && err == nil { // read already, for its Idempotency-Key
		raw, err = io.ReadAll(r.Body)
	}
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = []byte(`{}`)
	}
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return problem(http.StatusBadRequest, "body: %s", err.Error())
	}
	if at, what := strictjson.CheckText(raw); what != "" {
		return openAIField(strings.TrimPrefix(at, "."), what)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err = d.Decode(to)
	var kind *json.UnmarshalTypeError
	var p *Problem
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		return p
	case errors.As(err, &kind):
		field := kind.Field
		if first, rest, below := strings.Cut(field, "."); below && strings.HasPrefix(first, "openAI") {
			field = rest // the name of an embedded struct
		}
		return openAIField(field, fmt.Sprintf("it is of another type: a JSON %s can't stand there", kind.Value))
	}
	if name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown { // it has no type
		return openAIField(strings.Trim(name, `"`), "there is no such parameter")
	}
	return problem(http.StatusBadRequest, "body: it is not JSON that can be read")
}

// openAIQuery reads the parameters of a list: prefix is that of its items' ids, further are parameters beside the
// common ones.
func openAIQuery(r *http.Request, prefix string, limit, most int, further ...string) (page kb.Page, q url.Values,
	err error) {
	q = r.URL.Query()
	page = kb.Page{Limit: limit, Descending: true}
	for name, values := range q {
		if !slices.Contains(append(further, "after", "before", "limit", "order"), name) {
			return page, q, openAIField(fmt.Sprintf("%.80s", name), "there is no such parameter")
		}
		if len(values) > 1 {
			return page, q, openAIField(name, "it is repeated")
		}
	}
	for name, to := range map[string]**uuid.UUID{"after": &page.After, "before": &page.Before} {
		if v := q.Get(name); v != "" {
			id, err := parseOpenAIID(prefix, v)
			if err != nil {
				return page, q, openAIField(name, fmt.Sprintf("%.100q is no id like %s…", v, prefix))
			}
			*to = &id
		}
	}
	if v := q.Get("limit"); v != "" {
		if page.Limit, err = strconv.Atoi(v); err != nil || page.Limit < 1 || page.Limit > most {
			return page, q, openAIField("limit", fmt.Sprintf("%.20q: it is 1 to %d", v, most))
		}
	}
	switch v := q.Get("order"); v {
	case "", "desc":
	case "asc":
		page.Descending = false
	default:
		return page, q, openAIField("order", fmt.Sprintf("%.20q: it is asc or desc", v))
	}
	return page, q, nil
}

// openAIList is a page of a list.
type openAIList struct {
	Object  string  `json:"object"`
	Data    []any   `json:"data"`
	FirstID *string `json:"first_id"`
	LastID  *string `json:"last_id"`
	HasMore bool    `json:"has_more"`
}

// newOpenAIList is the page of some items.
func newOpenAIList[T any](items []T, more bool, convert func(T) (id string, item any)) openAIList {
	l := openAIList{Object: "list", Data: []any{}, HasMore: more}
	for _, one := range items {
		id, item := convert(one)
		l.Data = append(l.Data, item)
		if l.FirstID == nil {
			l.FirstID = &id
		}
		l.LastID = &id
	}
	return l
}

// openAIDeleted says that something was deleted.
type openAIDeleted struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}
