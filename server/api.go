package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/eval"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/strictjson"
)

// apiConfig returns the configuration of the API and of its OpenAPI description.
func (s *Server) apiConfig() huma.Config {
	c := huma.DefaultConfig("Konstruct", s.c.Version)
	c.Info.Description =
		"An audit trail nobody can rewrite, and a knowledge base nobody else can read, for AI agents.\n\n" +
			"The tenant comes from the credential. Times are RFC 3339 in UTC. A list's `next` is the cursor for " +
			"`after`, the next page. " +
			"A request with an `Idempotency-Key` can be retried safely. Errors follow RFC 9457.\n\n" +
			"Deprecated operations are marked here and respond with a `Deprecation` header (RFC 9745) for at least a " +
			"year " +
			"before removal; fields and operations are added without notice, so clients must ignore unknown ones."
	c.Info.Contact = &huma.Contact{Name: "Konstruct", URL: "https://github.com/konstruct/konstruct"}
	c.Servers = []*huma.Server{{URL: "/", Description: "This service"}}
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer",
		Description: "A key (kst_…), or an ID token of the identity provider."}}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[uuid.UUID](), reflect.TypeFor[identifier]())
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", "" // served in public.go
	c.CreateHooks = nil
	json := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: strictjson.Decode}
	c.Formats = map[string]huma.Format{"application/json": json, "json": json} // and what ends in +json
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{hideValues, requireLists}
	return c
}

// schemaName returns a type's name in the API description: its own, unless types of several packages share it.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if name, ok := schemaNames[t]; ok {
		return name
	}
	name := t.Name()
	if name == "" { // one operation's body; its hint is like createEventRequest
		name = hint
	}
	if generic, _, ok := strings.Cut(name, "["); ok { // List[…/kb.Document]
		items, _ := t.FieldByName("Items")
		return schemaName(items.Type, hint) + generic
	}
	name = notName.ReplaceAllString(name, "")
	return strings.ToUpper(name[:1]) + name[1:]
}

// schemaNames are for types whose own names are unclear outside their packages.
var schemaNames = map[reflect.Type]string{
	reflect.TypeFor[audit.StoredEvent]():      "Event",
	reflect.TypeFor[chunk.Options]():          "Chunking",
	reflect.TypeFor[audit.EscalationRecord](): "Escalation",
	reflect.TypeFor[audit.SearchOptions]():    "RecordedSearchOptions",
	reflect.TypeFor[compliance.Request]():     "ComplianceRequest",
	reflect.TypeFor[compliance.Rule]():        "RetentionRule",
	reflect.TypeFor[compliance.Erased]():      "ErasureResult",
	reflect.TypeFor[compliance.Expired]():     "RetentionResult",
	reflect.TypeFor[eval.Score]():             "Score",
	reflect.TypeFor[search.Hit]():             "SearchHit",
	reflect.TypeFor[search.Filter]():          "SearchFilter",
	reflect.TypeFor[search.Plan]():            "SearchPlan",
	reflect.TypeFor[search.Explanation]():     "SearchExplanation",
}

// notName matches the characters that a component's name must not have.
var notName = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// identifier is the schema of UUIDs.
type identifier struct{}

// Schema implements huma.SchemaProvider.
func (identifier) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "string", Format: "uuid"}
}

// NoContent is a response without a body.
type NoContent struct{}

// register registers an operation for principals with a permission; "" is any principal.
func register[I, O any](s *Server, op huma.Operation, may access.Permission,
	h func(context.Context, access.Principal, *I) (*O, error)) {
	s.requirePermission(&op, may)
	bodiless := op.Method == http.MethodGet || op.Method == http.MethodHead || op.Method == http.MethodDelete
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		ctx = context.WithValue(ctx, bodilessKey, bodiless)
		out, err := h(ctx, principalOf(ctx), in)
		var own *notModified
		switch {
		case errors.As(err, &own):
			return nil, own
		case err != nil:
			return nil, s.errorResponse(ctx, err)
		}
		return out, nil
	})
}

// requirePermission completes an operation's description, and refuses principals without the permission.
func (s *Server) requirePermission(op *huma.Operation, may access.Permission) {
	op.Security = []map[string][]string{{"bearer": {}}}
	op.Responses = s.problemResponses(op)
	op.BodyReadTimeout = time.Minute // an upper bound; the connection's deadline is the request's own
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxJSON
	}
	if op.Extensions == nil {
		op.Extensions = map[string]any{}
	}
	if may != "" {
		op.Extensions["x-konstruct-permission"] = string(may)
		op.Description = strings.TrimSpace(op.Description + "\n\nNeeds `" + string(may) + "`.")
	}
	takesKey := mutatingMethods[op.Method] && !(op.Method == http.MethodPost && returnsSecret(op.Path))
	if takesKey {
		op.Parameters = append(op.Parameters,
			&huma.Param{Name: "Idempotency-Key", In: "header",
				Description: "Unique for each request: a retry with the same key has no second effect.",
				Schema: &huma.Schema{Type: "string", MinLength: new(1), MaxLength: new(access.MaxRequestKey),
					Pattern: "^[ -~]+$"}})
	}
	op.Middlewares = append(huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		if who := principalOf(ctx.Context()); may != "" && !who.Can(may) {
			s.writeProblem(ctx,
				problem(http.StatusForbidden, "permission denied: it needs %s, and this credential has %s", may,
					cmp.Or(access.JoinPermissions(who.Permissions(), ", "), "none")))
			return
		}
		next(ctx)
	}, s.bufferBody}, op.Middlewares...)
}

// writeProblem writes a problem response from a middleware.
func (s *Server) writeProblem(ctx huma.Context, p *Problem) {
	r, w := humago.Unwrap(ctx)
	s.writeResponseProblem(w, r, p)
}

// problemResponses returns an operation's error responses.
func (s *Server) problemResponses(op *huma.Operation) map[string]*huma.Response {
	all := op.Responses
	if all == nil {
		all = map[string]*huma.Response{}
	}
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	for _, status := range slices.Concat([]int{400, 401, 403, 404, 408, 409, 413, 414, 415, 421, 422, 429, 500, 503},
		op.Errors) {
		all[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status),
			Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}}}
	}
	op.Errors = nil
	return all
}

// Page is the page size of a list.
type Page struct {
	Limit int `query:"limit" default:"50" minimum:"1" maximum:"1000" doc:"Largest number of items"`
}

// ListParams are the parameters of lists in the order of ids.
type ListParams struct {
	Page
	After string `query:"after" format:"uuid" doc:"The previous page's next"`
}

func (b ListParams) afterID() (uuid.UUID, error) { return optionalID("query.after", b.After) }

// optionalID parses an id that may be empty.
func optionalID(location, id string) (uuid.UUID, error) {
	if id == "" {
		return uuid.Nil, nil
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return u, fieldProblem(location, "it is not a UUID")
	}
	return givenID(location, &u)
}

// givenID returns an id that may be missing. To the library the zero UUID is a missing one, so nobody may send it.
func givenID(location string, id *uuid.UUID) (uuid.UUID, error) {
	switch {
	case id == nil:
		return uuid.Nil, nil
	case *id == uuid.Nil:
		return uuid.Nil, fieldProblem(location, "it is the zero UUID: leave it out, or send a UUID that is not zero")
	}
	return *id, nil
}

// givenTime returns a time that may be missing. To the library the zero time is a missing one, and neither Go's JSON
// nor RFC 3339 has a year below 0 or above 9999.
func givenTime(location string, t *time.Time) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if u := t.UTC().Truncate(time.Microsecond); u.Year() < 1 || u.Year() > 9999 || u.IsZero() {
		return u, fieldProblem(location, "it must be after 0001-01-01T00:00:00Z and before the year 10000, in UTC")
	}
	return *t, nil
}

// List is a page of a list.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Cursor for after. Missing on the last page"`
}

// listPage returns a page; a full one has next, the cursor of its last item.
func listPage[T any](items []T, limit int, next func(T) string) *Response[List[T]] {
	m := List[T]{Items: items}
	if m.Items == nil {
		m.Items = []T{}
	}
	if len(items) > 0 && len(items) >= limit {
		m.Next = next(items[len(items)-1])
	}
	return &Response[List[T]]{Body: m}
}

// Response is a response with a body.
type Response[T any] struct{ Body T }

// Created is the response of a created resource.
type Created[T any] struct {
	Location string `header:"Location" doc:"Its URL"`
	Body     T
}

// CreatedOrPending is the response of a resource that may not have been created; Status tells which.
type CreatedOrPending[T any] struct {
	Status   int
	Location string `header:"Location" doc:"Its URL"`
	Body     T
}

// Cacheable is a response with an ETag.
type Cacheable[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

// IfNoneMatch makes a request conditional (RFC 9110).
type IfNoneMatch struct {
	ETag string `header:"If-None-Match" maxLength:"1000" doc:"An ETag: 304 if it is current"`
}

// check returns a *notModified error when the client has the current version.
func (u IfNoneMatch) check(etag string) error {
	for tag := range strings.SplitSeq(u.ETag, ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == etag || tag == "*" {
			return &notModified{etag}
		}
	}
	return nil
}

// notModified is the 304 response.
type notModified struct{ etag string }

// Error implements error.
func (u *notModified) Error() string { return "not modified" }

// GetStatus implements huma.StatusError.
func (u *notModified) GetStatus() int { return http.StatusNotModified }

// GetHeaders implements huma.HeadersError.
func (u *notModified) GetHeaders() http.Header { return http.Header{"Etag": {u.etag}} }

// PathID is the id in an operation's path.
type PathID struct {
	ID string `path:"id" format:"uuid"`
}

func (i PathID) uuid() (uuid.UUID, error) {
	u, err := uuid.Parse(i.ID)
	if err != nil {
		return u, fieldProblem("path.id", "it is not a UUID")
	}
	return u, nil
}
