package mcpserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/strictjson"
)

// template is a kind of resource, with what it takes to read it.
type template struct {
	definition *mcp.ResourceTemplate
	prefix     string // of its addresses
	needs      access.Permission
	read       mcp.ResourceHandler
}

// resourcePage is how many bytes of a document's text a resource has; its address takes an offset for the rest.
const resourcePage = 256 << 10

// runPage is how many events of a run a resource has; its address takes a cursor for the rest.
const runPage = 200

// templates returns the kinds of resources.
func (s *Server) templates() []template {
	return []template{
		newTemplate("documents", "{id}{?offset}",
			"A document's text, page by page: _meta has the address of the next one",
			"text/plain", access.KBRead, s.readDocument),
		newTemplate("passages", "{id}", "A passage of a document, as search returns it", "text/plain", access.KBRead,
			s.readPassage),
		newTemplate("events", "{id}", "An event of the audit trail with its seal", "application/json",
			access.EventsRead,
			s.readEvent),
		newTemplate("runs", "{run}{?cursor}", "The events of a conversation or trace in order, page by page",
			"application/json", access.EventsRead, s.readRun),
	}
}

// content is what a resource says.
type content struct {
	text string
	next string // the address of the next page
	// summary is what the trail has of it.
	summary any
}

// newTemplate returns the template of the addresses of a kind.
func newTemplate(kind, rest, description, mimeType string, needs access.Permission,
	read func(ctx context.Context, c *call, id string, query url.Values) (content, error)) template {
	prefix := scheme + kind + "/"
	return template{prefix: prefix, needs: needs,
		definition: &mcp.ResourceTemplate{Name: kind, URITemplate: prefix + rest, Description: description,
			MIMEType: mimeType},
		read: func(ctx context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			c, _ := ctx.Value(callKey{}).(*call)
			path, rawQuery, _ := strings.Cut(strings.TrimPrefix(r.Params.URI, prefix), "?")
			query, queryErr := url.ParseQuery(rawQuery)
			id, err := url.PathUnescape(path)
			if err != nil || queryErr != nil || len(r.Params.URI) > maxURI {
				return nil, mcp.ResourceNotFoundError(recordable(r.Params.URI))
			}
			got, err := read(ctx, c, id, query)
			var bad *argumentError
			if errors.As(err, &bad) || errors.Is(err, audit.ErrNotFound) || errors.Is(err, kb.ErrNotFound) {
				return nil, mcp.ResourceNotFoundError(recordable(r.Params.URI))
			}
			if err != nil {
				return nil, err
			}
			c.summary = got.summary
			meta := mcp.Meta{metaUntrusted: true, metaSources: []string{r.Params.URI}}
			if got.next != "" {
				meta["konstruct/next"] = got.next
			}
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, MIMEType: mimeType,
				Text: got.text, Meta: meta}}}, nil
		}}
}

// maxURI is the length of an address, in bytes.
const maxURI = 8 << 10

func (s *Server) readDocument(ctx context.Context, c *call, id string, query url.Values) (content, error) {
	document, err := givenID("id", id)
	if err != nil {
		return content{}, err
	}
	offset := 0
	if at := query.Get("offset"); at != "" {
		n, is := number(at)
		if !is {
			return content{}, argument("offset", "it is no number")
		}
		offset = n
	}
	p, err := c.documentPage(ctx, document, offset, resourcePage)
	if err != nil {
		return content{}, err
	}
	got := content{text: p.Text, summary: c.summary}
	if next := p.Metadata.Next; next > 0 {
		raw, _ := json.Marshal(next) // a number
		got.next = documentURI(document) + "?offset=" + string(raw)
	}
	return got, nil
}

func (s *Server) readPassage(ctx context.Context, c *call, id string, _ url.Values) (content, error) {
	passage, err := givenID("id", id)
	if err != nil {
		return content{}, err
	}
	p, err := c.storedPassage(ctx, passage)
	return content{text: p.Text, summary: c.summary}, err
}

func (s *Server) readEvent(ctx context.Context, c *call, id string, _ url.Values) (content, error) {
	event, err := givenID("id", id)
	if err != nil {
		return content{}, err
	}
	e, err := c.tenant().Events().Get(ctx, event)
	if err == nil && !c.Principal.Sees(e.AgentID) {
		err = audit.ErrNotFound
	}
	if err != nil {
		return content{}, err
	}
	raw, err := strictjson.Marshal(e)
	return content{text: string(raw), summary: map[string]any{"event_id": event, "leaf_hash": e.LeafHash}}, err
}

func (s *Server) readRun(ctx context.Context, c *call, run string, query url.Values) (content, error) {
	t, err := c.timeline(ctx, run, query.Get("cursor"), runPage)
	if err != nil {
		return content{}, err
	}
	raw, err := strictjson.Marshal(t)
	got := content{text: string(raw), summary: map[string]any{"events": len(t.Events), "total": t.Total}}
	if t.Next != "" {
		got.next = runURI(run) + "?cursor=" + t.Next
	}
	return got, err
}

// listPage is how many documents resources/list has at a time.
const listPage = 100

// listResources answers resources/list: the documents, page by page.
func (s *Server) listResources(ctx context.Context, c *call, r *mcp.ListResourcesRequest) (mcp.Result, error) {
	out := &mcp.ListResourcesResult{Resources: []*mcp.Resource{},
		Cacheable: mcp.Cacheable{CacheScope: "private"}} // for no time: documents come and go
	if !c.Principal.Can(access.KBRead) {
		return out, nil
	}
	docs, next, err := c.listDocuments(ctx, r.Params.Cursor, listPage)
	if err != nil {
		return nil, s.protocolError(ctx, err)
	}
	for _, d := range docs {
		out.Resources = append(out.Resources, &mcp.Resource{URI: documentURI(d.ID), Name: d.Filename, Title: d.Title,
			MIMEType: "text/plain", Annotations: &mcp.Annotations{LastModified: d.IngestedAt.UTC().Format(rfc3339)}})
	}
	out.NextCursor = next
	return out, nil
}

const rfc3339 = "2006-01-02T15:04:05Z07:00"
