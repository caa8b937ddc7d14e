package kb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/tenantdb"
)

// Model is one whose vectors a tenant's knowledge base has beside those of the first model, which stay.
type Model struct {
	Name       string     `json:"model"`
	Dimensions int        `json:"dimensions"`
	Serving    bool       `json:"serving"` // searches are by it
	Vectors    int        `json:"vectors"`
	Missing    int        `json:"missing"` // passages that have no vector of it yet
	StartedAt  time.Time  `json:"started_at"`
	ServedAt   *time.Time `json:"served_at"` // when it last began to serve
}

// ListModels lists them by name.
func ListModels(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID) (models []Model, err error) {
	err = door.Query(ctx, tenant,
		`SELECT m.model, m.dimensions, m.serving, count(v.chunk_id),
		        (SELECT count(*) FROM kb_chunks c WHERE c.tenant_id = $1) - count(v.chunk_id), m.started_at, m.served_at
		   FROM kb_models m LEFT JOIN kb_vectors v ON v.tenant_id = $1 AND v.model = m.model
		  WHERE m.tenant_id = $1 GROUP BY m.tenant_id, m.model
		  ORDER BY m.model`, []any{tenant}, func(rows pgx.Rows) error {
			models, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Model])
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("kb: list models: %w", err)
	}
	return models, nil
}

// ServingModel is the model that a tenant's searches are by; empty for the first.
func ServingModel(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID) (model string, err error) {
	err = door.Query(ctx, tenant, ServingSQL, []any{tenant}, func(rows pgx.Rows) error {
		model, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return "", fmt.Errorf("kb: ask which model serves: %w", err)
	}
	return model, nil
}

const ServingSQL = `SELECT coalesce((SELECT model FROM kb_models WHERE tenant_id = $1 AND serving), '')`

// modelLock is shared by those who store passages, and exclusive for a change of the serving model: no passage is left
// without its vector.
const modelLock = `(hashtextextended('konstruct models ' || $1::uuid, 0))`

// Reasons why a model can't serve.
var (
	ErrIncomplete = errors.New("not every passage has a vector of that model: konstruct kb reembed makes them")
	ErrNoModel    = errors.New("no such model of this tenant: `konstruct kb models` shows what is there")
	// errSwitched says that another model serves than the vectors are of.
	errSwitched = errors.New("another model serves now")
)

// reembedAtOnce is how many passages are read, embedded and written at once.
const reembedAtOnce = 256

// Reembed embeds the passages that have no vector of another model yet, beside their present vectors, until none is
// missing. When it is killed, it continues where it was. Searches keep using the serving model; ServeModel changes it.
// progress, when not nil, is called with the number of passages embedded.
func Reembed(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, e embed.Embedder, t *embed.Tokenizer,
	progress func(int)) error {
	err := door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var has int
		err := tx.QueryRow(ctx, `INSERT INTO kb_models (tenant_id, model, dimensions) VALUES ($1, $2, $3)
			ON CONFLICT (tenant_id, model) DO UPDATE SET model = EXCLUDED.model RETURNING dimensions`,
			tenant, e.Name(), e.Dimensions()).Scan(&has)
		if err == nil && has != e.Dimensions() {
			err = fmt.Errorf("%s has %d dimensions here, and is asked for %d: drop it first", e.Name(), has,
				e.Dimensions())
		}
		return err
	})
	for after := uuid.Nil; err == nil; {
		var n int
		if n, after, err = reembedBatch(ctx, door, tenant, e, t, after); n == 0 {
			break
		}
		if progress != nil {
			progress(n)
		}
	}
	if err != nil {
		return fmt.Errorf("kb: embed again with %s: %w", e.Name(), err)
	}
	return nil
}

func reembedBatch(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, e embed.Embedder, t *embed.Tokenizer,
	after uuid.UUID) (n int, last uuid.UUID, err error) {
	var ids []uuid.UUID
	var texts []string
	err = door.Query(ctx, tenant,
		`SELECT c.id, coalesce(p.headings, '{}'), c.content
		   FROM kb_chunks c LEFT JOIN kb_passages p ON p.tenant_id = $1 AND p.chunk_id = c.id
		  WHERE c.tenant_id = $1 AND c.id > $2
		    AND NOT EXISTS (SELECT FROM kb_vectors v WHERE v.tenant_id = $1 AND v.chunk_id = c.id AND v.model = $3)
		  ORDER BY c.id LIMIT $4`,
		[]any{tenant, after, e.Name(), reembedAtOnce}, func(rows pgx.Rows) error {
			ids, texts = nil, nil
			var id uuid.UUID
			var headings []string
			var content string
			_, err := pgx.ForEachRow(rows, []any{&id, &headings, &content}, func() error {
				ids, texts = append(ids, id), append(texts, chunk.Embed(t, headings, content))
				return nil
			})
			return err
		})
	if err != nil || len(ids) == 0 {
		return 0, after, err
	}
	vectors, err := e.Embed(ctx, texts)
	if err == nil {
		err = CheckVectors(vectors, e.Dimensions())
	}
	if err != nil {
		return 0, after, err
	}
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		queueVectors(&b, tenant, e.Name(), ids, vectors)
		return tx.SendBatch(ctx, &b).Close()
	})
	return len(ids), ids[len(ids)-1], err
}

// queueVectors writes vectors of passages that are still there: one that somebody is deleting is waited for.
func queueVectors(b *pgx.Batch, tenant uuid.UUID, model string, chunks []uuid.UUID, vectors [][]float32) {
	for i := range chunks {
		b.Queue(`INSERT INTO kb_vectors (tenant_id, chunk_id, model, embedding)
			SELECT c.tenant_id, c.id, $3, $4::real[]::vector FROM kb_chunks c
			 WHERE c.tenant_id = $1 AND c.id = $2 FOR KEY SHARE ON CONFLICT DO NOTHING`,
			tenant, chunks[i], model, vectors[i])
	}
}

// ServeModel has a tenant's searches be by a model from the caller's transaction on, by the first model where the name
// is empty, and returns the one before. ErrIncomplete, ErrNoModel say why not.
func ServeModel(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, model string) (before string, err error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock`+modelLock, tenant); err != nil {
		return "", fmt.Errorf("kb: serve %s: %w", model, err)
	}
	var there, missing bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM kb_models WHERE tenant_id = $1 AND model = $2),
		EXISTS (SELECT FROM kb_chunks c WHERE c.tenant_id = $1 AND NOT EXISTS (SELECT FROM kb_vectors v
		         WHERE v.tenant_id = $1 AND v.chunk_id = c.id AND v.model = $2))`, tenant, model).Scan(&there, &missing)
	switch {
	case err != nil:
	case model != "" && !there:
		err = ErrNoModel
	case model != "" && missing:
		err = ErrIncomplete
	default:
		err = tx.QueryRow(ctx, ServingSQL, tenant).Scan(&before)
	}
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE kb_models SET serving = false WHERE tenant_id = $1 AND serving`, tenant)
	}
	if err == nil {
		_, err = tx.Exec(ctx,
			`UPDATE kb_models SET serving = true, served_at = now() WHERE tenant_id = $1 AND model = $2`, tenant, model)
	}
	if err != nil {
		return "", fmt.Errorf("kb: serve %s: %w", model, err)
	}
	return before, nil
}

// DropModel deletes the vectors of a model that does not serve.
func DropModel(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, model string) error {
	var gone []string
	err := door.Query(ctx, tenant,
		`DELETE FROM kb_models WHERE tenant_id = $1 AND model = $2 AND NOT serving RETURNING model`,
		[]any{tenant, model}, func(rows pgx.Rows) (err error) {
			gone, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
	if err == nil && !slices.Contains(gone, model) {
		err = fmt.Errorf("%w, or it serves", ErrNoModel)
	}
	if err != nil {
		return fmt.Errorf("kb: drop %s: %w", model, err)
	}
	return nil
}
