package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// recorded searches and writes the retrieval event in the same transaction, as Agent.Ask does.
func (b *Bench) recorded(ctx context.Context, door *tenantdb.Door, s *search.Searcher, tenant uuid.UUID,
	q []float32) (got []uuid.UUID, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		f, err := s.SearchInTx(ctx, tx, tenant, search.Query{Mode: search.Semantic, Vector: q, K: topK})
		if err != nil {
			return err
		}
		got = ids(f.Hits)
		shown := make([]audit.RetrievedPassage, len(f.Hits))
		for i, h := range f.Hits {
			shown[i] = audit.RetrievedPassage{ChunkID: h.ChunkID, Score: h.Score, DocumentID: h.DocumentID,
				SHA256: h.SHA256, Version: h.Version}
		}
		e, err := audit.Retrieval{AgentID: tenant, Query: "a question", Model: "m", TopK: topK, Passages: shown,
			Options: audit.SearchOptions{Mode: string(f.Plan.Mode), Tier: string(f.Plan.Tier),
				EfSearch: f.Plan.EfSearch, Depth: f.Plan.Depth}}.Event()
		if err != nil {
			return err
		}
		_, err = audit.InTx(ctx, tx, tenant, e)
		return err
	})
	return got, err
}

// modes measures a tenant's lexical and hybrid searches.
func (b *Bench) modes(ctx context.Context, door *tenantdb.Door, t *searchSetup) ([]Measurement, error) {
	draw := rand.New(rand.NewPCG(5, 6))
	var all []contender
	for _, mode := range []search.Mode{search.Semantic, search.Lexical, search.Hybrid} {
		s, n := search.NewSearcher(), 0
		all = append(all, contender{fmt.Sprintf("%s tenant, by %s", t.name, mode), 1, func(int) error {
			n++
			_, err := s.Search(ctx, door, t.id,
				search.Query{Mode: mode, Text: sentence(draw, 6), Vector: t.questions[n%len(t.questions)], K: topK})
			return err
		}})
	}
	lines, err := b.alternateN(ctx, 2, "searches", 1, all...)
	for i := range lines {
		if i > 0 {
			lines[i] = lines[i].against(lines[0])
		}
	}
	return lines, err
}

// conditions measures searches with conditions on documents: their time and recall.
func (b *Bench) conditions(ctx context.Context, door *tenantdb.Door, t *searchSetup) (lines []Measurement, err error) {
	var one int // that some document of the tenant has
	if err := door.Query(ctx, t.id, `SELECT min((given->>'n')::int) FROM kb_sources WHERE tenant_id = $1`, []any{t.id},
		func(rows pgx.Rows) (err error) {
			one, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			return err
		}); err != nil {
		return nil, err
	}
	// The exact answer is queried without row-level security: with its condition added, the planner expects very few
	// rows.
	super, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return nil, err
	}
	defer super.Close(context.WithoutCancel(ctx))
	if _, err := super.Exec(ctx, `SET enable_nestloop = off`); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		part, condition, sql string
	}{
		{"50 %", "metadata.n<5000", "(s.given->>'n')::int < 5000"}, {"1 %", "metadata.n<100",
			"(s.given->>'n')::int < 100"},
		{"0.01 %", fmt.Sprintf("metadata.n=%d", one), fmt.Sprintf("(s.given->>'n')::int = %d", one)},
	} {
		where, err := search.ParseCondition(c.condition)
		if err != nil {
			return nil, err
		}
		s := search.NewSearcher()
		var count tally
		var plan search.Plan
		find := func(q []float32) ([]uuid.UUID, error) {
			f, err := s.Search(ctx, door, t.id,
				search.Query{Mode: search.Semantic, Vector: q, K: topK, Where: []search.Condition{where}})
			plan = f.Plan
			return ids(f.Hits), err
		}
		for _, q := range t.questions[:checked] {
			got, err := find(q)
			if err != nil {
				return nil, err
			}
			rows, err := super.Query(ctx,
				`SELECT c.id FROM kb_chunks c WHERE c.tenant_id = $1 AND c.document_id IN (SELECT s.document_id
				FROM kb_sources s WHERE s.tenant_id = $1 AND `+c.sql+`)
			  ORDER BY (c.embedding <=> $2::real[]::vector) + 0 LIMIT $3`, t.id, q, topK)
			if err != nil {
				return nil, err
			}
			right, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if err != nil {
				return nil, err
			}
			count.add(got, right)
		}
		n := 0
		line, err := b.measure(ctx, fmt.Sprintf("%s tenant, documents that meet a condition: %s", t.name, c.part),
			"searches", 1, 1, func(int) error {
				n++
				_, err := find(t.questions[n%len(t.questions)])
				return err
			})
		if err != nil {
			return nil, err
		}
		line.Note = fmt.Sprintf("%s, %s", count.String(), plan.Tier)
		lines = append(lines, line)
	}
	return lines, nil
}

// checked is the number of queries with a condition whose recall is measured.
const checked = 10

// atOnce is the number of concurrent searches.
const atOnce = 16

// crowd measures concurrent searches of different tenants, alone and during an ingest, and the ingest alone and during
// the searches.
func (b *Bench) crowd(ctx context.Context, door *tenantdb.Door, all []sizedTenant,
	measured []*searchSetup) ([]Measurement, error) {
	s := search.NewSearcher()
	var n atomic.Int64
	search := func(int) error {
		i := n.Add(1)
		t := measured[i%int64(len(measured))]
		_, err := s.Search(ctx, door, t.id,
			search.Query{Mode: search.Semantic, Vector: t.questions[i%int64(len(t.questions))], K: topK})
		return err
	}
	seed := func(int) error {
		i := n.Add(1)
		t := measured[i%int64(len(measured))]
		return door.Query(ctx, t.id, seedSearch, []any{t.questions[i%int64(len(t.questions))], topK}, nil)
	}
	draw := rand.New(rand.NewPCG(7, 8))
	take := func(int) error {
		z := all[draw.IntN(len(all))]
		return b.storeDocument(ctx, door, z, draw)
	}
	lines, err := b.alternateN(ctx, 2, "searches", 1,
		contender{fmt.Sprintf("the seed as written, %d at once, tenants of all sizes", atOnce), atOnce, seed},
		contender{fmt.Sprintf("ours, %d at once, tenants of all sizes", atOnce), atOnce, search})
	if err != nil {
		return nil, err
	}
	lines[1] = lines[1].against(lines[0])
	alone, err := b.measure(ctx, "ingesting documents of ten passages, one at a time", "passages", 1, 10, take)
	if err != nil {
		return nil, err
	}
	// With both at the same time, the ingest is measured by how much it ingested while the searches ran.
	stop, end := make(chan struct{}), make(chan error, 1)
	taken := 0
	begin := time.Now()
	go func() {
		for {
			select {
			case <-stop:
				end <- nil
				return
			default:
			}
			if err := take(0); err != nil {
				end <- err
				return
			}
			taken += 10
		}
	}()
	both, err := b.measure(ctx, fmt.Sprintf("ours, %d at once, while documents are ingested", atOnce), "searches",
		atOnce, 1, search)
	close(stop)
	if failed := <-end; err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	beside := Measurement{What: "ingesting, beside them", Unit: "passages",
		Rate: float64(taken) / time.Since(begin).Seconds()}.against(alone)
	without, err := b.withoutGlobal(ctx, take)
	if err != nil {
		return nil, err
	}
	return append(lines, alone, both.against(lines[1]), beside, without.against(alone)), nil
}

// withoutGlobal measures ingest without the seed's index over all tenants.
func (b *Bench) withoutGlobal(ctx context.Context, take func(int) error) (Measurement, error) {
	conn, err := pgx.Connect(ctx, b.url("konstruct_owner"))
	if err != nil {
		return Measurement{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `DROP INDEX CONCURRENTLY ix_kb_chunks_hnsw`); err != nil {
		return Measurement{}, err
	}
	return b.measure(ctx, "ingesting, without the seed's index over all tenants", "passages", 1, 10, take)
}

// storeDocument stores one of ten passages, as a client of the seed would.
func (b *Bench) storeDocument(ctx context.Context, door *tenantdb.Door, z sizedTenant, draw *rand.Rand) error {
	return door.Tx(ctx, z.id, func(ctx context.Context, tx pgx.Tx) error {
		document := uuid.New()
		if _, err := tx.Exec(ctx, `INSERT INTO kb_documents (tenant_id, id, agent_id) VALUES ($1, $2, $2)`, z.id,
			document); err != nil {
			return err
		}
		var sql strings.Builder
		sql.WriteString(`INSERT INTO kb_chunks (tenant_id, document_id, content, embedding) VALUES `)
		tenantdb.Values(&sql, 10, "uuid", "uuid", "text", "real[]")
		var args []any
		for range 10 {
			args = append(args, z.id, document, sentence(draw, wordsEach),
				z.point(draw, draw.IntN(z.chunks), pointSpread))
		}
		_, err := tx.Exec(ctx, sql.String(), args...)
		return err
	})
}
