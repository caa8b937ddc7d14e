package search

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Explanation is the plan of a tenant's search, and what the database reports of it.
type Explanation struct {
	Plan
	// Estimated and Real are how many passages PostgreSQL thought it would compare, and did; by an index, how many it
	// yields; by words, how many postings.
	Estimated int64 `json:"estimated_rows"`
	Actual    int64 `json:"real_rows"`
	Hits      int   `json:"hits"`
	// Words are the query's, as lexical search counts them, and Ranking why each hit ranks where it does.
	Words   []*Word        `json:"words,omitempty"`
	Ranking []ExplainedHit `json:"ranking"`
	// TenantIndex is the tenant's own index, where it has or had one.
	TenantIndex *TenantIndex `json:"own_index,omitempty"`
	Explain     []string     `json:"explain"` // EXPLAIN (ANALYZE, BUFFERS)
}

// ExplainedHit is a hit with the parts of its score.
type ExplainedHit struct {
	ChunkID      uuid.UUID      `json:"chunk_id"`
	Filename     string         `json:"filename"`
	Score        float64        `json:"score"` // what hits are ordered by
	Similarity   *float64       `json:"similarity,omitempty"`
	LexicalScore *float64       `json:"words_score,omitempty"` // the sum of its words' scores
	Words        []Contribution `json:"words,omitempty"`       // what counts most first
}

// Contribution is what a word of the query adds to a passage's lexical score.
type Contribution struct {
	Word     string  `json:"word"`
	Times    int     `json:"times"`    // that the passage has it
	Passages int     `json:"passages"` // of the tenant that have it
	Weight   float64 `json:"weight"`   // the most it can add: rare words weigh more
	Score    float64 `json:"score"`
}

// TenantIndex is what was decided and measured of a tenant's own index.
type TenantIndex struct {
	Chunks   int        `json:"chunks"` // when it was made
	BuiltAt  *time.Time `json:"built_at"`
	Complete bool       `json:"complete"` // searches use it
	Bytes    int64      `json:"bytes"`
	EfSearch int        `json:"ef_search"`
	Recall   *float64   `json:"recall"`
	Queries  *int       `json:"queries"`
	TunedAt  *time.Time `json:"tuned_at"`
	Problem  string     `json:"trouble,omitempty"` // why it could not be made
}

// compareLimit finds in a plan the line that reads passages' vectors, or by words their postings, with the rows
// expected and met.
var compareLimit = regexp.MustCompile(`Scan .*(kb_points|kb_vectors|kb_terms)[^(]*\(cost=\S+ rows=(\d+) [^)]*\)(?: ` +
	`\(actual time=\S+ rows=([\d.]+) loops=(\d+)\))?`)

// Explain does a search and says how, within the caller's transaction, whose tenant must be set to tenant already.
func (s *Searcher) Explain(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q Query) (e Explanation, err error) {
	s.Forget(tenant)
	f, err := s.SearchInTx(ctx, tx, tenant, q)
	if err != nil {
		return e, err
	}
	e.Plan, e.Hits = f.Plan, len(f.Hits)
	st, after, err := s.begin(ctx, tx, tenant, &q)
	if err != nil {
		return e, err
	}
	e.Words = f.Words
	run := &statement{tenant: tenant, q: &q, plan: f.Plan, st: st, cursor: after, words: f.Words, few: s.counts}
	sql, err := run.build()
	if err != nil {
		return e, err
	}
	if err := tenantdb.Send(ctx, tx,
		tenantdb.Statement{Settings: searchSettings(&f.Plan), Within: q.Within,
			SQL: "EXPLAIN (ANALYZE, BUFFERS) " + sql, Args: run.args}, func(rows pgx.Rows) error {
			e.Explain, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		}); err != nil {
		return e, queryError(err)
	}
	if err := run.explainRanking(ctx, tx, f.Hits, &e); err != nil {
		return e, queryError(err)
	}
	for _, line := range e.Explain {
		m := compareLimit.FindStringSubmatch(line)
		if m == nil || (m[1] == "kb_terms") != (q.Mode == Lexical) {
			continue
		}
		e.Estimated, _ = strconv.ParseInt(m[2], 10, 64)
		each, _ := strconv.ParseFloat(m[3], 64)
		loops, _ := strconv.ParseFloat(m[4], 64)
		e.Actual = int64(each * loops)
		break
	}
	rows, err := tx.Query(ctx,
		`SELECT t.chunks, t.built_at, coalesce(i.indisvalid AND i.indisready, false),
		        coalesce(pg_relation_size(i.indexrelid), 0), t.ef_search, t.recall::float8, t.queries, t.tuned_at,
		        t.trouble
		   FROM kb_tiers t LEFT JOIN pg_index i ON i.indexrelid = to_regclass('public.' || $3::text)
		  WHERE t.tenant_id = $1 AND t.model = $2`, tenant, st.model, st.index)
	if err != nil {
		return e, fmt.Errorf("search: explain: %w", err)
	}
	own, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[TenantIndex])
	if err != nil {
		return e, fmt.Errorf("search: explain: %w", err)
	}
	if len(own) > 0 {
		e.TenantIndex = own[0]
	}
	return e, nil
}

// explainRanking adds the parts of each hit's score.
func (s *statement) explainRanking(ctx context.Context, tx pgx.Tx, hits []Hit, e *Explanation) error {
	s.hits, e.Ranking = nil, []ExplainedHit{}
	places := map[uuid.UUID]int{}
	for i, h := range hits {
		places[h.ChunkID] = i
		s.hits = append(s.hits, h.ChunkID)
		e.Ranking = append(e.Ranking, ExplainedHit{ChunkID: h.ChunkID, Filename: h.Filename, Score: h.Score,
			Similarity: h.Similarity, LexicalScore: h.LexicalScore})
	}
	if s.q.Mode == Semantic || len(hits) == 0 {
		return nil
	}
	sql, err := s.execute("contributions")
	if err != nil {
		return err
	}
	counted := s.countedWords()
	return tenantdb.Send(ctx, tx, tenantdb.Statement{Settings: searchSettings(&s.plan), SQL: sql, Args: s.args,
		Within: s.q.Within}, func(rows pgx.Rows) error {
		var id uuid.UUID
		var word int
		var c Contribution
		_, err := pgx.ForEachRow(rows, []any{&id, &word, &c.Times, &c.Weight, &c.Passages, &c.Score}, func() error {
			c.Word = counted[word-1].Word
			h := &e.Ranking[places[id]]
			h.Words = append(h.Words, c)
			return nil
		})
		return err
	})
}
