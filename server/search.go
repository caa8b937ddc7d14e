package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/eval"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
)

// SearchRequest is a search.
type SearchRequest struct {
	Text            string      `json:"text" minLength:"1"`
	TopK            int         `json:"top_k,omitempty" minimum:"1" maximum:"100" default:"5"`
	Mode            search.Mode `json:"mode,omitempty" enum:"hybrid,semantic,lexical" default:"hybrid"`
	LexicalFallback bool        `json:"lexical_fallback,omitempty"`
	Operators       *bool       `json:"operators,omitempty" doc:"Whether quotes, - and * are commands; in lexical mode"`
	Duplicates      bool        `json:"duplicates,omitempty" doc:"Return each of several equal passages"`
	Collections     []string    `json:"collections,omitempty" maxItems:"100" doc:"Names or ids; without, all documents"`
	Where           []string    `json:"where,omitempty" maxItems:"100"`
	Labels          []string    `json:"labels,omitempty" maxItems:"32"`
	MinScore        *float64    `json:"min_score,omitempty"`
	Diversity       float64     `json:"diversity,omitempty" minimum:"0" maximum:"1"`
	PerDocument     bool        `json:"per_document,omitempty" doc:"Only the best passage of each document"`
	Neighbours      int         `json:"neighbours,omitempty" minimum:"0" maximum:"10"`
	After           string      `json:"after,omitempty" maxLength:"300" doc:"The previous page's next"`
	WithinMS        int64       `json:"within_ms,omitempty" minimum:"0" maximum:"60000"`
	Rerank          bool        `json:"rerank,omitempty"`
	UserID          string      `json:"user_id,omitempty" maxLength:"1024" doc:"The user who searches"`
	ConversationID  string      `json:"conversation_id,omitempty" maxLength:"1000"`
	Agent           *uuid.UUID  `json:"agent_id,omitempty"`
}

// libraryRequest validates a search and converts it for the library.
func (q *SearchRequest) libraryRequest(w access.Principal, at string) (out konstruct.SearchRequest, err error) {
	if err := kb.CheckSearchLabels(q.Labels); err != nil {
		return out, fieldProblem(at+".labels", err.Error())
	}
	if name, lacks := w.Labels().Missing(q.Labels); lacks {
		return out, permissionDenied(at+".labels",
			fmt.Sprintf("%.120q is not granted to you: leave it out, or ask an administrator for it", name))
	}
	out = konstruct.SearchRequest{Text: q.Text, TopK: q.TopK, UserID: q.UserID, Labels: q.Labels,
		Collections:    q.Collections,
		ConversationID: q.ConversationID, Mode: q.Mode, LexicalFallback: q.LexicalFallback,
		Operators: q.Operators, Duplicates: q.Duplicates, MinScore: q.MinScore,
		Diversity:   q.Diversity,
		PerDocument: q.PerDocument, Neighbours: q.Neighbours, After: q.After,
		Within: time.Duration(q.WithinMS) * time.Millisecond, Rerank: q.Rerank}
	for i, one := range q.Where {
		c, err := search.ParseCondition(one)
		if err == nil {
			err = c.Check()
		}
		if bad := (*search.QueryError)(nil); errors.As(err, &bad) {
			return out, fieldProblem(fmt.Sprintf("%s.where[%d]", at, i), bad.Reason)
		}
		out.Where = append(out.Where, c)
	}
	return out, nil
}

func (s *Server) search() {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Search"}}
	}
	create := op("search", "POST", "/v1/search", "Search the knowledge base")
	create.Description = "The retrieval event with the returned passages is written in the same transaction: no " +
		"result without its event."
	register(s, create, access.KBRead,
		func(ctx context.Context, w access.Principal,
			in *struct{ Body SearchRequest }) (*Response[konstruct.SearchResult], error) {
			all, err := s.searchAll(ctx, w, []SearchRequest{in.Body}, func(int) string { return "body" })
			if err != nil {
				return nil, err
			}
			return &Response[konstruct.SearchResult]{all[0]}, nil
		})
	register(s, op("searchBatch", "POST", "/v1/search/batch", "Run several searches: all succeed or none"),
		access.KBRead, func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				Questions []SearchRequest `json:"questions" minItems:"1" maxItems:"100"`
			}
		}) (*Response[List[konstruct.SearchResult]], error) {
			all, err := s.searchAll(ctx, w, in.Body.Questions, func(i int) string {
				return fmt.Sprintf("body.questions[%d]", i)
			})
			return listPage(all, len(all)+1, func(konstruct.SearchResult) string { return "" }), err
		})
	register(s,
		op("explainSearch", "POST", "/v1/search/explain",
			"Explain how a search runs; it is not recorded and returns no text"), access.KBRead,
		func(ctx context.Context, w access.Principal,
			in *struct{ Body SearchRequest }) (*Response[search.Explanation], error) {
			q, err := in.Body.libraryRequest(w, "body")
			if err != nil {
				return nil, err
			}
			as, err := agentID(w, in.Body.Agent, "body.agent_id")
			if err == nil {
				err = s.meter.SetCapacity(ctx, w, access.Searches, 1, "searches")
			}
			if err != nil {
				return nil, err
			}
			e, err := s.agent(w, as).ExplainSearch(ctx, q)
			return &Response[search.Explanation]{e}, err
		})
	register(s, op("getPassage", "GET", "/v1/passages/{id}", "Get a passage with its surrounding text"), access.KBRead,
		func(ctx context.Context, w access.Principal, in *struct {
			PathID
			Around int `query:"around" default:"500" minimum:"0" maximum:"65536" doc:"Bytes before and after it"`
		}) (*Response[kb.PassageContext], error) {
			pid, err := in.uuid()
			if err != nil {
				return nil, err
			}
			p, err := s.tenant(w).Documents().Passage(ctx, pid, in.Around)
			return &Response[kb.PassageContext]{p}, err
		})
	register(s, op("tuneIndex", "POST", "/v1/search/tune", "Tune the tenant's own index with its recorded queries"),
		access.KBWrite, func(ctx context.Context, w access.Principal, _ *struct{}) (*Response[search.Tuning], error) {
			t, err := s.tenant(w).TuneIndex(ctx)
			return &Response[search.Tuning]{t}, err
		})
	register(s, op("listModels", "GET", "/v1/models", "List embedding models with vectors in the knowledge base"),
		access.KBRead, func(ctx context.Context, w access.Principal, _ *struct{}) (*Response[List[kb.Model]], error) {
			models, err := s.tenant(w).Models().List(ctx)
			return listPage(models, len(models)+1, func(kb.Model) string { return "" }), err
		})
	serving := op("updateServingModel", "PUT", "/v1/models/serving", "Switch searches to the vectors of another model")
	serving.Description = "konstruct kb reembed makes its vectors first; the empty name is the first model, " +
		"whose vectors always exist."
	register(s, serving, access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
		Body struct {
			Model string `json:"model" maxLength:"1000"`
		}
	}) (*Response[EventCreated], error) {
		event, err := s.agent(w, w.Agent).ServeModel(ctx, in.Body.Model)
		return &Response[EventCreated]{EventCreated{ID: &event}}, err
	})
	drop := op("deleteModel", "DELETE", "/v1/models/{model}", "Delete the vectors of a model that searches do not use")
	drop.DefaultStatus = 204
	register(s, drop, access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
		Model string `path:"model" maxLength:"1000"`
	}) (*NoContent, error) {
		return nil, s.tenant(w).Models().Delete(ctx, in.Model)
	})
	s.language(op)
	s.evaluate(op)
}

func (s *Server) searchAll(ctx context.Context, w access.Principal, in []SearchRequest,
	at func(int) string) ([]konstruct.SearchResult, error) {
	questions := make([]konstruct.SearchRequest, len(in))
	var as uuid.UUID
	for i := range in {
		a, err := agentID(w, in[i].Agent, at(i)+".agent_id")
		if err != nil {
			return nil, err
		}
		if i > 0 && a != as {
			return nil, fieldProblem(at(i)+".agent_id", "the searches of a batch must be of one agent")
		}
		as = a
		if questions[i], err = in[i].libraryRequest(w, at(i)); err != nil {
			return nil, err
		}
	}
	if err := s.meter.SetCapacity(ctx, w, access.Searches, len(in), "searches"); err != nil {
		return nil, err
	}
	return s.agent(w, as).SearchBatch(ctx, questions)
}

// EvaluationQuery is a query with its known answers.
type EvaluationQuery struct {
	Text    string         `json:"text" minLength:"1"`
	Answers map[string]int `json:"answers" minProperties:"1" maxProperties:"1000"`
}

// ModeScores are the scores of a search mode.
type ModeScores struct {
	Mode   search.Mode  `json:"mode"`
	Scores []eval.Score `json:"scores"`
}

// checkAnswerable refuses queries whose answers are no findable documents: their scores would always be zero.
func (s *Server) checkAnswerable(ctx context.Context, w access.Principal, c *eval.Collection) error {
	var names []string
	for _, answers := range c.Judged {
		names = slices.AppendSeq(names, maps.Keys(answers))
	}
	there, err := kb.FindByName(ctx, s.c.Konstruct.Door(), w.Tenant, names)
	if err != nil {
		return err
	}
	ids, _ := c.Unanswerable(func(doc string) bool { return there[doc] })
	if len(ids) == 0 {
		return nil
	}
	p := problem(http.StatusUnprocessableEntity, "%d of %d questions can't be measured", len(ids), len(c.Queries))
	for _, id := range ids {
		p.Errors = append(p.Errors, FieldProblem{"body.questions[" + id + "].answers",
			"none with a grade of 1 or more is the source or file name of a document that such a search " +
				"can find"})
	}
	return p
}

// evaluate registers the operation that scores searches with judged queries.
func (s *Server) evaluate(op func(id, method, path, summary string) huma.Operation) {
	evaluate := op("createEvaluation", "POST", "/v1/evaluations", "Measure search quality with judged queries")
	evaluate.Description = "Each question runs as a search and is recorded as an event."
	register(s, evaluate, access.KBRead, func(ctx context.Context, w access.Principal, in *struct {
		Body struct {
			Questions []EvaluationQuery `json:"questions" minItems:"1" maxItems:"100"`
			Modes     []searchMode      `json:"modes,omitempty" minItems:"1" maxItems:"3"`
			Labels    []string          `json:"labels,omitempty" maxItems:"32" doc:"As in a search"`
			Agent     *uuid.UUID        `json:"agent_id,omitempty"`
		}
	}) (*Response[List[ModeScores]], error) {
		b := in.Body
		modes := stringsOf[search.Mode](b.Modes)
		if len(modes) == 0 {
			modes = []search.Mode{search.Semantic, search.Lexical, search.Hybrid}
		}
		c := eval.Collection{Judged: map[string]map[string]int{}}
		for i, q := range b.Questions {
			name := fmt.Sprint(i)
			c.Queries, c.Judged[name] = append(c.Queries, eval.Query{ID: name, Text: q.Text}), q.Answers
		}
		narrowed := ctx
		if len(b.Labels) > 0 {
			if name, lacks := w.Labels().Missing(b.Labels); lacks {
				return nil, permissionDenied("body.labels",
					fmt.Sprintf("%.120q is not granted to you: leave it out, or ask an administrator for it", name))
			}
			narrowed = konstruct.WithLabels(ctx, b.Labels...)
		}
		if err := s.checkAnswerable(narrowed, w, &c); err != nil {
			return nil, err
		}
		var out []ModeScores
		for _, mode := range modes {
			questions := make([]SearchRequest, len(b.Questions))
			for i, q := range b.Questions {
				questions[i] = SearchRequest{Text: q.Text, TopK: search.MaxHits, Mode: mode, PerDocument: true,
					Duplicates: true, Operators: new(bool), Labels: b.Labels, Agent: b.Agent}
			}
			all, err := s.searchAll(ctx, w, questions, func(i int) string {
				return fmt.Sprintf("body.questions[%d]", i)
			})
			if err != nil {
				return nil, err
			}
			run := eval.Run{}
			for i, r := range all {
				var ranked []eval.Ranked
				for _, h := range r.Hits {
					doc := h.Source
					if _, named := b.Questions[i].Answers[h.Filename]; named {
						doc = h.Filename
					}
					ranked = append(ranked, eval.Ranked{Doc: doc, Score: h.Score})
				}
				run[fmt.Sprint(i)] = eval.Order(ranked)
			}
			out = append(out, ModeScores{mode, eval.Evaluate(&c, run)})
		}
		return listPage(out, len(out)+1, func(ModeScores) string { return "" }), nil
	})
}
