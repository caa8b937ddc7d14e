package search

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Tuning is what was measured of a tenant's own index.
type Tuning struct {
	Model    string `json:"model,omitempty"` // empty for the first
	Indexed  bool   `json:"indexed"`         // there is an index; without one nothing is to be tuned
	EfSearch int    `json:"ef_search"`       // as it is from now on
	// Recall is how many of the ten nearest the index finds with it, at the mean over Queries questions; nil where
	// nothing was measured.
	Recall  *float64     `json:"recall"`
	Queries int          `json:"queries"`
	Steps   []TuningStep `json:"steps"` // what was tried
}

// TuningStep is one value tried.
type TuningStep struct {
	EfSearch int           `json:"ef_search"`
	Recall   float64       `json:"recall"`
	Median   time.Duration `json:"median_ns"` // of a search in the database
}

const (
	targetRecall = 0.995
	tuneTop      = 10 // recall is of so many
	tuneQueries  = 40
)

// ErrUntunable says that nothing can be measured of a tenant's index.
var ErrUntunable = errors.New("the tenant's own index has nothing to be measured by: no passage could be found")

// TuneIndex finds the least hnsw.ef_search that finds 995 of 1,000 of the nearest passages, and has the tenant's
// searches use it. It asks the questions whose vectors are given, and where these are few makes some up from the
// tenant's own passages.
func TuneIndex(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	questions [][]float32) (t Tuning, err error) {
	s := NewSearcher()
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		st, err := s.readState(ctx, tx, tenant, 0)
		if err != nil {
			return err
		}
		t = Tuning{Model: st.model, Indexed: st.indexed, EfSearch: st.efSearch}
		if !st.indexed {
			return nil
		}
		if len(questions) < tuneQueries {
			made, err := sampleQueries(ctx, tx, tenant, st.model, tuneQueries-len(questions))
			if err != nil {
				return err
			}
			questions = append(questions, made...)
		}
		return t.measure(ctx, tx, tenant, st, questions)
	})
	if err == nil && t.Indexed {
		err = door.Query(ctx, tenant,
			`INSERT INTO kb_tiers (tenant_id, model, chunks, ef_search, recall, queries, tuned_at)
			VALUES ($1, $2, 0, $3, $4, $5, now())
			ON CONFLICT (tenant_id, model) DO UPDATE SET ef_search = EXCLUDED.ef_search, recall = EXCLUDED.recall,
			queries = EXCLUDED.queries, tuned_at = now()`,
			[]any{tenant, t.Model, t.EfSearch, t.Recall, t.Queries}, nil)
	}
	if err != nil {
		return t, fmt.Errorf("search: tune: %w", err)
	}
	return t, nil
}

// measure finds the least hnsw.ef_search for an index: the tenant's own, or that of the one collection that is given.
func (t *Tuning) measure(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState, questions [][]float32,
	collection ...uuid.UUID) error {
	index := ""
	if len(collection) > 0 {
		index = collectionIndex(tenant, collection[0])
	}
	ask := func(v []float32, p Plan) (map[uuid.UUID]bool, time.Duration, error) {
		start := time.Now()
		p.Mode, p.Depth, p.Index = Semantic, st.pointDepth(Semantic, tuneTop+moreDepth), index
		hits, err := (&statement{tenant: tenant, q: &Query{Mode: Semantic, Vector: v, Model: st.model, K: tuneTop,
			Collections: collection}, plan: p, st: st}).run(withinSource(ctx, tx))
		ids := map[uuid.UUID]bool{}
		for i := range hits[:min(tuneTop, len(hits))] {
			ids[hits[i].ChunkID] = true
		}
		return ids, time.Since(start), err
	}
	want := make([]map[uuid.UUID]bool, len(questions))
	total := 0
	for i, v := range questions {
		var err error
		if want[i], _, err = ask(v, Plan{Tier: Exact}); err != nil {
			return err
		}
		total += len(want[i])
	}
	if total == 0 {
		return ErrUntunable
	}
	t.Queries = len(questions)
	for _, ef := range []int{40, 60, 80, 120, 160, 240, 320, 480, 640, maxEf} {
		found, times := 0, make([]time.Duration, len(questions))
		for i, v := range questions {
			got, took, err := ask(v, Plan{Tier: Indexed, EfSearch: ef})
			if err != nil {
				return err
			}
			times[i] = took
			for id := range got {
				if want[i][id] {
					found++
				}
			}
		}
		recall := float64(found) / float64(total)
		t.EfSearch, t.Recall = ef, &recall
		t.Steps = append(t.Steps, TuningStep{ef, recall, median(times)})
		if recall >= targetRecall {
			break
		}
	}
	return nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// tuneCollection finds the least hnsw.ef_search for a collection's own index, and has searches use it.
func tuneCollection(ctx context.Context, door *tenantdb.Door, tenant, collection uuid.UUID) error {
	var t Tuning
	err := door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		st, err := NewSearcher().readState(ctx, tx, tenant, 0)
		if err != nil {
			return err
		}
		st.model = "" // the index is of the first model's vectors
		questions, err := between(ctx, tx, `SELECT half::real[] FROM kb_collection_points
			WHERE tenant_id = $1 AND collection_id = $4 ORDER BY hashtextextended(chunk_id::text, $2::bigint) LIMIT $3`,
			tenant, rand.Int64(), 2*tuneQueries, collection)
		if err != nil {
			return err
		}
		if err = t.measure(ctx, tx, tenant, st, questions, collection); errors.Is(err, ErrUntunable) {
			return nil // its passages went while it was made
		}
		if err == nil {
			_, err = tx.Exec(ctx, `UPDATE kb_collections SET ef_search = $3 WHERE tenant_id = $1 AND id = $2`, tenant,
				collection, t.EfSearch)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("search: tune a collection's index: %w", err)
	}
	return nil
}

// sampleQueries draws passages and returns points between two of them each, nearer to the one: a passage itself would
// be found too easily.
func sampleQueries(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, model string,
	n int) (made [][]float32, err error) {
	sql := `SELECT p.half::real[]
		FROM kb_points p
		JOIN (SELECT chunk_id, document_id FROM kb_points WHERE tenant_id = $1 AND half IS NOT NULL
		       ORDER BY hashtextextended(chunk_id::text, $2::bigint) LIMIT $3) s
		ON p.tenant_id = $1 AND p.document_id = s.document_id AND p.chunk_id = s.chunk_id`
	args := []any{tenant, rand.Int64(), 2 * n}
	if model != "" {
		sql = `SELECT embedding::real[] FROM kb_vectors WHERE tenant_id = $1 AND model = $4
			ORDER BY hashtextextended(chunk_id::text, $2::bigint) LIMIT $3`
		args = append(args, model)
	}
	return between(ctx, tx, sql, args...)
}

// between returns points between two of the drawn vectors each.
func between(ctx context.Context, tx pgx.Tx, sql string, args ...any) (made [][]float32, err error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	drawn, err := pgx.CollectRows(rows, pgx.RowTo[[]float32])
	for i := 0; i+1 < len(drawn); i += 2 {
		v := make([]float32, len(drawn[i]))
		for j := range v {
			v[j] = 0.7*drawn[i][j] + 0.3*drawn[i+1][j]
		}
		made = append(made, v)
	}
	return made, err
}
