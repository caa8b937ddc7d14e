package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/kb"
)

// openAIStoreFile is a file in a vector store.
type openAIStoreFile struct {
	ID            string           `json:"id"`
	Object        string           `json:"object"`
	CreatedAt     int64            `json:"created_at"`
	UsageBytes    int64            `json:"usage_bytes"`
	VectorStoreID string           `json:"vector_store_id"`
	Status        string           `json:"status"`
	LastError     *openAILastError `json:"last_error"`
	Attributes    map[string]any   `json:"attributes"`
	Chunking      openAIChunking   `json:"chunking_strategy"`
}

// openAILastError is why a file was not ingested.
type openAILastError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// openAIChunking is how a file is split: auto, static, or other, which is what auto is here.
type openAIChunking struct {
	Type   string             `json:"type"`
	Static *kb.StaticChunking `json:"static,omitempty"`
}

// static returns the asked for splitting; nil is the default.
func (c *openAIChunking) static() (*kb.StaticChunking, error) {
	switch {
	case c == nil:
		return nil, nil
	case c.Type == "static" && c.Static != nil:
		a := kb.Attachment{Chunking: c.Static}
		if err := openAIFieldOf(a.Check()); err != nil {
			p := err.(*Problem) //nolint:errorlint // it is made there
			return nil, openAIField("chunking_strategy.static."+p.Errors[0].Location, p.Errors[0].Message)
		}
		return c.Static, nil
	case c.Type == "static":
		return nil, openAIField("chunking_strategy.static", "it is missing")
	case c.Type != "auto":
		return nil, openAIField("chunking_strategy.type", fmt.Sprintf("%.40q: it is auto or static", c.Type))
	case c.Static != nil:
		return nil, openAIField("chunking_strategy.static", "it does not go with auto")
	}
	return nil, nil
}

// openAIAttachments are files that are attached with the same attributes and splitting.
func openAIAttachments(field string, names []string, attributes map[string]any,
	chunking *openAIChunking) (all []konstruct.Attachment, err error) {
	ids, err := fileIDs(field, names)
	if err != nil {
		return nil, err
	}
	static, err := chunking.static()
	if err != nil {
		return nil, err
	}
	if err := kb.CheckAttributes(attributes); err != nil {
		return nil, openAIFieldOf(err)
	}
	for _, id := range ids {
		all = append(all, konstruct.Attachment{File: id, Attributes: attributes, Chunking: static})
	}
	return all, nil
}

// entryStates are OpenAI's statuses of a file in a vector store.
var entryStates = map[string][]kb.JobState{"in_progress": {kb.JobQueued, kb.JobRunning}, "completed": {kb.JobDone},
	"failed": {kb.JobFailed}, "cancelled": {kb.JobCancelled}}

func newOpenAIStoreFile(store uuid.UUID, e kb.Entry) openAIStoreFile {
	out := openAIStoreFile{ID: fileID(e.ID), Object: "vector_store.file", CreatedAt: e.AddedAt.Unix(),
		UsageBytes: e.Bytes, VectorStoreID: openAIID(storePrefix, store), Attributes: e.Attributes,
		Chunking: openAIChunking{Type: "other"}}
	for status, states := range entryStates {
		for _, state := range states {
			if state == e.State {
				out.Status = status
			}
		}
	}
	if e.State == kb.JobFailed {
		out.LastError = &openAILastError{string(kb.KindOfFailure(e.Reason)), e.Reason}
	}
	if e.Chunking != nil {
		out.Chunking = openAIChunking{"static", e.Chunking}
	}
	return out
}

// storeAndFile reads the ids of a path.
func storeAndFile(r *http.Request) (store, file uuid.UUID, err error) {
	if store, err = pathID(r, "store", storePrefix); err == nil {
		file, err = pathID(r, "file", filePrefix)
	}
	return store, file, err
}

func (s *Server) openAIStoreFiles() {
	s.openAI("POST vector_stores/{store}/files", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			store, err := pathID(r, "store", storePrefix)
			if err != nil {
				return nil, err
			}
			var in struct {
				FileID     string          `json:"file_id"`
				Attributes map[string]any  `json:"attributes"`
				Chunking   *openAIChunking `json:"chunking_strategy"`
			}
			if err := readOpenAI(r, &in); err != nil {
				return nil, err
			}
			if in.FileID == "" {
				return nil, openAIField("file_id", "it is missing")
			}
			all, err := openAIAttachments("file_id", []string{in.FileID}, in.Attributes, in.Chunking)
			if err == nil {
				err = s.documentRoom(ctx, w, 1)
			}
			if err == nil {
				_, err = s.agent(w, w.Agent).Attach(ctx, store, all...)
			}
			if err != nil {
				return nil, err
			}
			e, err := s.tenant(w).Collections().Entry(ctx, store, all[0].File)
			return newOpenAIStoreFile(store, e), err
		})
	s.openAI("GET vector_stores/{store}/files", access.KBRead,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			store, err := pathID(r, "store", storePrefix)
			if err != nil {
				return nil, err
			}
			return s.listStoreFiles(ctx, w, r, store, nil)
		})
	s.openAI("GET vector_stores/{store}/files/{file}", access.KBRead,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			store, file, err := storeAndFile(r)
			if err != nil {
				return nil, err
			}
			e, err := s.tenant(w).Collections().Entry(ctx, store, file)
			return newOpenAIStoreFile(store, e), err
		})
	s.openAI("POST vector_stores/{store}/files/{file}", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			store, file, err := storeAndFile(r)
			if err != nil {
				return nil, err
			}
			var in struct {
				Attributes json.RawMessage `json:"attributes"`
			}
			if err := readOpenAI(r, &in); err != nil {
				return nil, err
			}
			var attributes map[string]any
			if len(in.Attributes) == 0 {
				return nil, openAIField("attributes", "it is missing: null takes all away")
			}
			if err := json.Unmarshal(in.Attributes, &attributes); err != nil {
				return nil, openAIField("attributes", "it is an object")
			}
			if err := kb.CheckAttributes(attributes); err != nil {
				return nil, openAIFieldOf(err)
			}
			e, _, err := s.agent(w, w.Agent).SetAttributes(ctx, store, file, attributes)
			return newOpenAIStoreFile(store, e), err
		})
	s.openAI("DELETE vector_stores/{store}/files/{file}", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			store, file, err := storeAndFile(r)
			if err != nil {
				return nil, err
			}
			_, err = s.agent(w, w.Agent).Detach(ctx, store, file)
			return openAIDeleted{r.PathValue("file"), "vector_store.file.deleted", true}, err
		})
	s.openAIRaw("GET vector_stores/{store}/files/{file}/content", access.KBRead, s.storeFileContent)
}

// listStoreFiles lists the files of a vector store, or those of one batch.
func (s *Server) listStoreFiles(ctx context.Context, w access.Principal, r *http.Request, store uuid.UUID,
	batch *uuid.UUID) (any, error) {
	page, q, err := openAIQuery(r, filePrefix, 20, 100, "filter")
	if err != nil {
		return nil, err
	}
	f := kb.EntryFilter{Page: page, Batch: batch}
	if v := q.Get("filter"); v != "" {
		if f.States = entryStates[v]; f.States == nil {
			return nil, openAIField(
				"filter",
				fmt.Sprintf("%.40q: it is in_progress, completed, failed or cancelled", v),
			)
		}
	}
	all, more, err := s.tenant(w).Collections().Entries(ctx, store, f)
	return newOpenAIList(all, more, func(e kb.Entry) (string, any) {
		return fileID(e.ID), newOpenAIStoreFile(store, e)
	}), err
}

// storeFileContent sends the text that was ingested of a file.
func (s *Server) storeFileContent(w http.ResponseWriter, r *http.Request) error {
	ctx, who := r.Context(), principalOf(r.Context())
	store, file, err := storeAndFile(r)
	if err != nil {
		return err
	}
	e, err := s.tenant(who).Collections().Entry(ctx, store, file)
	if err != nil {
		return err
	}
	content := []openAIContent{}
	if e.DocumentID != nil {
		release, err := s.fileMemory(ctx, who.Tenant, e.Bytes)
		if err != nil {
			return err
		}
		defer release()
		text, _, err := s.tenant(who).Collections().EntryText(ctx, store, file)
		if err != nil {
			return err
		}
		content = append(content, openAIContent{"text", text})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "vector_store.file_content.page", "file_id": fileID(file),
		"filename": e.Filename, "attributes": e.Attributes, "content": content, "data": content, "has_more": false,
		"next_page": nil})
	return nil
}

// openAIContent is a piece of text.
type openAIContent struct {
	Type string `json:"type"`
	Text string `json:"text"`
}
