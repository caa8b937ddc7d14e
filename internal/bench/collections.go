package bench

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// collectionSizes are the passages of the collections that are measured, where the tenant has more.
var collectionSizes = []int{50, 1000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000}

// Collections measures searches of collections of all sizes in a tenant with so many passages.
func (b *Bench) Collections(ctx context.Context, s SearchConfig) ([]Measurement, error) {
	all, err := b.load(ctx, s)
	if err != nil {
		return nil, err
	}
	door, err := tenantdb.Open(ctx, b.url("konstruct_app"))
	if err != nil {
		return nil, err
	}
	defer door.Close()
	if _, err := b.tiers(ctx, door, s, all[:1]); err != nil {
		return nil, err
	}
	t := &searchSetup{name: "largest", id: all[0].id, chunks: all[0].chunks}
	if err := b.prepare(ctx, t, all[0]); err != nil {
		return nil, err
	}
	return b.collectionsOf(ctx, door, t, s.Measured)
}

// collections measures searches of collections of all sizes in one tenant: of documents drawn at random, whose passages
// are anywhere, and of documents about the same, for questions about these and about anything.
func (b *Bench) collections(ctx context.Context, door *tenantdb.Door, t *searchSetup) ([]Measurement, error) {
	return b.collectionsOf(ctx, door, t, func(Measurement) {})
}

// collectionsOf is collections, which calls measured with each line.
func (b *Bench) collectionsOf(ctx context.Context, door *tenantdb.Door, t *searchSetup,
	measured func(Measurement)) (lines []Measurement, err error) {
	builder, err := tenantdb.OpenIndexBuilder(ctx, b.url("konstruct_owner"))
	if err != nil {
		return nil, err
	}
	defer builder.Close()
	in := &search.Indexer{Door: door, Builder: builder, Thresholds: search.DefaultThresholds,
		Logger: slog.New(slog.DiscardHandler)}
	super, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return nil, err
	}
	defer super.Close(context.WithoutCancel(ctx))
	if _, err := super.Exec(ctx, `SET enable_nestloop = off`); err != nil {
		return nil, err
	}
	for _, kind := range []struct{ name, order string }{
		{"random documents", `md5(id::text)`},
		// those nearest to the first question, by the passage that is nearest
		{"documents of one subject", `(SELECT min(c.embedding <=> $3::real[]::vector) FROM kb_chunks c
			WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id)`},
	} {
		for _, size := range collectionSizes {
			if size > t.chunks {
				continue
			}
			id := uuid.NewSHA1(t.id, fmt.Appendf(nil, "%s %d", kind.name, size))
			if err := b.collection(ctx, super, t, id, kind.order, max(1, size/passagesADoc)); err != nil {
				return nil, err
			}
			if _, err := in.Work(ctx, t.id); err != nil { // an index of its own, where it is large
				return nil, err
			}
			for _, mode := range []search.Mode{search.Semantic, search.Hybrid} {
				line, err := b.collectionSearch(ctx, door, super, t, id, mode)
				if err != nil {
					return nil, err
				}
				line.What = fmt.Sprintf("%s tenant, %d chunks: a collection of %d, %s, %s", t.name, t.chunks, size,
					kind.name, mode)
				measured(line)
				lines = append(lines, line)
			}
		}
	}
	return lines, nil
}

// collection makes a collection of so many documents, the first in an order.
func (b *Bench) collection(ctx context.Context, super *pgx.Conn, t *searchSetup, id uuid.UUID, order string,
	documents int) error {
	if _, err := super.Exec(ctx, `INSERT INTO kb_collections (tenant_id, id, name) VALUES ($1, $2, $3)`, t.id, id,
		id.String()); err != nil {
		return err
	}
	if _, err := super.Exec(ctx, `INSERT INTO kb_collection_documents (tenant_id, collection_id, id, document_id)
		SELECT tenant_id, $2, id, id FROM kb_documents d WHERE tenant_id = $1 AND cardinality($3::real[]) > 0
		 ORDER BY `+order+`, id LIMIT $4`, t.id, id, t.questions[0], documents); err != nil {
		return err
	}
	_, err := super.Exec(ctx, `VACUUM ANALYZE kb_collection_documents`)
	return err
}

// collectionSearch measures searches of one collection, beside searches of the whole tenant in turn.
func (b *Bench) collectionSearch(ctx context.Context, door *tenantdb.Door, super *pgx.Conn, t *searchSetup,
	id uuid.UUID, mode search.Mode) (line Measurement, err error) {
	s := search.NewSearcher()
	var count tally
	var plan search.Plan
	find := func(q []float32, collections ...uuid.UUID) ([]uuid.UUID, error) {
		f, err := s.Search(ctx, door, t.id, search.Query{Mode: mode, Text: sentenceOf(q), Vector: q, K: topK,
			Collections: collections})
		plan = f.Plan
		return ids(f.Hits), err
	}
	if mode == search.Semantic {
		for _, q := range t.questions[:checked] {
			got, err := find(q, id)
			if err != nil {
				return line, err
			}
			rows, err := super.Query(ctx,
				`SELECT c.id FROM kb_chunks c WHERE c.tenant_id = $1 AND c.document_id IN (SELECT e.document_id
				FROM kb_collection_documents e WHERE e.tenant_id = $1 AND e.collection_id = $4)
			  ORDER BY (c.embedding <=> $2::real[]::vector) + 0 LIMIT $3`, t.id, q, topK, id)
			if err != nil {
				return line, err
			}
			right, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if err != nil {
				return line, err
			}
			count.add(got, right)
		}
	}
	n, whole := 0, 0
	two, err := b.alternateN(ctx, 2, "searches", 1,
		contender{"the whole tenant", 1, func(int) error {
			whole++
			_, err := find(t.questions[whole%len(t.questions)])
			return err
		}},
		contender{"", 1, func(int) error {
			n++
			_, err := find(t.questions[n%len(t.questions)], id)
			return err
		}})
	if err != nil {
		return line, err
	}
	line = two[1].against(two[0])
	line.Note = fmt.Sprintf("%s, %s; the whole tenant's p50 %.2f ms", plan.Tier, plan.Reason, two[0].P50)
	if mode == search.Semantic {
		line.Note = count.String() + ", " + line.Note
	}
	return line, nil
}

// sentenceOf draws words for a question, the same for the same question.
func sentenceOf(q []float32) string {
	return word(1+int(q[0]*q[0]*1e6)%200) + " " + word(200+int(q[1]*q[1]*1e6)%vocabulary)
}
