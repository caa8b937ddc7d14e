package server

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/konstruct/konstruct/strictjson"
)

// bodyProblem explains why a body could not be read. The error itself names internal addresses, which clients must not
// see.
func bodyProblem(err error) *Problem {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return problem(http.StatusRequestEntityTooLarge, "body: it has more than %d bytes", large.Limit-1)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem(http.StatusRequestTimeout, "body: it did not arrive within %s", bodyTime)
	}
	return unreadableBody("it ended early") // a broken connection or bad framing
}

// bufferedBody is a body in memory.
type bufferedBody struct{ *bytes.Reader }

// Close implements io.Closer.
func (bufferedBody) Close() error { return nil }

// readBody reads a request's body into memory once; later calls return nil.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if _, is := r.Body.(bufferedBody); is {
		return nil, nil
	}
	raw, err := readSized(r.Body, min(r.ContentLength, maxJSON))
	if err != nil {
		return nil, bodyProblem(err)
	}
	r.Body = bufferedBody{bytes.NewReader(raw)}
	return raw, nil
}

// checkQuery refuses a query that a parser would repair by leaving a part out, and text that PostgreSQL can't hold.
func checkQuery(raw string) *Problem {
	all, err := url.ParseQuery(raw)
	if err != nil {
		return fieldProblem("query", "it has a % without two hexadecimal digits, or a semicolon: escape them")
	}
	for name, values := range all {
		for _, v := range append(values, name) {
			if reason := unstorable(v); reason != "" {
				return fieldProblem(fmt.Sprintf("query.%.80s", strings.ToValidUTF8(name, "\ufffd")), reason)
			}
		}
	}
	return nil
}

// unstorable returns why PostgreSQL can't hold a text, or "".
func unstorable(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "it is not UTF-8"
	case strings.IndexByte(s, 0) >= 0:
		return "it has a NUL, which PostgreSQL's text does not hold"
	}
	return ""
}

// bufferBody reads the body before huma does, which would report a broken one as our error with internal details.
func (s *Server) bufferBody(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if p := checkQuery(r.URL.RawQuery); p != nil {
		s.writeResponseProblem(w, r, p)
		return
	}
	if r.URL.Path != batchPath && !s.isUpload(r) {
		raw, err := readBody(r)
		if err == nil && len(raw) > 0 {
			if at, what := strictjson.CheckText(raw); what != "" {
				err = fieldProblem("body"+at, what)
			}
		}
		if err != nil {
			s.writeResponseProblem(w, r, s.errorResponse(r.Context(), err))
			return
		}
	}
	next(ctx)
}
