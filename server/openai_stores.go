package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/kb"
)

// openAIStore is a vector store: a collection.
type openAIStore struct {
	ID           string            `json:"id"`
	Object       string            `json:"object"`
	CreatedAt    int64             `json:"created_at"`
	Name         string            `json:"name"`
	Description  *string           `json:"description"`
	UsageBytes   int64             `json:"usage_bytes"`
	FileCounts   openAIFileCounts  `json:"file_counts"`
	Status       string            `json:"status"`
	ExpiresAfter *openAIExpiry     `json:"expires_after"`
	ExpiresAt    *int64            `json:"expires_at"`
	LastActiveAt int64             `json:"last_active_at"`
	Metadata     map[string]string `json:"metadata"`
}

// openAIExpiry is when a vector store expires.
type openAIExpiry struct {
	Anchor string `json:"anchor"`
	Days   int    `json:"days"`
}

// openAIFileCounts are how many files of a vector store, or of a batch, have which status.
type openAIFileCounts struct {
	InProgress int `json:"in_progress"`
	Completed  int `json:"completed"`
	Failed     int `json:"failed"`
	Cancelled  int `json:"cancelled"`
	Total      int `json:"total"`
}

func newOpenAIStore(c konstruct.Collection) openAIStore {
	out := openAIStore{ID: openAIID(storePrefix, c.ID), Object: "vector_store", CreatedAt: c.CreatedAt.Unix(),
		Name: c.Name, UsageBytes: c.Bytes, LastActiveAt: c.LastActiveAt.Unix(), Status: "completed",
		Metadata: map[string]string{},
		FileCounts: openAIFileCounts{c.Pending, c.Documents, c.Failed, c.Cancelled,
			c.Pending + c.Documents + c.Failed + c.Cancelled}}
	switch {
	case c.Expired:
		out.Status = "expired"
	case c.Pending > 0:
		out.Status = "in_progress"
	}
	if c.Description != "" {
		out.Description = &c.Description
	}
	if c.ExpiresDays > 0 {
		out.ExpiresAfter = &openAIExpiry{"last_active_at", c.ExpiresDays}
		out.ExpiresAt = new(c.ExpiresAt().Unix())
	}
	for key, v := range c.Metadata { // those of this API's own collections may be any JSON
		text, is := v.(string)
		if !is {
			raw, _ := json.Marshal(v) // it was decoded from JSON
			text = string(raw)
		}
		out.Metadata[key] = text
	}
	return out
}

// openAIStoreForm is what a client sets on a vector store.
type openAIStoreForm struct {
	Name         *string           `json:"name"`
	Description  *string           `json:"description"`
	Metadata     map[string]string `json:"metadata"`
	ExpiresAfter json.RawMessage   `json:"expires_after"`
	Labels       []string          `json:"labels"` // not OpenAI's: who may see it
}

// Limits on metadata: OpenAI's.
const (
	maxPairs = 16
	maxKey   = 64  // characters
	maxValue = 512 // characters
	maxDays  = 365
)

// options validates the form and converts it for the library.
func (f *openAIStoreForm) options(w access.Principal) (o konstruct.CollectionOptions, err error) {
	o = konstruct.CollectionOptions{Name: f.Name, Description: f.Description, Labels: f.Labels, SharedName: true}
	if len(f.Metadata) > maxPairs {
		return o, openAIField("metadata", fmt.Sprintf("%d pairs, the limit is %d", len(f.Metadata), maxPairs))
	}
	if f.Metadata != nil {
		o.Metadata = map[string]any{}
	}
	for key, v := range f.Metadata {
		switch n, m := utf8.RuneCountInString(key), utf8.RuneCountInString(v); {
		case n < 1 || n > maxKey:
			return o, openAIField(
				"metadata",
				fmt.Sprintf("the key %.80q has %d characters: it is 1 to %d", key, n, maxKey),
			)
		case m > maxValue:
			return o, openAIField("metadata", fmt.Sprintf("%.80q has %d characters, the limit is %d", key, m, maxValue))
		}
		o.Metadata[key] = v
	}
	if len(f.ExpiresAfter) > 0 {
		var x *struct {
			Anchor string `json:"anchor"`
			Days   int    `json:"days"`
		}
		if err := json.Unmarshal(f.ExpiresAfter, &x); err != nil {
			return o, openAIField("expires_after", "it is an object with anchor and days, or null")
		}
		switch {
		case x == nil:
			o.ExpiresDays = new(0)
		case x.Anchor != "last_active_at":
			return o, openAIField("expires_after.anchor", "it is last_active_at")
		case x.Days < 1 || x.Days > maxDays:
			return o, openAIField("expires_after.days", fmt.Sprintf("%d: it is 1 to %d", x.Days, maxDays))
		default:
			o.ExpiresDays = &x.Days
		}
	}
	if err := checkLabels(w, f.Labels, "body"); err != nil {
		return o, err
	}
	return o, openAIFieldOf(o.Check())
}

func (s *Server) openAIStores() {
	s.openAI("POST vector_stores", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			var in struct {
				openAIStoreForm
				FileIDs  []string        `json:"file_ids"`
				Chunking *openAIChunking `json:"chunking_strategy"`
			}
			if err := readOpenAI(r, &in); err != nil {
				return nil, err
			}
			o, err := in.options(w)
			if err != nil {
				return nil, err
			}
			all, err := openAIAttachments("file_ids", in.FileIDs, nil, in.Chunking)
			if err == nil {
				err = s.documentRoom(ctx, w, len(all))
			}
			if err != nil {
				return nil, err
			}
			c, _, err := s.agent(w, w.Agent).CreateCollectionOf(ctx, o, all)
			return newOpenAIStore(c), err
		})
	s.openAI("GET vector_stores", access.KBRead,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			page, _, err := openAIQuery(r, storePrefix, 20, 100)
			if err != nil {
				return nil, err
			}
			all, more, err := s.tenant(w).Collections().Page(ctx, page)
			return newOpenAIList(all, more, func(c konstruct.Collection) (string, any) {
				return openAIID(storePrefix, c.ID), newOpenAIStore(c)
			}), err
		})
	s.openAI("GET vector_stores/{store}", access.KBRead,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			c, err := s.findStore(ctx, w, r)
			return newOpenAIStore(c), err
		})
	s.openAI("POST vector_stores/{store}", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			id, err := pathID(r, "store", storePrefix)
			if err != nil {
				return nil, err
			}
			var in openAIStoreForm
			if err := readOpenAI(r, &in); err != nil {
				return nil, err
			}
			o, err := in.options(w)
			if err != nil {
				return nil, err
			}
			c, _, err := s.agent(w, w.Agent).UpdateCollection(ctx, id, o)
			return newOpenAIStore(c), err
		})
	s.openAI("DELETE vector_stores/{store}", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			id, err := pathID(r, "store", storePrefix)
			if err != nil {
				return nil, err
			}
			_, _, err = s.agent(w, w.Agent).DeleteCollection(ctx, id)
			return openAIDeleted{r.PathValue("store"), "vector_store.deleted", true}, err
		})
	s.openAI("POST vector_stores/{store}/search", access.KBRead, s.searchStore)
}

// findStore returns the vector store of a path.
func (s *Server) findStore(ctx context.Context, w access.Principal, r *http.Request) (c konstruct.Collection,
	err error) {
	id, err := pathID(r, "store", storePrefix)
	if err != nil {
		return c, err
	}
	c, err = s.tenant(w).Collections().Get(ctx, id.String())
	if name := (*kb.CollectionNameError)(nil); errors.As(err, &name) {
		err = kb.ErrNoCollection
	}
	return c, err
}
