package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"
)

// FileSearch is what answers the tool file_search with this service's own stores. Errors that the caller may see are
// *Refusal, whose Param is a place within the tool, as vector_store_ids[0].
type FileSearch struct {
	// Check refuses what Search would: a permission that is missing, a store that is not there, a filter.
	Check func(context.Context, FileQuery) error
	// Search runs the queries, and records each as an event. It returns the best results first, at most q.Max.
	Search func(context.Context, FileQuery) (FileResults, error)
}

// SearchFiles has the gateway answer file_search itself, where the tool names the caller's stores. Set it before the
// gateway serves.
func (g *Gateway) SearchFiles(f FileSearch) { g.files = &f }

// FileQuery is a search of files. The context has who searches.
type FileQuery struct {
	Agent   uuid.UUID // as which the caller acts
	Stores  []uuid.UUID
	Queries []string
	// Filter is the tool's filters, as it was sent; nil is none.
	Filter json.RawMessage
	Max    int // results
	// Threshold is the least score of a result, 0 to 1; nil is none.
	Threshold *float64
	Semantic  bool // by meaning alone
	// User, Conversation, Trace and Parent are the call's, for the event.
	User, Conversation, Trace, Parent string
}

// FileResult is a passage of a file.
type FileResult struct {
	FileID     string
	Filename   string
	Score      float64 // 0 to 1
	Attributes map[string]any
	Text       string
}

// FileResults are those of all queries of a search, and the events that record it.
type FileResults struct {
	Results []FileResult
	Events  []uuid.UUID
}

// Limits on what one request's model may search for.
const (
	maxRounds      = 8         // calls of the model; the last one can't search
	maxCalls       = 8         // searches that one answer of the model asks for
	maxFileQueries = 8         // of one search
	maxFileQuery   = 4 << 10   // bytes of a query
	maxShown       = 256 << 10 // bytes of results' texts that are put before the model
	maxStores      = 10        // that a tool names
	maxResults     = 50        // that a tool may ask for
	defaultResults = 20        // OpenAI's
	maxRound       = 16 << 20  // bytes of one answer of the model, or of one event of a stream
	maxStream      = 64 << 20  // bytes of one answer of the model as a stream
)

// storePrefix begins the ids of stores; 32 hexadecimal digits follow, which are a UUID. Ours are of version 7, and
// OpenAI's are not.
const storePrefix = "vs_"

// ownStore returns the UUID of an id that has the form of this service's stores.
func ownStore(id string) (store uuid.UUID, own bool) {
	if len(id) != len(storePrefix)+32 || id[:len(storePrefix)] != storePrefix {
		return store, false
	}
	store, err := uuid.Parse(id[len(storePrefix):])
	return store, err == nil && store.Version() == 7 && store.Variant() == uuid.RFC4122
}

// badParam refuses a member of the request's body.
func badParam(param, format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: "invalid_value", Param: param, Final: true,
		Message: fmt.Sprintf(param+": "+format, args...)}
}
