package mcpserver

import (
	"context"
	"errors"
	"net/url"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/search"
)

// searchName is the tool that counts as a search.
const searchName = "search"

// searchArguments are those of search. Further ones of the library's SearchRequest are added here and in request:
// nothing else of the package knows them.
type searchArguments struct {
	Query string `json:"query" min:"1" max:"32768" jsonschema:"a question, or words"`
	Limit int    `json:"limit,omitempty" min:"1" max:"100" default:"5" jsonschema:"largest number of passages"`

	Collections []string `json:"collections,omitempty" max:"100" jsonschema:"names or ids; without, all documents"`

	Filter []string `json:"filter,omitempty" max:"100" jsonschema:"as type=text/html or metadata.team=legal"`
	Mode   string   `json:"mode,omitempty" enum:"hybrid,semantic,lexical" default:"\"hybrid\"" jsonschema:"how"`
	Cursor string   `json:"cursor,omitempty" max:"300" jsonschema:"next_cursor of the page before"`
	conversation
}

// request converts the arguments for the library.
func (in *searchArguments) request(c *call) (q konstruct.SearchRequest, err error) {
	q = konstruct.SearchRequest{Text: in.Query, TopK: in.Limit, Mode: search.Mode(in.Mode), After: in.Cursor,
		Collections: in.Collections, UserID: c.UserID, ConversationID: c.run(), Extra: c.toolMetadata()}
	for _, one := range in.Filter {
		condition, err := search.ParseCondition(one)
		if err == nil {
			err = condition.Check()
		}
		if err != nil {
			return q, err
		}
		q.Where = append(q.Where, condition)
	}
	return q, nil
}

// searchResults are documents with the passages that match, as ChatGPT's connectors read them: id, title and url.
type searchResults struct {
	Results  []searchResult `json:"results"`
	Next     string         `json:"next_cursor,omitempty" jsonschema:"cursor of the next page; missing on the last one"`
	Event    uuid.UUID      `json:"event_id" jsonschema:"the retrieval on the trail, which cites these passages"`
	Fallback string         `json:"fallback,omitempty" jsonschema:"why the search was lexical only"`
}

type searchResult struct {
	ID       uuid.UUID `json:"id" jsonschema:"the document's: fetch reads it"`
	Title    string    `json:"title"`
	URL      string    `json:"url"`
	Version  int       `json:"version"`
	Passages []passage `json:"passages" jsonschema:"best first"`
}

type passage struct {
	ID       uuid.UUID `json:"id" jsonschema:"the passage's: cite and fetch read it"`
	Text     string    `json:"text"`
	Score    float64   `json:"score"`
	Headings []string  `json:"headings,omitempty"`
	Page     int       `json:"page,omitempty" jsonschema:"from 1"`
}

// framed implements untrusted.
func (r searchResults) framed(b boundary) any {
	results := make([]searchResult, len(r.Results))
	for i, one := range r.Results {
		results[i] = one
		results[i].Passages = make([]passage, len(one.Passages))
		for j, p := range one.Passages {
			p.Text = b.frame(passageURI(p.ID), p.Text)
			results[i].Passages[j] = p
		}
	}
	r.Results = results
	return r
}

// sources implements untrusted.
func (r searchResults) sources() (all []string) {
	for _, one := range r.Results {
		all = append(all, documentURI(one.ID))
	}
	return all
}

func (s *Server) searchTool() tool {
	return newTool(searchName, "Search the knowledge base",
		"Finds passages of the knowledge base's documents for a question, and returns their documents, best first. "+
			"The retrieval is on the audit trail with the passages that were returned.", reads,
		func(ctx context.Context, c *call, in searchArguments) (out searchResults, err error) {
			q, err := in.request(c)
			if err == nil {
				var found konstruct.SearchResult
				if found, err = c.agent().SearchWith(ctx, q); err == nil {
					c.event, c.recorded = found.EventID, true // no result without it
					return newSearchResults(found), nil
				}
			}
			var bad *search.QueryError
			if errors.As(err, &bad) {
				err = argument(argumentOf(bad.Field), "%s", bad.Reason)
			}
			return out, err
		}, access.KBRead)
}

// argumentOf returns what search calls a field of the library's request.
func argumentOf(field string) string {
	switch field {
	case "text":
		return "query"
	case "top-k":
		return "limit"
	case "where":
		return "filter"
	case "after":
		return "cursor"
	}
	return field
}

// newSearchResults puts the passages of one document together, in the order of the best of each.
func newSearchResults(found konstruct.SearchResult) searchResults {
	out := searchResults{Results: []searchResult{}, Next: found.Next, Event: found.EventID, Fallback: found.Fallback}
	at := map[uuid.UUID]int{}
	for _, h := range found.Hits {
		i, there := at[h.DocumentID]
		if !there {
			i = len(out.Results)
			at[h.DocumentID] = i
			out.Results = append(out.Results, searchResult{ID: h.DocumentID, Title: titleOf(h.Title, h.Filename),
				URL: addressOf(h.Source, h.DocumentID), Version: h.Version})
		}
		out.Results[i].Passages = append(out.Results[i].Passages, passage{ID: h.ChunkID, Text: h.Content,
			Score: h.Score, Headings: h.Headings, Page: h.Page})
	}
	return out
}

// titleOf returns a document's title, or its file's name.
func titleOf(title, filename string) string {
	if title != "" {
		return title
	}
	return filename
}

// addressOf returns where people read a document: its page on the web, or its address here.
func addressOf(source string, document uuid.UUID) string {
	if u, err := url.Parse(source); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
		return source
	}
	return documentURI(document)
}
