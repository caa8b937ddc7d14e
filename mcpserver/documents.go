package mcpserver

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/strictjson"
)

// defaultPage is how many bytes of a document's text fetch returns, unless it is told otherwise.
const defaultPage = 64 << 10

type fetchArguments struct {
	ID     string `json:"id" min:"1" max:"200" jsonschema:"a document's or passage's, or its address"`
	Offset int    `json:"offset,omitempty" min:"0" max:"1073741823" jsonschema:"next_offset of the page before"`
	Limit  int    `json:"limit,omitempty" min:"4" max:"1048576" default:"65536" jsonschema:"largest number of bytes"`
	conversation
}

// fetched is a document, or a part of one, as ChatGPT's connectors read it.
type fetched struct {
	ID       uuid.UUID     `json:"id"`
	Title    string        `json:"title"`
	Text     string        `json:"text"`
	URL      string        `json:"url"`
	Metadata fetchedFields `json:"metadata"`
	source   string
}

type fetchedFields struct {
	Document    uuid.UUID       `json:"document_id"`
	Source      string          `json:"source,omitempty"`
	ContentType string          `json:"content_type,omitempty"`
	Language    string          `json:"language,omitempty"`
	Version     int             `json:"version,omitempty"`
	SHA256      string          `json:"sha256,omitempty" jsonschema:"of the document's file, or of the passage"`
	IngestedAt  time.Time       `json:"ingested_at,omitzero"`
	Labels      []string        `json:"labels,omitempty"`
	Given       json.RawMessage `json:"given,omitempty" jsonschema:"what was said of the document when it was ingested"`
	Offset      int             `json:"offset" jsonschema:"of text in the document's text, in bytes"`
	Bytes       int             `json:"bytes" jsonschema:"of the whole text"`
	Next        int             `json:"next_offset,omitempty" jsonschema:"of the next page; missing on the last"`
}

// framed implements untrusted.
func (f fetched) framed(b boundary) any {
	f.Text = b.frame(f.source, f.Text)
	return f
}

// sources implements untrusted.
func (f fetched) sources() []string { return []string{f.source} }

// shown is what the trail has of a text that was returned: enough to find it again, and none of its words.
type shown struct {
	Document uuid.UUID  `json:"document_id,omitzero"`
	Passage  *uuid.UUID `json:"passage_id,omitempty"`
	Version  int        `json:"version,omitempty"`
	SHA256   string     `json:"sha256,omitempty"`
	Offset   int        `json:"offset"`
	Bytes    int        `json:"bytes"`
}

func (s *Server) fetchTool() tool {
	t := newTool("fetch", "Read a document",
		"Returns the text of a document or of a passage, by an id that search or list_documents returned. A long text "+
			"comes in pages: metadata.next_offset is the offset of the next one.", reads,
		func(ctx context.Context, c *call, in fetchArguments) (fetched, error) {
			id, err := givenID("id", in.ID, "documents", "passages")
			if err != nil {
				return fetched{}, err
			}
			if in.Limit == 0 {
				in.Limit = defaultPage
			}
			return c.fetch(ctx, id, in.Offset, in.Limit)
		}, access.KBRead)
	t.long = true
	return t
}

// fetch reads a page of a document's text, or a passage.
func (c *call) fetch(ctx context.Context, id uuid.UUID, offset, limit int) (fetched, error) {
	p, err := c.documentPage(ctx, id, offset, limit)
	if !errors.Is(err, kb.ErrNotFound) {
		return p, err
	}
	return c.storedPassage(ctx, id)
}

// pieceSize is how much of a text is read at a time, so that a long page tells how far it came and can be cancelled.
const pieceSize = 256 << 10

// documentPage reads a page of a document's text in pieces of one version.
func (c *call) documentPage(ctx context.Context, id uuid.UUID, offset, limit int) (fetched, error) {
	var whole []byte
	var first kb.TextPage
	next := offset
	for {
		page, err := c.tenant().Documents().Text(ctx, id, next, max(min(limit-len(whole), pieceSize), 4))
		switch {
		case err != nil:
			return fetched{}, err
		case whole == nil:
			first = page
		case page.Document.Version != first.Document.Version:
			return fetched{}, argument("offset", "the document was replaced meanwhile: begin again")
		}
		whole, next = append(whole, page.Text...), page.Next
		if c.progress != nil {
			c.progress(float64(len(whole)), float64(min(limit, first.Bytes-first.Offset)), "bytes read")
		}
		if next == 0 || len(whole)+4 > limit {
			break
		}
	}
	d := first.Document
	given, err := strictjson.Marshal(d.Metadata)
	if err != nil || len(d.Metadata) == 0 {
		given = nil
	}
	c.summary = shown{Document: id, Version: d.Version, SHA256: d.SHA256, Offset: first.Offset, Bytes: len(whole)}
	return fetched{ID: id, Title: titleOf(d.Title, d.Filename), Text: string(whole), URL: addressOf(d.Source, id),
		source: documentURI(id), Metadata: fetchedFields{Document: id, Source: d.Source, ContentType: d.ContentType,
			Language: d.Language, Version: d.Version, SHA256: d.SHA256, IngestedAt: d.IngestedAt, Labels: d.Labels,
			Given: given, Offset: first.Offset, Bytes: first.Bytes, Next: next}}, nil
}

// storedPassage reads a passage.
func (c *call) storedPassage(ctx context.Context, id uuid.UUID) (fetched, error) {
	p, err := c.tenant().Documents().Stored(ctx, id)
	if err != nil {
		return fetched{}, err
	}
	c.summary = shown{Document: p.DocumentID, Passage: &id, SHA256: p.SHA256, Bytes: len(p.Content)}
	return fetched{ID: id, Title: p.Filename, Text: p.Content, URL: passageURI(id), source: passageURI(id),
		Metadata: fetchedFields{Document: p.DocumentID, SHA256: p.SHA256, Offset: p.Start, Bytes: len(p.Content)}}, nil
}

type listArguments struct {
	Limit  int    `json:"limit,omitempty" min:"1" max:"200" default:"50" jsonschema:"largest number of documents"`
	Cursor string `json:"cursor,omitempty" max:"100" jsonschema:"next_cursor of the page before"`
	conversation
}

type documentsListed struct {
	Documents []listedDocument `json:"documents"`
	Next      string           `json:"next_cursor,omitempty" jsonschema:"of the next page; missing on the last"`
}

type listedDocument struct {
	ID          uuid.UUID `json:"id"`
	Title       string    `json:"title"`
	URL         string    `json:"url"`
	ContentType string    `json:"content_type,omitempty"`
	Version     int       `json:"version"`
	Bytes       int64     `json:"bytes" jsonschema:"of its file"`
	Labels      []string  `json:"labels,omitempty"`
	IngestedAt  time.Time `json:"ingested_at"`
}

func (s *Server) listTool() tool {
	return newTool("list_documents", "List documents", "Lists the documents of the knowledge base, page by page.",
		reads,
		func(ctx context.Context, c *call, in listArguments) (out documentsListed, err error) {
			if in.Limit == 0 {
				in.Limit = 50
			}
			docs, next, err := c.listDocuments(ctx, in.Cursor, in.Limit)
			if err != nil {
				return out, err
			}
			out = documentsListed{Documents: []listedDocument{}, Next: next}
			for _, d := range docs {
				out.Documents = append(out.Documents, listedDocument{ID: d.ID, Title: titleOf(d.Title, d.Filename),
					URL: addressOf(d.Source, d.ID), ContentType: d.ContentType, Version: d.Version, Bytes: d.Bytes,
					Labels: d.Labels, IngestedAt: d.IngestedAt})
			}
			c.summary = map[string]int{"documents": len(docs)}
			return out, nil
		}, access.KBRead)
}

// listDocuments returns a page of documents and the cursor of the next one.
func (c *call) listDocuments(ctx context.Context, at string, limit int) (docs []konstruct.Document, next string,
	err error) {
	from, err := readCursor(at, documentList)
	if err != nil {
		return nil, "", err
	}
	if docs, err = c.tenant().Documents().List(ctx, from.after, limit+1); err != nil {
		return nil, "", err
	}
	if len(docs) > limit {
		docs = docs[:limit]
		next = cursor{kind: documentList, after: docs[limit-1].ID}.encode()
	}
	return docs, next, nil
}
