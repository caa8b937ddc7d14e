package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/strictjson"
)

// event converts the body, which is at a location of the request, into an event to log.
func (b *CreateEventRequest) event(ctx context.Context, w access.Principal, n int,
	at string) (e audit.Event, err error) {
	if e.AgentID, err = agentID(w, b.AgentID, at+".agent_id"); err != nil {
		return e, err
	}
	if e.ID, err = eventID(ctx, w, b.ID, n, at+".id"); err != nil {
		return e, err
	}
	if e.At, err = givenTime(at+".created_at", b.CreatedAt); err != nil {
		return e, err
	}
	e.UserID, e.Action, e.Input, e.Output, e.Latency = b.UserID, b.Action, b.Input, b.Output,
		time.Duration(b.LatencyMS)*time.Millisecond
	e.Metadata = json.RawMessage(b.Metadata)
	return e, nil
}

// createEvent registers the operations that log one event.
func (s *Server) createEvent() {
	op := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: "POST", Path: path, Summary: summary, Tags: []string{"Events"},
			DefaultStatus: 201, Responses: s.pendingResponse(reflect.TypeFor[EventCreated]())}
	}
	register(s, op("createEvent", "/v1/events", "Log an event: a response means that it is committed and sealed"),
		access.EventsWrite, func(ctx context.Context, w access.Principal,
			in *struct{ Body CreateEventRequest }) (*CreatedOrPending[EventCreated], error) {
			e, err := in.Body.event(ctx, w, 0, "body")
			if err == nil {
				err = s.checkEventKey(ctx, w, 1)
			}
			if err == nil {
				err = s.meter.SetCapacity(ctx, w, access.Events, 1, "events")
			}
			if err != nil {
				return nil, err
			}
			return eventCreated(s.agent(w, e.AgentID).Log(ctx, e))
		})
	register(s, op("createLLMCall", "/v1/llm-calls", "Log a call of a language model"), access.EventsWrite,
		func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				CallRequest
				Operation      string   `json:"operation,omitempty" maxLength:"200"`
				Provider       string   `json:"provider,omitempty" maxLength:"200" example:"anthropic"`
				Model          string   `json:"model" minLength:"1" maxLength:"1000" doc:"gen_ai.request.model"`
				ResponseModel  string   `json:"response_model,omitempty" maxLength:"1000"`
				ResponseID     string   `json:"response_id,omitempty" maxLength:"1000"`
				InputTokens    int64    `json:"input_tokens,omitempty" minimum:"0" maximum:"9007199254740991"`
				OutputTokens   int64    `json:"output_tokens,omitempty" minimum:"0" maximum:"9007199254740991"`
				FinishReasons  []string `json:"finish_reasons,omitempty" maxItems:"100"`
				ConversationID string   `json:"conversation_id,omitempty" maxLength:"1000"`
				Prompt         string   `json:"prompt,omitempty"`
				Completion     string   `json:"completion,omitempty"`
			}
		}) (*CreatedOrPending[EventCreated], error) {
			b := &in.Body
			return s.createCall(ctx, w, &b.CallRequest, func(c callFields) (audit.Event, error) {
				return konstruct.LLMCall{ID: c.id, AgentID: c.agent, UserID: b.UserID, At: c.at, Latency: c.latency,
					Operation: b.Operation, Provider: b.Provider, Model: b.Model, ResponseModel: b.ResponseModel,
					ResponseID:  b.ResponseID,
					InputTokens: b.InputTokens, OutputTokens: b.OutputTokens, FinishReasons: b.FinishReasons,
					ConversationID: b.ConversationID, Prompt: b.Prompt, Completion: b.Completion,
					Extra: b.Metadata.parsed()}.Event()
			})
		})
	register(s, op("createToolCall", "/v1/tool-calls", "Log an invocation of a tool"), access.EventsWrite,
		func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				CallRequest
				Name           string `json:"name" minLength:"1" maxLength:"1000" doc:"gen_ai.tool.name"`
				CallID         string `json:"call_id,omitempty" maxLength:"1000" doc:"gen_ai.tool.call.id"`
				Type           string `json:"type,omitempty" maxLength:"200"`
				Error          string `json:"error,omitempty" maxLength:"1000"`
				ConversationID string `json:"conversation_id,omitempty" maxLength:"1000"`
				Arguments      string `json:"arguments,omitempty"`
				Result         string `json:"result,omitempty"`
			}
		}) (*CreatedOrPending[EventCreated], error) {
			b := &in.Body
			return s.createCall(ctx, w, &b.CallRequest, func(c callFields) (audit.Event, error) {
				return konstruct.ToolCall{ID: c.id, AgentID: c.agent, UserID: b.UserID, At: c.at, Latency: c.latency,
					Name: b.Name, CallID: b.CallID, Type: b.Type, Error: b.Error, ConversationID: b.ConversationID,
					Arguments: b.Arguments, Result: b.Result, Extra: b.Metadata.parsed()}.Event()
			})
		})
	open := op("createEscalation", "/v1/escalations", "Escalate a decision to a person")
	open.Tags = []string{"Escalations"}
	register(s, open, access.EventsWrite, func(ctx context.Context, w access.Principal, in *struct {
		Body struct {
			CallRequest
			Reason         string `json:"reason" minLength:"1" doc:"Why a person is needed"`
			Question       string `json:"question,omitempty" doc:"What the person is asked"`
			To             string `json:"to,omitempty" maxLength:"1000" doc:"A person, team or queue"`
			ConversationID string `json:"conversation_id,omitempty" maxLength:"1000"`
		}
	}) (*CreatedOrPending[EventCreated], error) {
		b := &in.Body
		return s.createCall(ctx, w, &b.CallRequest, func(c callFields) (audit.Event, error) {
			return konstruct.Escalation{ID: c.id, AgentID: c.agent, UserID: b.UserID, At: c.at, Latency: c.latency,
				Reason: b.Reason, Question: b.Question, To: b.To, ConversationID: b.ConversationID,
				Extra: b.Metadata.parsed()}.Event()
		})
	})
}

// pendingResponse describes the response for a tenant whose calls continue while the trail is unavailable.
func (s *Server) pendingResponse(body reflect.Type) map[string]*huma.Response {
	schema := s.api.OpenAPI().Components.Schemas.Schema(body, true, "")
	return map[string]*huma.Response{
		"202": {Description: "Not logged: the trail is unavailable, this tenant's calls go on, and the gap is recorded",
			Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}}
}

// CallRequest has the fields that all calls share.
type CallRequest struct {
	ID        *uuid.UUID `json:"id,omitempty"`
	AgentID   *uuid.UUID `json:"agent_id,omitempty"`
	UserID    string     `json:"user_id,omitempty" maxLength:"1024"`
	LatencyMS int64      `json:"latency_ms,omitempty" minimum:"0" maximum:"2147483647"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	Metadata  jsonObject `json:"metadata,omitempty"`
}

// callFields are the shared fields, as the library takes them.
type callFields struct {
	id, agent uuid.UUID
	at        time.Time
	latency   time.Duration
}

func (s *Server) createCall(ctx context.Context, w access.Principal, b *CallRequest,
	event func(callFields) (audit.Event, error)) (*CreatedOrPending[EventCreated], error) {
	c := callFields{latency: time.Duration(b.LatencyMS) * time.Millisecond}
	var err error
	if c.id, err = eventID(ctx, w, b.ID, 0, "body.id"); err != nil {
		return nil, err
	}
	if c.agent, err = agentID(w, b.AgentID, "body.agent_id"); err != nil {
		return nil, err
	}
	if c.at, err = givenTime("body.created_at", b.CreatedAt); err != nil {
		return nil, err
	}
	e, err := event(c)
	if err == nil {
		err = s.checkEventKey(ctx, w, 1)
	}
	if err == nil {
		err = s.meter.SetCapacity(ctx, w, access.Events, 1, "events")
	}
	if err != nil {
		return nil, err
	}
	if e.ID, err = s.agent(w, c.agent).Log(ctx, e); err == nil {
		s.remember(w, e)
	}
	return eventCreated(e.ID, err)
}

// CreateEventsRequest is a batch of events: all are logged, or none.
type CreateEventsRequest struct {
	Events []CreateEventRequest `json:"events" minItems:"1" maxItems:"10000"`
}

// EventsCreated has the ids of a batch's events.
type EventsCreated struct {
	IDs []uuid.UUID `json:"ids" doc:"In the order of the events; null if they were not logged"`
	Gap bool        `json:"gap,omitempty" doc:"The events were not logged, as for one event"`
}

// batchPath is the path of batches.
const batchPath = "/v1/events/batch"

// createEvents registers the batch operation. It decodes a body event by event while it arrives: huma would hold it
// whole and parse it three times, half of the time that a batch takes.
func (s *Server) createEvents() {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[CreateEventsRequest](), true, "Batch")
	op := huma.Operation{OperationID: "createEvents", Method: "POST", Path: batchPath,
		Summary: "Log a batch of events: all or none", Tags: []string{"Events"}, DefaultStatus: 201,
		Responses: s.pendingResponse(reflect.TypeFor[EventsCreated]()), Middlewares: huma.Middlewares{passBody}}
	register(s, op, access.EventsWrite, func(ctx context.Context, w access.Principal, in *struct {
		ContentType string `header:"Content-Type"`
	}) (*CreatedOrPending[EventsCreated], error) {
		if kind, _, _ := strings.Cut(in.ContentType, ";"); kind != "" &&
			!strings.EqualFold(strings.TrimSpace(kind), "application/json") {
			return nil, problem(http.StatusUnsupportedMediaType, "header.Content-Type: it must be application/json")
		}
		r, _ := ctx.Value(bodyKey).(*http.Request)
		batch, err := readBatch(r.Body)
		if err != nil {
			return nil, err
		}
		if err := s.meter.SetCapacity(ctx, w, access.Events, len(batch.Events), "events"); err != nil {
			return nil, err
		}
		events := make([]audit.Event, len(batch.Events))
		for i := range batch.Events {
			if events[i], err = batch.Events[i].event(ctx, w, i, fmt.Sprintf("body.events[%d]", i)); err != nil {
				return nil, err
			}
		}
		if err := s.checkEventKey(ctx, w, len(events)); err != nil {
			return nil, err
		}
		ids, err := s.tenant(w).LogBatch(ctx, events)
		if err != nil {
			return nil, batchProblem(err)
		}
		for i := range ids {
			events[i].ID = ids[i]
		}
		s.remember(w, events[:len(ids)]...)
		out := &CreatedOrPending[EventsCreated]{Status: http.StatusCreated,
			Body: EventsCreated{IDs: ids, Gap: ids == nil}}
		if out.Body.Gap {
			out.Status = http.StatusAccepted
		}
		return out, nil
	})
	// Set after registration: otherwise huma reads the body.
	s.api.OpenAPI().Paths[op.Path].Post.RequestBody = &huma.RequestBody{Required: true,
		Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
}

// maxReported is the largest number of invalid events that a response lists.
const maxReported = 100

// fieldProblems returns a problem with several fields.
func fieldProblems(bad []FieldProblem) *Problem {
	p := fieldProblem(bad[0].Location, bad[0].Message)
	if p.Errors = bad; len(bad) > 1 {
		p.Detail += fmt.Sprintf(" (and %d more)", len(bad)-1)
	}
	return p
}

// batchProblem converts an error of a batch into a problem that names its events.
func batchProblem(err error) error {
	var batch *audit.BatchError
	if !errors.As(err, &batch) {
		return err
	}
	var bad []FieldProblem
	for _, e := range batch.Events {
		bad = append(bad, FieldProblem{fmt.Sprintf("body.events[%d].%s", e.Index, e.Field), e.Reason})
	}
	return fieldProblems(bad)
}

// readBatch reads a batch while it arrives, and validates it as its schema does.
func readBatch(body io.Reader) (b CreateEventsRequest, err error) {
	var events eventDecoder
	var bad []FieldProblem
	err = eachEvent(body, func(i int, raw []byte) error {
		if i == audit.MaxBatch {
			return fieldProblem("body.events", fmt.Sprintf("there are too many: the limit is %d", audit.MaxBatch))
		}
		e, err := events.decode(raw, fmt.Sprintf("body.events[%d]", i))
		b.Events = append(b.Events, e)
		var p *Problem
		if errors.As(err, &p) && p.Status == http.StatusUnprocessableEntity && len(bad) < maxReported {
			bad = append(bad, p.Errors...) // check the other events too
			return nil
		}
		return err
	})
	if err == nil && len(bad) > 0 {
		return b, fieldProblems(bad)
	}
	if err == nil && len(b.Events) == 0 {
		err = fieldProblem("body.events", fmt.Sprintf("there are 0: it is 1 to %d", audit.MaxBatch))
	}
	return b, err
}

// eventDecoder decodes the events of a batch one after the other, with the same buffers.
type eventDecoder struct {
	raw   bytes.Reader
	d     *json.Decoder
	used  int64 // bytes of earlier events
	names map[string]bool
}

// jsonNames returns the JSON names of a struct's fields.
func jsonNames(t reflect.Type) map[string]bool {
	names := map[string]bool{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names[name] = true
	}
	return names
}

// decode decodes and validates an event at a location of the body.
func (r *eventDecoder) decode(raw []byte, at string) (e CreateEventRequest, err error) {
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return e, unreadableBody(err.Error())
	}
	if in, what := strictjson.CheckText(raw); what != "" {
		return e, fieldProblem(at+in, what)
	}
	if r.names == nil {
		r.names = jsonNames(reflect.TypeFor[CreateEventRequest]())
	}
	if name, ok := strictjson.CheckNames(raw, r.names); !ok {
		return e, fieldProblem(fmt.Sprintf("%s.%.80s", at, name), "there is no such field")
	}
	r.raw.Reset(raw)
	if r.d == nil {
		r.d = json.NewDecoder(&r.raw)
		r.d.DisallowUnknownFields()
	}
	err = r.d.Decode(&e)
	read := r.d.InputOffset() - r.used
	if r.used += read; err != nil {
		r.d, r.used = nil, 0 // a decoder can't continue after an error
	}
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return e, unreadableBody("it is not JSON: " + at + ": " + err.Error())
	case err != nil:
		return e, typeProblem(strictjson.Decode(raw, new(CreateEventRequest)), at)
	case read != int64(len(raw)):
		return e, unreadableBody("it is not JSON: there is something after " + at)
	case e.LatencyMS < 0 || e.LatencyMS > 1<<31-1:
		return e, fieldProblem(at+".latency_ms", "it is 0 to 2147483647")
	}
	return e, nil
}

// typeProblem returns the problem of an event that is JSON, and has a field of another type.
func typeProblem(err error, at string) *Problem {
	var field *strictjson.FieldError
	if errors.As(err, &field) {
		return fieldProblem(at+"."+field.Field, field.Reason)
	}
	return fieldProblem(at, "it has a field of another type")
}

// unreadableBody returns the problem of a body that is not valid JSON.
func unreadableBody(reason string) *Problem {
	p := problem(http.StatusBadRequest, "body: %s", reason)
	p.Errors = []FieldProblem{{"body", reason}}
	return p
}

// metadataFilter parses conditions on metadata.
func metadataFilter(meta []string) (audit.Metadata, error) {
	if len(meta) == 0 {
		return nil, nil
	}
	m := audit.Metadata{}
	for i, one := range meta {
		if err := m.Put(one); err != nil {
			return nil, fieldProblem(fmt.Sprintf("query.meta[%d]", i), err.Error())
		}
	}
	return m, nil
}

// jsonObject is a JSON object as sent: numbers keep their digits.
type jsonObject json.RawMessage

// UnmarshalJSON implements json.Unmarshaler. As in every other field that may be missing, null is a missing object.
func (o *jsonObject) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	if len(raw) == 0 || raw[0] != '{' {
		return errors.New("it must be an object")
	}
	*o = bytes.Clone(raw)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (o jsonObject) MarshalJSON() ([]byte, error) { return json.RawMessage(o).MarshalJSON() }

// Schema implements huma.SchemaProvider.
func (jsonObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "object", AdditionalProperties: true}
}

// parsed returns the decoded object, or nil when empty.
func (o jsonObject) parsed() (m map[string]any) {
	d := json.NewDecoder(bytes.NewReader(o))
	d.UseNumber()
	if len(o) > 0 && d.Decode(&m) != nil {
		return nil // unreachable: UnmarshalJSON has accepted it as an object
	}
	return m
}
