package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/devpg"
)

// sizedTenant is a tenant of the search benchmark.
type sizedTenant struct {
	rank, chunks int
	id           uuid.UUID
	topics       int // of all tenants
}

// Properties of the generated passages: their vectors lie near topics that tenants share, some twenty passages of a
// tenant at each topic.
const (
	passagesATopic  = 20
	pointSpread     = 0.6 // of a passage about its topic, whose length is 1
	questionSpread  = 0.7
	passagesADoc    = 10
	wordsEach       = 12
	vocabulary      = 20_000
	metadataNumbers = 10_000 // a document's number is drawn from so many
)

// zipf returns sizes of n tenants by Zipf's law, the largest first.
func zipf(chunks, n int) (all []sizedTenant) {
	sum := 0.0
	for r := 1; r <= n; r++ {
		sum += 1 / float64(r)
	}
	for r := range n {
		size := max(1, int(float64(chunks)/sum/float64(r+1)))
		all = append(all, sizedTenant{rank: r, chunks: size, id: uuid.NewSHA1(tenant, fmt.Appendf(nil, "search %d", r)),
			topics: chunks / passagesATopic})
	}
	return all
}

// point generates a unit vector near one of the tenant's topics.
func (z sizedTenant) point(draw *rand.Rand, i int, spread float64) []float32 {
	own := max(5, z.chunks/passagesATopic)
	topic := (uint64(z.rank)*7919 + uint64(i%own)*104729) % uint64(max(1, z.topics))
	center := rand.New(rand.NewPCG(11, topic))
	v, sum := make([]float32, embed.Dimensions), 0.0
	scale := spread // both parts have lengths of about 1 and spread
	for j := range v {
		x := center.NormFloat64() + scale*draw.NormFloat64()
		v[j] = float32(x)
		sum += x * x
	}
	for j := range v {
		v[j] /= float32(math.Sqrt(sum))
	}
	return v
}

// sentence generates words, some far more often than others.
func sentence(draw *rand.Rand, n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = word(int(math.Pow(vocabulary, draw.Float64())))
	}
	return strings.Join(words, " ")
}

// word writes a number in syllables: words of letters, since a word with digits is an identifier, which is looked for
// in parts too.
func word(n int) string {
	const consonants, vowels = "bdfgklmnprstvz", "aeiou"
	var b strings.Builder
	for ; n > 0; n /= len(consonants) * len(vowels) {
		syllable := n % (len(consonants) * len(vowels))
		b.WriteByte(consonants[syllable/len(vowels)])
		b.WriteByte(vowels[syllable%len(vowels)])
	}
	return b.String()
}

// load fills the tables without triggers and foreign key checks, derives what the triggers would have derived, and then
// creates the indexes.
func (b *Bench) load(ctx context.Context, s SearchConfig) ([]sizedTenant, error) {
	all := zipf(s.Chunks, s.Tenants)
	total := 0
	for _, z := range all {
		total += z.chunks
	}
	conn, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	run := func(what string, statements ...string) error {
		for i, sql := range statements {
			s.Progress(what, i, len(statements))
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%.60s: %w", sql, err)
			}
		}
		return nil
	}
	if err := run("getting ready", `SET session_replication_role = replica`, `SET maintenance_work_mem = '6GB'`,
		`SET max_parallel_maintenance_workers = 2`,
		`DROP INDEX ix_kb_chunks_hnsw`); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(writeChunks(w, all, func(done int) { s.Progress("filling the table", done, total) }))
	}()
	if _, err := conn.PgConn().
		CopyFrom(ctx, r,
			`COPY kb_chunks (tenant_id, id, document_id, content, chunk_index, embedding)
			 FROM STDIN BINARY`); err != nil {
		return nil, err
	}
	global := `CREATE INDEX ix_kb_chunks_hnsw ON kb_chunks
			USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)`
	if s.OwnAlone {
		global = `SELECT`
	}
	return all, run("making what is searched",
		`INSERT INTO kb_documents (tenant_id, id, agent_id, filename, content_type)
			SELECT DISTINCT tenant_id, document_id, tenant_id, 'doc', 'text/plain' FROM kb_chunks`,
		fmt.Sprintf(`INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, recipe, given)
			SELECT tenant_id, id, 'bench:' || id, 1, sha256('x'), 'bench', jsonb_build_object('n',
			abs(hashtext(id::text)) %% %d) FROM kb_documents`, metadataNumbers),
		`INSERT INTO kb_points (tenant_id, document_id, chunk_id, language, half, text_hash)
			SELECT tenant_id, document_id, id, 'simple', l2_normalize(embedding)::halfvec(384),
			       hashtextextended(content, 0) FROM kb_chunks
			ORDER BY 1, 2, 3`,
		`INSERT INTO kb_terms (tenant_id, term, chunk_id, times, length, tail)
			SELECT p.tenant_id, p.term, p.chunk_id, p.times, p.length, p.tail
			  FROM kb_chunks c, kb_postings(c.tenant_id, c.id, 'simple', c.content) p ORDER BY 1, 2, 3`,
		global, `VACUUM ANALYZE kb_chunks, kb_points, kb_terms, kb_documents, kb_sources`, `CHECKPOINT`)
}

// writeChunks writes all tenants' passages in PostgreSQL's binary COPY format, the tenants' mixed, as time would mix
// them.
func writeChunks(w io.Writer, all []sizedTenant, progress func(done int)) error {
	draw := rand.New(rand.NewPCG(1, 2)) // the same in every run
	order := []int{}
	for i, z := range all {
		for range z.chunks {
			order = append(order, i)
		}
	}
	draw.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	next := make([]int, len(all))
	var b bytes.Buffer
	b.WriteString("PGCOPY\n\xff\r\n\x00")
	b.Write(make([]byte, 8))
	field := func(value []byte) {
		_ = binary.Write(&b, binary.BigEndian, int32(len(value)))
		b.Write(value)
	}
	for n, i := range order {
		z, at := all[i], next[i]
		next[i]++
		document, chunk := uuid.NewSHA1(z.id, fmt.Appendf(nil, "d%d", at/passagesADoc)),
			uuid.NewSHA1(z.id, fmt.Appendf(nil, "c%d", at))
		_ = binary.Write(&b, binary.BigEndian, int16(6))
		field(z.id[:])
		field(chunk[:])
		field(document[:])
		field([]byte(sentence(draw, wordsEach)))
		field(binary.BigEndian.AppendUint32(nil, uint32(at%passagesADoc)))
		vector := binary.BigEndian.AppendUint16(nil, embed.Dimensions)
		vector = append(vector, 0, 0)
		for _, x := range z.point(draw, at, pointSpread) {
			vector = binary.BigEndian.AppendUint32(vector, math.Float32bits(x))
		}
		field(vector)
		if b.Len() > 1<<20 {
			if _, err := w.Write(b.Bytes()); err != nil {
				return err
			}
			b.Reset()
			progress(n + 1)
		}
	}
	b.Write([]byte{0xff, 0xff})
	_, err := w.Write(b.Bytes())
	return err
}
