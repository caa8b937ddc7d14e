package search

import (
	"context"
	_ "embed"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
)

// Tier is how the passages nearest to a vector are found.
type Tier string

// The tiers.
const (
	// every passage of the tenant, or of the documents that meet the conditions, is compared: recall is 1 by
	// construction
	Exact   Tier = "exact"
	Indexed Tier = "hnsw" // by an HNSW index of this tenant's own
)

// exactBelow is how many passages are rather compared one by one, where conditions leave so many, than looked for in an
// index that knows no conditions.
const exactBelow = 5000

// Plan is how a search is done, and why.
type Plan struct {
	Mode   Mode   `json:"mode"`
	Tier   Tier   `json:"tier,omitempty"` // none by words
	Reason string `json:"why,omitempty"`
	Index  string `json:"index,omitempty"`
	// EfSearch is how many candidates the index keeps (hnsw.ef_search).
	EfSearch int `json:"ef_search,omitempty"`
	// Depth is how many candidates each list has; of vectors, where chunks have pieces, so many of these.
	Depth int    `json:"depth"`
	Model string `json:"model,omitempty"`
	// Chunks is how many passages the tenant was last seen to have, and Matching how many of them some conditions were
	// estimated to leave, where an index or comparing these was the choice; else -1.
	Chunks   int `json:"chunks"`
	Matching int `json:"matching"`
}

// tenantState is what is known of a tenant before a search.
type tenantState struct {
	id       uuid.UUID
	model    string // that serves
	index    string
	indexed  bool // the index is there and complete
	efSearch int
	chunks   int
	// pieces are those that chunks have beside their own vectors, of the model that serves, and most the most that one
	// chunk has.
	pieces, most int
	documents    int
	hidden       int      // documents, from the labels that it is seen by
	average      float64  // words in a passage
	languages    []string // that its words are read by
	// collections are the large ones that have indexes of their own, and how far these look.
	collections map[uuid.UUID]int
	read        time.Time
	counted     time.Time
}

// reads returns the languages that a question is read in: the documents', that of passages whose document names none,
// and English, whose stop words a question may have whatever the documents' language.
func (s *tenantState) reads() []string {
	all := slices.Clone(s.languages)
	for _, l := range []string{kb.AnyLanguage, kb.English} {
		if !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all
}

// decide plans a search: matching is how many passages its conditions leave, about, -1 where it has none or that
// decides nothing, and few how many are rather compared one by one.
func (s *tenantState) decide(q *Query, depth, matching, few int) Plan {
	p := Plan{Mode: q.Mode, Depth: depth, Model: s.model, Chunks: s.chunks, Matching: matching}
	switch {
	case q.Mode == Lexical:
		p.Reason = "by words alone"
	case !s.indexed:
		p.Tier, p.Reason = Exact, "the tenant has no index of its own"
	case matching >= 0 && matching <= few:
		what := "conditions leave some "
		if len(q.Collections) > 0 {
			what = "collections hold "
		}
		p.Tier, p.Reason = Exact, "the "+what+plural.Of(matching, "passage", "passages")
	case s.hidden > 0 && s.chunks <= few:
		p.Tier, p.Reason = Exact, "the labels leave "+plural.Of(s.chunks, "passage", "passages")
	case matching > few && len(q.Collections) == 1 && q.Model == "" && s.collections[q.Collections[0]] > 0:
		p.Tier, p.Index, p.Reason = Indexed, collectionIndex(s.id, q.Collections[0]),
			"the collection has an index of its own"
		p.EfSearch = max(collectionMargin*s.collections[q.Collections[0]], 2*defaultEf, depth)
		if q.conditional() || s.hidden*20 > s.documents {
			p.EfSearch, p.Depth = p.EfSearch*conditionalTier, max(depth, restrictedDepth)
		}
		p.EfSearch = min(p.EfSearch, maxEf)
	case matching >= 0 && matching < s.chunks/indexedShare:
		p.Tier, p.Reason = Exact, fmt.Sprintf("%d of %d passages are too few for the index of all", matching, s.chunks)
	default:
		p.Tier, p.Index, p.Reason = Indexed, s.index, "the tenant has an index of its own"
		switch p.EfSearch = max(s.efSearch, depth); {
		case matching >= 0: // candidates are lost to what restricts the search
			p.EfSearch *= conditionalTier
			p.Depth = max(depth, restrictedDepth)
		case s.hidden*20 > s.documents: // or to the labels
			p.EfSearch *= conditionalTier
		}
		p.EfSearch = min(p.EfSearch, maxEf)
	}
	if q.Mode == Hybrid && p.Tier == Exact {
		p.Depth = max(p.Depth, exactFusedDepth)
	}
	p.Depth = s.pointDepth(q.Mode, p.Depth)
	return p
}

// indexedShare is the part of a tenant's passages that is the least for which the tenant's index is used: of a quarter
// it found 0.99 of the nearest, of an eighth 0.9 and of a fortieth 0.7, however many candidates it kept.
const indexedShare = 4

// pointDepth is how many of the nearest vectors have depth chunks among them. By meaning it is enough whatever the
// chunks are; fused with words, where each page takes the same, for as many as a search returns, and for depth of those
// with as many pieces as is usual.
func (s *tenantState) pointDepth(m Mode, depth int) int {
	switch {
	case s.pieces == 0 || m == Lexical:
		return depth
	case m == Hybrid:
		return max(depth*(1+s.pieces/max(s.chunks, 1)), (MaxHits+1)*(1+s.most))
	}
	return depth * (1 + s.most)
}

// maxDepth is how many candidates a search looks at at most.
func (s *tenantState) maxDepth() int { return maxDepth * (1 + s.most) }

// collectionMargin is how many times as many candidates a collection's index keeps as were enough for points between
// two of its passages: these are found more easily than questions about what many of its passages say.
const collectionMargin = 4

// conditionalTier is how many times as many candidates an index keeps where conditions take some: with 400,000
// passages, half of which met one, recall was 0.95 with twice as many, 0.98 with four times and 0.99 with eight.
const conditionalTier = 8

// restrictedDepth is how many candidates there are at least where something restricts a search: the index goes on until
// it has yielded so many that meet it, and by then has seen the nearest.
const restrictedDepth = 64

// maxEf is the most that pgvector takes.
const maxEf = 1000

// How long what is known of a tenant is taken to hold: which model serves and whether there is an index, and how many
// passages there are. A search by what holds no more is right all the same, or says so: see Search.
const (
	stateTTL   = 5 * time.Second
	countTTL   = time.Minute
	countEvery = 1000   // where there are fewer passages they are counted whenever the tenant is looked at
	maxStates  = 10_000 // tenants, as seen by some labels
)

// Searcher searches, and remembers for a moment what it knows of each tenant. It is safe for concurrent use.
type Searcher struct {
	counts int // exactBelow
	mu     sync.Mutex
	states map[countKey]*tenantState
	large  map[sizeKey]collectionSize // of collections with more passages than are compared one by one
}

// countKey is a tenant as seen with some labels: its counts reveal nothing of documents that the labels hide.
type countKey struct {
	tenant uuid.UUID
	labels tenantdb.Labels
}

// NewSearcher returns one that knows nothing yet.
func NewSearcher() *Searcher {
	return &Searcher{counts: exactBelow, states: map[countKey]*tenantState{},
		large: map[sizeKey]collectionSize{}}
}

// Model returns the model that serves a tenant's searches, cached for a moment; empty for the first.
func (s *Searcher) Model(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID) (model string, err error) {
	if st := s.cachedState(countKey{tenant, door.CanSee(ctx)}); st != nil {
		return st.model, nil
	}
	return kb.ServingModel(ctx, door, tenant)
}

func (s *Searcher) cachedState(of countKey) *tenantState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.states[of]; st != nil && time.Since(st.read) < stateTTL {
		return st
	}
	return nil
}

// Forget has a tenant looked at anew.
func (s *Searcher) Forget(tenant uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.states, func(of countKey, _ *tenantState) bool { return of.tenant == tenant })
	maps.DeleteFunc(s.large, func(of sizeKey, _ collectionSize) bool { return of.tenant == tenant })
}

// indexName is the name of a tenant's own index of a model's vectors.
func indexName(tenant uuid.UUID, model string) string {
	if model == "" {
		return "ix_kb_points_" + hex.EncodeToString(tenant[:])
	}
	h := fnv.New32a()
	h.Write([]byte(model))
	return fmt.Sprintf("ix_kb_vectors_%s_%08x", hex.EncodeToString(tenant[:]), h.Sum32())
}

//go:embed sql/tenant_state.sql
var stateSQL string

//go:embed sql/tenant_tier.sql
var tierSQL string

//go:embed sql/tenant_pieces.sql
var piecesSQL string

// countSQL counts a tenant's passages, and takes the average of their lengths; of one that is much longer than others,
// which another client may have stored, as much as is usual.
const countSQL = `WITH lengths AS MATERIALIZED (
	  SELECT t.length FROM kb_terms t WHERE t.tenant_id = $1 AND t.term = '')
	SELECT count(*), coalesce(avg(least(l.length, 8 * m.length)), 0)::float8
	  FROM lengths l, (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY l.length) AS length FROM lengths l) m`

// readState returns what is known of a tenant, or finds it out within the transaction.
func (s *Searcher) readState(ctx context.Context, tx pgx.Tx, tenant uuid.UUID,
	within time.Duration) (*tenantState, error) {
	labels, _ := tenantdb.Granted(ctx)
	of := countKey{tenant, labels}
	if st := s.cachedState(of); st != nil {
		return st, nil
	}
	s.mu.Lock()
	st := tenantState{id: tenant}
	if old := s.states[of]; old != nil {
		st = *old
	}
	s.mu.Unlock()
	var large []uuid.UUID
	var far []int
	if err := tx.QueryRow(ctx, stateSQL, tenant).Scan(&st.model, &st.languages, &large, &far); err != nil {
		return nil, fmt.Errorf("look at the tenant: %w", err)
	}
	st.index, st.collections = indexName(tenant, st.model), map[uuid.UUID]int{}
	for i, id := range large {
		st.collections[id] = far[i]
	}
	count := st.chunks < countEvery || time.Since(st.counted) > countTTL
	var documents, hidden int
	if err := tx.QueryRow(ctx, tierSQL, tenant, st.model, st.index, count, !labels.All()).
		Scan(&st.indexed, &st.efSearch, &documents, &hidden); err != nil {
		return nil, fmt.Errorf("look at the tenant's index: %w", err)
	}
	if err := st.readPieces(ctx, tx, tenant, count, within); err != nil {
		return nil, fmt.Errorf("count the pieces of the tenant's passages: %w", err)
	}
	if st.read = time.Now(); count {
		st.documents, st.hidden, st.counted = documents, hidden, st.read
		if err := tx.QueryRow(ctx, countSQL, tenant).Scan(&st.chunks, &st.average); err != nil {
			return nil, fmt.Errorf("count the tenant's passages: %w", err)
		}
	}
	st.average = max(st.average, 1)
	if st.efSearch == 0 {
		st.efSearch = defaultEf
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.states) >= maxStates {
		clear(s.states)
	}
	s.states[of] = &st
	return &st, nil
}

// piecedSQL asks whether some passages of a tenant have pieces.
const piecedSQL = `SELECT EXISTS (SELECT FROM kb_points p WHERE p.tenant_id = $1 AND p.piece_of IS NOT NULL)`

// readPieces finds out whether some passages have pieces, which are the first model's, and counts them where it is time
// to, or where there was none.
func (s *tenantState) readPieces(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, count bool,
	within time.Duration) error {
	ask := func(sql string, to ...any) error {
		return tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: sql, Args: []any{tenant}, Within: within},
			func(rows pgx.Rows) error {
				_, err := pgx.ForEachRow(rows, to, func() error { return nil })
				return err
			})
	}
	pieced := false
	if s.model == "" {
		if err := ask(piecedSQL, &pieced); err != nil {
			return err
		}
	}
	switch {
	case !pieced:
		s.pieces, s.most = 0, 0
	case count || s.pieces == 0:
		return ask(piecesSQL, &s.pieces, &s.most)
	}
	return nil
}

// defaultEf is used until a tenant's was tuned.
const defaultEf = 100

// dimensionsOf is how long the vectors of a model are that the query has one of.
func dimensionsOf(q *Query) int {
	if q.Model == "" {
		return embed.Dimensions
	}
	return len(q.Vector)
}
