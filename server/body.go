package server

import (
	"bytes"
	"errors"
	"net/http"
	"os"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/konstruct/konstruct/server/strictjson"
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

// bufferBody reads the body before huma does, which would report a broken one as our error with internal details.
func (s *Server) bufferBody(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
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
