package kb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/parse"
	"github.com/konstruct/konstruct/tenantdb"
)

// Outcome is what became of a document.
type Outcome string

// The outcomes.
const (
	Added     Outcome = "added"
	Replaced  Outcome = "replaced"
	Unchanged Outcome = "unchanged"
	Removed   Outcome = "removed"  // its file is gone
	Unpacked  Outcome = "unpacked" // of an archive or a list: what it holds was enqueued
)

// MaxSource is how many bytes a document's source may have: an index holds it.
const MaxSource = 2000

// keptVersions is how many past versions of a document are remembered.
const keptVersions = 1000

// recipeVersion names the cutting rules; a change to extract or chunk that gives other chunks changes it.
const recipeVersion = "konstruct/chunks/v4"

// documentContent is a document ready to be stored.
type documentContent struct {
	parse.ParsedFile
	agent                  uuid.UUID
	filename, source, kind string
	bytes                  int64
	sha                    [sha256.Size]byte
	etag                   string
	seq                    int64 // its place in the order of uploads and deletions
	recipe                 string
	chunking               *chunk.Options // that its chunks were made by; nil where whoever stores it made them
	vectors                [][]float32
	pieceVectors           [][][]float32 // of each chunk, those of its pieces after the first; nil where none has any
	serving                string        // the model that serves beside the first
	servingVectors         [][]float32   // its vectors
}

// storeDocument writes the document in one transaction, and ends the job that it is: readers see what was there before,
// or all of this. Whether it is stored at all is decided there, by the order of uploads and deletions: ErrDeleted,
// ErrSuperseded say why not; errSource where the source's document is one that ctx does not see.
func storeDocument(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	j *ingestJob) (id uuid.UUID, done Outcome, err error) {
	c := &j.documentContent
	for _, vectors := range append([][][]float32{c.vectors}, c.pieceVectors...) {
		if err := CheckVectors(vectors, embed.Dimensions); err != nil {
			return id, "", err
		}
	}
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if err := lockSource(ctx, tx, tenant, c.source); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock_shared`+modelLock, tenant); err != nil {
			return err
		}
		var serving string
		var s sourceState
		if err := tx.QueryRow(ctx, `SELECT (`+ServingSQL+`), n.* FROM (`+sourceStateSQL+`) n`,
			c.args(tenant, j.options)...).
			Scan(append([]any{&serving}, s.places()...)...); err != nil {
			return err
		}
		if serving != c.serving {
			return errSwitched
		}
		// What to do was decided with the labels of the caller; what is written is checked against every document.
		if ctx, err = tenantdb.SetLabels(ctx, tx, tenantdb.AllLabels()); err != nil {
			return err
		}
		if s.document != nil {
			id = *s.document
		}
		if done, err = s.outcome(); err != nil {
			return err
		}
		switch {
		case done != "":
		case s.document == nil:
			done = Added
			if id, err = uuid.NewV7(); err != nil {
				return err
			}
		case s.same:
			done = Unchanged
			if _, err := tx.Exec(ctx, latestSQL, append(c.args(tenant, j.options), c.etag)...); err != nil {
				return err
			}
		case j.options.Chunking == nil && c.chunking != nil && *s.chunking != *c.chunking:
			return errRechunked
		default:
			done = Replaced
		}
		if done != Unchanged {
			err := c.write(ctx, tx, tenant, id, j.options, done == Replaced)
			if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.ConstraintName == sourceKey {
				return errSource // it is locked: nobody else took it meanwhile
			}
			if err != nil {
				return err
			}
		}
		if j.claim == nil {
			return j.options.collectInTx(ctx, tx, tenant, id)
		}
		return j.claim.done(ctx, tx, tenant, id, done, len(c.ParsedFile.Chunks))
	})
	return id, done, err
}

// errRechunked says that a document got another chunking while an upload that keeps it was read.
var errRechunked = errors.New("its chunking was changed meanwhile: ingest it again")

// sourceKey is the constraint by which a source is one document's.
const sourceKey = "kb_sources_tenant_id_source_key"

func (c *documentContent) write(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, g DocumentOptions,
	replace bool) error {
	language, evident, err := textLanguage(ctx, tx, tenant, c.Language, c.Text)
	if err != nil {
		return err
	}
	about := FileInfo{c.Author, c.Language, c.Created, c.Modified}
	var b pgx.Batch
	if replace {
		b.Queue(
			`INSERT INTO kb_versions (tenant_id, document_id, version, agent_id, bytes, content_sha256, recipe,
			ingested_at)
			SELECT s.tenant_id, s.document_id, s.version, d.agent_id, s.bytes, s.content_sha256, s.recipe, s.ingested_at
			  FROM kb_sources s JOIN kb_documents d ON d.tenant_id = s.tenant_id AND d.id = s.document_id
			 WHERE s.tenant_id = $1 AND s.document_id = $2`, tenant, id)
		b.Queue(`DELETE FROM kb_versions v USING kb_sources s WHERE v.tenant_id = $1
			AND v.document_id = $2 AND s.tenant_id = $1 AND s.document_id = $2 AND v.version <= s.version - $3`, tenant,
			id, keptVersions)
		b.Queue(`DELETE FROM kb_chunks WHERE tenant_id = $1 AND document_id = $2`, tenant, id)
		b.Queue(`UPDATE kb_documents SET agent_id = $3, filename = $4, source_url = $5, content_type = $6
			WHERE tenant_id = $1 AND id = $2`,
			tenant, id, c.agent, c.filename, c.source, c.kind)
		b.Queue(
			`UPDATE kb_sources SET title = $3, bytes = $4, content_sha256 = $5, recipe = $6, metadata = $7,
			labels = coalesce($8::text[], labels), given = coalesce($9::jsonb, given), etag = $10, language = $11,
			version = version + 1, ingested_at = now(), seq = $12, evident = $13,
			chunking = coalesce($14::jsonb, chunking)
			WHERE tenant_id = $1 AND document_id = $2`,
			tenant, id, c.Title, c.bytes, c.sha[:], c.recipe, about, g.Labels, g.Metadata, c.etag, language, c.seq,
			evident, c.chunking)
	} else {
		b.Queue(`INSERT INTO kb_documents (tenant_id, id, agent_id, filename, source_url, content_type)
			VALUES ($1, $2, $3, $4, $5, $6)`,
			tenant, id, c.agent, c.filename, c.source, c.kind)
		b.Queue(`INSERT INTO kb_sources (tenant_id, document_id, source, title, bytes, content_sha256, recipe, metadata,
			labels, given, etag, language, seq, evident, chunking)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9::text[],
			(SELECT array_agg(DISTINCT l) FROM kb_collections c, unnest(c.labels) l
			  WHERE c.tenant_id = $1 AND c.id = ANY ($16)), '{}'), coalesce($10::jsonb, '{}'), $11, $12, $13, $14,
			coalesce($15::jsonb, '{}'))`,
			tenant, id, c.source, c.Title, c.bytes, c.sha[:], c.recipe, about, g.Labels, g.Metadata, c.etag,
			language, c.seq, evident, c.chunking, g.Collections)
		b.Queue(`DELETE FROM kb_tombstones WHERE tenant_id = $1 AND source_sha256 = sha256(convert_to($2, 'UTF8'))`,
			tenant, c.source)
	}
	b.Queue(`INSERT INTO kb_texts (tenant_id, document_id, content) VALUES ($1, $2, $3)
		ON CONFLICT (tenant_id, document_id) DO UPDATE SET content = EXCLUDED.content`, tenant, id, c.Text)
	ids := chunkIDs(id, c.ParsedFile.Chunks)
	for from := 0; from < len(c.ParsedFile.Chunks); {
		n := min(rowsAtOnce, tenantdb.StatementRows(len(c.ParsedFile.Chunks)-from))
		if c.pieceVectors != nil { // a chunk has a row for each
			n = min(n, rowsAtOnce/8)
		}
		c.queue(&b, tenant, id, ids, language, from, n)
		from += n
		if b.Len() >= 8 || from == len(c.ParsedFile.Chunks) { // so that what waits to be sent stays small
			if err := tx.SendBatch(ctx, &b).Close(); err != nil {
				return err
			}
			b = pgx.Batch{}
		}
	}
	return nil
}

// rowsAtOnce is how many chunks go into one statement: each carries some 4 KB.
const rowsAtOnce = 256

func (c *documentContent) queue(b *pgx.Batch, tenant, document uuid.UUID, ids []uuid.UUID, language string,
	from, n int) {
	var chunks, passages strings.Builder
	chunks.WriteString(`INSERT INTO kb_chunks (tenant_id, id, document_id, content, chunk_index, embedding) VALUES `)
	tenantdb.Values(&chunks, n, "uuid", "uuid", "uuid", "text", "int", "real[]")
	passages.WriteString(
		`INSERT INTO kb_passages (tenant_id, chunk_id, headings, page, start_byte, end_byte, language) VALUES `)
	tenantdb.Values(&passages, n, "uuid", "uuid", "text[]=ARRAY[]::text[]", "int", "int", "int", "text")
	var chunkArgs, passageArgs []any
	ids = ids[from : from+n]
	for i := from; i < from+n; i++ {
		id := ids[i-from]
		k := &c.ParsedFile.Chunks[i]
		var page *int
		if k.Page > 0 {
			page = &k.Page
		}
		chunkArgs = append(chunkArgs, tenant, id, document, k.Content, i, c.vectors[i])
		passageArgs = append(passageArgs, tenant, id, k.Headings, page, k.Start, k.End, language)
	}
	b.Queue(chunks.String(), chunkArgs...)
	b.Queue(passages.String(), passageArgs...)
	if c.pieceVectors != nil {
		queuePieces(b, tenant, document, ids, language, c.pieceVectors[from:from+n])
	}
	if c.serving != "" {
		queueVectors(b, tenant, c.serving, ids, c.servingVectors[from:from+n])
	}
}

// chunkIDs are the ids of a document's passages. A passage that says the same has the same id when the document is
// replaced, so that what cites it still does; of several that say the same the first is the first.
func chunkIDs(document uuid.UUID, chunks []chunk.Chunk) []uuid.UUID {
	ids, same := make([]uuid.UUID, len(chunks)), map[string]int{}
	for i := range chunks {
		content := chunks[i].Content
		ids[i] = uuid.NewSHA1(document, fmt.Appendf(nil, "%d\n%s", same[content], content))
		same[content]++
	}
	return ids
}

// RecipeModel reports whether a recipe names this model.
func RecipeModel(recipe, model string) bool { return strings.HasSuffix(recipe, " "+model) }

// ErrVector says that a vector can't be compared with others.
var ErrVector = errors.New("not a vector that can be searched")

// CheckVectors names the first vector that has NaN, infinity, no length or wrong dimensions.
func CheckVectors(vectors [][]float32, dimensions int) error {
	for i, v := range vectors {
		if err := CheckVector(v, dimensions); err != nil {
			return fmt.Errorf("vector %d: %w", i, err)
		}
	}
	return nil
}

func CheckVector(v []float32, dimensions int) error {
	if len(v) != dimensions {
		return fmt.Errorf("%w: it has %d dimensions, not %d", ErrVector, len(v), dimensions)
	}
	var sum float64
	for i, x := range v {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return fmt.Errorf("%w: number %d is %v", ErrVector, i, x)
		}
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return fmt.Errorf("%w: its length is zero", ErrVector)
	}
	return nil
}
