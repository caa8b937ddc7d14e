package mcpserver

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/kb"
)

// defaultAround is how many bytes of text cite returns before and after a passage.
const defaultAround = 300

type citeArguments struct {
	Passage string `json:"passage_id" min:"1" max:"200" jsonschema:"the passage's id, as search returned it"`
	Event   string `json:"event_id,omitempty" max:"100" jsonschema:"of the search: is the passage still the same?"`
	Around  *int   `json:"around,omitempty" min:"0" max:"4000" default:"300" jsonschema:"bytes before and after"`
	conversation
}

// citation is a passage with all that it takes to find and check it.
type citation struct {
	Passage   uuid.UUID       `json:"passage_id"`
	Document  uuid.UUID       `json:"document_id"`
	Title     string          `json:"title"`
	URL       string          `json:"url"`
	Quote     string          `json:"quote"`
	Before    string          `json:"before,omitempty"`
	After     string          `json:"after,omitempty"`
	Headings  []string        `json:"headings,omitempty"`
	Page      int             `json:"page,omitempty" jsonschema:"from 1"`
	Start     int             `json:"start,omitempty" jsonschema:"of the passage in the document's text, in bytes"`
	End       int             `json:"end,omitempty"`
	SHA256    string          `json:"sha256" jsonschema:"of the quote"`
	Version   int             `json:"version" jsonschema:"of the document"`
	Retrieval *retrievalState `json:"retrieval,omitempty"`
}

type retrievalState struct {
	Event uuid.UUID `json:"event_id"`
	Rank  int       `json:"rank" jsonschema:"from 1"`
	Score float64   `json:"score"`
	State string    `json:"state" jsonschema:"unchanged, or changed since the search"`
}

// framed implements untrusted.
func (c citation) framed(b boundary) any {
	source := passageURI(c.Passage)
	c.Quote, c.Before, c.After = b.frame(source, c.Quote), b.frame(source, c.Before), b.frame(source, c.After)
	return c
}

// sources implements untrusted.
func (c citation) sources() []string { return []string{documentURI(c.Document)} }

func (s *Server) citeTool() tool {
	return newTool("cite", "Cite a passage",
		"Returns a passage with its place in its document, the text around it, and its hash, for a citation. With "+
			"event_id it says whether the passage is still what that search returned.", reads,
		func(ctx context.Context, c *call, in citeArguments) (citation, error) {
			id, err := givenID("passage_id", in.Passage, "passages")
			if err != nil {
				return citation{}, err
			}
			event, err := optionalID("event_id", in.Event)
			if err != nil {
				return citation{}, err
			}
			around := defaultAround
			if in.Around != nil {
				around = *in.Around
			}
			out, err := c.cite(ctx, id, around)
			if err == nil && event != uuid.Nil {
				out.Retrieval, err = c.retrieved(ctx, event, id, out.SHA256)
			}
			if err == nil {
				c.summary = shown{Document: out.Document, Passage: &id, Version: out.Version, SHA256: out.SHA256,
					Offset: out.Start, Bytes: len(out.Quote)}
			}
			return out, err
		}, access.KBRead)
}

// cite reads a passage and its place.
func (c *call) cite(ctx context.Context, id uuid.UUID, around int) (out citation, err error) {
	documents := c.tenant().Documents()
	p, err := documents.Stored(ctx, id)
	if err != nil {
		return out, err
	}
	page, err := documents.Text(ctx, p.DocumentID, 0, 4) // for what is said of the document
	if err != nil {
		return out, err
	}
	d := page.Document
	out = citation{Passage: id, Document: d.ID, Title: titleOf(d.Title, d.Filename), URL: addressOf(d.Source, d.ID),
		Quote: p.Content, Headings: p.Headings, Page: p.Page, Start: p.Start, End: p.End, SHA256: p.SHA256,
		Version: d.Version}
	if around == 0 {
		return out, nil
	}
	within, err := documents.Passage(ctx, id, around)
	if errors.Is(err, kb.ErrNotFound) { // another client wrote it, whose place nobody knows
		return out, nil
	}
	out.Before, out.After = within.Before, within.After
	return out, err
}

// retrieved compares a passage with what a search returned.
func (c *call) retrieved(ctx context.Context, event, passage uuid.UUID, sha256 string) (*retrievalState, error) {
	if !c.Principal.Can(access.EventsRead) {
		return nil, &PermissionError{[]access.Permission{access.EventsRead}}
	}
	check, err := c.tenant().Events().CheckRetrieval(ctx, event)
	if err == nil && !c.Principal.Sees(check.Event.AgentID) {
		err = audit.ErrNotFound
	}
	if errors.Is(err, audit.ErrNotFound) || errors.Is(err, konstruct.ErrNoRetrieval) {
		return nil, argument("event_id", "%s", err)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range check.Passages {
		if p.ChunkID == passage {
			state := string(konstruct.Unchanged)
			if p.SHA256 != sha256 {
				state = string(konstruct.Changed)
			}
			return &retrievalState{Event: event, Rank: p.Rank, Score: p.Score, State: state}, nil
		}
	}
	return nil, argument("event_id", "that search did not return this passage")
}
