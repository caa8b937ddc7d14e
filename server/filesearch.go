package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
)

// fileSearch is what the gateway's tool file_search does with the knowledge base: a vector store is a collection.
func (s *Server) fileSearch() gateway.FileSearch {
	return gateway.FileSearch{Check: s.checkFileSearch, Search: s.searchFiles}
}

// checkFileSearch refuses a search before a model is called for it.
func (s *Server) checkFileSearch(ctx context.Context, q gateway.FileQuery) error {
	who := principalOf(ctx)
	if !who.Can(access.KBRead) {
		return &gateway.Refusal{Status: http.StatusForbidden, Code: "permission_denied", Final: true,
			Message: fmt.Sprintf("this credential does not have the permission %s, which file_search needs",
				access.KBRead)}
	}
	if _, err := fileFilter(q); err != nil {
		return s.fileRefusal(ctx, q, err)
	}
	names := storeNames(q.Stores)
	ids, err := s.tenant(who).Collections().Find(ctx, names...)
	if err == nil && !slices.Equal(ids, q.Stores) { // a collection with another's id as its name
		err = kb.ErrNoCollection
	}
	return s.fileRefusal(ctx, q, err)
}

func storeNames(stores []uuid.UUID) []string {
	names := make([]string, len(stores))
	for i, id := range stores {
		names[i] = id.String()
	}
	return names
}

func fileFilter(q gateway.FileQuery) (*search.Filter, error) {
	if q.Filter == nil {
		return nil, nil
	}
	return search.ParseAttributeFilter(q.Filter)
}

// searchFiles searches collections with each query, and returns the best passages of all.
func (s *Server) searchFiles(ctx context.Context, q gateway.FileQuery) (r gateway.FileResults, err error) {
	who := principalOf(ctx)
	if err := s.checkFileSearch(ctx, q); err != nil { // a store may be gone meanwhile
		return r, err
	}
	if err := s.meter.SetCapacity(ctx, who, access.Searches, len(q.Queries), "searches"); err != nil {
		return r, s.fileRefusal(ctx, q, err)
	}
	filter, err := fileFilter(q)
	if err != nil {
		return r, s.fileRefusal(ctx, q, err)
	}
	mode := search.Hybrid
	if q.Semantic {
		mode = search.Semantic
	}
	questions := make([]konstruct.SearchRequest, len(q.Queries))
	for i, text := range q.Queries {
		questions[i] = konstruct.SearchRequest{Text: text, TopK: q.Max, UserID: q.User, ConversationID: q.Conversation,
			Extra: audit.Metadata{"trace_id": q.Trace, "parent_span_id": q.Parent}, Mode: mode,
			Collections: storeNames(q.Stores), Filter: filter, MinScore: q.Threshold}
	}
	all, err := s.agent(who, q.Agent).SearchBatch(ctx, questions)
	if err != nil {
		return r, s.fileRefusal(ctx, q, err)
	}
	hits := bestHits(all, q.Max)
	documents := make([]uuid.UUID, len(hits))
	for i, h := range hits {
		documents[i] = h.DocumentID
	}
	entries, err := s.tenant(who).Collections().EntriesIn(ctx, q.Stores, documents)
	if err != nil {
		return r, s.fileRefusal(ctx, q, err)
	}
	for i := range all {
		r.Events = append(r.Events, all[i].EventID)
	}
	for _, h := range hits {
		entry, there := entries[h.DocumentID]
		if !there { // it was taken out a moment ago
			entry.ID = h.DocumentID
		}
		r.Results = append(r.Results, gateway.FileResult{FileID: openAIID(filePrefix, entry.ID), Filename: h.Filename,
			Score: math.Round(max(0, min(1, h.Score))*1e4) / 1e4, Attributes: entry.Attributes, Text: h.Content})
	}
	return r, nil
}

// bestHits are those of several searches, each once, with its best score.
func bestHits(all []konstruct.SearchResult, most int) (hits []konstruct.Hit) {
	best := map[uuid.UUID]konstruct.Hit{}
	for _, r := range all {
		for _, h := range r.Hits {
			if one, there := best[h.ChunkID]; !there || h.Score > one.Score {
				best[h.ChunkID] = h
			}
		}
	}
	for _, h := range best {
		hits = append(hits, h)
	}
	slices.SortFunc(hits, func(x, y konstruct.Hit) int {
		return cmp.Or(cmp.Compare(y.Score, x.Score), strings.Compare(x.ChunkID.String(), y.ChunkID.String()))
	})
	return hits[:min(len(hits), most)]
}

// fileRefusal is what a caller of the gateway is told of a search's error.
func (s *Server) fileRefusal(ctx context.Context, q gateway.FileQuery, err error) error {
	var query *search.QueryError
	var name *kb.CollectionNameError
	const missing = "vector_store_not_found"
	bad := func(status int, code, param, reason string) error {
		return &gateway.Refusal{Status: status, Code: code, Param: param, Message: reason, Final: true}
	}
	store := func(id string) (at, shown string) {
		for i, one := range q.Stores {
			if one.String() == id {
				return fmt.Sprintf("vector_store_ids[%d]", i), openAIID(storePrefix, one)
			}
		}
		return "vector_store_ids", openAIID(storePrefix, q.Stores[0])
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &name) && errors.Is(err, kb.ErrCollectionExpired):
		at, id := store(name.Name)
		return bad(http.StatusBadRequest, "vector_store_expired", at, fmt.Sprintf("Vector store %s has expired.", id))
	case errors.As(err, &name) || errors.Is(err, kb.ErrNoCollection):
		at, id := "vector_store_ids", openAIID(storePrefix, q.Stores[0])
		if name != nil {
			at, id = store(name.Name)
		}
		return bad(http.StatusNotFound, missing, at, fmt.Sprintf("Vector store with id %s not found.", id))
	case errors.As(err, &query) && query.Field == "collections": // gone between the look and the search
		return bad(http.StatusNotFound, missing, "vector_store_ids", "A vector store is not there any more.")
	case errors.As(err, &query):
		return bad(http.StatusBadRequest, "invalid_value", query.Field, query.Reason)
	}
	p := s.errorResponse(ctx, err)
	code := "file_search_failed"
	if p.Status == http.StatusTooManyRequests {
		code = "rate_limit_exceeded"
	}
	return &gateway.Refusal{Status: p.Status, Code: code, Message: "file_search: " + p.Detail,
		RetryAfter: int(math.Ceil(p.after.Seconds()))}
}
