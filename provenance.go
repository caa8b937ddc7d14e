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

// RetrievalCheck is what a retrieval showed, verified against what is stored now.
type RetrievalCheck struct {
	Event StoredEvent `json:"event"`
	// Options it was searched, and by which model.
	Options audit.SearchOptions `json:"how"`
	Model   string              `json:"model,omitempty"`
	// Passages are those that were shown, best first, each with those shown around it.
	Passages []RetrievedPassage `json:"passages"`
}

// PassageState is what has become of a passage since it was shown.
type PassageState string

// The states. A passage that says something else has another id, unless another client wrote over it.
const (
	Unchanged PassageState = "unchanged" // it is stored as it was shown: its hash is the event's
	Changed   PassageState = "changed"   // something else is stored under its id
	Deleted   PassageState = "deleted"   // nothing is stored under its id any more
	// its document has labels of which the context was granted none; what has become of it is not said
	Hidden PassageState = "hidden"
)

// RetrievedPassage is one passage that was shown.
type RetrievedPassage struct {
	audit.RetrievedPassage
	Rank  int          `json:"rank"`
	State PassageState `json:"state"`
	// CurrentVersion is at which version its document stands; 0 where that is gone.
	CurrentVersion int `json:"document_version_now"`
	// Content is the very text that was shown, as long as it is stored, and Headings and Page are where it stands.
	Content  string   `json:"content,omitempty"`
	Headings []string `json:"headings,omitempty"`
	Page     int      `json:"page,omitempty"`
}

// ErrNoRetrieval says that an event is none of a search.
var ErrNoRetrieval = errors.New("the event is no retrieval: it says nothing of passages that were shown")

// maxPassages is how many passages one event names at most: hits and those around them.
const maxPassages = search.MaxHits * (1 + 2*search.MaxNeighbours)

// CheckRetrieval returns what a retrieval showed, and what has become of it since.
func (g Events) CheckRetrieval(ctx context.Context, event uuid.UUID) (s RetrievalCheck, err error) {
	if s.Event, err = g.t.Events().Get(ctx, event); err != nil {
		return s, err
	}
	var said struct {
		Documents []audit.RetrievedPassage `json:"gen_ai.retrieval.documents"`
		How       audit.SearchOptions      `json:"konstruct.retrieval"`
		Model     string                   `json:"gen_ai.request.model"`
	}
	if s.Event.Action != audit.ActionRetrieval {
		return s, ErrNoRetrieval
	}
	if err := json.Unmarshal(s.Event.Metadata, &said); err != nil {
		return s, fmt.Errorf("konstruct: event %s: its metadata is not what a search writes: %w", event, err)
	}
	if len(said.Documents) > maxPassages {
		return s, fmt.Errorf("konstruct: event %s names %d passages", event, len(said.Documents))
	}
	s.Options, s.Model = said.How, said.Model
	ids, documents := make([]uuid.UUID, len(said.Documents)), make([]uuid.UUID, len(said.Documents))
	for i, d := range said.Documents {
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
	for i, d := range said.Documents {
		p := RetrievedPassage{RetrievedPassage: d, Rank: i + 1, State: Deleted, CurrentVersion: versions[d.DocumentID]}
		if hidden[d.DocumentID] {
			p.State = Hidden
		}
		if now, there := stored[d.ChunkID]; there {
			if p.State = Changed; now.SHA256 == d.SHA256 {
				p.State, p.Content, p.Headings, p.Page = Unchanged, now.Content, now.Headings, now.Page
			}
		}
		s.Passages = append(s.Passages, p)
	}
	return s, nil
}

// ExplainSearch does a search that is not recorded, and says how it is done. Nothing of what it finds is returned. To
// whoever was not granted every label what the database says is not: it counts what was hidden.
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
		e, err = a.t.k.searcher.Explain(ctx, tx, a.t.id, q.kbQuery(model, vectors[0]))
		return err
	})
	if !trusted { // the database's account counts what was hidden, and so does the index
		e.Explain, e.TenantIndex, e.Estimated, e.Actual = nil, nil, 0, 0
	}
	return e, err
}

// tuneQueries is how many of the tenant's own questions are asked at most.
const tuneQueries = 200

// TuneIndex finds the least hnsw.ef_search with which the tenant's own index, where it has one, finds what there is, by
// questions that were asked of it and are on the trail (what was redacted of them is missing), and has its searches use
// it.
func (t *Tenant) TuneIndex(ctx context.Context) (tuned search.Tuning, err error) {
	ctx = tenantdb.Trusted(ctx) // the index is everybody's; what is told of it is figures
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
