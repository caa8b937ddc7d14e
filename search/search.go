// Package search finds the chunks of a tenant's knowledge base that answer a query: semantic, lexical (BM25) or hybrid
// search, in tiers by the tenant's size, with conditions, spelling, tuning and explanations. It knows the tables that
// kb writes, and runs in the caller's transaction; it must not know events, principals or HTTP, and stores nothing but
// a tenant's index.
package search

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// ModelChangedError says that a tenant's searches are by another model.
type ModelChangedError struct{ Model string }

func (e *ModelChangedError) Error() string {
	return "search: search: the model that serves is " + e.Model
}

// Candidates: the nearest, where scores are fused, by an index or by comparing all; a few more than are wanted by
// meaning, where half the precision chooses and the whole decides. How many are fused does not depend on how many are
// wanted, so that one order is that of every page.
const (
	fusedDepth       = 100
	exactFusedDepth  = 500
	moreDepth        = 5
	perDocumentDepth = 5    // candidates for each document, where one passage of each is wanted
	maxDepth         = 2000 // and so how far one may read on
)

// SearchInTx returns the tenant's passages that match the query, best first, within the caller's transaction, whose
// tenant must be set to tenant already. ctx, which Door.Tx gave, has the labels. It returns K passages wherever there
// are so many: where an index finds too few, the passages are compared one by one.
func (s *Searcher) SearchInTx(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q Query) (f Result, err error) {
	st, after, err := s.begin(ctx, tx, tenant, &q)
	if err != nil {
		return f, err
	}
	depth := s.depth(&q, after)
	passages, documents, err := s.matching(ctx, tx, tenant, st, &q)
	if err != nil {
		return f, queryError(err)
	}
	if err := s.lookUpWords(ctx, tx, tenant, st, &q, &f); err != nil {
		return f, queryError(err)
	}
	twins := 0
	for f.Plan = st.decide(&q, depth, passages, s.few(st)); ; {
		run := &statement{tenant: tenant, q: &q, plan: f.Plan, st: st, cursor: after, documents: documents,
			words: f.Words, twins: twins, few: s.counts}
		if f.Hits, err = run.run(withinSource(ctx, tx)); err != nil {
			return f, queryError(err)
		}
		if more := run.missing(f.Hits); more > 0 && twins < maxDepth {
			if twins += more; q.Mode != Hybrid {
				f.Plan.Depth = min(st.maxDepth(), f.Plan.Depth+st.pointDepth(q.Mode, more))
			}
			continue
		}
		there := st.chunks
		if after != nil {
			there -= after.seen
		}
		if q.PerDocument {
			there = min(there, st.documents)
		}
		short := len(f.Hits) < min(run.wanted(), there)
		switch {
		case q.Mode == Hybrid && after != nil: // its order is that of its first page's candidates
			return s.finish(ctx, tx, tenant, &q, f, run, after)
		case short && q.PerDocument && f.Plan.Depth < min(st.maxDepth(), st.chunks+st.pieces):
			f.Plan.Depth = min(st.maxDepth(), f.Plan.Depth*4)
		case short && f.Plan.Tier == Indexed && (q.Mode == Semantic || !required(&q)):
			f.Plan.Tier, f.Plan.Index, f.Plan.EfSearch, f.Plan.Reason = Exact, "", 0, "the index found too few"
		default:
			return s.finish(ctx, tx, tenant, &q, f, run, after)
		}
	}
}

// few is how many passages are rather compared one by one: fewer where they have pieces, each of which is compared.
func (s *Searcher) few(st *tenantState) int {
	return s.counts * max(st.chunks, 1) / max(st.chunks+st.pieces, 1)
}

// required reports whether passages must meet more than their score.
func required(q *Query) bool {
	text := q.read()
	return text.required()
}

// lookUpWords reads the query's words: which count, with what weight, and what they were corrected to.
func (s *Searcher) lookUpWords(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState, q *Query,
	f *Result) (err error) {
	if f.Words, err = analyze(ctx, tx, tenant, st, q); err != nil {
		return err
	}
	if f.Words, err = findCompounds(ctx, tx, tenant, st, q, f.Words); err != nil {
		return err
	}
	if f.Corrections, err = correctSpelling(ctx, tx, tenant, q, f.Words); err != nil {
		return err
	}
	finishWords(f.Words)
	return nil
}

// Search is Search in a transaction of its own: one round trip where it is by meaning and the tenant was looked at a
// moment ago.
func (s *Searcher) Search(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, q Query) (f Result, err error) {
	if st := s.cachedState(countKey{tenant, door.CanSee(ctx)}); st != nil && q.Mode == Semantic && !q.restricted() &&
		q.Neighbours == 0 && st.model == q.Model {
		after, err := q.cursor()
		if err == nil {
			err = q.check()
		}
		if err != nil {
			return f, err
		}
		run := &statement{tenant: tenant, q: &q, plan: st.decide(&q, s.depth(&q, after), -1, s.few(st)), st: st,
			cursor: after}
		f.Plan = run.plan
		if f.Hits, err = run.run(func(s tenantdb.Statement, read func(pgx.Rows) error) error {
			return door.Once(ctx, tenant, s, read)
		}); err != nil {
			return f, queryError(err)
		}
		if len(f.Hits) > 0 && len(f.Hits) >= min(run.wanted(), st.chunks) && !run.haveTwins() {
			return s.finish(ctx, nil, tenant, &q, f, run, after)
		}
	}
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		f, err = s.SearchInTx(ctx, tx, tenant, q)
		return err
	})
	return f, err
}

// begin checks the query and looks at the tenant.
func (s *Searcher) begin(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query) (*tenantState, *cursor, error) {
	if err := q.check(); err != nil {
		return nil, nil, err
	}
	after, err := q.cursor()
	if err != nil {
		return nil, nil, err
	}
	st, err := s.readState(ctx, tx, tenant, q.Within)
	if err != nil {
		return nil, nil, fmt.Errorf("search: search: %w", err)
	}
	if q.Mode != Lexical && st.model != q.Model {
		return nil, nil, &ModelChangedError{st.model}
	}
	return st, after, nil
}

// depth is how many candidates each list is to have.
func (s *Searcher) depth(q *Query, after *cursor) int {
	n := q.K + 1
	if after != nil {
		n += after.seen
	}
	if q.PerDocument {
		n *= perDocumentDepth
	}
	if q.Diversity > 0 {
		n = max(n, q.K*diversityWeight+1)
	}
	if q.Mode == Hybrid {
		if q.PerDocument {
			return 4 * fusedDepth
		}
		return fusedDepth
	}
	return min(n+moreDepth, maxDepth)
}

// matching finds the documents that meet the conditions, where it makes a difference how many they are: all of them,
// where their passages are about as few as are compared one by one, and else nil. It returns how many passages they
// have, about; -1 where that decides nothing.
func (s *Searcher) matching(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState,
	q *Query) (passages int, documents []uuid.UUID, err error) {
	if !q.restricted() || !st.indexed || q.Mode == Lexical && len(q.Collections) == 0 {
		return -1, nil, nil
	}
	if st.documents == 0 {
		return st.chunks, nil, nil
	}
	if len(q.Collections) > 0 {
		return s.collected(ctx, tx, tenant, st, q)
	}
	run := &statement{tenant: tenant, q: q, args: []any{tenant}}
	met, err := q.conditions(run.arg)
	if err != nil {
		return 0, nil, err
	}
	each := max(1, st.chunks/st.documents)
	most := max(s.few(st)/each, st.documents/indexedShare) + 1
	sql := fmt.Sprintf(`SELECT d.id FROM kb_documents d
		LEFT JOIN kb_sources s ON s.tenant_id = $1::uuid AND s.document_id = d.id
		WHERE d.tenant_id = $1::uuid AND %s LIMIT %d`, strings.Join(met, " AND "), most)
	err = tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: sql, Args: run.args, Within: q.Within},
		func(rows pgx.Rows) (err error) {
			documents, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			return err
		})
	passages = len(documents) * each
	if len(documents) == most {
		passages, documents = max(passages, s.few(st)+1), nil
	}
	return passages, documents, err
}

// searchSettings are those of one statement of a search.
func searchSettings(p *Plan) (all [][2]string) {
	if p.Tier == Indexed {
		all = append(all, [2]string{"hnsw.ef_search", strconv.Itoa(p.EfSearch)},
			[2]string{"hnsw.iterative_scan", "relaxed_order"},
			// the planner, which thinks comparing a few thousand is as cheap, is to take the index's order
			[2]string{"enable_sort", "off"})
	}
	if p.Mode != Semantic || p.Chunks >= exactBelow { // what it compiles costs more than it saves
		all = append(all, [2]string{"jit", "off"})
	}
	return all
}

// queryer runs a statement.
type queryer func(s tenantdb.Statement, read func(pgx.Rows) error) error

// withinSource sends in an open transaction.
func withinSource(ctx context.Context, tx pgx.Tx) queryer {
	return func(s tenantdb.Statement, read func(pgx.Rows) error) error { return tenantdb.Send(ctx, tx, s, read) }
}

// run returns the hits, and keeps their details.
func (s *statement) run(send queryer) (hits []Hit, err error) {
	sql, err := s.build()
	if err != nil {
		return nil, err
	}
	err = send(tenantdb.Statement{Settings: searchSettings(&s.plan), SQL: sql, Args: s.args, Within: s.q.Within,
		KeepSnapshot: s.kept()}, func(rows pgx.Rows) error {
		hits, s.details = nil, nil
		var h Hit
		var d hitDetail
		_, err := pgx.ForEachRow(rows,
			[]any{&h.ChunkID, &h.Index, &h.Headings, &h.Page, &h.Start, &h.End, &h.Content, &h.Score, &h.Similarity,
				&h.LexicalScore, &h.DocumentID, &h.Version, &h.Filename, &h.Title, &h.Source, &h.Recipe, &d.half,
				&d.twins, &d.repeated},
			func() error {
				sum := sha256.Sum256([]byte(h.Content))
				h.SHA256 = hex.EncodeToString(sum[:])
				hits, s.details = append(hits, h), append(s.details, d)
				h, d = Hit{}, hitDetail{}
				return nil
			})
		return err
	})
	return hits, err
}

// finish selects the hits and adds neighbours and the cursor.
func (s *Searcher) finish(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query, f Result, run *statement,
	after *cursor) (Result, error) {
	if len(f.Hits) == 0 && q.Mode != Lexical { // is there nothing, or does another model serve?
		var serving string
		if err := tx.QueryRow(ctx, kb.ServingSQL, tenant).Scan(&serving); err != nil {
			return f, queryError(err)
		}
		if serving != q.Model {
			s.Forget(tenant)
			return f, &ModelChangedError{serving}
		}
	}
	rows := f.Hits
	hits, details, taken, more := mergeTwins(rows, run.details, run.wanted(), q.Duplicates)
	if f.Hits = hits; q.Diversity > 0 {
		f.Hits = diversify(f.Hits, details, q.K, q.Diversity)
	} else if more {
		last := rows[taken-1]
		seen := taken
		if after != nil {
			seen += after.seen
		}
		if f.Next = (&cursor{last.Score, last.ChunkID, seen, q.fingerprint()}).String(); seen+q.K > maxDepth {
			f.Next = ""
		}
	}
	if q.MinScore != nil {
		if enough := slices.IndexFunc(f.Hits, func(h Hit) bool { return h.Score < *q.MinScore }); enough >= 0 {
			f.Hits, f.Next = f.Hits[:enough], ""
		}
	}
	if err := run.nameTwins(ctx, tx, rows, f.Hits); err != nil {
		return f, queryError(err)
	}
	if q.Neighbours > 0 {
		if err := neighbours(ctx, tx, tenant, f.Hits, q.Neighbours); err != nil {
			return f, queryError(err)
		}
	}
	return f, nil
}

// queryError says that it was a search that failed, unless the query says so itself.
func queryError(err error) error {
	var query *QueryError
	if errors.As(err, &query) {
		return err
	}
	return fmt.Errorf("search: search: %w", err)
}
