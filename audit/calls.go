package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/strictjson"
	"github.com/konstruct/konstruct/tenantdb"
)

// Metadata is an event's JSON object beside its columns. Keys are OpenTelemetry's GenAI names where it has one
// (https://opentelemetry.io/docs/specs/semconv/gen-ai/), otherwise names that begin with "konstruct.".
type Metadata map[string]any

// Put parses KEY=VALUE, or /path/to/key=VALUE inside objects (RFC 6901), and sets the key, which must not be set yet.
// VALUE is JSON if it parses as JSON, otherwise text.
func (m Metadata) Put(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return fmt.Errorf("%.100q is not KEY=VALUE", s)
	}
	v, err := filterValue(value)
	if err == nil {
		err = checkPlain(key)
	}
	if err != nil {
		return fmt.Errorf("%.100q: %w", s, err)
	}
	path := []string{key}
	if rest, ok := strings.CutPrefix(key, "/"); ok {
		path = strings.Split(rest, "/")
		for i := range path {
			path[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(path[i])
		}
	}
	at := map[string]any(m)
	for _, p := range path[:len(path)-1] {
		if _, there := at[p]; !there {
			at[p] = map[string]any{}
		}
		next, ok := at[p].(map[string]any)
		if !ok {
			return fmt.Errorf("%.100q: %.100q is set already, and is no object", key, p)
		}
		at = next
	}
	last := path[len(path)-1]
	if _, there := at[last]; there {
		return fmt.Errorf("%.100q is set already: give it once", key)
	}
	at[last] = v
	return nil
}

// filterValue returns what a condition's value is: JSON if it is JSON, otherwise the text. A decoder would change JSON
// that the database can't hold.
func filterValue(value string) (v any, err error) {
	if !json.Valid([]byte(value)) {
		return value, checkPlain(value)
	}
	if err := strictjson.CheckDuplicates([]byte(value)); err != nil {
		return nil, err
	}
	if at, what := strictjson.CheckStorable([]byte(value)); what != "" {
		return nil, errors.New(strings.TrimPrefix(at+": "+what, ": "))
	}
	d := json.NewDecoder(strings.NewReader(value))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// checkPlain returns an error for a text that PostgreSQL can't hold.
func checkPlain(s string) error {
	if err := (*FieldError)(nil); errors.As(checkText("", s, 0), &err) {
		return errors.New("it " + err.Reason)
	}
	return nil
}

// checkValues returns an error for a text in metadata that is not UTF-8: encoding/json would replace it by U+FFFD.
func checkValues(at string, v any) error {
	switch v := v.(type) {
	case string:
		return checkText(at, v, 0)
	case []string:
		for i, s := range v {
			if err := checkText(fmt.Sprintf("%s[%d]", at, i), s, 0); err != nil {
				return err
			}
		}
	case []any:
		for i, item := range v {
			if err := checkValues(fmt.Sprintf("%s[%d]", at, i), item); err != nil {
				return err
			}
		}
	case Metadata:
		return checkValues(at, map[string]any(v))
	case map[string]any:
		for name, item := range v {
			if err := checkText(at, name, 0); err != nil {
				return err
			}
			if err := checkValues(at+"."+name, item); err != nil {
				return err
			}
		}
	}
	return nil
}

// LLMCall is one call of a language model. Zero fields are omitted from the metadata.
type LLMCall struct {
	ID      uuid.UUID // as in Event
	AgentID uuid.UUID
	UserID  string
	At      time.Time
	Latency time.Duration

	Operation      string // gen_ai.operation.name; "chat" when empty
	Provider       string // gen_ai.provider.name, for example "anthropic"
	Model          string // gen_ai.request.model
	ResponseModel  string // gen_ai.response.model, if another model answered
	ResponseID     string // gen_ai.response.id
	InputTokens    int64  // gen_ai.usage.input_tokens
	OutputTokens   int64  // gen_ai.usage.output_tokens
	FinishReasons  []string
	ConversationID string // gen_ai.conversation.id
	Prompt         string // input_summary
	Completion     string // output_summary
	Extra          Metadata
}

// Event returns the event that records the call, or a *FieldError that names a missing or invalid field.
func (c LLMCall) Event() (Event, error) {
	if c.Model == "" {
		return Event{}, &FieldError{"gen_ai.request.model", "is empty: say which model was asked"}
	}
	if c.InputTokens < 0 || c.OutputTokens < 0 {
		return Event{}, &FieldError{"gen_ai.usage", "has a negative number of tokens"}
	}
	m := Metadata{"gen_ai.request.model": c.Model, "gen_ai.operation.name": c.Operation}
	if c.Operation == "" {
		m["gen_ai.operation.name"] = "chat"
	}
	m.set("gen_ai.provider.name", c.Provider)
	m.set("gen_ai.response.model", c.ResponseModel)
	m.set("gen_ai.response.id", c.ResponseID)
	m.set("gen_ai.conversation.id", c.ConversationID)
	if c.InputTokens > 0 {
		m["gen_ai.usage.input_tokens"] = c.InputTokens
	}
	if c.OutputTokens > 0 {
		m["gen_ai.usage.output_tokens"] = c.OutputTokens
	}
	if len(c.FinishReasons) > 0 {
		m["gen_ai.response.finish_reasons"] = c.FinishReasons
	}
	return event(Event{ID: c.ID, AgentID: c.AgentID, UserID: c.UserID, Action: ActionLLMCall, Input: c.Prompt,
		Output: c.Completion, Latency: c.Latency, At: c.At}, m, c.Extra)
}

// ToolCall is one invocation of a tool.
type ToolCall struct {
	ID      uuid.UUID
	AgentID uuid.UUID
	UserID  string
	At      time.Time
	Latency time.Duration

	Name           string // gen_ai.tool.name
	CallID         string // gen_ai.tool.call.id
	Type           string // gen_ai.tool.type: function, extension or datastore
	Error          string // error.type; empty when the tool succeeded
	ConversationID string
	Arguments      string // input_summary
	Result         string // output_summary
	Extra          Metadata
}

// Event returns the event that records the call, or a *FieldError that names a missing field.
func (c ToolCall) Event() (Event, error) {
	if c.Name == "" {
		return Event{}, &FieldError{"gen_ai.tool.name", "is empty: say which tool was called"}
	}
	m := Metadata{"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": c.Name}
	m.set("gen_ai.tool.call.id", c.CallID)
	m.set("gen_ai.tool.type", c.Type)
	m.set("error.type", c.Error)
	m.set("gen_ai.conversation.id", c.ConversationID)
	return event(Event{ID: c.ID, AgentID: c.AgentID, UserID: c.UserID, Action: ActionToolCall, Input: c.Arguments,
		Output: c.Result, Latency: c.Latency, At: c.At}, m, c.Extra)
}

// Escalation is an agent's request that a person decide.
type Escalation struct {
	ID      uuid.UUID
	AgentID uuid.UUID
	UserID  string
	At      time.Time
	Latency time.Duration // how long the agent worked before it escalated

	Reason   string // input_summary: why a person is needed
	Question string // output_summary: what the person is asked
	To       string // konstruct.escalation.to: a person, team or queue
	// Due is konstruct.escalation.due: when an answer is needed. Webhooks are told when it passes; without, an hour
	// after the escalation.
	Due            time.Time
	ConversationID string
	Extra          Metadata
}

// Event returns the event that records the escalation, or a *FieldError that names a missing field.
func (c Escalation) Event() (Event, error) {
	if c.Reason == "" {
		return Event{}, &FieldError{"input_summary", "is empty: say why a person is needed"}
	}
	m := Metadata{}
	m.set(escalationTo, c.To)
	if !c.Due.IsZero() {
		m.set(escalationDue, c.Due.UTC().Format(time.RFC3339Nano))
	}
	m.set("gen_ai.conversation.id", c.ConversationID)
	return event(Event{ID: c.ID, AgentID: c.AgentID, UserID: c.UserID, Action: ActionEscalation, Input: c.Reason,
		Output: c.Question, Latency: c.Latency, At: c.At}, m, c.Extra)
}

// Retrieval is one search of the knowledge base and the passages that it returned.
type Retrieval struct {
	ID      uuid.UUID
	AgentID uuid.UUID
	UserID  string
	At      time.Time
	Latency time.Duration

	Query          string             // input_summary
	Model          string             // gen_ai.request.model: the model that embedded the query
	TopK           int                // konstruct.retrieval.top_k
	Passages       []RetrievedPassage // gen_ai.retrieval.documents, best first
	Options        SearchOptions      // konstruct.retrieval
	ConversationID string
	Extra          Metadata
}

// SearchOptions are the settings of a search of the knowledge base. Zero fields are omitted.
type SearchOptions struct {
	Mode     string `json:"mode,omitempty"`      // semantic, lexical or hybrid
	Tier     string `json:"tier,omitempty"`      // exact or hnsw
	EfSearch int    `json:"ef_search,omitempty"` // of hnsw
	Depth    int    `json:"depth,omitempty"`     // candidates in each of the lists that are merged
	// Collections are those that were searched; none where all of the tenant's documents were.
	Collections []uuid.UUID `json:"collections,omitempty"`
	// Where and Filter are what documents had to meet, and Labels are the labels that the searcher had.
	Where       any      `json:"where,omitempty"`
	Filter      any      `json:"filter,omitempty"`
	Labels      []string `json:"labels,omitempty"`
	Corrections any      `json:"spelled,omitempty"` // spelling corrections
	// The remaining fields are the request's.
	MinScore    *float64 `json:"min_score,omitempty"`
	Diversity   float64  `json:"diversity,omitempty"`
	PerDocument bool     `json:"per_document,omitempty"`
	Operators   *bool    `json:"operators,omitempty"`
	Duplicates  bool     `json:"duplicates,omitempty"`
	Neighbours  int      `json:"neighbours,omitempty"`
	Weights     any      `json:"weights,omitempty"` // of similarity and words
	After       string   `json:"after,omitempty"`
	Reranker    string   `json:"reranker,omitempty"` // the model that reordered the hits
	Fallback    string   `json:"fallback,omitempty"` // why the search was lexical only
}

// RetrievedPassage is one passage that a retrieval returned, with enough to prove later what its text was.
type RetrievedPassage struct {
	ChunkID    uuid.UUID `json:"id"`
	Score      float64   `json:"score"`
	DocumentID uuid.UUID `json:"konstruct.document_id"`
	SHA256     string    `json:"konstruct.content_sha256"`
	Version    int       `json:"konstruct.document_version,omitempty"`
	// Similarity and LexicalScore (BM25) are the parts of its score, where the search has them.
	Similarity   *float64 `json:"konstruct.similarity,omitempty"`
	LexicalScore *float64 `json:"konstruct.lexical_score,omitempty"`
	// Also are passages with the same text, ten at most, that it was returned for too.
	Also []uuid.UUID `json:"konstruct.also,omitempty"`
	// Neighbours are the passages before and after it that were returned with it.
	Neighbours []Neighbour `json:"konstruct.around,omitempty"`
}

// Neighbour is a passage that was returned because it is next to a hit.
type Neighbour struct {
	ChunkID uuid.UUID `json:"id"`
	SHA256  string    `json:"konstruct.content_sha256"`
}

// Event returns the event that records the retrieval, or a *FieldError that names a missing field.
func (c Retrieval) Event() (Event, error) {
	if c.Query == "" {
		return Event{}, &FieldError{"input_summary", "is empty: say what was asked"}
	}
	passages := c.Passages
	if passages == nil {
		passages = []RetrievedPassage{}
	}
	m := Metadata{"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": passages,
		"konstruct.retrieval.top_k": c.TopK}
	if !reflect.ValueOf(c.Options).IsZero() {
		m["konstruct.retrieval"] = c.Options
	}
	m.set("gen_ai.request.model", c.Model)
	m.set("gen_ai.conversation.id", c.ConversationID)
	out := plural.Of(len(c.Passages), "passage", "passages")
	return event(Event{ID: c.ID, AgentID: c.AgentID, UserID: c.UserID, Action: ActionRetrieval, Input: c.Query,
		Output: out, Latency: c.Latency, At: c.At}, m, c.Extra)
}

// Removal records that a document was deleted from the knowledge base.
type Removal struct {
	ID      uuid.UUID
	AgentID uuid.UUID
	UserID  string
	At      time.Time

	DocumentID uuid.UUID
	Filename   string // input_summary
	Source     string
	SHA256     string // of the file, in hex; empty for a document another client wrote
	Version    int
	Chunks     int
	Extra      Metadata
}

// Event returns the event that records the removal.
func (c Removal) Event() (Event, error) {
	m := Metadata{"konstruct.document.id": c.DocumentID, "konstruct.document.version": c.Version,
		"konstruct.document.chunks": c.Chunks}
	m.set("konstruct.document.source", c.Source)
	m.set("konstruct.document.content_sha256", c.SHA256)
	return event(Event{ID: c.ID, AgentID: c.AgentID, UserID: c.UserID, Action: ActionRemoval, Input: c.Filename,
		At: c.At}, m, c.Extra)
}

// ModelChange records that a tenant's searches use another embedding model from now on. An empty name is the first
// model.
type ModelChange struct {
	ID      uuid.UUID
	AgentID uuid.UUID
	UserID  string
	At      time.Time

	Model, Before string
	Extra         Metadata
}

// Event returns the event that records the change.
func (c ModelChange) Event() (Event, error) {
	m := Metadata{"konstruct.model": c.Model, "konstruct.model.before": c.Before}
	return event(Event{ID: c.ID, AgentID: c.AgentID, UserID: c.UserID, Action: ActionModel, At: c.At}, m, c.Extra)
}

// What CollectionChange records.
const (
	CollectionCreated = "created"
	CollectionUpdated = "updated"
	CollectionDeleted = "deleted"
	CollectionExpired = "expired"
	DocumentsAdded    = "documents_added" // or their attributes set
	DocumentsTaken    = "documents_taken_out"
	BatchCancelled    = "batch_cancelled" // files that were attached together are not ingested any more
)

// MaxChangedDocuments is how many documents one event of a collection names at most.
const MaxChangedDocuments = 1000

// CollectionChange records what was done to a collection of documents.
type CollectionChange struct {
	ID      uuid.UUID
	AgentID uuid.UUID
	UserID  string
	At      time.Time

	Collection uuid.UUID
	Name       string // input_summary
	Change     string // one of the constants above
	// Documents are those that it concerns, the first MaxChangedDocuments of them, and Count is how many there are.
	Documents []uuid.UUID
	Count     int
	Extra     Metadata
}

// Event returns the event that records the change.
func (c CollectionChange) Event() (Event, error) {
	m := Metadata{"konstruct.collection.id": c.Collection, "konstruct.collection.change": c.Change}
	if c.Count > 0 {
		m["konstruct.collection.documents"] = c.Documents[:min(len(c.Documents), MaxChangedDocuments)]
		m["konstruct.collection.document_count"] = c.Count
	}
	return event(Event{ID: c.ID, AgentID: c.AgentID, UserID: c.UserID, Action: ActionCollection, Input: c.Name,
		Output: c.Change, At: c.At}, m, c.Extra)
}

func (m Metadata) set(key, value string) {
	if value != "" {
		m[key] = value
	}
}

// event joins a call's metadata with the caller's extra keys. Extra keys may be neither reserved nor set by the call.
func event(e Event, m, extra Metadata) (Event, error) {
	for k, v := range extra {
		if _, taken := m[k]; taken {
			return e, &FieldError{"metadata", fmt.Sprintf("has %q among the extra keys, which the call itself sets", k)}
		}
		m[k] = v
	}
	if err := checkValues("metadata", m); err != nil {
		return e, err
	}
	extraJSON, err := strictjson.Marshal(extra)
	if err != nil {
		return e, &FieldError{"metadata", "is not JSON: " + err.Error()}
	}
	if err := (&Event{Action: ActionLLMCall, Metadata: extraJSON}).checkReserved(); err != nil {
		return e, err
	}
	raw, err := strictjson.Marshal(m)
	if err != nil {
		return e, &FieldError{"metadata", "is not JSON: " + err.Error()}
	}
	e.Metadata = raw
	return e.OfService(), nil // the reserved keys are set above; extra has none
}

// LogLLMCall logs a call of a language model. It commits like Log.
func LogLLMCall(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, c LLMCall) (uuid.UUID, error) {
	return logCall(ctx, door, tenant, c.Event)
}

// LogToolCall logs an invocation of a tool. It commits like Log.
func LogToolCall(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, c ToolCall) (uuid.UUID, error) {
	return logCall(ctx, door, tenant, c.Event)
}

// LogEscalation logs an escalation. It commits like Log.
func LogEscalation(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, c Escalation) (uuid.UUID, error) {
	return logCall(ctx, door, tenant, c.Event)
}

// LogRetrieval logs a search of another knowledge base. It commits like Log. A search through this library is logged by
// the library.
func LogRetrieval(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, c Retrieval) (uuid.UUID, error) {
	return logCall(ctx, door, tenant, c.Event)
}

func logCall(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	made func() (Event, error)) (uuid.UUID, error) {
	e, err := made()
	if err != nil {
		return uuid.Nil, err
	}
	return Log(ctx, door, tenant, e)
}
