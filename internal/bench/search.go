package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// sizes are the tenants of the search benchmark, in chunks; they share one table.
var sizes = []int{50, 500, 2_000, 8_000}

// Search measures exact search within a tenant, against the seed's query as written: the global HNSW index
// under row level security, which finds other tenants' rows and has them filtered away.
func (b *Bench) Search(ctx context.Context, progress func(done, total int)) (lines []Line, err error) {
	door, err := tenantdb.Open(ctx, b.url("konstruct_app"))
	if err != nil {
		return nil, err
	}
	defer door.Close()
	draw := rand.New(rand.NewPCG(1, 2)) // the same vectors in every run
	centers := make([][]float32, 64)
	for i := range centers {
		centers[i] = unit(draw, nil)
	}
	total, done := 0, 0
	for _, n := range sizes {
		total += n
	}
	for i, n := range sizes {
		if err := b.fill(ctx, door, tenantOf(i), n, draw, centers, func(n int) { done += n; progress(done, total) }); err != nil {
			return nil, err
		}
	}
	for i, n := range sizes {
		found, err := b.searchTenant(ctx, door, tenantOf(i), n, draw, centers)
		if err != nil {
			return nil, err
		}
		lines = append(lines, found...)
	}
	return lines, nil
}

func tenantOf(i int) uuid.UUID { return uuid.NewSHA1(tenant, []byte{byte(i)}) }

// unit draws a vector of length 1, near a center when there is one: text clusters, noise does not.
func unit(draw *rand.Rand, center []float32) []float32 {
	v, sum := make([]float32, embed.Dimensions), 0.0
	for i := range v {
		v[i] = float32(draw.NormFloat64())
		if center != nil {
			v[i] = center[i] + v[i]*0.6/float32(math.Sqrt(embed.Dimensions))
		}
		sum += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

func (b *Bench) fill(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, n int, draw *rand.Rand, centers [][]float32, progress func(int)) error {
	document := uuid.New()
	return door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO kb_documents (tenant_id, id, agent_id) VALUES ($1, $2, $2)`, tenant, document); err != nil {
			return err
		}
		for at := 0; at < n; {
			size := min(64, tenantdb.StatementRows(n-at))
			var sql strings.Builder
			sql.WriteString(`INSERT INTO kb_chunks (tenant_id, document_id, content, embedding) VALUES `)
			tenantdb.Values(&sql, size, "uuid", "uuid", "text", "real[]")
			var args []any
			for range size {
				args = append(args, tenant, document, strings.Repeat("word ", 150), unit(draw, centers[draw.IntN(len(centers))]))
			}
			if _, err := tx.Exec(ctx, sql.String(), args...); err != nil {
				return err
			}
			at += size
			progress(size)
		}
		return nil
	})
}

const k = 10

// seedSearch is the seed's query as written.
const seedSearch = `SELECT id FROM kb_chunks ORDER BY embedding <=> $1::real[]::vector LIMIT $2`

func (b *Bench) searchTenant(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, n int, draw *rand.Rand, centers [][]float32) ([]Line, error) {
	searcher := kb.NewSearcher()
	questions := make([][]float32, 50)
	exact := make([]map[uuid.UUID]bool, len(questions))
	at, hits, rows, asked := 0, 0, 0, 0
	next := func() int { at = (at + 1) % len(questions); return at }
	for i := range questions {
		questions[i] = unit(draw, centers[draw.IntN(len(centers))])
	}
	ours, err := b.measure(ctx, fmt.Sprintf("exact, tenant of %d chunks", n), "searches", 1, 1, func(int) error {
		return door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			q := next()
			f, err := searcher.Search(ctx, tx, tenant, kb.Query{Mode: kb.ByMeaning, Vector: questions[q], K: k})
			exact[q] = map[uuid.UUID]bool{}
			for _, h := range f.Hits {
				exact[q][h.ChunkID] = true
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	seed, err := b.measure(ctx, fmt.Sprintf("the seed's query, tenant of %d chunks", n), "searches", 1, 1, func(int) error {
		return door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			q := next()
			r, err := tx.Query(ctx, seedSearch, questions[q], k)
			if err != nil {
				return err
			}
			ids, err := pgx.CollectRows(r, pgx.RowTo[uuid.UUID])
			if len(exact[q]) > 0 { // asked of both
				asked, rows = asked+1, rows+len(ids)
				for _, id := range ids {
					if exact[q][id] {
						hits++
					}
				}
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	seed.Note = fmt.Sprintf("recall@10 %.2f, %.1f rows of 10", float64(hits)/float64(max(1, asked)*k), float64(rows)/float64(max(1, asked)))
	ours = ours.against(seed)
	ours.Note = "recall@10 1.00 by construction"
	return []Line{seed, ours}, nil
}
