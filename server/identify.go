package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/tenantdb"
)

// principalOf returns the principal of a request's context.
func principalOf(ctx context.Context) access.Principal {
	w, _ := ctx.Value(principalKey).(access.Principal)
	return w
}

// identify authenticates a request of a protocol, applies limits, and replays stored responses of idempotent requests.
// Other paths are public.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := deadline(w, s.bodyTime(r), answerTime); err != nil && !errors.Is(err, http.ErrNotSupported) {
			s.writeResponseProblem(w, r, s.errorResponse(r.Context(), err))
			return
		}
		own := s.protocolOf(r.URL.Path)
		if own == nil {
			next.ServeHTTP(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.bodySize(r))
		ctx := r.Context()
		if !s.isStream(r) {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.bodyTime(r)+answerTime)
			defer cancel()
		}
		lookup, found := context.WithTimeout(ctx, lookupTime) // streams have no time limit; what comes before them has
		defer found()
		who, err := s.authenticate(lookup, r)
		if err != nil {
			s.writeResponseProblem(w, r, s.errorResponse(ctx, err))
			return
		}
		watcherOf(ctx).tenant = who.Tenant.String()
		end, state, err := s.meter.Begin(lookup, who)
		if state.Limit > 0 {
			w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"requests";q=%d;w=1`, int64(math.Ceil(state.Limit))))
			w.Header().
				Set("RateLimit",
					fmt.Sprintf(`"requests";r=%d;t=%d`, state.Remaining, int64(math.Ceil(state.Reset.Seconds()))))
		}
		if err != nil {
			s.writeResponseProblem(w, r, s.errorResponse(ctx, err))
			return
		}
		defer end()
		done, err := s.admitBody(ctx, who, r)
		if err != nil {
			s.writeResponseProblem(w, r, s.errorResponse(ctx, err))
			return
		}
		defer done()
		// Row-level security limits this request to documents with these labels.
		ctx = tenantdb.WithLabels(ctx, who.Labels())
		r = r.WithContext(context.WithValue(ctx, principalKey, who))
		if keys := r.Header.Values("Idempotency-Key"); len(keys) > 0 && !own.passes && mutatingMethods[r.Method] &&
			s.isRouted(r) {
			s.idempotent(w, r, who, keys, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// lookupTime is how long the look at a credential and its tenant's limits may take.
const lookupTime = 20 * time.Second

// authenticate returns the principal of a request's credential.
func (s *Server) authenticate(ctx context.Context, r *http.Request) (access.Principal, error) {
	own, read := s.protocolOf(r.URL.Path), bearer
	if own != nil && own.credential != nil {
		read = own.credential
	}
	credential, err := read(r)
	if err != nil {
		return access.Principal{}, err
	}
	if strings.Count(credential, ".") == 2 && s.c.OIDC != nil {
		if own != nil && own.resource {
			return s.c.OIDC.CheckResource(ctx, credential)
		}
		return s.c.OIDC.Check(ctx, credential)
	}
	return s.keys.Check(ctx, credential)
}

// isUpload reports whether a request uploads a file.
func (s *Server) isUpload(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/v1/documents" || r.Method == http.MethodPatch &&
		strings.HasPrefix(r.URL.Path, "/v1/uploads/") || openAIUploadSize(r) > 0
}

func (s *Server) bodyTime(r *http.Request) time.Duration {
	if s.isUpload(r) {
		return uploadTime
	}
	return bodyTime
}

// bodySize returns the largest body of a request, in bytes; an operation may accept less.
func (s *Server) bodySize(r *http.Request) int64 {
	p := s.protocolOf(r.URL.Path)
	switch {
	case p != nil && p.bodySize > 0:
		return p.bodySize + 1
	case openAIUploadSize(r) > 0:
		return openAIUploadSize(r) + maxJSON // the form's other fields
	case s.isUpload(r):
		return maxUpload + maxJSON // the form's other fields
	case r.URL.Path == batchPath:
		return maxBatch + 1
	}
	return maxJSON + 1
}

// isStream reports whether a request's response has no time limit: a stream or a download.
func (s *Server) isStream(r *http.Request) bool {
	if p := s.protocolOf(r.URL.Path); p != nil && p.streams {
		return true
	}
	return r.URL.Path == "/v1/events/stream" || strings.HasSuffix(r.URL.Path, "/content") ||
		r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/escalations/") && r.URL.Query().Has("wait")
}

// mutatingMethods are the methods for which an Idempotency-Key has an effect.
var mutatingMethods = map[string]bool{http.MethodPost: true, http.MethodPut: true, http.MethodPatch: true,
	http.MethodDelete: true}

// isRouted reports whether an operation serves the request.
func (s *Server) isRouted(r *http.Request) bool {
	_, pattern := s.mux.Handler(r)
	return pattern != "/" && !s.refused[pattern]
}

// idempotentByID are paths whose events get ids derived from the key, so that the trail itself rejects duplicates.
var idempotentByID = map[string]bool{"/v1/events": true, "/v1/events/batch": true, "/v1/llm-calls": true,
	"/v1/tool-calls": true, "/v1/escalations": true}

// returnsSecret reports whether the response has a secret and so must not be stored.
func returnsSecret(path string) bool {
	return path == "/v1/keys" || strings.HasPrefix(path, "/v1/keys/") || path == "/v1/tenants" ||
		path == "/v1/impersonate"
}

// idempotent executes a request under its key, or replays the stored response.
func (s *Server) idempotent(w http.ResponseWriter, r *http.Request, who access.Principal, keys []string,
	next http.Handler) {
	key := keys[0]
	switch {
	case len(keys) > 1:
		p := fieldProblem("header.Idempotency-Key", "it occurs twice: send one")
		p.Title, p.Status = http.StatusText(http.StatusBadRequest), http.StatusBadRequest
		s.writeResponseProblem(w, r, p)
		return
	case key == "" || len(key) > access.MaxRequestKey ||
		strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }):
		s.writeResponseProblem(w, r,
			fieldProblem("header.Idempotency-Key",
				fmt.Sprintf("it is 1 to %d visible ASCII characters", access.MaxRequestKey)))
		return
	case returnsSecret(r.URL.Path) && r.Method == http.MethodPost:
		s.writeResponseProblem(w, r, fieldProblem("header.Idempotency-Key", "a response with a secret is not "+
			"stored: omit the header, and check whether the key exists before you retry"))
		return
	case idempotentByID[r.URL.Path]:
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), idempotencyKey, key)))
		return
	case s.isUpload(r): // idempotent already: a document by its source, a piece by its offset, a file by the key
		next.ServeHTTP(w, r)
		return
	}
	body, err := readBody(r)
	if err == nil {
		err = s.checkNoEvent(r.Context(), who, key)
	}
	if err != nil {
		s.writeResponseProblem(w, r, s.errorResponse(r.Context(), err))
		return
	}
	sum := sha256.New()
	// With the labels, so that a response is not replayed to a principal that has lost some of them.
	fmt.Fprintf(sum, "%s\n%s\n%s\n%s\n", r.Method, r.URL.RequestURI(), r.Header.Get("If-Match"), who.Labels())
	sum.Write(body)
	reply, err := s.replies.Begin(r.Context(), who, key, [sha256.Size]byte(sum.Sum(nil)))
	if err != nil {
		s.writeResponseProblem(w, r, s.errorResponse(r.Context(), err))
		return
	}
	if reply != nil {
		for name, value := range reply.Headers {
			w.Header().Set(name, value)
		}
		w.Header().Set("Idempotent-Replayed", "true")
		w.WriteHeader(reply.Status)
		_, _ = w.Write(reply.Body)
		return
	}
	kept := &replyRecorder{ResponseWriter: w}
	next.ServeHTTP(kept, r)
	answer := &access.Reply{Status: kept.status, Body: kept.body, Headers: map[string]string{}}
	for _, name := range []string{"Content-Type", "Location", "ETag"} {
		if v := w.Header().Get(name); v != "" {
			answer.Headers[name] = v
		}
	}
	if kept.status >= 500 || kept.status == http.StatusTooManyRequests || kept.status == 0 ||
		len(kept.body) > access.MaxReply {
		answer = nil
	}
	if err := s.replies.End(context.WithoutCancel(r.Context()), who, key, answer); err != nil {
		s.logger.ErrorContext(r.Context(), "a response was not stored for replay", "request",
			requestID(r.Context()), "error", err)
	}
}

// checkNoEvent refuses an Idempotency-Key that an event was logged with.
func (s *Server) checkNoEvent(ctx context.Context, who access.Principal, key string) error {
	n, err := s.tenant(who).Events().CountIDs(ctx, []uuid.UUID{access.EventID(who, key, 0)})
	if err == nil && n > 0 {
		err = access.ErrKeyReused
	}
	return err
}

// replyRecorder records a response.
type replyRecorder struct {
	http.ResponseWriter
	status int
	body   []byte
}

// WriteHeader implements http.ResponseWriter.
func (k *replyRecorder) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
	k.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (k *replyRecorder) Write(p []byte) (int, error) {
	if k.status == 0 {
		k.status = http.StatusOK
	}
	if len(k.body) <= access.MaxReply {
		k.body = append(k.body, p...)
	}
	return k.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (k *replyRecorder) Unwrap() http.ResponseWriter { return k.ResponseWriter }
