package konstruct

import (
	"context"
	"iter"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/kb"
)

// List returns the documents in the order of their ids, after the given one (uuid.Nil: from the
// first), at most limit of them.
func (g Documents) List(ctx context.Context, after uuid.UUID, limit int) ([]Document, error) {
	return kb.ListDocuments(ctx, g.t.k.door, g.t.id, after, limit)
}

// All yields every document, in the order of their ids. An error is the last that is yielded.
func (g Documents) All(ctx context.Context) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for after := uuid.Nil; ; {
			page, err := g.List(ctx, after, kb.MaxList)
			if err != nil {
				yield(Document{}, err)
				return
			}
			for _, d := range page {
				if !yield(d, nil) {
					return
				}
				after = d.ID
			}
			if len(page) < kb.MaxList {
				return
			}
		}
	}
}

// Get returns a document and its passages.
func (g Documents) Get(ctx context.Context, id uuid.UUID) (Document, []Passage, error) {
	return kb.GetDocument(ctx, g.t.k.door, g.t.id, id)
}

// List lists ingest jobs, in one state (empty: any), after the given one (uuid.Nil: from the first), at most limit of
// them.
func (g Jobs) List(ctx context.Context, state kb.JobState, after uuid.UUID, limit int) ([]Job, error) {
	return kb.ListJobs(ctx, g.t.k.door, g.t.id, state, after, limit)
}

// Get returns one of them; kb.ErrNoJob when it is gone.
func (g Jobs) Get(ctx context.Context, id uuid.UUID) (Job, error) {
	return kb.GetJob(ctx, g.t.k.door, g.t.id, id)
}

// Count counts them by state.
func (g Jobs) Count(ctx context.Context) (map[kb.JobState]int, error) {
	return kb.CountJobs(ctx, g.t.k.door, g.t.id)
}

// Cancel cancels jobs that are queued or running, and returns how many. With no ids it is all of the tenant's, as in
// Retry and Delete.
func (g Jobs) Cancel(ctx context.Context, ids ...uuid.UUID) (int, error) {
	return kb.CancelJobs(ctx, g.t.k.door, g.t.id, ids...)
}

// Retry queues jobs again that failed, and returns how many.
func (g Jobs) Retry(ctx context.Context, ids ...uuid.UUID) (int, error) {
	return kb.RetryJobs(ctx, g.t.k.door, g.t.id, ids...)
}

// Delete deletes jobs that ended, and returns how many.
func (g Jobs) Delete(ctx context.Context, ids ...uuid.UUID) (int, error) {
	return kb.DeleteJobs(ctx, g.t.k.door, g.t.id, ids...)
}

// List lists the models whose vectors the knowledge base has beside those of the first.
func (g Models) List(ctx context.Context) ([]kb.Model, error) {
	return kb.ListModels(ctx, g.t.k.door, g.t.id)
}

// Delete deletes the vectors of a model that does not serve.
func (g Models) Delete(ctx context.Context, model string) error {
	return kb.DropModel(ctx, g.t.k.door, g.t.id, model)
}

// Versions returns what a document was before it was replaced, the newest first.
func (g Documents) Versions(ctx context.Context, document uuid.UUID) ([]kb.Version, error) {
	return kb.Versions(ctx, g.t.k.door, g.t.id, document)
}

// Passage shows a passage in its place, with so many bytes of its document before and after it; kb.ErrNotFound when it
// is gone.
func (g Documents) Passage(ctx context.Context, chunk uuid.UUID, around int) (kb.PassageContext, error) {
	return kb.GetPassage(ctx, g.t.k.door, g.t.id, chunk, around)
}
