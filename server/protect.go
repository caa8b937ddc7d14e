package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/gzhttp"

	"github.com/konstruct/konstruct/server/httpwire"
)

type contextKey int

const (
	requestIDKey contextKey = iota
	principalKey
	idempotencyKey
	bodilessKey
	watcherKey
	bodyKey
)

// requestID returns the id of a context's request.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey).(string)
	return id
}

// goodID matches request ids that can't forge a log line.
var goodID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,100}$`)

// protect wraps the API in what applies to every request: ids, security headers, logging, and load shedding.
func (s *Server) protect(next http.Handler) http.Handler {
	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.EnableZstd(true),
		gzhttp.ExceptContentTypes([]string{"text/event-stream", "application/zip", "application/octet-stream",
			"application/vnd.apache.parquet"}))
	if err != nil {
		panic(err) // the options are constants
	}
	mux := next
	identified := s.identify(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r)
		watcherOf(r.Context()).route = r.Pattern
	}))
	compressed := compress(identified)
	next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if own := s.protocolOf(r.URL.Path); own != nil && own.passes {
			identified.ServeHTTP(w, r)
			return
		}
		compressed.ServeHTTP(w, r)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		id := r.Header.Get("X-Request-ID")
		if !goodID.MatchString(id) {
			id = rand.Text()
		}
		seen := &responseWatcher{ResponseWriter: w}
		r = r.WithContext(context.WithValue(context.WithValue(r.Context(), requestIDKey, id), watcherKey, seen))
		h := w.Header()
		h.Set("X-Request-ID", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		if s.isTLS(r) {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		defer func() {
			if thrown := recover(); thrown == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
				s.metrics.answered(r, seen, time.Since(begin))
				panic(thrown)
			} else if thrown != nil {
				s.logger.LogAttrs(r.Context(), slog.LevelError, "a request panicked", slog.String("request", id),
					slog.Any("panic", thrown), slog.String("stack", string(debug.Stack())))
				if seen.status == 0 {
					s.writeResponseProblem(seen, r,
						problem(http.StatusInternalServerError,
							"something went wrong here: the service's log has it under this request's id"))
				} else {
					panic(http.ErrAbortHandler) // so that nobody takes a part for the whole
				}
			}
			took := time.Since(begin)
			s.metrics.answered(r, seen, took)
			s.logger.LogAttrs(r.Context(), slog.LevelDebug, "answered", slog.String("request", id),
				slog.String("client", s.client(r)), slog.String("method", r.Method), slog.String("route", seen.route),
				slog.Int("status", seen.status),
				slog.Int64("bytes", seen.bytes), slog.Duration("took", took), slog.String("tenant", seen.tenant))
		}()
		working, most := &s.working, int64(maxInFlight)
		if s.isStream(r) { // mostly idle, so they have a limit of their own
			working, most = &s.streaming, maxStreams
		}
		n := working.Add(1)
		defer working.Add(-1)
		if n > most && r.URL.Path != "/healthz" {
			s.metrics.shed.Inc()
			s.writeResponseProblem(seen, r,
				retryLater(http.StatusServiceUnavailable, retryAfter,
					"the service has %d requests in progress: try again", n-1))
			return
		}
		if p := s.checkRequest(seen, r); p != nil {
			s.writeResponseProblem(seen, r, p)
			return
		}
		if seen.status == 0 {
			next.ServeHTTP(seen, r)
		}
	})
}

// checkRequest checks a request before anything else is read of it, and answers CORS preflights.
func (s *Server) checkRequest(w http.ResponseWriter, r *http.Request) *Problem {
	if why := httpwire.Ambiguous(r); why != "" {
		w.Header().Set("Connection", "close")
		return problem(http.StatusBadRequest, "the request's head: %s", why)
	}
	if len(r.RequestURI) > maxURL {
		return problem(http.StatusRequestURITooLong, "the address has %d bytes, the limit is %d",
			len(r.RequestURI), maxURL)
	}
	if strings.ContainsFunc(r.URL.Path, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return problem(http.StatusBadRequest, "the path has a control character")
	}
	if !isClean(r.URL.EscapedPath()) {
		return problem(http.StatusNotFound, "there is no %.100q here: its path has an empty segment, . or ..",
			r.URL.Path)
	}
	if !utf8.ValidString(r.URL.Path) {
		return problem(http.StatusBadRequest, "the path is not UTF-8")
	}
	if !s.protocolOf(r.URL.Path).accepts(r.Header.Get("Content-Encoding")) {
		return problem(http.StatusUnsupportedMediaType,
			"header.Content-Encoding: compressed bodies are not accepted")
	}
	origin := r.Header.Get("Origin")
	same := false
	if u, err := url.Parse(origin); err == nil && origin != "" {
		same = u.Host == r.Host
	}
	named := slices.Contains(s.c.Origins, origin) // such a page may use any host name
	if p := s.misdirected(r, same); p != nil && !named {
		return p
	}
	if origin == "" {
		return nil
	}
	w.Header().Add("Vary", "Origin")
	if !same && !named {
		return problem(http.StatusForbidden, "header.Origin: pages of %.100q may not call this API: the operator "+
			"lists those that may (KONSTRUCT_CORS_ORIGINS)", origin)
	}
	if same {
		return nil
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Expose-Headers",
		"ETag, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID, Upload-Offset, "+
			"Mcp-Session-Id")
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
		w.Header().Set("Access-Control-Allow-Headers",
			"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Upload-Offset, X-Request-ID, "+
				"Last-Event-ID, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name")
		w.Header().Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// isClean reports whether a path is what net/http would clean it to. Where it is not, the mux would redirect.
func isClean(p string) bool {
	return p == "" || p == "*" || p == path.Clean(p) || p != "/" && strings.TrimSuffix(p, "/") == path.Clean(p)
}

// writeResponseProblem writes a problem response.
func (s *Server) writeResponseProblem(w http.ResponseWriter, r *http.Request, p *Problem) {
	p.Instance = requestID(r.Context())
	for key, values := range p.GetHeaders() {
		w.Header()[key] = values
	}
	if own := s.protocolOf(r.URL.Path); own != nil && own.refuse != nil {
		own.refuse(w, r, p)
		return
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		s.logger.DebugContext(r.Context(), "a response could not be sent", "request", p.Instance, "error", err)
	}
}

// isTLS reports whether a request arrived over TLS, here or at a trusted proxy.
func (s *Server) isTLS(r *http.Request) bool {
	return r.TLS != nil || s.fromProxy(r) && r.Header.Get("X-Forwarded-Proto") == "https"
}

func (s *Server) fromProxy(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && containsAddr(s.c.Proxies, from.Addr())
}

func containsAddr(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// client returns the client's address: the last in X-Forwarded-For that is not a trusted proxy.
func (s *Server) client(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	from := at.Addr()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && containsAddr(s.c.Proxies, from); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		from = hop
	}
	return from.Unmap().String()
}

// responseWatcher records the status and size of a response.
type responseWatcher struct {
	http.ResponseWriter
	status int
	bytes  int64
	tenant string // the principal's, once known
	route  string // the matched pattern
}

// watcherOf returns the responseWatcher of a request's context.
func watcherOf(ctx context.Context) *responseWatcher { return ctx.Value(watcherKey).(*responseWatcher) }

// WriteHeader implements http.ResponseWriter.
func (w *responseWatcher) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *responseWatcher) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responseWatcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher.
func (w *responseWatcher) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// deadline sets the deadlines for reading a request's body and writing its response.
func deadline(w http.ResponseWriter, body, answer time.Duration) error {
	c := http.NewResponseController(w)
	if err := c.SetReadDeadline(time.Now().Add(body)); err != nil {
		return fmt.Errorf("limit the request's time: %w", err)
	}
	return c.SetWriteDeadline(time.Now().Add(body + answer))
}
