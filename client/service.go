package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxResponse is how many bytes of a response are read.
const maxResponse = 4 << 20

// RefusedError is a response of the service that says what is wrong with a request (RFC 9457).
type RefusedError struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the service answers %d: %s", e.Status, e.Detail)
}

// ofEvents reports whether the events are at fault, and not the key, the address or the service: then they will never
// be taken.
func (e *RefusedError) ofEvents() bool {
	switch e.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// unavailableError says that the service could not be reached or can't answer now.
type unavailableError struct {
	error
	after time.Duration // Retry-After
}

func (e *unavailableError) Unwrap() error { return e.error }

// ErrNoService is returned where Config.URL is empty.
var ErrNoService = errors.New("no service is set (KONSTRUCT_URL)")

// do sends a request and decodes a 2xx response into out. It returns the status and the ETag.
func (c *Client) do(ctx context.Context, method, path string, in, out any, headers ...string) (int, string, error) {
	if c.server == nil {
		return 0, "", ErrNoService
	}
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(in)
	default:
		raw, err := json.Marshal(in)
		if err != nil {
			return 0, "", fmt.Errorf("encode a request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.server.String(), "/")+path, body)
	if err != nil {
		return 0, "", fmt.Errorf("make a request: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+c.c.Key)
	r.Header.Set("User-Agent", c.c.UserAgent)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.c.HTTP.Do(r)
	if err != nil {
		return 0, "", &unavailableError{fmt.Errorf("the service can't be reached: %w", err), 0}
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if err != nil {
		return 0, "", &unavailableError{fmt.Errorf("the service's response broke off: %w", err), 0}
	}
	etag := res.Header.Get("ETag")
	switch {
	case res.StatusCode == http.StatusNotModified:
		return res.StatusCode, etag, nil
	case res.StatusCode >= 200 && res.StatusCode < 300:
		if out != nil {
			if err := json.Unmarshal(raw, out); err != nil {
				return 0, "", &unavailableError{fmt.Errorf("%s is no Konstruct service: %w", c.server.Host, err), 0}
			}
		}
		return res.StatusCode, etag, nil
	}
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	refused := &RefusedError{Status: res.StatusCode}
	if kind != "application/problem+json" || json.Unmarshal(raw, refused) != nil {
		return 0, "", &unavailableError{fmt.Errorf("%s is no Konstruct service: it answers %s", c.server.Host,
			res.Status), 0}
	}
	refused.Status = res.StatusCode
	if refused.Status == http.StatusTooManyRequests || refused.Status >= 500 ||
		refused.Status == http.StatusRequestTimeout {
		after, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return 0, "", &unavailableError{refused, time.Duration(min(max(after, 0), 300)) * time.Second}
	}
	return 0, "", refused
}
