package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/parse"
	"github.com/konstruct/konstruct/tenantdb"
)

// timedEmbedder is a model that records how long it worked.
type timedEmbedder struct {
	embed.Embedder
	took atomic.Int64
}

// Embed implements embed.Embedder.
func (m *timedEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	begin := time.Now()
	defer func() { m.took.Add(int64(time.Since(begin))) }()
	return m.Embedder.Embed(ctx, texts)
}

// fixedEmbedder is a model whose vectors are precomputed, so that only the rest of the ingest is measured.
type fixedEmbedder struct {
	embed.Embedder
	vectors [][]float32
}

// Embed implements embed.Embedder.
func (m fixedEmbedder) Embed(_ context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, t := range texts {
		out[i] = m.vectors[len(t)%len(m.vectors)]
	}
	return out, nil
}

// Ingest measures documents ingested from end to end, by the model and with vectors given, and the storing of chunks
// against COPY into a table of the same columns and indexes. documents is how many the larger run ingests, whose peak
// of memory, the model's included, stands beside that of 1,000.
func (b *Bench) Ingest(ctx context.Context, m embed.Model, read []string, documents int) ([]Measurement, error) {
	local, _, err := embed.OpenLocal(m)
	if err != nil {
		return nil, err
	}
	defer local.Close()
	pool := parse.NewPool(2, parse.DefaultLimits, read...)
	defer pool.Close()
	door, err := tenantdb.Open(ctx, b.url("konstruct_app"))
	if err != nil {
		return nil, err
	}
	defer door.Close()
	model := &timedEmbedder{Embedder: local}
	in := &kb.Ingester{Door: door, Embedder: func(string) (embed.Embedder, error) {
		return model, nil
	}, Parser: pool, Concurrency: 2}

	// The first document starts processes and prepares statements.
	if _, _, err := b.ingest(ctx, in, tenantNumber(int64(200)), 20); err != nil {
		return nil, err
	}
	model.took.Store(0)
	n := max(200, int(b.Time.Seconds()*40))
	took, chunks, err := b.ingest(ctx, in, tenantNumber(int64(201)), n)
	if err != nil {
		return nil, err
	}
	share := float64(model.took.Load()) / float64(took)
	lines := []Measurement{{What: "ingested by the local model", Unit: "documents", Rate: float64(n) / took.Seconds(),
		Note: fmt.Sprintf("%.0f chunks/s; %.0f %% of the time is the model's", float64(chunks)/took.Seconds(),
			100*share)}}

	draw := rand.New(rand.NewPCG(5, 6))
	vectors := make([][]float32, 512)
	for i := range vectors {
		vectors[i] = sizedTenant{topics: 1 << 20, rank: i, chunks: 1}.point(draw, 0, pointSpread)
	}
	in.Embedder = func(string) (embed.Embedder, error) { return fixedEmbedder{local, vectors}, nil }
	for i, n := range []int{1000, documents} {
		runtime.GC()
		resetPeak()
		took, chunks, err := b.ingest(ctx, in, tenantNumber(int64(202+i)), n)
		if err != nil {
			return nil, err
		}
		l := Measurement{What: fmt.Sprintf("%d documents ingested, vectors given", n), Unit: "documents",
			Rate: float64(n) / took.Seconds(),
			Note: fmt.Sprintf("%.0f chunks/s%s", float64(chunks)/took.Seconds(), peak())}
		if i > 0 {
			l = l.against(lines[1])
		}
		lines = append(lines, l)
	}
	stored, err := b.storing(ctx, door, local.Name(), vectors)
	return append(lines, stored...), err
}

// ingest ingests generated documents of one page each, and returns how long that took.
func (b *Bench) ingest(ctx context.Context, in *kb.Ingester, tenant uuid.UUID,
	n int) (took time.Duration, chunks int, err error) {
	dir, err := os.MkdirTemp(b.Dir, "documents-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	draw := rand.New(rand.NewPCG(7, 8))
	words := strings.Fields("the pump valve station water lake pressure oil gauge lamp flange gasket night shift " +
		"engineer bearing winter summer pipe frost alarm button log order store room door key smell rubber coupling " +
		"foam filter")
	for i := range n {
		var text strings.Builder
		fmt.Fprintf(&text, "# Note %d\n", i)
		for range 4 {
			text.WriteString("\n## Part\n\n")
			for range 12 {
				for range 12 {
					text.WriteString(words[draw.IntN(len(words))] + " ")
				}
				text.WriteString("stands.\n")
			}
		}
		sub := filepath.Join(dir, fmt.Sprint(i/1000))
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return 0, 0, err
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%d.md", i)), []byte(text.String()), 0o600); err != nil {
			return 0, 0, err
		}
	}
	if err := b.settle(ctx); err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	err = in.Files(ctx, tenant, tenant, []string{dir}, kb.DocumentOptions{}, func(r kb.IngestResult) {
		chunks += r.Chunks
		if r.Err != nil && err == nil {
			err = r.Err
		}
	})
	return time.Since(begin), chunks, err
}

// storing measures how fast chunks and vectors are stored as documents, against COPY of the same rows into the same
// tables, which row-level security does not allow an application.
func (b *Bench) storing(ctx context.Context, door *tenantdb.Door, model string,
	vectors [][]float32) ([]Measurement, error) {
	const rows = 512
	owner, err := pgx.Connect(ctx, b.Cluster.SuperuserURL("konstruct"))
	if err != nil {
		return nil, err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	tenant, document := tenantNumber(int64(210)), uuid.New()
	content := strings.Repeat("word ", 150)
	sent := make([][]byte, len(vectors)) // as pgvector receives them: dimensions, nothing, numbers
	for i, v := range vectors {
		sent[i] = binary.BigEndian.AppendUint32(nil, uint32(len(v))<<16)
		for _, x := range v {
			sent[i] = binary.BigEndian.AppendUint32(sent[i], math.Float32bits(x))
		}
	}
	chunks := make([]chunk.Chunk, rows)
	for i := range chunks {
		chunks[i] = chunk.Chunk{Content: content, Headings: []string{"Note", "Part"}, End: len(content)}
	}
	if _, err := owner.Exec(ctx, `INSERT INTO kb_documents (tenant_id, id, agent_id) VALUES ($1, $2, $2)`, tenant,
		document); err != nil {
		return nil, err
	}
	lines, err := b.alternateN(ctx, 4, "chunks", rows,
		contender{"COPY of chunks and passages, as a superuser", 1, func(int) error {
			ids := make([]uuid.UUID, rows)
			for i := range ids {
				ids[i] = uuid.New()
			}
			return pgx.BeginFunc(ctx, owner, func(tx pgx.Tx) error {
				if _, err := tx.CopyFrom(ctx, pgx.Identifier{"kb_chunks"},
					[]string{"tenant_id", "id", "document_id", "content", "chunk_index", "embedding"},
					pgx.CopyFromSlice(rows, func(i int) ([]any, error) {
						return []any{tenant, ids[i], document, content, i, sent[i]}, nil
					})); err != nil {
					return err
				}
				_, err := tx.CopyFrom(ctx, pgx.Identifier{"kb_passages"},
					[]string{"tenant_id", "chunk_id", "headings", "start_byte", "end_byte"}, pgx.CopyFromSlice(rows,
						func(i int) ([]any, error) {
							return []any{tenant, ids[i], []string{"Note", "Part"}, 0, 750}, nil
						}))
				return err
			})
		}},
		contender{"chunks and passages stored as documents are", 1, func(int) error {
			_, _, err := kb.StorePrepared(ctx, door, tenant, tenant,
				kb.PreparedDocument{Source: "bench:" + uuid.NewString(), Filename: "bench", Model: model,
					Chunks: chunks, Vectors: vectors[:rows]})
			return err
		}})
	if err != nil {
		return nil, err
	}
	lines[1] = lines[1].against(lines[0])
	return lines, nil
}
