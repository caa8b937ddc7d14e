package search

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// restricted reports whether not all of the tenant's documents are searched.
func (q *Query) restricted() bool { return len(q.Collections) > 0 || len(q.Where) > 0 }

// conditional reports whether documents must meet conditions.
func (q *Query) conditional() bool { return len(q.Where) > 0 || q.Attributes != nil }

// collected is matching for a search that names collections. Unlike conditions, these are asked again and again: of one
// with more passages than are compared one by one, what it holds is remembered for a while. How many passages few
// documents have is counted, since a collection may well be of the longest.
func (s *Searcher) collected(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState,
	q *Query) (passages int, documents []uuid.UUID, err error) {
	labels, _ := tenantdb.Granted(ctx)
	of := sizeKey{countKey{tenant, labels}, strings.Join(uuidTexts(q.Collections), " ")}
	if !q.conditional() {
		if n := s.largeCollection(of); n > 0 {
			return n, nil, nil
		}
	}
	run := &statement{tenant: tenant, q: q, few: s.counts}
	sql, err := run.execute("matching")
	if err != nil {
		return 0, nil, err
	}
	var entries int
	err = tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: sql, Args: run.args, Within: q.Within},
		func(rows pgx.Rows) (err error) {
			_, err = pgx.ForEachRow(rows, []any{&documents, &passages, &entries}, func() error { return nil })
			return err
		})
	if err != nil || passages <= s.counts && len(documents) <= s.counts {
		return passages, documents, err
	}
	passages = max(passages, s.counts+1, min(st.chunks, entries*max(1, st.chunks/st.documents)))
	if !q.conditional() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.large) >= maxStates {
			clear(s.large)
		}
		s.large[of] = collectionSize{passages, time.Now()}
	}
	return passages, nil, nil
}

// sizeKey names collections as a tenant sees them with some labels.
type sizeKey struct {
	countKey
	collections string
}

// collectionSize is how many passages collections have, about, and when that was counted.
type collectionSize struct {
	passages int
	counted  time.Time
}

// largeCollection returns how many passages collections have that were counted a moment ago, and are many; else 0.
func (s *Searcher) largeCollection(of sizeKey) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, there := s.large[of]; there && time.Since(n.counted) < countTTL {
		return n.passages
	}
	return 0
}

// Few is how many passages are compared one by one: with more, a restricted search goes by the index.
func (d *templateData) Few() string { return strconv.Itoa(d.few) }

// Several reports whether a document may be an entry of more than one of the collections.
func (d *templateData) Several() bool { return len(d.q.Collections) > 1 }
