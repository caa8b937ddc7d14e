package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/kb"
)

// CollectionForm is what a client sets on a collection.
type CollectionForm struct {
	Name        *string    `json:"name,omitempty" maxLength:"256" doc:"Unique among the tenant's collections"`
	Description *string    `json:"description,omitempty" maxLength:"4096"`
	Labels      []string   `json:"labels,omitempty" maxItems:"32" doc:"Who may see it; its new documents get them too"`
	Metadata    jsonObject `json:"metadata,omitempty"`
	ExpiresDays *int       `json:"expires_after_days,omitempty" minimum:"0" maximum:"3650" doc:"0 is never"`
}

// options validates a form and converts it for the library.
func (f *CollectionForm) options(w access.Principal) (o konstruct.CollectionOptions, err error) {
	o = konstruct.CollectionOptions{Name: f.Name, Description: f.Description, Labels: f.Labels,
		Metadata: f.Metadata.parsed(), ExpiresDays: f.ExpiresDays}
	if err := checkLabels(w, f.Labels, "body"); err != nil {
		return o, err
	}
	return o, fieldOf(o.Check(), "body")
}

// fieldOf is the problem of an error that begins with a field's name.
func fieldOf(err error, at string) error {
	if err == nil {
		return nil
	}
	field, reason, _ := strings.Cut(err.Error(), ": ")
	return fieldProblem(at+"."+field, reason)
}

// CollectionChanged is a collection and the event that records the change.
type CollectionChanged struct {
	konstruct.Collection
	EventID uuid.UUID `json:"event_id"`
}

// CollectionEntryChanged is an entry of a collection and the event that records the change.
type CollectionEntryChanged struct {
	konstruct.CollectionDocument
	EventID uuid.UUID `json:"event_id"`
}

// PathEntry names a document in a collection.
type PathEntry struct {
	PathID
	Document string `path:"document" format:"uuid"`
}

func (p PathEntry) uuids() (collection, document uuid.UUID, err error) {
	if collection, err = p.uuid(); err != nil {
		return collection, document, err
	}
	if document, err = uuid.Parse(p.Document); err != nil {
		err = fieldProblem("path.document", "it is not a UUID")
	}
	return collection, document, err
}

// collections registers the operations on collections.
func (s *Server) collections() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary,
			Tags: []string{"Collections"}, DefaultStatus: status}
	}
	register(s, op("createCollection", "POST", "/v1/collections", "Create a collection", 201), access.KBWrite,
		func(ctx context.Context, w access.Principal, in *struct {
			Body CollectionForm
		}) (*Created[CollectionChanged], error) {
			o, err := in.Body.options(w)
			if err != nil {
				return nil, err
			}
			if o.Name == nil || strings.TrimSpace(*o.Name) == "" {
				return nil, fieldProblem("body.name", "it is empty: collections are found by their names")
			}
			c, event, err := s.agent(w, w.Agent).CreateCollection(ctx, o)
			return &Created[CollectionChanged]{"/v1/collections/" + c.ID.String(), CollectionChanged{c, event}},
				collectionError(err)
		})
	register(s, op("listCollections", "GET", "/v1/collections", "List collections", 200), access.KBRead,
		func(ctx context.Context, w access.Principal, in *ListParams) (*Response[List[konstruct.Collection]], error) {
			after, err := in.afterID()
			if err != nil {
				return nil, err
			}
			all, err := s.tenant(w).Collections().List(ctx, after, in.Limit)
			return listPage(all, in.Limit, func(c konstruct.Collection) string { return c.ID.String() }), err
		})
	register(s, op("getCollection", "GET", "/v1/collections/{id}", "Get a collection", 200), access.KBRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*Response[konstruct.Collection], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			c, err := s.tenant(w).Collections().Get(ctx, id.String())
			return &Response[konstruct.Collection]{c}, err
		})
	register(s, op("updateCollection", "PATCH", "/v1/collections/{id}", "Change what is given of a collection", 200),
		access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
			PathID
			Body CollectionForm
		}) (*Response[CollectionChanged], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			o, err := in.Body.options(w)
			if err != nil {
				return nil, err
			}
			c, event, err := s.agent(w, w.Agent).UpdateCollection(ctx, id, o)
			return &Response[CollectionChanged]{CollectionChanged{c, event}}, collectionError(err)
		})
	register(s, op("deleteCollection", "DELETE", "/v1/collections/{id}", "Delete a collection; its documents stay",
		200),
		access.KBWrite, func(ctx context.Context, w access.Principal, in *PathID) (*Response[EventCreated], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			_, event, err := s.agent(w, w.Agent).DeleteCollection(ctx, id)
			return &Response[EventCreated]{EventCreated{ID: &event}}, err
		})
	s.collectionDocuments(op)
}

// collectionDocuments registers the operations on the documents of a collection.
func (s *Server) collectionDocuments(op func(id, method, path, summary string, status int) huma.Operation) {
	register(s, op("listCollectionDocuments", "GET", "/v1/collections/{id}/documents",
		"List the documents of a collection", 200), access.KBRead,
		func(ctx context.Context, w access.Principal, in *struct {
			PathID
			ListParams
		}) (*Response[List[konstruct.CollectionDocument]], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			after, err := in.afterID()
			if err != nil {
				return nil, err
			}
			all, err := s.tenant(w).Collections().Documents(ctx, id, after, in.Limit)
			return listPage(all, in.Limit, func(e konstruct.CollectionDocument) string { return e.ID.String() }), err
		})
	add := op("updateCollectionDocument", "PUT", "/v1/collections/{id}/documents/{document}",
		"Add a document to a collection, or set its attributes there", 200)
	add.Description = "Missing attributes keep those that it has there."
	register(s, add, access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathEntry
		Body struct {
			Attributes jsonObject `json:"attributes,omitempty" doc:"Up to 16 texts, numbers and truth values"`
		}
	}) (*Response[CollectionEntryChanged], error) {
		collection, document, err := in.uuids()
		if err != nil {
			return nil, err
		}
		attributes := in.Body.Attributes.parsed()
		if err := kb.CheckAttributes(attributes); err != nil {
			return nil, fieldOf(err, "body")
		}
		e, event, err := s.agent(w, w.Agent).Collect(ctx, collection, document, attributes)
		return &Response[CollectionEntryChanged]{CollectionEntryChanged{e, event}}, err
	})
	register(s, op("deleteCollectionDocument", "DELETE", "/v1/collections/{id}/documents/{document}",
		"Take a document out of a collection; the document stays", 200), access.KBWrite,
		func(ctx context.Context, w access.Principal, in *PathEntry) (*Response[EventCreated], error) {
			collection, document, err := in.uuids()
			if err != nil {
				return nil, err
			}
			event, err := s.agent(w, w.Agent).Uncollect(ctx, collection, document)
			return &Response[EventCreated]{EventCreated{ID: &event}}, err
		})
}

// collectionError names the field of a name that another collection has.
func collectionError(err error) error {
	if !errors.Is(err, kb.ErrCollectionName) {
		return err
	}
	p := fieldProblem("body.name", strings.TrimPrefix(kb.ErrCollectionName.Error(), "name: "))
	p.Status, p.Title = http.StatusConflict, http.StatusText(http.StatusConflict)
	return p
}

// findCollections returns the ids of the collections that a document is to join.
func (s *Server) findCollections(ctx context.Context, w access.Principal, names []string,
	at string) (ids []uuid.UUID, err error) {
	ids, err = s.tenant(w).Collections().Find(ctx, names...)
	var name *kb.CollectionNameError
	if errors.As(err, &name) {
		return nil, fieldProblem(at+".collections", name.Error())
	}
	return ids, err
}
