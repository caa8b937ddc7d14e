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

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/tenantdb"
)

// whoAsks is who a request comes from.
func whoAsks(ctx context.Context) access.Who {
	w, _ := ctx.Value(whoKey).(access.Who)
	return w
}

// identify finds out who asks, holds them to their limits, and answers what was answered before; what is not below /v1 is for everybody.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := deadline(w, s.bodyTime(r), answerTime); err != nil && !errors.Is(err, http.ErrNotSupported) {
			s.write(w, r, s.said(r.Context(), err))
			return
		}
		if !strings.HasPrefix(r.URL.Path, "/v1/") {
			next.ServeHTTP(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.bodySize(r))
		ctx := r.Context()
		if !streams(r) {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.bodyTime(r)+answerTime)
			defer cancel()
		}
		who, err := s.who(ctx, r)
		if err != nil {
			s.write(w, r, s.said(ctx, err))
			return
		}
		seenOf(ctx).tenant = who.Tenant.String()
		end, state, err := s.meter.Begin(ctx, who)
		if state.Limit > 0 {
			w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"requests";q=%d;w=1`, int64(math.Ceil(state.Limit))))
			w.Header().Set("RateLimit", fmt.Sprintf(`"requests";r=%d;t=%d`, state.Remaining, int64(math.Ceil(state.Reset.Seconds()))))
		}
		if err != nil {
			s.write(w, r, s.said(ctx, err))
			return
		}
		defer end()
		done, err := s.admitBody(ctx, who, r)
		if err != nil {
			s.write(w, r, s.said(ctx, err))
			return
		}
		defer done()
		// What is done for this request sees documents by these labels, and no others: row level security holds it to them.
		ctx = tenantdb.WithLabels(ctx, who.Labels())
		r = r.WithContext(context.WithValue(ctx, whoKey, who))
		if key := r.Header.Get("Idempotency-Key"); key != "" && changes[r.Method] && s.served(r) {
			s.once(w, r, who, key, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// who is whose credential a request has.
func (s *Server) who(ctx context.Context, r *http.Request) (access.Who, error) {
	all := r.Header.Values("Authorization")
	if len(all) == 0 {
		return access.Who{}, problem(http.StatusUnauthorized, "header.Authorization: it is missing: send Bearer and a key (kst_…)")
	}
	scheme, credential, _ := strings.Cut(all[0], " ")
	if len(all) > 1 || !strings.EqualFold(scheme, "Bearer") || credential == "" || len(credential) > maxHeader/4 {
		return access.Who{}, problem(http.StatusUnauthorized, "header.Authorization: it must be Bearer and one key (kst_…) or token")
	}
	if strings.Count(credential, ".") == 2 && s.c.People != nil {
		return s.c.People.Check(ctx, credential)
	}
	return s.keys.Check(ctx, credential)
}

// bulky are requests that bring files.
func (s *Server) bulky(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/v1/documents" || r.Method == http.MethodPatch && strings.HasPrefix(r.URL.Path, "/v1/uploads/")
}

func (s *Server) bodyTime(r *http.Request) time.Duration {
	if s.bulky(r) {
		return uploadTime
	}
	return bodyTime
}

// bodySize bounds a body; what an operation takes may be less.
func (s *Server) bodySize(r *http.Request) int64 {
	switch {
	case s.bulky(r):
		return maxUpload + maxJSON // the form's other fields
	case r.URL.Path == batchPath:
		return maxBatch + 1
	}
	return maxJSON + 1
}

// streams reports whether a request's answer goes on for as long as its caller likes.
func streams(r *http.Request) bool {
	return r.URL.Path == "/v1/events/stream" || strings.HasSuffix(r.URL.Path, "/content")
}

// changes are the methods of requests that are worth doing once.
var changes = map[string]bool{http.MethodPost: true, http.MethodPut: true, http.MethodPatch: true, http.MethodDelete: true}

// served reports whether there is such an operation.
func (s *Server) served(r *http.Request) bool {
	_, pattern := s.mux.Handler(r)
	return pattern != "/" && !s.refused[pattern]
}

// logs are requests whose events' ids are made of the key, so that the trail itself holds each once.
var logs = map[string]bool{"/v1/events": true, "/v1/events/batch": true, "/v1/llm-calls": true, "/v1/tool-calls": true, "/v1/escalations": true}

// secret are requests whose answer must not be kept.
func secret(path string) bool {
	return path == "/v1/keys" || strings.HasPrefix(path, "/v1/keys/") || path == "/v1/tenants" || path == "/v1/switch"
}

// once does a request under its key, or answers what was answered to it before.
func (s *Server) once(w http.ResponseWriter, r *http.Request, who access.Who, key string, next http.Handler) {
	switch {
	case len(key) > access.MaxRequestKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }):
		s.write(w, r, wrong("header.Idempotency-Key", fmt.Sprintf("it is 1 to %d visible ASCII characters", access.MaxRequestKey)))
		return
	case secret(r.URL.Path) && r.Method == http.MethodPost:
		s.write(w, r, wrong("header.Idempotency-Key", "an answer that holds a secret is not kept: leave the header out, and look whether the key is there before you try again"))
		return
	case logs[r.URL.Path]:
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), onceKey, key)))
		return
	case s.bulky(r): // a document is known by its source, a piece by its offset
		next.ServeHTTP(w, r)
		return
	}
	body, err := whole(r)
	if err != nil {
		s.write(w, r, s.said(r.Context(), err))
		return
	}
	sum := sha256.New()
	// With the labels, so that no answer is given again to whoever had more of them.
	fmt.Fprintf(sum, "%s\n%s\n%s\n%s\n", r.Method, r.URL.RequestURI(), r.Header.Get("If-Match"), who.Labels())
	sum.Write(body)
	reply, err := s.replies.Begin(r.Context(), who, key, [sha256.Size]byte(sum.Sum(nil)))
	if err != nil {
		s.write(w, r, s.said(r.Context(), err))
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
	kept := &keeping{ResponseWriter: w}
	next.ServeHTTP(kept, r)
	answer := &access.Reply{Status: kept.status, Body: kept.body, Headers: map[string]string{}}
	for _, name := range []string{"Content-Type", "Location", "ETag"} {
		if v := w.Header().Get(name); v != "" {
			answer.Headers[name] = v
		}
	}
	if kept.status >= 500 || kept.status == http.StatusTooManyRequests || kept.status == 0 || len(kept.body) > access.MaxReply {
		answer = nil
	}
	if err := s.replies.End(context.WithoutCancel(r.Context()), who, key, answer); err != nil {
		s.logger.ErrorContext(r.Context(), "an answer was not kept", "request", requestID(r.Context()), "error", err)
	}
}

// keeping keeps what is answered.
type keeping struct {
	http.ResponseWriter
	status int
	body   []byte
}

// WriteHeader implements http.ResponseWriter.
func (k *keeping) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
	k.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (k *keeping) Write(p []byte) (int, error) {
	if k.status == 0 {
		k.status = http.StatusOK
	}
	if len(k.body) <= access.MaxReply {
		k.body = append(k.body, p...)
	}
	return k.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (k *keeping) Unwrap() http.ResponseWriter { return k.ResponseWriter }
