package kb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/tenantdb"
)

// Outcome is what became of a document.
type Outcome string

// The outcomes.
const (
	Added     Outcome = "added"
	Replaced  Outcome = "replaced"
	Unchanged Outcome = "unchanged"
)

// MaxSource is how many bytes a document's source may have: an index holds it.
const MaxSource = 2000

// rules names the cutting rules; a change to extract or chunk that gives other chunks changes it.
const rules = "konstruct/chunks/v3"

// content is a document ready to be stored.
type content struct {
	agent                        uuid.UUID
	filename, source, kind, name string // name: the title
	bytes                        int64
	sha                          [sha256.Size]byte
	recipe                       string
	about                        About
	chunks                       []chunk.Chunk
	vectors                      [][]float32
}

// same reports whether the tenant has this source with this content, made by this recipe.
func same(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, source string, sha [sha256.Size]byte, recipe string) (is bool, err error) {
	err = door.Query(ctx, tenant, `SELECT 1 FROM kb_sources WHERE tenant_id = $1 AND source = $2 AND content_sha256 = $3 AND recipe = $4`,
		[]any{tenant, source, sha[:], recipe}, func(rows pgx.Rows) error {
			is = rows.Next()
			return rows.Err()
		})
	return is, err
}

// store writes the document in one transaction: readers see what was there before, or all of this.
func store(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, c content) (id uuid.UUID, done Outcome, err error) {
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		// Two that take in the same source at once take turns.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, tenant.String()+c.source); err != nil {
			return err
		}
		var sha []byte
		var recipe string
		err := tx.QueryRow(ctx, `SELECT document_id, content_sha256, recipe FROM kb_sources WHERE tenant_id = $1 AND source = $2`, tenant, c.source).Scan(&id, &sha, &recipe)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			done = Added
			if id, err = uuid.NewV7(); err != nil {
				return err
			}
		case err != nil:
			return err
		case string(sha) == string(c.sha[:]) && recipe == c.recipe:
			done = Unchanged
			return nil
		default:
			done = Replaced
		}
		return c.write(ctx, tx, tenant, id, done == Replaced)
	})
	return id, done, err
}

func (c *content) write(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, replace bool) error {
	var b pgx.Batch
	if replace {
		b.Queue(`DELETE FROM kb_chunks WHERE tenant_id = $1 AND document_id = $2`, tenant, id)
		b.Queue(`UPDATE kb_documents SET agent_id = $3, filename = $4, source_url = $5, content_type = $6 WHERE tenant_id = $1 AND id = $2`,
			tenant, id, c.agent, c.filename, c.source, c.kind)
		b.Queue(`UPDATE kb_sources SET title = $3, bytes = $4, content_sha256 = $5, recipe = $6, metadata = $7, ingested_at = now() WHERE tenant_id = $1 AND document_id = $2`,
			tenant, id, c.name, c.bytes, c.sha[:], c.recipe, c.about)
	} else {
		b.Queue(`INSERT INTO kb_documents (tenant_id, id, agent_id, filename, source_url, content_type) VALUES ($1, $2, $3, $4, $5, $6)`,
			tenant, id, c.agent, c.filename, c.source, c.kind)
		b.Queue(`INSERT INTO kb_sources (tenant_id, document_id, source, title, bytes, content_sha256, recipe, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			tenant, id, c.source, c.name, c.bytes, c.sha[:], c.recipe, c.about)
	}
	for from := 0; from < len(c.chunks); {
		n := min(rowsAtOnce, tenantdb.StatementRows(len(c.chunks)-from))
		if err := c.queue(&b, tenant, id, from, n); err != nil {
			return err
		}
		from += n
		if b.Len() >= 8 || from == len(c.chunks) { // so that what waits to be sent stays small
			if err := tx.SendBatch(ctx, &b).Close(); err != nil {
				return err
			}
			b = pgx.Batch{}
		}
	}
	return nil
}

// rowsAtOnce is how many chunks go into one statement: each carries some 4 KB.
const rowsAtOnce = 64

func (c *content) queue(b *pgx.Batch, tenant, document uuid.UUID, from, n int) error {
	var chunks, passages strings.Builder
	chunks.WriteString(`INSERT INTO kb_chunks (tenant_id, id, document_id, content, chunk_index, embedding) VALUES `)
	tenantdb.Values(&chunks, n, "uuid", "uuid", "uuid", "text", "int", "real[]")
	passages.WriteString(`INSERT INTO kb_passages (tenant_id, chunk_id, headings, page, start_byte, end_byte) VALUES `)
	tenantdb.Values(&passages, n, "uuid", "uuid", "text[]", "int", "int", "int")
	var chunkArgs, passageArgs []any
	for i := from; i < from+n; i++ {
		if len(c.vectors[i]) != embed.Dimensions {
			return fmt.Errorf("chunk %d has a vector of %d dimensions, not %d", i, len(c.vectors[i]), embed.Dimensions)
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		k := &c.chunks[i]
		var page *int
		if k.Page > 0 {
			page = &k.Page
		}
		chunkArgs = append(chunkArgs, tenant, id, document, k.Content, i, c.vectors[i])
		passageArgs = append(passageArgs, tenant, id, k.Headings, page, k.Start, k.End)
	}
	b.Queue(chunks.String(), chunkArgs...)
	b.Queue(passages.String(), passageArgs...)
	return nil
}

// MadeBy reports whether a recipe names this model.
func MadeBy(recipe, model string) bool { return strings.HasSuffix(recipe, " "+model) }
