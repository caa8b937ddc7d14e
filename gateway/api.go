package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// API is a vendor's API, as its clients speak it.
type API string

// The APIs.
const (
	OpenAI    API = "openai"
	Anthropic API = "anthropic"
)

// Operation is an operation of an API, by its path below the API's base.
type Operation string

// The operations.
const (
	ChatCompletions Operation = "chat/completions"
	Responses       Operation = "responses"
	Embeddings      Operation = "embeddings"
	Messages        Operation = "messages"
	CountTokens     Operation = "messages/count_tokens"
	Models          Operation = "models"
)

// API returns the API that an operation is of. Models is of both.
func (o Operation) API() API {
	if o == Messages || o == CountTokens {
		return Anthropic
	}
	return OpenAI
}

// genAIName is an operation's gen_ai.operation.name.
func (o Operation) genAIName() string {
	switch o {
	case Embeddings:
		return "embeddings"
	case CountTokens:
		return "count_tokens"
	}
	return "chat"
}

// Refusal is an error of the gateway's own, which clients get in their vendor's form.
type Refusal struct {
	Status  int
	Code    string // such as model_not_found
	Message string
	Param   string // the member of the request's body that is wrong; empty: none
	// Final tells clients not to try again (x-should-retry: false, which the vendors' clients obey).
	Final bool
	// RetryAfter is in seconds; 0 is none.
	RetryAfter int
}

// Error implements error.
func (f *Refusal) Error() string { return f.Message }

// Write answers a request with the refusal, in the form of an API. Headers that are set already stay.
func (f *Refusal) Write(w http.ResponseWriter, api API) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	if f.Final {
		h.Set("X-Should-Retry", "false")
	}
	w.WriteHeader(f.Status)
	_, err := w.Write(append(f.body(api), '\n'))
	return err
}

// body is the error object of an API.
func (f *Refusal) body(api API) []byte {
	type vendorError struct {
		Type    string  `json:"type"`
		Message string  `json:"message"`
		Param   *string `json:"param,omitempty"`
		Code    string  `json:"code,omitempty"`
	}
	var raw []byte
	if api == Anthropic {
		raw, _ = json.Marshal(struct {
			Type  string      `json:"type"`
			Error vendorError `json:"error"`
		}{"error", vendorError{Type: anthropicType(f.Status), Message: f.Message}})
		return raw // strings always marshal
	}
	said := vendorError{Type: openAIType(f.Status, f.Code), Message: f.Message, Code: f.Code}
	if f.Param != "" {
		said.Param = &f.Param
	}
	raw, _ = json.Marshal(struct {
		Error vendorError `json:"error"`
	}{said})
	return raw
}

// event is the refusal as the last event of a stream, whose head was sent already.
func (f *Refusal) event(o Operation) []byte {
	body := f.body(o.API())
	switch o {
	case Messages:
		return []byte("event: error\ndata: " + string(body) + "\n\n")
	case Responses:
		raw, _ := json.Marshal(struct {
			Type    string `json:"type"`
			Code    string `json:"code"`
			Message string `json:"message"`
		}{"error", f.Code, f.Message})
		return []byte("event: error\ndata: " + string(raw) + "\n\n")
	}
	return []byte("data: " + string(body) + "\n\n")
}

// openAIType is the type that OpenAI gives an error of a status.
func openAIType(status int, code string) string {
	switch {
	case code == causeBudget:
		return "insufficient_quota"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

// anthropicType is the type that Anthropic gives an error of a status.
func anthropicType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}
