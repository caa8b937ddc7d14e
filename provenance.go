package konstruct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// RetrievalCheck compares the passages that a retrieval event cites with those stored now.
type RetrievalCheck struct {
	Event StoredEvent `json:"event"`
	// Options are those of the search, and Model is the model that it used.
	Options audit.SearchOptions `json:"how"`
	Model   string              `json:"model,omitempty"`
	// Passages are the returned passages, best first, each with its neighbours.
	Passages []RetrievedPassage `json:"passages"`
}

// PassageState is the state of a passage since a search returned it.
type PassageState string

// The states. An edited passage gets another id, unless another client overwrites the row.
const (
	Unchanged PassageState = "unchanged" // stored as it was returned: its hash is the event's
	Changed   PassageState = "changed"   // other text is stored under its id
	Deleted   PassageState = "deleted"   // nothing is stored under its id
	// its document has labels, and the context was granted none of them: the state is not disclosed
	Hidden PassageState = "hidden"
)

// RetrievedPassage is one passage that a search returned.
type RetrievedPassage struct {
	audit.RetrievedPassage
	Rank  int          `json:"rank"`
	State PassageState `json:"state"`
	// CurrentVersion is the version of its document now; 0 when the document is deleted.
	CurrentVersion int `json:"document_version_now"`
	// Content is the text that was returned, as long as it is stored. Headings and Page locate it in its document,
	// whose name now is Filename.
	Content  string   `json:"content,omitempty"`
	Filename string   `json:"filename,omitempty"`
	Headings []string `json:"headings,omitempty"`
	Page     int      `json:"page,omitempty"`
}

// ErrNoRetrieval means that an event is not a retrieval.
var ErrNoRetrieval = errors.New("the event is not a retrieval: it cites no passages")

// maxPassages is the largest number of passages in one event: hits and their neighbours.
const maxPassages = search.MaxHits * (1 + 2*search.MaxNeighbours)

// CheckRetrieval returns the passages of a retrieval event and compares them with those stored now.
func (g Events) CheckRetrieval(ctx context.Context, event uuid.UUID) (s RetrievalCheck, err error) {
	if s.Event, err = g.t.Events().Get(ctx, event); err != nil {
		return s, err
	}
	var recorded struct {
		Documents []audit.RetrievedPassage `json:"gen_ai.retrieval.documents"`
		How       audit.SearchOptions      `json:"konstruct.retrieval"`
		Model     string                   `json:"gen_ai.request.model"`
	}
	if s.Event.Action != audit.ActionRetrieval {
		return s, ErrNoRetrieval
	}
	if err := json.Unmarshal(s.Event.Metadata, &recorded); err != nil {
		return s, fmt.Errorf("konstruct: event %s: its metadata is not that of a retrieval: %w", event, err)
	}
	if len(recorded.Documents) > maxPassages {
		return s, fmt.Errorf("konstruct: event %s names %d passages", event, len(recorded.Documents))
	}
	s.Options, s.Model = recorded.How, recorded.Model
	ids, documents := make([]uuid.UUID, len(recorded.Documents)), make([]uuid.UUID, len(recorded.Documents))
	for i, d := range recorded.Documents {
		ids[i], documents[i] = d.ChunkID, d.DocumentID
	}
	stored, err := kb.PassagesByID(ctx, g.t.k.door, g.t.id, ids)
	if err != nil {
		return s, err
	}
	versions, err := kb.CurrentVersions(ctx, g.t.k.door, g.t.id, documents)
	if err != nil {
		return s, err
	}
	hidden, err := kb.HiddenDocuments(ctx, g.t.k.door, g.t.id, documents)
	if err != nil {
		return s, err
	}
	for i, d := range recorded.Documents {
		p := RetrievedPassage{RetrievedPassage: d, Rank: i + 1, State: Deleted, CurrentVersion: versions[d.DocumentID]}
		if hidden[d.DocumentID] {
			p.State = Hidden
		}
		if now, there := stored[d.ChunkID]; there {
			if p.State, p.Filename = Changed, now.Filename; now.SHA256 == d.SHA256 {
				p.State, p.Content, p.Headings, p.Page = Unchanged, now.Content, now.Headings, now.Page
			}
		}
		s.Passages = append(s.Passages, p)
	}
	return s, nil
}

// ExplainSearch explains how a search is executed. It records no event and returns no hit. Without a grant of every
// label it omits the database's plan and row counts, because these count hidden passages.
func (a *Agent) ExplainSearch(ctx context.Context, q SearchRequest) (e search.Explanation, err error) {
	if err := a.completeRequest(&q); err != nil {
		return e, err
	}
	sees, err := a.searchLabels(ctx, &q)
	if err != nil {
		return e, err
	}
	trusted := a.t.k.door.Trusts(ctx) || sees.All()
	ctx = tenantdb.WithLabels(ctx, sees)
	model, err := a.t.k.searcher.Model(ctx, a.t.k.door, a.t.id)
	if err != nil {
		return e, err
	}
	vectors, _, err := a.t.k.embedQuestions(ctx, a.t.id, []SearchRequest{q}, model)
	if err != nil {
		return e, err
	}
	err = a.t.k.door.Tx(ctx, a.t.id, func(ctx context.Context, tx pgx.Tx) error {
		query := q.kbQuery(model, vectors[0])
		if query.Collections, err = a.findCollections(ctx, tx, &q); err == nil {
			e, err = a.t.k.searcher.Explain(ctx, tx, a.t.id, query)
		}
		return err
	})
	if !trusted { // the plan and the index's state count hidden passages
		e.Explain, e.TenantIndex, e.Estimated, e.Actual = nil, nil, 0, 0
	}
	return e, err
}

// tuneQueries is the largest number of recorded queries that TuneIndex runs.
const tuneQueries = 200

// TuneIndex finds the smallest hnsw.ef_search with which the tenant's own index, if it has one, finds 99.5 % of the
// nearest passages of the queries on the trail (less what is redacted there). Later searches use it.
func (t *Tenant) TuneIndex(ctx context.Context) (tuned search.Tuning, err error) {
	ctx = tenantdb.Trusted(ctx) // the index covers all labels; only statistics leave this function
	events, err := t.Events().List(ctx, Filter{Action: audit.ActionRetrieval, Limit: tuneQueries})
	if err != nil {
		return tuned, err
	}
	model, err := t.k.searcher.Model(ctx, t.k.door, t.id)
	if err != nil {
		return tuned, err
	}
	var questions []SearchRequest
	seen := map[string]bool{}
	for _, e := range events {
		if e.Input != nil && *e.Input != "" && len(*e.Input) <= MaxQuery && !seen[*e.Input] {
			seen[*e.Input] = true
			questions = append(questions, SearchRequest{Text: *e.Input, Mode: search.Semantic})
		}
	}
	var vectors [][]float32
	if len(questions) > 0 {
		if vectors, _, err = t.k.embedQuestions(ctx, t.id, questions, model); err != nil {
			return tuned, err
		}
	}
	tuned, err = search.TuneIndex(ctx, t.k.door, t.id, vectors)
	t.k.searcher.Forget(t.id)
	return tuned, err
}
