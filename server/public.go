package server

import (
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed reference.html
var referencePage string

// publicRoutes registers the public paths: the API description, its reference page, and health checks.
func (s *Server) publicRoutes() {
	mux := s.mux
	raw, err := s.api.OpenAPI().MarshalJSON()
	if err != nil {
		panic(err) // the description is ours
	}
	yaml, err := s.api.OpenAPI().YAML()
	if err != nil {
		panic(err)
	}
	for path, of := range map[string]struct {
		kind string
		body []byte
	}{"/openapi.json": {"application/openapi+json", raw}, "/openapi.yaml": {"application/openapi+yaml", yaml}} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", of.kind)
			w.Header().Set("Cache-Control", "public, max-age=300")
			_, _ = w.Write(of.body)
		})
	}
	reference := s.reference()
	mux.HandleFunc("GET /reference", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().
			Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Header().Set("Cache-Control", "public, max-age=300")
		_, _ = w.Write(reference)
	})
	s.otlpRoutes()
	mux.Handle("GET /{$}", http.RedirectHandler("/reference", http.StatusFound))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("/", s.notFound)
	const tileLevel = "GET /v1/log/tile/{level}" // else the mux redirects it to the tiles below it
	mux.HandleFunc(tileLevel, s.notFound)
	s.refused = map[string]bool{tileLevel: true}
	s.gatewayRoutes()
	s.openAIRoutes()
	for path, item := range s.api.OpenAPI().Paths {
		// a literal path is no parameter of another pattern: GET /v1/jobs/cancel is not a job
		for method, op := range operationsByMethod(item) {
			if pattern := method + " " + path; op == nil && !strings.Contains(path, "{") {
				mux.HandleFunc(pattern, s.notFound)
				s.refused[pattern] = true
			}
		}
	}
}

// operationsByMethod returns a path's operations; nil where it has none.
func operationsByMethod(item *huma.PathItem) map[string]*huma.Operation {
	return map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch,
		"DELETE": item.Delete}
}

// notFound responds 405 or 404.
func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	if may := s.allowedMethods(r); len(may) > 0 {
		w.Header().Set("Allow", strings.Join(may, ", "))
		s.writeResponseProblem(w, r, problem(http.StatusMethodNotAllowed, "%.20q is not supported here: use %s",
			r.Method,
			strings.Join(may, ", ")))
		return
	}
	s.writeResponseProblem(w, r, problem(http.StatusNotFound, "there is no %.100q here: /reference lists what there is",
		r.URL.Path))
}

// allowedMethods returns the methods that are served at a request's path.
func (s *Server) allowedMethods(r *http.Request) (may []string) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		other := r.Clone(r.Context())
		other.Method = method
		if s.isRouted(other) {
			may = append(may, method)
		}
	}
	return may
}

// readyTime is the timeout of a readiness check.
const readyTime = 2 * time.Second

// Component is a part of the service in /readyz.
type Component struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"why,omitempty"`
}

// readyz reports whether the service can take requests, and which component is not ready.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	parts := []Component{{Name: "database"}, {Name: "accepting", Ready: !s.draining.Load()}}
	if err := s.c.Konstruct.Door().Ping(ctx); err != nil {
		parts[0].Reason = "it does not respond" // the log has the details, which are for the operator only
		s.logger.WarnContext(ctx, "not ready", "error", err)
	} else {
		parts[0].Ready = true
	}
	if !parts[1].Ready {
		parts[1].Reason = "the service is stopping"
	}
	if s.c.Evidence != nil && parts[0].Ready {
		parts = append(parts, s.trail.component(ctx, s))
	}
	status := http.StatusOK
	if slices.ContainsFunc(parts, func(p Component) bool { return !p.Ready }) {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = huma.DefaultJSONFormat.Marshal(w, map[string]any{"ready": status == http.StatusOK, "parts": parts})
}

// reference renders the API description as one HTML page without external resources.
func (s *Server) reference() []byte {
	type operation struct {
		Method, Path string
		*huma.Operation
	}
	type group struct {
		Name       string
		Operations []operation
	}
	var groups []*group
	byName := map[string]*group{}
	api := s.api.OpenAPI()
	for _, tag := range api.Tags {
		g := &group{Name: tag.Name}
		groups, byName[tag.Name] = append(groups, g), g
	}
	for path, item := range api.Paths {
		for method, op := range operationsByMethod(item) {
			if op != nil {
				g := byName[op.Tags[0]]
				g.Operations = append(g.Operations, operation{method, path, op})
			}
		}
	}
	for _, g := range groups {
		slices.SortFunc(g.Operations, func(a, b operation) int {
			return strings.Compare(a.Path+a.Method, b.Path+b.Method)
		})
	}
	page := template.Must(template.New("reference").Funcs(template.FuncMap{
		"schema": func(sc *huma.Schema) *huma.Schema {
			for sc != nil && sc.Ref != "" {
				sc = api.Components.Schemas.SchemaFromRef(sc.Ref)
			}
			return sc
		},
		"kind": schemaKind,
	}).Parse(referencePage))
	var b strings.Builder
	if err := page.Execute(&b, map[string]any{"API": api, "Groups": groups}); err != nil {
		panic(err) // the page is ours
	}
	return []byte(b.String())
}

// schemaKind returns a short name of a schema's type.
func schemaKind(sc *huma.Schema) string {
	switch {
	case sc == nil:
		return ""
	case sc.Ref != "":
		return sc.Ref[strings.LastIndex(sc.Ref, "/")+1:]
	case sc.Type == "array":
		return "list of " + schemaKind(sc.Items)
	case sc.Format != "":
		return sc.Type + ", " + sc.Format
	}
	return sc.Type
}
