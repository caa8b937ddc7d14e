package konstruct

import (
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// List returns at most limit documents in the order of their ids, beginning after the given id; uuid.Nil begins with
// the first.
func (g Documents) List(ctx context.Context, after uuid.UUID, limit int) ([]Document, error) {
	return kb.ListDocuments(ctx, g.t.k.door, g.t.id, after, limit)
}

// All yields every document in the order of their ids. After an error it stops.
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

// Find returns a document without its passages, or kb.ErrNotFound.
func (g Documents) Find(ctx context.Context, id uuid.UUID) (Document, error) {
	return kb.FindDocument(ctx, g.t.k.door, g.t.id, id)
}

// WholeText returns the text of a document, or kb.ErrNotFound.
func (g Documents) WholeText(ctx context.Context, id uuid.UUID) (string, error) {
	return kb.DocumentText(ctx, g.t.k.door, g.t.id, id)
}

// List returns at most limit ingest jobs in one state (empty: any), beginning after the given id; uuid.Nil begins with
// the first.
func (g Jobs) List(ctx context.Context, state kb.JobState, after uuid.UUID, limit int) ([]Job, error) {
	return kb.ListJobs(ctx, g.t.k.door, g.t.id, state, after, limit)
}

// Get returns one job, or kb.ErrNoJob when it does not exist.
func (g Jobs) Get(ctx context.Context, id uuid.UUID) (Job, error) {
	return kb.GetJob(ctx, g.t.k.door, g.t.id, id)
}

// Count counts the jobs by state.
func (g Jobs) Count(ctx context.Context) (map[kb.JobState]int, error) {
	return kb.CountJobs(ctx, g.t.k.door, g.t.id)
}

// Cancel cancels queued and running jobs, and returns how many. Without ids it cancels all of the tenant's; Retry and
// Delete do the same.
func (g Jobs) Cancel(ctx context.Context, ids ...uuid.UUID) (int, error) {
	return kb.CancelJobs(ctx, g.t.k.door, g.t.id, ids...)
}

// Retry queues failed jobs again, and returns how many.
func (g Jobs) Retry(ctx context.Context, ids ...uuid.UUID) (int, error) {
	return kb.RetryJobs(ctx, g.t.k.door, g.t.id, ids...)
}

// Delete deletes jobs that have ended, and returns how many.
func (g Jobs) Delete(ctx context.Context, ids ...uuid.UUID) (int, error) {
	return kb.DeleteJobs(ctx, g.t.k.door, g.t.id, ids...)
}

// List lists the models that have vectors in the knowledge base beside those of the first model.
func (g Models) List(ctx context.Context) ([]kb.Model, error) {
	return kb.ListModels(ctx, g.t.k.door, g.t.id)
}

// Delete deletes the vectors of a model that searches do not use.
func (g Models) Delete(ctx context.Context, model string) error {
	return kb.DropModel(ctx, g.t.k.door, g.t.id, model)
}

// Versions returns the earlier versions of a document, the newest first.
func (g Documents) Versions(ctx context.Context, document uuid.UUID) ([]kb.Version, error) {
	return kb.Versions(ctx, g.t.k.door, g.t.id, document)
}

// Passage returns a passage with up to around bytes of its document before and after it, or kb.ErrNotFound.
func (g Documents) Passage(ctx context.Context, chunk uuid.UUID, around int) (kb.PassageContext, error) {
	return kb.GetPassage(ctx, g.t.k.door, g.t.id, chunk, around)
}

// Text returns the part of a document's text that begins at offset and has at most limit bytes: see kb.GetText.
func (g Documents) Text(ctx context.Context, document uuid.UUID, offset, limit int) (kb.TextPage, error) {
	return kb.GetText(ctx, g.t.k.door, g.t.id, document, offset, limit)
}

// Stored returns a passage as it is stored now, also one that another client wrote, or kb.ErrNotFound.
func (g Documents) Stored(ctx context.Context, chunk uuid.UUID) (kb.StoredPassage, error) {
	found, err := kb.PassagesByID(ctx, g.t.k.door, g.t.id, []uuid.UUID{chunk})
	if err != nil {
		return kb.StoredPassage{}, err
	}
	p, there := found[chunk]
	if !there {
		return p, fmt.Errorf("passage %s: %w", chunk, kb.ErrNotFound)
	}
	return p, nil
}

// Language returns the language that the tenant's texts are read in where they give no evidence of another, as english:
// the one that was set, or else that of most of its documents.
func (g Documents) Language(ctx context.Context) (language string, err error) {
	err = g.t.k.door.Tx(ctx, g.t.id, func(ctx context.Context, tx pgx.Tx) error {
		language, err = kb.DefaultLanguage(ctx, tx, g.t.id)
		return err
	})
	return language, err
}

// SetLanguage sets that language, by its name or code (german, de); empty has it follow the documents again. What is
// stored already stays as it was read, until RereadLanguages. For another name it returns a kb.LanguageError.
func (g Documents) SetLanguage(ctx context.Context, language string) error {
	return g.t.k.door.Tx(ctx, g.t.id, func(ctx context.Context, tx pgx.Tx) error {
		return kb.SetDefaultLanguage(ctx, tx, g.t.id, language)
	})
}

// RereadLanguages looks at the language of every document's text again, as if it were ingested now, and has searches
// read those in another one anew. It returns how many these were. progress, when not nil, is called with the number of
// documents looked at since its last call.
func (g Documents) RereadLanguages(ctx context.Context, progress func(int)) (int, error) {
	return kb.RereadLanguages(tenantdb.Trusted(ctx), g.t.k.door, g.t.id, progress)
}
