package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/kb"
)

// openAIBatch is files that were attached to a vector store together.
type openAIBatch struct {
	ID            string           `json:"id"`
	Object        string           `json:"object"`
	CreatedAt     int64            `json:"created_at"`
	VectorStoreID string           `json:"vector_store_id"`
	Status        string           `json:"status"`
	FileCounts    openAIFileCounts `json:"file_counts"`
}

func newOpenAIBatch(b kb.Batch) openAIBatch {
	out := openAIBatch{
		ID:            openAIID(batchPrefix, b.ID),
		Object:        "vector_store.files_batch",
		CreatedAt:     b.CreatedAt.Unix(),
		VectorStoreID: openAIID(storePrefix, b.Collection),
		Status:        "completed",
		FileCounts: openAIFileCounts{
			b.Pending,
			b.Done,
			b.Failed,
			b.Withdrawn,
			b.Pending + b.Done + b.Failed + b.Withdrawn,
		},
	}
	switch {
	case b.Cancelled:
		out.Status = "cancelled"
	case b.Pending > 0:
		out.Status = "in_progress"
	case b.Failed > 0 && b.Done == 0:
		out.Status = "failed"
	}
	return out
}

// storeAndBatch reads the ids of a path.
func storeAndBatch(r *http.Request) (store, batch uuid.UUID, err error) {
	if store, err = pathID(r, "store", storePrefix); err == nil {
		batch, err = pathID(r, "batch", batchPrefix)
	}
	return store, batch, err
}

func (s *Server) openAIBatches() {
	s.openAI("POST vector_stores/{store}/file_batches", access.KBWrite, s.createOpenAIBatch)
	s.openAI("GET vector_stores/{store}/file_batches/{batch}", access.KBRead,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			store, batch, err := storeAndBatch(r)
			if err != nil {
				return nil, err
			}
			b, err := s.tenant(w).Collections().Batch(ctx, store, batch)
			return newOpenAIBatch(b), err
		})
	s.openAI("POST vector_stores/{store}/file_batches/{batch}/cancel", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			store, batch, err := storeAndBatch(r)
			if err == nil {
				err = readOpenAI(r, &struct{}{})
			}
			if err != nil {
				return nil, err
			}
			b, _, err := s.agent(w, w.Agent).CancelBatch(ctx, store, batch)
			return newOpenAIBatch(b), err
		})
	s.openAI("GET vector_stores/{store}/file_batches/{batch}/files", access.KBRead,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			store, batch, err := storeAndBatch(r)
			if err == nil {
				_, err = s.tenant(w).Collections().Batch(ctx, store, batch)
			}
			if err != nil {
				return nil, err
			}
			return s.listStoreFiles(ctx, w, r, store, &batch)
		})
}

// createOpenAIBatch attaches files together.
func (s *Server) createOpenAIBatch(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
	store, err := pathID(r, "store", storePrefix)
	if err != nil {
		return nil, err
	}
	var in struct {
		FileIDs    []string        `json:"file_ids"`
		Attributes map[string]any  `json:"attributes"`
		Chunking   *openAIChunking `json:"chunking_strategy"`
		Files      []struct {
			FileID     string          `json:"file_id"`
			Attributes map[string]any  `json:"attributes"`
			Chunking   *openAIChunking `json:"chunking_strategy"`
		} `json:"files"`
	}
	if err := readOpenAI(r, &in); err != nil {
		return nil, err
	}
	var all []konstruct.Attachment
	switch {
	case len(in.FileIDs) > 0 && len(in.Files) > 0:
		return nil, openAIField("files", "it does not go with file_ids")
	case len(in.Files) > kb.MaxAttachments:
		return nil, openAIField("files", fmt.Sprintf("there are %d, the limit is %d", len(in.Files), kb.MaxAttachments))
	case len(in.Files) > 0:
		for i, f := range in.Files {
			one, err := openAIAttachments(
				fmt.Sprintf("files[%d].file_id", i),
				[]string{f.FileID},
				f.Attributes,
				f.Chunking,
			)
			if err != nil {
				return nil, err
			}
			all = append(all, one...)
		}
	case len(in.FileIDs) == 0:
		return nil, openAIField("file_ids", "there are none")
	default:
		if all, err = openAIAttachments("file_ids", in.FileIDs, in.Attributes, in.Chunking); err != nil {
			return nil, err
		}
	}
	if err := s.documentRoom(ctx, w, len(all)); err != nil {
		return nil, err
	}
	b, _, err := s.agent(w, w.Agent).AttachBatch(ctx, store, all)
	return newOpenAIBatch(b), err
}
