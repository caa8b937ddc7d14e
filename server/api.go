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
	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/eval"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/server/strictjson"
)

// apiConfig is how the API reads, writes and describes itself.
func (s *Server) apiConfig() huma.Config {
	c := huma.DefaultConfig("Konstruct", s.c.Version)
	c.Info.Description =
		"An audit trail nobody can rewrite, and a knowledge base nobody else can read, for AI agents.\n\n" +
			"The tenant comes from the credential. Times are RFC 3339 in UTC. Lists end with `next`, which goes into " +
			"`after` for what comes then. " +
			"A request with an `Idempotency-Key` can be made again safely. What goes wrong is said by RFC 9457.\n\n" +
			"What is deprecated is marked so here and answers with a `Deprecation` header (RFC 9745) for a year at " +
			"least " +
			"before it goes; fields and operations are added without notice, so clients ignore what they do not know."
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

// schemaName names a type in the description: by its own name, unless types of several packages share it.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if name, ok := schemaNames[t]; ok {
		return name
	}
	name := t.Name()
	if name == "" { // a body of one operation, whose hint is createEventRequest
		name = hint
	}
	if generic, _, ok := strings.Cut(name, "["); ok { // List[…/kb.Document]
		items, _ := t.FieldByName("Items")
		return schemaName(items.Type, hint) + generic
	}
	name = notName.ReplaceAllString(name, "")
	return strings.ToUpper(name[:1]) + name[1:]
}

// schemaNames are of the types whose own names say too little outside their packages.
var schemaNames = map[reflect.Type]string{
	reflect.TypeFor[audit.StoredEvent]():      "Event",
	reflect.TypeFor[audit.EscalationRecord](): "Escalation",
	reflect.TypeFor[audit.SearchOptions]():    "RecordedSearchOptions",
	reflect.TypeFor[compliance.Request]():     "ComplianceRequest",
	reflect.TypeFor[compliance.Rule]():        "RetentionRule",
	reflect.TypeFor[compliance.Erased]():      "ErasureResult",
	reflect.TypeFor[compliance.Expired]():     "RetentionResult",
	reflect.TypeFor[eval.Score]():             "Score",
	reflect.TypeFor[search.Hit]():             "SearchHit",
	reflect.TypeFor[search.Plan]():            "SearchPlan",
	reflect.TypeFor[search.Explanation]():     "SearchExplanation",
}

// notName is what a component's name may not have.
var notName = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// identifier describes UUIDs.
type identifier struct{}

// Schema implements huma.SchemaProvider.
func (identifier) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "string", Format: "uuid"}
}

// NoContent is an answer without content.
type NoContent struct{}

// register serves an operation to those who may do what it needs.
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

// requirePermission completes an operation's description, and has it answer those alone who may.
func (s *Server) requirePermission(op *huma.Operation, may access.Permission) {
	op.Security = []map[string][]string{{"bearer": {}}}
	op.Responses = s.problemResponses(op)
	op.BodyReadTimeout = time.Minute // at most; the connection's own limit is the request's
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
	if op.Method != http.MethodGet && op.Method != http.MethodHead {
		op.Parameters = append(op.Parameters,
			&huma.Param{Name: "Idempotency-Key", In: "header",
				Description: "One for each request: made again with it, the request is done once.",
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

// writeProblem answers with a problem before a handler is reached.
func (s *Server) writeProblem(ctx huma.Context, p *Problem) {
	r, w := humago.Unwrap(ctx)
	s.writeResponseProblem(w, r, p)
}

// problemResponses are an operation's answers when something is wrong.
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

// Page is how lists are asked for.
type Page struct {
	Limit int `query:"limit" default:"50" minimum:"1" maximum:"1000" doc:"How many at most"`
}

// ListParams continues lists that are in the order of ids.
type ListParams struct {
	Page
	After string `query:"after" format:"uuid" doc:"The last answer's next: what comes after it"`
}

func (b ListParams) afterID() (uuid.UUID, error) { return optionalID("query.after", b.After) }

// optionalID reads an id that may be missing.
func optionalID(location, id string) (uuid.UUID, error) {
	if id == "" {
		return uuid.Nil, nil
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return u, fieldProblem(location, "it is no UUID")
	}
	return u, nil
}

// List is a page of a list.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"For after: where this page ends. Missing where there is no more"`
}

// listPage makes a page; next is where it ends, if it is full.
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

// Response is a body.
type Response[T any] struct{ Body T }

// Created is a body of something that is new.
type Created[T any] struct {
	Location string `header:"Location" doc:"Where it is"`
	Body     T
}

// CreatedOrPending is made where it may not have been: Status says so.
type CreatedOrPending[T any] struct {
	Status   int
	Location string `header:"Location" doc:"Where it is"`
	Body     T
}

// Cacheable is a body that can be asked for again under its ETag.
type Cacheable[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

// IfNoneMatch is how a client asks for what it does not have yet.
type IfNoneMatch struct {
	ETag string `header:"If-None-Match" maxLength:"1000" doc:"An ETag: 304 where it is still the one"`
}

// check reports that a client has it already.
func (u IfNoneMatch) check(etag string) error {
	for tag := range strings.SplitSeq(u.ETag, ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == etag || tag == "*" {
			return &notModified{etag}
		}
	}
	return nil
}

// notModified is answered to a client that has it already.
type notModified struct{ etag string }

// Error implements error.
func (u *notModified) Error() string { return "not modified" }

// GetStatus implements huma.StatusError.
func (u *notModified) GetStatus() int { return http.StatusNotModified }

// GetHeaders implements huma.HeadersError.
func (u *notModified) GetHeaders() http.Header { return http.Header{"Etag": {u.etag}} }

// PathID is a path's last part.
type PathID struct {
	ID string `path:"id" format:"uuid"`
}

func (i PathID) uuid() (uuid.UUID, error) {
	u, err := uuid.Parse(i.ID)
	if err != nil {
		return u, fieldProblem("path.id", "it is no UUID")
	}
	return u, nil
}
